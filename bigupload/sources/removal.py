"""Take a file that is in the store out of its directory, if it is still the file that was proved. Blocking.

The file is renamed first (*set aside*), looked at under its new name, and only then deleted: between a look and the
deletion of the same name, another program could have renamed another file to it. Until the deletion, `put_back` gives
the name back. A process that is killed between leaves the file under `aside_name`, which says what its name was:
`restore` gives it back. Nothing else is recorded of a deletion.

What remains: a program that found the file before it was set aside, opens it for writing after the last look, and
writes into what is deleted. On Linux's own file systems, a lease shows who has the file open for writing, until the
microseconds between that look and the deletion.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import itertools
import os
import stat

from bigupload import errors
from bigupload.core.manifest import Fingerprint
from bigupload.sources.file import fingerprint_of
from bigupload.support.files import ASIDE, reason_of, shown
from bigupload.support.systems import close_read

try:
    import fcntl
except ImportError:  # Windows
    _HAS_FCNTL = False
else:
    _HAS_FCNTL = True

_BUCKETS = ("s3fs", "mountpoint-s3", "goofys", "geesefs", "rclone", "seaweedfs", "gcsfuse")
"""FUSE file systems that show a bucket: a file there may be the very object."""
_NOT_LOCAL = ("nfs", "cifs", "smb", "fuse", "9p", "afs", "ceph", "lustre", "gfs", "ocfs")
"""The beginnings of the types of file systems where a lease does not show what other machines do, or is never given."""
_NAMED = f"{ASIDE}as-"
_LONGEST_NAME = 255
"""Bytes."""
_LISTED = 1000
"""Entries of a directory that are looked at to find out whether it has files of its own."""
_PLAIN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
_HAS_DIR_FD = os.rename in os.supports_dir_fd and os.link in os.supports_dir_fd and os.unlink in os.supports_dir_fd


def aside_name(path: str) -> str:
    """The name that a file has while it is set aside, in the same directory. It holds the name, if that is not long."""
    aside = f"{_NAMED}{os.path.basename(path)}"
    return aside if len(os.fsencode(aside)) <= _LONGEST_NAME else _hashed_name(path)


def _hashed_name(path: str) -> str:
    """The same without the name: of a long one, and as earlier versions wrote it."""
    return f"{ASIDE}{hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:24]}"


def restore(path: str) -> None:
    """Give a file its name back that a killed process has set aside. What a living process has is left alone.

    Raises:
        SourceNotDeleted: The system refuses; or another file has the name meanwhile, and this one gets a similar one.
    """
    for aside in {aside_name(path), _hashed_name(path)}:
        if os.path.lexists(os.path.join(os.path.dirname(path), aside)):
            with contextlib.closing(FileRemoval(path, None, links=True)) as removal:
                removal.take_back(aside)


def restore_below(directory: str) -> None:
    """Do the same with all files of a directory and below it, as far as their names hold what they were."""
    for parent, _, names in os.walk(directory):
        for name in names:
            if name.startswith(_NAMED):
                with contextlib.suppress(errors.SourceNotDeleted):  # the listing names it
                    restore(os.path.join(parent, name.removeprefix(_NAMED)))


def check_can_be_deleted(path: str, *, links: bool) -> None:
    """Raise SourceNotDeleted for what is known beforehand, before anything is sent. What is not there is no error.

    Args:
        path: The file's absolute path.
        links: Whether hard links and symbolic links may be deleted.
    """
    parent, name = os.path.split(path)
    try:
        status = os.lstat(path)
        of_parent = os.stat(parent or ".")
    except (OSError, ValueError):  # opening it raises the error
        return
    _refuse_links(path, status, links=links)
    check_directory(parent or ".")
    owners = (0, of_parent.st_uid, status.st_uid)
    if of_parent.st_mode & stat.S_ISVTX and hasattr(os, "geteuid") and os.geteuid() not in owners:
        raise _kept(path, f"{shown(parent)} is a directory in which each user deletes only their own files, as in /tmp")
    if (kind := file_system(of_parent.st_dev)).startswith("fuse") and kind.partition(".")[2] in _BUCKETS:
        raise _kept(path, f"it is on a mounted bucket ({kind}), and may be the very object that it is uploaded to")
    if name.startswith(ASIDE):
        raise _kept(path, "an interrupted move has set it aside: run that move again")


def check_directory(directory: str) -> None:
    """Raise SourceNotDeleted if no file in a directory can be deleted."""
    try:
        is_read_only = bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
    except (OSError, AttributeError):  # Windows
        is_read_only = False
    may_write = os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
    if is_read_only or not may_write:
        why = "its file system is mounted read-only" if is_read_only else "you may not write to it"
        raise errors.SourceNotDeleted(
            f"can't delete files in {shown(directory)}: {why}. Nothing was sent; without `DeleteSource` they are "
            "uploaded and stay"
        )


def check_top(directory: str) -> None:
    """Raise SourceNotDeleted if a directory has files of its own, none of which can be deleted."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        if any(entry.is_file(follow_symlinks=False) for entry in itertools.islice(entries, _LISTED)):
            check_directory(directory)


