"""The event loop in the background: how calls end, and what stays open."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bigupload import OutOfThreads, Uploader, UsageError
from bigupload.adapters import background
from bigupload.adapters.background import BackgroundUploaders


async def identify(uploader: Uploader, tell: Callable[[Any], None]) -> int:
    tell(threading.get_ident())
    return id(uploader)


def test_calls_share_an_uploader_unless_they_have_options_of_their_own() -> None:
    uploaders, heard = BackgroundUploaders(), list[Any]()
    one, other = (uploaders.run(identify, heard.append) for _ in range(2))
    assert one == other
    own, again = (uploaders.run(identify, heard.append, concurrency=3) for _ in range(2))
    assert own == again != one
    assert len(set(heard)) == 1, "all of them run in one thread"
    assert heard[0] != threading.get_ident()
    uploaders.close()
    uploaders.close()
    assert isinstance(uploaders.run(identify, heard.append), int)
    uploaders.close()


def test_at_a_time_those_with_options_of_their_own_share_nothing() -> None:
    uploaders, both = BackgroundUploaders(), asyncio.Event()
    inside: list[int] = []

    async def meet(uploader: Uploader, _: Callable[[Any], None]) -> int:
        inside.append(id(uploader))
        if len(inside) == 2:
            both.set()
        await both.wait()
        return id(uploader)

    with ThreadPoolExecutor(2) as pool:
        found = {each.result() for each in [pool.submit(uploaders.run, meet, bool, concurrency=3) for _ in range(2)]}
    assert len(found) == 2
    uploaders.close()


def test_what_hears_may_end_the_call() -> None:
    uploaders, ended = BackgroundUploaders(), list[str]()

    async def work(_: Uploader, tell: Callable[[Any], None]) -> None:
        try:
            tell("news")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ended.append("in order")
            raise

    def hear(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        uploaders.run(work, hear)
    assert ended == ["in order"], "the caller waits for that"
    uploaders.close()


def test_what_the_work_raises() -> None:
    uploaders = BackgroundUploaders()

    async def fail(_: Uploader, __: Callable[[Any], None]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        uploaders.run(fail, bool)
    with pytest.raises(UsageError):
        uploaders.run(identify, bool, concurrency=-1)
    with pytest.raises(UsageError):
        BackgroundUploaders(concurrency=-1)
    uploaders.close()


def test_uploaders_are_closed_with_their_owner() -> None:
    uploaders, closed = BackgroundUploaders(), threading.Event()

    async def watch(uploader: Uploader, _: Callable[[Any], None]) -> None:
        uploader._resources._exits.callback(closed.set)

    uploaders.run(watch, bool)
    del uploaders
    gc.collect()
    assert closed.wait(30)


PROGRAM = """
import os, sys, threading
from bigupload.adapters import background
from bigupload.adapters.background import BackgroundUploaders
async def work(uploader, tell):
    return 1
uploaders = BackgroundUploaders()
assert uploaders.run(work, bool) == 1
child = os.fork()
if not child:
    assert uploaders.run(work, bool) == 1
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert uploaders.run(work, bool) == 1
"""


def test_a_program_ends_at_once_and_without_a_word(tmp_path: Path) -> None:
    """So does a process that it forked, whose end does not disturb the loop of the other."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_without_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call says so, and none waits for ever."""

    def fail() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(background, "_running", None)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", fail)
        for _ in range(2):
            with pytest.raises(OSError, match="Too many open files"):
                BackgroundUploaders().run(identify, bool)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(OutOfThreads):
            BackgroundUploaders().run(identify, bool)
    assert isinstance(BackgroundUploaders().run(identify, bool), int)
