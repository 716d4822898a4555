"""Writers: an object that is written like a file, and that is there only if it was closed cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import events
from bigupload.api import blocking_writer as writer_module
from bigupload.engine import multipart_upload
from bigupload.sources import part_pool
from bigupload.testing.faults import Status
from tests.tools.cases import each_case
from tests.tools.waiting import until

from .stopped import PARTS, SIZE
from .streams import WHOLE, hashed, whole
from .support import BUCKET, FAST, PART, World, of_function

TO = f"s3://{BUCKET}/key"
Writer = bigupload.UploadWriter


def target(world: World, **more: Any) -> Any:
    return {"s3": world.options(), "manifest": world.manifest_path, "retry": FAST, **more}


def opened(world: World, **more: Any) -> Writer:
    return bigupload.open_writer(TO, **of_function(target(world, **more)))


def stored(world: World) -> str | None:
    return whole(world.s3.objects[BUCKET].get("key"))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the parts of these tests are small."""
    monkeypatch.setattr(writer_module, "_SMALL", 10_000)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Also where the tests run in the background of a shell, which ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def no_threads() -> Iterator[None]:
    """No thread of a writer is left."""
    yield
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "bigupload writer":
            thread.join(30)
            assert not thread.is_alive()


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@each_case("size", [1_000, PART, 3 * PART + 1, SIZE])
def test_what_is_written_is_proved(world: World, size: int) -> None:
    with opened(world, resume=False) as writer:
        assert isinstance(writer, io.BufferedIOBase)
        assert (writer.writable(), writer.readable(), writer.seekable(), writer.closed) == (True, False, False, False)
        for piece in in_pieces(WHOLE, size):
            assert writer.write(piece) == len(piece)
        writer.flush()
        assert writer.tell() == SIZE
        with pytest.raises(bigupload.UsageError, match="not closed yet"):
            assert writer.result
    assert writer.closed
    assert (writer.result.size, writer.result.verified) == (SIZE, bigupload.Verified.FULL_OBJECT)
    assert (writer.durable_offset, writer.manifest) == (SIZE, world.manifest_path)
    assert stored(world) == hashed(WHOLE)
    writer.close()
    for use in (lambda: writer.write(b"more"), writer.flush, writer.__enter__):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_nothing_written_is_an_empty_object(world: World) -> None:
    with opened(world):
        pass
    assert stored(world) == hashed(b"")


async def test_async_writer(world: World) -> None:
    async with bigupload.Uploader(retry=FAST) as uploader:
        options = {"to": TO, "s3": world.options(), "manifest": world.manifest_path}
        async with uploader.open_writer(**options) as writer:
            for piece in in_pieces(WHOLE, 50_001):
                assert await writer.write(piece) == len(piece)
            await writer.flush()
            await writer.writelines([])
            assert (writer.tell(), writer.closed) == (SIZE, False)
            with pytest.raises(io.UnsupportedOperation, match="Write to a file"):
                await writer.seek(0)
        assert (writer.result.size, writer.durable_offset, writer.closed) == (SIZE, SIZE, True)
        await writer.close()
        with pytest.raises(ValueError, match="closed"):
            await writer.write(b"more")
    assert stored(world) == hashed(WHOLE)


async def test_inside_a_running_loop(world: World) -> None:
    """As in Jupyter: the loop is blocked meanwhile, and the writer has one of its own."""
    with opened(world) as writer:
        writer.write(WHOLE)
    assert stored(world) == hashed(WHOLE)


def raise_in_block(world: World, **more: Any) -> None:
    with opened(world, **more) as writer:
        writer.write(WHOLE)
        raise LookupError("the rows are gone")


def exit_in_block(world: World, **more: Any) -> None:
    with opened(world, **more) as writer:
        writer.write(WHOLE)
        raise SystemExit(0)


def interrupt_in_block(world: World, **more: Any) -> None:
    with opened(world, **more) as writer:
        writer.write(WHOLE)
        signal.raise_signal(signal.SIGINT)


def close_in_finally(world: World, **more: Any) -> None:
    writer = opened(world, **more)
    try:
        writer.write(WHOLE)
        raise LookupError("the rows are gone")
    finally:
        writer.close()


