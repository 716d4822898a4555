"""The files of all sources of a job, as one stream in the order of their keys. Blocking.

A source is a directory, whose files have keys relative to it; a file, whose key is its name; a pattern ("src/**/*.c"),
whose files have keys relative to the directory before the first wildcard; or a list of files, whose keys are the paths
in it.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import heapq
import os
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from bigupload import errors
from bigupload.batch.tree import (
    FileEntry,
    Found,
    Omitted,
    Selection,
    WalkOptions,
    check_not_among_sources,
    look_at,
    walk,
)
from bigupload.core.selection import Scope, has_wildcard, include, scope_of, selects, split_glob
from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.files import in_working_directory, reason_of, shown, why_missing
from bigupload.support.output_file import partial_name
from bigupload.support.systems import with_slashes
from bigupload.units import escaped, one_line

_CR = "\r"
_WINDOWS = ": the list has Windows line ends (tr -d '\\r' removes them)"


@dataclass(frozen=True, slots=True)
class FileList:
    """The paths that `--files-from` names, in memory."""

    paths: Sequence[str]
    name: str
    """The list's name in messages."""

    @classmethod
    def parse(cls, content: bytes, name: str, *, null: bool = False) -> FileList:
        """Read a list: a path a line, as it is. Empty lines are not paths, nor is a byte order mark at the beginning.

        On Windows, where no name holds a carriage return, a line may end with one, and names are UTF-8. A list that
        begins with the byte order mark of UTF-16, as by ">" of Windows PowerShell, has the line ends of Windows
        everywhere.

        Args:
            content: The list.
            name: What it is called in messages.
            null: Paths are separated by NUL instead, as by `find -print0`: a path may then hold a newline.

        Raises:
            UsageError: It is in another encoding.
        """
        try:
            return cls(cls._paths(content, null=null), name)
        except UnicodeError:
            raise UsageError(
                f"{name} is not in UTF-8: write it with `chcp 65001`, or `Out-File -Encoding utf8`"
            ) from None

    @staticmethod
    def _paths(content: bytes, *, null: bool) -> list[str]:
        if not null:
            is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            if is_utf16:
                content = content.decode("utf-16").encode()
            content = content.removeprefix(codecs.BOM_UTF8)
            if is_utf16 or os.sep == "\\":
                content = content.replace(b"\r\n", b"\n").removesuffix(b"\r")
        return [os.fsdecode(path) for path in content.split(b"\0" if null else b"\n") if path]


def utf16_order(content: bytes) -> str | None:
    """The encoding of a list in UTF-16 without a byte order mark, as iconv spells it; None: it is in another one.

    Each line end has a NUL then, and so has each character below U+0100. Of names that NUL ends, hardly one ends in a
    newline, and those of one letter are no "." or "/".
    """
    for order, high in (("UTF-16LE", 1), ("UTF-16BE", 0)):
        text = content.decode(order, "replace")
        if "\n" in text or (not any(content[high::2]) and set(text) & set("./\\")):
            return order
    return None


