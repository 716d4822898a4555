"""The path of the benchmarks: what its link does to packets, and that nothing of it is left."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys

import pytest

from benchmarks import _forwarding
from benchmarks._link import Link, runs
from benchmarks.path import NetworkPath, PathUnavailable, _check_available, path

pytestmark = pytest.mark.slow  # guards the benchmarks, not the product

MSS = 1448
HEADERS = 52
"""IP, TCP, and TCP's timestamps."""


def link(**different: float) -> Link:
    return Link(**{"rate": 1e6, "delay": 0.1, "loss": 0.0, "queue": 1e9} | different, seed="s")


def test_each_packet_takes_its_time_and_waits_for_those_before_it() -> None:
    one = link()
    assert one.offer(5.0, [1000] * 10) == (pytest.approx(5.11), [True] * 10)
    assert one.offer(5.005, [1000]) == (pytest.approx(5.111), [True])
    assert one.offer(9.0, [1000]) == (pytest.approx(9.101), [True])


def test_a_full_queue_drops_what_comes_last_and_that_takes_no_time() -> None:
    one = link(queue=3500)
    assert one.offer(0.0, [1000] * 5) == (pytest.approx(0.103), [True] * 3 + [False] * 2)
    assert one.offer(0.001, [1000, 1000]) == (pytest.approx(0.104), [True, False])
    assert (one.counts.offered, one.counts.queue_full, one.counts.lost) == (7, 3, 0)


@pytest.mark.parametrize("together", [1, 7, 45])
def test_losses_hit_packets_alike_however_they_travel(together: int) -> None:
    one = link(loss=0.01)
    arrives = [there for at in range(100_000 // together) for there in one.offer(at, [1500] * together)[1]]
    lost = arrives.count(False)
    assert lost == one.counts.lost
    assert lost == pytest.approx(len(arrives) * 0.01, rel=0.1)
    again = link(loss=0.01)  # and the same ones, however they come
    assert arrives == [again.offer(at, [1500])[1][0] for at in range(len(arrives))]


def test_runs() -> None:
    assert list(runs([])) == list(runs([False])) == []
    assert list(runs([True, True, False, False, True])) == [(0, 2), (4, 5)]
    assert list(runs([False, True])) == [(1, 2)]


def super_packet(payload: bytes, sequence: int, flags: int) -> bytes:
    ip = bytearray(
        struct.pack("!BBHHHBBH4s4s", 0x45, 0, HEADERS + len(payload), 7, 0, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    )
    ip[10:12] = _forwarding._checksum(ip).to_bytes(2)
    tcp = struct.pack("!HHIIBBHHH", 1, 2, sequence, 0, 8 << 4, flags, 100, 0, 0) + bytes(12)
    return _forwarding._VNET.pack(1, 1, HEADERS, MSS, 20, 16) + ip + tcp + payload


@pytest.mark.parametrize("size", [MSS * 3, MSS * 3 + 1, MSS * 4 - 1])
def test_what_is_cut_is_what_the_segments_were(size: int) -> None:
    payload = bytes(at % 251 for at in range(size))
    start = 0xFFFFFFFF - MSS  # the numbers wrap
    data = super_packet(payload, start, 0x80 | 0x18)
    sizes = _forwarding.segment_sizes(data)
    assert sum(sizes) == size + HEADERS * len(sizes)
    assert max(sizes) == MSS + HEADERS
    for begin in range(len(sizes)):
        for end in range(begin + 1, len(sizes) + 1):
            piece = _forwarding.cut(data, begin, end)
            assert _forwarding.segment_sizes(piece) == sizes[begin:end]
            ip, tcp = piece[10:30], piece[30:62]
            assert piece[62:] == payload[begin * MSS : end * MSS]
            assert int.from_bytes(ip[2:4]) == len(piece) - 10
            assert _forwarding._checksum(ip) == 0
            assert int.from_bytes(tcp[4:8]) == (start + begin * MSS) % (1 << 32)
            assert bool(tcp[13] & 0x08) == (end == len(sizes))  # PSH: at the end
            assert bool(tcp[13] & 0x80) == (begin == 0)  # CWR: at the begin
    assert _forwarding.cut(data, 0, len(sizes)) == data


def test_what_this_machine_cannot_do_is_said() -> None:
    with pytest.raises(PathUnavailable):
        _check_available("no such congestion control")


ECHO = """
import socket, sys
with socket.create_server((sys.argv[1], 5002)) as listener:
    print("ready", flush=True)
    connection, _ = listener.accept()
    while data := connection.recv(65536):
        connection.sendall(data)
"""
ASK = """
import socket, sys, time
began = time.monotonic()
with socket.create_connection((sys.argv[1], 5002)) as connection:
    print(time.monotonic() - began)
    sent = bytes(300_000)
    connection.sendall(sent)
    connection.shutdown(socket.SHUT_WR)
    got = b""
    while data := connection.recv(65536):
        got += data
    assert got == sent
"""


def namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


def exchange(there: NetworkPath) -> float:
    """Bytes there and back, proved the same; gives how long connecting took."""
    server = [*there.server_prefix, sys.executable, "-c", ECHO, there.server_address]
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        asking = [*there.client_prefix, sys.executable, "-c", ASK, there.server_address]
        return float(subprocess.run(asking, capture_output=True, text=True, check=True).stdout)


def test_a_path_delays_carries_and_leaves_nothing() -> None:
    try:
        _check_available(None)
    except PathUnavailable as error:
        pytest.skip(str(error))
    made = []

    def interrupted() -> None:
        with path(rtt=0.02, rate=1e7, loss=0.02, congestion_control="reno") as there:
            made.append(there)
            assert there.client_prefix[-1] in namespaces()
            assert exchange(there) >= 0.02
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    names = made[0].client_prefix[-1], made[0].server_prefix[-1]
    assert not any(name in namespaces() for name in names)
    assert not any(f"bu{os.getpid()}" in device for _, device in socket.if_nameindex())
