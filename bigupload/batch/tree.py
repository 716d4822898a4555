"""The files of one directory, as a stream in the order in which S3 lists their keys. Blocking.

S3 lists keys by their bytes in UTF-8. A directory's files come where "name/" belongs: after "name.txt" and "name-2",
and before "name0". So this list and the store's can be compared side by side, whatever the number of files. Memory
holds the names in the directories that are open: those from the top down to the present one. What can't be uploaded is
in the stream, too, as an `Omitted`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from bigupload.core.manifest import Fingerprint
from bigupload.core.selection import FileLimits, Scope
from bigupload.records import dataclass
from bigupload.s3_parameters import MOST_KEY_BYTES, RENAME, why_no_key, why_too_long
from bigupload.support.files import ASIDE, STORE_MARKS, reason_of
from bigupload.support.systems import change_time

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
