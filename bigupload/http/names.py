"""The addresses of names, for connections that go round them. The system looks names up, in threads.

The system's resolver knows the network's present name servers. A resolver that reads them once, as c-ares does, would
ask those of a network that was left.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import anyio

from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.shielding import retrieve

AddressRow: TypeAlias = tuple[Any, ...]
"""One row of `socket.getaddrinfo`."""
KEPT = 10
"""Seconds for which the addresses of a name are kept: a store that has moved is found within them."""
_LOOKUPS = 8
"""Lookups of names at a time, those included that were left behind."""


class Addresses:
    """The addresses of the names that one transport connects to."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know none yet. `clock` returns seconds from any start."""
        self._clock = clock
        self._limiter = anyio.CapacityLimiter(_LOOKUPS)
        self._known: dict[tuple[str, int], tuple[list[AddressRow], float]] = {}
        """The rows, and when they were looked up."""
        self._asked: dict[tuple[str, int], asyncio.Task[list[AddressRow]]] = {}
        self._turn = -1

    async def of(self, host: str, port: int) -> list[AddressRow]:
        """Return the addresses, each time beginning one later: so connections, also few ones, go round them all.

        Raises:
            OSError: There are none.
            UnicodeError: The name can't be one.
        """
        if (row := _numeric(host, port)) is not None:
            return [row]
        key = host, port
        rows, since = self._known.get(key, ([], 0.0))
        if not rows or self._clock() - since > KEPT:
            if key not in self._asked:  # once for all who want to know at the same time
                task = self._asked[key] = asyncio.create_task(self._ask(key))
                task.add_done_callback(retrieve)
            rows = await asyncio.shield(self._asked[key])
        self._turn += 1
        first = self._turn % len(rows)
        return rows[first:] + rows[:first]

    def forget(self) -> None:
        """Look up each name again: an address did not work."""
        self._known.clear()

    def close(self) -> None:
        """Leave behind what is being looked up."""
        for task in self._asked.values():
            task.cancel()

    async def _ask(self, key: tuple[str, int]) -> list[AddressRow]:
        """Look a name up, in a thread of its own: the event loop's threads may all be waiting for uploads.

        A lookup whose caller is cancelled is left behind: it would hold the program's end for as long as the name
        servers do not answer.
        """
        ask = functools.partial(socket.getaddrinfo, *key, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        try:
            rows: list[AddressRow] = await run_in_daemon_thread(ask, self._limiter)
            self._known[key] = rows, self._clock()
            return rows
        finally:
            del self._asked[key]


def _numeric(host: str, port: int) -> AddressRow | None:
    """The row of an address that is written in place of a name."""
    for family, more in ((socket.AF_INET, ()), (socket.AF_INET6, (0, 0))):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, *more)
    return None
