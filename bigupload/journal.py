"""The manifest's file: appended, fsynced, locked, its torn tail cut.

Knows bytes and records, nothing of stores. Public for `status` and `resume`: `read_manifest`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import aiofiles.os
import filelock

from bigupload import errors
from bigupload._batch import Batcher, see_through
from bigupload._durable import make_directory, sync_directory
from bigupload.manifest import Header, Manifest, Record, Replay, encode, replay

SUFFIX = ".manifest.jsonl"
_MOST_RECORDS_A_SYNC = 1000


def read_manifest(path: Path) -> Replay:
    """What a manifest says, without its lock. Raises ManifestNotFound, ManifestCorrupt, ManifestMismatch."""
    return _replay(path, _read(path))


def _replay(path: Path, data: bytes) -> Replay:
    try:
        return replay(data)
    except errors.ManifestCorrupt as e:
        raise errors.ManifestCorrupt(f"{path}: {e}") from None


def _read(path: Path) -> bytes:
    try:
        # A link in the place of a manifest is somebody else's idea.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise errors.ManifestNotFound(f"no such manifest: {path}") from None
    except OSError as e:
        raise errors.ManifestMismatch(f"can't read the manifest {path}: {e.strerror}") from e
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise errors.ManifestMismatch(f"{path} is not a regular file: name another --manifest")
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read()
    except OSError as e:
        raise errors.ManifestMismatch(f"can't read the manifest {path}: {e.strerror}") from e
    finally:
        os.close(fd)


class FileJournal:
    """One manifest, locked from `open` to `close`. Implements `ports.Journal`.

    `warning` says what was cut from a damaged tail, if anything was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warning: str | None = None
        self._lock = filelock.FileLock(f"{path}.lock", thread_local=False, mode=0o600)
        self._manifest: Manifest | None = None
        self._fd = -1
        self._good_bytes = 0
        self._broken: errors.ManifestUnwritable | None = None
        self._batcher: Batcher[bytes, None] = Batcher(self._commit, most=_MOST_RECORDS_A_SYNC)

    @property
    def manifest(self) -> Manifest:
        if self._manifest is None:
            raise LookupError("nothing is recorded yet")
        return self._manifest

    @property
    def exists(self) -> bool:
        """Whether there is a record to go on from."""
        return self._manifest is not None

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
                data = _read(self.path)
            except errors.ManifestNotFound:
                return
            if not data:  # killed between creating the file and its first line
                return
            found = _replay(self.path, data)
            self._manifest, self._good_bytes = found.manifest, found.good_bytes
            try:
                self._open_file(self.path, os.O_APPEND)
            except OSError as e:
                raise self._unwritable(e) from e
            if found.damage is not None:
                self._cut_tail(data[found.good_bytes :], found.damage)
        except BaseException:
            self.close()
            raise

    def _acquire(self) -> None:
        holder = Path(f"{self.path}.lock")
        try:
            make_directory(self.path.parent, mode=0o700)
            self._lock.acquire(blocking=False)
            holder.write_text(f"{os.getpid()}\n")
        except filelock.Timeout:
            pid = ""
            with contextlib.suppress(OSError, ValueError):
                pid = f" (process {int(holder.read_text())})"
            raise errors.ManifestLocked(
                f"another upload of this file to this key is running{pid}: wait for it, or stop it first"
            ) from None
        except OSError as e:
            self._lock.release()
            raise self._unwritable(e) from e

    def _open_file(self, path: Path, flags: int) -> None:
        self._fd = os.open(
            path, os.O_WRONLY | flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0), 0o600
        )

    def _cut_tail(self, tail: bytes, damage: str) -> None:
        saved = self.path.with_name(f"{self.path.name}.damaged")
        try:
            nofollow = getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(saved, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | nofollow, 0o600), "wb") as copy:
                copy.write(tail)
            os.truncate(self.path, self._good_bytes)
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
            self._open_file(fresh, os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            self._write(line)
            self._close_file()  # Windows renames nothing that is open
            fresh.replace(self.path)
            sync_directory(self.path.parent)
            self._open_file(self.path, os.O_APPEND)
        except OSError as e:
            self._close_file()
            self._good_bytes = 0
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise self._unwritable(e) from e
        self._manifest = Manifest(header)

    async def append(self, *records: Record) -> Manifest:
        return await see_through(self._append(records))

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
