"""Writers: an object that a program writes like a file, which exists only if the writer was closed cleanly.

A writer is a stream that is pushed (`sources/producers`), uploaded by the one engine. Its end is `close`, or leaving
the block without an exception. Anything else, be it an exception, the garbage collector, a fork or the end of the
process, leaves the stream without an end, and so no object.

These are the writers of code in an event loop. `blocking_writer` has those of other code, which run one of these.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, cast

from bigupload import errors
from bigupload.api import checks, operations
from bigupload.api.arguments import (
    AbortOptions,
    OnError,
    UploadOptions,
    UploadSource,
    WriterOptions,
)
from bigupload.api.calls import OpenCall, UploadHandle
from bigupload.api.event_delivery import LOG, log_failure
from bigupload.api.resources import UploaderResources
from bigupload.api.sources import check_stream_options, shown, subject_of
from bigupload.engine.upload_run import UploadResult
from bigupload.sources.producers import PushedBytes, bytes_of_chunk
from bigupload.support.cancellation import run_shielded
from bigupload.units import printable

_ABORT_WITHIN = 10.0
"""Seconds for `on_error="abort"`. The program's own exception waits for it, and `gc` can do it later."""
NO_SEEK = (
    "can't seek: what was written may be in the store already. Write to a file on the disk, and upload that: "
    "bigupload.upload(path, to=…)"
)
_AGAIN = "writing the same bytes again, to the same target, sends only the rest"
_CUT_SHORT = f"because close was interrupted: {_AGAIN}"
_OUTCOMES = {"completing": "nobody knows whether the object was made", "completed": "the object was made"}
"""What is known of an object by the status of its manifest. In others, nothing was committed."""


def begin(resources: UploaderResources, options: WriterOptions) -> AsyncUploadWriter:
    """Start the upload of what will be written.

    Args:
        resources: Those of its `Uploader`.
        options: The caller's, with the target.

    Raises:
        UsageError: The options contradict one another.
    """
    checks.check_names("open_writer", options, WriterOptions)
    call = resources.calls.begin(options.get("on_event"))
    call.warnings += checks.check_target(options.get("to"), options.get("service"), options.get("s3"))
    aborts = checks.checked_choice(options.get("on_error", "keep"), "on_error", OnError) == "abort"
    given = {name: value for name, value in options.items() if name != "on_error"}
    # A clean end is a promise: a writer that was closed without a byte makes an empty object, as a file on a disk.
    of_upload = cast("UploadOptions", {**given, "allow_empty": True})
    settings = checks.settings_of(of_upload)
    check_stream_options(of_upload)
    pushed = PushedBytes()
    source = cast("UploadSource", pushed)  # no kind of source that others may give
    subject = subject_of(shown(source, of_upload), of_upload)

    async def upload() -> UploadResult:
        try:
            send = operations.upload(resources, call, source, settings, of_upload, digests={})
            return (await send)[0]
        except BaseException:
            if aborts and call.manifest is not None:
                await run_shielded(_abort(resources, call.manifest, options))
            raise

    async def work() -> UploadResult:
        try:
            with log_failure(subject):
                return await call.run(upload)  # which has no end without `pushed.finish`
        except BaseException as e:
            cancelled = isinstance(e, asyncio.CancelledError | GeneratorExit)
            pushed.stop(errors.UploadCancelled("cancelled: its task was cancelled") if cancelled else e)
            raise

    resources.calls.add(call)
    return AsyncUploadWriter(call, pushed, UploadHandle(call, subject, work), subject)


async def _abort(resources: UploaderResources, manifest: Path, options: WriterOptions) -> None:
    """Delete the parts that are in the store. What prevents it is logged: another exception is on its way."""
    call = OpenCall(resources.calls, None)
    given: AbortOptions = {"s3": options.get("s3"), "api_key": options.get("api_key")}
    try:
        async with asyncio.timeout(_ABORT_WITHIN):
            await operations.abort(resources, call, manifest, given)
    except (errors.BigUploadError, TimeoutError) as e:
        reason = str(e) or "the store does not respond"
        LOG.warning("the parts of %s stay in the store: %s. bigupload gc deletes them", manifest, reason)


class WriterReport:
    """The properties that all writers have."""

    _core: AsyncUploadWriter

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r}: it is one upload of this process")

    @property
    def result(self) -> UploadResult:
        """The result of the upload: the object and its proof.

        Raises:
            UsageError: The writer was not closed, or failed.
        """
        return self._core._known_result()

    @property
    def durable_offset(self) -> int:
        """Up to which byte everything that was written is in the store, and recorded: a kill does not lose that."""
        return self._core._durable()

    @property
    def manifest(self) -> Path | None:
        """The manifest's path, once there is one."""
        return self._core._handle.manifest


