"""The events of an upload, for its caller: public, frozen, in the order in which they happen. Pure.

`on_event` gets one event at a time, in the event loop: a function, which must return quickly, or an `async def`. Sizes
are in bytes, times in seconds. Events hold nothing secret. `event.upload` says which upload an event is of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bigupload.core.integrity import PartProof, Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadIdentity:
    """Which upload an event is of, so that one `on_event` can tell many apart. It can be the key of a dictionary."""

    source: str
    """What is uploaded: a file's absolute path, or the name of another source."""
    target: str
    """Where to: "s3://BUCKET/KEY", or the URL of a media service."""
    id: str
    """The manifest's id, as `list_uploads` shows it; empty if an object is read back. The same source and target have
    the same id."""
    manifest: Path | None
    """The manifest's path: the file is there from `UploadStarted` on. None if an object is read back."""


_NO_UPLOAD = UploadIdentity(source="", target="", id="", manifest=None)
"""Of an event that has not been given to a caller yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _UploadEvent:
    upload: UploadIdentity = _NO_UPLOAD
    """Which upload the event is of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadStarted(_UploadEvent):
    """The upload exists in the store, and its manifest on this machine. `resumed_parts` were in the store already."""

    path: Path
    target: str
    size: int | None
    """None: nobody knows how long the stream is, nor how many parts that makes."""
    part_size: int
    parts: int | None
    manifest: Path
    resumed_parts: int
    resumed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(_UploadEvent):
    """Emitted a few times a second.

    `bytes_uploaded` counts recorded parts. `bytes_in_flight` counts what was sent of the others: it falls when a part
    must be sent again.
    """

    bytes_uploaded: int
    bytes_in_flight: int
    size: int | None
    """None until the end of a stream whose size nobody knows; as `parts`."""
    parts_uploaded: int
    parts: int | None
    concurrency: int
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartUploaded(_UploadEvent):
    """The store has the part, `proof` says how that was proved, and the manifest records it."""

    number: int
    size: int
    attempt: int
    proof: PartProof


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying(_UploadEvent):
    """A request failed, and is retried after `delay`. `part` is None if the request is not about one part."""

    part: int | None
    attempt: int
    delay: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageStarted(_UploadEvent):
    """Nothing connects to the store any more. Retries until `OutageEnded` have no `Retrying` events of their own."""

    reason: str
    gives_up_in: float
    """Seconds until the upload stops, resumable, if the outage lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageContinues(_UploadEvent):
    """About once a minute during an outage."""

    reason: str
    lasted: float
    """Seconds since the outage began."""
    gives_up_in: float
    """Seconds until the upload stops, resumable, if the outage lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageEnded(_UploadEvent):
    """The store responds again."""

    lasted: float
    """Seconds that the outage lasted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashing(_UploadEvent):
    """Parts that the store has are hashed again, to compare them with the file."""

    parts: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted(_UploadEvent):
    """The upload starts again from the first part."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(_UploadEvent):
    """A warning for the user. The upload continues."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completing(_UploadEvent):
    """Every part is in the store, which makes the object now. This can take minutes."""

    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadCompleted(_UploadEvent):
    """The object is complete, and `verified` says how that was proved."""

    url: str
    etag: str
    verified: Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSkipped(_UploadEvent):
    """Nothing is uploaded: the object is the file already, and `verified` says how that was proved."""

    url: str
    etag: str
    verified: Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingBack(_UploadEvent):
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


def identified(upload: UploadIdentity, emit: Callable[[Event], None]) -> Callable[[Event], None]:
    """Return a function that puts an upload's identity into each event, and passes it on to `emit`."""
    return lambda event: emit(dataclasses.replace(event, upload=upload))
