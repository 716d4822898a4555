"""The manifest's file: append, fsync, and cut a damaged tail. Knows bytes and records, nothing of stores."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from bigupload import errors
from bigupload.core.manifest import Header, Manifest, Record
from bigupload.core.manifest_lines import Replay, encode, replay
from bigupload.manifests.lock import ManifestLock
from bigupload.manifests.manifest_index import delete_entry, entry_of, update_entry, write_entry
from bigupload.manifests.state_directory import next_set_aside
from bigupload.support.batching import Batcher
from bigupload.support.cancellation import finish, run_shielded
from bigupload.support.files import (
    create_private,
    is_at_file_limit,
    is_lasting,
    is_out_of_descriptors,
    is_private_file,
    only_user_can_write,
    reason_of,
    sync_directory,
)
from bigupload.support.systems import open_binary, sync_to_disk

MAX_BYTES = 64 * 1024 * 1024
"""The largest manifest. Ten thousand parts, each recorded a dozen times, are a third of it."""
_MAX_RECORDS_PER_SYNC = 1000
ANOTHER_NAME = ": name another `manifest`, or move this file away"
"""Advice for a file in the place of an upload's new manifest."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def read_manifest(path: Path) -> Replay:
    """Read a manifest without taking its lock. Blocking.

    Args:
        path: The manifest's file.

    Returns:
        The state that the manifest's records add up to, and where its damage begins, if there is any.

    Raises:
        ManifestNotFound: There is no such file.
        ManifestCorrupt: Its first line can't be read.
        ManifestMismatch: It is another user's, not a regular file, or can't be opened.
    """
    return _replay(path, _read(path)[0])


def _replay(path: Path, data: bytes, advice: str = "") -> Replay:
    try:
        return replay(data)
    except errors.ManifestCorrupt as e:
        raise errors.ManifestCorrupt(f"{errors.IT}: {e}{advice}", it=path) from None


def _read(path: Path, advice: str = "") -> tuple[bytes, os.stat_result]:
    try:
        # A symbolic link in the place of a manifest could lead to any file.
        fd = open_binary(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0), links=False)
    except FileNotFoundError:
        raise errors.ManifestNotFound(f"no such manifest: {errors.IT}", it=path) from None
    except OSError as e:
        raise errors.ManifestMismatch(f"can't read the manifest {errors.IT}: {reason_of(e)}", it=path) from e
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise errors.ManifestMismatch(f"{errors.IT} is not a regular file{advice}", it=path)
        if not is_private_file(status):
            raise errors.ManifestMismatch(f"{errors.IT} is another user's{advice}", it=path)
        if status.st_size > MAX_BYTES:
            raise errors.ManifestCorrupt(f"{errors.IT} is longer than any manifest{advice}", it=path)
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read()
    except OSError as e:
        raise errors.ManifestMismatch(f"can't read the manifest {errors.IT}: {reason_of(e)}", it=path) from e
    finally:
        os.close(fd)
    return data, status