class AsyncUploadWriter(WriterReport):
    """An object that is written in an event loop: what `Uploader.open_writer` returns.

    ::

        async with uploader.open_writer("s3://bucket/rows.bin") as writer:
            async for chunk in chunks:
                await writer.write(chunk)
        print(writer.result.verified)

    Leaving the block completes and proves the object. If an exception leaves it, no object is made.
    """

    def __init__(self, call: OpenCall, pushed: PushedBytes, handle: UploadHandle, subject: str) -> None:
        """Applications get writers from `open_writer`."""
        self._core = self
        self._call = call
        self._pushed = pushed
        self._handle = handle
        self._subject = subject
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._opened_in = sys.exception()
        self._ending = asyncio.Lock()
        self._closed = False
        self._cut_short = False
        """Whether a close was interrupted or cancelled."""
        self._result: UploadResult | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closed

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.tell():,} bytes written"
        return f"<{type(self).__name__} {printable(self._subject)}: {state}>"

    def tell(self) -> int:
        """Return the number of bytes that were written."""
        return self._pushed.taken

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write bytes. Waits while the memory for parts is full.

        Returns:
            How many: all of them.

        Raises:
            ValueError: The writer is closed.
            TypeError: It is text.
            BigUploadError: The upload failed. Nothing was committed.
        """
        chunk = _bytes_of(data)
        self._check_open()
        await self._pushed.push_in_loop(chunk)
        return len(chunk)

    async def writelines(self, lines: Any) -> None:
        """Write each of an iterable's chunks."""
        for line in lines:
            await self.write(line)

    async def flush(self) -> None:
        """Do nothing: parts are sent as they are full. `durable_offset` is the number of bytes that the store has.

        Raises:
            ValueError: The writer is closed.
        """
        self._check_open()

    def seekable(self) -> bool:
        """False."""
        return False

    async def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Raise io.UnsupportedOperation: parts are sent as they are written."""
        raise io.UnsupportedOperation(NO_SEEK)

    async def close(self) -> None:
        """Complete the upload and prove the object. Idempotent.

        While an exception is handled, as in a `finally` that one has led to, it ends as leaving the block by that
        exception would: there is no object.

        Raises:
            BigUploadError: The upload failed.
            UploadCancelled: An earlier call was cancelled. The error says what is known of the object.
            UsageError: An exception is being handled that was not when the writer was opened.
        """
        await self._close(unwinding(self._opened_in))

    async def abandon(self) -> None:
        """End without an object, as an exception in the block does. Idempotent."""
        refuse_in_child(self._process)
        await self._end("its writer was abandoned")

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self._close(None)
        elif os.getpid() == self._process:
            was_open = not self._closed
            await self._end(f"{kind.__name__} left its block")
            if was_open and exception is not None:
                exception.add_note(self._fate())

    def __del__(self) -> None:
        if hasattr(self, "_result") and not self._closed and os.getpid() == self._process:
            self._let_go()
            warn_unclosed(self._subject, self)

    def _check_open(self) -> None:
        refuse_in_child(self._process)
        if self._closed:
            raise ValueError("write to a closed writer")

    async def _close(self, handled: BaseException | None) -> None:
        refuse_in_child(self._process)
        async with self._ending:
            if self._closed:
                self._refuse_if_cut_short()
            elif handled is not None:
                await self._end(f"close was called while {type(handled).__name__} was handled")
                raise errors.UsageError(refused_close(handled))
            else:
                await self._complete()

    async def _complete(self) -> None:
        try:
            await self._pushed.finish()
            self._closed = True
            self._result = await self._handle.result()
        except BaseException as e:
            self._cut_short |= not isinstance(e, errors.BigUploadError)
            await self._end("a write or close was interrupted")
            raise
        finally:
            self._opened_in = None

    async def _end(self, reason: str) -> None:
        """End the upload without an object, and wait for that. Raises nothing of the upload's."""
        self._closed = True
        self._opened_in = None
        self._stop(reason)
        await run_shielded(self._handle.aclose())

    def _stop(self, reason: str) -> None:
        self._call.stop(errors.UploadCancelled(f"{self._outcome()}, because {reason}"))

    def _let_go(self) -> None:
        """End the upload without an object, from any thread, without waiting."""
        self._closed = True
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the upload ended with it
            self._loop.call_soon_threadsafe(self._stop, "its writer was never closed")

    def _outcome(self) -> str:
        """Say what is known of the object of an upload that ends without a result."""
        return _OUTCOMES.get(self._call.status or "", "nothing was committed")

    def _fate(self) -> str:
        if self.manifest is None:
            return f"{self._outcome()}: {self._subject}"
        return f"{self._outcome()}: {self._subject}. The manifest is {self.manifest}; {_AGAIN}"

    def _refuse_if_cut_short(self) -> None:
        """Raise UploadCancelled in a second `close`, unless the first one had made the object, or said why not."""
        if self._cut_short and self._result is None:
            raise errors.UploadCancelled(f"{self._outcome()}, {_CUT_SHORT}", manifest=self.manifest)

    def _known_result(self) -> UploadResult:
        if self._result is not None:
            return self._result
        if self._cut_short:
            raise errors.UsageError(f"no result: {self._outcome()}, {_CUT_SHORT}")
        reason = "was closed without an object" if self._closed else "is not closed yet"
        raise errors.UsageError(f"no result: the writer {reason}")

    def _durable(self) -> int:
        if self._result is not None:
            return self._result.size
        return min(self._call.bytes_from_start, self.tell())


def _bytes_of(data: object) -> memoryview:
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes_of_chunk(data)
    try:
        return bytes_of_chunk(memoryview(data))  # type: ignore[arg-type]  # whatever has a buffer, as an array
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not {type(data).__name__!r}") from None


def refuse_in_child(process: int) -> None:
    """Raise UsageError in a process that was forked from the writer's."""
    if os.getpid() != process:
        raise errors.UsageError(
            f"this writer belongs to process {process}, which this one was forked from: open another one here"
        )


def unwinding(opened_in: BaseException | None) -> BaseException | None:
    """The exception that is being handled, if it was not when the writer was opened."""
    now = sys.exception()
    return None if now is opened_in else now


def refused_close(handled: BaseException) -> str:
    """Say why a close makes no object: an exception is being handled."""
    return (
        f"nothing was committed: close was called while {type(handled).__name__} was handled, so that the bytes may "
        "not be all. Close the writer outside `except` and `finally`, or let `with` do it"
    )


def warn_unclosed(subject: str, writer: object) -> None:
    if sys.is_finalizing():
        return
    message = f"{printable(subject)}: its writer was never closed, so that nothing was committed"
    LOG.warning("%s", message)
    warnings.warn(message, ResourceWarning, stacklevel=2, source=writer)
