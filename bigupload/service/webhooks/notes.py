"""The notes of events in the bucket: events to send, the process that is about to send each, and those sent.

A note lies in the store before the service answers, so that an event outlives its replica. Whoever acts on a note takes
it first, by a conditional PUT that writes until when it is taken. A store without conditional PUTs lets two replicas
take one note: then an event is delivered twice, with one id. Knows neither HTTP nor media.

Events, their ids and bodies are as https://www.standardwebhooks.com lays them out; `contract` declares their types. An
event's id follows from what happened to which version of which object. So whoever notes the same event again, as
another replica after a kill, gives it the same id, and a receiver can recognise a duplicate.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Any

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.records import dataclass
from bigupload.service.media.object_keys import EVENTS_PREFIX
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.s3.operations import ObjectPages

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
        kind: Its type, one of those in `telling.BODIES`.
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
        pages = ObjectPages(after)
        while not pages.ended:
            page = await self._bucket.call("to list notes", "ListObjectsV2", Prefix=prefix, **pages.start)
            yield [(row["Key"], row.get("ETag", "")) for row in page.get("Contents", ())]
            pages.advance(page)

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
