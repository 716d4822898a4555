"""The way of events to their readers: a caller's `on_event`, and `logging.getLogger("bigupload")`.

A reader may be slower than the upload, which does not wait. Events that it has not taken yet wait in a queue, in order.
What it holds is bounded: of `Progress`, `ReadingBack` and `JobProgress`, which report progress, only the newest of each
upload waits.

In the log, INFO has the outcome of each upload, for an operator; WARNING is for a person to read. DEBUG has one line
for each attempt: of a part from the engine, of any other request from the stores. No line holds a credential or a URL's
query.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from bigupload import errors, events
from bigupload.api.arguments import OnEvent
from bigupload.support.cancellation import run_shielded
from bigupload.units import counted, format_size, printable

if TYPE_CHECKING:
    from bigupload.verification.orphans import Orphan

LOG = logging.getLogger("bigupload")
LOG.addHandler(logging.NullHandler())  # else Python prints warnings of a library to standard error
MOST_WAITING = 10_000
"""Events that wait for one reader: as many as an upload has parts. Of more, which a reader that hangs lets come
together, the oldest are dropped."""
_SNAPSHOTS = (events.Progress, events.ReadingBack, events.JobProgress)


class EventQueue:
    """The events that one reader has not taken yet."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        """Start empty.

        Args:
            most: How many events may wait.
        """
        self._waiting: OrderedDict[int, events.Event] = OrderedDict()
        self._most = most
        self._count = 0
        self._snapshots: dict[events.UploadIdentity, int] = {}
        """The number of the waiting event that is the snapshot of an upload; each has at most one."""
        self._dropped = False
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, event: events.Event) -> None:
        """Add an event. It takes the place of an older snapshot."""
        self._count += 1
        if isinstance(event, _SNAPSHOTS):
            self._waiting.pop(self._snapshots.get(event.upload, -1), None)
            self._snapshots[event.upload] = self._count
        self._waiting[self._count] = event
        if len(self._waiting) > self._most:
            self.take()
            if not self._dropped:
                self._dropped = True
                LOG.warning("%d events wait because their reader is too slow: the oldest are dropped", self._most)
        self._changed.set()

    def take(self) -> events.Event | None:
        """Return the oldest event; None if no event waits."""
        if not self._waiting:
            return None
        number, event = self._waiting.popitem(last=False)
        if self._snapshots.get(event.upload) == number:
            del self._snapshots[event.upload]
        return event

    def clear(self) -> None:
        """Forget the events that wait."""
        self._waiting.clear()
        self._snapshots.clear()

    def close(self) -> None:
        """Mark the end of the events. Idempotent."""
        self._closed = True
        self._changed.set()

    def __aiter__(self) -> EventQueue:
        return self

    async def __anext__(self) -> events.Event:
        while not self._waiting and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        event = self.take()
        if event is None:
            raise StopAsyncIteration
        return event


_AROUND: contextvars.ContextVar[tuple[EventHandler, ...]] = contextvars.ContextVar("_AROUND", default=())
"""The handlers whose `on_event` began the present task."""


class EventHandler:
    """Calls `on_event` with one event at a time, in order, and awaits what it returns if that is awaitable.

    A plain function is called at once. While an awaitable is not done, the events after it wait in a queue.
    """

    def __init__(self, on_event: OnEvent | None, failed: Callable[[BaseException], None]) -> None:
        """Start without events.

        Args:
            on_event: The caller's function.
            failed: Called with what `on_event` or an awaitable raised. After that, `on_event` gets no more events.
        """
        self._on_event = on_event
        self._failed = failed
        self.error: BaseException | None = None
        """What `on_event` or an awaitable raised."""
        self._made: EventQueue | None = None
        self._first: Awaitable[object] | None = None
        self._task: asyncio.Task[None] | None = None
        self._busy = False
        """Whether the task runs. An eager task factory may run all of it before there is a `_task`."""

    def __call__(self, event: events.Event) -> None:
        """Handle an event. Raises what `on_event` raises when it is called."""
        if self._on_event is None:
            return
        if self._busy:
            self._queue.put(event)
            return
        token = self._enter()
        try:
            made = self._on_event(event)
        except BaseException as e:
            self._fail(e)
            raise
        finally:
            _AROUND.reset(token)
        if made is not None and inspect.isawaitable(made):
            self._first, self._busy = made, True
            self._task = asyncio.get_running_loop().create_task(self._catch_up(made))

    @property
    def _queue(self) -> EventQueue:
        """Made when it is needed: a thousand small uploads have no reader."""
        if self._made is None:
            self._made = EventQueue()
        return self._made

    @property
    def has_reader(self) -> bool:
        """Whether events are given to anybody."""
        return self._on_event is not None

    @property
    def is_current_task(self) -> bool:
        """Whether the caller is what `on_event` returned."""
        return self._busy and asyncio.current_task() is self._task

    @property
    def is_around(self) -> bool:
        """Whether the caller is what `on_event` returned, or a task that it began."""
        return self._busy and self in _AROUND.get()

    def _enter(self) -> contextvars.Token[tuple[EventHandler, ...]]:
        """Let the tasks that are begun from here on know it."""
        return _AROUND.set((*(each for each in _AROUND.get() if each._busy), self))

    async def _catch_up(self, first: Awaitable[object]) -> None:
        made: object = first
        self._enter()
        try:
            while True:
                if inspect.isawaitable(made):
                    await made
                event = self._queue.take()
                if event is None or self._on_event is None:
                    return
                made = self._on_event(event)
        except BaseException as e:
            if self._on_event is None and isinstance(e, asyncio.CancelledError):  # by aclose
                raise
            self._fail(e)
        finally:
            self._busy = False

    def _fail(self, e: BaseException) -> None:
        self._on_event, self.error = None, e
        self._failed(e)

    async def drain(self) -> None:
        """Wait until `on_event` has had every event, or its task was cancelled from outside before it began."""
        while self._busy and self._task is not None and not self._task.done():
            await asyncio.wait({self._task})

    def cancel(self) -> None:
        """Cancel what is under way. The events that wait are dropped, and `on_event` gets no more."""
        self._on_event = None
        if self._made is not None:
            self._made.clear()
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """Cancel what is under way, and await its end. Idempotent."""
        self.cancel()
        if self._busy and self._task is not None:
            await run_shielded(asyncio.wait({self._task}))
        if inspect.iscoroutine(self._first):  # the task may have been cancelled before it began with it
            self._first.close()


def log_event(event: events.Event) -> None:
    """Log an event, if its kind has a line."""
    line = _LINES.get(type(event))
    if line is not None and LOG.isEnabledFor(line[0]):
        of = event.upload
        is_of_one = bool(of.source or of.target)
        subject = f"{printable(f'{of.source} → {of.target}')}: " if is_of_one else ""
        LOG.log(line[0], "%s%s", subject, line[1](event))


@contextlib.contextmanager
def log_failure(subject: str) -> Iterator[None]:
    """Log how an upload ended if it did not complete."""
    try:
        yield
    except errors.UploadCancelled:
        LOG.info("%s: stopped; it can be resumed", printable(subject))
        raise
    except errors.BigUploadError as e:
        # Without a traceback: the error is foreseen, and the caller gets it too.
        LOG.log(logging.ERROR, "%s: failed: %s: %s%s", printable(subject), errors.name_of(e), e, _resumable(e))
        raise
    except BaseException as e:  # cancelled, or the caller's on_event raised
        LOG.info("%s: stopped (%s); it can be resumed", printable(subject), type(e).__name__)
        raise


def log_orphans(on_orphan: Callable[[Orphan], None] | None, *, dry_run: bool) -> Callable[[Orphan], None]:
    """Return a function that logs an orphaned upload that was aborted, and passes it on."""

    def log_orphan(orphan: Orphan) -> None:
        if not dry_run:
            place = printable(f"s3://{orphan.bucket}/{orphan.key}")
            LOG.info("%s: aborted the orphaned upload %s, %d bytes", place, orphan.upload_id, orphan.held)
        if on_orphan is not None:
            on_orphan(orphan)

    return log_orphan


def _resumable(e: errors.BigUploadError) -> str:
    return f" (resume {e.manifest})" if e.resumable and e.manifest is not None else ""


def _started(event: events.UploadStarted) -> str:
    what = "a stream" if event.size is None else format_size(event.size)
    if event.parts is None:
        what += " of unknown size"
    else:
        what += f" in {counted(event.parts, 'part')} of {format_size(event.part_size)}"
    if event.resumed_parts:
        what += f", resumed with {counted(event.resumed_parts, 'part')} in the store"
    return f"upload begins: {what}" + (f"; manifest {event.manifest}" if event.manifest is not None else "")


def _saved(event: events.UploadCompleted) -> str:
    if event.bytes_copied is None:
        return ""
    return f"; sent {format_size(event.bytes_sent)}, {format_size(event.bytes_copied)} copied by the store"


_LINES: dict[type[Any], tuple[int, Callable[[Any], str]]] = {
    events.UploadStarted: (logging.INFO, _started),
    events.Hashing: (logging.INFO, lambda e: f"hashing {counted(e.parts, 'part')} again: {e.reason}"),
    events.Restarted: (logging.WARNING, lambda e: f"begins again from the first part: {e.reason}"),
    events.Warned: (logging.WARNING, lambda e: e.message),
    events.OutageStarted: (
        logging.WARNING,
        lambda e: f"waiting for {e.peer}, for {e.gives_up_in:.0f} s at most: {e.reason}",
    ),
    events.OutageContinues: (
        logging.INFO,
        lambda e: f"still waiting after {e.lasted:.0f} s, for {e.gives_up_in:.0f} s at most: {e.reason}",
    ),
    events.OutageEnded: (logging.INFO, lambda e: f"{e.peer} responds again after {e.lasted:.0f} s"),
    events.PartUploaded: (
        logging.DEBUG,
        lambda e: f"part {e.number}: recorded, {e.size} bytes, proved by {e.proof}, attempt {e.attempt}",
    ),
    events.Retrying: (
        logging.DEBUG,
        lambda e: (
            f"{'request' if e.part is None else f'part {e.part}'}: attempt {e.attempt} failed, "
            f"the next one in {e.delay:.1f} s: {e.reason}"
        ),
    ),
    events.Completing: (logging.INFO, lambda e: f"completing {counted(e.parts, 'part')}"),
    events.UploadCompleted: (logging.INFO, lambda e: f"complete: {e.url}, proved by {e.verified}{_saved(e)}"),
    events.UploadSkipped: (logging.INFO, lambda e: f"skipped, the object is the file already: {e.url}"),
}
"""The level and the text of an event. Progress is not a line: it comes several times a second."""
