"""The directories of this user, where programs keep what is theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from bigupload import errors


def user_path(kind: Literal["config", "data", "state"], *, instead: str) -> Path:
    """Return bigupload's directory among the user's.

    Args:
        kind: What is kept there.
        instead: The variable or option that names another place, for the message.

    Raises:
        UsageError: There is neither HOME nor a known user, as in a container that runs as any number.
    """
    import platformdirs  # when it is needed: a start is short

    try:
        path: Path = getattr(platformdirs, f"user_{kind}_path")("bigupload")
    except RuntimeError:
        path = Path()
    if not path.is_absolute():  # before platformdirs 4.11, "~" stayed
        raise errors.UsageError(f"there is no home directory: set HOME, or {instead}")
    return path
