"""The file that is uploaded, all that may happen to it, and its bytes at each fingerprint that it ever had."""

from __future__ import annotations

import os
from pathlib import Path

from tests.integration.support import KIB, content

from .seen import File, Print

PART = 4 * KIB
MOST = 6 * PART


class ChangingFile:
    """One file, at one of two places."""

    def __init__(self, directory: Path, size: int) -> None:
        self.places = (directory / "here" / "file.bin", directory / "there" / "file.bin")
        for place in self.places:
            place.parent.mkdir()
        self._at = 0
        self._seed = 0
        self._seconds = 1_700_000_000
        self.versions: dict[Print, bytes] = {}
        self.path.write_bytes(content(size))
        self._settle(quietly=False)

    @property
    def path(self) -> Path:
        return self.places[self._at]

    def now(self) -> File:
        return File(self.path, Print.of(self.path), self.path.read_bytes())

    def change(self, what: str) -> None:
        """`what` is one of `disturbance.CHANGES_FILE`."""
        if what == "move":
            before, self._at = self.path, 1 - self._at
            before.rename(self.path)
            self.versions[Print.of(self.path)] = self.path.read_bytes()
            return
        body = bytearray(self.path.read_bytes())
        self._seed += 1
        if what in ("edit", "edit_quietly", "replace") and body:
            body[(self._seed * 7919) % len(body)] ^= 0xFF
        elif what == "truncate" and len(body) > 1:
            del body[len(body) // 2 :]
        elif what in ("truncate", "grow"):
            body += content(PART + 1, self._seed)
            del body[: max(0, len(body) - MOST)]
            if len(body) == MOST:
                del body[PART // 2 :]
        if what == "replace":
            beside = self.path.with_name("beside")
            beside.write_bytes(body)
            beside.replace(self.path)
        elif what != "touch":
            with self.path.open("r+b") as file:
                file.write(body)
                file.truncate()
        self._settle(quietly=what == "edit_quietly")

    def _settle(self, *, quietly: bool) -> None:
        """No two versions look alike: a clock that has not moved since the last change is waited for."""
        if not quietly:
            self._seconds += 1
        while True:
            os.utime(self.path, ns=(self._seconds * 10**9, self._seconds * 10**9))
            if (seen := Print.of(self.path)) not in self.versions:
                break
        self.versions[seen] = self.path.read_bytes()
