"""Files of this user: changes that survive a power failure, files that nobody else may have written, locks, and limits.

Inside the user's own directories the checks of owners are not needed. They protect manifests in directories that other
users can write to, and they protect root.

And suggestions for the name of a file that does not exist: `why_missing`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bigupload import errors
from bigupload.support.systems import open_binary, sync_to_disk

if TYPE_CHECKING:
    import filelock

# filelock warns of its fallback in the middle of an upload. The fallback is enough for the caller.
warnings.filterwarnings("ignore", message="flock not supported on this filesystem", category=UserWarning)
ASIDE = ".bigupload-moved-"
"""The beginning of the name of a file that `sources/removal` is about to delete."""
STORE_MARKS = frozenset({"s3.json", "security.toml", "weed.log"})
"""Files that the directory of a local store has (`stores/local_store`), and no other directory all of them."""
_LASTING = (
    errno.EACCES, errno.EPERM, errno.EROFS,
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG,
)  # fmt: skip


def is_lasting(e: BaseException, *, creating: bool = False) -> bool:
    """Whether writing to the same place would fail again: it is forbidden, or no file can be there.

    Space comes back on a full disk, and so do descriptors and memory.

    Args:
        e: The error.
        creating: Whether a file was being created, and the directories above it: ENOENT means then that the file system
            takes none, as /proc does.
    """
    return isinstance(e, OSError) and (e.errno in _LASTING or (creating and e.errno == errno.ENOENT))


def sync_directory(directory: Path) -> None:
    """Write a directory's entries to disk, so that a new or renamed file keeps its name after a power failure.

    Does nothing where a directory can't be opened, as on Windows.
    """
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY)
        try:
            sync_to_disk(fd)
        finally:
            os.close(fd)


def make_directory(directory: Path, *, mode: int) -> None:
    """Create a directory and its missing parents durably.

    Args:
        directory: The directory. It is not an error if it exists.
        mode: Permission bits of `directory`, for example 0o700. Missing parents get the default permissions.

    Raises:
        OSError: The directory can't be created.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(mode=mode, parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)


def is_private_file(status: os.stat_result) -> bool:
    """Whether `status` describes a regular file that belongs to this user or to root.

    For root every regular file counts: a network file system may report another owner for root's own files.
    """
    return stat.S_ISREG(status.st_mode) and _owner_is_trusted(status)


def only_user_can_write(directory: Path) -> bool:
    """Whether no other user can create a file in `directory`.

    A symbolic link counts as the directory it points to, provided that no other user created the link. Windows has no
    permission bits, and Python shows 0o777 for each directory: there the user's own are those below the home directory.
    """
    try:
        link, status = directory.lstat(), directory.stat()
        if not hasattr(os, "geteuid"):
            return directory.resolve().is_relative_to(Path.home().resolve())
    except (OSError, RuntimeError):  # or there is no home directory
        return False
    return _owner_is_trusted(link) and _owner_is_trusted(status) and not status.st_mode & 0o022


def create_private(path: Path) -> int:
    """Create a new file with mode 0600 and open it for appending.

    A file of this user at `path` is deleted first. A link, another user's file or anything that is not a regular file
    is left alone.

    Returns:
        A file descriptor, which the caller closes.

    Raises:
        PermissionError: Something that is not this user's regular file is in the way.
        OSError: The file can't be created.
    """
    with contextlib.suppress(FileNotFoundError):
        if not is_private_file(path.lstat()):
            raise PermissionError(errno.EPERM, f"{path.name} belongs to another user, or is not a regular file")
        path.unlink()
    return open_binary(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, links=False)


def open_to_append(path: Path) -> int:
    """Open a file to append to it, and create it with mode 0600 if necessary.

    A link that this user or root created is followed. Another user's link, in a directory that others can write to,
    would choose which file this user appends to: also root follows none.

    Returns:
        A file descriptor, which the caller closes.

    Raises:
        PermissionError: The path is another user's link.
        OSError: The file can't be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        return open_binary(path, flags, links=False)
    except OSError as e:
        if e.errno not in (errno.ELOOP, errno.EMLINK):  # EMLINK: FreeBSD's word for a link
            raise
    before = path.lstat()
    if before.st_uid in (0, os.geteuid()):
        fd = open_binary(path, flags)
        if os.path.samestat(before, path.lstat()):
            return fd
        os.close(fd)
    raise PermissionError(errno.EPERM, "it is another user's link")


def _owner_is_trusted(status: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):  # Windows: the directory's access control list decides
        return True
    return os.geteuid() in (0, status.st_uid) or status.st_uid == 0


def file_lock(path: str | os.PathLike[str]) -> filelock.BaseFileLock:
    """A lock of this user's, in the file `path`, which any thread may release."""
    import filelock  # slow to load, and most importers of this module lock nothing

    return filelock.FileLock(path, thread_local=False, mode=0o600)


def user_path(kind: Literal["config", "data", "state"], *, instead: str) -> Path:
    """Return bigupload's directory among the user's.

    Args:
        kind: What is kept there.
        instead: The variable or option that names another place, for the message.

    Raises:
        UsageError: There is neither HOME nor a known user, as in a container that runs as any number.
    """
    try:
        path = _by_xdg(kind) or _by_platform(kind)
    except RuntimeError:
        path = Path()
    if not path.is_absolute():  # before platformdirs 4.11, "~" stayed
        raise errors.UsageError(f"there is no home directory: set HOME, or {instead}")
    return path