def contextlib_closing(world: World, **more: Any) -> None:
    with contextlib.closing(opened(world, **more)) as writer:
        writer.write(WHOLE)
        raise LookupError("the rows are gone")


def text_in_block(world: World, **more: Any) -> None:
    with bigupload.open_writer(TO, text=True, **of_function(target(world, **more))) as writer:
        writer.write("x" * SIZE)
        raise LookupError("the rows are gone")


def text_that_no_encoding_has(world: World, **more: Any) -> None:
    with bigupload.open_writer(TO, text=True, encoding="ascii", **of_function(target(world, **more))) as writer:
        writer.write("x" * SIZE)
        writer.write("é")


def wrapped_text(world: World, **more: Any) -> None:
    with io.TextIOWrapper(opened(world, **more), "utf-8") as text:
        text.write("x" * SIZE)
        raise LookupError("the rows are gone")


def abandoned(world: World, **more: Any) -> None:
    with opened(world, **more) as writer:
        writer.write(WHOLE)
        writer.abandon()
        writer.abandon()
        assert writer.closed
        raise LookupError("enough")


LEFT: list[tuple[Callable[..., None], type[BaseException]]] = [
    (raise_in_block, LookupError),
    (exit_in_block, SystemExit),
    (interrupt_in_block, KeyboardInterrupt),
    (close_in_finally, bigupload.UsageError),
    (contextlib_closing, bigupload.UsageError),
    (text_in_block, LookupError),
    (text_that_no_encoding_has, UnicodeEncodeError),
    (wrapped_text, bigupload.UsageError),
    (abandoned, LookupError),
]


@each_case("leave, error", LEFT)
def test_what_was_not_closed_cleanly_is_no_object(
    world: World, leave: Callable[..., None], error: type[BaseException]
) -> None:
    with pytest.raises(error):
        leave(world, resume=False)
    assert stored(world) is None


@each_case("leave, error", LEFT)
def test_abort_frees_the_parts(world: World, leave: Callable[..., None], error: type[BaseException]) -> None:
    with pytest.raises(error):
        leave(world, resume=False, on_error="abort", manifest=None)
    assert stored(world) is None
    assert not world.s3.uploads


def test_the_exception_says_what_was_kept(world: World) -> None:
    with pytest.raises(LookupError) as raised:
        raise_in_block(world)
    (note,) = raised.value.__notes__
    assert note.startswith(f"nothing was committed: key → {TO}")


def test_the_same_bytes_resume(world: World) -> None:
    """What one program wrote before its exception, another one does not send again."""
    numbers: set[int] = set()
    recorded = threading.Event()

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.PartUploaded):
            numbers.add(event.number)  # in whichever order
        if numbers >= {1, 2, 3}:
            recorded.set()

    with opened(world, on_event=on_event, concurrency=1) as writer:
        writer.write(WHOLE[: 4 * PART])
        assert recorded.wait(30)
        assert writer.durable_offset >= 3 * PART
        writer.abandon()
    assert stored(world) is None
    with opened(world) as writer:
        for piece in in_pieces(WHOLE, 10_000):
            writer.write(piece)
    assert writer.result.resumed_parts >= 3
    assert writer.result.bytes_sent <= SIZE - 3 * PART
    assert stored(world) == hashed(WHOLE)


def test_other_bytes_do_not(world: World) -> None:
    recorded = threading.Event()
    with opened(world, on_event=lambda e: isinstance(e, events.PartUploaded) and recorded.set()) as writer:
        writer.write(WHOLE)
        assert recorded.wait(30)
        writer.abandon()
    with pytest.raises(bigupload.SourceChanged, match="resume=False"), opened(world) as writer:
        writer.write(bytes(SIZE))
    assert stored(world) is None
    with opened(world, resume=False) as writer:
        writer.write(bytes(SIZE))
    assert stored(world) == hashed(bytes(SIZE))


def collected(forgotten: Callable[[], object]) -> None:
    forgotten()
    gc.collect()


def text_opened(world: World, **more: Any) -> Any:
    return bigupload.open_writer(TO, text=True, **of_function(target(world, **more)))


def wrapped(world: World) -> io.TextIOWrapper:
    """It closes what it wraps: the writer has to know that nobody asked for it."""
    return io.TextIOWrapper(opened(world), "utf-8")


