"""Python objects as sources: bytes in memory, and file objects that can seek.

They have no fingerprint: no metadata shows whether their bytes have changed.
"""

from __future__ import annotations

import io
import threading
from typing import Protocol

from bigupload import errors
from bigupload.core.manifest import Fingerprint, SourceKind
from bigupload.core.part_plan import Part
from bigupload.ports import Stream


class Unwatched:
    """The part of `ports.Source` that is about metadata, for a source that has none."""

    kind = SourceKind.OBJECT
    metadata_changed = False
    is_away = False
    on_local_disk = True
    start = 0
    """Bytes before the first one that is uploaded: a file object was read before."""

    def __init__(self, name: str, size: int) -> None:
        """Take a source's name and its size in bytes."""
        self.path = name
        self.fingerprint = Fingerprint(size, 0, 0, 0)

    @property
    def stream(self) -> Stream | None:
        """None: all parts are there from the beginning."""
        return None

    async def hold(self, part: Part, *, wait: bool = True) -> bool:
        """Nothing to do: any range can be read. See `ports.Source.hold`."""
        return True

    def release(self, part: Part) -> None:
        """Nothing to do. See `ports.Source.release`."""

    def fileno(self) -> None:
        """None: a descriptor below may have other bytes, as a compressed file's has."""

    def check(self) -> None:
        """Do nothing: only the checksums show a change."""

    def accept_metadata(self) -> None:
        """Do nothing: there is no metadata."""


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


class SeekableFile(Protocol):
    """What a file object needs, so that its ranges can be read in any order.

    An fsspec file, a member of a zip archive and a file without a path have it.
    """

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
    reason = "the system gives this process no more memory" if isinstance(e, MemoryError) else reason
    return errors.SourceUnreadable(f"can't read {name} at byte {offset:,}: {reason}")
