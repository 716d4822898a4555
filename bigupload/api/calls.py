"""The calls of one `Uploader` that are under way: what they have in common, and how they are ended from outside.

The caller of an upload that runs beside it has an `UploadHandle`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bigupload import errors, events
from bigupload.api.arguments import OnEvent
from bigupload.api.event_delivery import LOG, EventHandler, EventQueue, log_event
from bigupload.core.manifest import Target, manifest_id
from bigupload.engine.upload_run import UploadResult
from bigupload.support.cancellation import Stoppable, run_shielded
from bigupload.support.files import OUT_OF_DESCRIPTORS, is_out_of_descriptors
from bigupload.units import printable, quoted

if TYPE_CHECKING:
    from bigupload.manifests.journal import FileJournal

R = TypeVar("R")


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop of the caller.

    Raises:
        UsageError: No asyncio task: the caller runs under trio, or outside a task.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise errors.UsageError(
            "bigupload needs a running asyncio event loop: use asyncio.run(…), or anyio.run(…, backend='asyncio'); "
            "under trio, call upload_sync or asyncio.run(…) in a thread"
        ) from None


class OpenCall:
    """One call of a method that is under way.

    It ends early if `stop` is called, or if the caller's async `on_event` fails.
    """

    def __init__(self, calls: CallRegistry, on_event: OnEvent | None) -> None:
        """Prepare a call; `run` makes it.

        Args:
            calls: The registry of its Uploader.
            on_event: The caller's function.
        """
        self.observers: list[Callable[[events.Event], None]] = []
        """Called with each event before the caller's function, which may be slow. They must not raise."""
        self.handler = EventHandler(on_event, self._end_by)
        self.ended = asyncio.Event()
        self.warnings: list[str] = []
        """Warnings about its arguments, which are emitted when it begins."""
        self.upload: events.UploadIdentity | None = None
        """The call's upload, from its first event on."""
        self._calls = calls
        self._journal: FileJournal | None = None
        self._scope = Stoppable()
        self._reason: BaseException | None = None
        """Why the scope was cancelled."""
        self._end_is_reported = False
        self._work_is_done = False
        self._whole: OpenCall | None = None
        """The call that this is a file of. Its observers get the file's events alone."""

    @property
    def manifest(self) -> Path | None:
        """The path of the upload's manifest, once there is one."""
        return self._journal.path if self._journal is not None and self._journal.exists else None

    @property
    def status(self) -> str | None:
        """The status of the upload's manifest, once there is one."""
        return None if self.manifest is None or self._journal is None else self._journal.manifest.status

    @property
    def bytes_from_start(self) -> int:
        """The number of bytes in recorded parts, from the first byte on and without a gap."""
        if self.manifest is None or self._journal is None:
            return 0
        parts, size, number = self._journal.manifest.parts, 0, 1
        while (record := parts.get(number)) is not None:
            size, number = size + record.size, number + 1
        return size

    @property
    def has_listeners(self) -> bool:
        """Whether there is an event handler, an observer or a log: without one, no events are made."""
        if self._whole is not None:
            return self._whole.has_listeners
        return bool(self.observers) or self.handler.has_reader or LOG.isEnabledFor(logging.INFO)

    @property
    def is_of_many(self) -> bool:
        """Whether it is one file of a call for many. Only its end is an event of that call if one PUT sends it."""
        return self._whole is not None

    @property
    def has_reader(self) -> bool:
        """Whether the caller gets events."""
        return self._whole.has_reader if self._whole is not None else self.handler.has_reader

    def for_one_file(self, *observers: Callable[[events.Event], None]) -> OpenCall:
        """Return the call of one of its files, and who observes that. Only `emit` and `emit_of` are used of it."""
        call = OpenCall(self._calls, None)
        call._whole = self
        call.observers += observers
        return call

    def observe(self, event: events.Event) -> None:
        """Give an event to the observers alone."""
        for observe in self.observers:
            observe(event)

    def emit(self, event: events.Event) -> None:
        """Log an event, and give it to observers and caller. Raises what a plain `on_event` raises."""
        self.observe(event)
        if self._whole is not None:
            self._whole.emit(event)
            return
        if event.upload == self.upload:
            self._end_is_reported = events.is_last(event)
        log_event(event)
        self.handler(event)

    def emit_as_own(self, event: events.Event) -> None:
        """Emit an event of a call without a manifest, or before it has one. A failure is reported for its upload."""
        self.upload = event.upload
        self.emit(event)

    def emit_of(self, source: str, target: Target, journal: FileJournal) -> Callable[[events.Event], None]:
        """Return a function that emits the events of an upload.

        Args:
            source: The source, as the manifest names it.
            target: The target.
            journal: The upload's manifest, open.
        """
        self._journal = journal
        identifier = journal.manifest.header.id if journal.exists else manifest_id(source, target)
        if self.upload is None or self.upload.id != identifier:  # one PUT may have been tried before: the same upload
            return self.emit_of_put(source, target, identifier, journal.path)
        return events.identified(self.upload, self.emit)

    def emit_of_put(
        self, source: str, target: Target, identifier: str, manifest: Path | None = None
    ) -> Callable[[events.Event], None]:
        """Return a function that emits the events of an upload that has no manifest, because one PUT sends it.

        Args:
            source: What a manifest would name it.
            target: Where to.
            identifier: The id of that manifest.
            manifest: Where it would be, if it may come to that.
        """
        self.upload = events.UploadIdentity(source=source, target=str(target), id=identifier, manifest=manifest)
        return events.identified(self.upload, self.emit)

    def stop(self, reason: errors.UploadCancelled) -> None:
        """Cancel the call: `run` raises `reason`. If the work is done, `run` only waits for `on_event` no longer."""
        if self._work_is_done:
            self.handler.cancel()
        else:
            self._end_by(reason)

    def _end_by(self, reason: BaseException) -> None:
        if not self._work_is_done:
            self._reason = reason if self._reason is None else self._reason
            self._scope.cancel()

    async def run(self, work: Callable[[], Awaitable[R]]) -> R:
        """Do the work of the call. The caller's `on_event` has had every event when it returns or raises an error.

        Raises:
            BaseException: What the work or `on_event` raised, or the reason of `stop`.
        """
        self._calls.add(self)
        try:
            with self._scope:
                try:
                    while self.warnings:
                        self.emit(events.Warned(message=self.warnings.pop(0)))
                    with _descriptors_for_modules():
                        result = await work()
                except BaseException as e:
                    await self._report_failure(e)
                    raise
                self._work_is_done = True
                await self.handler.drain()
                if self.handler.error is not None:
                    raise self.handler.error
                return result
            assert self._reason is not None
            raise self._reason
        except BaseException as e:
            self._add_what_resumes(e)
            raise
        finally:
            try:
                await self.handler.aclose()
            finally:
                self.end()

    async def _report_failure(self, e: BaseException) -> None:
        """Raises what `on_event` raised before. If it raises now, that is logged: it must not take the place of `e`."""
        self._work_is_done = True
        before = self.handler.error
        if self.upload is not None and not self._end_is_reported:  # else nobody waits for its end
            reason, resumable = type(e).__name__, True
            if isinstance(e, errors.BigUploadError):
                reason, resumable = str(e), e.resumable
            elif isinstance(e, asyncio.CancelledError):
                reason = "cancelled"
            with contextlib.suppress(Exception):  # the handler keeps it as `error`
                self.emit(events.UploadStopped(upload=self.upload, reason=reason, resumable=resumable))
        if isinstance(e, Exception):  # a cancelled caller waits for nobody
            await self.handler.drain()
            if before is not None:
                raise before
        if self.handler.error is not before:
            LOG.warning("the function for events failed after its call had failed", exc_info=self.handler.error)

    def _add_what_resumes(self, e: BaseException) -> None:
        """An error of this package has the manifest's path as an attribute; any other exception gets a note."""
        if self._journal is None or self.manifest is None:
            return
        if isinstance(e, errors.UploadCancelled):
            e.manifest = self.manifest
        elif not isinstance(e, errors.BigUploadError) and self._journal.manifest.completed is None:
            by_manifest = f"bigupload resume {quoted(str(self.manifest))}"
            alone = self._journal.manifest.source.can_be_opened
            how = by_manifest if alone else "by the same call with the same bytes"
            e.add_note(f"the upload can be resumed: {how}")

    def end(self) -> None:
        """Mark the call as ended. Idempotent."""
        self._calls.discard(self)
        self.ended.set()


