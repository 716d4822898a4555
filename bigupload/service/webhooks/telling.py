"""The events of webhooks: what they say, the notes of them in the bucket, who has taken which, and their delivery.

Each type's body is declared here once: the OpenAPI document and a table of docs/hooks.md are made of them. `Telling`
notes what happened: a file is complete, was refused, has expired; an upload was created or aborted. `Deliverer` sends
the events of this process at once, and those that others left when it finds them.

A note lies in the store before the service answers, so that an event outlives its replica. Whoever acts on a note takes
it first, by a conditional PUT that writes until when it is taken. A store without conditional PUTs lets two replicas
take one note: then an event is delivered twice, with one id.

Events, their ids and bodies are as https://www.standardwebhooks.com lays them out. An event's id follows from what
happened to which version of which object. So whoever notes the same event again, as another replica after a kill, gives
it the same id, and a receiver can recognise a duplicate.

Every process of every replica looks at the notes again and again, and takes over what a killed one had taken. The work
of a look is bounded: some pages of the list, and some requests at a time. What is not yet due is not read again. An
event that nobody took is sent again after longer and longer pauses, for a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.call import AccessLog
from bigupload.service.contract import ErrorDetail
from bigupload.service.media.object_keys import EVENTS_PREFIX, KeyTemplate, public_urls
from bigupload.service.media_objects import StoredVersion, quietly, version_of
from bigupload.service.problems import Refused
from bigupload.service.webhooks.hooks import FinishedFile, NewUpload, Sent, Signer, host_of, receiver_of, send
from bigupload.stores.s3.bucket import S3Bucket

if TYPE_CHECKING:
    from bigupload.service.access.handles import Handle  # the sweep signs nothing

EVENT_PREFIX = "evt_"
"""The beginning of ids."""


class Event(BaseModel):
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
_MOST_BYTES = 512 * 1024
"""The size of a note."""
_ATTEMPTS = 3
"""For one note, if the store asks to repeat a conditional PUT (409)."""
_HOUR = "%Y%m%dT%H"


class Delivery(BaseModel):
    """The state of one receiver of an event."""

    failures: int = 0
    next: float = 0.0
    """Not to be tried before, in seconds since 1970."""
    ended: str | None = None
    """The outcome: `delivered`, `stopped` (410) or `gave up`."""
    said: str = ""
    """The last answer: a status, or why there was none."""


class Note(BaseModel):
    """One note. It has an event that is to be delivered, or an intent: what may happen, and has to be looked at."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
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
    deliveries: dict[str, Delivery] = {}
    """By receiver: a digest of its URL."""
    etag: str = Field(default="", exclude=True)
    """The note's ETag at the last read or write; empty: neither."""

    @property
    def due(self) -> float:
        """The time at which it may be taken."""
        return max(self.next, self.leased)


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
                await self._put(WAITING + note.name, note, IfNoneMatch="*")
                return True
            except Fault as fault:
                if fault.kind is FaultKind.EXISTS:
                    return False
                if fault.kind is FaultKind.UNSUPPORTED:
                    break
                if fault.kind is not FaultKind.CONFLICT or attempt == _ATTEMPTS:
                    raise
        await self._put(WAITING + note.name, note)
        return True

    async def read(self, key: str) -> Note | None:
        """Return a note; None if it is gone, or can't be read."""
        try:
            found = await self._bucket.call("to read a note", "GetObject", Key=key, first=_MOST_BYTES)
        except Fault as fault:
            if fault.is_absent:
                return None
            raise
        try:
            note = Note.model_validate_json(found.get("Body", b""))
        except ValidationError:  # another release wrote it, or somebody else
            return None
        note.etag = found.get("ETag", "")
        return note

    async def take(self, note: Note) -> bool:
        """Take a note for LEASE seconds. Returns False if another process has changed it since it was read."""
        note.leased = self.clock() + LEASE
        return await self.change(note)

    async def change(self, note: Note) -> bool:
        """Write a note that was read. Returns False if another process has changed it since."""
        try:
            await self._put(WAITING + note.name, note, **({"IfMatch": note.etag} if note.etag else {}))
        except Fault as fault:
            if fault.is_absent or fault.kind in (FaultKind.EXISTS, FaultKind.CONFLICT):
                return False
            if fault.kind is not FaultKind.UNSUPPORTED:
                raise
            await self._put(WAITING + note.name, note)
        return True

    async def _put(self, key: str, note: Note, **condition: Any) -> None:
        body, headers = note.model_dump_json().encode(), {"content-type": "application/json"}
        answer = await self._bucket.call(
            "to leave a note", "PutObject", Key=key, Body=body, headers=headers, **condition
        )
        note.etag = answer.get("ETag", "")

    async def remove(self, note: Note) -> None:
        """Delete a note that is settled."""
        await self._bucket.call("to delete a note", "DeleteObject", Key=WAITING + note.name)

    async def finish(self, note: Note) -> None:
        """Keep a note whose deliveries have ended, for a replay."""
        hour = datetime.fromtimestamp(self.clock(), UTC).strftime(_HOUR)
        await self._put(f"{DONE}{hour}-{note.name}", note)
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


