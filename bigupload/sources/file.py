"""The file to upload: ranges of one open descriptor, and the fingerprint that shows whether the file has changed.

`GrowingFile` is one that something still writes: its parts are complete one after another, until nothing is written.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import stat
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from bigupload import errors
from bigupload.core.manifest import Fingerprint, SourceKind
from bigupload.core.part_plan import Part, Plan
from bigupload.ports import Source, Stream
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.files import reason_of
from bigupload.support.pages import is_on_local_disk
from bigupload.support.systems import change_time, close_read, is_missing, open_binary, read_at
from bigupload.units import format_seconds

S = TypeVar("S", bound=Source)


class FileSource:
    """A regular file, opened once. Implements `ports.Source`.

    `check` compares the fingerprint of the open descriptor and that of the path: a file that was replaced by a rename
    is another file, although the descriptor still reads the old one. A file that was moved or deleted is still the file
    that was to be uploaded.
    """

    kind = SourceKind.FILE
    stream: Stream | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file.

        Args:
            path: The file. A symbolic link is followed.

        Raises:
            SourceNotFound: There is no such file.
            SourceUnreadable: The file can't be opened or read.
            SourceUnsupported: It is not a regular file, or it has no known length.
        """
        self.path = os.path.abspath(path)  # noqa: PTH100 - removes "..", so that one file has one manifest
        try:
            self._require_regular(Path(self.path).stat())
            # O_NONBLOCK: if a pipe takes the file's place right now, open must not wait for its writer.
            self._fd = open_binary(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except ValueError:  # a NUL in it
            raise errors.SourceNotFound(f"no file can have this name: {errors.IT}", it=repr(str(path))) from None
        except OSError as e:
            if is_missing(e):
                from bigupload.support.files import shown, why_missing

                name = os.fspath(path)
                raise errors.SourceNotFound(f"no such file: {errors.IT}{why_missing(name)}", it=shown(name)) from None
            raise errors.SourceUnreadable(f"can't read {errors.IT}: {reason_of(e)}", it=path) from e
        self._lock = threading.Lock()
        self._readers = 0
        self._closed = False
        self.is_away = False
        try:
            status = os.fstat(self._fd)
            self._require_regular(status)
            self.fingerprint = self._newest = fingerprint_of(status)
            self._require_true_size()
            self.on_local_disk = is_on_local_disk(self._fd)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_regular(self, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            raise errors.SourceUnsupported(
                f"{errors.IT} is a directory, and this is for one file: name one of those in it. In Python, "
                "upload_many(select_files(directory)) uploads all of them",
                it=self.path,
            )
        if not stat.S_ISREG(status.st_mode):
            raise errors.SourceUnsupported(
                f"{errors.IT} is not a regular file: copy it into one first, or upload "
                "what it gives as a stream (bigupload upload - < FILE; in Python, an opened file)",
                it=self.path,
            )

    def _require_true_size(self) -> None:
        """Refuse a file that has more bytes than its size, as files in /proc and of some FUSE file systems do."""
        size = self.fingerprint.size
        try:
            more = self._read(memoryview(bytearray(1)), size)
        except OSError as e:
            raise errors.SourceUnreadable(f"can't read {errors.IT} at its end: {reason_of(e)}", it=self.path) from e
        if more and os.fstat(self._fd).st_size == size:
            raise errors.SourceUnsupported(
                f"{errors.IT} has more bytes than its size of {size:,}, as files in /proc do: "
                "copy it into a regular file and upload that",
                it=self.path,
            )

    async def hold(self, part: Part, *, wait: bool = True) -> bool:
        """Nothing to do: any range can be read. See `ports.Source.hold`."""
        return True

    def release(self, part: Part) -> None:
        """Nothing to do. See `ports.Source.release`."""

    def fileno(self) -> int:
        """The descriptor. Its position is not used."""
        return self._fd

    def view(self, offset: int, size: int) -> None:
        """None: a file is not in memory."""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` with the bytes from `offset` on. See `ports.Source.read_into`."""
        done = 0
        with self._lock:
            if self._closed:
                raise errors.SourceUnreadable(f"can't read {errors.IT}: it was closed", it=self.path)
            self._readers += 1
        try:
            while done < len(buffer):
                count = self._read(buffer[done:], offset + done)
                if count == 0:
                    break
                done += count
        except OSError as e:
            raise errors.SourceUnreadable(
                f"can't read {errors.IT} at byte {offset + done:,}: {reason_of(e)}", it=self.path
            ) from e
        finally:
            with self._lock:
                self._readers -= 1
                self._close_if_unused()
        return done

    def _read(self, buffer: memoryview, offset: int) -> int:
        return read_at(self._fd, buffer, offset)

    def check(self) -> None:
        """Compare the file with its fingerprint. Blocking. See `ports.Source.check`."""
        opened, named = self._statuses()
        for status in (opened, named):
            if status is not None and not self._is_unchanged(status):
                same_size = status.st_size == self.fingerprint.size
                advice = (
                    "resume when nothing writes to it, and the parts that did not change are kept"
                    if same_size
                    else f"it has another size now; {errors.UPLOAD_AS_IT_IS}"
                )
                raise errors.SourceChanged(
                    f"{errors.IT} changed while it was uploaded: {advice}", it=self.path, same_size=same_size
                )
        self._require_true_size()

    def _statuses(self) -> tuple[os.stat_result, os.stat_result | None]:
        """The metadata of the open descriptor, and of the path; None: it was moved, maybe for a moment only."""
        try:
            opened = os.fstat(self._fd)
        except OSError as e:  # a network file system that has forgotten the descriptor
            raise errors.SourceUnreadable(f"can't read {errors.IT}: {reason_of(e)}", it=self.path) from e
        try:
            named = os.stat(self.path)  # noqa: PTH116 - faster than pathlib, and called once a part
        except OSError:  # moved or deleted: the open descriptor reads the same file
            named = None
        self.is_away = named is None
        return opened, named

    def _is_unchanged(self, status: os.stat_result) -> bool:
        now = fingerprint_of(status)
        if now in (self.fingerprint, self._newest):
            return True
        # chmod, links, renames, extended attributes and `touch -a` change the ctime alone. So does whoever writes bytes
        # and restores the mtime.
        if dataclasses.replace(now, ctime_ns=self.fingerprint.ctime_ns) == self.fingerprint:
            self._newest = now
            return True
        return False

    @property
    def metadata_changed(self) -> bool:
        """Whether `check` found another ctime. See `ports.Source.metadata_changed`."""
        return self._newest != self.fingerprint

    def accept_metadata(self) -> None:
        """Take the ctime that `check` found for the file's. See `ports.Source.accept_metadata`."""
        self.fingerprint = self._newest

    def close(self) -> None:
        """Close the file, once no thread reads it any more. May be called again."""
        with self._lock:
            self._closed = True
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        """Close after the last read: its number could otherwise become another file's while a thread still uses it."""
        if self._closed and not self._readers and self._fd >= 0:
            fd, self._fd = self._fd, -1
            close_read(fd)


async def open_file(path: str | os.PathLike[str]) -> FileSource:
    """Open a file in a thread, because a network file system may hang. Raises what `FileSource` raises."""
    return await open_in_thread(lambda: FileSource(path))


async def open_in_thread(open_source: Callable[[], S]) -> S:
    """Call a blocking function that opens a source.

    A cancelled caller returns at once. The thread is left behind, and closes what it may open later.
    """
    opened: list[S] = []
    cancelled = False

    def open_it() -> S:
        source = open_source()
        opened.append(source)
        if cancelled:
            source.close()
        return source

    try:
        return await run_in_daemon_thread(open_it)
    except asyncio.CancelledError:
        cancelled = True
        for source in opened:  # it was opened just now, and the caller does not get it
            source.close()
        raise


def fingerprint_of(status: os.stat_result) -> Fingerprint:
    """The fingerprint of a file."""
    return Fingerprint(status.st_size, status.st_mtime_ns, change_time(status), status.st_ino)


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
                    f"{errors.IT} is empty, and nothing was written to it for {format_seconds(self._idle)}: did its "
                    "writer fail? `allow_empty=True` uploads an empty object",
                    it=self.path,
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
                f"{errors.IT} is longer than {plan.capacity:,} bytes, the most that {plan.count:,} parts hold while "
                "the size is unknown: upload it when nothing writes to it, with `resume=False`",
                it=self.path,
            )

    def _another_size(self, began: int) -> errors.SourceChanged:
        return errors.SourceChanged(
            f"{errors.IT} has {self.fingerprint.size:,} bytes now and had {began:,} when its upload began, without "
            "`follow`: nothing was changed. To start anew: `resume=False`",
            it=self.path,
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
        opened, named = self._statuses()
        if named is not None and not os.path.samestat(opened, named):
            raise errors.SourceChanged(
                f"{errors.IT} was replaced by another file while it was followed, and nothing was completed: make the "
                "same call again to follow the new file; if it does not begin with the same bytes, add `resume=False`",
                it=self.path,
                same_size=True,
            )
        before, now = self.fingerprint, fingerprint_of(opened)
        if now.size < before.size:
            raise errors.SourceChanged(
                f"{errors.IT} was truncated while it was followed: it had {before.size:,} bytes, and has {now.size:,}. "
                "Nothing was completed: to upload it as it is now, use `resume=False`",
                it=self.path,
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
