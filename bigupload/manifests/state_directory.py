"""The path of the state directory, and its contents: manifests, notes about manifests elsewhere, records of jobs, and
the progress of downloads.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from bigupload import errors
from bigupload.support.files import user_path

SUFFIX = ".manifest.jsonl"
"""The end of a manifest's name. One that was set aside has a number behind it: `….manifest.jsonl.3`."""
NOTES = "begun-here"
"""The subdirectory with one note for each manifest that this user began outside the state directory."""
JOB_SUFFIX = ".job.sqlite"
"""The end of the name of a job's record."""
NEW_SUFFIX = ".new"
"""The suffix of a job's record while it is created."""


_SET_ASIDE = re.escape(SUFFIX) + r"(\.[0-9]+)?$"


DAY = 86_400.0
CLEAN_EVERY = DAY
"""Seconds between two automatic clean-ups of a directory."""
CLEANED_MARK = "cleaned"
"""A file whose time is that of the directory's last clean-up."""


def is_clean_up_due(directory: Path, now: float | None = None) -> bool:
    """Whether a state directory was not cleaned for a day. Blocking.

    Args:
        directory: The state directory; it need not exist.
        now: Seconds since the epoch; None: the system's clock.
    """
    now = time.time() if now is None else now
    try:
        return not now - CLEAN_EVERY < (directory / CLEANED_MARK).lstat().st_mtime <= now + DAY
    except OSError:
        return os.path.isdir(directory)  # noqa: PTH112 - Path.is_dir raises where the name is too long


def state_dir() -> Path:
    """Return the state directory: BIGUPLOAD_STATE_DIR, or the user's state directory."""
    override = os.environ.get("BIGUPLOAD_STATE_DIR")
    return Path(override) if override else user_path("state", instead="BIGUPLOAD_STATE_DIR")


def find_manifests(directory: Path, *, set_aside: bool = False) -> list[Path]:
    """Return the manifests of a directory, the least recently written first; none if there is no such directory.

    A manifest may be renamed or deleted by another process at any time, also after this returned.

    Args:
        directory: The state directory.
        set_aside: Whether to return those that were set aside, too.

    Raises:
        ManifestError: The directory can't be listed.
    """
    found: list[tuple[int, Path]] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) or (set_aside and re.search(_SET_ASIDE, entry.name)):
                    try:
                        found.append((entry.stat().st_mtime_ns, Path(entry.path)))
                    except FileNotFoundError:  # renamed or deleted since it was listed; or a link that leads nowhere
                        continue
    except FileNotFoundError:
        return []
    except OSError as e:
        raise unlistable(directory, e) from e
    return [path for _, path in sorted(found)]


def unlistable(directory: Path, e: OSError) -> errors.ManifestError:
    """Make the error of a state directory that is a file, or that this user may not read."""
    return errors.ManifestError(
        f"can't list the state directory {directory}: {e.strerror}. To use another one, set BIGUPLOAD_STATE_DIR"
    )


def next_set_aside(manifest: Path) -> Path:
    """Return a new name for a manifest that is set aside: its own, followed by a number above all that are taken.

    Raises:
        OSError: The directory can't be listed.
    """
    with os.scandir(manifest.parent) as entries:
        endings = [entry.name.removeprefix(f"{manifest.name}.") for entry in entries]
    numbers = [int(ending) for ending in endings if ending.isascii() and ending.isdigit()]
    return manifest.with_name(f"{manifest.name}.{max(numbers, default=0) + 1}")
