"""What follows the proof of a file: steps, which a call does for each of its files in the order that it names.

A step is a value: `Digest`, `Link`, `Receipt`, `DeleteSource`, or an async function of the caller's. It takes a `Row`,
and returns one. Before anything is sent, each says what it can't do.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import dataclasses
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

from bigupload import errors
from bigupload.api.calls import OpenCall
from bigupload.api.types import Row as Row
from bigupload.api.types import UploadSource
from bigupload.api.types import Work as Work
from bigupload.batch.tree import Selection
from bigupload.engine.upload_run import UploadResult
from bigupload.records import dataclass

if TYPE_CHECKING:
    from bigupload.api.resources import UploaderResources
    from bigupload.batch.job import UploadFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """The call that a step belongs to."""

    function: Literal["upload", "upload_many", "sync", "watch"]
    options: Mapping[str, Any]
    """The caller's: `to`, `s3`, and the others."""
    resources: UploaderResources
    call: OpenCall
    deletes: bool
    """Whether one of its steps deletes the files."""


class OurStep(abc.ABC):
    """A step of ours. `Steps` knows the others only by what is declared here."""

    deletes: ClassVar[bool] = False
    """Whether it deletes the files."""
    precedes_deletion: ClassVar[bool] = True
    """Whether it comes before the step that deletes the files: it needs them, or says what became of them."""
    is_repeatable: ClassVar[bool] = False
    """Whether a call may have several of its kind."""
    wants_each: ClassVar[bool] = True
    """Whether it has work with a file that was in the store before."""
    reports_each: ClassVar[bool] = False
    """Whether such a file counts for it, even if it has no work."""
    algorithms: tuple[str, ...] = ()
    """The digests of whole files that it wants, as `file_digests.with_digests` takes them."""

    def check(self, options: Mapping[str, Any]) -> None:  # noqa: B027 - most steps fit any call
        """Raise UsageError for what it can't do in a call with these options. Nothing was sent."""

    def check_source(self, source: UploadSource) -> None:  # noqa: B027 - as above
        """Raise UsageError for a source that it can't be done with, before that is sent."""

    def check_beside(self, directory: str, selection: Selection) -> None:  # noqa: B027 - as above
        """Raise UsageError if it writes one of the files of a directory."""

    @abc.abstractmethod
    def opened(self, call: StepCall) -> contextlib.AbstractAsyncContextManager[Work]:
        """Open it for a call. Raises BigUploadError if it can't be done. Nothing was sent."""


class Deletion(Protocol):
    """A `DeleteSource` that is open: `delete_source.OpenDeleteSource`."""

    async def restore_below(self, *directories: str) -> None:
        """Give the files of directories that killed calls have set aside their names back. Raises SourceNotDeleted."""
        ...

    async def begin(self, path: str) -> None:
        """Look at a file before it is sent. Raises SourceNotDeleted if it is known that it can't be deleted."""
        ...

    async def gone(self, path: str, result: UploadResult) -> UploadResult:
        """Return the result of a file that an earlier run has uploaded, and that is gone. Raises ObjectMismatch."""
        ...


