"""A directory in which everything happens to files that can: for a watch, which has to find it all."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path

_PER_DIRECTORY = 100


class BusyTree:
    """The files of a directory, and what is done to them, which the seed decides."""

    def __init__(self, directory: Path, *, seed: int) -> None:
        """Write nothing yet."""
        self._directory = directory
        self._random = random.Random(seed)
        self._paths: list[Path] = []
        self._directories = 0
        self._changes: tuple[Callable[[Path], None], ...] = (
            self._rewrite,
            self._rewrite_twice,
            self._replace,
            self._append,
            self._write_again,
            self._set_times,
        )

    def fill(self) -> None:
        """Write a new file."""
        if len(self._paths) % _PER_DIRECTORY == 0:
            self._directories += 1
        deep = "deep/" * (self._directories % 3)
        path = self._directory / f"{self._directories:04}" / deep / f"{len(self._paths)}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._bytes(self._random.randrange(1, 3000)))
        self._paths.append(path)

    def change(self) -> None:
        """Change a file, or once in a while move a directory."""
        path = self._random.choice(self._paths)
        if self._random.random() < 0.002:
            self._move(path.relative_to(self._directory).parts[0])
        else:
            self._random.choice(self._changes)(path)

    def digests(self) -> dict[str, str]:
        """The MD5 of each file that is there now, by its path in the directory."""
        return {
            path.relative_to(self._directory).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
            for path in self._paths
        }

    def _bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def _rewrite(self, path: Path) -> None:
        """With as many bytes."""
        with path.open("r+b") as file:
            file.write(self._bytes(path.stat().st_size))

    def _rewrite_twice(self, path: Path) -> None:
        """Within one tick of the file system's clock, most of the time."""
        self._rewrite(path)
        self._rewrite(path)

    def _replace(self, path: Path) -> None:
        partial = path.with_name(f"{path.name}.part")
        partial.write_bytes(self._bytes(path.stat().st_size))
        partial.replace(path)

    def _append(self, path: Path) -> None:
        with path.open("ab") as file:
            file.write(self._bytes(100))

    def _write_again(self, path: Path) -> None:
        """Often with the inode that it had."""
        size = path.stat().st_size
        path.unlink()
        path.write_bytes(self._bytes(size))

    def _set_times(self, path: Path) -> None:
        """Other bytes, and the time that it had."""
        status = path.stat()
        self._rewrite(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _move(self, top: str) -> None:
        """Move a directory to a new name, and now and then another one to its old name."""
        self._directories += 1
        self._rename(top, f"{self._directories:04}")
        if self._random.random() < 0.3:
            other = self._random.choice(self._paths).relative_to(self._directory).parts[0]
            if other != f"{self._directories:04}":
                self._rename(other, top)

    def _rename(self, top: str, new: str) -> None:
        old, moved = self._directory / top, self._directory / new
        old.rename(moved)
        self._paths = [moved / path.relative_to(old) if path.is_relative_to(old) else path for path in self._paths]