class FileListing:
    """The files of a job. They can be listed any number of times."""

    def __init__(
        self,
        sources: Sequence[str],
        selection: Selection,
        *,
        now: float,
        prefix: str | None = "",
        files: FileList | None = None,
    ) -> None:
        """Look at what each source is; no directory is read yet.

        Args:
            sources: Directories, files and patterns. With `files`: at most the directory that its paths are in; none
                is the working directory.
            selection: Which of their files.
            now: Seconds since 1970, from which durations count back.
            prefix: Is put before each key, and counts for its length. None: the key does not come from a file's name.
            files: A list of files.

        Raises:
            UsageError: A source is empty, or a directory whose name would be lost beside others, or which is beside
                one that does not exist; or a path of the list leads out of its directory.
        """
        self._options = selection.walk_options(now=now, prefix=prefix)
        self._scope = selection.scope()
        sources = list(dict.fromkeys(sources))
        if files is None:
            _check_beside(sources)
        if not sources and files is None:
            raise UsageError("name at least one file or directory")
        self._trees: list[_Tree] = []
        named: list[tuple[str, str]] = []
        if files is not None:
            named = _listed(files, sources)
        else:
            for source in sources:
                tree = _tree(source)
                if tree is None:
                    named.append((os.path.basename(source), source))
                else:
                    self._trees.append(tree)
        self._files = _Files(sorted(named), advise=files is None)

    @property
    def may_collide(self) -> bool:
        """Whether two files may have one key: `check` decides."""
        return len(self._trees) + len(self._files.files) > 1

    def check_output(self, option: str, file: Path, selection: Selection, *, done: str) -> None:
        """Raise UsageError if a file that is written beside them would be, or replace, one of the files. Blocking.

        Args:
            option: The option that names the file, as messages spell it.
            file: The file.
            selection: Which files of the directories.
            done: What is done with the files, in messages.
        """
        for tree in self._trees:
            check_not_among_sources(option, file, tree.directory or ".", selection, done=done)
        target = Path(os.path.realpath(file))
        replaced = {_identity(path) for path in (target, partial_name(target))} - {None}
        for name in [path for _, path in self._files.files] if replaced else ():
            if _identity(name) in replaced:
                raise UsageError(f"{option} {file} would replace {escaped(name)}, which is {done}: name another one")

    def check(self) -> None:
        """List everything once, if two files may have one key.

        Raises:
            UsageError: Two files have one key. Names both.
        """
        if self.may_collide:
            for _ in self.found():
                pass

    def found(self) -> Iterator[Found]:
        """The files, in the order of their keys, and what can't be one.

        Raises:
            UsageError: Two files have one key. Names both.
        """
        parts: list[_Tree | _Files] = [*self._trees, self._files]
        if not self.may_collide:
            for part in parts:
                yield from part.found(self._scope, self._options)
            return
        streams = [_keyed(part.found(self._scope, self._options)) for part in parts]
        last: FileEntry | None = None
        for _, item in heapq.merge(*streams, key=itemgetter(0)):
            if isinstance(item, FileEntry):
                if last is not None and last.key == item.key:
                    if os.path.abspath(last.path) == os.path.abspath(item.path):
                        continue
                    raise UsageError(
                        f"{one_line(last.path)} and {one_line(item.path)} would both become {one_line(item.key)}: "
                        "upload them to different prefixes"
                    )
                last = item
            yield item


def _keyed(found: Iterator[Found]) -> Iterator[tuple[str, Found]]:
    """Each item with the key by which it is merged: its own, or that of the file before it if it has none."""
    key = ""
    for item in found:
        if isinstance(item, FileEntry):
            key = item.key
        yield key, item


@dataclass(frozen=True, slots=True)
class _Tree:
    """A directory, or the files in it that a pattern matches."""

    directory: str
    matches: Scope | None = None
    pattern: str = ""

    def found(self, scope: Scope, options: WalkOptions) -> Iterator[Found]:
        scopes = [scope] if self.matches is None else [scope, self.matches]
        is_empty = True
        for item in walk(self.directory, scopes, options):
            is_empty = False
            yield item
        if is_empty and self.pattern:
            yield Omitted(self.pattern, f"no file matches it{in_working_directory(self.pattern)}", is_failure=True)


@dataclass(frozen=True, slots=True)
class _Files:
    """Files that are named one by one."""

    files: Sequence[tuple[str, str]]
    """Keys with their paths, in the order of the keys."""
    advise: bool
    """Whether to look which name may be meant by a missing file. That reads a directory for each."""

    def found(self, scope: Scope, options: WalkOptions) -> Iterator[Found]:
        options = replace(options, follow_symlinks=True)
        for key, path in self.files:
            if not os.path.lexists(path):
                more = _WINDOWS if path.endswith(_CR) else why_missing(path) if self.advise else ""
                yield Omitted(shown(path), f"no such file{more}", is_failure=True, key=key)
            elif selects(scope, key):
                item = look_at(path, key, options)
                if item is not None:
                    yield item