def _refuse_links(path: str, status: os.stat_result, *, links: bool) -> None:
    if links:
        return
    if stat.S_ISLNK(status.st_mode):
        raise _kept(
            path, "it is a symbolic link: `DeleteSource(links=True)` deletes the link, not the file it leads to"
        )
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise _kept(
            path,
            f"it has {status.st_nlink} hard links, so others have it too: `DeleteSource(links=True)` deletes this one",
        )


def _kept(path: str, why: str, *, in_use: bool = False) -> errors.SourceNotDeleted:
    return errors.SourceNotDeleted(f"{errors.IT} can't be deleted: {why}", it=shown(path), in_use=in_use)


@functools.cache
def file_system(device: int) -> str:
    """The type of the file system with a device number, as "ext4" or "fuse.s3fs"; empty if it is not known."""
    numbers = f"{os.major(device)}:{os.minor(device)}" if hasattr(os, "major") else ""
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:  # see proc_pid_mountinfo(5)
            fields, _, rest = line.partition(" - ")
            if fields.split(" ")[2] == numbers:
                return rest.split(" ")[0]
    return ""


class FileRemoval:
    """The deletion of one file, in three steps: `set_aside`, then `delete` or `put_back`. Close it at the end."""

    def __init__(self, path: str, proved: Fingerprint | None, *, links: bool) -> None:
        """Touch nothing yet.

        Args:
            path: The file's absolute path.
            proved: The fingerprint of the file that is in the store; None: it is only taken back.
            links: Whether hard links and symbolic links may be deleted.
        """
        self._path = path
        self._proved = proved
        self._links = links
        self._parent, self._name = os.path.split(path)
        self._aside = aside_name(path)
        self._directory: int | None = None
        self._fd = -1
        self._has_lease = False
        self._is_aside = False
        self._moved: Fingerprint | None = None
        """The file's fingerprint after the renaming. Where no ctime is recorded, size and mtime show later writes."""
        self.restored: Fingerprint | None = None
        """The file's fingerprint after `put_back`, which differs in the ctime; None: it was changed meanwhile."""

    def take_back(self, aside: str) -> None:
        """Give a file that an earlier process has set aside its name again. See `restore`."""
        self._aside = aside
        try:
            self._open_directory()
            if (status := self._look(aside)) is None:
                return
            try:
                self._hold(aside, status)
            except errors.SourceNotDeleted:  # a living process has it, or writes to it
                return
            named = self._look(self._name)
            if named is not None and os.path.samestat(named, status):  # killed between the steps of `_rename_back`
                os.unlink(self._name_of(aside), dir_fd=self._directory)
                return
        except OSError as e:
            raise _kept(self._path, reason_of(e)) from e
        self._is_aside = True
        self.put_back()

    def set_aside(self) -> bool:
        """Rename the file if it is the one that was proved.

        Returns:
            False if it is gone.

        Raises:
            SourceChanged: It is another file, or was written since. It has its name.
            SourceNotDeleted: It is in use, or the system refuses. It has its name.
        """
        try:
            self._open_directory()
            aside = self._look(self._aside)
            if (status := self._look(self._name)) is None and aside is None:
                return False
            if aside is not None:
                self._hold(self._aside, aside)  # fails while another process is at it
                raise _kept(self._path, f"an interrupted move has left {self._aside}: try again")
            assert status is not None
            self._check(status, renamed=False)
            self._hold(self._name, status)
            os.rename(
                self._name_of(self._name),
                self._name_of(self._aside),
                src_dir_fd=self._directory,
                dst_dir_fd=self._directory,
            )
            self._is_aside = True
            after = self._look(self._aside)
            if after is None:
                return False  # deleted by another program under this very name
            self._check(after, renamed=True)
            self._moved = fingerprint_of(after)
        except FileNotFoundError:
            return False
        except OSError as e:
            self.put_back()
            raise _kept(self._path, reason_of(e)) from e
        except BaseException:
            self.put_back()
            raise
        return True

    def delete(self) -> None:
        """Delete the file that was set aside.

        Raises:
            SourceChanged: It was written since. It has its name again.
            SourceNotDeleted: The system refuses.
        """
        try:
            status = self._look(self._aside)
            if status is None:
                return
            if fingerprint_of(status) != self._moved or self._is_lease_broken():
                raise self._changed()
            os.unlink(self._name_of(self._aside), dir_fd=self._directory)
            self._is_aside = False
        except OSError as e:
            self.put_back()
            raise _kept(self._path, reason_of(e)) from e
        except BaseException:
            self.put_back()
            raise

    def put_back(self) -> None:
        """Give the file its name again, unless it has it. If another file has that meanwhile, it gets a similar one.

        Raises:
            SourceNotDeleted: The system refuses. It says where the file is.
        """
        if not self._is_aside:
            return
        name, before = self._name, self._look(self._aside)
        for number in range(1, 100):
            try:
                self._rename_back(name)
            except FileExistsError:
                name = f"{self._name}.kept-{number}"
                continue
            except FileNotFoundError:
                return
            except OSError as e:
                where = os.path.join(self._parent, self._aside)
                raise _kept(self._path, f"it is {shown(where)} now, and can't be renamed back: {reason_of(e)}") from e
            break
        self._is_aside = False
        if before is not None and fingerprint_of(before) == self._moved:
            after = self._look(name)
            self.restored = None if after is None else fingerprint_of(after)
        if name != self._name:
            raise _kept(self._path, f"another file took its name meanwhile; it is {shown(name)} now")

    def _rename_back(self, name: str) -> None:
        """Rename without replacing another file: a link fails where a rename would replace."""
        aside, back = self._name_of(self._aside), self._name_of(name)
        try:
            os.link(aside, back, follow_symlinks=False, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except (NotImplementedError, OSError) as e:
            no_links = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
            if isinstance(e, OSError) and e.errno not in no_links:  # FAT and exFAT have no links: EPERM
                raise
            if self._look(name) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from e
            os.rename(aside, back, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        else:
            os.unlink(aside, dir_fd=self._directory)

    def remove_empty_directories(self, top: str) -> None:
        """Delete the file's directory, and those above it but below `top`, as far as they are empty."""
        directory = self._parent
        while directory.startswith(f"{top.rstrip(os.sep)}{os.sep}"):
            try:
                os.rmdir(directory)
            except OSError:  # it is not empty, or another program's business
                return
            directory = os.path.dirname(directory)

    def close(self) -> None:
        """Let go of what is open. Idempotent."""
        self._let_go()
        if self._directory is not None:
            close_read(self._directory)
            self._directory = None

    def _let_go(self) -> None:
        if self._fd >= 0:
            close_read(self._fd)  # with lock and lease
        self._fd, self._has_lease = -1, False

    # -- looking

    def _open_directory(self) -> None:
        if _HAS_DIR_FD:
            self._directory = os.open(self._parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _name_of(self, name: str) -> str:
        return os.path.join(self._parent, name) if self._directory is None else name

    def _look(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(self._name_of(name), dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _check(self, status: os.stat_result, *, renamed: bool) -> None:
        """Compare with what was proved. A rename changes the ctime, and leaves the rest."""
        _refuse_links(self._path, status, links=self._links)
        if stat.S_ISLNK(status.st_mode):  # the link is renamed, and not its target
            renamed = False
            try:
                name = self._aside if self._is_aside else self._name
                status = os.stat(self._name_of(name), dir_fd=self._directory)
            except FileNotFoundError:
                raise self._changed() from None
        now, proved = fingerprint_of(status), self._proved
        assert proved is not None
        same = (now.size, now.mtime_ns, now.inode) == (proved.size, proved.mtime_ns, proved.inode)
        if not stat.S_ISREG(status.st_mode) or not same or (not renamed and now.ctime_ns != proved.ctime_ns):
            raise self._changed()

    def _changed(self) -> errors.SourceChanged:
        return errors.SourceChanged(
            f"{errors.IT} changed after it was proved to be in the store: it was not deleted; try again",
            it=shown(self._path),
            same_size=False,
        )

    # -- its other users

    def _hold(self, name: str, status: os.stat_result) -> None:
        """Lock the file against another process that deletes it, and find out whether a program writes to it."""
        if not _HAS_FCNTL or not stat.S_ISREG(status.st_mode):
            return
        self._fd = os.open(self._name_of(name), os.O_RDONLY | _PLAIN, dir_fd=self._directory)
        if os.fstat(self._fd).st_ino != status.st_ino:
            raise self._changed()
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _kept(self._path, "another program has locked it", in_use=True) from None
        except OSError:  # a file system without locks
            pass
        self._take_lease(status)

    def _take_lease(self, status: os.stat_result) -> None:
        """Take a read lease, which Linux gives only while nobody has the file open for writing. See fcntl(2)."""
        if not hasattr(fcntl, "F_SETLEASE") or file_system(status.st_dev).startswith(_NOT_LOCAL):
            return
        import signal

        try:
            fcntl.fcntl(self._fd, fcntl.F_SETSIG, signal.SIGURG)  # that of a lease ends a process, this one is ignored
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            self._has_lease = True
        except BlockingIOError:
            raise _kept(self._path, "a program has it open for writing", in_use=True) from None
        except OSError:  # another user's file, or a file system without leases
            return

    def _is_lease_broken(self) -> bool:
        """Whether a program is opening the file for writing now: it waits until the lease ends."""
        return self._has_lease and fcntl.fcntl(self._fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK
