"""The events of webhooks: what they say, the notes of them in the bucket, and who has taken which.

Each type's body is declared here once: the OpenAPI document and a table of docs/hooks.md are made of them. `Telling`
notes what happened: a file is complete, was refused, has expired; an upload was created or aborted. Whether and when a
note's event is delivered is not decided here.

A note lies in the store before the service answers, so that an event outlives its replica. Whoever acts on a note takes
it first, by a conditional PUT that writes until when it is taken. A store without conditional PUTs lets two replicas
take one note: then an event is delivered twice, with one id.

Events, their ids and bodies are as https://www.standardwebhooks.com lays them out. An event's id follows from what
happened to which version of which object. So whoever notes the same event again, as another replica after a kill, gives
it the same id, and a receiver can recognise a duplicate.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.records import dataclass
from bigupload.service.access.handles import Handle
from bigupload.service.contract import ErrorDetail
from bigupload.service.media.object_keys import EVENTS_PREFIX, KeyTemplate, public_urls
from bigupload.service.media.policy import Policy
from bigupload.service.media_objects import StoredVersion, quietly, version_of
from bigupload.service.problems import Refused
from bigupload.service.webhooks.hooks import FinishedFile, NewUpload
from bigupload.stores.s3.bucket import S3Bucket

EVENT_PREFIX = "evt_"
"""The beginning of ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. Its body is kept as it was first written: each attempt sends the same bytes."""

    id: str
    """The header `webhook-id` of all attempts and duplicates."""
    type: str
    body: str
    """JSON."""


def event_id(kind: str, version: str) -> str:
    """Return the id of an event: of its type, and of what it is about."""
    return EVENT_PREFIX + hashlib.sha256(f"{kind}\n{version}".encode()).hexdigest()[:32]


def event(kind: str, version: str, data: Mapping[str, Any], now: float) -> Event:
    """Make an event.

    Args:
        kind: Its type, one of those in `BODIES`.
        version: What it is about; two events of one type and one version are the same event.
        data: The field `data` of the body.
        now: When it happened, in seconds since 1970.
    """
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    body = json.dumps({"type": kind, "timestamp": at, "data": dict(data)}, separators=(",", ":"))
    return Event(id=event_id(kind, version), type=kind, body=body)


LEASE = 30.0
"""Seconds for which a note is taken. After that, another process takes it over."""
WAITING = f"{EVENTS_PREFIX}waiting/"
DONE = f"{EVENTS_PREFIX}done/"
_VERSION = 1
_MOST_BYTES = 512 * 1024
"""The size of a note."""
_ATTEMPTS = 3
"""For one note, if the store asks to repeat a conditional PUT (409)."""
_HOUR = "%Y%m%dT%H"


@dataclass(slots=True, kw_only=True)
class Delivery:
    """The state of one receiver of an event."""

    failures: int = 0
    next: float = 0.0
    """Not to be tried before, in seconds since 1970."""
    ended: str | None = None
    """The outcome: `delivered`, `stopped` (410) or `gave up`."""
    said: str = ""
    """The last answer: a status, or why there was none."""


@dataclass(slots=True, kw_only=True)
class Note:
    """One note. It has an event that is to be delivered, or an intent: what may happen, and has to be looked at."""

    name: str
    since: float
    """The time of the event's note or replay, in seconds since 1970: it is retried for a time from then on."""
    next: float = 0.0
    """Not to be taken before."""
    leased: float = 0.0
    """Until when somebody has taken it."""
    event: Event | None = None
    intent: Mapping[str, Any] | None = None
    looks: int = 0
    """The number of times that a process looked for the outcome of the intent."""
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    """By receiver: a digest of its URL."""
    etag: str = ""
    """The note's ETag at the last read or write; empty: neither."""

    @property
    def due(self) -> float:
        """The time at which it may be taken."""
        return max(self.next, self.leased)

    def to_json(self) -> bytes:
        """Return the note's object."""
        value = dataclasses.asdict(self)
        del value["etag"]
        return json.dumps({"version": _VERSION, **value}, separators=(",", ":")).encode()


