"""The pages of ListObjectsV2, and what such a list may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bigupload.core.retry_policy import Fault, FaultKind


class ObjectPages:
    """A walk through the pages of ListObjectsV2: where the next page begins, and that the list ends."""

    def __init__(self, after: str = "") -> None:
        """Begin with the keys that come after `after`."""
        self.start: dict[str, Any] = {"StartAfter": after} if after else {}
        """The parameters of the next request."""
        self.ended = False
        """Whether the last page was read."""

    def advance(self, page: Mapping[str, Any]) -> None:
        """Move to the next page.

        Raises:
            Fault: FINAL if the list repeats a page.
        """
        if not page.get("IsTruncated"):
            self.ended = True
            return
        before, rows = self.start, page.get("Contents", ())
        if token := page.get("NextContinuationToken"):
            self.start = {"ContinuationToken": token}
        elif rows:  # the store gave no continuation token
            self.start = {"StartAfter": rows[-1]["Key"]}
        if self.start == before:
            raise Fault(FaultKind.FINAL, "the store's list of objects repeats a page")
