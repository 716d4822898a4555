"""Where the manifests of this user are."""

from __future__ import annotations

import os
from pathlib import Path

from bigupload.support.user_paths import user_path


def state_dir() -> Path:
    """Return the directory of manifests: BIGUPLOAD_STATE_DIR, or the user's state directory."""
    override = os.environ.get("BIGUPLOAD_STATE_DIR")
    return Path(override) if override else user_path("state", instead="BIGUPLOAD_STATE_DIR")
