"""File systems that a test mounts and unmounts. Where no process may do that, the test is skipped."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(directory: Path, size: str = "4m") -> Iterator[None]:
    """Mount an empty file system of a size, as mount(8) spells it. Its files are gone at the end."""
    if not sys.platform.startswith("linux"):
        pytest.skip("mount(2) is Linux's")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bigupload", bytes(directory), b"tmpfs", 0, f"size={size}".encode()) != 0:
        pytest.skip(f"a tmpfs can't be mounted here: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        libc.umount2(bytes(directory), 2)  # MNT_DETACH