_OF_XDG = {"config": ".config", "data": ".local/share", "state": ".local/state"}
"""https://specifications.freedesktop.org/basedir-spec/latest/, for Linux."""


def _by_xdg(kind: str) -> Path | None:
    """Do what platformdirs does on Linux for a plain HOME: to load that costs as much as a tenth of a small upload."""
    if sys.platform != "linux" or "ANDROID_DATA" in os.environ:
        return None
    named, home = os.environ.get(f"XDG_{kind.upper()}_HOME", ""), os.environ.get("HOME", "")
    if os.path.isabs(named):  # noqa: PTH117 - a Path of "" is one of "."
        return Path(named, "bigupload")
    return Path(home, _OF_XDG[kind], "bigupload") if os.path.isabs(home) else None  # noqa: PTH117 - as above


def _by_platform(kind: str) -> Path:
    import platformdirs

    path: Path = getattr(platformdirs, f"user_{kind}_path")("bigupload", appauthor=False)
    return path


OUT_OF_DESCRIPTORS = (
    "this process has too many files and connections open: allow more (ulimit -n), or upload fewer files at once"
)


_NUMBERS = (errno.EMFILE, errno.ENFILE)
_SQLITE_IOERR = 10
"""https://www.sqlite.org/rescode.html#ioerr. `sqlite3` is loaded by those who use it."""


def descriptor_limit() -> int | None:
    """Return the number of descriptors that this process may have open; None: no limit."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit for sockets
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def is_out_of_descriptors(e: BaseException) -> bool:
    """Whether an error comes from this machine's limits on open files: EMFILE or ENFILE."""
    if isinstance(e, ImportError):  # of a module in C, for which the dynamic linker says it in words
        return any(os.strerror(number) in str(e) for number in _NUMBERS)
    return isinstance(e, OSError) and e.errno in _NUMBERS


def is_at_file_limit(e: BaseException) -> bool:
    """Whether an error of a write comes from the limit on the size of this process's files.

    SQLite says only that a write failed: with that limit, it is the likely cause.
    """
    failed = getattr(e, "errno", None) == errno.EFBIG or getattr(e, "sqlite_errorcode", 0) & 0xFF == _SQLITE_IOERR
    if not failed or sys.platform == "win32":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def reason_of(e: Exception) -> str:
    """The words of the operating system or of SQLite for an error; where they name no cause, the cause and its cure."""
    if is_out_of_descriptors(e):
        return OUT_OF_DESCRIPTORS
    if is_at_file_limit(e):
        return "this process may not write so large a file: allow more (ulimit -f)"
    if not isinstance(e, OSError):
        return str(e)
    if e.errno == errno.ENOTCONN:  # the words are those for sockets
        return "the program that serves its file system (FUSE) has ended: mount it again"
    return str(e.strerror)


_MOST_NAMES = 20_000
"""Names of a directory that are compared with the missing one."""
_PRIVATE = r"(?s)(?<=[:/])[^/?#]*@|[?#].*"
"""The user and password, the query and the fragment of a URL."""
_ONE_SLASH = r"(?is)(s3|https?):/*(?!/)(?P<rest>.*)"


def why_missing(name: str) -> str:
    """Return the text behind "no such file: NAME", empty if nothing is known. Reads the directory. Blocking.

    It never raises: what can't be looked at is left out.
    """
    if match := re.fullmatch(_ONE_SLASH, shown(name)):
        return f"; a URL has two slashes: {match[1].lower()}://{match['rest']}"
    if name.startswith("~"):
        return "; the shell did not replace ~: write it without quotes"
    try:
        return _what_is_there(Path(name)) or in_working_directory(name)
    except (OSError, ValueError):
        return ""


def shown(name: str) -> str:
    """Return the name for a message: of what may be meant as a URL, without what may be secret in it."""
    return re.sub(_PRIVATE, "", name) if re.fullmatch(_ONE_SLASH, name) else name


def _what_is_there(path: Path) -> str:
    if path.is_symlink():
        return f"; it is a symbolic link to {str(path.readlink())!r}, which does not exist"
    if not path.parent.is_dir():
        above = next(each for each in path.parents if each.parent.exists())
        what = "is not a directory" if above.exists() else "does not exist"
        return f"; {above} {what}{in_working_directory(str(path))}"
    wanted = _folded(path.name)
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in itertools.islice(entries, _MOST_NAMES) if _folded(entry.name) == wanted]
    if names and path.name not in names:
        return f"; there is {min(names)!r}, whose name differs in case, spaces, quotes or accents"
    return ""


def _folded(name: str) -> str:
    """A name as people compare it."""
    import unicodedata

    return "".join(unicodedata.normalize("NFKC", name).casefold().split()).strip("'\"")


def in_working_directory(name: str) -> str:
    """Return the directory that a relative path is relative to, in brackets; empty for an absolute one."""
    try:
        return "" if Path(name).is_absolute() else f" (the working directory is {Path.cwd()})"
    except OSError:  # it is gone
        return ""