def _from_json(data: bytes, etag: str) -> Note | None:
    """Read a note. None: another release wrote it, or somebody else."""
    try:
        value = json.loads(data)
        if value.pop("version") != _VERSION:
            return None
        said, deliveries = value.pop("event"), value.pop("deliveries")
        return Note(
            **value,
            event=None if said is None else Event(**said),
            deliveries={name: Delivery(**each) for name, each in deliveries.items()},
            etag=etag,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


class Notes:
    """The notes of one bucket. Every call raises Fault or a public error."""

    def __init__(self, bucket: S3Bucket, clock: Callable[[], float]) -> None:
        """Make it.

        Args:
            bucket: The bucket.
            clock: The time, in seconds since 1970.
        """
        self._bucket = bucket
        self.clock = clock

    async def add(self, note: Note) -> bool:
        """Write a new note. Returns False if there is one of this name, which stays."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._put(note, IfNoneMatch="*")
                return True
            except Fault as fault:
                if fault.kind is FaultKind.EXISTS:
                    return False
                if fault.kind is FaultKind.UNSUPPORTED:
                    break
                if fault.kind is not FaultKind.CONFLICT or attempt == _ATTEMPTS:
                    raise
        await self._put(note)
        return True

    async def read(self, key: str) -> Note | None:
        """Return a note; None if it is gone, or can't be read."""
        try:
            found = await self._bucket.call("to read a note", "GetObject", Key=key, first=_MOST_BYTES)
        except Fault as fault:
            if fault.is_absent:
                return None
            raise
        return _from_json(found.get("Body", b""), found.get("ETag", ""))

    async def take(self, note: Note) -> bool:
        """Take a note for LEASE seconds. Returns False if another process has changed it since it was read."""
        note.leased = self.clock() + LEASE
        return await self.change(note)

    async def change(self, note: Note) -> bool:
        """Write a note that was read. Returns False if another process has changed it since."""
        try:
            await self._put(note, **({"IfMatch": note.etag} if note.etag else {}))
        except Fault as fault:
            if fault.is_absent or fault.kind in (FaultKind.EXISTS, FaultKind.CONFLICT):
                return False
            if fault.kind is not FaultKind.UNSUPPORTED:
                raise
            await self._put(note)
        return True

    async def _put(self, note: Note, **condition: Any) -> None:
        answer = await self._bucket.call(
            "to leave a note",
            "PutObject",
            Key=WAITING + note.name,
            Body=note.to_json(),
            headers={"content-type": "application/json"},
            **condition,
        )
        note.etag = answer.get("ETag", "")

    async def remove(self, note: Note) -> None:
        """Delete a note that is settled."""
        await self._bucket.call("to delete a note", "DeleteObject", Key=WAITING + note.name)

    async def finish(self, note: Note) -> None:
        """Keep a note whose deliveries have ended, for a replay."""
        hour = datetime.fromtimestamp(self.clock(), UTC).strftime(_HOUR)
        await self._bucket.call(
            "to keep a note",
            "PutObject",
            Key=f"{DONE}{hour}-{note.name}",
            Body=note.to_json(),
            headers={"content-type": "application/json"},
        )
        await self.remove(note)

    async def pages(self, prefix: str, *, after: str = "") -> AsyncIterator[list[tuple[str, str]]]:
        """Yield the pages of the list under `prefix`, whose keys come after `after`: key and ETag of each note."""
        async for rows in self._bucket.object_pages(prefix, after=after):
            yield [(row["Key"], row.get("ETag", "")) for row in rows]

    async def done_since(self, since: float) -> AsyncIterator[Note]:
        """Yield the notes whose deliveries ended at `since` (seconds since 1970) or later, to the hour."""
        hour = datetime.fromtimestamp(since, UTC).strftime(_HOUR)
        async for page in self.pages(DONE, after=DONE + hour):
            for key, _ in page:
                if (note := await self.read(key)) is not None:
                    yield note

    @contextlib.asynccontextmanager
    async def holding(self, note: Note) -> AsyncIterator[None]:
        """Keep a note taken while something is under way that may take longer than LEASE."""
        over = asyncio.Event()
        renewing = asyncio.create_task(self._renew(note, over))
        try:
            yield
        finally:
            over.set()
            await renewing  # a PUT that is under way would collide with the next one of this note

    async def _renew(self, note: Note, over: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEASE / 3):
                    await over.wait()
                return
            with contextlib.suppress(Fault, errors.BigUploadError):
                if not await self.take(note):
                    return


_LOOK_AFTER = 15.0
"""Seconds until somebody looks whether an object that has expired was deleted."""
_DROPPED_AFTER = 24 * 3600.0
"""Seconds after which another sweep may report an object that should have gone, and did not."""


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True)


class _EventBody(_Body):
    timestamp: datetime
    """The time of the event. Attempts and duplicates repeat it."""


