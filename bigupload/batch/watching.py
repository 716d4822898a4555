"""Uploads the files of a directory, those that come, and those that change, until it is cancelled.

What is there is found by listing the directory: at the start, when something changed, and now and then, because events
get lost. `file_events` are the operating system's reports, by watchfiles. `WatchedFiles` is that list. `core/settling`
decides which files to upload when. What an upload is, only the caller knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import logging
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeAlias

import anyio

from bigupload import errors
from bigupload.batch.job import befalls_all
from bigupload.batch.listing import StandingDirectory
from bigupload.batch.tree import FileEntry, Omitted, Selection, walk
from bigupload.core.manifest import Fingerprint
from bigupload.core.selection import exclude, scope_of
from bigupload.core.settling import Begin, SettlingFiles
from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.support.daemon_threads import run_in_daemon_thread, starting_threads
from bigupload.support.files import ASIDE
from bigupload.support.systems import change_time
from bigupload.units import escaped, format_seconds, install_command, printable

TEMPORARY = (".*", "*~", "*.part", "*.partial", "*.tmp", "*.crdownload")
"""Patterns of names that are hidden, or of files that are renamed when they are whole: those of rsync, wget, editors,
browsers."""
_LOG = logging.getLogger("bigupload")
_LIST_EVERY = 60.0
"""Seconds between two listings where the system reports changes, some of which get lost."""
_LIST_AFTER = 0.5
"""Seconds between two listings at least, however much changes."""
_SHARE = 10
"""Listings take at most one part in this many of the time: in a large directory one takes seconds. After one that took
long, as on a busy machine, the pause is `_LIST_EVERY`, or the time that the listing took if that is more."""
_LOOK_EVERY = 5.0
"""Seconds between two looks at whether the directory is still there."""
_SHORTEST = 0.01
_POLL = 5.0
"""Seconds between two listings if the system can't report changes."""
_BATCH = 500

Events: TypeAlias = Callable[[Callable[[set[str]], None], Callable[[str], None]], AbstractAsyncContextManager[None]]
Pause: TypeAlias = Callable[[asyncio.Event, float], Awaitable[None]]


class NotSettledError(Exception):
    """A file can't be followed: it has to settle before it is uploaded."""


class Uploads(Protocol):
    """The caller's work for the watch."""

    async def upload(self, begin: Begin) -> Fingerprint:
        """Upload a file.

        Returns:
            The fingerprint of the file that the object is.

        Raises:
            NotSettledError: The file can't be followed.
            SourceChanged: The file changed meanwhile: it is uploaded when it has settled.
            BigUploadError: The upload failed.
        """

    async def failed(self, path: str, error: errors.BigUploadError, retry_in: float | None) -> None:
        """A file was not uploaded, or a directory can't be read.

        Args:
            path: The file or directory.
            error: Why.
            retry_in: Seconds until it is tried again; None: when it has changed.
        """

    def warn(self, message: str) -> None:
        """Something about the watch as a whole that a person should know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The watched directory, and its options."""

    directory: str
    """Its absolute path."""
    list_files: Callable[[], Iterator[FileEntry | Omitted]]
    """Lists the files that are wanted. Blocking; called in threads."""
    events: Events | None
    """Reports changes; None: the directory is listed every `poll` seconds."""
    poll: float
    idle: float
    """Seconds without a change after which a file has settled."""
    until_idle: float
    """End after this many seconds without a change, with nothing left to do; infinite: never."""


