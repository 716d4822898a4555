"""How many requests a second each key may make of this process: token buckets. Clock passed in; knows no HTTP."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction

from bigupload.errors import UsageError


class RequestRateLimit:
    """`rate` requests a second, after `burst` at once: in any `t` seconds at most `burst + rate * t` of one key.

    It is kept to the last request: fractions, since with floats ten tenths of a token are not one. They stay short, as
    all that is ever added are clock readings and multiples of 1/rate.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not (0 < rate < math.inf and 1 <= burst < math.inf):  # so that NaN is none either
            raise UsageError(f"not a limit: {rate:g} requests a second and {burst:g} at once (above 0, and at least 1)")
        self._a_token = 1 / Fraction(rate)
        self._to_fill = Fraction(burst) / Fraction(rate)
        self._clock = clock
        # By key: when the bucket would have been empty, had it filled ever since. The one that was taken from longest
        # ago comes first. (A dict would be slow at its front once much was deleted there.)
        self._empty_at: OrderedDict[str, Fraction] = OrderedDict()

    def take(self, key_id: str) -> float:
        """0.0 where the request may go on, else the seconds until one may; nothing is taken then, or booked."""
        now = Fraction(self._clock())
        self._forget_full(now)
        empty_at = max(self._empty_at.get(key_id, now - self._to_fill), now - self._to_fill)
        wait = empty_at + self._a_token - now
        if wait > 0:
            return _float_above(wait)
        self._empty_at[key_id] = empty_at + self._a_token
        self._empty_at.move_to_end(key_id)
        return 0.0

    def __len__(self) -> int:
        """How many buckets are kept: at most those that were taken from in the last `burst / rate` seconds."""
        return len(self._empty_at)

    def _forget_full(self, now: Fraction) -> None:
        while self._empty_at and next(iter(self._empty_at.values())) + self._to_fill <= now:
            self._empty_at.popitem(last=False)


def _float_above(exact: Fraction) -> float:
    """Not the nearest float: whoever waits for so long must not be a hair too early."""
    near = float(exact)
    return near if near >= exact else math.nextafter(near, math.inf)
