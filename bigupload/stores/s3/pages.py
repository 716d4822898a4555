"""The pages of a store's lists: where the next one begins, and that the list ends. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.records import dataclass

MOST_PAGES = 1000
"""The most pages of one list: a million open uploads, or a hundred times the parts that an upload can have. A list that
is longer, or repeats a page, is refused."""
_MOST_NAME = 1024
"""The longest key or upload id in a list, in bytes. It is S3's limit for keys, and limits the memory for a list."""


@dataclass(frozen=True, slots=True)
class OpenPage:
    """Rows of ListMultipartUploads: (key, upload id, when it was created)."""

    uploads: Sequence[tuple[str, str, datetime]]
    now: datetime | None
    """The store's clock; None if the response has no valid date."""


class UploadPages:
    """A walk through the pages of ListMultipartUploads: where the next page begins, and that the list ends."""

    def __init__(self) -> None:
        self.markers: dict[str, Any] = {}
        """The parameters of the next request."""
        self.ended = False
        """Whether the last page was read."""
        self._been: set[tuple[tuple[str, Any], ...]] = {()}

    def advance(self, page: Mapping[str, Any]) -> None:
        """Move to the next page.

        Raises:
            Fault: FINAL if the list repeats a page or does not end, BROKEN if a row is incomplete.
        """
        rows = page.get("Uploads", ())
        if any(len(str(row.get(name, "")).encode()) > _MOST_NAME for row in rows for name in ("Key", "UploadId")):
            raise Fault(FaultKind.FINAL, "the store lists names that are longer than 1,024 bytes")
        if not all(row.get("Key") and row.get("UploadId") and row.get("Initiated") for row in rows):
            raise Fault(FaultKind.BROKEN, "the store's list of open uploads has an incomplete row")
        if not page.get("IsTruncated"):
            self.ended = True
            return
        # Only the markers that the store gives: SeaweedFS pages by upload ids alone, and skips some if a key is added.
        markers = {n: page[f"Next{n}"] for n in ("KeyMarker", "UploadIdMarker") if page.get(f"Next{n}")}
        if not markers and rows:
            markers = {"KeyMarker": rows[-1].get("Key", ""), "UploadIdMarker": rows[-1].get("UploadId", "")}
        place = tuple(markers.items())
        if place in self._been:
            raise Fault(FaultKind.FINAL, "the store's list of open uploads repeats a page")
        if len(self._been) >= MOST_PAGES:
            raise Fault(FaultKind.FINAL, "the store's list of open uploads does not end: name a longer prefix")
        self._been.add(place)
        self.markers = markers


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