class CompletedMedia(_Body):
    """A file that counts."""

    key: str
    public_url: str
    owner: str
    user: str | None
    """The end user whose file it is; null: it was uploaded for nobody in particular."""
    size: int
    """Bytes."""
    content_type: str
    etag: str
    checksum: str | None
    """The store's checksum of the whole object, in base64; null: the store has none."""
    checksum_algorithm: str | None
    metadata: dict[str, str]
    """From the upload token and the request."""
    tags: dict[str, str]
    """The tags of the object, as its API key or upload token named them."""
    filename: str | None
    """The file's own name; null: it was not kept, as of a single PUT without `metadata`."""
    way: Literal["put", "multipart"]
    """Whether the file was sent by one PUT or in parts."""
    presigned_key: str | None
    """The key that presign returned, whose object can be written again for an hour. `key` is that of the copy that was
    judged, which nobody can write. null: the file was sent in parts, and is at `key` alone."""


class _GoneMedia(_Body):
    key: str
    owner: str | None
    """null: the key is of another shape than the policy's."""
    user: str | None
    """The end user whose file it was; null: of nobody in particular."""
    size: int
    """Bytes."""


class RefusedMedia(_GoneMedia):
    """A file that was refused."""

    error: ErrorDetail


class ExpiredMedia(_GoneMedia):
    """A file that was deleted because of its age."""


class DeletedMedia(_GoneMedia):
    """A file that was deleted through the API."""


class BegunUpload(_Body):
    """An upload in parts that has begun. Its fields about the file come from the client, unchecked."""

    key: str
    """The key that the file will have."""
    owner: str
    user: str | None
    """The end user whose file it will be; null: nobody in particular."""
    size: int
    """Bytes."""
    content_type: str
    metadata: dict[str, str]
    """From the upload token and the request."""
    filename: str


class AbortedUpload(_Body):
    """An upload in parts that leaves no file."""

    key: str
    owner: str | None
    """null: the key is of another shape than the policy's."""
    user: str | None
    """The end user whose file it would have been; null: nobody in particular."""
    reason: Literal["aborted", "expired"]
    """Whether somebody aborted it, or the sweep because of its age."""


class TrialMessage(_Body):
    """The message of a test."""

    message: str


class MediaCompletedEvent(_EventBody):
    """A file counts: it was checked, and the hook, if there is one, accepted it."""

    type: Literal["media.completed"]
    data: CompletedMedia


class MediaRefusedEvent(_EventBody):
    """A file in the store was refused, and is deleted."""

    type: Literal["media.refused"]
    data: RefusedMedia


class MediaExpiredEvent(_EventBody):
    """The sweep deleted a file because of its age."""

    type: Literal["media.expired"]
    data: ExpiredMedia


class MediaDeletedEvent(_EventBody):
    """A file was deleted through the API, and is gone."""

    type: Literal["media.deleted"]
    data: DeletedMedia


class UploadCreatedEvent(_EventBody):
    """An upload in parts has begun. Sent with `--webhook-uploads` alone."""

    type: Literal["upload.created"]
    data: BegunUpload


class UploadAbortedEvent(_EventBody):
    """An upload in parts was aborted. Sent with `--webhook-uploads` alone."""

    type: Literal["upload.aborted"]
    data: AbortedUpload


class WebhookTest(_EventBody):
    """`bigupload webhooks test`: nothing happened."""

    type: Literal["webhook.test"]
    data: TrialMessage


BODIES: dict[str, type[BaseModel]] = {
    get_args(body.model_fields["type"].annotation)[0]: body for body in _EventBody.__subclasses__()
}
"""The body of each type of event."""


