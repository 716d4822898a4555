"""Slots that go round those who wait for them, the smallest first. This module knows nothing of what they are for."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

from bigupload.support.cancellation import checkpoint_if_cancelled

_UNIT = 1024 * 1024
"""Bytes. What is smaller counts as next to nothing."""
_ROUNDS_PER_DOUBLING = 0.5
"""Rounds for which a queue lets later ones pass, for each time that what it has left is twice as much. A queue with a
quarter as much left goes first, and none waits for more rounds than half the doublings: 11 with 5 TB left."""


class FairSlots:
    """A number of slots, for which the members of several queues wait.

    A free slot goes to the queue with the highest priority; among those to the one that holds the fewest slots; among
    those to the one whose turn comes first. The more bytes a queue has left, the later its turn comes. But it comes:
    turns are counted in rounds, and a round is one slot for each queue that waits. So equal queues take turns, small
    ones go first, and an endless stream of small ones does not keep a large one waiting for ever. A lower priority does
    wait for as long as a higher one wants slots.
    """

    def __init__(self, total: int) -> None:
        """Make the slots, all free.

        Args:
            total: How many there are, at least 1.
        """
        self._total = total
        self._borrowed = 0
        self._rounds = 0.0
        self._waiting: dict[SlotQueue, None] = {}

    @property
    def borrowed_tokens(self) -> int:
        """Slots that are taken. There may be more than `total_tokens` for a while after that fell."""
        return self._borrowed

    @property
    def total_tokens(self) -> int:
        """The number of slots. It may be changed at any time; a slot that is taken stays taken."""
        return self._total

    @total_tokens.setter
    def total_tokens(self, total: int) -> None:
        self._total = total
        self._grant()

    @property
    def highest_waiting(self) -> int | None:
        """The highest priority of those who wait; None if nobody does."""
        return max((queue._priority for queue in self._waiting), default=None)

    def queue(self, left: Callable[[], int], priority: int = 0) -> SlotQueue:
        """Return a new queue.

        Args:
            left: Called to find out how many bytes the queue's owner has left to do. It must be quick.
            priority: Higher ones go first.
        """
        return SlotQueue(self, left, priority)

    def _grant(self) -> None:
        while self._waiting and self._borrowed < self._total:
            queue = min(self._waiting, key=_rank)  # of equals, the first that began to wait
            self._rounds += 1 / len(self._waiting)
            self._borrowed += 1
            del self._waiting[queue]
            queue._take()
            self._line_up(queue)

    def _line_up(self, queue: SlotQueue) -> None:
        if queue._waiters and queue not in self._waiting:
            queue._update_turn()
            queue._update_rank()
            self._waiting[queue] = None


class SlotQueue:
    """One queue for the slots of a `FairSlots`: first come, first served. `async with queue` waits for a slot.

    Several tasks may do that at a time. A task that is cancelled while it waits takes no slot, even if it was given one
    at the same moment.
    """

    def __init__(self, slots: FairSlots, left: Callable[[], int], priority: int) -> None:
        self._slots = slots
        self._left = left
        self._priority = priority
        self._held = 0
        self._turn = 0.0
        self._waiters: deque[asyncio.Event] = deque()
        self._rank: tuple[int, int, float] = (0, 0, 0.0)

    @property
    def full(self) -> bool:
        """Whether who asks now may have to wait."""
        return self._slots._borrowed >= self._slots._total

    async def __aenter__(self) -> None:
        await checkpoint_if_cancelled()
        slots = self._slots
        if not slots._waiting and slots._borrowed < slots._total:  # nobody waits: as below, in a tenth of the time
            self._update_turn()
            slots._rounds += 1
            slots._borrowed += 1
            self._held += 1
            self._update_rank()
            return
        granted = asyncio.Event()  # anyio's costs ten times as much to make
        self._waiters.append(granted)
        self._slots._line_up(self)
        self._slots._grant()
        if granted.is_set():
            return
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self._give_back()
            else:
                self._leave(granted)
            raise

    async def __aexit__(self, *exc: object) -> None:
        self._give_back()

    def _update_turn(self) -> None:
        """Find out when this queue's turn is, by what it has left."""
        self._turn = self._slots._rounds + _ROUNDS_PER_DOUBLING * math.log2(1 + max(0, self._left()) / _UNIT)

    def _take(self) -> None:
        """The next one in the queue gets a slot."""
        self._held += 1
        self._waiters.popleft().set()

    def _give_back(self) -> None:
        self._held -= 1
        self._update_rank()
        self._slots._borrowed -= 1
        self._slots._grant()

    def _leave(self, waiter: asyncio.Event) -> None:
        self._waiters.remove(waiter)
        if not self._waiters:
            self._slots._waiting.pop(self, None)

    def _update_rank(self) -> None:
        self._rank = (-self._priority, self._held, self._turn)


def _rank(queue: SlotQueue) -> tuple[int, int, float]:
    return queue._rank
