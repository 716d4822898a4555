"""Writers for code without an event loop, or beside its own: a writer of `writer` in the event loop of a daemon thread.

The thread has no reference to the blocking writer, so that the garbage collector ends what nobody holds.
"""

from __future__ import annotations

import _thread
import asyncio
import codecs
import contextlib
import contextvars
import io
import os
import queue
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar, cast

from bigupload import errors
from bigupload.api import checks
from bigupload.api.arguments import TextOptions, UploaderOptions, WriterOptions
from bigupload.api.event_delivery import LOG
from bigupload.api.resources import UploaderResources
from bigupload.api.writer import (
    NO_SEEK,
    AsyncUploadWriter,
    WriterReport,
    begin,
    refuse_in_child,
    refused_close,
    unwinding,
    warn_unclosed,
)
from bigupload.support.daemon_threads import starting_threads
from bigupload.units import printable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

T = TypeVar("T")
_SMALL = 32 * 1024
"""Bytes of writes that are collected before Python sees them."""


class _Outcome(Generic[T]):
    """The result that another thread will have, or its error.

    The handler of a signal may raise in the main thread at any point. `threading` and `concurrent.futures` have waits
    and `with` blocks in Python, which that leaves with a lock that is released twice or never. This wait is one call of
    C, on a queue that nobody else uses.
    """

    def __init__(self) -> None:
        self._found: tuple[T | None, BaseException | None] | None = None
        self._waiting: list[queue.SimpleQueue[None]] = []

    def set(self, result: T | None = None, error: BaseException | None = None) -> None:
        """Let all that wait continue. The first call counts."""
        if self._found is None:
            self._found = result, error
        for each in self._waiting:
            each.put(None)

    def wait(self) -> T:
        """Return the result, or raise the error, once it is known."""
        called: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._waiting.append(called)
        if self._found is None:
            called.get()
        assert self._found is not None
        result, error = self._found
        if error is not None:
            raise error
        return cast("T", result)


