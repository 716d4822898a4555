"""The files of one directory that a caller selects, as a stream in the order in which S3 lists their keys. Blocking.

S3 lists keys by their bytes in UTF-8. A directory's files come where "name/" belongs: after "name.txt" and "name-2",
and before "name0". So this list and the store's can be compared side by side, whatever the number of files. Memory
holds the names in the directories that are open: those from the top down to the present one. What can't be uploaded is
in the stream, too, as an `Omitted`.
"""

from __future__ import annotations

import datetime
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from bigupload.core.manifest import Fingerprint
from bigupload.core.selection import (
    FileLimits,
    FileRule,
    Scope,
    exclude,
    include,
    parse_exclude_file,
    scope_of,
    selects,
)
from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.s3_parameters import MOST_KEY_BYTES, RENAME, why_no_key, why_too_long
from bigupload.support.files import ASIDE, STORE_MARKS, reason_of
from bigupload.support.output_file import partial_name
from bigupload.support.systems import change_time, with_slashes
from bigupload.units import parse_duration, parse_size

_NO_LIMITS = FileLimits()
_RENAME = "rename it"
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory, and not a file",
}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file that was selected: where it is, what its key below the target's prefix is, and its metadata."""

    path: str
    """As the system opens it: relative to the working directory if the source was. May hold surrogate escapes."""
    key: str
    """Below the prefix: segments with "/" between them, none of them empty, "." or "..". Valid UTF-8, not empty."""
    size: int
    """In bytes, when the file was listed."""
    mtime_ns: int
    """The time of its last change, in nanoseconds since 1970."""
    ctime_ns: int = 0
    inode: int = 0

    @classmethod
    def of(cls, path: str, key: str, status: os.stat_result) -> FileEntry:
        """An entry with a file's metadata, which are those of the file that a symbolic link leads to."""
        return cls(path, key, status.st_size, status.st_mtime_ns, change_time(status), status.st_ino)

    @property
    def fingerprint(self) -> Fingerprint:
        """Return the values that change when the file is written or replaced."""
        return Fingerprint(self.size, self.mtime_ns, self.ctime_ns, self.inode)


@dataclass(frozen=True, slots=True)
class Omitted:
    """Something that the selection found and that can't be uploaded, with the reason, in one line for a person."""

    path: str
    reason: str
    """The reason, without the path: "a named pipe", "can't read the directory: Permission denied"."""
    is_failure: bool
    """Whether something that was to be uploaded is missing now, so that the job ends as failed. False for what never
    can be uploaded, such as sockets."""
    key: str = ""
    """The key that the file would have, if it was named and is not there."""


Found: TypeAlias = FileEntry | Omitted


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkOptions:
    """The settings for reading directories, and the files that are handed on whatever their names are."""

    limits: FileLimits = _NO_LIMITS
    follow_symlinks: bool = False
    most_key_bytes: int = MOST_KEY_BYTES
    """The longest key below the prefix, in bytes of UTF-8."""
    names_are_keys: bool = True
    """False: there is one file, and its key does not come from its name."""


@dataclass(frozen=True, slots=True)
class _Level:
    """One directory that is open."""

    beginning: str
    """The beginning of all paths in it."""
    key: str
    """With "/" at its end, or empty."""
    scopes: Sequence[Scope]
    identity: tuple[int, int] | None
    """Device and inode, where symbolic links are followed: only then can a directory lead to itself."""
    names: list[str]
    """The names that are still to come, in reverse order. Directories end in "/", so that names sort as keys do."""


def walk(directory: str, scopes: Sequence[Scope], options: WalkOptions) -> Iterator[Found]:
    """List the files below a directory, in the order of their keys, and what can't be uploaded.

    A directory is read only when the caller has taken all files before it. One that can't be read is yielded as an
    `Omitted`, and the rest goes on.

    Args:
        directory: Its path; empty for the working directory, so that paths are relative to it. A symbolic link is
            followed.
        scopes: A file is selected if each of them selects it. The first is the caller's selection. It is not asked for
            a file that a move set aside, whose own name is not known.
        options: Limits, and whether symbolic links are followed.
    """
    open_levels: list[_Level] = []
    opened: _Level | Omitted | None = _open(directory, "", scopes, options, open_levels)
    while True:
        if isinstance(opened, Omitted):
            yield opened
        elif opened is not None:
            open_levels.append(opened)
        while open_levels and not open_levels[-1].names:
            open_levels.pop()
        if not open_levels:
            return
        level, opened = open_levels[-1], None
        names, beginning, key = level.names, level.beginning, level.key
        while names and not (name := names.pop()).endswith("/"):
            found = look_at(beginning + name, key + name, options, _RENAME)
            if found is not None:
                yield found
        if name.endswith("/"):
            path = beginning + name[:-1]
            if (why := why_no_key(name)) is not None:
                yield Omitted(path, f"{why}: {_RENAME}", is_failure=True)
                continue
            below = _enter(level.scopes, name[:-1])
            if below is not None:
                opened = _open(path, key + name, below, options, open_levels)


