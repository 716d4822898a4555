"""Deliver the events that lie noted in the bucket: those of this process at once, those that others left when found.

Every process of every replica looks at the notes again and again, and takes over what a killed one had taken. The work
of a look is bounded: some pages of the list, and some requests at a time. What is not yet due is not read again.
An event that nobody took is sent again after longer and longer pauses, for a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import aiohttp

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.service.access_log import AccessLog
from bigupload.service.problems import Refused
from bigupload.service.webhooks.hooks import Sent, Signer, host_of, receiver_of, send
from bigupload.service.webhooks.telling import EVENT_PREFIX, WAITING, Delivery, Note, Telling

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
        try:
            async with self._notes.holding(note):
                if note.intent["of"] == "upload":
                    settled = await self._settle_upload(note.intent)
                else:
                    settled = await self._telling.settle_expiry(note.intent, note.since)
        except (Fault, errors.BigUploadError) as e:
            self._log.write_event("webhooks", error=str(e))
            settled = False
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
