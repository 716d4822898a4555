"""Socket options for bulk sending, and the kernel's figures of a connection.

No option is required: where the kernel does not know one or refuses it, its default stays. The code tests for features
(`hasattr`), never for operating systems. A `sock` may be None, for a transport without one.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
from typing import Any

from bigupload import errors

try:  # not where it is used: a failed import searches every directory again each time
    import fcntl
    import termios
except ImportError:  # Windows
    _HAS_FCNTL = False
else:
    _HAS_FCNTL = True

CONNECT_TIMEOUT = 10.0
"""Seconds for one attempt to connect, which tries all addresses of a name."""
AUTO = "auto"
SYSTEM = "system"
_LONG_PATH = "bbr"
"""Follows bandwidth and round trip. Other algorithms halve their rate at each loss, even at one packet in a thousand.
https://datatracker.ietf.org/doc/draft-ietf-ccwg-bbr/"""
_SHORT_PATH = "cubic"
"""With a short round trip a loss costs little, and BBR's pacing costs timers: on loopback, a quarter of the CPU time of
sending."""
_SHORT = 1_000
"""Microseconds. A shorter round trip stays within one site."""
_UNSENT = 512 * 1024
"""Bytes that the kernel buffers beyond what is in flight: enough to keep the path busy, and so few that a slow part and
a rate limit show at once."""
_KEEPALIVE_EVERY = 15
_MAX_KEEPALIVES = 3
"""Seconds between two keep-alive probes, and how many may stay without a reply. A dead path is found within a minute,
also while nothing is sent, as when the store works on its response. For bytes that are not acknowledged there is
`RetryPolicy.stall_after`. TCP_USER_TIMEOUT would also end connections whose other side merely does not read."""
_MSS_AT, _SACKED_AT, _RTT_AT, _LEAST_RTT_AT, _BUSY_AT = 16, 28, 68, 148, 168
"""Offsets of tcpi_snd_mss, tcpi_sacked, tcpi_rtt, tcpi_min_rtt and tcpi_busy_time in struct tcp_info, equal on every
architecture: linux/tcp.h."""
_BUSY = struct.Struct("QQ")
"""tcpi_busy_time and tcpi_rwnd_limited: microseconds in which there was something to send, and those of them in which
the peer's window was full."""
_MUCH = 0.25
"""The share of that time in which it was full. Over a link that was full, it was 0 to 0.03; of a peer that read slowly
0.98; of a window that was too small for a path of 100 ms 0.3 to 0.4, because BBR sends in pulses then."""
_OPTIONS = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", _KEEPALIVE_EVERY),
    (socket.IPPROTO_TCP, "TCP_KEEPALIVE", _KEEPALIVE_EVERY),  # the same on macOS, which has no TCP_KEEPIDLE
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", _KEEPALIVE_EVERY),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", _MAX_KEEPALIVES),
    (socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", _UNSENT),
)
_LINUX_NUMBERS = {"TCP_NOTSENT_LOWAT": 25} if sys.platform == "linux" else {}
"""linux/tcp.h. A Python that was built with an old C library, as for manylinux2014, has no name for it."""
_INFO_OF_MACOS = getattr(socket, "TCP_CONNECTION_INFO", 0x106 if sys.platform == "darwin" else None)
"""netinet/tcp.h of macOS. Its kernel does not report unsent bytes by TIOCOUTQ."""
_UNSENT_AT_MACOS, _RTT_AT_MACOS = 32, 40
"""Offsets in struct tcp_connection_info: of tcpi_snd_sbbytes, the bytes in the send buffer with those in flight, and of
tcpi_rttcur and tcpi_srtt, the latest round trip and the smoothed one in milliseconds."""
_FIN_UNACKNOWLEDGED = frozenset({4, 9, 11})
"""FIN_WAIT1, LAST_ACK and CLOSING, in tcpi_state, the first byte of struct tcp_info."""
_UNKNOWN = 0xFFFFFFFF
"""The value of tcpi_min_rtt before the first measurement."""
_LINGER = "hh" if sys.platform == "win32" else "ii"
"""struct linger: https://learn.microsoft.com/en-us/windows/win32/api/winsock2/ns-winsock2-linger, socket(7)"""


def new_socket(address: tuple[Any, ...]) -> socket.socket:
    """Make a stream socket for bulk sending, for one row of `getaddrinfo`: a `socket_factory` of aiohappyeyeballs."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    for level, option, value in _OPTIONS:
        number = getattr(socket, option, _LINUX_NUMBERS.get(option))
        if number is not None:
            with contextlib.suppress(OSError):
                made.setsockopt(level, number, value)
    return made


def check_congestion_control(name: str) -> None:
    """Raise UsageError unless this user may have a congestion control: "auto", "system", or one of the kernel's."""
    if name in (AUTO, SYSTEM):
        return
    with socket.socket() as probe:
        if not _set_congestion_control(probe, name):
            raise errors.UsageError(
                f"this machine offers no congestion control {name!r}: choose {AUTO}, {SYSTEM}, or one of "
                "those in /proc/sys/net/ipv4/tcp_allowed_congestion_control"
            )


def tune_for_path(sock: Any, congestion: str) -> None:
    """Set the congestion control of a connected socket.

    Args:
        sock: The socket.
        congestion: "auto" to choose by the round trip of the handshake, "system" to change nothing, or a name.
    """
    if congestion == SYSTEM or sock is None:
        return
    if congestion != AUTO:
        _set_congestion_control(sock, congestion)
    elif (round_trip := _microseconds(sock, _RTT_AT)) is not None:
        _set_congestion_control(sock, _LONG_PATH if round_trip >= _SHORT else _SHORT_PATH)


def search_again(sock: Any) -> None:
    """Let BBR find the rate of a connection again, as at its start: its body was paused, or others have left it room.

    It keeps the rate that it had among many others, and goes up from there by a quarter in eight round trips: on a path
    of 150 ms, it would take 16 s until it has the link for itself. Other algorithms begin with slow start after a
    pause."""
    with contextlib.suppress(AttributeError, OSError):
        if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == _LONG_PATH.encode():
            _set_congestion_control(sock, "reno")
            _set_congestion_control(sock, _LONG_PATH)


def _set_congestion_control(sock: Any, name: str) -> bool:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
    except (AttributeError, OSError):  # another system, or not allowed for this user
        return False
    return True


def round_trip_times(sock: Any) -> tuple[float, float]:
    """The shortest round trip of a connection, and the smoothed one of now, in seconds; (0, 0) if they are not known.

    Time in queues counts in the second one alone. macOS keeps no shortest one: there, both are the lower of the latest
    one and the smoothed one, so that no queue is seen, and less than a millisecond is not known.
    """
    if _INFO_OF_MACOS is not None:
        info = _info_of_macos(sock, _RTT_AT_MACOS + 8)
        least = min(struct.unpack_from("II", info, _RTT_AT_MACOS)) / 1e3 if info else 0.0
        return least, least
    info = _tcp_info(sock, _LEAST_RTT_AT + 4)  # once: it is asked of each connection, many times a second
    if len(info) < _LEAST_RTT_AT + 4:
        return 0.0, 0.0
    least, now = _field(info, _LEAST_RTT_AT), _field(info, _RTT_AT)
    return (least / 1e6, now / 1e6) if least and now and least != _UNKNOWN else (0.0, 0.0)


def window_is_full(sock: Any) -> bool:
    """Whether the peer's window was full for much of the time in which there was something to send."""
    info = _tcp_info(sock, _BUSY_AT + _BUSY.size)
    if len(info) < _BUSY_AT + _BUSY.size:  # Linux before 4.10
        return False
    busy, full = _BUSY.unpack_from(info, _BUSY_AT)
    return bool(busy) and full >= _MUCH * busy


def address_text(peer: object) -> str | None:
    """A socket's `peername` as "10.0.0.1:443"; None if it is no IP address."""
    if not isinstance(peer, tuple):
        return None
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _microseconds(sock: Any, at: int) -> int | None:
    """A field of struct tcp_info; None if the kernel does not report it."""
    info = _tcp_info(sock, at + 4)
    return _field(info, at) if len(info) == at + 4 else None


def _tcp_info(sock: Any, size: int) -> bytes:
    """The first bytes of struct tcp_info: as many as the kernel knows; b"" if it reports nothing."""
    with contextlib.suppress(AttributeError, OSError):
        return bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size))
    return b""


def _info_of_macos(sock: Any, size: int) -> bytes:
    """The first bytes of struct tcp_connection_info; b"" if the kernel reports fewer."""
    with contextlib.suppress(AttributeError, OSError):
        info = bytes(sock.getsockopt(socket.IPPROTO_TCP, _INFO_OF_MACOS or 0, size))
        return info if len(info) == size else b""
    return b""


def _field(tcp_info: bytes, at: int) -> int:
    return int(struct.unpack_from("I", tcp_info, at)[0])


def set_discard(sock: Any, *, discard: bool) -> None:
    """Choose what happens to unsent bytes in the kernel when the socket is closed, or the process dies.

    Args:
        sock: The socket.
        discard: Whether to drop them and reset the connection. Otherwise the kernel sends them, up to `_UNSENT`, and
            they take the path from others.
    """
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(_LINGER, discard, 0))


def readable(sock: Any) -> bool:
    """Whether bytes, or the connection's end, have arrived and nobody has read them."""
    if sock is None or sock.fileno() < 0:
        return False
    if not hasattr(select, "poll"):  # Windows, whose `select` takes any descriptor
        with contextlib.suppress(OSError):
            return bool(select.select([sock], [], [], 0)[0])
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return len(poll.poll(0)) > 0


def unsent(sock: Any) -> int:
    """Return the bytes that the peer's kernel has not acknowledged; 0 if the system does not report it.

    SIOCOUTQ stays the same from the first lost byte on, and jumps when that byte was sent again. Bytes behind it that
    have arrived (SACK) count as acknowledged here. Otherwise goodput over a tenth of a second would be random on a path
    with losses.
    """
    descriptor = -1 if sock is None else sock.fileno()
    if descriptor < 0:  # closed
        return 0
    if _INFO_OF_MACOS is not None:
        info = _info_of_macos(sock, _UNSENT_AT_MACOS + 4)
        return _field(info, _UNSENT_AT_MACOS) if info else 0
    if not _HAS_FCNTL:
        return 0
    try:
        waiting = int(struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0\0\0\0"))[0])
    except (AttributeError, OSError):
        return 0
    arrived = 0
    info = _tcp_info(sock, _SACKED_AT + 4)
    if len(info) == _SACKED_AT + 4:
        arrived = _field(info, _SACKED_AT) * _field(info, _MSS_AT)
        waiting -= info[0] in _FIN_UNACKNOWLEDGED  # which the kernel counts as a byte
    # At least one byte is missing. Packets that are shorter than the MSS make the estimate too high.
    return max(1, waiting - arrived) if waiting > 0 else 0
