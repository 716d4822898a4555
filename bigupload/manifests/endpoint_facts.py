"""What was found out about stores, by endpoint and bucket: a file of the state directory, which the next runs read.

A fact is a hint. It spares a run from finding out again what a store refuses, and must cost only time if it is wrong.
It is forgotten after a day, so that a store that has learnt something since is noticed. A file that can't be read or
written is the same as none, and two processes that write at once may lose a fact.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bigupload.manifests.state_directory import DAY
from bigupload.support.files import create_private, is_private_file

NAME = "endpoint-facts.json"
KEPT_FOR = DAY
"""Seconds for which a fact counts."""
_MOST_BYTES = 64 * 1024
"""A larger file is started over."""


class EndpointFacts:
    """The facts of one bucket. Implements `ports.Facts`."""

    def __init__(self, path: Path, endpoint: str, clock: Callable[[], float] = time.time) -> None:
        """Read nothing yet.

        Args:
            path: The file. Its directory need not exist.
            endpoint: The endpoint, as manifests name it, and the bucket.
            clock: Seconds since the epoch.
        """
        self._path = path
        self._endpoint = endpoint
        self._clock = clock

    def recall(self, name: str) -> str | None:
        """Return a fact; None: nothing is known. Blocking: this reads a small file."""
        value, _ = self._read().get(self._endpoint, {}).get(name, (None, 0.0))
        return value

    def note(self, name: str, value: str | None) -> None:
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
            fd = create_private(fresh)
            try:
                try:
                    os.write(fd, json.dumps(found).encode())
                finally:
                    os.close(fd)
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
            name: (str(value), float(noted))
            for name, (value, noted) in facts.items()
            if 0 <= now - noted < KEPT_FOR  # a clock that was ahead must not make one last for ever
        }