@pytest.mark.parametrize(("forgotten", "written"), [(opened, WHOLE), (wrapped, "x" * SIZE), (text_opened, "x" * SIZE)])
def test_a_writer_that_is_collected(world: World, forgotten: Callable[[World], Any], written: bytes | str) -> None:
    with pytest.warns(ResourceWarning, match=r"never closed, so that nothing was committed"):
        collected(lambda: forgotten(world).write(written))
    assert stored(world) is None


@each_case(
    "encoding, first, refused", [("iso2022_jp", "ああ", "ああ€"), ("utf-16", "", "\ud800"), ("utf-8-sig", "", "\ud800")]
)
def test_a_character_that_is_refused_ends_text_with_a_state(
    world: World, encoding: str, first: str, refused: str
) -> None:
    """The encoder has gone on: what follows would lack its byte order mark, or its shift sequence."""
    writer = bigupload.open_writer(TO, text=True, encoding=encoding, **of_function(target(world, resume=False)))
    writer.write(first)
    with pytest.raises(UnicodeEncodeError):
        writer.write(refused)
    writer.write("いい" if encoding == "iso2022_jp" else "x")
    with pytest.raises(bigupload.UploadCancelled):
        writer.close()
    assert stored(world) is None


@each_case("encoding, refused", [("utf-8", "\ud800"), ("ascii", "é"), ("latin-1", "€")])
def test_a_character_that_is_refused_is_not_written(world: World, encoding: str, refused: str) -> None:
    with bigupload.open_writer(TO, text=True, encoding=encoding, **of_function(target(world, resume=False))) as writer:
        writer.write("before ")
        with pytest.raises(UnicodeEncodeError):
            writer.write(f"x{refused}")
        writer.write("after")
    assert stored(world) == hashed(b"before after")


async def test_an_async_writer_that_is_collected(world: World) -> None:
    async with bigupload.Uploader(retry=FAST) as uploader:
        writers = [uploader.open_writer(TO, s3=world.options(), manifest=world.manifest_path)]
        await writers[0].write(WHOLE)
        with pytest.warns(ResourceWarning, match=r"never closed"):
            collected(writers.clear)
    assert stored(world) is None


async def async_raise(writer: bigupload.AsyncUploadWriter) -> None:
    async with writer:
        await writer.write(WHOLE)
        raise LookupError


async def async_close_in_finally(writer: bigupload.AsyncUploadWriter) -> None:
    try:
        await writer.write(WHOLE)
        raise LookupError
    finally:
        await writer.close()


async def async_timeout(writer: bigupload.AsyncUploadWriter) -> None:
    async with writer, asyncio.timeout(0):
        await writer.write(WHOLE)
        await asyncio.sleep(60)


async def async_abandon(writer: bigupload.AsyncUploadWriter) -> None:
    await writer.write(WHOLE)
    await writer.abandon()
    assert writer.result


@each_case(
    "leave, error",
    [
        (async_raise, LookupError),
        (async_close_in_finally, bigupload.UsageError),
        (async_timeout, TimeoutError),
        (async_abandon, bigupload.UsageError),
    ],
)
async def test_async_writers_that_are_not_closed_cleanly(
    world: World, leave: Callable[..., Any], error: type[BaseException]
) -> None:
    async with bigupload.Uploader(retry=FAST) as uploader:
        writer = uploader.open_writer(TO, s3=world.options(), resume=False, on_error="abort")
        with pytest.raises(error):
            await leave(writer)
        assert writer.closed
    assert stored(world) is None
    assert not world.s3.uploads


async def test_closing_the_uploader_ends_its_writers(world: World) -> None:
    async with bigupload.Uploader(retry=FAST) as uploader:
        writer = uploader.open_writer(TO, s3=world.options(), manifest=world.manifest_path)
        await writer.write(WHOLE)
    with pytest.raises(bigupload.UploadCancelled, match="its Uploader was closed"):
        await writer.write(WHOLE)
    with pytest.raises(bigupload.UploadCancelled, match="its Uploader was closed"):
        await writer.close()
    assert stored(world) is None


