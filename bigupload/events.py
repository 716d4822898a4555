"""The events of an upload, for its caller: public, frozen, in the order in which they happen. Pure.

`on_event` gets one event at a time, in the event loop: a function, which must return quickly, or an `async def`. Sizes
are in bytes, times in seconds. Events hold nothing secret. `event.upload` identifies the upload of an event.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from bigupload.core.integrity import PartProof, Verified
from bigupload.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadIdentity:
    """The upload of an event, so that one `on_event` can serve many. It can be the key of a dictionary."""

    source: str
    """The source: a file's absolute path, or the name of another source."""
    target: str
    """The target: "s3://BUCKET/KEY", or the URL of a media service."""
    id: str
    """The manifest's id, as `list_uploads` shows it; empty if an object is read back, and while a source that is
    given by its URL is opened. The same source and target have the same id, whether there is a manifest or not."""
    manifest: Path | None
    """The manifest's path: the file is there from `UploadStarted` on. None if an object is read back, and for a
    file that is sent by one PUT."""


_NO_UPLOAD = UploadIdentity(source="", target="", id="", manifest=None)
"""The identity in an event that no caller has got yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _UploadEvent:
    upload: UploadIdentity = _NO_UPLOAD
    """The upload of the event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadStarted(_UploadEvent):
    """The upload exists in the store, and its manifest on this machine. `resumed_parts` were in the store already.

    For a file that one PUT sends, it means that sending begins: there is one part and no manifest.
    """

    path: Path
    target: str
    size: int | None
    """None: nobody knows how long the stream is, nor how many parts that makes."""
    part_size: int
    parts: int | None
    manifest: Path | None
    """The manifest's path; None for a file that is sent by one PUT."""
    resumed_parts: int
    resumed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(_UploadEvent):
    """The progress of one upload, a few times a second."""

    bytes_uploaded: int
    """Bytes of recorded parts."""
    bytes_in_flight: int
    """Sent bytes of other parts. It falls when a part must be sent again."""
    size: int | None
    """None until the end of a stream whose size nobody knows; as `parts`."""
    parts_uploaded: int
    parts: int | None
    concurrency: int
    retries: int
    rate: float = 0.0
    """Bytes a second. Those in flight count only while responses follow at once: otherwise something on the way has
    them, and the store has not."""
    seconds_left: float | None = None
    """Seconds until the end at that rate; None: not known."""
    is_waiting: bool = False
    """Whether all that may be sent was sent, and the store's responses are late."""
    source_hangs_for: float | None = None
    """Seconds for which reading the file has hung, so that nothing is in flight; None: it does not, or for less than
    ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartUploaded(_UploadEvent):
    """The store has the part, proved by `proof`, and the manifest, if there is one, records it."""

    number: int
    size: int
    attempt: int
    proof: PartProof
    copied: bool = False
    """Whether the store copied the part from an object that it has, so that it was not sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying(_UploadEvent):
    """A request failed, and is retried after `delay`. `part` is None if the request is not about one part."""

    part: int | None
    attempt: int
    delay: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageStarted(_UploadEvent):
    """Nothing connects any more. Retries until `OutageEnded` have no `Retrying` events of their own."""

    reason: str
    gives_up_in: float
    """Seconds until the upload stops, resumable, if the outage lasts."""
    peer: str = "the store"
    """To what nothing connects: "the store", or "the source", if that is a remote file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageContinues(_UploadEvent):
    """About once a minute during an outage."""

    reason: str
    lasted: float
    """Seconds since the outage began."""
    gives_up_in: float
    """Seconds until the upload stops, resumable, if the outage lasts."""
    peer: str = "the store"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageEnded(_UploadEvent):
    """The store, or the source, responds again."""

    lasted: float
    """Seconds that the outage lasted."""
    peer: str = "the store"


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
    """Every part is in the store, which makes the object now. This can take minutes. One PUT makes it at once."""

    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadCompleted(_UploadEvent):
    """The object is complete, and `verified` is its proof."""

    url: str
    etag: str
    verified: Verified
    bytes_sent: int = 0
    """As `UploadResult` has it."""
    bytes_copied: int | None = None
    """As `UploadResult` has it; None: there was nothing that the store could have copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSkipped(_UploadEvent):
    """Nothing is uploaded: the object is the file already, and `verified` is the proof."""

    url: str
    etag: str
    verified: Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadStopped(_UploadEvent):
    """The call has failed or is cancelled, after other events of it. Its caller gets the error itself.

    It does not follow what `is_last`: a call may fail after that, such as one with `sha256` whose file has changed.
    """

    reason: str
    """The error's message; of an error that is not the library's, only its type's name."""
    resumable: bool
    """Whether the same call may continue it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingBack(_UploadEvent):
    """Emitted a few times a second while an object is read back. It includes what earlier runs compared."""

    bytes_compared: int
    size: int
    rate: float = 0.0
    """Bytes a second."""
    seconds_left: float | None = None
    """None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress(_UploadEvent):
    """The progress of a call for many files: emitted at once, twice a second, and at last when it ends well.

    `upload` names only the target.
    """

    files_found: int
    """Files that the listing has found so far. It is up to 10,000 files ahead of the uploads."""
    bytes_found: int
    """Their sizes together."""
    is_listed: bool
    """Whether the listing has ended, so that nothing is added to what was found."""
    files_uploaded: int
    """A file counts as uploaded, skipped or failed when that is certain."""
    files_skipped: int
    """Files that were in the store already."""
    files_failed: int
    bytes_uploaded: int
    """Bytes of uploaded files, and of the recorded parts of the others."""
    bytes_in_flight: int
    """The unacknowledged bytes of files and parts."""
    bytes_skipped: int
    """Bytes that were in the store already: those of skipped files, and of earlier parts of unfinished uploads."""
    bytes_failed: int
    """Sizes of the files that failed."""
    objects_listed: int = 0
    """Objects that a sync has listed so far."""
    objects_deleted: int = 0
    """Objects that a sync has deleted."""
    rate: float = 0.0
    """Bytes a second, as of `Progress`."""
    seconds_left: float | None = None
    """None: not known, or not everything is listed."""
    is_waiting: bool = False
    """As of `Progress`."""
    source_hangs_for: float | None = None
    """As of `Progress`, where nothing else moves."""
    is_finished: bool = False
    """Whether everything is done and recorded: no other event of the call follows."""


Event: TypeAlias = (
    UploadStarted
    | Progress
    | JobProgress
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
    | UploadStopped
    | ReadingBack
)


def is_last(event: Event) -> bool:
    """Whether no other event of the same upload follows."""
    if isinstance(event, JobProgress):
        return event.is_finished
    return isinstance(event, UploadCompleted | UploadSkipped | UploadStopped)


def identified(upload: UploadIdentity, emit: Callable[[Event], None]) -> Callable[[Event], None]:
    """Return a function that puts an upload's identity into each event, and passes it on to `emit`."""
    return lambda event: emit(dataclasses.replace(event, upload=upload))