def look_at(path: str, key: str, options: WalkOptions, advice: str = RENAME) -> Found | None:
    """One file, with its metadata. None: its size or time is not within the limits.

    `advice`: what to do about a name that no key can have. Of a file in a directory, no object can be named.
    """
    if ASIDE in path and os.path.basename(path).startswith(ASIDE):
        why = "a move set it aside: if it is not running any more, run it again, or rename the file"
        return Omitted(path, why, is_failure=True)
    if options.names_are_keys and (why_not := why_no_key(key)) is not None:
        return Omitted(path, f"{why_not}: {advice}", is_failure=True)
    try:
        status = os.stat(path, follow_symlinks=options.follow_symlinks)
    except FileNotFoundError:
        is_link = os.path.islink(path)
        why = "a symbolic link to a file that does not exist" if is_link else "it vanished while its directory was read"
        return Omitted(path, why, is_failure=True)
    except OSError as e:
        return Omitted(path, f"can't look at it: {reason_of(e)}", is_failure=True)
    if not stat.S_ISREG(status.st_mode):
        if stat.S_ISLNK(status.st_mode):
            return Omitted(path, "a symbolic link: `follow_symlinks=True` uploads its target", is_failure=False)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
        return Omitted(path, kind, is_failure=stat.S_ISDIR(status.st_mode))
    if not options.limits.allow(status.st_size, status.st_mtime_ns):
        return None
    if (why_not := why_too_long(key, options.most_key_bytes)) is not None:
        return Omitted(path, why_not, is_failure=True)
    return FileEntry.of(path, key, status)


def _open(
    path: str, key: str, scopes: Sequence[Scope], options: WalkOptions, above: Sequence[_Level]
) -> _Level | Omitted:
    """Read a directory."""
    identity = None
    try:
        if options.follow_symlinks:
            status = os.stat(path or ".")
            identity = status.st_dev, status.st_ino
            if any(level.identity == identity for level in above):
                return Omitted(path, "a symbolic link to a directory that it is in: a loop", is_failure=False)
        names, is_store = _names(path, scopes, follow_symlinks=options.follow_symlinks)
    except OSError as e:
        return Omitted(path or ".", f"can't read the directory: {reason_of(e)}", is_failure=True)
    if is_store and names and above:  # an upload into that store would never end; at the top, the caller has named it
        return Omitted(path, "the local store's own files, which change while it runs", is_failure=False)
    names.sort(reverse=True)  # by code points, which is the order of their bytes in UTF-8
    return _Level(os.path.join(path, ""), key, scopes, identity, names)


def _names(path: str, scopes: Sequence[Scope], *, follow_symlinks: bool) -> tuple[list[str], bool]:
    """The names in a directory that may be selected, and whether it is the directory of a local store."""
    names, marks = [], 0
    with os.scandir(path or ".") as entries:
        for entry in entries:
            name = entry.name
            marks += name in STORE_MARKS
            if _is_directory(entry, follow_symlinks=follow_symlinks):
                if _enter(scopes, name) is not None:
                    names.append(f"{name}/")
            elif all(scope.selects(name) for scope in (scopes[1:] if name.startswith(ASIDE) else scopes)):
                names.append(name)
    return names, marks == len(STORE_MARKS)


