"""The service's signals and child processes, also where the event loop watches neither descriptors nor signals."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from bigupload import errors
from bigupload.service.http import serving
from bigupload.service.http.serving import ChildProcess
from tests.service.child import until_its_parent_ends
from tests.tools.other_systems import LoopOfWindows
from tests.tools.waiting import until

T = TypeVar("T")
LOOPS = pytest.mark.parametrize("loop_of", [asyncio.SelectorEventLoop, LoopOfWindows])


def run(loop_of: Callable[[], asyncio.AbstractEventLoop], work: Callable[[], Awaitable[T]]) -> T:
    async def perform() -> T:
        return await work()

    with asyncio.Runner(loop_factory=loop_of) as runner:
        return runner.run(perform())


@LOOPS
def test_a_signal_stops_the_service(loop_of: Callable[[], asyncio.AbstractEventLoop]) -> None:
    before = {number: signal.getsignal(number) for number in serving.STOP_SIGNALS}

    async def work() -> None:
        stop = serving._on_signals()
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        await until(stop.is_set)

    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nohup would have it ignored
        run(loop_of, work)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.exhaustive
@LOOPS
def test_a_child_ends_with_its_parent_who_hears_of_it(
    loop_of: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    if loop_of is LoopOfWindows:
        lacking = {name: value for name, value in vars(signal).items() if name != "pthread_sigmask"}
        monkeypatch.setattr(serving, "signal", SimpleNamespace(**lacking))
    child = ChildProcess(until_its_parent_ends)
    ignores = child.pipe.recv()
    child.pipe.close()
    run(loop_of, child.ended)
    assert (ignores, child.process.exitcode) == (True, 7)


def test_who_stops_watching_hears_nothing() -> None:
    ours, theirs = multiprocessing.Pipe()
    heard: list[None] = []

    async def work() -> None:
        others = set(threading.enumerate())
        stop_watching = serving._call_when_readable(ours, lambda: heard.append(None))
        (watching,) = set(threading.enumerate()) - others
        stop_watching()
        theirs.close()
        await until(lambda: not watching.is_alive())
        await asyncio.sleep(0)

    run(LoopOfWindows, work)
    ours.close()
    assert heard == []


def test_what_needs_another_system_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(errors.UsageError, match="use --workers 1"):
        serving.Supervisor(cast("Any", SimpleNamespace(workers=2)))


def test_a_port_is_bound_by_one_service_where_reuse_lets_others_bind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    set_options: list[Any] = []
    real = socket.socket.setsockopt

    class Socket(socket.socket):
        def setsockopt(self, *values: Any) -> None:
            set_options.append(values[1])
            real(self, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", ~socket.SO_REUSEADDR, raising=False)
    monkeypatch.setattr(socket, "socket", Socket)
    serving.listen("127.0.0.1", 0, shared=False).close()
    assert set_options == [~socket.SO_REUSEADDR]
