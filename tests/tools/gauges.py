"""A fake of `ports.Gauge`."""

from __future__ import annotations

from bigupload.ports import Gauge


class FakeGauge(Gauge):
    """A PUT of which `bytes` were sent over a connection of which nothing is known. Tests override what they need."""

    def __init__(self, sent: int) -> None:
        self.bytes = sent

    def sent(self) -> int:
        return self.bytes
