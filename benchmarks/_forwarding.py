"""The forwarder between two TUN devices, a process of its own: `python -m benchmarks._forwarding NAME NAME OPTIONS`.

The kernel passes TCP unsegmented, up to 64 KiB at once with the size of each segment (struct virtio_net_hdr,
linux/virtio_net.h), as it does to a network card. Single segments would be 83,000 packets a second at 1 Gbit/s, more
than Python can forward. The link still handles each segment: its time, its chance of loss and its place in the queue.
If some segments are lost, the rest is split at the gaps, as a receiving card would deliver it. The kernel handles TCP
checksums, and checks them on neither side.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import struct
import sys
import time
from collections import deque
from dataclasses import asdict

from ._link import Link, runs

_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4 = 0x01, 0x02
_VNET = struct.Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
_MOST = 1 << 17
_FIN_PSH, _CWR = 0x09, 0x80
_BATCH = 32
_SOON = 50e-6  # the precision of the kernel's timers: do not wait for a shorter time


def open_tun(name: str) -> int:
    """A TUN device for unsegmented TCP. It exists as long as its descriptor. Needs root."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
    fcntl.ioctl(device, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    return device


def segment_sizes(data: bytes) -> list[int]:
    """Return the sizes of its IP packets on the wire."""
    _, kind, _, segment, _, _ = _VNET.unpack_from(data)
    size = len(data) - _VNET.size
    if not kind:
        return [size]
    headers = _headers(data)
    whole, rest = divmod(size - headers, segment)
    return [headers + segment] * whole + [headers + rest] * bool(rest)


def cut(data: bytes, begin: int, end: int) -> bytes:
    """Return only the segments from `begin` up to `end`."""
    flags, kind, header_length, segment, checksum_start, checksum_offset = _VNET.unpack_from(data)
    headers = _headers(data)
    head = bytearray(data[_VNET.size : _VNET.size + headers])
    payload = data[_VNET.size + headers :]
    piece = payload[begin * segment : end * segment]
    tcp = _ip_header(head)
    sequence = int.from_bytes(head[tcp + 4 : tcp + 8]) + begin * segment
    head[tcp + 4 : tcp + 8] = (sequence & 0xFFFFFFFF).to_bytes(4)
    if end * segment < len(payload):
        head[tcp + 13] &= ~_FIN_PSH & 0xFF
    if begin:
        head[tcp + 13] &= ~_CWR & 0xFF
    head[2:4] = (headers + len(piece)).to_bytes(2)
    head[10:12] = b"\0\0"
    head[10:12] = _checksum(head[:tcp]).to_bytes(2)
    if len(piece) <= segment:
        kind = segment = 0
    return _VNET.pack(flags, kind, header_length, segment, checksum_start, checksum_offset) + head + piece


def _headers(data: bytes) -> int:
    ip = _ip_header(data, _VNET.size)
    return ip + (data[_VNET.size + ip + 12] >> 4) * 4


def _ip_header(data: bytes | bytearray, at: int = 0) -> int:
    return (data[at] & 15) * 4


def _checksum(header: bytes | bytearray) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class _Direction:
    def __init__(self, source: int, target: int, link: Link) -> None:
        self._source = source
        self._target = target
        self.link = link
        self._under_way: deque[tuple[float, bytes]] = deque()
        self.latest = 0.0
        """The largest delay because this process could not run, in seconds."""

    def take(self) -> None:
        for _ in range(_BATCH):
            try:
                data = os.read(self._source, _MOST)
            except BlockingIOError:
                return
            at, arrives = self.link.offer(time.monotonic(), segment_sizes(data))
            if all(arrives):
                self._under_way.append((at, data))
            else:
                self._under_way.extend((at, cut(data, begin, end)) for begin, end in runs(arrives))

    def give(self) -> float:
        """Deliver what is due. Returns when the next is due."""
        now = time.monotonic()
        while self._under_way and self._under_way[0][0] <= now + _SOON:
            due, data = self._under_way.popleft()
            with contextlib.suppress(OSError):  # EIO: the other end is not up yet, or down again
                os.write(self._target, data)
            self.latest = max(self.latest, now - due)
        return self._under_way[0][0] if self._under_way else float("inf")


def forward(one: int, other: int, links: tuple[Link, Link]) -> dict[str, object]:
    """Forward until standard input ends. Returns what passed."""
    directions = {one: _Direction(one, other, links[0]), other: _Direction(other, one, links[1])}
    waiting = [one, other, sys.stdin.fileno()]
    while True:
        next_at = min(direction.give() for direction in directions.values())
        timeout = max(0.0, next_at - time.monotonic()) if next_at < float("inf") else None
        ready = select.select(waiting, (), (), timeout)[0]
        if sys.stdin.fileno() in ready:
            used = resource.getrusage(resource.RUSAGE_SELF)
            return {"cpu": used.ru_utime + used.ru_stime} | {
                name: asdict(direction.link.counts) | {"latest": round(direction.latest, 6)}
                for name, direction in zip(("there", "back"), directions.values(), strict=True)
            }
        for device in ready:
            directions[device].take()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs=2)
    for name in ("rate", "delay", "loss", "queue"):
        parser.add_argument(f"--{name}", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--phase", type=float, nargs=2, action="append", default=[], metavar=("SECONDS", "RATE"))
    given = vars(parser.parse_args())
    names, seed = given.pop("names"), given.pop("seed")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    os.nice(-10)  # the hosts at both ends must not delay the router
    one, other = (open_tun(name) for name in names)
    phases = given.pop("phase")
    links = Link(**given, phases=phases, seed=f"{seed} there"), Link(**given, phases=phases, seed=f"{seed} back")
    print("ready", flush=True)
    print(json.dumps(forward(one, other, links)), flush=True)


if __name__ == "__main__":
    main()
