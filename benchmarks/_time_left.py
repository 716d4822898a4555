"""How wrong was the time left that an upload displayed? Pure.

The events of `--progress json`, with the seconds of `_stamped` before each line. If an event says the time left
itself, that counts. Otherwise it is computed as the display of a terminal does it: what is neither recorded nor in
flight, by the rate of the last five seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHARES = (0.25, 0.5, 0.75)
"""The moments that are looked at, as shares of the upload's time."""
_WINDOW = 5.0
_FIELDS = ("seconds_left", "time_left")
_EDGES = 0.1
"""At both ends of an upload, jumps do not count for this share of its time."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was displayed at a moment. Seconds since the start of the process, and bytes."""

    at: float
    left: float | None
    """None: no time was displayed."""
    recorded: int
    in_flight: int
    parts: int


@dataclass(frozen=True, kw_only=True)
class TimeLeft:
    """What one upload displayed, from `began` to `ended`."""

    began: float
    ended: float
    samples: Sequence[Sample]

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def error(self, share: float) -> float | None:
        """Return how wrong it was after this share of the time, as a share of the truth. None if there was none."""
        moment = self.began + share * self.seconds
        before = [each for each in self.samples if each.at <= moment]
        if not before or before[-1].left is None:
            return None
        displayed = max(0.0, before[-1].left - (moment - before[-1].at))
        return displayed / (self.ended - moment) - 1

    @property
    def jump(self) -> float:
        """The largest step of the predicted end from one sample to the next, as a share of the upload's time."""
        first, last = self.began + _EDGES * self.seconds, self.ended - _EDGES * self.seconds
        ends = [each.at + each.left for each in self.samples if each.left is not None and first <= each.at <= last]
        return max((abs(one - other) for one, other in itertools.pairwise(ends)), default=0.0) / self.seconds

    def __str__(self) -> str:
        errors = [self.error(share) for share in SHARES]
        return ", ".join("none" if error is None else f"{error:+.0%}" for error in errors)


def time_left(errors: str) -> TimeLeft | None:
    """Read the stamped lines of an upload's standard error. Returns None if it did not complete."""
    began = ended = None
    meter: deque[tuple[float, int]] = deque()
    samples = []
    for at, event in _events(errors):
        match event["event"]:
            case "UploadStarted":
                began = at
                meter.clear()
                meter.append((at, event["resumed_bytes"]))
            case "Progress" if event["size"] is not None:
                samples.append(_sample(at, event, meter))
            case "UploadCompleted":
                ended = at
    return None if began is None or ended is None else TimeLeft(began=began, ended=ended, samples=samples)


def progress(errors: str) -> list[Sample]:
    """Read what was displayed of an upload that may not have completed."""
    meter: deque[tuple[float, int]] = deque()
    return [_sample(at, event, meter) for at, event in _events(errors) if event["event"] == "Progress"]


def _events(errors: str) -> list[tuple[float, Mapping[str, Any]]]:
    found: list[tuple[float, Mapping[str, Any]]] = []
    for line in errors.splitlines():
        stamp, _, text = line.partition(" ")
        with contextlib.suppress(ValueError):
            event = json.loads(text)
            if isinstance(event, dict) and "event" in event:
                found.append((float(stamp), event))
    return found


def _sample(at: float, event: Mapping[str, Any], meter: deque[tuple[float, int]]) -> Sample:
    recorded, in_flight = event["bytes_uploaded"], event["bytes_in_flight"]
    meter.append((at, recorded + in_flight))
    while len(meter) > 2 and meter[1][0] < at - _WINDOW:
        meter.popleft()
    left: float | None
    if named := [name for name in _FIELDS if name in event]:
        left = event[named[0]]
    else:
        moved, seconds = meter[-1][1] - meter[0][1], at - meter[0][0]
        left = max(0, event["size"] - recorded - in_flight) * seconds / moved if moved > 0 and seconds else None
    return Sample(at=at, left=left, recorded=recorded, in_flight=in_flight, parts=event["parts_uploaded"])
