"""What an upload tells its caller while it runs: frozen, public, in order of happening. Pure.

`on_event` gets one of these at a time, in the event loop: it must return quickly and not raise. Sizes are bytes,
times seconds. Nothing secret is in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bigupload.core.integrity import PartProof, Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadStarted:
    """The upload exists in the store, and its manifest here. Parts that were already there are `resumed`."""

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
    """A few times a second. `bytes_uploaded` counts recorded parts; `bytes_in_flight` what the kernel has sent of
    the others, so that the sum can fall when a part must be sent again."""

    bytes_uploaded: int
    bytes_in_flight: int
    size: int
    parts_uploaded: int
    parts: int
    concurrency: int
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartUploaded:
    """The store has the part, proved so, and the manifest says it."""

    number: int
    size: int
    attempt: int
    proof: PartProof


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """A request failed and will be tried again after `delay`. `part` is None for requests that are no part's."""

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
    """Parts that the store has are hashed again, to see whether they are the file's."""

    parts: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """The upload starts again from nothing."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something a person should know; the upload goes on."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completing:
    """Every part is there; the store puts them together. This can take minutes."""

    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadCompleted:
    """The object is there, and proved so."""

    url: str
    etag: str
    verified: Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSkipped:
    """Nothing is uploaded: the object was the file already, proved so."""

    url: str
    etag: str
    verified: Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingBack:
    """A few times a second while an object is read back and compared, with what earlier runs compared counted in."""

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
