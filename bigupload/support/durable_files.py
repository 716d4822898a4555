"""What makes a change to a directory survive a power loss. The manifests' and the service's files are kept by it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Make a new name in it last, where directories can be opened (not on Windows)."""
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def make_directory(directory: Path, *, mode: int) -> None:
    """Make it where it is missing, and what is missing above it; the new names last. Raises OSError."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(mode=mode, parents=True, exist_ok=True)
    for path in missing:
        sync_directory(path.parent)
