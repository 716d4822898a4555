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


class _Pages:
    """A walk through the pages of a list: where the next one begins, and that the list ends."""

    _listed: str

    def __init__(self, **start: Any) -> None:
        self.start = start
        """The parameters of the next request."""
        self.ended = False
        """Whether the last page was read."""
        self._been = {hash(tuple(start.items()))}
        """Where the pages before began. A list of objects may have ten thousand pages, so hashes are enough."""

    def advance(self, page: Mapping[str, Any]) -> None:
        """Move to the next page.

        Raises:
            Fault: FINAL if the list repeats a page.
        """
        self.ended = not page.get("IsTruncated")
        if self.ended:
            return
        start = self._following(page)
        place = hash(tuple(start.items()))
        if place in self._been:
            raise Fault(FaultKind.FINAL, f"the store's list of {self._listed} repeats a page")
        self._been.add(place)
        self.start = start

    def _following(self, page: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


class ObjectPages(_Pages):
    """The pages of ListObjectsV2."""

    _listed = "objects"

    def __init__(self, after: str = "") -> None:
        """Begin with the keys that come after `after`."""
        super().__init__(**({"StartAfter": after} if after else {}))

    def _following(self, page: Mapping[str, Any]) -> dict[str, Any]:
        if token := page.get("NextContinuationToken"):
            return {"ContinuationToken": token}
        rows = page.get("Contents")  # the store gave no continuation token
        return {"StartAfter": rows[-1]["Key"]} if rows else self.start


class UploadPages(_Pages):
    """The pages of ListMultipartUploads."""

    _listed = "open uploads"

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
        super().advance(page)
        if len(self._been) > MOST_PAGES:
            raise Fault(FaultKind.FINAL, "the store's list of open uploads does not end: name a longer prefix")

    def _following(self, page: Mapping[str, Any]) -> dict[str, Any]:
        # Only the markers that the store gives: SeaweedFS pages by upload ids alone, and skips some if a key is added.
        markers = {n: page[f"Next{n}"] for n in ("KeyMarker", "UploadIdMarker") if page.get(f"Next{n}")}
        if not markers and (rows := page.get("Uploads")):
            markers = {"KeyMarker": rows[-1]["Key"], "UploadIdMarker": rows[-1]["UploadId"]}
        return markers
