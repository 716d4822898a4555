"""The path of the state directory, and its contents: manifests, the index of manifests elsewhere, records of jobs,
the progress of downloads, and facts about stores.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bigupload import errors
from bigupload.records import dataclass
from bigupload.support.files import create_private, is_private_file, user_path

SUFFIX = ".manifest.jsonl"
"""The end of a manifest's name. One that was set aside has a number behind it: `….manifest.jsonl.3`."""
MANIFEST_INDEX = "begun-here"
"""The subdirectory with the index: one entry for each manifest that this user began outside the state directory."""
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


FACTS = "endpoint-facts.json"
"""The file with what was found out about stores."""
KEPT_FOR = DAY
"""Seconds for which a fact counts."""
_MOST_BYTES = 64 * 1024
"""A larger file is started over."""


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """What was found out about one bucket, by endpoint. Implements `ports.Facts`.

    A fact is a hint. It spares a run from finding out again what a store refuses, and must cost only time if it is
    wrong. It is forgotten after a day, so that a store that has learnt something since is noticed. A file that can't be
    read or written is the same as none, and two processes that write at once may lose a fact.
    """

    _path: Path
    """The file. Its directory need not exist."""
    _endpoint: str
    """The endpoint, as manifests name it, and the bucket."""
    _clock: Callable[[], float] = time.time
    """Seconds since the epoch."""

    def recall(self, name: str) -> str | None:
        """Return a fact; None: nothing is known. Blocking: this reads a small file."""
        value, _ = self._read().get(self._endpoint, {}).get(name, (None, 0.0))
        return value

    def record(self, name: str, value: str | None) -> None:
        """Remember a fact from now on; None: forget it. Blocking: this writes a small file, if it can."""
        import json

        found = self._read()
        of_endpoint = found.setdefault(self._endpoint, {})
        of_endpoint.pop(name, None)
        if value is not None:
            of_endpoint[name] = (value, self._clock())
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._path.with_name(f"{self._path.name}.{os.urandom(4).hex()}.new")
            try:
                with os.fdopen(create_private(fresh), "wb") as file:
                    file.write(json.dumps(found).encode())
                fresh.replace(self._path)
            except OSError:
                fresh.unlink(missing_ok=True)

    def _read(self) -> dict[str, dict[str, tuple[str, float]]]:
        """The facts of all endpoints that count now."""
        try:
            status = self._path.lstat()
            if not is_private_file(status) or status.st_size > _MOST_BYTES:
                return {}
            import json  # most uploads of a small file need none

            read = json.loads(self._path.read_bytes())
            found = {endpoint: self._valid(facts) for endpoint, facts in read.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}
        return {endpoint: facts for endpoint, facts in found.items() if facts}

    def _valid(self, facts: dict[str, Any]) -> dict[str, tuple[str, float]]:
        now = self._clock()
        return {
            name: (str(value), float(recorded))
            for name, (value, recorded) in facts.items()
            if 0 <= now - recorded < KEPT_FOR  # a clock that was ahead must not make one last for ever
        }