class Steps:
    """The steps of one call."""

    def __init__(
        self,
        then: object,
        resources: UploaderResources,
        call: OpenCall,
        options: Mapping[str, Any],
        function: Literal["upload", "upload_many", "sync", "watch"],
    ) -> None:
        """Check them; nothing is opened yet.

        Args:
            then: The steps, as the caller has named them.
            resources: The Uploader's resources.
            call: The call.
            options: The caller's.
            function: The function that was called.

        Raises:
            UsageError: One of them can't be done, or not in this order.
        """
        given = then if isinstance(then, Sequence) else () if then is None else (then,)
        self._steps = [each if isinstance(each, OurStep) else _Own(_checked(each)) for each in given]
        last = max((at for at, each in enumerate(self._steps) if each.precedes_deletion), default=0)
        if any(each.deletes for each in self._steps[:last]):
            raise errors.UsageError("`DeleteSource` comes after the digests, the links and the receipt: name it last")
        kinds = [type(each) for each in self._steps if not each.is_repeatable]
        if twice := next((kind for kind in kinds if kinds.count(kind) > 1), None):
            raise errors.UsageError(f"{twice.__name__} is there twice as a step: leave one out")
        self.deletes = any(each.deletes for each in self._steps)
        """Whether the files are deleted."""
        self._call = StepCall(function=function, options=options, resources=resources, call=call, deletes=self.deletes)
        for each in self._steps:
            each.check(options)
        self.digests = {name: True for each in self._steps for name in each.algorithms}
        """The digests of whole files that are wanted, as `file_digests.with_digests` takes them."""
        self.wants_each = any(each.wants_each for each in self._steps)
        """Whether each file has to be looked at by itself, also if it was in the store before."""
        self.reports_each = any(each.reports_each for each in self._steps)
        """Whether each file counts, also if it was in the store before."""
        self.deletion: Deletion | None = None
        self._opened: list[Work] = []
        self._exits: contextlib.AsyncExitStack | None = None

    def only_checked(self) -> Steps:
        """Return them for a call that sends nothing."""
        self._steps = []
        self.digests = {}
        return self

    def check_source(self, source: UploadSource) -> None:
        """Raise UsageError for a source that a step can't be done with."""
        for each in self._steps:
            each.check_source(source)

    def check_beside(self, directory: str, selection: Selection) -> None:
        """Raise UsageError if a step writes one of the files of a directory."""
        for each in self._steps:
            each.check_beside(directory, selection)

    async def __aenter__(self) -> Steps:
        if not self._steps:  # of a crowd of uploads, most have none
            return self
        async with contextlib.AsyncExitStack() as exits:
            for each in self._steps:
                work = await exits.enter_async_context(each.opened(self._call))
                self._opened.append(work)
                if each.deletes:
                    self.deletion = cast("Deletion", work)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        if self._exits is not None:
            await self._exits.__aexit__(*exc)

    async def __call__(self, row: Row) -> Row:
        """Do them for a file that is in the store. A BigUploadError of one of them is the file's, and ends them."""
        for work in self._opened:
            try:
                row = await work(row)
            except errors.BigUploadError as e:
                row = dataclasses.replace(row, error=e)
            if row.error is not None:
                break
        return row

    async def after(self, believed: Row | None, send: Callable[[], Awaitable[Row | None]]) -> Row | None:
        """Do them for a file that is believed to be in the store; or send it first.

        Args:
            believed: What a record says of the file; None: nothing.
            send: Sends it.
        """
        if believed is not None:
            row = await self(believed)
            if not self.is_outdated(row):
                return row
        sent = await send()
        return sent and await self(sent)

    def is_outdated(self, row: Row) -> bool:
        """Whether a file that was believed to be in the store is not: it is to be sent."""
        return self.deletes and isinstance(row.error, errors.ObjectMismatch)

    def failed(self, count: int) -> None:
        """So many files of the call are not in the store. For the receipt's sums."""
        for work in self._opened:
            if hasattr(work, "failed"):
                work.failed = count

    async def end(self) -> None:
        """All files are done. Raises OutputUnwritable if a receipt can't be completed."""
        for work in self._opened:
            if hasattr(work, "end"):
                await work.end()


@dataclass(frozen=True, slots=True)
class _Own(OurStep):
    """A step of the caller's own."""

    precedes_deletion = False
    is_repeatable = True
    reports_each = True

    function: Work

    @contextlib.asynccontextmanager
    async def opened(self, call: StepCall) -> AsyncIterator[Work]:
        yield self._work

    async def _work(self, row: Row) -> Row:
        try:
            returned = await self.function(row)
        except asyncio.CancelledError as e:
            task = asyncio.current_task()
            if task is None or task.cancelling():  # else something that the step waits for was cancelled, not the call
                raise
            raise RuntimeError("a step was cancelled, and its call was not") from e
        if not isinstance(returned, Row):
            raise errors.UsageError(f"a step returns the row, and this one returned {type(returned).__name__}")
        names = ("source", "path", "key", "fingerprint")
        if returned.result is None or any(getattr(returned, name) != getattr(row, name) for name in names):
            raise errors.UsageError(f"a step keeps a row's result, and its {', '.join(names)}")
        return returned


def _checked(step: object) -> Work:
    is_plain = inspect.isroutine(step) and not inspect.iscoroutinefunction(step)
    if is_plain or inspect.isclass(step) or not callable(step):
        what = f"{step.__name__}, which is not async" if inspect.isfunction(step) else type(step).__name__
        raise errors.UsageError(
            "a step is a Digest, Link, Receipt or DeleteSource, or an async function that takes a row and returns one, "
            f"not {step.__name__ if inspect.isclass(step) else what}"
        )
    return cast("Work", step)


def outcome_of(row: Row, *, full_key: str) -> UploadResult | UploadFailed:
    """Return what the caller of a call for many files gets. `full_key`: the key, if it is not in the store."""
    if row.error is not None:
        from bigupload.batch.job import UploadFailed

        return UploadFailed(source=row.source, key=full_key, error=row.error, retry_in=row.retry_in)
    return row.proved
