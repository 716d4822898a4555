"""A file that is there already, and a disk without space."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any


def existing(path: Path, data: bytes) -> Path:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(data)
    return path


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
