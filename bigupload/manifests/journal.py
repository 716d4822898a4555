"""The manifest's file: appended, fsynced, locked, its torn tail cut.

Knows bytes and records, nothing of stores. Public for `status` and `resume`: `read_manifest`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import aiofiles.os
import filelock

from bigupload import errors
from bigupload.core.manifest import Header, Manifest, Record
from bigupload.core.manifest_lines import Replay, encode, replay
from bigupload.support.batching import Batcher
from bigupload.support.durable_files import make_directory, sync_directory
from bigupload.support.private_files import create_private, is_private_file, only_user_can_write
from bigupload.support.shielding import run_shielded

SUFFIX = ".manifest.jsonl"
LONGEST = 64 * 1024 * 1024
"""Bytes of a manifest: ten thousand parts, each sent a dozen times, are a third of it."""
_MOST_RECORDS_A_SYNC = 1000


def read_manifest(path: Path) -> Replay:
    """What a manifest says, without its lock. Raises ManifestNotFound, ManifestCorrupt, ManifestMismatch."""
    return _replay(path, _read(path)[0])


def _replay(path: Path, data: bytes) -> Replay:
    try:
        return replay(data)
    except errors.ManifestCorrupt as e:
        raise errors.ManifestCorrupt(f"{path}: {e}") from None


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    try:
        # A link in the place of a manifest is somebody else's idea.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise errors.ManifestNotFound(f"no such manifest: {path}") from None
    except OSError as e:
        raise errors.ManifestMismatch(f"can't read the manifest {path}: {e.strerror}") from e
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise errors.ManifestMismatch(f"{path} is not a regular file: name another --manifest")
        if not is_private_file(status):
            raise errors.ManifestMismatch(f"{path} is another user's: name another --manifest")
        if status.st_size > LONGEST:
            raise errors.ManifestCorrupt(f"{path} is longer than any manifest: name another --manifest")
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read()
    except OSError as e:
        raise errors.ManifestMismatch(f"can't read the manifest {path}: {e.strerror}") from e
    finally:
        os.close(fd)
    return data, status


class FileJournal:
    """One manifest, locked from `open` to `close`. Implements `ports.Journal`.

    `warning` says what was cut from a damaged tail, if anything was. `notes`: a directory in which is noted which
    manifests were begun on this machine, so that `written_here` can tell them from those that came from elsewhere.
    """

    def __init__(self, path: Path, *, notes: Path | None = None) -> None:
        self.path = path
        self.warning: str | None = None
        self._notes = notes
        self._first_line = b""
        self._lock = filelock.FileLock(f"{path}.lock", thread_local=False, mode=0o600)
        self._manifest: Manifest | None = None
        self._fd = -1
        self._good_bytes = 0
        self._broken: errors.ManifestUnwritable | None = None
        self._batcher: Batcher[bytes, None] = Batcher(self._commit, max_batch=_MOST_RECORDS_A_SYNC)

    @property
    def manifest(self) -> Manifest:
        if self._manifest is None:
            raise LookupError("nothing is recorded yet")
        return self._manifest

    @property
    def exists(self) -> bool:
        """Whether there is a record to go on from."""
        return self._manifest is not None

    @property
    def written_here(self) -> bool:
        """Whether this user began the manifest on this machine.

        It says which file goes where with whose credentials: one that was downloaded, or copied here, may be a trap.
        """
        if self._notes is None or not only_user_can_write(self._notes.parent):
            return False
        if self.path.parent.resolve() == self._notes.parent.resolve():  # nobody else can have put it there
            return True
        try:
            return only_user_can_write(self._notes) and is_private_file(self._note(self._notes).lstat())
        except OSError:
            return False

    def _note(self, notes: Path) -> Path:
        """Named by the first line, which holds a random token: who has not seen the manifest can't make up another."""
        return notes / hashlib.sha256(self._first_line).hexdigest()

    def _take_note(self) -> None:
        """Best effort: where it fails, resuming asks whether the manifest is trusted."""
        if self._notes is not None and self.path.parent.resolve() != self._notes.parent.resolve():
            with contextlib.suppress(OSError):
                self._notes.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(create_private(self._note(self._notes)))

    def __enter__(self) -> FileJournal:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Take the lock and read what is there. Raises ManifestLocked, ManifestCorrupt, ManifestUnwritable."""
        self._acquire()
        try:
            try:
                data, status = _read(self.path)
            except errors.ManifestNotFound:
                return
            if not data:  # killed between creating the file and its first line
                return
            found = _replay(self.path, data)
            self._manifest, self._good_bytes = found.manifest, found.good_bytes
            self._first_line = data[: data.index(b"\n") + 1]
            try:
                self._open_file()
            except OSError as e:
                raise self._unwritable(e) from e
            if not os.path.samestat(os.fstat(self._fd), status):
                raise errors.ManifestMismatch(f"{self.path} was replaced while it was opened: run again")
            if found.damage is not None:
                self._cut_tail(data[found.good_bytes :], found.damage)
        except BaseException:
            self.close()
            raise

    def _acquire(self) -> None:
        holder = Path(f"{self.path}.lock")
        try:
            make_directory(self.path.parent, mode=0o700)
            if os.path.lexists(holder) and not is_private_file(holder.lstat()):
                raise PermissionError(errno.EPERM, f"{holder} is another user's, or not a regular file")
            self._lock.acquire(blocking=False)
            _write_pid(holder)
        except filelock.Timeout:
            pid = ""
            with contextlib.suppress(OSError, ValueError):
                pid = f" (process {_read_pid(holder)})"
            raise errors.ManifestLocked(
                f"another upload of this file to this key is running{pid}: wait for it, or stop it first"
            ) from None
        except OSError as e:
            self._lock.release()
            raise self._unwritable(e) from e

    def _open_file(self) -> None:
        self._fd = os.open(
            self.path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        )

    def _cut_tail(self, tail: bytes, damage: str) -> None:
        saved = self.path.with_name(f"{self.path.name}.damaged")
        try:
            with os.fdopen(create_private(saved), "wb") as copy:
                copy.write(tail)
            os.ftruncate(self._fd, self._good_bytes)
            os.fsync(self._fd)
        except OSError as e:
            raise self._unwritable(e) from e
        self.warning = f"{damage}: the rest was cut (a copy is in {saved}), and what it knew is asked of the store"

    def begin(self, header: Header) -> None:
        """Write the first record of a new manifest. Blocking. Raises ManifestUnwritable, then nothing is there.

        It is written beside and then renamed: a manifest with half a first line could not be gone on from.
        """
        line = encode(header)
        fresh = self.path.with_name(f"{self.path.name}.new")
        try:
            self._fd = create_private(fresh)
            self._write(line)
            self._close_file()  # Windows renames nothing that is open
            self._first_line = line
            self._take_note()
            fresh.replace(self.path)
            sync_directory(self.path.parent)
            self._open_file()
        except OSError as e:
            self._close_file()
            self._good_bytes = 0
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise self._unwritable(e) from e
        self._manifest = Manifest(header)

    async def append(self, *records: Record) -> Manifest:
        return await run_shielded(self._append(records))

    async def _append(self, records: Sequence[Record]) -> Manifest:
        await self._batcher.submit(b"".join(map(encode, records)))
        for record in records:
            self.manifest.apply(record)
        return self.manifest

    async def _commit(self, lines: Sequence[bytes]) -> Sequence[None]:
        if self._broken is not None:
            raise self._broken
        try:
            await _in_thread(self._write)(b"".join(lines))
        except OSError as e:
            # After a failed fsync nobody can say what is on disk: this run must not count on anything more.
            self._broken = self._unwritable(e)
            raise self._broken from e
        return [None] * len(lines)

    def _write(self, data: bytes) -> None:
        """All of `data` on disk, or the file as it was before."""
        try:
            done = 0
            while done < len(data):
                done += os.write(self._fd, data[done:])
            os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._good_bytes)
            raise
        self._good_bytes += len(data)

    def set_aside(self) -> Path:
        """Rename what is there, so that a new manifest can begin. Gives the new name."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        try:
            self._close_file()
            self.path.rename(aside)
            sync_directory(self.path.parent)
        except OSError as e:
            raise self._unwritable(e) from e
        self._manifest = None
        self._first_line = b""
        self._good_bytes = 0
        return aside

    def close(self) -> None:
        """Release the lock, last of all. Idempotent."""
        self._close_file()
        self._lock.release()

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _unwritable(self, e: OSError) -> errors.ManifestUnwritable:
        return errors.ManifestUnwritable(
            f"can't write the manifest {self.path}: {e.strerror}. Make room or name another --manifest, then run again",
            manifest=self.path if self._manifest is not None else None,
        )


_in_thread = aiofiles.os.wrap


def _write_pid(holder: Path) -> None:
    """For those who find the lock taken. Nothing is truncated that also has another name: it may be anything."""
    flags = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    fd = os.open(holder, flags)
    try:
        if is_private_file(status := os.fstat(fd)) and status.st_nlink == 1:
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
    finally:
        os.close(fd)


def _read_pid(holder: Path) -> int:
    fd = os.open(holder, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        return int(os.read(fd, 32))
    finally:
        os.close(fd)
