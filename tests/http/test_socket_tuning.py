"""Sockets fit for bulk sending: what is asked for is there, and what the kernel refuses is no loss."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.http import socket_tuning
from tests.tools.cases import each_case
from tests.tools.waiting import until

ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
NOTSENT_LOWAT = 25  # linux/tcp.h; a Python built with an old C library has no name for it
Pair = tuple[socket.socket, socket.socket]
needs_linux = pytest.mark.skipif(not ALLOWED.exists(), reason="congestion control by name is Linux's")


def new_socket(family: int = socket.AF_INET, address: object = ()) -> socket.socket:
    return socket_tuning.new_socket((family, socket.SOCK_STREAM, 0, "", address))


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connection over loopback: our end, made as uploads make it, and the other."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ours = stack.enter_context(new_socket())
        ours.connect(listener.getsockname())
        yield ours, stack.enter_context(listener.accept()[0])


class Answering:
    """A socket that has a kernel's answer about it."""

    def __init__(self, descriptor: int, option: int, response: Exception | bytes) -> None:
        self._descriptor = descriptor
        self._option = option
        self._response = response

    def fileno(self) -> int:
        return self._descriptor

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, self._option)
        if isinstance(self._response, Exception):
            raise self._response
        return self._response[:size]


def fill(pair: Pair) -> int:
    """Send until the kernels take no more. Returns how many bytes they have taken."""
    ours, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ours.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += ours.send(bytes(65536))
    return sent


def control(sock: socket.socket) -> str:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


@needs_linux
def test_a_new_socket_is_set_up(pair: Pair) -> None:
    ours, _ = pair
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
    probes = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
    assert 15 + probes * ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) <= 60, "a quiet path's end"
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0, "the policy's business"
    assert ours.getsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT) == 512 * 1024


@needs_linux
def test_a_python_without_the_name_and_ipv6_have_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_NOTSENT_LOWAT", raising=False)
    with new_socket(socket.AF_INET6) as made:
        assert made.family == socket.AF_INET6
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert made.getsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT) == 512 * 1024


@needs_linux
def test_a_long_path_alone_gets_what_losses_do_not_slow(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback's round trip is microseconds."""
    before = control(pair[0])
    socket_tuning.tune_for_path(pair[0], "auto")
    assert control(pair[0]) == "cubic"
    monkeypatch.setattr(socket_tuning, "_microseconds", lambda *_: 30_000)
    socket_tuning.tune_for_path(pair[0], "auto")
    assert control(pair[0]) == ("bbr" if "bbr" in ALLOWED.read_text().split() else before)


@pytest.mark.parametrize(("name", "chosen"), [(b"bbr", ["reno", "bbr"]), (b"cubic", []), (b"reno", []), (None, [])])
def test_bbr_alone_searches_again_after_a_pause(
    monkeypatch: pytest.MonkeyPatch, name: bytes | None, chosen: list[str]
) -> None:
    """Others begin with slow start by themselves. The kernel may not say what it uses."""
    made = []
    monkeypatch.setattr(socket_tuning, "_set_congestion_control", lambda _, control: made.append(control))

    class Socket:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            if name is None:
                raise OSError("not here")
            return name.ljust(size, b"\0")

    socket_tuning.search_again(Socket())
    assert made == (chosen if hasattr(socket, "TCP_CONGESTION") else [])


@needs_linux
def test_the_control_stays_after_a_pause(pair: Pair) -> None:
    before = control(pair[0])
    socket_tuning.search_again(pair[0])
    assert control(pair[0]) == before


@needs_linux
def test_round_trips_in_seconds(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(0 < each < 0.1 for each in socket_tuning.round_trip_times(pair[0]))
    asked = []

    def tcp_info(_: object, size: int) -> bytes:
        asked.append(size)
        info = bytearray(size)
        struct.pack_into("I", info, socket_tuning._RTT_AT, 50_000)
        struct.pack_into("I", info, socket_tuning._LEAST_RTT_AT, least)
        return bytes(info)[:known]

    monkeypatch.setattr(socket_tuning, "_tcp_info", tcp_info)
    least, known = 20_000, None
    assert socket_tuning.round_trip_times(pair[0]) == (0.02, 0.05)
    assert len(asked) == 1, "one system call"
    least = socket_tuning._UNKNOWN
    assert socket_tuning.round_trip_times(pair[0]) == (0, 0)
    least, known = 20_000, socket_tuning._LEAST_RTT_AT  # an old kernel
    assert socket_tuning.round_trip_times(pair[0]) == (0, 0)


def test_a_transport_without_a_socket() -> None:
    assert socket_tuning.round_trip_times(None) == (0, 0)
    assert not socket_tuning.window_is_full(None)
    assert socket_tuning.unsent(None) == 0
    assert not socket_tuning.readable(None)
    socket_tuning.tune_for_path(None, "reno")  # raises nothing
    socket_tuning.search_again(None)  # neither does this


@needs_linux
async def test_a_peer_that_does_not_read_holds_a_connection_back(pair: Pair) -> None:
    assert not socket_tuning.window_is_full(pair[0]), "nothing was sent"
    fill(pair)
    await until(lambda: socket_tuning.window_is_full(pair[0]))


@each_case(("info", "held"), [((1000, 250), True), ((1000, 249), False), ((0, 0), False), (None, False)])
def test_how_much_of_the_time_the_window_was_full(info: tuple[int, int] | None, held: bool) -> None:
    class Socket:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            return (bytes(168) + struct.pack("QQ", *info) if info else bytes(104))[:size]

    assert socket_tuning.window_is_full(Socket()) is (held and hasattr(socket, "TCP_INFO"))


@needs_linux
def test_what_the_user_says_holds(pair: Pair) -> None:
    before = control(pair[0])
    socket_tuning.tune_for_path(pair[0], "system")
    assert control(pair[0]) == before
    socket_tuning.tune_for_path(pair[0], "reno")
    assert control(pair[0]) == "reno"


@pytest.mark.parametrize("name", ["auto", "system"])
def test_these_are_always_allowed(name: str) -> None:
    """Nothing is raised, whatever the kernel knows."""
    socket_tuning.check_congestion_control(name)


@pytest.mark.parametrize("name", ["nonsense", "", "x" * 100])
def test_a_control_that_the_kernel_has_not_is_named(name: str) -> None:
    with pytest.raises(errors.UsageError, match="no congestion control"):
        socket_tuning.check_congestion_control(name)


def test_a_kernel_that_knows_none_of_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TCP_CONGESTION", "TCP_INFO", "TCP_NOTSENT_LOWAT", "TCP_USER_TIMEOUT", "TCP_KEEPIDLE"):
        monkeypatch.delattr(socket, name, raising=False)
    socket_tuning.tune_for_path(pair[0], "auto")
    new_socket().close()
    with pytest.raises(errors.UsageError):
        socket_tuning.check_congestion_control("reno")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports no unsent bytes")
def test_unsent_is_what_the_other_kernel_has_not_taken(pair: Pair) -> None:
    """The end of a connection is no byte of it."""
    assert socket_tuning.unsent(pair[0]) == 0
    sent = fill(pair)
    before = socket_tuning.unsent(pair[0])
    assert 0 < before < sent
    pair[0].shutdown(socket.SHUT_WR)
    assert socket_tuning.unsent(pair[0]) == before


def test_unsent_of_a_socket_that_another_thread_closes_meanwhile() -> None:
    class Socket:
        descriptors = iter([2**31 - 1, -1])  # open (to no file) when first asked, closed when asked again

        def fileno(self) -> int:
            return next(self.descriptors)

    assert socket_tuning.unsent(Socket()) == 0


def segments(sacked: int) -> bytes:
    """What the kernel says of a connection on which so many segments have arrived out of order."""
    told = bytearray(256)
    struct.pack_into("I", told, 16, 1448)  # tcpi_snd_mss
    struct.pack_into("I", told, 28, sacked)  # tcpi_sacked
    return bytes(told)


@pytest.mark.parametrize(
    ("response", "left"),
    [
        (segments(0), 100_000), (segments(50), 100_000 - 50 * 1448), (segments(1000), 1),
        (OSError("not here"), 100_000), (b"", 100_000), (bytes(20), 100_000),
    ],
)  # fmt: skip
def test_what_arrived_out_of_order_is_not_unsent(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, response: Exception | bytes, left: int
) -> None:
    """A path that loses packets would have to be made for it: here the kernel's response is. It may say nothing."""
    pytest.importorskip("fcntl", reason="Windows reports no unsent bytes")
    monkeypatch.setattr("fcntl.ioctl", lambda *arguments: struct.pack("i", 100_000))

    assert socket_tuning.unsent(Answering(pair[0].fileno(), socket.TCP_INFO, response)) == left


def test_where_no_system_call_reports_unsent_bytes(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows. It is asked of each connection, many times a second."""
    assert fill(pair)
    monkeypatch.setattr(socket_tuning, "_HAS_FCNTL", False)
    with monkeypatch.context() as searched:
        searched.setattr("builtins.__import__", lambda name, *_: pytest.fail(f"searches each directory for {name}"))
        assert socket_tuning.unsent(pair[0]) == 0


def test_readable_is_when_the_other_side_has_spoken_or_gone(pair: Pair) -> None:
    ours, theirs = pair
    assert not socket_tuning.readable(ours)
    theirs.sendall(b"HTTP/1.1 503")
    assert socket_tuning.readable(ours)
    assert ours.recv(100)
    assert not socket_tuning.readable(ours)
    theirs.close()
    assert socket_tuning.readable(ours)


def test_readable_without_poll(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.delattr(socket_tuning.select, "poll", raising=False)
    test_readable_is_when_the_other_side_has_spoken_or_gone(pair)
    pair[0].close()
    assert not socket_tuning.readable(pair[0])


@pytest.mark.parametrize(
    ("response", "left"),
    [(bytes(32) + struct.pack("I", 70_000), 70_000), (bytes(20), 0), (OSError("not here"), 0)],
    ids=["known", "short", "refused"],
)
def test_macos_reports_its_send_buffer(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, response: Exception | bytes, left: int
) -> None:
    """By `struct tcp_connection_info`. Its kernel is not here: the response is made up."""
    monkeypatch.setattr(socket_tuning, "_INFO_OF_MACOS", 0x106)
    assert socket_tuning.unsent(Answering(pair[0].fileno(), 0x106, response)) == left


@pytest.mark.parametrize(
    ("response", "times"),
    [
        (bytes(40) + struct.pack("II", 31, 34), (0.031, 0.031)),
        (bytes(40) + struct.pack("II", 90, 34), (0.034, 0.034)),  # the latest packet waited in a queue
        (bytes(40) + struct.pack("II", 0, 0), (0.0, 0.0)),  # less than a millisecond, or not measured yet
        (bytes(40), (0.0, 0.0)),
        (OSError("not here"), (0.0, 0.0)),
    ],
    ids=["known", "queued", "near", "short", "refused"],
)
def test_macos_reports_its_round_trips(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, response: Exception | bytes, times: tuple[float, float]
) -> None:
    monkeypatch.setattr(socket_tuning, "_INFO_OF_MACOS", 0x106)
    assert socket_tuning.round_trip_times(Answering(pair[0].fileno(), 0x106, response)) == times


@pytest.mark.skipif(sys.platform == "win32", reason="select() of Windows takes any socket")
def test_a_descriptor_may_be_high(pair: Pair) -> None:
    """In a process with a thousand files open: select() knows descriptors up to 1023."""
    import fcntl
    import resource

    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 1100:
        pytest.skip("descriptors are limited")
    ours, theirs = pair
    with socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD, 1100)) as high:
        assert not socket_tuning.readable(high)
        theirs.close()
        assert socket_tuning.readable(high)