class _Gone(_Body):
    key: str
    owner: str | None
    """null: the key is of another shape than the policy's."""
    user: str | None
    """The end user whose file it was, or would have been; null: nobody in particular."""


class _GoneMedia(_Gone):
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


class AbortedUpload(_Gone):
    """An upload in parts that leaves no file."""

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
        keys: KeyTemplate,
        public_url: str | None,
        *,
        uploads: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make it.

        Args:
            bucket: The bucket of the media and the notes.
            keys: The shape of the keys, which name the owner and the end user.
            public_url: The public URL of the bucket's objects; None: its own.
            uploads: Whether uploads that begin and are aborted have events, too.
            clock: The time, in seconds since 1970.
        """
        self.uploads = uploads
        self.notes = Notes(bucket, clock)
        self._bucket = bucket
        self._public_url = public_urls(bucket.url, public_url)
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
        data = {
            "size": upload.size,
            "contentType": upload.content_type,
            "metadata": dict(upload.metadata),
            "filename": upload.filename,
        }
        await self._of_upload("upload.created", key, upload_id, data)

    async def upload_aborted(self, key: str, upload_id: str, *, by_age: bool) -> None:
        """Note that an upload in parts was aborted, if such events are sent. `by_age`: the sweep did it."""
        await self._of_upload("upload.aborted", key, upload_id, {"reason": "expired" if by_age else "aborted"})

    async def _of_upload(self, kind: str, key: str, upload_id: str, data: Mapping[str, Any]) -> None:
        if self.uploads:
            version = hashlib.sha256(f"{key}\n{upload_id}".encode()).hexdigest()[:40]
            await self.happened(kind, version, {**self._about(key), **data})

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
        what = event(kind, version, data, now)
        intent = {"of": "expiry", "key": key, "etag": stored.etag, "event": what.model_dump()}
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


RETRIED_FOR = 24 * 3600.0
"""Seconds after which an event that nobody took is given up."""
_PAUSES = (5.0, 60.0, 300.0, 1800.0, 7200.0, 18_000.0, 28_800.0)
"""Seconds after the first failure, the second and so on. The last one repeats."""
_SPREAD = 0.1
"""A pause is this much shorter or longer: what failed together need not come back together."""
_FIRST_LOOK = 15.0
_LONGEST_LOOK = 3600.0
LOOK_EVERY = 15.0
"""Seconds between two looks. With the time for which a note is taken, another replica's are delivered within 45 s."""
_AT_ONCE = 16
"""The most events that one process delivers at once."""
_MOST_QUEUED = 500
"""The most events that wait for their turn in this process's memory. Others are found by a look."""
_PAGES_A_LOOK = 10
"""Pages of a thousand notes. The next look continues there."""

_AWAY_FOR = 5.0
"""Seconds for which a receiver that did not answer gets nothing: waiting for it must not hold up other notes."""
_FOREIGN_LOOK = 60.0
"""Seconds until a note is read again that waits for receivers of another replica's list."""
_MOST_KNOWN = 50_000
"""Notes of which this process remembers when they are due. Others are read at each look."""

SettleUpload = Callable[[Mapping[str, Any]], Awaitable[bool]]
"""Notes the outcome of an upload that was about to be completed. Returns whether that is decided."""


