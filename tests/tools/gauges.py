"""A fake of `ports.Gauge`."""

from __future__ import annotations


class FakeGauge:
    """A PUT of which `bytes` were sent over a connection of which nothing is known. Tests override what they need."""

    def __init__(self, sent: int) -> None:
        self.bytes = sent

    def sent(self) -> int:
        return self.bytes

    def address(self) -> str | None:
        return None

    def round_trip_times(self) -> tuple[float, float]:
        return 0.0, 0.0

    def window_is_full(self) -> bool:
        return False

    def paused(self) -> bool:
        return False

    def hold(self, *, held: bool) -> bool:
        return False

    def search_again(self) -> None:
        pass