def _check_beside(sources: Sequence[str]) -> None:
    """Raise UsageError for an empty name, and for a directory whose name would be lost beside others."""
    if "" in sources:
        raise UsageError("the name of a source is empty: is a variable of the shell not set?")
    bare = [source for source in sources if not source.endswith(("/", os.sep)) and os.path.isdir(source)]
    if not bare or len(sources) == 1:
        return
    missing = [source for source in sources if not os.path.lexists(source) and not has_wildcard(source)]
    found = f"no such file: {one_line(missing[0])}; and " if missing else ""  # a name with a space, not in quotes
    raise UsageError(
        f"{found}{bare[0]} is a directory beside other sources, and its name would not be in the keys. To have it "
        f"there, upload the directory that it is in. To have the files without it, write {bare[0]}/"
    )


def _identity(path: str | Path) -> tuple[int, int] | None:
    """The device and inode of what a path leads to, if it is there."""
    with contextlib.suppress(OSError, ValueError):
        status = os.stat(path)
        return status.st_dev, status.st_ino
    return None


def _tree(source: str) -> _Tree | None:
    """A source that is a directory or a pattern; None: it is a file, or nothing."""
    if os.path.isdir(source):
        return _Tree(_directory(source))
    if has_wildcard(source) and not os.path.lexists(source):
        base, pattern = split_glob(with_slashes(source))
        return _Tree(_directory(base), scope_of([include(f"/{pattern}")], hidden=False), source)
    return None


def _directory(path: str) -> str:
    return "" if path in (".", "./") else path


def _listed(files: FileList, sources: Sequence[str]) -> list[tuple[str, str]]:
    """The keys and paths of a list."""
    if len(sources) > 1 or not all(os.path.isdir(source) for source in sources):
        raise UsageError("beside a list of files, name at most the one directory that they are in")
    base = _directory(sources[0]) if sources else ""
    top = with_slashes(os.path.abspath(base)).rstrip("/")
    found = []
    for number, path in enumerate(files.paths, 1):
        text = with_slashes(path)
        names = [name for name in text.split("/") if name not in ("", ".")]
        key, is_outside = "/".join(names), False
        if text.startswith("/") or os.path.splitdrive(path)[0]:
            whole = f"{'/' * text.startswith('/')}{key}"
            is_outside, key = not whole.startswith(f"{top}/"), whole.removeprefix(f"{top}/")
        if is_outside or ".." in names or not names:
            raise UsageError(
                f"{files.name}, path {number}: {one_line(repr(path))} is not below {base or 'the working directory'}: "
                "name the directory that all are in, and write paths without '..'"
            )
        found.append((key, os.path.join(base, path)))
    return found


T = TypeVar("T")

_MOST = 500
_MOST_BATCHES = 20
"""Batches that wait for the reader: 10,000 files, of some 400 bytes each."""
_LONGEST = 0.1
"""Seconds after which a batch is handed over, so that the first files are uploaded while the others are looked for."""


@dataclass(slots=True)
class FoundFiles:
    """The counts of a listing so far. Its reader may not have got all of it."""

    files: int = 0
    """Files, and what failed in the place of one."""
    bytes: int = 0
    is_complete: bool = False
    """Whether the listing has ended."""

    def add(self, items: Sequence[object]) -> None:
        """Count the files among items."""
        for item in items:
            if isinstance(item, FileEntry):
                self.files += 1
                self.bytes += item.size
            elif isinstance(item, Omitted):
                self.files += item.is_failure


class CountedFiles(AsyncGenerator[Found, None]):
    """A generator of files, with what its listing has found so far."""

    def __init__(self, files: AsyncGenerator[Found, None], found: FoundFiles, directories: Sequence[str] = ()) -> None:
        """Begin nothing.

        Args:
            files: The generator.
            found: What its listing counts in.
            directories: The directories that are listed.
        """
        self.found = found
        self.directories = directories
        self._files = files

    async def asend(self, value: None) -> Found:
        """Return the next one."""
        return await self._files.asend(value)

    async def athrow(
        self, typ: Any, val: BaseException | object = None, tb: TracebackType | None = None
    ) -> Found:  # as its base class has it
        """Raise an exception in the generator."""
        return await self._files.athrow(typ, val, tb)

    async def aclose(self) -> None:
        """End it."""
        await self._files.aclose()


