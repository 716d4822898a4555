"""Sockets made fit for bulk sending, and what the kernel tells of them.

Everything here is asked for where the kernel knows it and never required: what it refuses stays as it was. The options
are named by feature (`hasattr`), never by operating system.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Sequence
from typing import Any

from bigupload import errors

AUTO = "auto"
SYSTEM = "system"
_LOSSY_PATH = "bbr"
"""Goes by bandwidth and round trip: a thousandth of packets lost halves the rate of the others again and again.
https://datatracker.ietf.org/doc/draft-ietf-ccwg-bbr/"""
_SHORT_PATH = "cubic"
"""Where a round trip takes no time a loss costs none either, and BBR's pacing only costs timers: on loopback a quarter
of the CPU time of sending."""
_SHORT = 1_000
"""Microseconds of a round trip within one site."""
_UNSENT = 512 * 1024
"""Bytes that the kernel takes beyond what the path carries now: enough that it never runs dry, little enough that a
slow part is seen, and a rate limit felt, at once."""
_PROBE_EVERY = 15
_MOST_PROBES = 3
"""Seconds between questions to a side that is quiet, and how many it may leave unanswered: a dead path is noticed
within a minute although nothing is sent, as while the store works on its answer. Bytes that are not acknowledged are
`RetryPolicy.stall_after`'s, and no business of the kernel's (TCP_USER_TIMEOUT): that would also end connections whose
other side is there and only does not read for a while."""
_MSS_AT, _SACKED_AT, _RTT_AT = 16, 28, 68
"""Of tcpi_snd_mss, tcpi_sacked and tcpi_rtt in struct tcp_info, the same on every architecture: linux/tcp.h."""


def new_socket(address: tuple[Any, ...]) -> socket.socket:
    """aiohttp's `socket_factory`: a stream socket for what getaddrinfo gave, fit for bulk sending."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    _ask(made, socket.SOL_SOCKET, "SO_KEEPALIVE", 1)
    _ask(made, socket.IPPROTO_TCP, "TCP_KEEPIDLE", _PROBE_EVERY)
    _ask(made, socket.IPPROTO_TCP, "TCP_KEEPINTVL", _PROBE_EVERY)
    _ask(made, socket.IPPROTO_TCP, "TCP_KEEPCNT", _MOST_PROBES)
    _ask(made, socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", _UNSENT)
    return made


def _ask(sock: socket.socket, level: int, option: str, value: int) -> None:
    number = getattr(socket, option, None)
    if number is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(level, number, value)


def check_congestion_control(name: str) -> None:
    """Raises UsageError where this machine does not let us have what a user names."""
    if name in (AUTO, SYSTEM):
        return
    with socket.socket() as probe:
        if not _control(probe, name):
            raise errors.UsageError(
                f"this machine offers no congestion control {name!r}: choose {AUTO}, {SYSTEM}, or one of "
                "those in /proc/sys/net/ipv4/tcp_allowed_congestion_control"
            )


def tune_for_path(sock: Any, congestion: str) -> None:
    """Give a connected socket the congestion control that fits its path, as its handshake's round trip tells."""
    if congestion == SYSTEM or sock is None:
        return
    if congestion != AUTO:
        _control(sock, congestion)
    elif (round_trip := _round_trip(sock)) is not None:
        _control(sock, _LOSSY_PATH if round_trip >= _SHORT else _SHORT_PATH)


def _control(sock: Any, name: str) -> bool:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
    except (AttributeError, OSError):  # another system, or not allowed for this user
        return False
    return True


def _round_trip(sock: Any) -> int | None:
    """Microseconds, smoothed by the kernel."""
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_AT + 4)
        return _number(told, _RTT_AT)
    except (AttributeError, OSError, struct.error):
        return None


def _number(tcp_info: bytes, at: int) -> int:
    return int(struct.unpack_from("I", tcp_info, at)[0])


def readable(sock: Any) -> bool:
    """Whether the other side has said something that nobody has read yet."""
    if not hasattr(select, "poll") or sock is None or sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    found: Sequence[tuple[int, int]] = poll.poll(0)
    return bool(found)


def unsent(sock: Any) -> int:
    """Bytes that the peer's kernel has not said to have; 0 where nobody can tell.

    SIOCOUTQ stands still at the first hole that a loss has made, and jumps when that is filled. What has arrived behind
    the hole (SACK) is goodput too: without it, a tenth of a second on a lossy path measures anything.
    """
    if sock is None or sock.fileno() < 0:
        return 0
    try:
        import fcntl
        import termios

        waiting = int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
    except (ImportError, AttributeError, OSError):
        return 0
    # Not all of it can have arrived out of order; short packets only make it seem so.
    return max(1, waiting - _arrived_out_of_order(sock)) if waiting else 0


def _arrived_out_of_order(sock: Any) -> int:
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SACKED_AT + 4)
        return _number(told, _SACKED_AT) * _number(told, _MSS_AT)
    except (AttributeError, OSError, struct.error):
        return 0
