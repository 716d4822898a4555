"""Upload the missing parts: hash, presign, PUT, prove and record each of them, several at a time.

A part holds one of the shared slots only while its body is in flight, so that hashing, signing and waiting for a retry
cost no bandwidth. A few more parts than there are slots are hashed and signed ahead, while memory keeps them.

The store has a part if its checksum proves that, or its MD5 where the store confirms no checksums. A Content-MD5 proves
a part only where the store checks it, which one wrong Content-MD5 finds out. Where a proxy drops the ETag of a
response, the store's list of parts has it.
"""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bigupload import errors, events
from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, Hashed
from bigupload.core.integrity import NO_ETAG, ChecksumMismatch, prove_part
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import MIB, S3_LIMITS, START_OVER_WITHIN, Part, plan_parts, plan_small_parts
from bigupload.core.rate_meter import RateMeter
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.core.upload_state import PartState, UploadState
from bigupload.engine.context import UploadContext
from bigupload.engine.in_flight import PartsInFlight
from bigupload.engine.part_copying import PartCopier
from bigupload.engine.part_groups import GroupUploader, PartRecorder, Signed, UnprovedPart
from bigupload.engine.part_hashing import PartHasher
from bigupload.engine.stream_parts import StreamParts
from bigupload.ports import GroupTransport, ListedPart, PutResponse, SignedRequest, Source, UnsignedPart, Unwatched
from bigupload.support.batching import Batcher
from bigupload.support.cancellation import most_serious
from bigupload.units import format_size

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

_LOOKAHEAD = 4
"""Parts more than the limit that an upload may have begun for each machine, so that one is ready when a slot becomes
free."""
_MOST_AHEAD = 16
"""The same where the limit is larger: parts that began together end together. 1 GiB in 0.94 x the time over 30 ms."""
_MOST_PREPARED = 512 * MIB
"""Bytes that all uploads together hash for each machine before there are slots: they should be in memory when they
are sent. An upload that has no part ready may prepare one all the same."""
_FRESH_FOR = 60.0
"""Seconds that a URL must still be valid when its PUT begins."""
_SIGN_BATCH = 100


class UnknownUpload(Exception):
    """The store no longer knows the upload id."""


class PartsTooLarge(Exception):
    """The connections are so slow that a kill would cost too much: smaller parts are better.

    It is raised before any part is recorded, and once in a run.
    """

    def __init__(self, part_size: int) -> None:
        """`part_size`: the better one in bytes."""
        super().__init__(part_size)
        self.part_size = part_size


class ChecksumsRefused(Exception):
    """The store took the upload with its checksum, and refuses the parts'. The upload may start over without.

    It is raised before any part is recorded.
    """

    def __init__(self, fault: Fault) -> None:
        """`fault`: the refusal."""
        super().__init__(fault)
        self.fault = fault


class _EntryState(enum.Enum):
    """How a part enters an attempt. The third way is a `Fault`: its group has made the attempt, which failed."""

    READY = "it is signed, unless it is already, and waits for a slot"
    REFUSED = "it waits for a slot, and is signed again there"


class _Rewritten(Exception):
    """The part of a growing file was rewritten while it was sent."""