def test_opened_while_an_exception_is_handled(world: World) -> None:
    """That one has nothing to do with the writer."""
    try:
        raise KeyError
    except KeyError:
        writer = opened(world)
        writer.write(WHOLE)
        writer.close()
    assert stored(world) == hashed(WHOLE)


def test_a_block_inside_a_handler_is_clean(world: World) -> None:
    writer = opened(world)
    try:
        raise KeyError
    except KeyError:
        with writer:
            writer.write(WHOLE)
    assert stored(world) == hashed(WHOLE)


def test_a_forked_process_commits_nothing(world: World) -> None:
    with opened(world) as writer:
        writer.write(WHOLE[:1000])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, from Python 3.12 on
            child = os.fork()
        if not child:
            status = 1
            try:
                writer.write(b"a byte of the child")
                for use in (writer.close, writer.abandon, lambda: writer.write(bytes(2 << 20))):
                    with pytest.raises(bigupload.UsageError, match="forked"):
                        use()
                writer.__exit__(ValueError, ValueError(), None)
                with pytest.raises(bigupload.UsageError, match="forked"):
                    writer.__exit__(None, None, None)
                del writer
                gc.collect()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert stored(world) is None
        writer.write(WHOLE[1000:])
    assert stored(world) == hashed(WHOLE)


def test_a_writer_cannot_be_pickled(world: World) -> None:
    with opened(world) as writer:
        for use in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot pickle"):
                use(writer)


def test_seeking_says_what_to_do(world: World) -> None:
    with opened(world) as writer:
        for use in (lambda: writer.seek(0), lambda: writer.truncate(0)):
            with pytest.raises(io.UnsupportedOperation, match=r"Write to a file .* bigupload\.upload\(path, to=…\)"):
                use()
        with pytest.raises(io.UnsupportedOperation):
            writer.read()
        with pytest.raises(io.UnsupportedOperation):
            writer.fileno()
        with pytest.raises(TypeError):
            writer.write("text")  # type: ignore[arg-type]  # what is refused
        writer.write(WHOLE)
    assert stored(world) == hashed(WHOLE)


@each_case("size", [100, 4_000, 10_000, 25_000])
def test_the_buffer_of_a_write_is_the_programs_again_at_once(world: World, size: int) -> None:
    with opened(world, part_size=PART) as writer:
        for piece in in_pieces(WHOLE, size):
            buffer = bytearray(piece)
            writer.write(buffer)
            buffer[:] = bytes(len(buffer))
    assert stored(world) == hashed(WHOLE)


def test_text(world: World) -> None:
    with bigupload.open_writer(TO, text=True, newline="\r\n", **of_function(target(world))) as writer:
        assert isinstance(writer, io.TextIOWrapper)
        print("é", 1, file=writer)
        with pytest.raises(io.UnsupportedOperation, match="Write to a file"):
            writer.seek(0)
    assert (writer.result.size, writer.durable_offset, writer.manifest) == (6, 6, world.manifest_path)
    assert stored(world) == hashed("é 1\r\n".encode())


def test_text_cannot_be_detached(world: World) -> None:
    """As the writer of bytes says of itself. It goes on."""
    with bigupload.open_writer(TO, text=True, **of_function(target(world))) as writer:
        writer.write("é")
        with pytest.raises(io.UnsupportedOperation, match="without `text=True`"):
            writer.detach()
        with pytest.raises(io.UnsupportedOperation):
            writer.buffer.detach()
        writer.write("é")
    assert stored(world) == hashed("éé".encode())


TEXTS = ["a\nb\r\n", "", "\u65e5\u672c\n", "\n"]
"""ISO-2022-JP has escape sequences that belong to none of the characters."""


@each_case(
    "encoding, newline",
    [(None, None), ("utf-16", "\r\n"), ("utf-32", None), ("iso2022_jp", "\n"), ("utf-8-sig", ""), ("gb18030", "\r")],
)
def test_text_is_what_a_file_of_text_has(
    world: World, tmp_path: Path, encoding: str | None, newline: str | None
) -> None:
    given: Any = target(world, resume=False, text=True, encoding=encoding, newline=newline)
    with (
        (tmp_path / "text").open("w", encoding=encoding or "utf-8", newline=newline) as file,
        bigupload.open_writer(TO, **of_function(given)) as writer,
    ):
        for each in (file, writer):
            assert [each.write(text) for text in TEXTS[:2]] == [len(text) for text in TEXTS[:2]]
            each.writelines(TEXTS[2:])
    assert stored(world) == hashed((tmp_path / "text").read_bytes())


