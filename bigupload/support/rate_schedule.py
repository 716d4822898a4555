"""The values of `--limit-rate`: one rate, none, or rates by the time of day. Pure: the time is passed in."""

from __future__ import annotations

import re

from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.units import parse_rate

_ENTRY = r"\s*(\d{1,2}):(\d{2})\s*=(.+)"


@dataclass(frozen=True, slots=True)
class RateSchedule:
    """Rates by the time of day. The last one of a day holds until the first one of the next day."""

    entries: tuple[tuple[int, float | None], ...]
    """Seconds after midnight and the bytes per second from then on (None: no limit), in order of time."""

    def rate_at(self, second_of_day: float) -> float | None:
        """The limit at a time of the day, in bytes per second; None: no limit."""
        begun = [rate for start, rate in self.entries if start <= second_of_day]
        return begun[-1] if begun else self.entries[-1][1]


def parse_rate_limit(text: str) -> int | RateSchedule | None:
    """Read "20MB/s", "off", or a schedule like "08:00=2MB/s,20:00=off".

    Returns:
        Bytes per second, a schedule in local time, or None for no limit.

    Raises:
        UsageError: The value is not one of these, or names a time of the day twice.
    """
    if "=" not in text and ":" not in text:
        return _rate(text)
    entries: dict[int, float | None] = {}
    for entry in text.split(","):
        match = re.fullmatch(_ENTRY, entry, re.ASCII)  # compiled only now: few uploads need it
        if match is None or int(match[1]) > 23 or int(match[2]) > 59:
            raise UsageError(f"not a schedule: {text!r} (write it like 08:00=2MB/s,20:00=off)")
        start = int(match[1]) * 3600 + int(match[2]) * 60
        if start in entries:
            raise UsageError(f"{text!r} has two rates for {match[1]}:{match[2]}: leave one out")
        entries[start] = _rate(match[3])
    return RateSchedule(tuple(sorted(entries.items())))


def _rate(text: str) -> int | None:
    return None if text.strip().lower() == "off" else parse_rate(text)
