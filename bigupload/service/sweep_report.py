"""What a sweep did: which objects it deleted, and why. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable

from bigupload.records import dataclass
from bigupload.service.problems import Problem


class Reason(enum.StrEnum):
    """Why an object or upload is deleted. An object stays while the policy keeps it, if it is within
    the limit and of an accepted type."""

    EXPIRED = "expired"
    TOO_LARGE = "too large"
    NOT_MEDIA = "not media"
    HEADERS = "wrong headers"
    REFUSED = "refused"
    ABORTED = "aborted upload"


REASONS = {
    Problem.FILE_TOO_LARGE: Reason.TOO_LARGE,
    Problem.UNSUPPORTED_HEADERS: Reason.HEADERS,
    Problem.FILE_REFUSED: Reason.REFUSED,
}
"""By problem. All other problems mean that the object is not the media that it claims to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """An object or upload that was deleted, or in a dry run would have been. `size` is in bytes, 0 for an open
    upload."""

    key: str
    reason: Reason
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """The result of one sweep (of a dry run: what it would have done)."""

    looked_at: int = 0
    """How many objects are in the bucket, under keys that the service makes."""
    expired: int = 0
    too_large: int = 0
    not_media: int = 0
    wrong_headers: int = 0
    refused: int = 0
    """How many objects the operator's hook refused."""
    aborted_uploads: int = 0
    failed: int = 0
    """How many objects and uploads could not be checked or deleted. The next sweep tries again."""
    bytes_freed: int = 0
    """The size of the deleted objects. Stores do not report the size of aborted uploads."""

    @property
    def deleted(self) -> int:
        """How many objects were deleted, for any reason."""
        return self.expired + self.too_large + self.not_media + self.wrong_headers + self.refused


class SweepTally:
    """Counts during a run."""

    def __init__(self, on_removal: Callable[[Removal], None] | None) -> None:
        self._on_removal = on_removal
        self._removed = dict.fromkeys(Reason, 0)
        self._freed = 0
        self.looked_at = 0
        self.failed = 0

    def removed(self, key: str, reason: Reason, size: int = 0) -> None:
        """Count one."""
        self._removed[reason] += 1
        self._freed += size
        if self._on_removal is not None:
            self._on_removal(Removal(key=key, reason=reason, size=size))

    def report(self) -> SweepReport:
        """Return the sums."""
        return SweepReport(
            looked_at=self.looked_at,
            expired=self._removed[Reason.EXPIRED],
            too_large=self._removed[Reason.TOO_LARGE],
            not_media=self._removed[Reason.NOT_MEDIA],
            wrong_headers=self._removed[Reason.HEADERS],
            refused=self._removed[Reason.REFUSED],
            aborted_uploads=self._removed[Reason.ABORTED],
            failed=self.failed,
            bytes_freed=self._freed,
        )
