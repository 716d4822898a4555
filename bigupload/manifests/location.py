"""Where the manifests of this user are."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from bigupload import errors


def state_dir() -> Path:
    """Return the directory of manifests: BIGUPLOAD_STATE_DIR, or the user's state directory."""
    override = os.environ.get("BIGUPLOAD_STATE_DIR")
    if override:
        return Path(override)
    try:
        return platformdirs.user_state_path("bigupload")
    except RuntimeError:  # neither HOME nor a known user
        raise errors.UsageError("there is no home directory: set HOME, or BIGUPLOAD_STATE_DIR") from None
