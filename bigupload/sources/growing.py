"""A file that something still writes: its parts are complete one after another, until nothing is written."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable

from bigupload import errors
from bigupload.core.part_plan import Part, Plan
from bigupload.ports import Stream
from bigupload.sources.file import FileSource, fingerprint_of, open_in_thread
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.files import reason_of
from bigupload.units import format_seconds

_LOOK_EVERY = 0.5
"""Seconds between two looks at a file that has no complete part yet. A look is two calls of stat."""


class GrowingFile(FileSource):
    """A regular file whose end nobody knows yet. Implements `ports.Source` and `ports.Stream`.

    All of it can be read again, and all of it may be rewritten until it has settled.
    """

    is_growing = True
    expected: int | None = None
    end_marker: str | None = None

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        idle: float,
        allow_empty: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Open the file.

        Args:
            path: The file. A symbolic link is followed.
            idle: Seconds without a change after which the file has ended.
            allow_empty: Whether it may end without bytes.
            clock: Seconds from any start.
            sleep: Waits the given seconds.

        Raises:
            SourceError: As `FileSource`.
        """
        super().__init__(path)
        self.stream: Stream | None = self
        self.position = 0
        self._idle = idle
        self._allow_empty = allow_empty
        self._clock = clock
        self._sleep = sleep
        self._threads = asyncio.Semaphore(1)
        self._looking = threading.Lock()
        self._quiet_since = clock()
        self._parts = 0
        self._ended = False
        self._settled = self.fingerprint

    # -- ports.Stream

    async def begin(self) -> None:
        """Wait for the first bytes.

        Raises:
            StreamInterrupted: None came.
        """
        while not self.fingerprint.size and not self._allow_empty:
            if self._is_quiet():
                raise errors.StreamInterrupted(
                    f"{self.path} is empty, and nothing was written to it for {format_seconds(self._idle)}: did its "
                    "writer fail? `allow_empty=True` uploads an empty object",
                    lasting=True,
                )
            await self._sleep(_LOOK_EVERY)
            await self._look()

    async def next_part(self, plan: Plan) -> Part | None:
        """Wait until the next part is complete, or the file has ended. See `ports.Stream.next_part`."""
        if self._ended:
            return None
        planned = plan.part(self._parts + 1) if self._parts < plan.count else None
        looked = False
        while True:
            self._require_room(plan)
            if planned is not None and 0 < planned.size <= self.fingerprint.size - planned.offset:
                return self._give(planned)
            if looked and self._is_quiet():
                return self._end(plan, planned)
            if looked:
                await self._sleep(_LOOK_EVERY)
            await self._look()
            looked = True

    async def rewind(self) -> bool:
        """Begin again with the first part, which is possible at any time. See `ports.Stream.rewind`."""
        self.position = self._parts = 0
        self._ended = False
        return True

    async def is_settled(self) -> bool:
        """Whether nothing was written since the file ended. See `ports.Stream.is_settled`."""
        await self._look()
        return self._ended and self.fingerprint == self._settled

    def _give(self, part: Part) -> Part:
        self._parts = part.number
        self.position = part.offset + part.size
        return part

    def _end(self, plan: Plan, planned: Part | None) -> Part | None:
        """The file has ended. Returns its last part, if that is smaller than planned."""
        size = self.fingerprint.size
        if plan.size is not None and size < plan.size:
            raise self._another_size(plan.size)
        self._ended, self._settled = True, self.fingerprint
        if planned is None or (size <= planned.offset and planned.number > 1):
            return None
        return self._give(Part(planned.number, planned.offset, size - planned.offset))

    def _require_room(self, plan: Plan) -> None:
        """Raises SourceError if the file is longer than its plan."""
        size = self.fingerprint.size
        if plan.size is not None and size > plan.size:
            raise self._another_size(plan.size)
        if plan.size is None and size > plan.capacity:
            raise errors.SourceUnsupported(
                f"{self.path} is longer than {plan.capacity:,} bytes, the most that {plan.count:,} parts hold while "
                "the size is unknown: upload it when nothing writes to it, with `resume=False`"
            )

    def _another_size(self, began: int) -> errors.SourceChanged:
        return errors.SourceChanged(
            f"{self.path} has {self.fingerprint.size:,} bytes now and had {began:,} when its upload began, without "
            "`follow`: nothing was changed. To start anew: `resume=False`",
            same_size=False,
        )

    def _is_quiet(self) -> bool:
        return self._clock() - self._quiet_since >= self._idle

    async def _look(self) -> None:
        if self.on_local_disk:
            self.check()
        else:
            await run_in_daemon_thread(self.check, self._threads)

    # -- ports.Source

    def check(self) -> None:
        """Look at the file, which may have grown. Blocking. See `ports.Source.check`.

        Raises:
            SourceChanged: It became shorter, or another file has its name.
            SourceUnreadable: The file system fails.
        """
        with self._looking:  # an older look must not come after a newer one, as if the file had been truncated
            self._check()

    def _check(self) -> None:
        try:
            opened = os.fstat(self.fileno())
        except OSError as e:
            raise errors.SourceUnreadable(f"can't read {self.path}: {reason_of(e)}") from e
        try:
            named = os.stat(self.path)  # noqa: PTH116 - faster than pathlib, and called once a part
        except OSError:  # renamed by its writer, or deleted: the open descriptor still reads all of it
            named = None
        self.is_away = named is None
        if named is not None and not os.path.samestat(opened, named):
            raise errors.SourceChanged(
                f"{self.path} was replaced by another file while it was followed, and nothing was completed: make the "
                "same call again to follow the new file; if it does not begin with the same bytes, add `resume=False`",
                same_size=True,
            )
        before, now = self.fingerprint, fingerprint_of(opened)
        if now.size < before.size:
            raise errors.SourceChanged(
                f"{self.path} was truncated while it was followed: it had {before.size:,} bytes, and has {now.size:,}. "
                "Nothing was completed: to upload it as it is now, use `resume=False`",
                same_size=False,
            )
        if now != before:
            self.fingerprint = self._newest = now
            self._quiet_since = self._clock()


async def open_growing(path: str | os.PathLike[str], *, idle: float, allow_empty: bool = False) -> GrowingFile:
    """Open a file that something still writes, in a thread, and wait for its first bytes.

    Args:
        path: The file.
        idle: Seconds without a change after which the file has ended.
        allow_empty: Whether it may end without bytes.

    Raises:
        SourceError: It can't be opened, or nothing is written to it.
    """
    source = await open_in_thread(lambda: GrowingFile(path, idle=idle, allow_empty=allow_empty))
    try:
        await source.begin()
    except BaseException:
        source.close()
        raise
    return source
