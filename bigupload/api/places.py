"""The uploads of one `Uploader` that may be open at once. The others wait, and open no file meanwhile."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from bigupload import errors
from bigupload.core.part_plan import DEFAULT_PART_SIZE
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.fair_slots import FairSlots, SlotQueue
from bigupload.units import printable

R = TypeVar("R")

_LOG = logging.getLogger("bigupload")
SMALL = DEFAULT_PART_SIZE
"""Bytes. Uploads of more than that never take all places."""
UNKNOWN = 2**40
"""Bytes that a source is taken to have if it does not say how many."""
_KEPT_FREE = 4
"""One of so many places is kept for small and urgent uploads."""
_LOOK_AT_ONCE = 8


class Places:
    """A place for each open upload, given in turns: the highest priority first, then the smallest.

    Big uploads can take hours. So a quarter of the places is for those of at most 16 MiB and of a priority above 0.
    """

    def __init__(self, total: int, *, look_for: float = 1.0) -> None:
        """Make the places, all free.

        Args:
            total: How many there are, at least 1.
            look_for: Seconds to wait for a source's size. A network file system may hang.
        """
        self._all = FairSlots(total)
        self._for_big = FairSlots(total - total // _KEPT_FREE)
        self._look_for = look_for
        self._looking = anyio.CapacityLimiter(_LOOK_AT_ONCE)

    async def run(
        self, subject: str, find_size: Callable[[], int], priority: int, work: Callable[[], Awaitable[R]]
    ) -> R:
        """Wait for a place, and do the work of an upload there.

        Args:
            subject: Which upload it is, for the log.
            find_size: Called in a thread: bytes to upload. If it raises an error of the file or manifest, the work
                begins at once, because it will only raise it again.
            priority: The upload's.
            work: What to do.

        Returns:
            What `work` returned.

        Raises:
            BaseException: What `work` raised.
        """
        needed = await self._needed(find_size, priority)
        if any(places.full for places in needed):
            _LOG.info("%s: waits until another upload ends", printable(subject))
        async with contextlib.AsyncExitStack() as taken:
            for places in needed:
                await taken.enter_async_context(places)
            return await work()

    async def _needed(self, find_size: Callable[[], int], priority: int) -> list[SlotQueue]:
        size = UNKNOWN
        try:
            with anyio.move_on_after(self._look_for):
                size = await run_in_daemon_thread(find_size, self._looking)
        except (OSError, ValueError, errors.BigUploadError):
            return []
        big = size > SMALL and priority <= 0
        return [slots.queue(lambda: size, priority) for slots in ([self._for_big] if big else []) + [self._all]]
