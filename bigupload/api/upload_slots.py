"""The uploads of one `Uploader` that may be open at once. The others wait, and open no file.

How many there may be, and how many parts, follows from the descriptors that the process may open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from bigupload import errors
from bigupload.core.flight import MOST
from bigupload.core.part_plan import DEFAULT_PART_SIZE
from bigupload.records import dataclass
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.fair_slots import FairSlots, SlotQueue
from bigupload.units import printable

MAX_UPLOADS = 64
"""Uploads that are open at once, where nothing limits them. Each has one request to the store's API at a time, and one
bucket takes 64 of these."""
DESCRIPTORS_PER_UPLOAD = 8
"""The source, the manifest, its lock, two connections for requests, two for a part that is sent a second
time, and one file that is open for a moment."""
DESCRIPTORS_PER_PART = 2
"""The connection, and its duplicate that sends the body."""
_RESERVED_SHARE = 4
"""One descriptor in this many is left to the program, to Python and to the event loop."""
_MIN_RESERVED = 32

_LOG = logging.getLogger("bigupload")
SMALL = DEFAULT_PART_SIZE
"""Bytes. Uploads of more than that never take all slots."""
UNKNOWN = 2**40
"""The assumed size of a source of unknown size, in bytes."""
_KEPT_FREE = 4
"""One slot in this many is kept for small and urgent uploads."""
_LOOKING_THREADS = 8


@dataclass(frozen=True, slots=True)
class DescriptorBudget:
    """The most uploads that may be open at once, and the most parts that they may have in flight together."""

    uploads: int
    parts: int


def divide_descriptors(
    limit: int | None, *, concurrency: int | None = None, max_uploads: int | None = None
) -> DescriptorBudget:
    """Divide the descriptors of a process among uploads and parts. What the caller chose stays as it is. Pure.

    Args:
        limit: Descriptors that the process may have open; None: any number.
        concurrency: The parts in flight that the caller chose; None: as many as fit.
        max_uploads: The uploads that the caller chose; None: as many as fit.
    """
    parts, uploads = concurrency or MOST, max_uploads or MAX_UPLOADS
    if limit is None:
        return DescriptorBudget(uploads, parts)
    room = limit - max(_MIN_RESERVED, limit // _RESERVED_SHARE)
    if concurrency is None:
        for_parts = room // 2 if max_uploads is None else room - DESCRIPTORS_PER_UPLOAD * max_uploads
        parts = max(1, min(MOST, for_parts // DESCRIPTORS_PER_PART))
    if max_uploads is None:
        uploads = max(1, min(MAX_UPLOADS, (room - DESCRIPTORS_PER_PART * parts) // DESCRIPTORS_PER_UPLOAD))
    return DescriptorBudget(uploads, parts)


class UploadSlots:
    """A slot for each open upload, given in this order: the highest priority first, then the smallest.

    Big uploads can take hours. So a quarter of the slots is for those of at most 16 MiB and of a priority above 0.
    """

    def __init__(self, total: int, *, are_all: bool = False, look_for: float = 1.0) -> None:
        """Make the slots, all free.

        Args:
            total: How many there are, at least 1.
            are_all: Whether those that one PUT sends take them, too: the caller chose the number.
            look_for: Seconds to wait for a source's size if no other is found in that time: a file system may hang.
        """
        self._all = FairSlots(total)
        self._for_big = FairSlots(total - total // _KEPT_FREE)
        self._for_puts = self._all if are_all else FairSlots(total)
        self._are_all = are_all
        self._queues: dict[int, SlotQueue] = {}
        """The waiting uploads by one PUT, by priority. One queue for all, because each free slot would look at each
        upload by itself."""
        self._look_for = look_for
        self._looking = asyncio.Semaphore(_LOOKING_THREADS)
        self._looked = 0
        """Changes when another size was found."""

    def for_put(self, priority: int, most: int) -> SlotQueue:
        """Return the queue for the slot of an upload by one PUT, which needs next to nothing while it is open.

        Args:
            priority: The upload's.
            most: As many of them are open now, unless the caller chose how many uploads there may be.
        """
        if not self._are_all and self._for_puts.total_tokens != most:
            self._for_puts.total_tokens = most
        queue = self._queues.get(priority)
        if queue is None:
            queue = self._queues[priority] = self._for_puts.queue(lambda: 0, priority)
        return queue

    @contextlib.asynccontextmanager
    async def slot(self, subject: str, find_size: Callable[[], int], priority: int) -> AsyncIterator[None]:
        """Wait for the slot of an upload, and hold it during the block.

        Args:
            subject: Which upload it is, for the log.
            find_size: Called in a thread: bytes to upload. If it raises an error of the file or manifest, the block
                begins at once, because it will only raise it again.
            priority: The upload's.
        """
        needed = await self._needed(find_size, priority)
        if any(queue.full for queue in needed):
            _LOG.info("%s: waits until another upload ends", printable(subject))
        async with contextlib.AsyncExitStack() as taken:
            for queue in needed:
                await taken.enter_async_context(queue)
            yield

    async def _needed(self, find_size: Callable[[], int], priority: int) -> list[SlotQueue]:
        size = await self.find(find_size)
        if size is None:
            return []
        big = size > SMALL and priority <= 0
        return [slots.queue(lambda: size, priority) for slots in ([self._for_big] if big else []) + [self._all]]

    async def find(self, find_size: Callable[[], int]) -> int | None:
        """Return a size; None if the source or the manifest has none, because it can't be opened."""

        def look() -> int | None:
            try:
                return find_size()
            except (OSError, ValueError, errors.BigUploadError):
                return None
            finally:
                self._looked += 1

        found = asyncio.ensure_future(run_in_daemon_thread(look, self._looking))
        while not found.done():
            looked = self._looked
            await asyncio.wait({found}, timeout=self._look_for)
            if self._looked == looked and not found.done():
                return UNKNOWN
        return found.result()
