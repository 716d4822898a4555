"""A blocking call in a daemon thread, which a cancelled caller leaves behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from functools import partial

import anyio
import pytest

from bigupload import errors
from bigupload.support import daemon_threads
from bigupload.support.daemon_threads import DaemonThreadPool, run_in_daemon_thread
from tests.tools.waiting import until


async def test_it_gives_what_the_function_returns_or_raises() -> None:
    limiter = asyncio.Semaphore(1)
    assert await run_in_daemon_thread(lambda: threading.current_thread().daemon, limiter) is True
    with pytest.raises(ZeroDivisionError):
        await run_in_daemon_thread(lambda: 1 // 0, limiter)
    assert not limiter.locked()


async def test_an_iterator_that_has_ended_is_an_error_and_no_hang() -> None:
    """asyncio's futures take no StopIteration."""
    pool = DaemonThreadPool(1, "test")
    ended = partial(next, iter(()))
    with anyio.fail_after(30), pytest.raises(RuntimeError, match="raised StopIteration"):
        await run_in_daemon_thread(ended)
    with anyio.fail_after(30), pytest.raises(RuntimeError, match="raised StopIteration"):
        await asyncio.get_running_loop().run_in_executor(pool, ended)
    pool.shutdown()


async def test_a_cancelled_caller_returns_while_the_call_goes_on_and_keeps_its_slot() -> None:
    limiter, entered, gate = asyncio.Semaphore(1), threading.Event(), threading.Event()

    def blocking() -> None:
        entered.set()
        gate.wait()

    task = asyncio.create_task(run_in_daemon_thread(blocking, limiter))
    await until(entered.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert limiter.locked()
    gate.set()
    await until(lambda: not limiter.locked())


async def test_a_thread_that_can_t_be_started_keeps_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    limiter = asyncio.Semaphore(1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(daemon_threads, "_free", {})
    with pytest.raises(errors.OutOfThreads, match="ulimit -u"):
        await run_in_daemon_thread(int, limiter)
    assert not limiter.locked()


async def test_calls_one_after_the_other_share_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise 10,000 small files that the page cache does not have would start 10,000 threads."""
    monkeypatch.setattr(daemon_threads, "_KEPT", 60)
    threads = {await run_in_daemon_thread(threading.get_ident) for _ in range(100)}
    assert len(threads) == 1


PROGRAM = """
import asyncio, threading, anyio
from bigupload.support.daemon_threads import run_in_daemon_thread

async def main():
    entered = threading.Event()
    def blocking():
        entered.set()
        threading.Event().wait()
    task = asyncio.create_task(run_in_daemon_thread(blocking))
    await asyncio.to_thread(entered.wait)
    task.cancel()

asyncio.run(main())
print("left")
"""


def test_the_process_ends_although_the_call_does_not() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "left\n", "")


FORKED = """
import asyncio, os, signal
from bigupload.support import daemon_threads
daemon_threads._KEPT = 60
asyncio.run(daemon_threads.run_in_daemon_thread(int))
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.alarm(30)
asyncio.run(daemon_threads.run_in_daemon_thread(int))
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_waits_for_no_thread_of_its_parent() -> None:
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