class FileJournal:
    """One manifest's file, locked from `open` to `close`. Implements `ports.Journal`.

    Attributes:
        path: The manifest's file.
        warning: What was cut from a damaged tail, as a sentence; None if nothing was.
    """

    def __init__(
        self,
        path: Path,
        *,
        index: Path | None = None,
        advice: str = ANOTHER_NAME,
        executor: concurrent.futures.Executor | None = None,
    ) -> None:
        """Name the manifest; `open` locks and reads it.

        Args:
            path: The manifest's file, which need not exist.
            index: A directory with an entry for each manifest that this user began elsewhere than beside it, so that
                `written_here` can distinguish it from one that came from elsewhere, and `gc` and `status` find it.
            advice: What to do about a file that is not a manifest, as the end of a message.
            executor: Threads that write; None: those of the event loop, which the program around may keep busy.
        """
        self.path = path
        self.warning: str | None = None
        self._index = index
        self._advice = advice
        self._executor = executor
        self._first_line = b""
        self._lock = ManifestLock(path)
        self._manifest: Manifest | None = None
        self._renamed: Callable[[Path], None] | None = None
        self._fd = -1
        self._good_bytes = 0
        self._broken: errors.ManifestUnwritable | None = None
        self._batcher: Batcher[bytes, None] = Batcher(self._commit, max_batch=_MAX_RECORDS_PER_SYNC)

    @property
    def manifest(self) -> Manifest:
        """The recorded manifest. Raises LookupError before the first record."""
        if self._manifest is None:
            raise LookupError("nothing is recorded yet")
        return self._manifest

    @property
    def exists(self) -> bool:
        """Whether anything is recorded."""
        return self._manifest is not None

    @property
    def written_here(self) -> bool:
        """Whether this user began the manifest on this machine.

        A manifest decides which file is sent where, with whose credentials. One that was downloaded may be a trap.
        """
        if self._index is None or not only_user_can_write(self._index.parent):
            return False
        if self.path.parent.resolve() == self._index.parent.resolve():  # nobody else can have put it there
            return True
        try:
            return only_user_can_write(self._index) and is_private_file(entry_of(self._index, self._first_line).lstat())
        except OSError:
            return False

    def _update_index(self, change: Callable[[Path, bytes, Path], object]) -> None:
        """Write, update or delete the index entry of a manifest outside the state directory. Best effort.

        Without it, resuming asks whether the manifest is trusted, and `gc` needs `--state`.
        """
        if self._index is not None and self.path.parent.resolve() != self._index.parent.resolve():
            with contextlib.suppress(OSError):
                change(self._index, self._first_line, self.path)

    def __enter__(self) -> FileJournal:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Take the lock and read what is recorded. Blocking.

        Raises:
            ManifestLocked: Another process has it open.
            ManifestCorrupt: Its first line can't be read.
            ManifestMismatch: It is another user's or not a regular file.
            ManifestUnwritable: The lock or the file can't be written.
        """
        try:
            self._lock.acquire()
        except OSError as e:
            raise self._unwritable(e, creating=True) from e
        try:
            self._open_locked()
        except BaseException:
            self.close()
            raise

    def _open_locked(self) -> None:
        try:
            data, status = _read(self.path, self._advice)
        except errors.ManifestNotFound:
            return
        if not data:  # the process was killed between creating the file and writing its first line
            return
        found = _replay(self.path, data, self._advice)
        self._manifest, self._good_bytes = found.manifest, found.good_bytes
        self._first_line = data[: data.index(b"\n") + 1]
        try:
            self._open_file()
        except OSError as e:
            raise self._unwritable(e) from e
        if not os.path.samestat(os.fstat(self._fd), status):
            raise errors.ManifestMismatch(f"{errors.IT} was replaced while it was opened: run again", it=self.path)
        if found.damage is not None:
            self._cut_tail(data[found.good_bytes :], found.damage)
        self._update_index(update_entry)

    def _open_file(self) -> None:
        self._fd = open_binary(self.path, os.O_WRONLY | os.O_APPEND, links=False)

    def _cut_tail(self, tail: bytes, damage: str) -> None:
        saved = self.path.with_name(f"{self.path.name}.damaged")
        try:
            with os.fdopen(create_private(saved), "wb") as copy:
                copy.write(tail)
            os.ftruncate(self._fd, self._good_bytes)
            sync_to_disk(self._fd)
        except OSError as e:
            raise self._unwritable(e) from e
        self.warning = (
            f"{damage}: it was cut from there on (a copy is in {saved}); the store is asked which parts it has"
        )

    def begin(self, header: Header) -> None:
        """Write the first record of a new manifest. Blocking.

        It is written to another file which is then renamed: a manifest with half a first line could not be resumed.
        A manifest that was set aside gets another name before that.

        Raises:
            ManifestUnwritable: The file can't be written; then no file is left.
        """
        line = encode(header)
        fresh = self.path.with_name(f"{self.path.name}.new")
        try:
            self._fd = create_private(fresh)
            self._write(line)
            self._close_file()  # Windows can't rename an open file
            self._first_line = line
            self._update_index(write_entry)
            aside = None if self._renamed is None else next_set_aside(self.path)
            if aside is not None:
                self.path.rename(aside)
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
        renamed, self._renamed = self._renamed, None
        if renamed is not None and aside is not None:
            renamed(aside)

    async def append(self, *records: Record) -> Manifest:
        """Write records and wait until they are on disk. A cancelled call has written all of its records or none.

        Raises:
            ManifestUnwritable: What is on disk then are whole earlier records.
        """
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
            data = b"".join(lines)
            await finish(asyncio.get_running_loop().run_in_executor(self._executor, self._write, data))
        except OSError as e:
            # After a failed fsync nobody knows the bytes on disk, so that this run can't count on anything it writes.
            self._broken = self._unwritable(e)
            raise self._broken from e
        return [None] * len(lines)

    def _write(self, data: bytes) -> None:
        """Bring all of `data` to disk, or leave the file as it was."""
        try:
            done = 0
            while done < len(data):
                done += os.write(self._fd, data[done:])
            sync_to_disk(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._good_bytes)
            raise
        self._good_bytes += len(data)

    def set_aside(self, renamed: Callable[[Path], None] = lambda _: None) -> None:
        """Forget the manifest. `begin` renames its file, so that it stays where it is if no new one is begun.

        Args:
            renamed: Called by `begin` with the new path of the file.
        """
        self._close_file()
        self._renamed = renamed
        self._manifest = None
        self._first_line = b""
        self._good_bytes = 0

    def retire(self) -> None:
        """Set aside the manifest of an upload that has ended, because its object was replaced. Best effort."""
        self._update_index(delete_entry)
        self.set_aside()
        with contextlib.suppress(OSError):
            self.path.rename(next_set_aside(self.path))

    def close(self) -> None:
        """Close the file, and release the lock last of all. Idempotent."""
        if self._fd >= 0 and self._manifest is not None and self._manifest.completed is not None:
            self._update_index(delete_entry)
        self._close_file()
        self._lock.release()

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _unwritable(self, e: OSError, *, creating: bool = False) -> errors.ManifestUnwritable:
        if is_out_of_descriptors(e) or is_at_file_limit(e):
            advice = ""
        elif e.errno in _NO_SPACE:
            advice = "; free some space on that disk, then run again"
        elif isinstance(e, NotADirectoryError | FileExistsError):
            advice = f"; {self.path.parent} must be a directory: set BIGUPLOAD_STATE_DIR, or name another `manifest`"
        else:
            advice = "; name another `manifest`, or set BIGUPLOAD_STATE_DIR to a directory that you can write to"
        return errors.ManifestUnwritable(
            f"can't write the manifest {self.path}: {reason_of(e)}{advice}",
            manifest=self.path if self._manifest is not None else None,
            lasting=is_lasting(e, creating=creating),
        )
