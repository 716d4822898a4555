"""The imports of one service: what begins one, which are fetched now, and what becomes of each.

An import is a create like any other, and a note in the bucket. Each process looks at the notes and takes as many as it
may fetch at once, by the same conditional PUT that takes the notes of webhooks. It says in the note how far it is when
it renews that. A note whose process was killed is taken by another one. The queue is bounded by the limits of open
uploads, because each import in it has one.

The URL's query is a bearer secret, and its path may be one, so the note has the URL encrypted, and no answer has it.
The log has its host.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

import pydantic
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from bigupload import errors
from bigupload.api.remote import WrongSizeError
from bigupload.core.content_types import type_of
from bigupload.core.part_plan import S3_LIMITS, plan_parts
from bigupload.core.retry_policy import Fault, RetryPolicy
from bigupload.http.web_file import AskedToWaitError
from bigupload.records import dataclass
from bigupload.service import contract as c
from bigupload.service import media
from bigupload.service.access_log import AccessLog
from bigupload.service.callers import Caller
from bigupload.service.direct_url import TIME_LIMIT
from bigupload.service.finishing import FINAL_PROBLEMS
from bigupload.service.handles import Handle, handle_from_json
from bigupload.service.imports.fetching import (
    Fetching,
    FetchProgress,
    HostFailedError,
    host_of,
    why_failed,
    why_unusable,
)
from bigupload.service.keys import KeyFile
from bigupload.service.object_keys import IMPORTS_PREFIX, account_of
from bigupload.service.problems import Problem, Refused
from bigupload.service.store_health import quietly, store_faults_as_refusals
from bigupload.service.upload_tokens import Revocations, UploadToken
from bigupload.service.uploads import MediaUploads
from bigupload.service.webhooks.delivering import LOOK_EVERY, next_look
from bigupload.service.webhooks.notes import LEASE, Note, Notes

GRACE = 300.0
"""Seconds before an import can be too slow, of all the time in which it had a place."""
SLOWEST = 64 * 1024
"""Bytes a second, on average, that a host must send: a slow one occupies a place that others wait for."""
_MOST_WAITS = 8
"""The number of times in a row that a host may ask to come again later, if no part is stored in between."""
_LONGEST_WAIT = 3600.0
"""Seconds until an import is taken again whose host asks to wait, however long it says."""
_LOOK = RetryPolicy(attempts=2, give_up_after=0.0, stall_after=TIME_LIMIT)
_PAGES_A_LOOK = 10
"""Pages of a thousand notes that one look reads."""
_UNREADABLE_FOR = 3600.0
"""Seconds until a note that can't be read is looked at again."""
_HEAD = 4096
_NOTE_EVERY = 2.0
"""Seconds between two notes of what was stored: a kill forgets the parts since the last one, which come again."""
_CLAIMS = {"aud", "owner", "issued", "expires", "id", "key_id", "user"}
"""The claims of a token that revocations look at. Nobody can present such a token."""


class _TakenError(Exception):
    """Another process has taken the import: this one had lost the store for too long."""


@dataclass(slots=True, kw_only=True)
class _Running:
    """An import that this process fetches."""

    note: Note
    handle: Handle
    progress: FetchProgress
    began: float
    """The time at which it would have begun if it had never lost its place, by the clock of this process."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when its note is not to be renewed any more."""
    asked_to_wait: float | None = None
    """Seconds until it is to be taken again, if its host asked for that."""
    leaves: bool = False
    """Whether it gives its place to another account."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while its note is written: each write follows from the one before."""


