"""A pytest plugin: bigupload's modules see an `os`, a `socket` and an `fcntl` that have what macOS has.

asyncio, pytest and the stores of the tests keep Linux's, and so do the processes that tests start. Not simulated: the
kernel itself, kqueue, HFS+ and its names in NFD, FSEvents.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
import pkgutil
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bigupload
from tests.platforms import elsewhere
from tests.tools.other_systems import OtherOs

FULL_SYNC = 51
"""F_FULLFSYNC."""
NOT_OF_OS = (
    "posix_fadvise", "posix_fallocate", "copy_file_range", "splice", "memfd_create", "sched_getaffinity", "fdatasync",
    "O_DIRECT", "O_TMPFILE", "O_PATH", "O_NOATIME", "RWF_NOWAIT", "pidfd_open", "getrandom",
)  # fmt: skip
NOT_OF_SOCKET = ("TCP_INFO", "TCP_CONGESTION", "TCP_USER_TIMEOUT", "TCP_KEEPIDLE", "SO_PEEK_OFF")
NOT_OF_FCNTL = ("F_SETLEASE", "F_GETLEASE", "F_SETSIG", "F_SETPIPE_SZ", "F_OFD_SETLK")
_MOST = 50_000
"""Bytes of one `sendfile`, so that its counts are partial."""


class Without(ModuleType):
    """A module without some names, and with others."""

    def __init__(self, of: ModuleType, lacks: tuple[str, ...], **has: Any) -> None:
        super().__init__(of.__name__)
        self._of = of
        self._lacks = lacks
        vars(self).update(has)

    def __getattr__(self, name: str) -> Any:
        if name in self._lacks:
            raise AttributeError(name)
        return getattr(self._of, name)


def _send_file() -> Any:
    """`os.sendfile` that sends little at a time, and says EAGAIN each third time.

    On macOS, a count of 0 means everything up to the file's end.
    """
    calls, lock = 0, threading.Lock()

    def send(out: int, source: int, offset: int, count: int) -> int:
        nonlocal calls
        assert count > 0, "that would be the whole file on macOS"
        with lock:
            calls += 1
            if calls % 3 == 0:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return os.sendfile(out, source, offset, min(count, _MOST))

    return send


def _control(real: Any) -> Any:
    def control(fd: Any, command: int, *rest: Any) -> Any:
        if command == FULL_SYNC:
            os.fsync(fd)
            return 0
        return real(fd, command, *rest)

    return control


def _device_control(real: Any, out_queue: int) -> Any:
    def control(fd: Any, command: int, *rest: Any) -> Any:
        if command == out_queue:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return real(fd, command, *rest)

    return control


def _modules() -> list[ModuleType]:
    """Every module that can be imported: later ones would not be patched."""
    found = []
    for each in pkgutil.walk_packages(bigupload.__path__, "bigupload."):
        if ".testing" in each.name or each.name == "bigupload.__main__" or "/page/" in each.name:
            continue
        try:
            found.append(importlib.import_module(each.name))
        except ImportError:  # of an extra that is not installed
            continue
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what says nothing of macOS."""
    elsewhere.skip(items, "darwin")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Take away before the tests are collected, and for the whole process."""
    import socket
    import termios

    import filelock  # decides at its import
    import platformdirs

    assert filelock.FileLock is not filelock.SoftFileLock
    assert platformdirs
    modules = _modules()
    from bigupload.http import socket_tuning
    from bigupload.stores import local_store
    from bigupload.support import pages

    os_of_macos = OtherOs(*NOT_OF_OS, sendfile=_send_file())
    socket_of_macos = Without(socket, NOT_OF_SOCKET, TCP_KEEPALIVE=socket.TCP_KEEPIDLE)
    fcntl_of_macos = Without(
        fcntl,
        NOT_OF_FCNTL,
        F_FULLFSYNC=FULL_SYNC,
        fcntl=_control(fcntl.fcntl),
        ioctl=_device_control(fcntl.ioctl, termios.TIOCOUTQ),
    )
    for module in modules:
        if vars(module).get("os") is os:
            module.os = os_of_macos  # type: ignore[attr-defined]  # a module imports it
        if vars(module).get("socket") is socket:
            module.socket = socket_of_macos  # type: ignore[attr-defined]  # as above
        if vars(module).get("fcntl") is fcntl:
            module.fcntl = fcntl_of_macos  # type: ignore[attr-defined]  # as above
    sys.modules["fcntl"] = fcntl_of_macos
    pages._NOWAIT = None
    socket_tuning._LINUX_NUMBERS.clear()
    local_store._PROC = Path("/nowhere")
