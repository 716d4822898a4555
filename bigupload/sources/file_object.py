"""A binary file object that can seek: an fsspec file, a member of a zip archive, a file without a path."""

from __future__ import annotations

import io
import threading
from typing import Protocol

from bigupload import errors
from bigupload.sources.unwatched import Unwatched


class SeekableFile(Protocol):
    """What a file object needs, so that its ranges can be read in any order."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes, none at the end."""
        ...

    def seek(self, offset: int, whence: int, /) -> object:
        """Change the position."""
        ...

    def tell(self) -> int:
        """Return the position."""
        ...


class FileObjectSource(Unwatched):
    """Ranges of a file object, from its present position to its end. Implements `ports.Source`.

    One thread at a time moves the position, so that the object must not be used elsewhere meanwhile. It stays open.
    """

    def __init__(self, name: str, file: SeekableFile) -> None:
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
                raise errors.SourceUnreadable(f"can't read {self.path}: the upload has ended")
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
    return errors.SourceUnreadable(f"can't read {name} at byte {offset:,}: {reason}")