@dataclass(frozen=True, slots=True)
class _Batch(Generic[T]):
    items: Sequence[T]
    is_last: bool
    error: Exception | None = None


async def read_ahead(
    items: Iterator[T], found: FoundFiles | None = None, *, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[T]:
    """Read an iterator in a thread, about 10,000 items ahead: as `batches_ahead`, and yield each item."""
    async with contextlib.aclosing(batches_ahead(items, found, clock=clock)) as batches:
        async for batch in batches:
            for item in batch:
                yield item


async def batches_ahead(
    items: Iterator[T], found: FoundFiles | None = None, *, clock: Callable[[], float] = time.monotonic
) -> AsyncGenerator[Sequence[T], None]:
    """Read an iterator in a thread, about 10,000 items ahead. Yields up to 500 of them together, and never none.

    A reader that is cancelled, or closes this, does not wait for the thread: it may hang in a file system.

    Args:
        items: What to read.
        found: Counts what was read.
        clock: A monotonic clock in seconds. Tests pass their own.

    Raises:
        BaseException: What the iterator raises, after the items before.
    """
    batches: asyncio.Queue[_Batch[T]] = asyncio.Queue(_MOST_BATCHES)
    reading = asyncio.create_task(_read(items, found, clock, batches))
    try:
        is_last = False
        while not is_last:
            batch = await batches.get()
            is_last = batch.is_last
            if batch.items:
                yield batch.items
            if batch.error is not None:
                raise batch.error
            await asyncio.sleep(0)  # where batches are waiting already, nothing else would get a turn
    finally:
        reading.cancel()


async def _read(
    items: Iterator[T], found: FoundFiles | None, clock: Callable[[], float], batches: asyncio.Queue[_Batch[T]]
) -> None:
    """Read items in a thread, until the last one."""
    is_last = False
    while not is_last:
        try:
            batch = await run_in_daemon_thread(lambda: _next_batch(items, clock))
        except Exception as e:  # no thread can be started
            batch = _Batch([], is_last=True, error=e)
        is_last = batch.is_last
        if found is not None:
            found.add(batch.items)
            found.is_complete = is_last and batch.error is None
        await batches.put(batch)


def _next_batch(items: Iterator[T], clock: Callable[[], float]) -> _Batch[T]:
    batch: list[T] = []
    until = clock() + _LONGEST
    try:
        for item in items:
            batch.append(item)
            if len(batch) == _MOST or clock() >= until:
                return _Batch(batch, is_last=False)
    except Exception as e:
        return _Batch(batch, is_last=True, error=e)
    return _Batch(batch, is_last=True)


@dataclass(slots=True)
class RequiredDirectory:
    """A directory that must stay where it is while its files are uploaded."""

    path: str
    verb: str
    """The caller's work with it, for messages."""
    threads: asyncio.Semaphore
    """Bounds the threads that look at it."""
    note: str = ""
    """A sentence for the message that it is gone."""
    _identity: tuple[int, int] | None = None

    async def check(self) -> None:
        """Raise SourceError if the directory is not there, or is not the one that it was at the first check."""
        path, when_back = self.path, f"{self.note}Try again when it is back"
        try:
            status = await run_in_daemon_thread(Path(path).stat, self.threads)
        except OSError as e:
            if self._identity is not None:
                raise errors.DirectoryGone(
                    f"can't see {errors.IT} any more: {reason_of(e)}. {when_back}", it=path
                ) from e
            if isinstance(e, FileNotFoundError):
                why = await run_in_daemon_thread(lambda: why_missing(path), self.threads)
                raise errors.SourceNotFound(f"no such directory: {errors.IT}{why}", it=path) from None
            raise errors.SourceUnreadable(f"can't {self.verb} {errors.IT}: {reason_of(e)}", it=path) from e
        if not stat.S_ISDIR(status.st_mode):
            raise errors.SourceUnsupported(
                f"{errors.IT} is not a directory: {self.verb} the directory that it is in", it=path
            )
        identity = status.st_dev, status.st_ino
        if self._identity not in (None, identity):
            raise errors.DirectoryGone(
                f"another directory is at {errors.IT} now: was it unmounted or replaced? {when_back}", it=path
            )
        self._identity = identity