def _ahead(limit: int, machines: int) -> int:
    """Return the number of parts beyond the limit that may have begun."""
    return max(_LOOKAHEAD, min(_MOST_AHEAD, limit // machines)) * machines


class PartUploader:
    """Uploads the missing parts of one upload id, once."""

    def __init__(
        self, context: UploadContext, state: UploadState, hasher: PartHasher, arriving: StreamParts | None = None
    ) -> None:
        """`arriving`: the parts of a stream; None: all of the plan's parts are there."""
        self._context = context
        self._state = state
        self._arriving = arriving
        self._broken_off: errors.SourceError | None = None
        self._hasher = hasher
        self._upload_id = context.manifest.upload_id
        self._puts = PartsInFlight(context)
        plan = context.manifest.plan
        count = 0 if plan.size is None else state.missing
        context.shared.expect_parts(plan.part_size, context.effects.clock(), count=count)
        self._copier = PartCopier(context, hasher)
        self._signer: Batcher[UnsignedPart, Signed] = Batcher(self._sign_batch, max_batch=_SIGN_BATCH)
        self._bytes_uploaded = context.manifest.bytes_uploaded
        """By the manifest, without adding up all parts at each report. Of a stream, parts may be dropped."""
        self._meter = RateMeter()
        self._pending = state.pending()
        self._admitted = 0
        self._prepared: set[int] = set()
        """The numbers of the parts that have had no slot yet."""
        self._room = asyncio.Event()
        self._prover = PartProver(context, hasher, Md5Probe(self._sign_one, self._puts.put))
        self._groups = None if context.groups is None or arriving is not None else self._new_groups(context.groups)

    def _new_groups(self, groups: GroupTransport) -> GroupUploader:
        async def hash_group(parts: Sequence[Part]) -> list[Hashed]:
            return await self._hasher.hash_group(parts, md5=self._prover.with_md5, groups=groups.hash_group)

        async def sign(parts: Sequence[Part], hashed: Sequence[Hashed]) -> list[Signed]:
            headers = map(self._prover.headers, hashed)
            return await self._sign_batch(
                [UnsignedPart(part.number, part.size, each) for part, each in zip(parts, headers, strict=True)]
            )

        return GroupUploader(
            self._context,
            groups,
            self._puts,
            hash_group=hash_group,
            sign=sign,
            prove=self._prover.prove_by,
            is_fresh=self._is_fresh,
            recorder=PartRecorder(self._record, self._context.effects.sleep),
        )

    async def run(self) -> None:
        """Upload until no part is missing.

        Raises:
            UnknownUpload: The store no longer knows the upload id.
            PartsTooLarge, ChecksumsRefused: The upload should start over.
            BigUploadError: The upload stops.
        """
        import anyio  # the request that creates the upload is sent before

        try:
            async with anyio.create_task_group() as watching:
                watching.start_soon(self._puts.watch, self._look)
                if self._groups is not None:
                    watching.start_soon(self._groups.recorder.run)
                async with anyio.create_task_group() as parts:
                    await self._begin_all(parts)
                watching.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error = most_serious(group)
            if self._arriving is not None:
                await self._arriving.forget()
            if isinstance(error, Fault):  # GONE: any other is retried, or raised as a public error
                raise UnknownUpload from error
            raise error from error.__cause__
        if self._broken_off is not None:
            raise self._with_kept(self._broken_off)
        if self._arriving is not None:
            self._arriving.require_all()
        self._report()

    def _with_kept(self, error: errors.SourceError) -> errors.SourceError:
        """Add to an error that ends a stream how much of it the next run need not send."""
        kept = self._context.manifest.bytes_uploaded
        if kept and error.resumable:
            error.args = (f"{error}. {format_size(kept)} of them are in the store and are not sent again",)
        return error

    async def _begin_all(self, parts: TaskGroup) -> None:
        try:
            while (part := await self._next()) is not None:
                group = self._group_from(part)
                self._prepare(group)
                if len(group) > 1:
                    parts.start_soon(self._group, group, parts)
                else:
                    parts.start_soon(self._part, part)
                await self._admit()
        except errors.SourceError as e:
            if self._arriving is None or self._arriving.is_another:
                raise
            self._broken_off = e  # raised when the parts that came before it are in the store: less is left to resume
        self._puts.all_begun = True

    async def _next(self) -> Part | None:
        """Take the next part that is missing. It is in flight from then on."""
        return next(self._pending, None) if self._arriving is None else await self._arriving.next_missing()

    def _group_from(self, part: Part) -> list[Part]:
        """Take the parts that follow a part and are sent with it. Returns all of them."""
        group = [part]
        groups = None if self._prover.lists_etags else self._groups  # each part of a group would be sent again
        most = 1 if groups is None else groups.size(part, self._state.waiting)
        while len(group) < most and (following := next(self._pending, None)) is not None:
            if following.number != group[-1].number + 1:
                self._state.release(following.number)
                break
            group.append(following)
        return group

    def _prepare(self, parts: Sequence[Part]) -> None:
        self._admitted += 1
        for part in parts:
            self._prepared.add(part.number)
            self._context.shared.prepared += part.size

    def _prepared_until_now(self, part: Part) -> None:
        """The part has a slot, or has ended: others may be prepared."""
        if part.number in self._prepared:
            self._prepared.remove(part.number)
            self._context.shared.prepared -= part.size
            self._context.shared.wake()

    async def _admit(self) -> None:
        """Wait until another part may be prepared: until a part gets a slot or ends, or the limit rises."""
        shared = self._context.shared
        while self._admitted >= shared.limit + _ahead(shared.limit, shared.machines) or (
            self._prepared and shared.prepared >= _MOST_PREPARED * shared.machines
        ):
            self._room = asyncio.Event()
            shared.waiting_for_room.add(self._room)
            try:
                await self._room.wait()
            finally:
                shared.waiting_for_room.discard(self._room)

    # -- one part

    async def _group(self, parts: Sequence[Part], tasks: TaskGroup) -> None:
        assert self._groups is not None

        def begun() -> None:
            for part in parts:
                self._prepared_until_now(part)

        try:
            for unproved in await self._groups.upload(parts, begun):
                self._admitted += 1
                tasks.start_soon(self._part, unproved.part, unproved)
        except BaseException:
            for part in parts:
                if self._state.part(part.number) is PartState.IN_FLIGHT:
                    self._state.release(part.number)
            raise
        finally:
            begun()
            self._admitted -= 1
            self._room.set()

    async def _part(self, part: Part, unproved: UnprovedPart | None = None) -> None:
        """Upload a part; `unproved`: its group has not."""
        try:
            record, attempt, copied = await self._copied_unread(part), 1, True
            if record is None:
                await self._context.hold(part)
                if unproved is None:
                    hashed = await self._hasher.hash(part, md5=self._prover.with_md5 or self._copier.needs_md5)
                    unproved = UnprovedPart(part, hashed)
                record = await self._copied(part, unproved.hashed)
                copied = record is not None
                if record is None:
                    record, attempt = await self._until_proved(unproved)
            await self._record([record], attempt=attempt, copied=copied)
        except _Rewritten:
            self._state.release(part.number)  # sent again once nothing writes to the file
        except BaseException:
            if self._state.part(part.number) is PartState.IN_FLIGHT:
                self._state.release(part.number)
            raise
        finally:
            self._context.release(part)
            self._prepared_until_now(part)
            self._admitted -= 1
            self._room.set()

    async def _record(self, records: Sequence[PartRecord], *, attempt: int = 1, copied: bool = False) -> None:
        await self._context.check_source()
        await self._context.journal.append(*records)
        for record in records:
            self._bytes_uploaded += record.size
            self._state.record(record.number)
            self._puts.proved(record.proof)
            self._context.emit(
                events.PartUploaded(
                    number=record.number, size=record.size, attempt=attempt, proof=record.proof, copied=copied
                )
            )

    async def _copied_unread(self, part: Part) -> PartRecord | None:
        """Let the store copy the part from the source. None: it must be read here."""
        if not self._context.copies_unread or not part.size:
            return None
        self._prepared_until_now(part)
        return await self._copier.copy_unread(part)

    async def _copied(self, part: Part, hashed: Hashed) -> PartRecord | None:
        """Let the store copy the part, if it has it. None: it must be sent."""
        if not self._copier.can_copy(part, hashed):
            return None
        self._prepared_until_now(part)
        return await self._copier.copy(part, hashed)

    async def _until_proved(self, unproved: UnprovedPart) -> tuple[PartRecord, int]:
        """Send a part until its response proves it. Returns its record, and the number of attempts."""
        part, hashed, request, fresh = unproved.part, unproved.hashed, unproved.request, unproved.elsewhere
        attempts = self._context.retrier.attempts()
        entry: _EntryState | Fault = unproved.failed or _EntryState.READY
        while True:
            since = self._context.effects.clock()
            try:
                if isinstance(entry, Fault):
                    raise entry
                if entry is _EntryState.READY:
                    request = await self._presigned(part, hashed, request)
                async with self._context.slots:
                    self._prepared_until_now(part)
                    # Hours may have passed in the queue: large parts on a slow link outlive a URL. A request that was
                    # refused is signed only here, because a second refusal is final: credentials may have expired or
                    # a laptop may have slept while the part waited for a slot.
                    request = await self._presigned(part, hashed, request)
                    response = await self._puts.put_in_slot(
                        self._context.source, part, request[0], fresh=fresh, attempt=attempts.made
                    )
                record = await self._prover.prove(part, hashed, request[0], response)
            except _SendAgainWithMd5:
                hashed, request = await self._hasher.hash(part, md5=True), None
            except Fault as fault:
                if fault.kind is FaultKind.GONE:
                    raise
                if fault.status is not None and request is not None:
                    self._context.store.refused(request[0], fault)
                if self._may_do_without_checksums(fault):
                    raise ChecksumsRefused(fault) from fault
                if fault.kind.asks_to_slow_down:
                    self._context.shared.refused(self._context.effects.clock())
                retry = await self._context.retrier.pause(attempts, fault, since, part.number)
                entry, fresh = _EntryState.REFUSED if retry.resign else _EntryState.READY, fault.kind.breaks_connection
                request = None if retry.resign else request
                hashed = await self._hash_again(part, hashed) if retry.rehash else hashed
            else:
                self._context.retrier.record_response()
                return record, attempts.made

    def _may_do_without_checksums(self, fault: Fault) -> bool:
        """Whether a refusal of a part is of its checksum, and the upload may start over without."""
        context = self._context
        if not (fault.names_checksum and fault.may_be_unsupported and context.may_start_over):
            return False
        if self._arriving is not None or context.origin is not None or context.previous_version is not None:
            return False
        manifest = context.manifest
        return manifest.header.checksum.type is not None and manifest.target.service is None and not manifest.parts

    async def _hash_again(self, part: Part, before: Hashed) -> Hashed:
        """After a checksum mismatch: find out whether the file has changed."""
        await self._context.check_source()
        now = await self._hasher.hash(part, md5=before.md5 is not None)
        if now != before:
            if self._arriving is not None and self._arriving.is_growing:
                raise _Rewritten
            raise errors.SourceChanged(
                f"{errors.IT} changed in part {part.number} while it was uploaded, "
                "although its times did not: resume when nothing writes to it",
                it=self._context.source.path,
                same_size=True,
            )
        return now

    # -- signing

    async def _presigned(self, part: Part, hashed: Hashed, request: Signed | None) -> Signed:
        """Get the present request, or a new one if the present one expires soon."""
        if request is None or not self._is_fresh(request):
            return await self._signer.submit(UnsignedPart(part.number, part.size, self._prover.headers(hashed)))
        return request

    def _is_fresh(self, request: Signed) -> bool:
        return request[1] - self._context.effects.clock() >= _FRESH_FOR

    async def _sign_batch(self, parts: Sequence[UnsignedPart]) -> list[Signed]:
        now = self._context.effects.clock()
        requests = await self._context.retrier.request(
            lambda: self._context.store.sign(self._upload_id, parts), expected={FaultKind.GONE}, contacts_store=False
        )
        return [(request, now + request.expires_in) for request in requests]

    async def _sign_one(self, part: UnsignedPart) -> SignedRequest:
        return (await self._signer.submit(part))[0]

    # -- progress

    def _look(self) -> None:
        self._report()
        if (part_size := self._better_part_size()) is not None:
            raise PartsTooLarge(part_size)

    def _better_part_size(self) -> int | None:
        """Return the part size to start over with, in bytes. None: go on."""
        context, flight, plan = self._context, self._context.shared.flight, self._state.plan
        if not context.may_start_over or context.manifest.parts or not flight.is_slow_for(plan.part_size):
            return None
        if self._arriving is not None or self._groups is not None or context.origin is not None:
            return None
        if context.manifest.target.service is not None:  # which plans the parts, and counts those that are begun
            return None
        size, limits = plan.known_size, context.store.limits
        if context.settings.part_size is not None:
            return None
        if plan.part_size != plan_parts(size, limits=limits).part_size:  # that of the object before
            return None
        if context.counts.bytes_sent + self._puts.sent() > START_OVER_WITHIN * size:
            return None
        small = plan_small_parts(size, flight.part_in_time, limits=limits)
        return None if small is None else small.part_size

    def _report(self) -> None:
        manifest, flight, now = self._context.manifest, self._context.shared.flight, self._context.effects.clock()
        uploaded = self._bytes_uploaded if self._arriving is None else manifest.bytes_uploaded
        in_flight, size = self._puts.sent(), self._state.plan.size
        stored_rate = flight.stored_parts.latest_rate or math.inf
        self._meter.add(now, uploaded, in_flight, late=flight.responses_are_late, stored_rate=stored_rate)
        hangs = self._hasher.hangs_for(now)
        if in_flight:
            hangs = None
        self._context.emit(
            events.Progress(
                bytes_uploaded=uploaded,
                bytes_in_flight=in_flight,
                size=size,
                parts_uploaded=len(manifest.parts),
                parts=self._state.plan.count if self._state.plan.size is not None else None,
                concurrency=self._context.shared.limit,
                retries=self._context.counts.retries,
                rate=self._meter.rate(now),
                seconds_left=self._meter.seconds_left(now, size) if hangs is None else None,
                source_hangs_for=hangs,
                is_waiting=flight.responses_are_late and self._puts.all_accepted,
            )
        )


class _SendAgainWithMd5(Exception):
    """The store has the part, but nothing proves it. Content-MD5 will."""


class PartProver:
    """Proves the parts of one upload id.

    Attributes:
        with_md5: Whether parts are sent with Content-MD5: if no checksum was declared, and as soon as the store shows
            that it ignores checksums.
        lists_etags: Whether the ETags of parts come from the store's list, because a response had none.
    """

    def __init__(self, context: UploadContext, hasher: PartHasher, probe: Md5Probe) -> None:
        self._context = context
        self._hasher = hasher
        self._probe = probe
        self._checksum = context.manifest.header.checksum
        self.with_md5 = self._checksum.type is None and self._checksum.algorithm is not Algorithm.NONE
        self.lists_etags = False
        self._lister: Batcher[Part, ListedPart | None] = Batcher(self._list, max_batch=S3_LIMITS.max_parts)

    def headers(self, hashed: Hashed) -> dict[str, str]:
        """The headers of a part's PUT by which its response proves it."""
        headers = {}
        if self._checksum.type is not None:
            headers[self._checksum.algorithm.header] = hashed.checksum
        if self.with_md5 and hashed.md5 is not None:
            headers[Algorithm.MD5.header] = checksums.encode(hashed.md5)
        return headers

    async def prove(self, part: Part, hashed: Hashed, request: SignedRequest, response: PutResponse) -> PartRecord:
        """The record of a part that its response proves.

        Raises:
            Fault: CORRUPTED: checksum mismatch. BROKEN: the response has no ETag, and the store has no such part.
            _SendAgainWithMd5: Content-MD5 will prove the part.
            PartUnproved: Nothing proves it, or nothing has its ETag.
        """
        if not response.etag:
            response = await self._as_listed(part, response)
        if (record := self.prove_by(part, hashed, request, response)) is not None:
            return record
        if hashed.md5 is None:  # the response has no checksum: is its ETag the MD5?
            self._use_md5()
            hashed = replace(hashed, md5=(await self._hasher.hash(part, md5=True)).md5)
            if (record := self.prove_by(part, hashed, request, response)) is not None:
                return record
        if await self._probe.md5_is_enforced(part):
            raise _SendAgainWithMd5
        raise errors.PartUnproved(
            f"nothing proves part {part.number}: the store confirms no checksum, its ETags are not MD5s, and it does "
            "not check Content-MD5. Use another store, or `checksum='none'` to upload without proof"
        )

    def prove_by(self, part: Part, hashed: Hashed, request: SignedRequest, response: PutResponse) -> PartRecord | None:
        """The same by what is known; None: it proves nothing. Raises Fault: CORRUPTED."""
        if not response.etag:
            return None
        algorithm, enforced = self._checksum.algorithm, self._probe.enforced and "content-md5" in request.headers
        try:
            proof = prove_part(algorithm, hashed, echoed=response.checksums, etag=response.etag, md5_enforced=enforced)
        except ChecksumMismatch as e:
            raise Fault(FaultKind.CORRUPTED, f"part {part.number}: {e}") from e
        if proof is None:
            return None
        return PartRecord.of(part, hashed, response.etag, proof)

    async def _as_listed(self, part: Part, response: PutResponse) -> PutResponse:
        """Add to a response without an ETag what the store lists of the part."""
        if not self.lists_etags:
            self.lists_etags = True
            self._context.warn(
                "responses to parts have no ETag: a proxy on the way drops it. It is read in the store's list of parts"
            )
        row = await self._lister.submit(part)
        if row is None:
            message = f"the response to part {part.number} has no ETag, and the store does not list the part"
            raise Fault(FaultKind.BROKEN, message)
        listed = {} if row.checksum is None else {self._checksum.algorithm.header: row.checksum}
        return replace(response, etag=row.etag, checksums={**response.checksums, **listed})

    async def _list(self, parts: Sequence[Part]) -> list[ListedPart | None]:
        """Find parts that the store has by now in its list; None: not there, or of another size."""
        context = self._context
        try:
            rows = await context.retrier.request(
                lambda: context.store.list_parts(context.manifest.upload_id, self._checksum.algorithm),
                expected={FaultKind.GONE, FaultKind.UNSUPPORTED},
            )
        except (errors.AccessDenied, Fault) as e:
            if isinstance(e, Fault) and e.kind is FaultKind.GONE:
                raise
            raise errors.PartUnproved(
                f"the response to part {parts[0].number} has no ETag, and the store's list of parts can't be read "
                f"({e}). {NO_ETAG}"
            ) from e
        newest = {(row.number, row.size): row for row in rows}  # if a number is listed twice, the newest is last
        return [newest.get((part.number, part.size)) for part in parts]

    def _use_md5(self) -> None:
        if not self.with_md5:
            self.with_md5 = True
            self._context.warn("the store confirms no checksums: parts are proved by MD5 instead")


class Md5Probe:
    """Finds out whether the store checks Content-MD5: once in an upload, for the first part that needs to know."""

    def __init__(
        self,
        sign: Callable[[UnsignedPart], Awaitable[SignedRequest]],
        put: Callable[[Source, Part, SignedRequest], Awaitable[PutResponse]],
    ) -> None:
        self._sign = sign
        self._put = put
        self._known: bool | None = None
        self._probing = asyncio.Lock()

    @property
    def enforced(self) -> bool:
        """Whether the store has refused a wrong Content-MD5."""
        return bool(self._known)

    async def md5_is_enforced(self, part: Part) -> bool:
        """Send one byte with the MD5 of another byte as `part`, which must be sent again afterwards.

        Raises:
            Fault: Any refusal that is not about the digest (busy, expired, malformed) proves nothing about MD5.
        """
        async with self._probing:
            if self._known is None:
                wrong = {Algorithm.MD5.header: checksums.encode(checksums.digest_of(Algorithm.MD5, b"?"))}
                try:
                    request = await self._sign(UnsignedPart(part.number, 1, wrong))
                except errors.MediaRefused:  # a media service signs only parts of the plan
                    return False
                try:
                    await self._put(_OneByte("the probe", 1), Part(part.number, 0, 1), request)
                    self._known = False
                except Fault as fault:
                    if fault.kind is not FaultKind.CORRUPTED:
                        raise
                    self._known = True
            return self._known


class _OneByte(Unwatched):
    """The body of the probe, as a source."""

    def view(self, offset: int, size: int) -> memoryview:
        return memoryview(b"!")[offset : offset + size]

    def read_into(self, buffer: memoryview, offset: int) -> int:
        buffer[:] = b"!"
        return 1

    def close(self) -> None:
        pass