@contextlib.contextmanager
def _descriptors_for_modules() -> Iterator[None]:
    """Raise an error of ours if no descriptor is left to load one of the modules that the work needs."""
    try:
        yield
    except (OSError, ImportError) as e:
        if not is_out_of_descriptors(e):
            raise
        raise errors.StoreUnreachable(f"{OUT_OF_DESCRIPTORS}, and try again") from e


class CallRegistry:
    """The registry of one `Uploader`: its calls that are under way, between `open` and `aclose`."""

    def __init__(self) -> None:
        self._calls: set[OpenCall] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = ""
        self._closed = False

    def open(self) -> None:
        """Allow calls, in the running event loop.

        Raises:
            UsageError: There is no asyncio event loop, or `open` was called before.
        """
        loop = running_loop()
        if self._loop is not None:
            raise errors.UsageError("this Uploader was entered before: create another one")
        self._loop, self._thread = loop, threading.current_thread().name

    @property
    def is_open(self) -> bool:
        """Whether `open` was called."""
        return self._loop is not None

    def check(self) -> None:
        """Raises UsageError unless a call may begin here and now."""
        loop = running_loop()
        if self._closed:
            raise errors.UsageError("this Uploader was closed: create another one")
        if self._loop is None:
            raise errors.UsageError(
                "this Uploader was not entered: use it inside `async with Uploader(…) as uploader:`"
            )
        if loop is not self._loop:
            raise errors.UsageError(
                f"this Uploader belongs to another event loop (in thread {self._thread}): "
                "create one for each event loop"
            )

    def begin(self, on_event: OnEvent | None = None) -> OpenCall:
        """Prepare a call. Raises UsageError as `check` does."""
        self.check()
        return OpenCall(self, on_event)

    def add(self, call: OpenCall) -> None:
        """Count a call. Idempotent."""
        self._calls.add(call)

    def discard(self, call: OpenCall) -> None:
        """Count a call no more. Idempotent."""
        self._calls.discard(call)

    def check_end(self) -> None:
        """Raises UsageError inside `on_event` of a running call, which waits for it: neither would ever end."""
        if any(call.handler.is_current_task for call in self._calls):
            raise errors.UsageError(
                "on_event can't close the Uploader, because its upload waits for on_event: close it after the upload"
            )

    async def aclose(self) -> None:
        """Allow no more calls, cancel those that are under way, and await their ends. Idempotent."""
        self._closed = True
        for call in list(self._calls):
            call.stop(
                errors.UploadCancelled("cancelled, because its Uploader was closed: await it inside `async with`")
            )
        around = {call for call in self._calls if call.handler.is_around}
        if self._calls - around:
            await run_shielded(self._ended(around))
        for call in around:  # its `on_event` may wait for this, and its end cancels `on_event`
            await call.ended.wait()

    async def _ended(self, but: set[OpenCall]) -> None:
        while calls := self._calls - but:
            await next(iter(calls)).ended.wait()