class _LoopThread:
    """An event loop in a daemon thread of its own, with the resources of an `Uploader` and one writer.

    Writers do not share a loop: the `on_event` of one may write to another, and one that exits ends its loop.
    """

    writer: AsyncUploadWriter

    def __init__(self, shared: UploaderOptions, options: WriterOptions) -> None:
        """Start nothing yet.

        Args:
            shared: The options of the `Uploader`.
            options: Those of the writer.
        """
        self._shared = shared
        self._options = options
        self._opened: _Outcome[None] = _Outcome()
        self._completed: _Outcome[None] = _Outcome()
        self._ended: _Outcome[None] = _Outcome()
        self._released = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._let_go = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._serve,), name="bigupload writer", daemon=True
        )

    def start(self) -> None:
        """Start the thread, and wait for the writer.

        Raises:
            UsageError: The options contradict one another.
            OutOfThreads: The system has no thread left.
        """
        with starting_threads():
            _thread.start_new_thread(self._start, ())
        self._opened.wait()

    def _start(self) -> None:
        """In a thread that no signal's handler interrupts: `Thread.start` waits for the thread."""
        try:
            with starting_threads():
                self._thread.start()
        except BaseException as e:
            self._opened.set(error=e)

    def _serve(self) -> None:
        failure: BaseException = errors.UsageError("the writer has ended")
        work = self._run()
        try:
            asyncio.run(work)
        except BaseException as e:  # an `on_event` that exits ends the loop at once, whoever waits for its tasks
            failure = e
        work.close()  # no descriptor was left for a loop
        self._opened.set(error=failure)
        if hasattr(self, "writer"):
            self.writer._pushed.stop(failure)
        self._completed.set(error=failure)
        self._ended.set()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._released:
            return
        try:
            resources = UploaderResources(self._shared)
            resources.calls.open()
            try:
                self.writer = begin(resources, self._options)
                self._opened.set()
                await self._let_go.wait()
                await self.writer._end("its writer was not closed cleanly")
            finally:
                await resources.aclose()
        except BaseException as e:
            if hasattr(self, "writer"):
                LOG.error("the thread of a writer failed", exc_info=e)
            self._opened.set(error=e)

    def complete(self) -> None:
        """Close the writer, and wait for it. Raises what that raises, or what ended the thread before."""
        self._call(self._begin_to_close)
        self._completed.wait()

    def _begin_to_close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())

    async def _close(self) -> None:
        try:
            await self.writer.close()
        except Exception as e:
            self._completed.set(error=e)
        else:
            self._completed.set()

    def release(self) -> None:
        """End the thread, and what is under way in it. Returns at once. Idempotent."""
        self._released = True
        self._call(self._let_go.set)

    def join(self) -> None:
        """Wait until nothing of it is under way any more."""
        if not self.is_current:
            self._ended.wait()

    def _call(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, unless that has ended, or has not begun."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(function)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in it."""
        return threading.current_thread() is self._thread


class _RawWriter(io.RawIOBase):
    """Gives bytes to the upload in its thread. Closing it commits nothing."""

    def __init__(self, thread: _LoopThread) -> None:
        self._thread = thread
        self._pushed = thread.writer._pushed
        self._process = os.getpid()
        self.discards = False
        """Whether nobody has the writer any more: a wrapper that is collected writes what it still has, to nowhere."""

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._pushed.taken

    def write(self, data: Any, /) -> int:
        refuse_in_child(self._process)
        self.refuse_in_loop()
        view = memoryview(data).cast("B")
        if not self.discards:
            self._pushed.push(view)
        return len(view)

    def refuse_in_loop(self) -> None:
        """Raise UsageError in the thread that would read what is written."""
        if self._thread.is_current:
            raise errors.UsageError("on_event can't write to its own upload, or close it: the upload waits for it")


class UploadWriter(WriterReport, io.BufferedIOBase):
    """An object that is written like a binary file, from any thread: what `open_writer` returns.

    ::

        with bigupload.open_writer("s3://bucket/rows.parquet") as writer:
            frame.to_parquet(writer)
        print(writer.result.verified)

    Leaving the block completes and proves the object. If an exception leaves it, no object is made.
    """

    name: Any
    """Not there, as in `io.BytesIO`: libraries take it for a path. Type checkers want it of what a text wraps."""

    def __init__(self, thread: _LoopThread) -> None:
        """Applications get writers from `open_writer`."""
        self._thread = thread
        self._core = thread.writer
        self._process = os.getpid()
        self._opened_in = sys.exception()
        self._closing = threading.RLock()
        self._write_lock = threading.RLock()
        """Held during a write: while a thread waits for the lock of `_buffer`, Python runs no signal handlers."""
        self._raw = _RawWriter(thread)
        self._buffer = io.BufferedWriter(self._raw, _SMALL)
        """Collects small writes, and hands on large ones without a copy."""

    @property
    def closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._raw.closed

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.tell():,} bytes written"
        return f"<{type(self).__name__} {printable(self._core._subject)}: {state}>"

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Return the number of bytes that were written."""
        return self._raw.tell() if self.closed else self._buffer.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Raise io.UnsupportedOperation: parts are sent as they are written."""
        raise io.UnsupportedOperation(NO_SEEK)

    def truncate(self, size: int | None = None, /) -> int:
        """Raise io.UnsupportedOperation: parts are sent as they are written."""
        raise io.UnsupportedOperation(NO_SEEK)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes. Waits while the memory for parts is full.

        Returns:
            How many: all of them.

        Raises:
            ValueError: The writer is closed.
            TypeError: It is text.
            BigUploadError: The upload failed. Nothing was committed.
        """
        is_locked = False
        try:
            with self._write_lock:
                is_locked = True
                return self._buffer.write(data)
        except ValueError:
            if self.closed or self._buffer.raw is None:
                raise ValueError("write to a closed writer") from None
            raise
        except (TypeError, BufferError, RuntimeError, errors.BigUploadError):
            raise
        except BaseException:  # of a signal's handler, perhaps when the bytes had been collected
            if is_locked:
                self._core._pushed.torn = True
            raise

    def flush(self) -> None:
        """Do nothing: parts are sent as they are full. `durable_offset` is the number of bytes that the store has.

        Raises:
            ValueError: The writer is closed.
        """
        if self.closed:
            raise ValueError("flush of a closed writer")

    def close(self) -> None:
        """Complete the upload and prove the object. Idempotent.

        While an exception is handled, as in a `finally` that one has led to, it ends as leaving the block by that
        exception would: there is no object.

        Raises:
            BigUploadError: The upload failed.
            UploadCancelled: An earlier call was interrupted. The error says what is known of the object.
            UsageError: An exception is being handled that was not when the writer was opened.
        """
        self._close(unwinding(self._opened_in))

    def abandon(self) -> None:
        """End without an object, as an exception in the block does. Idempotent."""
        refuse_in_child(self._process)
        self._end()

    def __enter__(self) -> Self:
        if self.closed:
            raise ValueError("the writer is closed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._close(None)
        elif os.getpid() == self._process:
            was_open = not self.closed
            self._end()
            if was_open and exception is not None:
                exception.add_note(self._core._fate())

    def __del__(self) -> None:
        if hasattr(self, "_buffer"):
            self._dealloc_warn(self)
            self._raw.close()

    def _dealloc_warn(self, source: object) -> None:
        """End without an object: the garbage collector found the writer, or what wraps it, before it was closed.

        `io.TextIOWrapper` and its like call this before they close what they wrap, when they are collected.
        """
        if self.closed or self._raw.discards:
            return
        self._raw.discards = True
        if os.getpid() == self._process:
            self._thread.release()
            warn_unclosed(self._core._subject, source)

    def _close(self, handled: BaseException | None, flush: Callable[[], object] = int) -> None:
        if self._raw.discards:
            self._raw.close()
            return
        refuse_in_child(self._process)
        self._raw.refuse_in_loop()
        with self._closing:
            if self.closed:
                self._core._refuse_if_cut_short()
                return
            try:
                if handled is not None:
                    raise errors.UsageError(refused_close(handled))
                self._hand_on_all(flush)
                self._thread.complete()
            except BaseException as e:
                self._core._cut_short |= not isinstance(e, errors.BigUploadError)
                raise
            finally:
                self._end()

    def _hand_on_all(self, flush: Callable[[], object]) -> None:
        """Flush, and take no other thread's write from now on."""
        if self._buffer.raw is not None:  # else a close that was interrupted has done it
            flush()
            with self._write_lock:
                self._buffer.detach()

    def _end(self) -> None:
        """End the upload, if it has not, and the thread. Without the lock, which a close that waits has."""
        self._thread.release()  # first: a call that was interrupted behind `close` would not be made again
        self._raw.close()
        self._opened_in = None
        self._thread.join()


