"""The files of a directory to upload: those that are there, those that come, and those that change.

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
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

import anyio

from bigupload import errors
from bigupload.batch.job import affects_all
from bigupload.batch.listing import RequiredDirectory
from bigupload.batch.tree import FileEntry, Found, Omitted, Selection, walk
from bigupload.core.manifest import Fingerprint
from bigupload.core.selection import exclude, scope_of
from bigupload.core.settling import Begin, SettlingFiles
from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.support.daemon_threads import run_in_daemon_thread, starting_threads
from bigupload.support.files import ASIDE
from bigupload.support.systems import change_time
from bigupload.units import format_seconds, install_command, printable

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
R = TypeVar("R")
Pause: TypeAlias = Callable[[asyncio.Event, float], Awaitable[None]]


@dataclass(slots=True, kw_only=True, eq=False)
class Watching:
    """One watch of a directory."""

    directory: str
    """Its absolute path."""
    list_files: Callable[[], Iterator[Found]]
    """Lists the files that are wanted. Blocking; called in threads."""
    idle: float
    """Seconds without a change after which a file has settled."""
    files: SettlingFiles
    """Decides which files to upload when."""
    warn: Callable[[str], object]
    """Gets what a person should know of the watch as a whole."""
    events: Events | None = None
    """Reports changes; None: the directory is listed every `poll` seconds."""
    poll: float = math.inf
    until_idle: float = math.inf
    """End after this many seconds without a change, with nothing left to do; infinite: never."""
    clock: Callable[[], float] = time.monotonic
    """Seconds from any start."""
    wall_clock: Callable[[], float] = time.time
    """Seconds since the epoch, as files have them."""
    pause: Pause = field(default_factory=lambda: _pause)
    """Waits for an event, or for the given seconds."""
    root: RequiredDirectory = field(init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _threads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    _no_events: str | None = None
    """The reason why the system reports no more changes, until the warning."""
    _dirty: bool = True
    _listed_at: float = 0.0
    _listing_took: float = 0.0
    _never_listed: bool = True
    _unreadable: set[str] = field(default_factory=set)
    _gone: errors.SourceError | None = None
    _began: float = 0.0

    def __post_init__(self) -> None:
        """Look at nothing yet; `found` begins."""
        self.root = RequiredDirectory(self.directory, "watch", self._threads)

    async def found(self) -> AsyncGenerator[Begin | Omitted, None]:
        """The files to upload now, of each of which the caller makes an `attempt` meanwhile; and what can't be read.

        Raises:
            SourceError: There is no such directory, or it has vanished. What was open has ended before.
        """
        await self.root.check()
        self._began = self.clock()
        async with self.events(self._changed, self._no_more_events) if self.events else contextlib.nullcontext():
            while not self._is_over():
                if self._no_events is not None:
                    self._poll_instead(self._no_events)
                if self._gone is None and self.clock() >= self._next_listing():
                    async for each in self._list():
                        yield each
                for begin in self._begin():
                    yield begin
                await self.pause(self._wake, self._seconds())
                self._wake = asyncio.Event()
                await self._look_at_directory()
        if self._gone is not None:
            raise self._gone

    def _is_over(self) -> bool:
        if self._gone is not None:
            return not self.files.has_open
        quiet_until = self._quiet_since + self.until_idle
        if self._dirty or self.files.is_busy or self.clock() < quiet_until:
            return False
        self._dirty = self._listed_at < quiet_until  # once more: an unreported file may have come
        return not self._dirty

    @property
    def _quiet_since(self) -> float:
        return max(self._began, self.files.last_change)

    # -- the directory

    def _changed(self, paths: set[str]) -> None:
        """Wake the watch, unless all changed files are followed: their uploads look at those."""
        if not paths or any(not self.files.is_open(self._key(path)) for path in paths):
            self._dirty = True
            self._wake.set()

    def _key(self, path: str) -> str:
        return os.path.relpath(path, self.directory).replace(os.sep, "/")

    def _no_more_events(self, reason: str) -> None:
        self._no_events = reason
        self._wake.set()

    def _poll_instead(self, reason: str) -> None:
        self._no_events = self.events = None
        self.poll = min(self.poll, _POLL)
        self.warn(
            f"the system reports no changes in {self.directory} ({reason}): it is listed every "
            f"{format_seconds(self.poll)}"
        )

    async def _look_at_directory(self) -> None:
        if self._gone is None:
            try:
                await self.root.check()
            except errors.SourceError as e:
                self._gone = e

    def _next_listing(self) -> float:
        if self._never_listed:
            return -math.inf
        every = self.poll if self.events is None else _LIST_EVERY
        if self._dirty:
            every = min(every, _LIST_AFTER)
        pause = min(_SHARE * self._listing_took, max(_LIST_EVERY, self._listing_took))
        return self._listed_at + max(every, pause)

    async def _list(self) -> AsyncIterator[Begin | Omitted]:
        self._dirty = False
        began = self.clock()
        self.files.begin_listing()
        listing = self.list_files()
        unreadable: set[str] = set()
        while batch := await run_in_daemon_thread(lambda: list(islice(listing, _BATCH)), self._threads):
            now, wall = self.clock(), self.wall_clock()
            for entry in batch:
                if isinstance(entry, FileEntry):
                    age = max(0.0, wall - max(entry.mtime_ns, entry.ctime_ns) / 1e9)
                    quiet_for = age if self._never_listed else 0.0  # else its clock may be another machine's
                    self.files.found(entry.key, entry.path, entry.fingerprint, now, quiet_for=quiet_for)
                    continue
                unreadable.add(entry.path)
                if entry.path in self._unreadable:
                    continue
                if entry.is_failure:
                    yield entry
                else:
                    _LOG.info("%s: left out: %s", printable(entry.path), printable(entry.reason))
            for begin in self._begin():
                yield begin
        await self._look_at_directory()
        if self._gone is None:  # else nothing was found because nothing is there
            self.files.end_listing()
        self._unreadable = unreadable
        self._never_listed = False
        self._listed_at = self.clock()
        self._listing_took = self._listed_at - began

    def _seconds(self) -> float:
        """Return the seconds to wait if nothing happens."""
        now = self.clock()
        if self._gone is not None:
            return _LOOK_EVERY
        times = [self.files.next_time(now), max(now, self._next_listing()), now + _LOOK_EVERY]
        if not self.files.is_busy:
            times.append(max(now, self._quiet_since + self.until_idle))
        return max(_SHORTEST, min(times) - now)  # a rounded time must not make it turn round and round

    def _begin(self) -> list[Begin]:
        return self.files.begin(self.clock()) if self._gone is None else []

    # -- uploads

    async def attempt(self, begin: Begin, upload: Callable[[], Awaitable[R | None]]) -> R | None:
        """Upload a file, unless it is not as it was found.

        Args:
            begin: What `found` has yielded.
            upload: Uploads it, and calls one of the methods below with what it comes to.
        """
        try:
            found = await self._look(begin)
            if found is None:
                return None
            if not begin.follow and found != begin.fingerprint:
                self.files.changed(begin.key, found, self.clock())
                return None
            return await upload()
        finally:
            self._dirty = True  # changes of the file were not reported during the upload
            self._wake.set()

    def uploaded(self, begin: Begin, fingerprint: Fingerprint) -> None:
        """The object is the file as it was with a fingerprint."""
        self.files.uploaded(begin.key, fingerprint, self.clock())

    async def changed(self, begin: Begin) -> float | None:
        """It can't be followed, or was written during the upload. It is uploaded once it has settled. As `failed`."""
        if (now := await self._look(begin)) is None:
            return None
        self.files.changed(begin.key, now, self.clock())
        return self.idle

    async def failed(self, begin: Begin, error: errors.BigUploadError) -> float | None:
        """The upload failed. Raises the error if that ends the watch.

        Returns:
            Seconds until the next attempt; infinite: when the file has changed. None: the file is gone.
        """
        if isinstance(error, errors.SourceChanged):
            return await self.changed(begin)
        if isinstance(error, errors.SourceNotFound):  # it was deleted just now
            self.files.vanished(begin.key)
            return None
        if error.fails_others == "always" or isinstance(error, errors.UsageError):
            raise error
        concerns_all = affects_all(error, others_go=self.files.others_uploaded(begin.key))
        again = self.files.failed(begin.key, self.clock(), again=error.resumable, concerns_all=concerns_all)
        return math.inf if again is None else again

    async def _look(self, begin: Begin) -> Fingerprint | None:
        """The file's fingerprint now; None if it is gone."""
        try:
            status = await run_in_daemon_thread(lambda: Path(begin.path).lstat(), self._threads)
        except OSError:  # the next listing finds it
            self.files.vanished(begin.key)
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

    def found(self) -> Iterator[Found]:
        """List them, and what can't be one of them. Blocking. Files that vanish during that are omitted silently."""
        for found in walk(self._directory, self._scopes, self._options):
            if isinstance(found, FileEntry):
                yield found
            elif os.path.lexists(found.path):
                is_link = not found.is_failure and os.path.islink(found.path)
                yield dataclasses.replace(found, reason="a symbolic link") if is_link else found  # it follows none


_BEGUN_WITHIN = 200
"""Milliseconds until the first report, also without changes: it shows that the directory is watched."""

_NOT_UTF_8 = "Unable to decode path"
"""The error that ends watchfiles when a name that is not UTF-8 changes (watchfiles 1.3, src/lib.rs)."""
_AGAIN_AFTER = 0.5
"""Seconds until watching begins again after that. A listing then finds the changes since."""


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

    def report(function: Callable[[R], object], value: R) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(function, value)

    def listen() -> None:
        while not stop.is_set():
            begun = False
            try:
                import watchfiles

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
                        report(changed, paths)
                    begun = True
                return
            except Exception as e:  # watchfiles raises RuntimeErrors of its own for errors of the kernel
                if _NOT_UTF_8 not in str(e):
                    report(failed, os.strerror(e.errno) if isinstance(e, OSError) and e.errno else str(e))
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