_NOTHING_YET = events.Progress(
    bytes_uploaded=0, bytes_in_flight=0, size=0, parts_uploaded=0, parts=0, concurrency=0, retries=0
)
_RUNNING: set[asyncio.Task[UploadResult]] = set()
"""asyncio itself does not keep a task that nobody refers to."""


class UploadHandle:
    """An upload that runs in a task of its own: what `start` returns.

    ::

        handle = uploader.start("movie.mov", to="s3://bucket/raw/")
        async for event in handle:
            print(handle.progress.bytes_uploaded, "of", handle.progress.size)
        result = await handle

    An error of the upload is raised by `result`, and also logged: it is not lost if nobody awaits the result.
    """

    def __init__(self, call: OpenCall, subject: str, work: Callable[[], Coroutine[Any, Any, UploadResult]]) -> None:
        """Start the upload. Applications get handles from `start`.

        Args:
            call: The call that the upload is.
            subject: File and target, for the log.
            work: What the task does.
        """
        self._call = call
        self._subject = subject
        self._progress = _NOTHING_YET
        self._readers: weakref.WeakSet[EventQueue] = weakref.WeakSet()
        self._waiting = 0
        self._loop, self._thread = running_loop(), threading.get_ident()
        call.observers.append(self._observe)
        self._task = self._loop.create_task(work(), name=f"bigupload {subject}")
        _RUNNING.add(self._task)
        self._task.add_done_callback(self._ended)

    @property
    def progress(self) -> events.Progress:
        """The progress of the upload, as of the last event: a few times a second. All zero until bytes are sent."""
        return self._progress

    @property
    def manifest(self) -> Path | None:
        """The manifest's path, which `resume` takes: once there is one, and also after the upload has ended."""
        return self._call.manifest

    def done(self) -> bool:
        """Whether the upload has ended, in whichever way."""
        return self._task.done()

    def __repr__(self) -> str:
        if not self.done():
            state = f"{self._progress.bytes_uploaded:,} bytes uploaded"
        elif self._task.cancelled() or self._task.exception() is not None:
            state = "failed"
        else:
            state = "complete"
        return f"<UploadHandle {printable(self._subject)}: {state}>"

    async def result(self) -> UploadResult:
        """Wait for the end of the upload. `await handle` is the same.

        If the task that waits is cancelled, the upload continues: `cancel` cancels it.

        Returns:
            Where the object is and how it was proved.

        Raises:
            UploadCancelled: The upload was cancelled, or its Uploader was closed. `error.manifest` is what `resume`
                takes.
            BigUploadError: The upload failed, as `upload` does.
            UsageError: The caller is in another event loop, or in the upload's own `on_event`.
        """
        self._check_caller()
        self._waiting += 1
        try:
            await asyncio.wait({self._task})
        finally:
            self._waiting -= 1
        if self._task.cancelled():
            raise errors.UploadCancelled("cancelled: its task was cancelled", manifest=self.manifest)
        return self._task.result()

    def __await__(self) -> Generator[Any, None, UploadResult]:
        return self.result().__await__()

    def __aiter__(self) -> AsyncIterator[events.Event]:
        """Iterate over the upload's events from now on, until it ends. An error of the upload is raised by `result`.

        A reader who is slower than the upload does not hold it up, and misses no event but `Progress`, of which it gets
        the newest.
        """
        self._check_caller()
        queue = EventQueue()
        if self._task.done():
            queue.close()
        self._readers.add(queue)
        return queue

    def cancel(self) -> None:
        """Cancel the upload, which can be resumed, and return at once. May be called in any thread. Idempotent."""
        reason = errors.UploadCancelled("cancelled: its handle's cancel was called")
        if threading.get_ident() == self._thread:
            self._call.stop(reason)
        elif not self._task.done():
            with contextlib.suppress(RuntimeError):  # the loop was closed just now, and the upload ended with it
                self._loop.call_soon_threadsafe(self._call.stop, reason)

    async def aclose(self) -> None:
        """Cancel the upload, and wait until it has ended. What `result` raises is not raised."""
        self._check_caller()
        self.cancel()
        await asyncio.wait({self._task})

    def _check_caller(self) -> None:
        if running_loop() is not self._loop:
            raise errors.UsageError("this upload belongs to another event loop: wait for it there")
        if self._call.handler.is_current_task:
            raise errors.UsageError("on_event can't wait for its own upload, which waits for it")

    def _observe(self, event: events.Event) -> None:
        if isinstance(event, events.Progress):
            self._progress = event
        elif isinstance(event, events.UploadStarted):
            self._progress = events.Progress(
                upload=event.upload,
                bytes_uploaded=event.resumed_bytes,
                bytes_in_flight=0,
                size=event.size,
                parts_uploaded=event.resumed_parts,
                parts=event.parts,
                concurrency=self._progress.concurrency,
                retries=self._progress.retries,
            )
        for queue in self._readers:
            queue.put(event)

    def _ended(self, task: asyncio.Task[UploadResult]) -> None:
        _RUNNING.discard(task)
        self._call.end()
        for queue in self._readers:
            queue.close()
        error = None if task.cancelled() else task.exception()  # retrieved: asyncio does not complain
        if error is not None and not isinstance(error, errors.BigUploadError) and not self._waiting:
            LOG.error("%s: failed", printable(self._subject), exc_info=error)