class Watching:
    """One watch of a directory."""

    def __init__(
        self,
        watched: Watched,
        uploads: Uploads,
        files: SettlingFiles,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        pause: Pause | None = None,
    ) -> None:
        """Prepare; `run` begins.

        Args:
            watched: What is watched.
            uploads: Uploads a file.
            files: Decides which.
            clock: Seconds from any start.
            wall_clock: Seconds since the epoch, as files have them.
            pause: Waits for an event, or for the given seconds.
        """
        self._watched = watched
        self._uploads = uploads
        self._files = files
        self._clock = clock
        self._wall_clock = wall_clock
        self._pause = pause or _pause
        self._wake = asyncio.Event()
        self._threads = asyncio.Semaphore(2)
        self.standing = StandingDirectory(watched.directory, "watch", self._threads)
        self._has_events = watched.events is not None
        self._no_events: str | None = None
        """The reason why the system reports no more changes, until the warning."""
        self._dirty = True
        self._listed_at = self._listing_took = 0.0
        self._never_listed = True
        self._unreadable: set[str] = set()
        self._end: BaseException | None = None
        self._gone: errors.SourceError | None = None
        self._poll = watched.poll
        self._began = 0.0

    async def run(self) -> None:
        """Watch until it is cancelled, or `until_idle`.

        Raises:
            SourceError: There is no such directory, or it has vanished. What was open is uploaded before.
            StoreError: The bucket is not there, which no other file will change.
        """
        await self.standing.check()
        self._began = self._clock()
        async with self._told_of_changes(), anyio.create_task_group() as tasks:
            try:
                await self._loop(tasks)
            except Exception as e:  # raised in here, it would become an ExceptionGroup
                self._end = self._end or e
            tasks.cancel_scope.cancel()
        error = self._end or self._gone
        if error is not None:
            raise error

    async def _loop(self, tasks: anyio.abc.TaskGroup) -> None:
        while not self._is_over():
            if self._no_events is not None:
                self._poll_instead(self._no_events)
            if self._gone is None and self._is_listing_due():
                await self._list(tasks)
            self._begin(tasks)
            await self._pause(self._wake, self._seconds())
            self._wake = asyncio.Event()
            await self._look_at_directory()

    def _is_over(self) -> bool:
        if self._end is not None:
            return True
        if self._gone is not None:
            return not self._files.has_open
        quiet_until = self._quiet_since + self._watched.until_idle
        if self._dirty or self._files.is_busy or self._clock() < quiet_until:
            return False
        self._dirty = self._listed_at < quiet_until  # once more: an unreported file may have come
        return not self._dirty

    @property
    def _quiet_since(self) -> float:
        return max(self._began, self._files.last_change)

    # -- the directory

    @contextlib.asynccontextmanager
    async def _told_of_changes(self) -> AsyncIterator[None]:
        if self._watched.events is None:
            yield
            return
        async with self._watched.events(self._changed, self._no_more_events):
            yield

    def _changed(self, paths: set[str]) -> None:
        """Wake the watch, unless all changed files are followed: their uploads look at those."""
        if not paths or any(not self._files.is_open(self._key(path)) for path in paths):
            self._dirty = True
            self._wake.set()

    def _key(self, path: str) -> str:
        return os.path.relpath(path, self._watched.directory).replace(os.sep, "/")

    def _no_more_events(self, reason: str) -> None:
        self._no_events = reason
        self._wake.set()

    def _poll_instead(self, reason: str) -> None:
        self._no_events, self._has_events = None, False
        self._poll = min(self._poll, _POLL)
        self._uploads.warn(
            f"the system reports no changes in {self._watched.directory} ({reason}): it is listed every "
            f"{format_seconds(self._poll)}"
        )

    async def _look_at_directory(self) -> None:
        if self._gone is None:
            try:
                await self.standing.check()
            except errors.SourceError as e:
                self._gone = e

    def _is_listing_due(self) -> bool:
        return self._clock() >= self._next_listing()

    def _next_listing(self) -> float:
        if self._never_listed:
            return -math.inf
        every = _LIST_EVERY if self._has_events else self._poll
        if self._dirty:
            every = min(every, _LIST_AFTER)
        pause = min(_SHARE * self._listing_took, max(_LIST_EVERY, self._listing_took))
        return self._listed_at + max(every, pause)

    async def _list(self, tasks: anyio.abc.TaskGroup) -> None:
        self._dirty = False
        began = self._clock()
        self._files.begin_listing()
        listing = self._watched.list_files()
        unreadable: set[str] = set()
        while batch := await run_in_daemon_thread(lambda: list(islice(listing, _BATCH)), self._threads):
            now, wall = self._clock(), self._wall_clock()
            for entry in batch:
                if isinstance(entry, Omitted):
                    await self._omitted(entry, unreadable)
                    continue
                age = max(0.0, wall - max(entry.mtime_ns, entry.ctime_ns) / 1e9)
                quiet_for = age if self._never_listed else 0.0  # else its clock may be another machine's
                self._files.found(entry.key, entry.path, entry.fingerprint, now, quiet_for=quiet_for)
            self._begin(tasks)
        await self._look_at_directory()
        if self._gone is None:  # else nothing was found because nothing is there
            self._files.end_listing()
        self._unreadable = unreadable
        self._never_listed = False
        self._listed_at = self._clock()
        self._listing_took = self._listed_at - began

    async def _omitted(self, omitted: Omitted, now_unreadable: set[str]) -> None:
        """Report once each file that can't be read, or that a watch can't upload."""
        now_unreadable.add(omitted.path)
        if omitted.path in self._unreadable:
            return
        if omitted.is_failure:
            error = errors.SourceError(f"{escaped(omitted.path)}: {omitted.reason}")
            await self._uploads.failed(omitted.path, error, None)
        else:
            _LOG.info("%s: left out: %s", printable(omitted.path), printable(omitted.reason))

    # -- uploads

    def _seconds(self) -> float:
        """Return the seconds to wait if nothing happens."""
        now = self._clock()
        if self._gone is not None:
            return _LOOK_EVERY
        times = [self._files.next_time(now), max(now, self._next_listing()), now + _LOOK_EVERY]
        if not self._files.is_busy:
            times.append(max(now, self._quiet_since + self._watched.until_idle))
        return max(_SHORTEST, min(times) - now)  # a rounded time must not make it turn round and round

    def _begin(self, tasks: anyio.abc.TaskGroup) -> None:
        if self._gone is None and self._end is None:
            for begin in self._files.begin(self._clock()):
                tasks.start_soon(self._upload, begin)

    async def _upload(self, begin: Begin) -> None:
        try:
            await self._try(begin)
        except Exception as e:  # also exceptions of the caller's functions
            self._end = self._end or e
        finally:
            self._dirty = True  # changes of the file were not reported meanwhile
            self._wake.set()

    async def _try(self, begin: Begin) -> None:
        """Raises what the watch must end with."""
        key = begin.key
        found = await self._look(begin)
        if found is None:
            return
        if not begin.follow and found != begin.fingerprint:
            self._files.changed(key, found, self._clock())
            return
        try:
            fingerprint = await self._uploads.upload(begin)
        except (errors.SourceChanged, NotSettledError) as e:
            now = await self._look(begin)
            if now is not None:
                self._files.changed(key, now, self._clock())
                if isinstance(e, errors.SourceChanged):
                    await self._uploads.failed(begin.path, e, self._watched.idle)
        except errors.SourceNotFound:  # it was deleted just now
            self._files.vanished(key)
        except errors.BigUploadError as e:
            if e.fails_others == "always" or isinstance(e, errors.UsageError):
                raise
            await self._failed(begin, e)
        else:
            self._files.uploaded(key, fingerprint, self._clock())

    async def _failed(self, begin: Begin, error: errors.BigUploadError) -> None:
        others_go = self._files.others_uploaded(begin.key)
        concerns_all = befalls_all(error, others_go=others_go)
        retry_in = self._files.failed(begin.key, self._clock(), again=error.resumable, concerns_all=concerns_all)
        await self._uploads.failed(begin.path, error, retry_in)

    async def _look(self, begin: Begin) -> Fingerprint | None:
        """The file's fingerprint now; None if it is gone."""
        try:
            status = await run_in_daemon_thread(lambda: Path(begin.path).lstat(), self._threads)
        except OSError:  # the next listing finds it
            self._files.vanished(begin.key)
            return None
        return Fingerprint(status.st_size, status.st_mtime_ns, change_time(status), status.st_ino)


