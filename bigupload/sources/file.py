"""The file to upload: ranges of one open descriptor, and the fingerprint that shows whether the file has changed."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bigupload import errors
from bigupload.core.manifest import Fingerprint, SourceKind
from bigupload.core.part_plan import Part
from bigupload.ports import Source, Stream
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.files import reason_of
from bigupload.support.pages import is_on_local_disk
from bigupload.support.systems import change_time, close_read, is_missing, open_binary, read_at

S = TypeVar("S", bound=Source)


class FileSource:
    """A regular file, opened once. Implements `ports.Source`.

    `check` compares the fingerprint of the open descriptor and that of the path: a file that was replaced by a rename
    is another file, although the descriptor still reads the old one. A file that was moved or deleted is still the file
    that was to be uploaded.
    """

    kind = SourceKind.FILE
    stream: Stream | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file.

        Args:
            path: The file. A symbolic link is followed.

        Raises:
            SourceNotFound: There is no such file.
            SourceUnreadable: The file can't be opened or read.
            SourceUnsupported: It is not a regular file, or it has no known length.
        """
        self.path = os.path.abspath(path)  # noqa: PTH100 - removes "..", so that one file has one manifest
        try:
            self._require_regular(Path(self.path).stat())
            # O_NONBLOCK: if a pipe takes the file's place right now, open must not wait for its writer.
            self._fd = open_binary(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except ValueError:  # a NUL in it
            raise errors.SourceNotFound(f"no file can have this name: {str(path)!r}") from None
        except OSError as e:
            if is_missing(e):
                from bigupload.support.missing_files import shown, why_missing

                name = os.fspath(path)
                raise errors.SourceNotFound(f"no such file: {shown(name)}{why_missing(name)}") from None
            raise errors.SourceUnreadable(f"can't read {path}: {reason_of(e)}") from e
        self._lock = threading.Lock()
        self._readers = 0
        self._closed = False
        self.is_away = False
        try:
            status = os.fstat(self._fd)
            self._require_regular(status)
            self.fingerprint = self._newest = fingerprint_of(status)
            self._require_true_size()
            self.on_local_disk = is_on_local_disk(self._fd)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_regular(self, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            raise errors.SourceUnsupported(
                f"{self.path} is a directory, and this is for one file: name one of those in it. In Python, "
                "upload_many(select_files(directory)) uploads all of them"
            )
        if not stat.S_ISREG(status.st_mode):
            raise errors.SourceUnsupported(
                f"{self.path} is not a regular file: copy it into one first, or upload "
                "what it gives as a stream (bigupload upload - < FILE; in Python, an opened file)"
            )

    def _require_true_size(self) -> None:
        """Refuse a file that has more bytes than its size, as files in /proc and of some FUSE file systems do."""
        size = self.fingerprint.size
        try:
            more = self._read(memoryview(bytearray(1)), size)
        except OSError as e:
            raise errors.SourceUnreadable(f"can't read {self.path} at its end: {reason_of(e)}") from e
        if more and os.fstat(self._fd).st_size == size:
            raise errors.SourceUnsupported(
                f"{self.path} has more bytes than its size of {size:,}, as files in /proc do: "
                "copy it into a regular file and upload that"
            )

    async def hold(self, part: Part, *, wait: bool = True) -> bool:
        """Nothing to do: any range can be read. See `ports.Source.hold`."""
        return True

    def release(self, part: Part) -> None:
        """Nothing to do. See `ports.Source.release`."""

    def fileno(self) -> int:
        """The descriptor. Its position is not used."""
        return self._fd

    def view(self, offset: int, size: int) -> None:
        """None: a file is not in memory."""

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` with the bytes from `offset` on. See `ports.Source.read_into`."""
        done = 0
        with self._lock:
            if self._closed:
                raise errors.SourceUnreadable(f"can't read {self.path}: it was closed")
            self._readers += 1
        try:
            while done < len(buffer):
                count = self._read(buffer[done:], offset + done)
                if count == 0:
                    break
                done += count
        except OSError as e:
            raise errors.SourceUnreadable(f"can't read {self.path} at byte {offset + done:,}: {reason_of(e)}") from e
        finally:
            with self._lock:
                self._readers -= 1
                self._close_if_unused()
        return done

    def _read(self, buffer: memoryview, offset: int) -> int:
        return read_at(self._fd, buffer, offset)

    def check(self) -> None:
        """Compare the file with its fingerprint. Blocking. See `ports.Source.check`."""
        try:
            opened = os.fstat(self._fd)
        except OSError as e:  # a network file system that has forgotten the descriptor
            raise errors.SourceUnreadable(f"can't read {self.path}: {reason_of(e)}") from e
        try:
            named = os.stat(self.path)  # noqa: PTH116 - faster than pathlib, and called once a part
        except OSError:  # moved, maybe for a moment only: the open descriptor reads the same file
            named = None
        self.is_away = named is None
        for status in (opened, named):
            if status is not None and not self._is_unchanged(status):
                same_size = status.st_size == self.fingerprint.size
                advice = (
                    "resume when nothing writes to it, and the parts that did not change are kept"
                    if same_size
                    else f"it has another size now; {errors.UPLOAD_AS_IT_IS}"
                )
                raise errors.SourceChanged(f"{self.path} changed while it was uploaded: {advice}", same_size=same_size)
        self._require_true_size()

    def _is_unchanged(self, status: os.stat_result) -> bool:
        now = fingerprint_of(status)
        if now in (self.fingerprint, self._newest):
            return True
        # chmod, links, renames, extended attributes and `touch -a` change the ctime alone. So does whoever writes bytes
        # and restores the mtime.
        if dataclasses.replace(now, ctime_ns=self.fingerprint.ctime_ns) == self.fingerprint:
            self._newest = now
            return True
        return False

    @property
    def metadata_changed(self) -> bool:
        """Whether `check` found another ctime. See `ports.Source.metadata_changed`."""
        return self._newest != self.fingerprint

    def accept_metadata(self) -> None:
        """Take the ctime that `check` found for the file's. See `ports.Source.accept_metadata`."""
        self.fingerprint = self._newest

    def close(self) -> None:
        """Close the file, once no thread reads it any more. May be called again."""
        with self._lock:
            self._closed = True
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        """Close after the last read: its number could otherwise become another file's while a thread still uses it."""
        if self._closed and not self._readers and self._fd >= 0:
            fd, self._fd = self._fd, -1
            close_read(fd)


async def open_file(path: str | os.PathLike[str]) -> FileSource:
    """Open a file in a thread, because a network file system may hang. Raises what `FileSource` raises."""
    return await open_in_thread(lambda: FileSource(path))


async def open_in_thread(open_source: Callable[[], S]) -> S:
    """Call a blocking function that opens a source.

    A cancelled caller returns at once. The thread is left behind, and closes what it may open later.
    """
    opened: list[S] = []
    cancelled = False

    def open_it() -> S:
        source = open_source()
        opened.append(source)
        if cancelled:
            source.close()
        return source

    try:
        return await run_in_daemon_thread(open_it)
    except asyncio.CancelledError:
        cancelled = True
        for source in opened:  # it was opened just now, and the caller does not get it
            source.close()
        raise


def fingerprint_of(status: os.stat_result) -> Fingerprint:
    """The fingerprint of a file."""
    return Fingerprint(status.st_size, status.st_mtime_ns, change_time(status), status.st_ino)
