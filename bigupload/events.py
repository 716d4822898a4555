"""The events of an upload, for its caller: public, frozen, in the order in which they happen. Pure.

`on_event` gets one event at a time, in the event loop. It must return quickly and must not raise. Sizes are in bytes,
times in seconds. Events hold nothing secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bigupload.core.integrity import PartProof, Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadStarted:
    """The upload exists in the store, and its manifest on this machine. `resumed_parts` were in the store already."""

    path: Path
    target: str
    size: int
    part_size: int
    parts: int
    manifest: Path
    resumed_parts: int
    resumed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Emitted a few times a second.

    `bytes_uploaded` counts recorded parts. `bytes_in_flight` counts what was sent of the others: it falls when a part
    must be sent again.
    """

    bytes_uploaded: int
    bytes_in_flight: int
    size: int
    parts_uploaded: int
    parts: int
    concurrency: int
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartUploaded:
    """The store has the part, `proof` says how that was proved, and the manifest records it."""

    number: int
    size: int
    attempt: int
    proof: PartProof


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """A request failed, and is retried after `delay`. `part` is None if the request is not about one part."""

    part: int | None
    attempt: int
    delay: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageStarted:
    """Nothing connects to the store any more. Retries until `OutageEnded` have no `Retrying` events of their own."""

    reason: str
    gives_up_in: float
    """Seconds until the upload stops, resumable, if the outage lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageContinues:
    """About once a minute during an outage."""

    reason: str
    lasted: float
    """Seconds since the outage began."""
    gives_up_in: float
    """Seconds until the upload stops, resumable, if the outage lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageEnded:
    """The store responds again."""

    lasted: float
    """Seconds that the outage lasted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashing:
    """Parts that the store has are hashed again, to compare them with the file."""

    parts: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """The upload starts again from the first part."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """A warning for the user. The upload continues."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completing:
    """Every part is in the store, which makes the object now. This can take minutes."""

    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadCompleted:
    """The object is complete, and `verified` says how that was proved."""

    url: str
    etag: str
    verified: Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSkipped:
    """Nothing is uploaded: the object is the file already, and `verified` says how that was proved."""

    url: str
    etag: str
    verified: Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingBack:
    """Emitted a few times a second while an object is read back. It includes what earlier runs compared."""

    bytes_compared: int
    size: int


Event: TypeAlias = (
    UploadStarted
    | Progress
    | PartUploaded
    | Retrying
    | OutageStarted
    | OutageContinues
    | OutageEnded
    | Hashing
    | Restarted
    | Warned
    | Completing
    | UploadCompleted
    | UploadSkipped
    | ReadingBack
)