async def _pause(event: asyncio.Event, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await event.wait()


class WatchedFiles:
    """The files of a watched directory as they are now, listed again and again."""

    def __init__(
        self, directory: str, selection: Selection, *, now: float, all_names: bool = False, prefix: str = ""
    ) -> None:
        """Check what is selected.

        Args:
            directory: Its absolute path.
            selection: Which files.
            now: Seconds since 1970, from which durations count back.
            all_names: Whether names are watched that are hidden or temporary.
            prefix: What keys get in front, which counts for their length.

        Raises:
            UsageError: Symbolic links can't be followed: changes of their targets are not reported.
        """
        if selection.follow_symlinks:
            raise UsageError("a watch can't follow symbolic links: leave out `follow_symlinks=True`")
        self._directory = directory
        left_out = (f"{ASIDE}*",) if all_names else TEMPORARY  # the watch itself may set files aside
        self._scopes = [selection.scope(), scope_of([exclude(pattern) for pattern in left_out])]
        self._options = selection.walk_options(now=now, prefix=prefix)

    def found(self) -> Iterator[FileEntry | Omitted]:
        """List them, and what can't be one of them. Blocking. What vanishes meanwhile is left out without a word."""
        for found in walk(self._directory, self._scopes, self._options):
            if isinstance(found, FileEntry):
                yield found
            elif os.path.lexists(found.path):
                # The text after a colon is advice for a selection that can follow symbolic links.
                yield found if found.is_failure else dataclasses.replace(found, reason=found.reason.partition(":")[0])


_BEGUN_WITHIN = 200
"""Milliseconds until the first report, also without changes: it shows that the directory is watched."""

_NOT_UTF_8 = "Unable to decode path"
"""The error that ends watchfiles when a name that is not UTF-8 changes (watchfiles 1.3, src/lib.rs)."""
_AGAIN_AFTER = 0.5
"""Seconds until watching begins again after that. A listing then finds what changed meanwhile."""


def require_file_events() -> None:
    """Raises UsageError if `watchfiles` is not installed."""
    if importlib.util.find_spec("watchfiles") is None:
        raise errors.UsageError(
            f"to notice new files at once, bigupload needs watchfiles: {install_command('watch')}. Without it, "
            "`poll='5s'` looks at the directory every five seconds"
        )


@contextlib.asynccontextmanager
async def file_events(
    directory: str, changed: Callable[[set[str]], None], failed: Callable[[str], None]
) -> AsyncIterator[None]:
    """Report changes in a directory and below, in the event loop, until the context ends.

    Args:
        directory: The directory.
        changed: Called with the paths that changed; once with none when the watching has begun, and again after a name
            that is not UTF-8 has changed. Paths may be missing: the kernel drops events when there are too many.
        failed: Called with the reason if no more changes are reported.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def report(function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(function)

    def listen_once() -> None:
        import watchfiles

        begun = False
        for changes in watchfiles.watch(
            directory,
            watch_filter=None,
            stop_event=stop,
            rust_timeout=_BEGUN_WITHIN,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            paths = {path for _, path in changes} if begun else set()
            if paths or not begun:
                report(lambda paths=paths: changed(paths))  # type: ignore[misc]  # mypy does not infer the default
            begun = True

    def listen() -> None:
        while not stop.is_set():
            try:
                listen_once()
                return
            except Exception as e:  # watchfiles raises RuntimeErrors of its own for errors of the kernel
                if _NOT_UTF_8 not in str(e):
                    reason = os.strerror(e.errno) if isinstance(e, OSError) and e.errno else str(e)
                    report(lambda reason=reason: failed(reason))  # type: ignore[misc]  # as above
                    return
            stop.wait(_AGAIN_AFTER)

    thread = threading.Thread(target=listen, name="bigupload watch", daemon=True)
    try:
        with starting_threads():
            thread.start()
    except errors.OutOfThreads as e:
        failed(str(e))
    try:
        yield
    finally:
        stop.set()