def _is_directory(entry: os.DirEntry[str], *, follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:  # a link in a circle, for one; `look_at` reports the reason
        return False


def _enter(scopes: Sequence[Scope], name: str) -> Sequence[Scope] | None:
    below = [scope.enter(name) for scope in scopes]
    entered = [scope for scope in below if scope is not None]
    return entered if len(entered) == len(below) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The files of directories, globs and lists that are uploaded. By default all of them.

    Patterns are those of `.gitignore`, with "{jpg,png}" for alternatives: see docs/many-files.md. They are matched
    against the keys below the target's prefix.

    Raises:
        UsageError: A pattern is malformed, a value or a file of patterns can't be read, or no file could be within the
            limits.
    """

    include: Sequence[str] = ()
    """Only files that match one of these patterns."""
    exclude: Sequence[str] = ()
    """Not the files that match one of these. "!" before a pattern includes again; the last one that matches decides."""
    exclude_from: Sequence[str | os.PathLike[str]] = ()
    """Files like `.gitignore`, whose patterns come before those of `exclude`."""
    min_size: int | str | None = None
    """The size of the smallest selected file: bytes, or a text, as in "1MB"."""
    max_size: int | str | None = None
    """The size of the largest selected file: bytes, or a text, as in "5GB"."""
    newer_than: str | datetime.datetime | None = None
    """Only files that changed since then: "7d" (so long before the listing), "2026-01-31", "2026-01-31T08:00", in local
    time if it names no zone."""
    older_than: str | datetime.datetime | None = None
    """Only files that did not change since then."""
    follow_symlinks: bool = False
    """Upload what symbolic links lead to. False: they are left out and named. A source that is one is followed."""

    def __post_init__(self) -> None:
        for name in ("include", "exclude", "exclude_from"):
            if isinstance(getattr(self, name), str | os.PathLike):
                raise UsageError(f"`{name}` is a list, not one text or path")
        self.scope()
        self.walk_options(now=0.0)

    @property
    def is_all(self) -> bool:
        """Whether no pattern and no limit leaves files out."""
        limits = (self.max_size, self.newer_than, self.older_than)
        return not (self.include or self.exclude or self.exclude_from or self.min_size) and limits == (None,) * 3

    def scope(self) -> Scope:
        """The patterns, for the top of a tree."""
        listed = [rule for path in self.exclude_from for rule in read_exclude_file(path)]
        rest = [include(pattern[1:]) if pattern.startswith("!") else exclude(pattern) for pattern in self.exclude]
        return scope_of([*map(include, self.include), *listed, *rest])

    def walk_options(self, *, now: float, prefix: str | None = "") -> WalkOptions:
        """The rest.

        Args:
            now: Seconds since 1970, from which durations count back.
            prefix: What keys get in front, which counts for their length. None: names are not part of a key.
        """
        limits = FileLimits(
            min_size=_size("min_size", self.min_size),
            max_size=_size("max_size", self.max_size),
            newer_than=_instant("newer_than", self.newer_than, now),
            older_than=_instant("older_than", self.older_than, now),
        )
        return WalkOptions(
            limits=limits,
            follow_symlinks=self.follow_symlinks,
            most_key_bytes=MOST_KEY_BYTES - len((prefix or "").encode()),
            names_are_keys=prefix is not None,
        )


def read_exclude_file(path: str | os.PathLike[str]) -> list[FileRule]:
    """The rules of a file like `.gitignore`. Blocking.

    Raises:
        UsageError: The file can't be read, is not text, or has a malformed pattern.
    """
    name = os.fspath(path)
    try:
        with open(name, encoding="utf-8", newline="") as file:
            text = file.read()
    except OSError as e:
        raise UsageError(f"can't read `exclude_from` {name}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"`exclude_from` {name} is not a text in UTF-8") from None
    return parse_exclude_file(text, name)


def check_not_among_sources(
    option: str, file: Path, directory: str, selection: Selection, *, done: str = "uploaded"
) -> None:
    """Raise UsageError if a file that is written during the walk would be, or replace, one of those that are read.

    Args:
        option: The option or argument that names the file, as messages spell it.
        file: The file.
        directory: The directory, or the file, that is read.
        selection: Which files of it.
        done: What is done with them, in messages.
    """
    top, path = os.path.realpath(directory), os.path.realpath(file)
    if top in (path, str(partial_name(Path(path)))):
        raise UsageError(f"{option} {file} would replace the file that is {done}: name another one")
    try:
        is_below = os.path.commonpath([top, path]) == top
    except ValueError:  # on another drive of Windows
        is_below = False
    if is_below:
        key = with_slashes(os.path.relpath(path, top))
        if any(selects(selection.scope(), name) for name in (key, partial_name(Path(key)).as_posix())):
            raise UsageError(
                f"{option} {file} would be {done} itself while it is written: name a file elsewhere, or exclude it: "
                f"`exclude='/{key}*'`"
            )


def _size(name: str, given: int | str | None) -> int | None:
    if given is not None and not isinstance(given, str) and (isinstance(given, bool) or given < 0):
        raise UsageError(f"`{name}` is a number of bytes, or a text like '20MB', not {given!r}")
    return parse_size(given) if isinstance(given, str) else given


def _instant(name: str, given: str | datetime.datetime | None, now: float) -> int | None:
    """Nanoseconds since 1970."""
    if given is None:
        return None
    if isinstance(given, str):
        try:
            return round((now - parse_duration(given)) * 1e9)
        except UsageError:
            pass
    try:
        moment = datetime.datetime.fromisoformat(given) if isinstance(given, str) else given
        return round(moment.timestamp() * 1e6) * 1000  # a float of seconds has the microseconds, and no more
    except (ValueError, OverflowError):  # the latter for a year that the machine's time zone moves below 1
        raise UsageError(
            f"`{name}`: not a time: {given!r} (write it like 7d, 12h, 2026-01-31 or 2026-01-31T08:00)"
        ) from None
