"""A writer whose program a signal's handler interrupts, at each point at which Python runs such handlers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import sys
import threading
import types
from asyncio import base_events
from collections.abc import Callable
from typing import Any

import pytest

import bigupload
from bigupload.api import blocking_writer as writer_module
from bigupload.sources import producers
from tests.tools.waiting import until

from .streams import WHOLE, hashed, whole
from .support import BUCKET, FAST, World, of_function

TO = f"s3://{BUCKET}/key"
PIECES = [WHOLE[:50_000], WHOLE[50_000:50_100], WHOLE[50_100:150_000]]
TEXTS = ["\u65e5\u672c\n" * 5_000, "\u65e5", "\u672c" * 20_000, "\n"]
POINTS = 1_000
"""More than there are."""


class Interrupted(BaseException):
    """What the handler raises."""


class Interruption:
    """A profile function that raises at one of the points at which Python runs the handlers of signals.

    These are the entry of each function of Python, the return of each one of C that Python has called, and its waits:
    of the writer and what it waits by. The checks of its options change nothing.
    """

    WITHIN = tuple(
        each.__file__ for each in (writer_module, producers, threading, base_events, concurrent.futures._base)
    )

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame: types.FrameType, event: str, called: Any) -> None:
        waits = event == "c_call" and called.__name__ in ("acquire", "get")
        if frame.f_code.co_filename not in self.WITHIN or not (waits or event in ("call", "c_return")):
            return
        self.left -= 1
        if not self.left:
            raise Interrupted

    def __enter__(self) -> None:
        sys.setprofile(self)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


def leave_the_block(open_: Callable[[], Any], pieces: list[Any]) -> bool:
    with open_() as writer:
        for piece in pieces:
            writer.write(piece)
    return True


def go_on(open_: Callable[[], Any], pieces: list[Any]) -> bool:
    """Make each call again that was interrupted. Return whether the writer says that there is an object."""
    made: list[Any] = []
    _again(lambda: made.append(open_()))
    (writer,) = made
    try:
        for piece in pieces:
            _again(functools.partial(writer.write, piece))
        _again(writer.close)
        return bool(writer.result.size)
    finally:
        writer.abandon()


def _again(call: Callable[[], object]) -> None:
    try:
        call()
    except Interrupted:
        pass
    else:
        return
    call()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_SMALL", 10_000)


def no_thread_is_left() -> bool:
    return all(thread.name != "bigupload writer" for thread in threading.enumerate())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it raised in a `__del__`
@pytest.mark.parametrize("program", [leave_the_block, go_on])
@pytest.mark.parametrize("encoding", [None, "iso2022_jp"])
def test_there_is_the_whole_object_or_none(world: World, program: Callable[..., bool], encoding: str | None) -> None:
    """A program that ends without an exception has made it."""
    of_text: Any = {} if encoding is None else {"text": True, "encoding": encoding, "newline": ""}
    options: Any = {"s3": world.options(), "retry": FAST, "resume": False, "on_error": "abort", **of_text}
    pieces: list[Any] = PIECES if encoding is None else TEXTS
    right = hashed(b"".join(PIECES) if encoding is None else "".join(TEXTS).encode(encoding))
    found: set[str | None] = set()
    for at in range(1, POINTS):
        world.s3.objects[BUCKET].pop("key", None)
        interruption, ended = Interruption(at), False
        try:
            with interruption:
                ended = program(lambda: bigupload.open_writer(TO, **of_function(options)), pieces)
        except (Interrupted, bigupload.UploadCancelled):
            if interruption.left > 0:
                raise
        gc.collect()
        asyncio.run(until(no_thread_is_left))
        found.add(whole(world.s3.objects[BUCKET].get("key")))
        assert found <= {None, right}, at
        assert not ended or "key" in world.s3.objects[BUCKET], at
        if interruption.left > 0:
            break
    assert found == {None, right}
    assert 50 < at < POINTS - 1, "all of them were tried"
