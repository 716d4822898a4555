"""What a power loss leaves of the files below a directory: whatever was not fsynced may be gone, names included.

`recording` notes each operation on them while the real ones are carried out. `Disk.after(operations)` then plays any
number of these again, and `Disk.survivors` tells what may be found afterwards. A file's fsync makes its bytes last, a
directory's fsync the names in it; a file whose directory has no lasting name of its own is gone with it.
https://www.usenix.org/conference/osdi14/technical-sessions/presentation/pillai is about who forgets what.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Operation = tuple[Any, ...]


@contextlib.contextmanager
def recording(directory: Path) -> Iterator[list[Operation]]:
    """The operations on `directory` and all below it from here on, and the fsyncs of what it is in; `os`'s own
    functions are back afterwards."""
    noted: list[Operation] = []
    names: dict[int, Path] = {}
    real = {name: getattr(os, name) for name in ("open", "close", "write", "fsync", "ftruncate", "truncate")}
    real |= {name: getattr(os, name) for name in ("replace", "rename", "unlink", "mkdir")}

    def below(path: Any) -> bool:
        return not isinstance(path, int) and Path(path).is_relative_to(directory)

    def opening(path: Any, flags: int, *more: Any, **named: Any) -> int:
        fd: int = real["open"](path, flags, *more, **named)
        if below(path) or Path(path) == directory.parent:
            names[fd] = Path(path)
            if not Path(path).is_dir():
                noted.append(("open", Path(path), fd, bool(flags & os.O_CREAT), bool(flags & os.O_TRUNC)))
        return fd

    def closing(fd: int) -> None:
        names.pop(fd, None)
        real["close"](fd)

    def writing(fd: int, data: Any) -> int:
        done: int = real["write"](fd, data)
        if fd in names:
            noted.append(("write", fd, bytes(data)[:done]))
        return done

    def syncing(fd: int) -> None:
        real["fsync"](fd)
        if fd in names:
            noted.append(("sync names", names[fd]) if names[fd].is_dir() else ("sync", fd))

    def cutting(fd: int, size: int) -> None:
        real["ftruncate"](fd, size)
        if fd in names:
            noted.append(("cut", fd, size))

    def on_paths(name: str, *paths: Any, **named: Any) -> None:
        real[name](*paths, **named)
        if below(paths[0]):
            noted.append((name, *(Path(path) if isinstance(path, str | os.PathLike) else path for path in paths)))

    by_path = ("truncate", "replace", "rename", "unlink", "mkdir")
    doubles: dict[str, Any] = {"open": opening, "close": closing, "write": writing}
    doubles |= {"fsync": syncing, "ftruncate": cutting}
    doubles |= {name: functools.partial(on_paths, name) for name in by_path}
    try:
        for name, double in doubles.items():
            setattr(os, name, double)
        yield noted
    finally:
        for name, function in real.items():
            setattr(os, name, function)


@dataclass(eq=False)
class _File:
    """Its bytes as they are, and as they were at its last fsync."""

    now: bytes = b""
    synced: bytes = b""


@dataclass
class Disk:
    """Files and directories below `root`; paths are the real ones."""

    root: Path
    files: dict[Path, _File] = field(default_factory=dict)
    lasting: dict[Path, _File] = field(default_factory=dict)
    directories: set[Path] = field(default_factory=set)
    lasting_directories: set[Path] = field(default_factory=set)
    _open: dict[int, _File] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> Disk:
        """What is there now has been there for long."""
        disk = cls(root)
        for path in root.rglob("*"):
            if path.is_dir():
                disk.directories.add(path)
            else:
                data = path.read_bytes()
                disk.files[path] = _File(data, data)
        disk.lasting, disk.lasting_directories = dict(disk.files), set(disk.directories)
        return disk

    def do(self, operation: Operation) -> None:
        match operation:
            case ("open", path, fd, creates, truncates):
                if path not in self.files and creates:
                    self.files[path] = _File()
                self._open[fd] = self.files[path]
                if truncates:
                    self.files[path].now = b""
            case ("write", fd, data):
                self._open[fd].now += data  # the manifest is only ever appended to
            case ("sync", fd):
                self._open[fd].synced = self._open[fd].now
            case ("cut", fd, size):
                self._open[fd].now = self._open[fd].now[:size]
            case ("truncate", path, size):
                self.files[path].now = self.files[path].now[:size]
            case ("replace" | "rename", path, to):
                self.files[to] = self.files.pop(path)
            case ("unlink", path):
                self.files.pop(path, None)
            case ("mkdir", path, *_):
                self.directories.add(path)
            case ("sync names", directory):
                self._sync_names(directory)
            case _:
                raise AssertionError(f"not known here: {operation}")

    def _sync_names(self, directory: Path) -> None:
        kept = {path: file for path, file in self.lasting.items() if path.parent != directory}
        self.lasting = kept | {path: file for path, file in self.files.items() if path.parent == directory}
        self.lasting_directories |= {path for path in self.directories if path.parent == directory}

    def survivors(self) -> dict[str, dict[Path, bytes]]:
        """What may be there after a power loss now, by what became of what was not fsynced."""
        old = self._reachable(self.lasting, self.lasting_directories)
        new = self._reachable(self.files, self.directories)
        return {
            "all of it is gone": {path: file.synced for path, file in old.items()},
            "all of it is there": {path: file.now for path, file in new.items()},
            "the bytes are there and the names are not": {path: file.now for path, file in old.items()},
            "the names are there and the bytes are not": {path: file.synced for path, file in new.items()},
            "half of the bytes are there": {path: _half(file) for path, file in new.items()},
            "the bytes are zeros": {path: _zeros(file) for path, file in new.items()},
        }

    def _reachable(self, files: dict[Path, _File], directories: set[Path]) -> dict[Path, _File]:
        def is_reachable(path: Path) -> bool:
            return path.parent == self.root or (path.parent in directories and is_reachable(path.parent))

        return {path: file for path, file in files.items() if is_reachable(path)}


def _half(file: _File) -> bytes:
    if len(file.now) < len(file.synced):
        return file.synced
    return file.now[: (len(file.synced) + len(file.now) + 1) // 2]


def _zeros(file: _File) -> bytes:
    return file.synced[: len(file.now)] + bytes(max(0, len(file.now) - len(file.synced)))