class Telling:
    """Leaves the notes of one service, or of one sweep."""

    def __init__(
        self,
        bucket: S3Bucket,
        *,
        public_url: Callable[[str], str],
        keys: KeyTemplate,
        clock: Callable[[], float],
        uploads: bool = False,
    ) -> None:
        """Make it.

        Args:
            bucket: The bucket of the media and the notes.
            public_url: The URL of a key for everyone.
            keys: The shape of the keys, which name the owner and the end user.
            clock: The time, in seconds since 1970.
            uploads: Whether uploads that begin and are aborted have events, too.
        """
        self.uploads = uploads
        self.notes = Notes(bucket, clock)
        self._bucket = bucket
        self._public_url = public_url
        self._keys = keys
        self._clock = clock
        self.deliver_soon: Callable[[Note], None] | None = None
        """Takes a note that this process has taken for itself. None: it only leaves notes."""
        self.receivers: tuple[str, ...] = ()
        """To whom this process would deliver: noted with each event, so that no other list decides that it is done."""

    async def completed(self, version: str, file: FinishedFile, way: str, *, presigned_key: str | None = None) -> None:
        """Note that a file counts.

        Args:
            version: The object's version.
            file: The file. The event leaves out its presigned URL.
            way: `put` or `multipart`.
            presigned_key: The key to which the file was sent by one PUT; None: it was sent in parts.
        """
        urls = {"publicUrl": self._public_url(file.key), "presignedKey": presigned_key}
        data = {**file.public_json(), **urls, "way": way}
        await self.happened("media.completed", version, data)

    async def refused(self, key: str, stored: StoredVersion, refused: Refused) -> None:
        """Note that a file was refused. Its object is about to be deleted."""
        error = {"code": refused.problem.code, "message": str(refused)}
        data = {**self._about(key), "size": stored.size, "error": error}
        await self.happened("media.refused", version_of(key, stored), data)

    async def upload_created(self, upload: NewUpload, key: str, upload_id: str) -> None:
        """Note that an upload in parts has begun, if such events are sent."""
        if not self.uploads:
            return
        data = {
            **self._about(key),
            "size": upload.size,
            "contentType": upload.content_type,
            "metadata": dict(upload.metadata),
            "filename": upload.filename,
        }
        await self._of_upload("upload.created", key, upload_id, data)

    async def upload_aborted(self, key: str, upload_id: str, *, by_age: bool) -> None:
        """Note that an upload in parts was aborted, if such events are sent. `by_age`: the sweep did it."""
        data = {**self._about(key), "reason": "expired" if by_age else "aborted"}
        if self.uploads:
            await self._of_upload("upload.aborted", key, upload_id, data)

    async def _of_upload(self, kind: str, key: str, upload_id: str, data: Mapping[str, Any]) -> None:
        version = hashlib.sha256(f"{key}\n{upload_id}".encode()).hexdigest()[:40]
        await self.happened(kind, version, data)

    async def happened(self, kind: str, version: str, data: Mapping[str, Any]) -> None:
        """Note an event.

        Args:
            kind: Its type, one of those in `BODIES`.
            version: What it is about. Those of the same type and version are one event, sent once.
            data: The field `data` of its body.
        """
        await self._leave(event(kind, version, data, self._clock()))

    def _about(self, key: str) -> dict[str, str | None]:
        return {"key": key, "owner": self._keys.owner_of(key), "user": self._keys.user_of(key)}

    async def _leave(self, what: Event) -> None:
        now = self._clock()
        leased = now + LEASE if self.deliver_soon is not None else 0.0
        owed = {name: Delivery() for name in self.receivers}
        note = Note(name=what.id, since=now, leased=leased, event=what, deliveries=owed)
        if await self.notes.add(note) and self.deliver_soon is not None:
            self.deliver_soon(note)

    async def leaving(self, kind: str, key: str, stored: StoredVersion) -> None:
        """Note that an object is about to be deleted. The event is sent once the object is gone.

        Args:
            kind: `media.expired` or `media.deleted`.
            key: Its key.
            stored: Its version.
        """
        now, version = self._clock(), version_of(key, stored)
        data = {**self._about(key), "size": stored.size}
        what = dataclasses.asdict(event(kind, version, data, now))
        intent = {"of": "expiry", "key": key, "etag": stored.etag, "event": what}
        await self.notes.add(Note(name=f"old-{version}", since=now, next=now + _LOOK_AFTER, intent=intent))

    async def settle_expiry(self, intent: Mapping[str, Any], since: float) -> bool:
        """Note that an object has expired if it is gone. Returns whether the intent is settled."""
        found = await self._bucket.head(intent["key"], "to look for the object")
        if found is not None and found.get("ETag", "") == intent["etag"]:
            return self._clock() - since >= _DROPPED_AFTER
        await self._leave(Event(**intent["event"]))
        return True

    @contextlib.asynccontextmanager
    async def completing(self, handle: Handle) -> AsyncIterator[None]:
        """Note that an upload is about to be completed, until what became of it is noted.

        If the process is killed before that, another one finds the note and looks what became of the upload.
        """
        now = self._clock()
        intent = {"of": "upload", "handle": handle.to_json()}
        name = f"up-{hashlib.sha256(handle.key.encode()).hexdigest()[:32]}-{secrets.token_hex(8)}"
        note = Note(name=name, since=now, leased=now + LEASE, intent=intent)
        await self.notes.add(note)
        async with self.notes.holding(note):
            try:
                yield
            except Refused as refused:
                if refused.problem.status < 500:  # else the object may have been made, and this is not the end
                    await quietly(self.notes.remove, note)
                raise
        await quietly(self.notes.remove, note)


def telling_for(bucket: S3Bucket, policy: Policy, public_url: str | None, *, uploads: bool = False) -> Telling:
    """Return the object that notes the events of a bucket.

    Args:
        bucket: The bucket.
        policy: The shape of its keys.
        public_url: The public URL of its objects; None: its own.
        uploads: Whether uploads that begin and are aborted have events, too.
    """
    urls = public_urls(bucket.url, public_url)
    return Telling(bucket, public_url=urls, keys=policy.keys, clock=time.time, uploads=uploads)
