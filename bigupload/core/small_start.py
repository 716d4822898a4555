"""Decides how many small files to send at once at first: as many as a process sends while it waits for a response.

The concurrency control needs seconds to find that out, in which thousands of small files are sent. So the first
responses decide. If they were so slow because the store has too much to do, the control finds fewer.
"""

from __future__ import annotations

import math

AT_ONCE = 64
"""PUTs in flight before any response. They are small: together they are no more than a few parts."""
FILES_A_SECOND = 3000
"""What one process sends at most: with fewer in flight than that takes, it waits for responses."""
MOST_JUDGED = 256 * 1024
"""Bytes. The response to a larger PUT waits for the link."""
JUDGED = 16
"""Responses over connections that were open already: the first PUTs had to connect. When so many have come, the
quickest response decides. That of a process with much to do is one of the first: later ones wait in the process."""


class SmallStart:
    """Learns it from the first responses."""

    def __init__(self) -> None:
        self._first_response: float | None = None
        self._least = math.inf
        self._judged = 0

    def responded(self, size: int, began: float, now: float) -> int | None:
        """Note the response to one PUT.

        Args:
            size: Bytes of its body.
            began: When it began, in seconds.
            now: When the response came.

        Returns:
            How many to send at once from now on. None: not known yet, or returned already.
        """
        if size > MOST_JUDGED or self._judged == JUDGED:
            return None
        self._least = min(self._least, now - began)
        if self._first_response is None:
            self._first_response = now
        self._judged += began >= self._first_response
        return None if self._judged < JUDGED else max(AT_ONCE, math.ceil(self._least * FILES_A_SECOND))