class Deliverer:
    """Delivers to the receivers of one service."""

    def __init__(
        self,
        telling: Telling,
        urls: Sequence[str],
        *,
        http: aiohttp.ClientSession,
        signer: Signer,
        settle_upload: SettleUpload,
        log: AccessLog,
        count: Callable[[str], None] = lambda _: None,
        on_waiting: Callable[[int], None] = lambda _: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Make it.

        Args:
            telling: Whose notes are delivered.
            urls: The receivers.
            http: The connections to them.
            signer: Signs what is sent.
            settle_upload: Settles the intents to complete an upload.
            log: Gets a line for each attempt.
            count: Counts an attempt by its result: `delivered`, `failed`, `gave up` or `stopped`.
            on_waiting: Gets the number of notes that wait, at each look.
            chance: Returns a number from 0 to 1.
        """
        self._telling = telling
        self._notes = telling.notes
        self._urls = {receiver_of(url): url for url in urls}
        self._http = http
        self._signer = signer
        self._settle_upload = settle_upload
        self._log = log
        self._count = count
        self._on_waiting = on_waiting
        self._chance = chance
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped: set[str] = set()
        """The receivers that want no more events (410), until this process ends."""
        self._away: dict[str, float] = {}
        """The receivers that did not answer, and until when they get nothing."""
        self._known: dict[str, tuple[str, float]] = {}
        """By key: the ETag of a note, and when it is due, as the last walk through the list found."""
        self._kept: set[str] = set()
        """The notes that were logged to be kept for other replicas."""
        self._found: dict[str, tuple[str, float]] = {}
        """The same of the walk that is under way, which can take several looks."""
        self._after = ""
        self._seen = 0

    # -- this process's own events

    def soon(self, note: Note) -> None:
        """Deliver a note that this process has just written and taken."""
        if len(self._tasks) < _MOST_QUEUED:
            task = asyncio.create_task(self._deliver_taken(note))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver_taken(self, note: Note) -> None:
        async with self._places:
            if note.leased > self._notes.clock():  # else another process may have taken it by now
                with self._failures_logged():
                    await self._deliver(note)

    @contextlib.asynccontextmanager
    async def running(self, every: float = LOOK_EVERY) -> AsyncIterator[None]:
        """Look every `every` seconds inside the `with` statement. What is under way at its end is left to others."""
        self._telling.deliver_soon = self.soon
        self._telling.receivers = tuple(self._urls)
        looking = asyncio.create_task(self._look_on(every))
        try:
            yield
        finally:
            self._telling.deliver_soon, self._telling.receivers = None, ()
            for task in (looking, *self._tasks):
                task.cancel()
            await asyncio.gather(looking, *self._tasks, return_exceptions=True)

    async def _look_on(self, every: float) -> None:
        while True:
            with self._failures_logged():
                await self.look()
            now = self._notes.clock()
            soonest = min((due for _, due in self._known.values()), default=now + every)
            await asyncio.sleep(min(every, max(1.0, soonest - now)))

    @contextlib.contextmanager
    def _failures_logged(self) -> Iterator[None]:
        try:
            yield
        except (Fault, errors.BigUploadError, Refused) as e:
            self._log.write_event("webhooks", error=str(e))
        except Exception as e:  # a bug with one note must not end the deliveries
            self._log.write_event("webhooks", error=type(e).__name__)

    # -- all that lie in the bucket

    async def look(self) -> None:
        """Look at the notes that wait, and act on those that are due. Raises Fault or BigUploadError."""
        pages = 0
        if not self._after:
            self._seen, self._found = 0, {}
        async for page in self._notes.pages(WAITING, after=self._after):
            self._seen += len(page)
            rows = iter(page)
            await asyncio.gather(*(self._work_on(rows) for _ in range(min(_AT_ONCE, len(page)))))
            pages += 1
            self._after = page[-1][0] if page else ""
            if pages == _PAGES_A_LOOK:
                break
        else:
            self._after, self._known = "", self._found
            self._on_waiting(self._seen)

    async def _work_on(self, rows: Iterator[tuple[str, str]]) -> None:
        for key, etag in rows:
            now = self._notes.clock()
            before, due = self._known.get(key, ("", 0.0))
            if before != etag or due <= now:
                if key.startswith(WAITING + EVENT_PREFIX) and all(self._away.get(n, 0.0) > now for n in self._urls):
                    continue
                due = 0.0
                with self._failures_logged():
                    due = await self._act_on(key)
            if due and len(self._found) < _MOST_KNOWN:
                self._found[key] = (etag, due)

    async def _act_on(self, key: str) -> float:
        """Take a note if it is due, and act on it. Returns when it is due otherwise; 0: that is not known."""
        note = await self._notes.read(key)
        if note is None:
            return 0.0
        now = self._notes.clock()
        if note.due > now:
            return note.due
        if note.event is not None and not self._has_work(note, now):
            self._say_kept(note)
            return now + _FOREIGN_LOOK
        if not await self._notes.take(note):
            return 0.0
        await (self._settle(note) if note.event is None else self._deliver(note))
        return 0.0

    async def _settle(self, note: Note) -> None:
        """Find out what became of what was about to happen. That leaves the note of the event."""
        assert note.intent is not None
        settled = False
        with self._failures_logged():
            async with self._notes.holding(note):
                if note.intent["of"] == "upload":
                    settled = await self._settle_upload(note.intent)
                else:
                    settled = await self._telling.settle_expiry(note.intent, note.since)
        if settled:
            await self._notes.remove(note)
            return
        note.next, note.leased = next_look(note.looks, now=self._notes.clock()), 0.0
        note.looks += 1
        await self._notes.change(note)

    # -- one event

    def _has_work(self, note: Note, now: float) -> bool:
        """Return whether this process may act on a note. If only receivers of another replica's list are due, it waits
        for that replica, as in a rolling deployment that adds a receiver."""
        mine = [note.deliveries.get(name, Delivery()) for name in self._urls]
        if any(each.ended is None and each.next <= now for each in mine):
            return True
        return not self._owed_by_others(note) or now >= note.since + RETRIED_FOR

    def _owed_by_others(self, note: Note) -> list[str]:
        return [name for name, each in note.deliveries.items() if each.ended is None and name not in self._urls]

    def _say_kept(self, note: Note) -> None:
        if note.name not in self._kept:
            if len(self._kept) >= _MOST_KNOWN:
                self._kept.clear()
            self._kept.add(note.name)
            self._say(note, "kept", "for a receiver that is not in this process's list")

    def _say(self, note: Note, result: str, said: str, **more: Any) -> None:
        assert note.event is not None
        self._log.write_event("webhook", id=note.event.id, type=note.event.type, **more, result=result, said=said)

    async def _deliver(self, note: Note) -> None:
        """Send an event to all receivers that did not get it yet and are due, and note what became of that."""
        now = self._notes.clock()
        for name in self._urls:
            note.deliveries.setdefault(name, Delivery())
        for name, until in self._away.items():
            note.deliveries[name].next = max(note.deliveries[name].next, until)
        async with self._notes.holding(note):
            await self._send_to_all(note)
        if now >= note.since + RETRIED_FOR:
            for name in self._owed_by_others(note):
                note.deliveries[name].ended = "gave up"
                self._count("gave up")
                self._say(note, "gave up", "for a receiver that is in no list any more")
        waiting = [each.next for each in note.deliveries.values() if each.ended is None]
        if not waiting:
            await self._notes.finish(note)
            return
        if self._owed_by_others(note):
            self._say_kept(note)
        note.next, note.leased = min(waiting), 0.0
        await self._notes.change(note)

    async def _send_to_all(self, note: Note) -> None:
        """Send an event to each receiver that is due. While one takes its time, the others are tried again."""
        sending, all_answered = 0, asyncio.Event()

        async def to(name: str) -> None:
            nonlocal sending
            delivery = note.deliveries[name]
            while delivery.ended is None:
                if (pause := delivery.next - self._notes.clock()) > 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await all_answered.wait()
                            return
                sending += 1
                all_answered.clear()
                try:
                    await self._send(note, name)
                finally:
                    sending -= 1
                    if not sending:
                        all_answered.set()
                if all_answered.is_set():
                    return

        now = self._notes.clock()
        mine = [name for name in self._urls if note.deliveries[name].ended is None]
        if any(note.deliveries[name].next <= now for name in mine):
            await asyncio.gather(*map(to, sorted(mine, key=lambda name: note.deliveries[name].next)))

    async def _send(self, note: Note, name: str) -> None:
        assert note.event is not None
        url, delivery, now = self._urls[name], note.deliveries[name], self._notes.clock()
        if name in self._stopped:
            sent = Sent(result="stopped", said="410 before")
        else:
            sent = await send(self._http, url, note.event.id, note.event.body, signer=self._signer, now=now)
        result: str = sent.result
        delivery.said = sent.said
        self._away.pop(name, None)
        if not sent.answered:
            self._away[name] = self._notes.clock() + _AWAY_FOR
        if sent.result == "failed":
            delivery.failures += 1
            again = next_attempt(delivery.failures, self._notes.clock(), note.since, sent.retry_after, self._chance)
            delivery.next = again or 0.0
            if again is None:
                result = delivery.ended = "gave up"
        else:
            delivery.ended = sent.result
        if sent.result == "stopped":
            self._stopped.add(name)
        self._count(result)
        self._say(note, result, sent.said, host=host_of(url), failures=delivery.failures)


def next_attempt(
    failures: int, now: float, since: float, retry_after: float | None, random: Callable[[], float]
) -> float | None:
    """Return when to send an event again; None: it is given up. The last attempt is at the end of the time.

    Args:
        failures: How many attempts failed, one at least.
        now: The time, in seconds.
        since: When the event was noted.
        retry_after: The seconds that the receiver asked for.
        random: Returns a number from 0 to 1.
    """
    end = since + RETRIED_FOR
    if now >= end:
        return None
    pause = _PAUSES[min(failures, len(_PAUSES)) - 1] * (1 + _SPREAD * (2 * random() - 1))
    return min(end, now + max(pause, retry_after or 0.0))


def next_look(looks: int, *, now: float) -> float:
    """Return when to look again what became of something that was not decided at the first `looks` looks."""
    return now + min(_LONGEST_LOOK, _FIRST_LOOK * 2.0 ** min(looks, 10))
