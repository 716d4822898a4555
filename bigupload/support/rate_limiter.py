"""The bandwidth limit of `--limit-rate`: all parts and files of one command share one limiter."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from bigupload.units import RateSchedule

_BURST = 0.1
"""Seconds of unused sending time that may be saved up: so short that the limit holds within every second."""
_LOOK_AGAIN = 1.0
"""Seconds after which a waiting caller notices that the limit has changed."""
_SLICE = 256 * 1024
_IN_USE = 1.0
_ROUNDING = 1e-3
"""Bytes: what is left to wait for may be a rounding error."""


def second_of_day() -> float:
    """Seconds since midnight by this machine's local time."""
    now = time.localtime()  # of any offset: datetime takes none of a day or more
    return now.tm_hour * 3600 + now.tm_min * 60 + now.tm_sec


def rate_now(limit: float | RateSchedule | None, time_of_day: Callable[[], float] = second_of_day) -> float | None:
    """Return the present limit, in bytes per second; None: no limit."""
    return limit.rate_at(time_of_day()) if isinstance(limit, RateSchedule) else limit


class RateLimiter:
    """A limiter that lets bytes through in the order in which callers ask.

    Positions in the queue are booked without awaiting. So callers are served in order, and none is lost. That of
    a cancelled caller stays unused. If the limit follows a schedule, a change holds for those who wait, too.
    """

    def __init__(
        self,
        limit: float | RateSchedule,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        time_of_day: Callable[[], float] = second_of_day,
    ) -> None:
        """Start with no time saved up.

        Args:
            limit: Bytes per second, or a schedule of them.
            clock: A monotonic clock in seconds. Tests pass their own.
            sleep: Waits for a number of seconds. Tests pass their own.
            time_of_day: Seconds since midnight, for a schedule. Tests pass their own.
        """
        self._limit: float | RateSchedule | None = limit
        self._clock = clock
        self._sleep = sleep
        self._time_of_day = time_of_day
        self._rate = self._current_rate()
        self._updated = clock()
        self._taken = -math.inf
        self._passed = 0.0  # bytes that could have been sent so far
        self._booked = 0.0  # the end of the last caller's position in the queue, on the same scale

    @property
    def slice(self) -> int:
        """Bytes to ask for at a time: a tenth of a second's worth, but between 4 KiB and 256 KiB."""
        return _SLICE if self._rate is None else int(max(4096, min(_SLICE, self._rate * _BURST)))

    @property
    def in_use(self) -> bool:
        """Whether somebody took bytes within the last second, or waits for some."""
        return self._passed < self._booked - _ROUNDING or self._clock() - self._taken < _IN_USE

    def change(self, limit: float | None) -> None:
        """Change the limit in bytes per second, also for those who wait; None: no limit."""
        self._update()
        self._limit = limit
        self._rate = self._current_rate()

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may be sent."""
        self._update()
        self._taken = self._updated
        saved_up = 0.0 if self._rate is None else self._rate * _BURST
        self._booked = max(self._booked, self._passed - saved_up) + count
        position = self._booked
        while self._rate is not None and position - self._passed > _ROUNDING:
            await self._sleep(min((position - self._passed) / self._rate, _LOOK_AGAIN))
            self._update()

    def _update(self) -> None:
        """Let through what the limit allowed since the last update, and look at the limit again."""
        now = self._clock()
        if self._rate is None:  # nobody had to wait
            self._passed = self._booked
        else:
            self._passed += (now - self._updated) * self._rate
        self._updated = now
        self._rate = self._current_rate()

    def _current_rate(self) -> float | None:
        return rate_now(self._limit, self._time_of_day)
