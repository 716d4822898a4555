"""Whether one upload hedges stragglers. It stops when the store refuses a part that was sent twice.

S3 accepts any number of PUTs of one part, and the last one counts. A store that takes parts as streams may refuse both
PUTs, or the whole upload. Then no more parts are sent twice, and those that were are sent again, each alone.
"""

from __future__ import annotations

from bigupload.core.retry_policy import FaultKind

REFUSALS = frozenset({FaultKind.GONE, FaultKind.INVALID_PART, FaultKind.CONFLICT, FaultKind.CORRUPTED, FaultKind.FINAL})
"""How a store may refuse two PUTs of one part because they are two. A broken connection, a busy store or an expired URL
means nothing of that kind."""


class HedgeSwitch:
    """The switch of one run, including its restarts."""

    def __init__(self, on: bool = True) -> None:
        self.on = on
        self.parts: set[int] = set()
        """The part numbers that were sent twice under the present upload id."""
        self.refused_at_complete = False
        """Whether the store refused to complete this upload id after parts were sent twice."""

    def began(self, part: int) -> None:
        """Note that the part is sent a second time."""
        self.parts.add(part)

    def turn_off(self) -> bool:
        """Send no part twice from now on. Returns whether hedging was on."""
        was, self.on = self.on, False
        return was

    def restarted(self) -> None:
        """Forget the parts: the upload has a new id."""
        self.parts.clear()
        self.refused_at_complete = False
