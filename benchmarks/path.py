"""A path with a rate, a delay and losses between two network namespaces of this machine. Needs root.

    with path(rtt=0.05, rate=1e9 / 8, loss=0.001, congestion_control="reno") as there:
        server = Popen([*there.server_prefix, …, "--host", there.server_address])
        client = run([*there.client_prefix, …])
    print(there.report)  # packets offered, lost, dropped by the full queue, each way

Two TUN devices and `_forwarding` between them, since netem is often not built into a kernel. Loss hits packets of 1,500
bytes, in both directions; the queue before each end of the link drops what comes when it holds a product of rate and
round trip (`queue` says otherwise); the rate is of IP packets, 1,448 of each 1,500 bytes being TCP's payload.
A path's losses follow its seed, packet by packet; which packet is whose is the run's.

A namespace takes its settings from the kernel's defaults, except for the congestion control, which is set, and for
what one connection tells the next about the path (`tcp_no_metrics_save`), since contestants must not profit from or
suffer by those before. tcp_rmem and tcp_wmem stay as they are: with the usual most of 4 MiB for sending, a single
connection over 50 ms can't fill 1 Gbit/s by any congestion control; several can. `tcp_wmem` sets another.

A plain sender over 50 ms and 1 Gbit/s got this on two cores, in Mbit/s of payload over ten seconds, with slow start;
connecting took 50.4 to 51 ms, the forwarder at most 0.6 of a core, and delivered nothing more than 6 ms late:

| loss | reno × 1 | reno × 8 | cubic × 1 | cubic × 8 | bbr × 1 | bbr × 8 |
|---|---|---|---|---|---|---|
| none | 432 | 921 | 430 | 922 | 424 | 929 |
| 0.1 % | 11 | 74 | 13 | 91 | 277 | 918 |

One connection without loss, and bbr's one with it, are bound by tcp_wmem: with 32 MiB one of cubic gets 912 without
loss, one of bbr 908, and 897 with 0.1 %.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CLIENT_ADDRESS, SERVER_ADDRESS = "10.197.0.1", "10.197.0.2"
_NAME = re.compile(r"bigupload-(\d+)-\w+")
_ROOT = Path(__file__).parent.parent


class PathUnavailable(RuntimeError):
    """This user, or this machine, can't have one. The text says why."""


@dataclass
class NetworkPath:
    """The prefixes go before a command's arguments. `report` is filled when the path is gone."""

    client_prefix: tuple[str, ...]
    server_prefix: tuple[str, ...]
    client_address: str = CLIENT_ADDRESS
    server_address: str = SERVER_ADDRESS
    report: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def path(
    *,
    rtt: float,
    rate: float,
    loss: float = 0.0,
    queue: float | None = None,
    congestion_control: str | None = None,
    tcp_wmem: int | None = None,
    seed: int = 1,
    phases: Sequence[tuple[float, float]] = (),
) -> Iterator[NetworkPath]:
    """Two namespaces and the path between them, until the block ends, however it ends.

    `rtt` in seconds, `rate` in bytes a second each way, `loss` a share, `queue` in bytes, `tcp_wmem` the most for one
    socket in bytes. `phases` are pairs of seconds and a rate, which take turns instead of `rate` from the first packet
    on. Raises PathUnavailable.
    """
    _check_available(congestion_control)
    _remove_left_over()
    names = {end: f"bigupload-{os.getpid()}-{end}" for end in ("client", "server")}
    devices = {end: f"bu{os.getpid()}{end[0]}" for end in names}
    settings = {
        "net.ipv4.tcp_no_metrics_save": "1",
        "net.ipv6.conf.default.disable_ipv6": "1",  # its announcements would be counted as packets
        **({"net.ipv4.tcp_congestion_control": congestion_control} if congestion_control else {}),
        **({"net.ipv4.tcp_wmem": f"4096 16384 {tcp_wmem}"} if tcp_wmem else {}),
    }
    prefixes = {end: ("ip", "netns", "exec", name) for end, name in names.items()}
    made = NetworkPath(prefixes["client"], prefixes["server"])
    options = {"rate": rate, "delay": rtt / 2, "loss": loss, "queue": rate * rtt if queue is None else queue}
    options["seed"] = seed
    with contextlib.ExitStack() as stack:
        for name in names.values():
            stack.callback(subprocess.run, ["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
            _run("ip", "netns", "add", name)
        stack.enter_context(_forwarder(list(devices.values()), options, phases, made.report))
        for end, here, there in (
            ("client", CLIENT_ADDRESS, SERVER_ADDRESS),
            ("server", SERVER_ADDRESS, CLIENT_ADDRESS),
        ):
            _run("ip", "link", "set", devices[end], "netns", names[end])
            _run(*prefixes[end], "sysctl", "-q", "-w", *(f"{name}={value}" for name, value in settings.items()))
            inside = ("ip", "-n", names[end])
            _run(*inside, "link", "set", "lo", "up")
            _run(*inside, "link", "set", devices[end], "mtu", "1500", "txqueuelen", "10000", "up")
            _run(*inside, "address", "add", here, "peer", there, "dev", devices[end])
        yield made


@contextlib.contextmanager
def _forwarder(
    devices: list[str], options: dict[str, float], phases: Sequence[tuple[float, float]], report: dict[str, Any]
) -> Iterator[None]:
    arguments = [f"--{name}={value}" for name, value in options.items()]
    for seconds, rate in phases:
        arguments += ["--phase", str(seconds), str(rate)]
    command = [sys.executable, "-m", "benchmarks._forwarding", *devices, *arguments]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise PathUnavailable("the forwarder could not make its TUN devices")
            yield
            process.stdin.close()
            report.update(json.loads(process.stdout.read()))
        finally:
            process.kill()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise PathUnavailable(f"{' '.join(command)}: {done.stderr.strip()}")


def _check_available(congestion_control: str | None) -> None:
    if sys.platform != "linux":
        raise PathUnavailable("network namespaces are Linux's")
    if os.geteuid() != 0:
        raise PathUnavailable("making network namespaces takes root")
    if not Path("/dev/net/tun").exists():
        raise PathUnavailable("there is no /dev/net/tun")
    for tool in ("ip", "sysctl"):
        if shutil.which(tool) is None:
            raise PathUnavailable(f"the command {tool} is missing")
    known = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    if congestion_control is not None and congestion_control not in known:
        raise PathUnavailable(f"this kernel has no congestion control {congestion_control}; it has {', '.join(known)}")


def _remove_left_over() -> None:
    """What a killed process left. Its devices went with its forwarder."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    for line in listed.splitlines():
        found = _NAME.match(line)
        if found and not Path(f"/proc/{found[1]}").exists():
            subprocess.run(["ip", "netns", "del", found[0]], stderr=subprocess.DEVNULL)