_STATELESS = frozenset({"ascii", "cp1252", "iso8859-1", "iso8859-15", "utf-8"})
"""Encodings whose encoder is the same after an error."""
_write_text = io.TextIOWrapper.write  # `super()` would take as long as the write of a line


class TextUploadWriter(WriterReport, io.TextIOWrapper):
    """An object that is written like a text file: what `open_writer(text=True)` returns.

    `durable_offset` counts bytes.
    """

    buffer: UploadWriter

    def __init__(self, writer: UploadWriter, encoding: str | None, newline: str | None) -> None:
        """Applications get writers from `open_writer`."""
        # Python writes the byte order mark of UTF-16 only where it could seek: _textiowrapper_fix_encoder_state in
        # https://github.com/python/cpython/blob/main/Modules/_io/textio.c
        writer.seekable = lambda: True  # type: ignore[method-assign]  # of this one object
        super().__init__(writer, encoding or "utf-8", newline=newline)
        del writer.seekable
        self._core = writer._core

    def write(self, text: str, /) -> int:
        """Write text. See `UploadWriter.write`.

        Raises:
            UnicodeEncodeError: The encoding has no such character. Nothing of `text` was written. With an encoding that
                has a state, as UTF-16 has, there will be no object.
        """
        try:
            return _write_text(self, text)
        except TypeError:
            raise
        except BaseException as e:
            # As of Ctrl-C: the encoder has gone on, and Python has dropped what it had collected.
            if isinstance(e, UnicodeEncodeError) and codecs.lookup(self.encoding).name in _STATELESS:
                raise
            self._core._pushed.torn = True
            raise

    def flush(self) -> None:
        """Hand on what was collected. `durable_offset` is the number of bytes that the store has."""
        try:
            super().flush()
        except BaseException:
            self._core._pushed.torn = True
            raise

    def detach(self) -> NoReturn:
        """Raise io.UnsupportedOperation: the block would have nothing to close."""
        raise io.UnsupportedOperation("can't detach: open the writer without `text=True`, for bytes")

    def seek(self, cookie: int, whence: int = io.SEEK_SET, /) -> int:
        """Raise io.UnsupportedOperation: parts are sent as they are written."""
        raise io.UnsupportedOperation(NO_SEEK)

    def close(self) -> None:
        """See `UploadWriter.close`."""
        self._close(unwinding(self.buffer._opened_in))

    def abandon(self) -> None:
        """See `UploadWriter.abandon`."""
        self.buffer.abandon()

    def __enter__(self) -> Self:
        self.buffer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._close(None)
        else:
            self.buffer.__exit__(kind, exception, traceback)

    def __del__(self) -> None:
        with contextlib.suppress(ValueError, AttributeError):  # it was never made
            self.buffer._dealloc_warn(self)

    def _close(self, handled: BaseException | None) -> None:
        self.buffer._close(handled, self.flush)


def open_in_thread(
    shared: UploaderOptions, options: WriterOptions, text: TextOptions
) -> UploadWriter | TextUploadWriter:
    """Open a writer for code without an event loop, or beside its own.

    Args:
        shared: The options of an `Uploader`.
        options: Those of the writer.
        text: Whether text is written, and how.

    Raises:
        UsageError: The options contradict one another.
    """
    _check_text(text)
    thread = _LoopThread(shared, options)
    try:
        thread.start()
        writer = UploadWriter(thread)
        if text.get("text", False):
            return TextUploadWriter(writer, text.get("encoding"), text.get("newline"))
        return writer
    except BaseException:
        thread.release()
        raise


def _check_text(text: TextOptions) -> None:
    checks.check_types(text, TextOptions)
    encoding, newline = text.get("encoding"), text.get("newline")
    if not text.get("text", False):
        if encoding is not None or newline is not None:
            raise errors.UsageError("`encoding` and `newline` are for text: add `text=True`, or leave them out")
        return
    try:
        io.TextIOWrapper(io.BytesIO(), encoding, newline=newline)
    except (LookupError, ValueError) as e:
        raise errors.UsageError(f"invalid `encoding` or `newline`: {e}") from None