@each_case("options", [{"text": True}, {"text": False}, {"encoding": "utf-8"}, {"newline": ""}])
async def test_an_async_writer_takes_no_text(options: dict[str, Any]) -> None:
    async with bigupload.Uploader() as uploader:
        with pytest.raises(bigupload.UsageError, match=r"`\w+`, because it takes bytes: .*text\.encode.*text=True"):
            uploader.open_writer(TO, **options)
        with pytest.raises(TypeError, match="did you mean part_size"):
            uploader.open_writer(TO, partsize=1)  # type: ignore[call-arg]  # what is refused


def test_writes_of_several_threads_are_whole(world: World) -> None:
    lines = [bytes([letter]) * 999 + b"\n" for letter in b"abcd"]
    with opened(world) as writer:

        def write(line: bytes) -> None:
            for _ in range(500):
                writer.write(line)

        threads = [threading.Thread(target=write, args=(line,)) for line in lines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = world.s3.objects[BUCKET]["key"].body.splitlines(keepends=True)
    assert sorted(found) == sorted(lines * 500)


def test_a_write_that_was_interrupted(world: World) -> None:
    """Nobody knows how many of its bytes went: a program that goes on all the same gets no object."""
    world.s3.hold("CreateMultipartUpload")
    writer = opened(world)

    def interrupt() -> None:
        asyncio.run(until(lambda: any(each.op == "CreateMultipartUpload" for each in list(world.s3.requests))))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        writer.write(WHOLE)  # which waits for the upload to begin
    thread.join()
    world.s3.release()
    with pytest.raises(bigupload.UploadCancelled, match="interrupted half-way"):
        writer.close()
    assert stored(world) is None


def test_a_write_that_comes_while_the_writer_is_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, once the last bytes of before are on their way."""
    writer = opened(world)
    writer.write(WHOLE[:-1])
    writer.write(WHOLE[-1:])
    write, complete = writer.write, writer._thread.complete
    refused: list[ValueError] = []

    def write_late() -> None:
        with pytest.raises(ValueError, match=r"closed|detached") as raised:
            write(WHOLE[::-1])
        refused.append(raised.value)

    def complete_later() -> None:
        thread = threading.Thread(target=write_late)
        thread.start()
        thread.join()
        complete()

    monkeypatch.setattr(writer._thread, "complete", complete_later)
    writer.close()
    assert refused
    assert stored(world) == hashed(WHOLE)


async def test_async_writes_that_wait_while_the_writer_is_closed(world: World) -> None:
    """They are refused, and do not end the upload, which has all that was written before."""
    world.s3.hold("CreateMultipartUpload")
    async with bigupload.Uploader(retry=FAST) as uploader:
        writer = uploader.open_writer(TO, s3=world.options(), manifest=world.manifest_path)
        first = asyncio.create_task(writer.write(WHOLE))  # waits for the upload to begin
        await until(lambda: bool(world.s3.requests))
        closing = asyncio.create_task(writer.close())
        await asyncio.sleep(0)
        late = asyncio.create_task(writer.write(b"late"))
        await asyncio.sleep(0)
        world.s3.release()
        assert await first == SIZE
        with pytest.raises(ValueError, match="closed writer"):
            await late
        await closing
    assert writer.result.size == SIZE
    assert stored(world) == hashed(WHOLE)


ROOM = 3
"""Parts in the memory that `blocked` leaves to a writer."""


@contextlib.contextmanager
def blocked(world: World, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Iterator[tuple[Writer, list[object]]]:
    """A writer whose memory is full, because the store takes nothing, and what the thread that writes WHOLE has got."""
    monkeypatch.setattr(part_pool, "_shared", part_pool.Memory(ROOM * PART))
    world.s3.hold("UploadPart")
    writer, got = opened(world, **more), list[object]()

    def write() -> None:
        try:
            got.append(writer.write(WHOLE))
        except BaseException as e:
            got.append(e)

    thread = threading.Thread(target=write)
    thread.start()
    asyncio.run(until(lambda: writer._raw.tell() == ROOM * PART))
    try:
        yield writer, got
    finally:
        world.s3.release()
        thread.join()


def test_a_write_that_waits_for_memory_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A close that comes meanwhile waits for it: what it has is in the object."""
    with blocked(world, monkeypatch) as (writer, got):
        closing = threading.Thread(target=writer.close)
        closing.start()
        assert not got
        world.s3.release()
        closing.join()
    assert got == [SIZE]
    assert stored(world) == hashed(WHOLE)


Call = Callable[[Writer], object]
CALLS: list[Call] = [
    lambda writer: writer.write(b"x"),
    lambda writer: writer.writelines([bytes(SIZE)]),
    Writer.close,
    lambda writer: writer.__exit__(None, None, None),
]
TRIES = 100
"""Signals to one wait. Python sees one that comes just before the thread waits only with the next one."""


@contextlib.contextmanager
def interrupted(world: World, after: str | None = None, *, releases: bool = False) -> Iterator[None]:
    """Interrupt the block where it waits: two signals in turn find it at one place of the library.

    What waits uninterruptibly goes on after a while, because the store does.

    Args:
        world: Has the store.
        after: The request that the store holds before.
        releases: Whether the store goes on at that moment.
    """
    places: list[tuple[types.CodeType, int]] = []
    got, ended, main = threading.Event(), threading.Event(), threading.get_ident()

    def handle(_: int, frame: types.FrameType | None) -> None:
        assert frame is not None
        places.append((frame.f_code, frame.f_lasti))
        waits = "bigupload" in frame.f_code.co_filename and places[-2:] == 2 * places[-1:]
        if waits:
            ended.set()
        got.set()
        if waits and releases:
            world.s3.release()
        if waits:
            raise KeyboardInterrupt

    def send() -> None:
        if after is not None:
            world.s3.wait_until_held(after)
        tries = 0
        while not ended.is_set() and tries < TRIES:
            got.clear()
            signal.pthread_kill(main, signal.SIGINT)
            tries = 0 if got.wait(0.05) else tries + 1
        if tries:
            world.s3.release()

    signal.signal(signal.SIGINT, handle)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("call", CALLS)
def test_a_signal_interrupts_what_waits_for_the_write_of_another_thread(
    world: World, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """A write that got no turn took nothing. A close that was interrupted ends the writer."""
    with blocked(world, monkeypatch, resume=False) as (writer, got):
        with interrupted(world):
            call(writer)
        closes = writer.closed
    assert closes == (call in CALLS[2:])
    if closes:
        assert [type(each) for each in got] == [bigupload.UploadCancelled]
        assert stored(world) is None
        return
    writer.close()
    assert got == [SIZE]
    assert stored(world) == hashed(WHOLE)


def close_or_leave(writer: Any, how: str) -> None:
    if how == "close":
        writer.close()
    else:
        writer.__exit__(None, None, None)


@pytest.mark.parametrize("how", ["close", "leave"])
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(
    ("held", "releases", "known"),
    [
        ("UploadPart", False, "nothing was committed"),
        ("CompleteMultipartUpload", False, "nobody knows whether the object was made"),
        ("CompleteMultipartUpload", True, "the object was made"),
    ],
)
def test_what_is_known_of_an_interrupted_close(
    world: World, monkeypatch: pytest.MonkeyPatch, text: bool, how: str, held: str, releases: bool, known: str
) -> None:
    """A second close does not succeed where the first one did not. The same bytes find out."""
    given: Any = target(world, **({"text": True, "encoding": "latin-1", "newline": ""} if text else {}))
    data: Any = WHOLE.decode("latin-1") if text else WHOLE
    world.s3.hold(held, acted=True)
    if not releases:
        monkeypatch.setattr(multipart_upload, "CANCEL_GRACE", 0)
    writer = bigupload.open_writer(TO, **of_function(given))
    writer.write(data)
    with interrupted(world, held, releases=releases):
        close_or_leave(writer, how)
    assert writer.closed
    for _ in range(2):
        with pytest.raises(bigupload.UploadCancelled, match=known) as raised:
            writer.close()
        assert raised.value.manifest == world.manifest_path
        with pytest.raises(bigupload.UsageError, match=f"no result: {known}"):
            assert writer.result
    writer.abandon()
    world.s3.release()
    assert stored(world) == (None if held == "UploadPart" else hashed(WHOLE))
    with bigupload.open_writer(TO, **of_function(given)) as writer:
        writer.write(data)
    assert writer.result.size == SIZE
    assert stored(world) == hashed(WHOLE)


@pytest.mark.parametrize(
    ("held", "known"), [("UploadPart", "nothing was committed"), ("CompleteMultipartUpload", "nobody knows")]
)
async def test_what_is_known_of_a_cancelled_close(
    world: World, monkeypatch: pytest.MonkeyPatch, held: str, known: str
) -> None:
    monkeypatch.setattr(multipart_upload, "CANCEL_GRACE", 0)
    world.s3.hold(held, acted=True)
    async with bigupload.Uploader(retry=FAST) as uploader:
        writer = uploader.open_writer(TO, s3=world.options(), manifest=world.manifest_path)
        await writer.write(WHOLE)
        closing = asyncio.create_task(writer.close())
        await world.s3.wait_for_async(held)
        closing.cancel()
        await asyncio.wait({closing})
        assert closing.cancelled()
        with pytest.raises(bigupload.UploadCancelled, match=known):
            await writer.close()
        with pytest.raises(bigupload.UploadCancelled, match=known):
            await writer.__aexit__(None, None, None)
        with pytest.raises(bigupload.UsageError, match=f"no result: {known}"):
            assert writer.result
        await writer.abandon()
    world.s3.release()


def test_the_writers_of_a_process_share_its_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has an event loop of its own. One that gets none goes on all the same, with a part at a time in a file."""
    with blocked(world, monkeypatch, resume=False) as (first, _):
        others = [
            bigupload.open_writer(f"{TO}{number}", s3=world.options(), uploader=bigupload.Uploader(retry=FAST))
            for number in range(3)
        ]
        threads = [threading.Thread(target=each.write, args=(WHOLE,)) for each in others]
        for thread in threads:
            thread.start()
        for each in others:
            asyncio.run(until(lambda each=each: each._raw.tell() >= PART))
        assert [each._raw.tell() for each in (first, *others)] == [ROOM * PART, PART, PART, PART]
    for thread, each in zip(threads, others, strict=True):
        thread.join()
        each.close()
    first.close()
    for name in ("key", "key0", "key1", "key2"):
        assert whole(world.s3.objects[BUCKET][name]) == hashed(WHOLE)


def test_a_write_that_waits_for_memory_while_the_upload_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.s3.script("UploadPart", Status(403, "AccessDenied"), repeat=True)
    with blocked(world, monkeypatch) as (writer, got):
        pass
    assert [type(each) for each in got] == [bigupload.AccessDenied]
    with pytest.raises(bigupload.AccessDenied):
        writer.close()
    assert stored(world) is None


def test_a_write_that_waits_for_memory_while_the_writer_is_abandoned(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with blocked(world, monkeypatch) as (writer, got):
        writer.abandon()
    assert [type(each) for each in got] == [bigupload.UploadCancelled]
    assert stored(world) is None


def lines_that_end(whole: bytes) -> Iterator[bytes]:
    yield whole
    raise LookupError("the rows are gone")


def test_an_exception_of_the_lines(world: World) -> None:
    """It ends the block. A program that catches it goes on, as with a file."""
    with pytest.raises(LookupError), opened(world, resume=False) as writer:
        writer.writelines(lines_that_end(WHOLE))
    assert stored(world) is None
    with opened(world, resume=False) as writer:
        with pytest.raises(LookupError):
            writer.writelines(lines_that_end(WHOLE))
        writer.write(WHOLE)
    assert stored(world) == hashed(2 * WHOLE)


def test_no_descriptor_for_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(work: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncio, "run", run)
    with pytest.raises(OSError, match="Too many open files"):
        bigupload.open_writer(TO)


EXITS = """
import sys
import bigupload
from bigupload import events

def on_event(event):
    if isinstance(event, events.PartUploaded):
        raise SystemExit(7)

url, size, state, key, secret = sys.argv[1:]
s3 = bigupload.S3Options(endpoint_url=url, region="us-east-1", access_key=key, secret_key=secret)
writer = bigupload.open_writer("s3://bucket/exits", s3=s3, on_event=on_event, manifest=state, resume=False)
writer.write(bytes(int(size)))
writer.close()
print("not reached")
"""


@pytest.mark.slow
@each_case("size", [1_000, 300_000_000])
def test_an_on_event_that_exits_ends_the_program(world: World, tmp_path: Path, size: int) -> None:
    """It ends the loop at once. A write that waits for memory gets it, and so does a close."""
    credentials = next(iter(world.s3.credentials.values()))
    arguments = [world.s3.url, str(size), str(tmp_path / "m"), credentials.access_key, credentials.secret_key]
    command = [sys.executable, "-c", EXITS, *arguments]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (7, b"")
    assert "exits" not in world.s3.objects[BUCKET]


def test_the_store_refuses(world: World) -> None:
    """The writer that learns of it says so, and so does its close."""
    world.s3.script("UploadPart", Status(403, "AccessDenied"), repeat=True)
    writer = opened(world)
    with pytest.raises(bigupload.AccessDenied):
        writer.writelines(bytes(1 << 20) for _ in range(1000))
    with pytest.raises(bigupload.AccessDenied):
        writer.close()
    assert writer.closed
    writer.close()
    assert stored(world) is None


def test_a_target_that_exists(world: World) -> None:
    with opened(world) as writer:
        writer.write(WHOLE)
    options = world.options(if_none_match=True)
    with pytest.raises(bigupload.TargetExists), opened(world, s3=options, resume=False) as writer:
        writer.write(WHOLE)
    assert stored(world) == hashed(WHOLE)


def test_on_event_cannot_close_its_writer(world: World) -> None:
    refused: list[int] = []
    writers: list[Writer] = []

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.PartUploaded):
            with pytest.raises(bigupload.UsageError, match="on_event"):
                writers[0].close()
            refused.append(event.number)

    with opened(world, on_event=on_event) as writer:
        writers.append(writer)
        writer.write(WHOLE)
    assert len(refused) == PARTS
    writers.clear()


def test_on_event_may_write_to_another_writer(world: World) -> None:
    """The other one reads what is written in an event loop of its own."""
    with bigupload.open_writer(
        f"{TO}-log", s3=world.options(), resume=False, uploader=bigupload.Uploader(retry=FAST)
    ) as log:

        def on_event(event: events.Event) -> None:
            if isinstance(event, events.UploadStarted):
                log.write(WHOLE)

        with opened(world, on_event=on_event) as writer:
            writer.write(WHOLE)
    assert stored(world) == whole(world.s3.objects[BUCKET]["key-log"]) == hashed(WHOLE)


@each_case(
    "options, error",
    [
        ({"to": "s3://bucket/"}, "no name of its own"),
        ({"to": "http://bucket/key"}, "not a target"),
        ({}, "needs a target"),
        ({"to": TO, "on_error": "ignore"}, "'keep' or 'abort'"),
        ({"to": TO, "expected_size": -1}, "expected_size"),
        ({"to": TO, "text": 1}, "text must be True or False"),
        ({"to": TO, "text": True, "encoding": "klingon"}, "unknown encoding"),
        ({"to": TO, "encoding": "utf-8"}, "add `text=True`"),
        ({"to": TO, "concurrency": 0}, "concurrency"),
        ({"service": "http://127.0.0.1:9", "name": "a.mp4"}, "expected_size"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any], error: str) -> None:
    with pytest.raises(bigupload.UsageError, match=error):
        bigupload.open_writer(**of_function(options))


def test_unknown_options() -> None:
    with pytest.raises(TypeError, match="did you mean part_size"):
        bigupload.open_writer(TO, partsize=1)  # type: ignore[call-overload]  # what is refused


def test_expected_size_guards_the_end(world: World, tmp_path: Path) -> None:
    with pytest.raises(bigupload.StreamInterrupted, match="were expected"), opened(world, expected_size=SIZE) as writer:
        writer.write(WHOLE[:-1])
    assert stored(world) is None
