"""What other operating systems do otherwise, for a test on this one."""

from __future__ import annotations

import asyncio
import errno
import ntpath
import os
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bigupload.support import systems

_BINARY = 1 << 28
"""A flag that no `os.open` of this system has."""


class OtherOs:
    """`os` as a module sees it: without some names, and with other values of others."""

    def __init__(self, *lacks: str, **has: Any) -> None:
        self._lacks = lacks
        vars(self).update(has)

    def __getattr__(self, name: str) -> Any:
        if name in self._lacks:
            raise AttributeError(name)
        return getattr(os, name)


def translate_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `os.open` open files as text, unless O_BINARY is among its flags, as on Windows.

    Python's own files are not: they set the mode of the descriptor that they get.
    """
    text: set[int] = set()
    real_open, real_read, real_write = os.open, os.read, os.write

    def opening(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        fd = real_open(path, flags & ~_BINARY, *rest, **more)
        (text.discard if flags & _BINARY else text.add)(fd)
        return fd

    def reading(fd: int, size: int) -> bytes:
        data = real_read(fd, size)
        return data.partition(b"\x1a")[0].replace(b"\r\n", b"\n") if fd in text else data

    def writing(fd: int, data: Any) -> int:
        if fd not in text:
            return real_write(fd, data)
        real_write(fd, bytes(data).replace(b"\n", b"\r\n"))
        return len(data)

    monkeypatch.setattr(os, "O_BINARY", _BINARY, raising=False)
    for name, double in (("open", opening), ("read", reading), ("write", writing)):
        monkeypatch.setattr(os, name, double)


def paths_of_windows(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Let modules take paths as Windows does, in the working directory C:\\work. Every directory is there."""

    def absolute(path: str) -> str:
        return ntpath.normpath(ntpath.join("C:\\work", path))

    doubles = {"isdir": lambda _: True, "abspath": absolute, "realpath": lambda path: absolute(str(path))}
    for module in (systems, *modules):
        monkeypatch.setattr(module, "os", OtherOs(sep="\\", path=SimpleNamespace(**vars(ntpath) | doubles)))


def keep_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to delete and to rename a file that this process has open, as Windows does."""

    def watch(name: str) -> None:
        real = getattr(os, name)

        def double(path: Any, *more: Any, **named: Any) -> Any:
            where = os.path.realpath(path)
            if any(os.path.realpath(f"/proc/self/fd/{fd}") == where for fd in os.listdir("/proc/self/fd")):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return real(path, *more, **named)

        monkeypatch.setattr(os, name, double)

    for name in ("unlink", "remove", "rename", "replace"):
        watch(name)


class LoopOfWindows(asyncio.SelectorEventLoop):
    """An event loop that watches neither descriptors nor signals: like the proactor loop, it has what always raises."""

    add_reader: Any = asyncio.AbstractEventLoop.add_reader
    add_writer: Any = asyncio.AbstractEventLoop.add_writer
    add_signal_handler: Any = asyncio.AbstractEventLoop.add_signal_handler