class Imports:
    """The imports of one process."""

    def __init__(
        self,
        fetching: Fetching,
        notes: Notes,
        uploads: MediaUploads,
        *,
        most: int,
        secrets: Sequence[str],
        keys: KeyFile | None,
        revocations: Revocations,
        log: AccessLog,
        count: Callable[[str], None] = lambda _: None,
        on_running: Callable[[int], None] = lambda _: None,
        renew_every: float = LEASE / 3,
    ) -> None:
        """Make it.

        Args:
            fetching: Fetches files.
            notes: The notes of imports.
            uploads: The owners' uploads.
            most: How many are fetched at once.
            secrets: Encrypt the URLs in the notes: the last one does, all are tried.
            keys: The API keys; None: there are none.
            revocations: The tokens that were revoked.
            log: Gets a line for each import that ends.
            count: Counts an import by its result: `completed`, `refused`, `failed`, `aborted` or `waits`.
            on_running: Gets the number of imports that are fetched now.
            renew_every: Seconds between two looks at whether an import may go on.
        """
        self._fetching = fetching
        self._notes = notes
        self._uploads = uploads
        self._most = most
        digests = [hashlib.sha256(f"bigupload.import\n{secret}".encode()).digest() for secret in reversed(secrets)]
        self._cipher = MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])
        self._keys = keys
        self._revocations = revocations
        self._log = log
        self._count = count
        self._on_running = on_running
        self._renew_every = renew_every
        self._wake = asyncio.Event()
        self._running: dict[str, _Running] = {}
        """By the names of their notes."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """By the same names."""
        self._known: dict[str, tuple[str, float]] = {}
        """By key: the ETag of a note, and when it is due, as the last look found."""

    # -- to begin one

    async def begin(self, caller: Caller, request: c.ImportRequest) -> c.ImportResponse:
        """Ask the host for the file, create its upload, and leave a note that it is to be fetched.

        Raises:
            Refused: IMPORT_FAILED if the host is not public, or does not give the file; or as a create.
        """
        async with contextlib.AsyncExitStack() as opened:
            wanted, pin = await self._look_at(request, opened)
        created = await self._create(caller, wanted)
        handle = self._uploads.decode(created.upload, caller.owner, None)
        intent = {
            "handle": handle.to_json(),
            "url": self._cipher.encrypt(request.url.encode()).decode(),
            "pin": pin,
            "key": caller.key_id,
            "token": caller.token and caller.token.model_dump(mode="json", by_alias=True, include=_CLAIMS),
            "progress": FetchProgress().to_json(),
            "spent": 0.0,
            "parts": {},
        }
        note = Note(name=_name(handle, request.user), since=self._notes.clock(), intent=intent)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(quietly, self._uploads.abort, caller.owner, created.upload)
            with store_faults_as_refusals():
                await self._notes.add(note)
            undo.pop_all()
        self._wake.set()
        return c.ImportResponse(
            upload=created.upload,
            key=created.key,
            public_url=created.public_url,
            size=wanted.size,
            content_type=wanted.content_type,
            filename=wanted.filename,
        )

    async def _look_at(
        self, request: c.ImportRequest, opened: contextlib.AsyncExitStack
    ) -> tuple[c.CreateRequest, str | None]:
        """Return the create for the file at a URL, and the version that the host names."""
        if (wrong := why_unusable(request.url)) is not None:
            raise Refused(Problem.IMPORT_FAILED, wrong, field="url")
        try:
            async with asyncio.timeout(TIME_LIMIT):
                found = await self._fetching.open(
                    request.url, opened, name=request.filename, size=request.size, policy=_LOOK
                )
        except TimeoutError:
            message = f"the host did not send the first bytes of the file within {TIME_LIMIT:g} s"
            raise Refused(Problem.IMPORT_FAILED, message, field="url") from None
        except WrongSizeError as e:
            message = f"the file has {e.size:,} bytes, and `size` is {request.size:,}"
            raise Refused(Problem.IMPORT_FAILED, message, field="size") from None
        except errors.UsageError:
            message = "neither the host nor the URL names the file: name it by `filename`"
            raise Refused(Problem.IMPORT_FAILED, message, field="filename") from None
        except (Fault, errors.BigUploadError) as e:
            reason = why_failed(e)
            raise Refused(Problem.IMPORT_FAILED, reason, field="url") from HostFailedError(request.url, reason)
        stream = found.source.stream
        size = found.source.fingerprint.size if stream is None else stream.expected
        if not size:
            message = "the host does not report the size of the file: name its `size` in bytes"
            raise Refused(Problem.IMPORT_FAILED, message, field="size")
        head = bytearray(min(_HEAD, size))
        del head[found.source.read_into(memoryview(head), 0) :]
        name = found.name
        content_type = request.content_type or found.content_type or type_of(name).content_type
        kind = media.by_content_type(content_type)
        if request.filename is None and not media.extension_of(name) and kind is not None:
            name = f"{name}.{kind.extension}"
        try:
            create = c.CreateRequest(
                filename=name,
                content_type=content_type,
                size=size,
                part_size=plan_parts(size, None, limits=S3_LIMITS).part_size,
                head=base64.b64encode(head).decode(),
                user=request.user,
                metadata=request.metadata,
                tags=request.tags,
            )
        except (pydantic.ValidationError, errors.UsageError):
            message = "the host's name or type of the file can't be kept: name `filename` and `contentType`"
            raise Refused(Problem.IMPORT_FAILED, message, field="url") from HostFailedError(request.url, message)
        return create, found.source.fingerprint.pin

    async def _create(self, caller: Caller, wanted: c.CreateRequest) -> c.CreateResponse:
        try:
            return await self._uploads.create(caller.owner, wanted, caller.token)
        except Refused as refused:
            if refused.problem is not Problem.UNSUPPORTED_CHECKSUM:
                raise
        by_md5 = wanted.model_copy(update={"checksum_algorithm": "md5"})
        return await self._uploads.create(caller.owner, by_md5, caller.token)

    async def progress(self, handle: Handle) -> c.ImportProgress | None:
        """Return the progress of an import; None if there is no such import, or it has ended."""
        name = _name(handle, self._uploads.user_of(handle))
        running = self._running.get(name)
        if running is not None:
            return c.ImportProgress(state="fetching", size=handle.size, **running.progress.to_json())
        with store_faults_as_refusals():
            note = await self._notes.read(IMPORTS_PREFIX + name)
        if note is None or note.intent is None:
            return None
        is_taken = note.leased > self._notes.clock()
        state: Literal["waiting", "fetching"] = "fetching" if is_taken else "waiting"
        return c.ImportProgress(state=state, size=handle.size, **note.intent["progress"])

    # -- which are fetched

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Fetch files inside the `with` statement. Those that are under way at its end are left to others at once."""
        looking = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            tasks = [looking, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_on(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self.look()
            except (Fault, errors.BigUploadError) as e:
                self._log.write_event("imports", error=str(e))
            except Exception as e:  # a bug with one note must not end the imports
                self._log.write_event("imports", error=type(e).__name__)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._wake.wait()

    async def look(self) -> None:
        """Take as many imports as there are places, the accounts in turns.

        If none is free, and an account waits that has none, one that has several gives the newest of them back.

        Raises:
            Fault: The store failed.
            BigUploadError: It refused.
        """
        by_account: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        pages, listed = 0, dict[str, tuple[str, float]]()
        async for page in self._notes.pages(IMPORTS_PREFIX):
            for key, etag in page:
                name = key.removeprefix(IMPORTS_PREFIX)
                listed[key] = self._known.get(key, (etag, 0.0))
                if name not in self._running and not (listed[key][0] == etag and listed[key][1] > self._notes.clock()):
                    by_account[_account(name)].append((key, etag))
            pages += 1
            if pages == _PAGES_A_LOOK:
                break
        self._known = listed
        fetched = Counter(map(_account, self._running))
        turns = sorted(
            (fetched[account] + turn, key, etag)
            for account, rows in by_account.items()
            for turn, (key, etag) in enumerate(rows)
        )
        for _, key, etag in turns:
            gives_back = None
            if len(self._running) >= self._most:
                gives_back = self._newest_of_many(_account(key.removeprefix(IMPORTS_PREFIX)))
                if gives_back is None:
                    continue
            note = await self._due(key, etag)
            if note is not None and gives_back is not None:
                gives_back.leaves = True
                self._tasks[gives_back.note.name].cancel()  # its end wakes the next look
                return
            if note is not None:
                await self._take(note)

    def _newest_of_many(self, waits: str) -> _Running | None:
        """Return the import that gives its place to an account; None: that has one, or no account has several."""
        of: defaultdict[str, list[_Running]] = defaultdict(list)
        for running in self._running.values():
            of[_account(running.note.name)].append(running)
        most = max(of.values(), key=len)
        one_leaves = any(running.leaves for running in self._running.values())
        return None if waits in of or len(most) < 2 or one_leaves else most[-1]

    async def _due(self, key: str, etag: str) -> Note | None:
        """Read a note; None: it is not to be taken now."""
        note = await self._notes.read(key)
        if note is None or note.intent is None:  # it has ended, or another release wrote it
            self._known[key] = etag, self._notes.clock() + _UNREADABLE_FOR
            return None
        if note.due > self._notes.clock():
            self._known[key] = etag, note.due
            return None
        return note

    async def _take(self, note: Note) -> None:
        if await self._notes.take(note):
            assert note.intent is not None
            progress = FetchProgress(fetched=note.intent["progress"]["fetched"])
            handle = handle_from_json(note.intent["handle"])
            began = time.monotonic() - note.intent.get("spent", 0.0)
            self._running[note.name] = running = _Running(note=note, handle=handle, progress=progress, began=began)
            self._on_running(len(self._running))
            self._tasks[note.name] = task = asyncio.create_task(self._run(running))
            task.add_done_callback(functools.partial(self._forget, note.name))

    def _forget(self, name: str, task: asyncio.Task[None] | None) -> None:
        """Forget an import whose task has ended, also one that was cancelled before it began."""
        if task is self._tasks.get(name) is not None:
            del self._running[name], self._tasks[name]
            self._on_running(len(self._running))
            self._wake.set()

    # -- one import

    async def _run(self, running: _Running) -> None:
        note, result, said = running.note, "waits", None
        try:
            result, said = await self._outcome(running)
        except asyncio.CancelledError:
            result = "left"
            raise
        except AskedToWaitError as e:
            said = why_failed(e)  # the error itself has the URL
        except (Fault, errors.BigUploadError, Refused, _TakenError) as e:
            said = str(e)
        except Exception as e:  # a bug with one import must not end the others
            self._log.write_event("imports", error=type(e).__name__)
        finally:
            try:
                await quietly(self._end, running, result)
            finally:  # now it may be taken again, by this process, too
                self._forget(note.name, asyncio.current_task())
        self._count(result)
        owner, fetched = running.handle.owner, running.progress.fetched
        self._log.write_event("import", owner=owner, host=self._host(note), result=result, said=said, fetched=fetched)

    async def _outcome(self, running: _Running) -> tuple[str, str | None]:
        """Fetch a file to its end. Returns the result, and why it is none; raises what passes."""
        handle = running.handle
        try:
            return await self._import(running), None
        except Refused as refused:
            if refused.problem.status >= 500:
                raise
            said = str(refused)
            if refused.problem in FINAL_PROBLEMS:  # the file was judged, which told it
                return "refused", said
        except AskedToWaitError as e:
            if _may_wait(running, e.seconds):
                raise
            said = f"the host asked {_MOST_WAITS + 1} times to come again later"
        except (errors.SourceError, errors.UsageError) as e:
            said = why_failed(e)
        except errors.UploadGone:
            return await self._aborted(handle)
        if await self._uploads.outcomes.completed(handle) is not None:  # just before it was to end
            return "completed", None
        if not await self._uploads.outcomes.is_open(handle):  # a stream ends like this if its upload is gone
            return await self._aborted(handle)
        await self._uploads.give_up(handle, Refused(Problem.IMPORT_FAILED, said))
        return "failed", said

    async def _aborted(self, handle: Handle) -> tuple[str, None]:
        """Return the outcome of an upload that somebody else has ended."""
        await quietly(self._uploads.outcomes.store_of(handle).abort, handle.upload_id)  # parts that came later
        return "aborted", None

    async def _end(self, running: _Running, result: str) -> None:
        """Remove the note of an import that has ended; leave any other one to whoever looks next."""
        note = running.note
        if result not in ("waits", "left"):
            await self._notes.remove(note)
            return
        note.next = note.leased = 0.0
        if note.intent is not None:
            progress = {**note.intent["progress"], "fetched": running.progress.fetched}
            change: dict[str, Any] = {"progress": progress, "spent": time.monotonic() - running.began}
            parts = running.progress.parts()
            note.intent = {**note.intent, **change, **({"parts": parts} if parts else {})}
        if running.asked_to_wait is not None:
            note.next = self._notes.clock() + running.asked_to_wait
        elif result == "waits":
            note.next = next_look(note.looks, now=self._notes.clock())
            note.looks += 1
        await self._notes.change(note)

    def _host(self, note: Note) -> str | None:
        with contextlib.suppress(errors.UsageError, Refused):
            return host_of(self._url(note.intent or {}))
        return None

    async def _import(self, running: _Running) -> str:
        """Fetch a file to its end. Raises Refused, Fault or BigUploadError."""
        assert running.note.intent is not None
        handle, outcomes = running.handle, self._uploads.outcomes
        await self._check_allowed(running.note.intent)
        if not await outcomes.is_open(handle):  # a process that was killed may have completed it
            return "aborted" if await outcomes.ended(handle) is None else "completed"
        if await self._uploads.room_for(handle) is not None:
            return "completed"
        work = asyncio.create_task(self._fetch(running))
        watch = asyncio.create_task(self._watch(running))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                watch.result()
            await work
        except errors.MediaRefused as e:
            raise e.__cause__ if isinstance(e.__cause__, Refused) else e from None
        finally:
            running.over.set()
            work.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)
        return "completed"

    async def _fetch(self, running: _Running) -> None:
        note = running.note
        assert note.intent is not None

        async def drop_pin() -> None:
            await self._write(running, {"pin": None, "parts": {}})

        url, pin, parts = self._url(note.intent), note.intent["pin"], note.intent["parts"]
        await self._fetching.fetch(url, running.handle, pin, parts, running.progress, drop_pin)

    async def _write(self, running: _Running, change: Mapping[str, Any]) -> None:
        """Renew the note, with a change. Raises _TakenError if another process has taken it."""
        note = running.note
        async with running.writing:
            note.intent = {**(note.intent or {}), **change}
            if not await self._notes.take(note):
                raise _TakenError

    def _url(self, intent: Mapping[str, Any]) -> str:
        try:
            return self._cipher.decrypt(intent["url"]).decode()
        except InvalidToken:
            message = "the secret of the service was changed since the import began: begin it again"
            raise Refused(Problem.IMPORT_FAILED, message) from None

    async def _watch(self, running: _Running) -> None:
        """Renew the note, and raise if the import may not go on: Refused, UploadGone or _TakenError."""
        note, progress = running.note, running.progress
        renewed, noted = time.monotonic(), len((note.intent or {})["parts"])
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_NOTE_EVERY, self._renew_every)):
                    await running.over.wait()
                    return
            parts, is_due = progress.parts(), time.monotonic() - renewed >= self._renew_every
            if not is_due and len(parts) == noted:
                continue
            change: dict[str, Any] = {"progress": progress.to_json(), "spent": time.monotonic() - running.began}
            try:
                await self._write(running, change | ({"parts": parts} if parts else {}))
                noted = len(parts)
                if not is_due:
                    continue
                renewed = time.monotonic()
                if progress.completing:  # all has come: what was said of it may be told by now
                    continue
                await self._check_allowed(note.intent or {})
                is_open = await self._uploads.outcomes.is_open(running.handle)
                if not is_open and not progress.completing:  # which ends an upload, too
                    raise errors.UploadGone("the upload was aborted")
            except Refused as refused:
                if refused.problem.status < 500 and not progress.completing:
                    raise
            except errors.UploadGone:
                raise
            except (Fault, errors.BigUploadError):
                continue  # the store is away: the engine waits for it, too
            took = time.monotonic() - running.began
            if took > GRACE and not progress.completing and progress.fetched < took * SLOWEST:
                raise Refused(Problem.IMPORT_FAILED, f"the host sends less than {SLOWEST // 1024} KiB a second")

    async def _check_allowed(self, intent: Mapping[str, Any]) -> None:
        """Raise Refused if the API key or the token was revoked with which the import was begun."""
        owner, key_id = intent["handle"]["owner"], intent["key"]
        if key_id is not None and (self._keys is None or not self._keys.holds(key_id, owner)):
            raise Refused(Problem.IMPORT_FAILED, "the API key with which the import was begun was revoked")
        if intent["token"] is not None:
            token = UploadToken.model_validate(intent["token"], by_alias=True, by_name=False)
            await self._revocations.check(token)


def _name(handle: Handle, user: str | None) -> str:
    """The name of an import's note: those of one account are together, in the order in which they were begun."""
    digest = hashlib.sha256(f"{handle.key}\n{handle.upload_id}".encode()).hexdigest()[:32]
    return f"{account_of(handle.owner, user)}/{handle.expires:010}-{digest}"


def _may_wait(running: _Running, seconds: float) -> bool:
    """Note that the host asks to wait. Returns False if it has asked too often in a row."""
    assert running.note.intent is not None
    stored = len(running.progress.parts())
    times, before = running.note.intent.get("waits", (0, 0))
    times = times + 1 if stored <= before else 1
    if times > _MOST_WAITS:
        return False
    running.note.intent = {**running.note.intent, "waits": (times, max(stored, before))}
    running.asked_to_wait = min(seconds, _LONGEST_WAIT)
    return True


def _account(name: str) -> str:
    return name.rpartition("/")[0]
