"""Whether a part that lags may be sent a second time, for one upload: until the store refuses that.

S3 takes any number of PUTs of one part, and the last one counts. A store that takes the parts as streams may refuse
both PUTs, or the whole upload: then no part is sent twice any more, and those that were are sent again alone.
"""

from __future__ import annotations

from bigupload.core.retry_policy import FaultKind

REFUSALS = frozenset({FaultKind.GONE, FaultKind.INVALID_PART, FaultKind.CONFLICT, FaultKind.CORRUPTED, FaultKind.FINAL})
"""What a store may answer to one of two PUTs of the same part because they are two. A connection that breaks, a store
that is busy or a URL that has expired says nothing of that."""


class HedgeSwitch:
    """Lives as long as one upload's run, restarts included."""

    def __init__(self, on: bool = True) -> None:
        self.on = on
        self.parts: set[int] = set()
        """The numbers of the parts that were sent twice under the present upload id."""
        self.refused_at_complete = False
        """Whether the store refused to complete this upload id after parts were sent twice."""

    def began(self, part: int) -> None:
        """The part is being sent a second time."""
        self.parts.add(part)

    def turn_off(self) -> bool:
        """No part is sent twice from now on. Says whether this is news."""
        was, self.on = self.on, False
        return was

    def restarted(self) -> None:
        """Another upload id: none of its parts was sent twice."""
        self.parts.clear()
        self.refused_at_complete = False
