"""Those that share a name go one after another."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import anyio


class Turns:
    """Gives a name to one at a time, and remembers which names were had, in 70 bytes each."""

    def __init__(self) -> None:
        self._open: dict[str, anyio.Lock] = {}
        self._had: set[int] = set()

    @contextlib.asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[bool]:
        """Wait for a name. Yields whether it was had before, by one that ended without an exception."""
        lock = self._open.setdefault(name, anyio.Lock())
        try:
            async with lock:
                yield hash(name) in self._had
                self._had.add(hash(name))
        finally:
            if not lock.locked():
                self._open.pop(name, None)
