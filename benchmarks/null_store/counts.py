"""What the store counted, as the contestants' judge."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Arriving(Protocol):
    """The body of a PUT."""

    received: int


class Counts:
    """Of PUTs, since the store started or was last asked to begin again. Used by many threads.

    `bytes_received` are of bodies that have ended, without what chunks add, whatever became of them: refused, reset,
    sent twice. `bytes_arriving` are of those that have not ended.
    `bytes_accepted` and `parts` are of PUTs that were stored, a part that came twice counted twice. `parts_again` and
    `bytes_again` are those of them that an upload had already. `bytes_given_up` had come and were not stored when an
    upload was aborted. `objects` has what each finished object is made of: the sum of its listed parts is its size.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._arriving: set[Arriving] = set()
        self._clear()

    def _clear(self) -> None:
        self._number = dict.fromkeys(
            (
                "bytes_received", "bytes_accepted", "parts", "refused", "errors", "reset", "hung", "lost_answers",
                "stragglers", "connections", "most_in_flight", "parts_again", "bytes_again", "bytes_given_up",
            ), 0,
        )  # fmt: skip
        self._objects: list[dict[str, Any]] = []
        self._seconds: dict[int, list[int]] = {}
        self._first: tuple[float, float] | None = None

    def add(self, **numbers: int) -> None:
        with self._lock:
            for name, number in numbers.items():
                self._number[name] += number

    def begin(self, body: Arriving) -> None:
        """A body begins."""
        with self._lock:
            self._arriving.add(body)

    def end(self, body: Arriving) -> None:
        """A body has ended, in whatever way."""
        with self._lock:
            if body in self._arriving:  # it began before the last reset otherwise
                self._arriving.discard(body)
                self._number["bytes_received"] += body.received

    def in_flight(self, number: int) -> None:
        with self._lock:
            self._number["most_in_flight"] = max(self._number["most_in_flight"], number)

    def arrived(self) -> None:
        """A PUT's head is here."""
        with self._lock:
            if self._first is None:
                self._first = time.monotonic(), time.time()

    def answered(self, status: int, size: int = 0) -> None:
        """A PUT was stored or refused. `size` is of what was stored."""
        with self._lock:
            began = self._first[0] if self._first else time.monotonic()
            second = self._seconds.setdefault(int(time.monotonic() - began), [0, 0, 0])
            if status == 200:
                second[0] += size
                second[1] += 1
                self._number["bytes_accepted"] += size
                self._number["parts"] += 1
            elif status == 503:
                second[2] += 1
                self._number["refused"] += 1

    def gave_up(self) -> None:
        """An upload was aborted, the only one: what has come by now and is not stored was in vain."""
        with self._lock:
            come = self._number["bytes_received"] + sum(body.received for body in self._arriving)
            self._number["bytes_given_up"] = max(0, come - self._number["bytes_accepted"])

    def finished(self, key: str, size: int, parts: int) -> None:
        with self._lock:
            self._objects.append({"key": key, "size": size, "parts": parts})

    def report(self, *, reset: bool = False) -> dict[str, Any]:
        """JSON. `timeline` has a row a second from the first PUT: bytes stored, PUTs answered 200, PUTs answered 503.

        `first_put` is when the first PUT's head came: seconds after the store started, and `time.time()`.
        """
        with self._lock:
            last = max(self._seconds, default=-1)
            made = {
                **self._number,
                "bytes_arriving": sum(body.received for body in self._arriving),
                "objects": list(self._objects),
                "timeline": [self._seconds.get(second, [0, 0, 0]) for second in range(last + 1)],
                "first_put": self._first
                and {"after_start": round(self._first[0] - self._started, 6), "time": round(self._first[1], 6)},
            }
            if reset:
                self._clear()
                self._arriving.clear()
            return made


def refused_share(counts: Mapping[str, Any], *, after: int = 10) -> float:
    """Of the PUTs that were answered later than `after` seconds after the first came, how many with 503."""
    later: Sequence[Sequence[int]] = counts["timeline"][after:]
    stored, refused = sum(row[1] for row in later), sum(row[2] for row in later)
    return refused / (stored + refused) if stored + refused else 0.0
