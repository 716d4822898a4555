"""A file that is written beside uploads: a receipt, or a list of checksums.

It takes its name when it is whole. Whether it can be written shows before anything is sent.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from bigupload import errors
from bigupload.records import dataclass
from bigupload.support.files import reason_of
from bigupload.support.systems import lock_descriptor, sync_to_disk

_MOST_LINKS = 40
"""Symbolic links that lead from one to the next, as Linux follows them."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """The file while it is written."""

    _file: TextIO
    _path: Path
    _option: str
    _finish: Callable[[], None]

    def fileno(self) -> int:
        """Return the descriptor, for those who write bytes."""
        return self._file.fileno()

    def write(self, text: str) -> None:
        """Add a text. Raises OutputUnwritable, which names the file."""
        with naming(self._option, self._path):
            self._file.write(text)

    def finish(self) -> None:
        """Let the file take its name. Raises OutputUnwritable, which names the file."""
        with naming(self._option, self._path):
            self._finish()


@contextlib.contextmanager
def output_file(path: Path, option: str) -> Iterator[OutputFile]:
    """Open a file to write. Without `finish`, an earlier file of that name stays as it is.

    A pipe, `/dev/stdout` or another file that is not a regular one is written as it is, also where the shell has
    redirected standard output to a file.

    Args:
        path: The file.
        option: The option or argument that names it, as messages spell it.

    Raises:
        OutputUnwritable: It can't be written.
    """
    with contextlib.ExitStack() as opened:
        with naming(option, path):
            target = Path(os.path.realpath(path))
            status = target.stat() if target.exists() else None
            if status is not None and stat.S_ISDIR(status.st_mode):
                raise errors.OutputUnwritable(f"can't write {option} {path}: it is a directory")
            own = descriptor_of(path)
            is_file = own is None and (status is None or stat.S_ISREG(status.st_mode))
            partial = partial_name(target)
            if own is not None:  # opened anew, it would be written from its beginning
                descriptor = os.dup(own)
            elif is_file:
                descriptor = _open_alone(partial)
            else:
                # A pipe that nobody reads is an error, not a wait.
                descriptor = os.open(target, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
                os.set_blocking(descriptor, True)
            file = os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="\n")
            opened.callback(_close, file)
            if is_file:
                opened.callback(delete_open, partial, functools.partial(_close, file))

        def finish() -> None:
            if not is_file:
                file.close()
                return
            file.flush()
            sync_to_disk(file.fileno())
            with contextlib.ExitStack() as locked:
                locked.callback(os.close, os.dup(file.fileno()))
                file.close()
                try:
                    partial.replace(target)
                except PermissionError:  # Windows renames no open file
                    locked.close()
                    partial.replace(target)
            opened.pop_all()  # from now on, another process may have the partial name

        yield OutputFile(file, path, option, finish)


def _open_alone(partial: Path) -> int:
    """Open the file that becomes the output, which no other process writes."""
    while True:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            keep_to_one_process(descriptor)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), partial.stat()):
                    os.truncate(descriptor, 0)
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the process that had it has renamed it meanwhile


def delete_open(path: Path, close: Callable[[], object]) -> None:
    """Delete a file while it is locked, or once `close` has closed it where no open file can be deleted."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        close()
        path.unlink(missing_ok=True)


def _close(file: TextIO) -> None:
    with contextlib.suppress(OSError):  # of a file that is not wanted, or that `finish` has closed
        file.close()


@contextlib.contextmanager
def naming(option: str, path: Path) -> Iterator[None]:
    """Raise OutputUnwritable, which names the file, for an OSError."""
    try:
        yield
    except OSError as e:
        raise errors.OutputUnwritable(f"can't write {option} {path}: {reason_of(e)}") from e


def keep_to_one_process(file: int) -> None:
    """Keep a file to one process, until it is closed. Not every system and file system can do that."""
    try:
        lock_descriptor(file)
    except BlockingIOError:
        raise OSError(errno.EBUSY, "another process writes it") from None
    except OSError:
        pass


def descriptor_of(path: Path) -> int | None:
    """The descriptor of this process that a path names, as `/dev/stdout` and `/dev/fd/3` do; None: it names a file."""
    for _ in range(_MOST_LINKS):
        directory = os.path.realpath(path.parent)
        if directory in ("/dev/fd", f"/proc/{os.getpid()}/fd") and path.name.isdecimal():
            return int(path.name)
        try:
            path = Path(directory) / os.readlink(Path(directory) / path.name)  # noqa: PTH115 - of any form
        except OSError:
            return None
    return None


def partial_name(path: Path) -> Path:
    """The name of a file until it is whole."""
    return path.with_name(f"{path.name}.partial")
