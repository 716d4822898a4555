"""What follows the proof of a file: steps, which a call does for each of its files in the order that it names.

A step is a value: `Digest`, `Link`, `Receipt`, `DeleteSource`, or an async function of the caller's. It takes a `Row`,
and returns one. Before anything is sent, each says what it can't do.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from bigupload import errors
from bigupload.api.calls import OpenCall
from bigupload.api.types import Row as Row
from bigupload.api.types import Step, UploadSource
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


class OpenableStep(Step, Protocol):
    """A step that can be opened."""

    def opened(self, call: StepCall) -> contextlib.AbstractAsyncContextManager[Work]:
        """Open it for a call. Raises BigUploadError if it can't be done. Nothing was sent."""
        ...


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
        self._steps: list[Any] = [each if _is_ours(each) else _Own(_checked(each)) for each in given]
        kinds = [type(each).__name__ for each in self._steps]
        last = max((at for at, kind in enumerate(kinds) if kind in ("Digest", "Link", "Receipt")), default=0)
        if "DeleteSource" in kinds[:last]:
            raise errors.UsageError("`DeleteSource` comes after the digests, the links and the receipt: name it last")
        if twice := next((kind for kind in kinds if kind not in ("_Own", "Digest") and kinds.count(kind) > 1), None):
            raise errors.UsageError(f"{twice} is there twice as a step: leave one out")
        self._call = StepCall(
            function=function, options=options, resources=resources, call=call, deletes="DeleteSource" in kinds
        )
        for each in self._steps:
            each.check(options)
        self.digests: dict[str, bool] = {
            name: True for each in self._steps if kinds and hasattr(each, "algorithms") for name in each.algorithms
        }
        """The digests of whole files that are wanted, as `file_digests.with_digests` takes them."""
        self.deletes = self._call.deletes
        """Whether the files are deleted."""
        self.wants_each = any(kind in ("Digest", "Link", "DeleteSource", "_Own") for kind in kinds)
        """Whether each file has to be looked at by itself, also if it was in the store before."""
        self.reports_each = "Receipt" in kinds or "_Own" in kinds
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
            if hasattr(each, "check_beside"):
                each.check_beside(directory, selection)

    async def __aenter__(self) -> Steps:
        if not self._steps:  # of a crowd of uploads, most have none
            return self
        async with contextlib.AsyncExitStack() as exits:
            for each in self._steps:
                work = await exits.enter_async_context(each.opened(self._call))
                self._opened.append(work)
                if each.__class__.__name__ == "DeleteSource":
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
class _Own:
    """A step of the caller's own."""

    function: Work

    def check(self, options: Mapping[str, Any]) -> None:
        pass

    def check_source(self, source: UploadSource) -> None:
        pass

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


def _is_ours(step: object) -> bool:
    return hasattr(step, "opened") and not inspect.isclass(step)


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
