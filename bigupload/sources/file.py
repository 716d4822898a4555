"""The file to upload: re-readable ranges of one open descriptor, and the fingerprint that says it held still."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from types import TracebackType

from bigupload import errors
from bigupload.core.manifest import Fingerprint


class FileSource:
    """A regular file, opened once. Implements `ports.Source`.

    The fingerprint is read from the open descriptor and, in `check`, from the path as well: a file that was replaced
    by a rename is another file, although the descriptor still reads the old one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises SourceNotFound, SourceUnreadable or SourceUnsupported."""
        self.path = os.path.abspath(path)  # noqa: PTH100 - `..` is taken out: one file has one manifest
        try:
            self._require_regular(Path(self.path).stat())
            # O_NONBLOCK: should a pipe take the file's place right now, open must not wait for its writer.
            self._fd = os.open(self.path, os.O_RDONLY | _flag("O_BINARY") | _flag("O_CLOEXEC") | _flag("O_NONBLOCK"))
        except FileNotFoundError:
            raise errors.SourceNotFound(f"no such file: {path}") from None
        except ValueError:  # a NUL in it
            raise errors.SourceNotFound(f"no file can have this name: {str(path)!r}") from None
        except OSError as e:
            raise errors.SourceUnreadable(f"can't read {path}: {e.strerror}") from e
        try:
            status = os.fstat(self._fd)
            self._require_regular(status)
        except errors.SourceUnsupported:
            os.close(self._fd)
            raise
        self.fingerprint = _fingerprint(status)
        self._seek_lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> FileSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_regular(self, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            raise errors.SourceUnsupported(
                f"{self.path} is a directory: name the files in it (uploading trees is not built yet)"
            )
        if not stat.S_ISREG(status.st_mode):
            raise errors.SourceUnsupported(f"{self.path} is not a regular file: copy it into one first")

    def fileno(self) -> int:
        return self._fd

    def read_into(self, buffer: memoryview, offset: int) -> int:
        done = 0
        try:
            while done < len(buffer):
                count = self._read(buffer[done:], offset + done)
                if count == 0:
                    break
                done += count
        except OSError as e:
            raise errors.SourceUnreadable(f"can't read {self.path} at byte {offset + done:,}: {e.strerror}") from e
        return done

    def _read(self, buffer: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._fd, [buffer], offset)
        with self._seek_lock:  # no positioned reads here: the descriptor's one position is shared by all threads
            os.lseek(self._fd, offset, os.SEEK_SET)
            data = os.read(self._fd, len(buffer))
            buffer[: len(data)] = data
            return len(data)

    def check(self) -> None:
        now = _fingerprint(os.fstat(self._fd))
        if now == self.fingerprint:
            try:
                now = _fingerprint(os.stat(self.path))  # noqa: PTH116 - once a part
            except OSError as e:
                raise errors.SourceChanged(
                    f"{self.path} is no longer there ({e.strerror}): resume with --source if it was moved",
                    same_size=True,
                ) from e
        if now != self.fingerprint:
            same_size = now.size == self.fingerprint.size
            rest = (
                "resume when it holds still, and what still matches is kept"
                if same_size
                else "upload it anew when it holds still"
            )
            raise errors.SourceChanged(f"{self.path} changed while it was uploaded: {rest}", same_size=same_size)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._fd)


def _flag(name: str) -> int:
    return getattr(os, name, 0)


def _fingerprint(status: os.stat_result) -> Fingerprint:
    return Fingerprint(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
