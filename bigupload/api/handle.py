"""`UploadHandle`: an upload that runs beside its caller, who may ask how far it is, await it or cancel it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

from bigupload import errors, events
from bigupload.api.calls import OpenCall, running_loop
from bigupload.api.event_delivery import LOG, EventQueue
from bigupload.engine.upload_run import UploadResult
from bigupload.units import printable

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
        self._progress = _advanced(self._progress, event)
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


def _advanced(progress: events.Progress, event: events.Event) -> events.Progress:
    """Return the progress of an upload after an event."""
    match event:
        case events.Progress():
            return event
        case events.UploadStarted():
            return events.Progress(
                upload=event.upload,
                bytes_uploaded=event.resumed_bytes,
                bytes_in_flight=0,
                size=event.size,
                parts_uploaded=event.resumed_parts,
                parts=event.parts,
                concurrency=progress.concurrency,
                retries=progress.retries,
            )
        case _:
            return progress
