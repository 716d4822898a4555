"""Python objects as sources: bytes in memory, and file objects that can seek.

They have no fingerprint: no metadata shows whether their bytes have changed.

And small files, each read into memory at once, to be hashed and sent from there. A file that the page cache has is read
in the event loop: that takes microseconds, and a thread would take longer. Any other file is read in a thread. The
fingerprint is taken before and after the reading: the bytes are the file as it was at one moment, whatever becomes of
the file later.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import stat
import threading
from typing import BinaryIO

from bigupload import errors
from bigupload.core.manifest import SourceKind
from bigupload.core.part_plan import MIB
from bigupload.ports import Unwatched
from bigupload.sources.file import FileSource, fingerprint_of, open_in_thread
from bigupload.support.pages import is_on_local_disk, read_cached
from bigupload.support.systems import close_read, read_at


class MemorySource(Unwatched):
    """Bytes in memory. Implements `ports.Source`.

    They must not change while they are uploaded. If they do, the store refuses the part, and the upload stops.
    """

    def __init__(self, name: str, data: memoryview, start: int = 0) -> None:
        """Use the bytes of `data` from `start` on."""
        self._data = data[start:]
        super().__init__(name, len(self._data))
        self.start = start

    def view(self, offset: int, size: int) -> memoryview:
        """The bytes of a range, fewer at the end. See `ports.Source.view`."""
        return self._data[offset : offset + size]

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` with the bytes from `offset` on. See `ports.Source.read_into`."""
        found = self.view(offset, len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        """Let the bytes go: while they are viewed, their owner can't change its size. May be called again."""
        self._data = memoryview(b"")


def bytes_of(data: object) -> memoryview:
    """View a buffer as bytes.

    Raises:
        UsageError: It is not contiguous, so that it has no bytes in one row.
    """
    try:
        view = memoryview(data)  # type: ignore[arg-type]  # whatever has a buffer; others raise TypeError
        return view.cast("B") if view.nbytes else memoryview(b"")  # a view of nothing can't be cast
    except (TypeError, ValueError) as e:
        raise errors.UsageError(f"a source in memory is contiguous bytes: {e}") from None


class FileObjectSource(Unwatched):
    """Ranges of a file object, from its present position to its end. Implements `ports.Source`.

    One thread at a time moves the position, so that the object must not be used elsewhere meanwhile. It stays open.
    """

    def __init__(self, name: str, file: BinaryIO) -> None:
        """Find the size. Blocking.

        Args:
            name: The source's name.
            file: The file object, open in binary mode.

        Raises:
            UsageError: It reads text.
            SourceUnreadable: It is closed, or seeking fails.
        """
        self._file = file
        self._lock = threading.Lock()
        self._closed = False
        try:
            start = file.tell()
            if not isinstance(file.read(0), bytes):
                raise errors.UsageError(f"{name} reads text: open it in binary mode ('rb')")
            file.seek(0, io.SEEK_END)
            end = file.tell()
        except Exception as e:
            if isinstance(e, errors.BigUploadError):
                raise
            raise _failure(name, e, 0) from e
        super().__init__(name, max(0, end - start))
        self.start = start

    def view(self, offset: int, size: int) -> None:
        """None: the bytes have to be read."""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` with the bytes from `offset` on. See `ports.Source.read_into`."""
        done = 0
        with self._lock:
            if self._closed:
                raise errors.SourceUnreadable(f"can't read {errors.IT}: the upload has ended", it=self.path)
            try:
                self._file.seek(self.start + offset, io.SEEK_SET)
                while done < len(buffer):
                    data = self._file.read(len(buffer) - done)
                    if not data:
                        break
                    buffer[done : done + len(data)] = data
                    done += len(data)
            except Exception as e:
                raise _failure(self.path, e, offset + done) from e
        return done

    def close(self) -> None:
        """Read no more. The file object stays open, for the caller. May be called again."""
        self._closed = True


def _failure(name: str, e: Exception, offset: int) -> errors.SourceUnreadable:
    # Whatever a foreign object raises. Its text may hold anything, also a URL that is a secret.
    reason = (isinstance(e, OSError) and e.strerror) or type(e).__name__
    reason = "the system gives this process no more memory" if isinstance(e, MemoryError) else reason
    return errors.SourceUnreadable(f"can't read {errors.IT} at byte {offset:,}: {reason}", it=name)


MAX_SMALL_FILE = MIB
"""Bytes of a file that is kept in memory. A larger one costs little more by being read twice, and no memory."""
_BUDGET = 64 * MIB
"""Bytes of all files in memory at a time. Further files are not kept in memory."""
_MOST_DIRECTORIES = 10_000
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_NO_LINKS = _FLAGS | getattr(os, "O_NOFOLLOW", 0)


class SmallFile(MemorySource):
    """A file whose bytes are in memory. Implements `ports.Source`."""

    kind = SourceKind.FILE

    def __init__(self, path: str, data: bytearray, status: os.stat_result, reader: SmallFileReader) -> None:
        """Take what was read.

        Args:
            path: The file's path, as `SmallFileReader.open` got it.
            data: All its bytes.
            status: Its metadata before and after they were read.
            reader: Learns when they are let go.
        """
        self.path = path
        self.fingerprint = fingerprint_of(status)
        self._data = memoryview(data)
        self._reader = reader

    def close(self) -> None:
        """Let the bytes go. May be called again."""
        self._reader.held -= len(self._data)
        super().close()


class SmallFileReader:
    """Opens files, and reads the small ones into memory."""

    def __init__(self) -> None:
        """Hold nothing."""
        self.held = 0
        """Bytes that are held."""
        self._local: set[str] = set()
        """Directories on disks of this machine: to open a file there waits for no network."""
        self._first: dict[str, asyncio.Event] = {}
        """By directory, whether its first file was opened. The others wait for that: each would take a thread."""
        self._cached = True
        """Whether the last small file was in the page cache. If not, the next one probably is not, either, and even to
        open it waits for the disk."""

    def is_local(self, path: str) -> bool:
        """Whether a file is known to be on a disk of this machine: to look at it waits for no network."""
        return os.path.dirname(path) in self._local  # noqa: PTH120 - microseconds count

    def look_where(self, path: str) -> None:
        """Find out whether a file is on a disk of this machine. Blocking."""
        with contextlib.suppress(OSError, ValueError):
            fd = os.open(path, _FLAGS)
            try:
                self._remember(path, fd)
            finally:
                close_read(fd)

    async def open(self, path: str) -> SmallFile | FileSource:
        """Open a file. The caller closes it.

        Args:
            path: Its path. An absolute one makes `SmallFile.path` absolute.

        Raises:
            SourceError: It can't be opened or read, or is not a regular file.
        """
        directory = os.path.dirname(path)  # noqa: PTH120 - microseconds count
        first = self._first.get(directory)
        if first is None:
            return await self._open_first(path, directory)
        await first.wait()
        if self._cached and directory in self._local:
            found = self._read(path, wait=False)
            if found is not None:
                return found
        return await open_in_thread(lambda: self._open(path))

    async def _open_first(self, path: str, directory: str) -> SmallFile | FileSource:
        if len(self._first) >= _MOST_DIRECTORIES:
            self._first.clear()
        self._first[directory] = opened = asyncio.Event()
        try:
            return await open_in_thread(lambda: self._open(path))
        finally:
            opened.set()

    def _open(self, path: str) -> SmallFile | FileSource:
        """In a thread."""
        return self._read(path, wait=True) or FileSource(path)

    def _read(self, path: str, *, wait: bool) -> SmallFile | None:
        """Read a small file; None: it is not small, changes, or has something about it that `FileSource` looks into.

        Args:
            path: The file.
            wait: Whether to wait for the disk. Without, None also means that the page cache does not have it.
        """
        try:
            fd = os.open(path, _FLAGS if wait else _NO_LINKS)
        except (OSError, ValueError):
            return None
        try:
            status = os.fstat(fd)
            size = status.st_size
            if not stat.S_ISREG(status.st_mode) or size > MAX_SMALL_FILE or self.held + size > _BUDGET:
                return None
            data = bytearray(size + 1)  # one more, to see whether it ends there
            read = read_cached(fd, memoryview(data), 0)
            self._cached = read == size
            if wait:
                self._remember(path, fd)
                read += read_at(fd, memoryview(data)[read:], read)
            after = os.fstat(fd)
        except OSError:
            return None
        finally:
            close_read(fd)
        if read != size or fingerprint_of(after) != fingerprint_of(status):
            return None
        del data[size:]
        self.held += size
        return SmallFile(path, data, status, self)

    def _remember(self, path: str, fd: int) -> None:
        if len(self._local) >= _MOST_DIRECTORIES:
            self._local.clear()
        if is_on_local_disk(fd):
            self._local.add(os.path.dirname(path))  # noqa: PTH120 - as above
