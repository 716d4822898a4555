"""One direction of a link: a drop-tail queue, a rate, a delay, and losses that hit single packets.

It only decides which segments arrive, and when. Sizes are bytes of IP packets; times are seconds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass
class LinkCounts:
    """In packets of at most the MTU, also where they travelled together."""

    offered: int = 0
    lost: int = 0
    queue_full: int = 0


class Link:
    """`offer` in the order of time."""

    def __init__(
        self,
        *,
        rate: float,
        delay: float,
        loss: float,
        queue: float,
        seed: str,
        phases: Sequence[tuple[float, float]] = (),
    ) -> None:
        """`rate` in bytes a second, `queue` in bytes, `loss` a share.

        `phases` are pairs of seconds and a rate. They take turns from the first packet on, instead of `rate`.
        """
        self._constant = rate
        self._phases = phases
        self._began: float | None = None
        self._delay = delay
        self._loss = loss
        self._queue = queue
        self._random = random.Random(seed)
        self._free_at = 0.0
        self._until_loss = self._draw()
        self.counts = LinkCounts()

    def _draw(self) -> float:
        """Return how many packets pass until the next loss. Cheaper than a draw for each packet, with the same
        result."""
        if not self._loss:
            return math.inf
        return math.floor(math.log(1 - self._random.random()) / math.log(1 - self._loss))

    def _rate(self, now: float) -> float:
        if not self._phases:
            return self._constant
        if self._began is None:
            self._began = now
        at = (now - self._began) % sum(seconds for seconds, _ in self._phases)
        for seconds, rate in self._phases:
            if at < seconds:
                return rate
            at -= seconds
        return self._phases[-1][1]

    def offer(self, now: float, sizes: Sequence[int]) -> tuple[float, list[bool]]:
        """Handle packets that come together. Returns when the last of them arrives, and which ones arrive.

        A lost packet has used the link; a packet dropped by the full queue has not.
        """
        begins = max(now, self._free_at)
        rate = self._rate(now)
        room = self._queue - (begins - now) * rate
        total = sum(sizes)
        if total <= room and len(sizes) <= self._until_loss:  # nearly always
            self._until_loss -= len(sizes)
            arrives = [True] * len(sizes)
        else:
            arrives, total = self._one_by_one(sizes, room)
        self.counts.offered += len(sizes)
        self._free_at = begins + total / rate
        return self._free_at + self._delay, arrives

    def _one_by_one(self, sizes: Sequence[int], room: float) -> tuple[list[bool], int]:
        arrives, used = [], 0
        for size in sizes:
            if used + size > room:
                self.counts.queue_full += 1
                arrives.append(False)
                continue
            used += size
            if self._until_loss:
                self._until_loss -= 1
                arrives.append(True)
            else:
                self._until_loss = self._draw()
                self.counts.lost += 1
                arrives.append(False)
        return arrives, used


def runs(arrives: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Return the ranges of True as (start, end), without the end."""
    begin = None
    for at, there in enumerate(arrives):
        if there and begin is None:
            begin = at
        elif not there and begin is not None:
            yield begin, at
            begin = None
    if begin is not None:
        yield begin, len(arrives)
