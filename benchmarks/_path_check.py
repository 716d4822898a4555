"""Measure the throughput of a plain sender over a path: `python -m benchmarks.path --check`."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from .path import SERVER_ADDRESS, NetworkPath, path

_PORT = 5001
_ROOT = Path(__file__).parent.parent
_WAYS = [("reno", 1), ("reno", 8), ("cubic", 1), ("cubic", 8), ("bbr", 1), ("bbr", 8)]


def check(rtt: float, rate: float, losses: list[float], seconds: float) -> None:
    """Print a table."""
    print(f"{rtt * 1e3:g} ms, {rate * 8 / 1e6:g} Mbit/s, {seconds:g} s each, queue 1 BDP; payload is at most 96.5 %")
    print(f"{'loss':>6} {'congestion':<10} {'conns':>5} {'Mbit/s':>7} {'of link':>8} {'connect ms':>10}", end=" ")
    print(f"{'lost':>7} {'queue full':>10} {'latest ms':>9} {'forwarder CPU':>13}")
    for loss in losses:
        for congestion_control, connections in _WAYS:
            with path(rtt=rtt, rate=rate, loss=loss, congestion_control=congestion_control) as there:
                found = _measure(there, connections, seconds)
            out = there.report["there"]
            share = found["rate"] / rate
            print(f"{loss:>6.2%} {congestion_control:<10} {connections:>5} {found['rate'] * 8 / 1e6:>7.1f}", end=" ")
            print(f"{share:>8.1%} {found['connect'] * 1e3:>10.2f} {out['lost'] / out['offered']:>7.3%}", end=" ")
            latest = max(out["latest"], there.report["back"]["latest"]) * 1e3
            print(f"{out['queue_full']:>10} {latest:>9.2f} {there.report['cpu'] / found['seconds']:>13.0%}", flush=True)


def _measure(there: NetworkPath, connections: int, seconds: float) -> dict[str, Any]:
    me = [sys.executable, "-m", "benchmarks._path_check"]
    with subprocess.Popen([*there.server_prefix, *me, "sink"], cwd=_ROOT, stdout=subprocess.PIPE) as sink:
        try:
            assert sink.stdout is not None
            sink.stdout.readline()
            sending = [*there.client_prefix, *me, "send", str(connections), str(seconds)]
            done = subprocess.run(sending, cwd=_ROOT, stdout=subprocess.PIPE, check=True)
        finally:
            sink.kill()
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _sink() -> None:
    """Receive, drop and count bytes."""

    def drop(connection: socket.socket) -> None:
        buffer, total = bytearray(1 << 20), 0
        while got := connection.recv_into(buffer, len(buffer), socket.MSG_TRUNC):
            total += got
        connection.sendall(total.to_bytes(8))
        connection.close()

    with socket.create_server((SERVER_ADDRESS, _PORT), backlog=64) as listener:
        print("ready", flush=True)
        while True:
            threading.Thread(target=drop, args=(listener.accept()[0],), daemon=True).start()


def _send(connections: int, seconds: float) -> None:
    block = os.urandom(1 << 20)
    connects: list[float] = []
    totals: list[int] = []

    def send() -> None:
        with socket.socket() as connection:
            began = time.monotonic()
            connection.connect((SERVER_ADDRESS, _PORT))
            connects.append(time.monotonic() - began)
            while time.monotonic() < until:
                connection.send(block)
            connection.shutdown(socket.SHUT_WR)
            totals.append(int.from_bytes(connection.recv(8)))

    began = time.monotonic()
    until = began + seconds
    threads = [threading.Thread(target=send) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    print(json.dumps({"rate": sum(totals) / took, "seconds": took, "connect": statistics.median(connects)}))


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        _sink()
    else:
        _send(int(sys.argv[2]), float(sys.argv[3]))
