"""Upload the missing parts: hash, presign, PUT, prove and record each of them, several at a time.

A part holds one of the shared slots only while its body is in flight, so that hashing, signing and waiting for a retry
cost no bandwidth. A few more parts than there are slots are hashed and signed ahead, while memory keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup

from bigupload import errors, events
from bigupload.core import checksums
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import ChecksumMismatch, PartProof, prove_part
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.core.upload_state import PartState, UploadState
from bigupload.engine.context import UploadContext
from bigupload.engine.in_flight import PartsInFlight, Postponed
from bigupload.engine.md5_probe import Md5Probe
from bigupload.engine.part_hashing import Hashed, PartHasher
from bigupload.engine.stream_parts import StreamParts
from bigupload.engine.task_groups import most_serious
from bigupload.ports import PutResponse, SignedRequest, UnsignedPart
from bigupload.support.batching import Batcher

_LOOKAHEAD = 4
"""Parts more than the limit that an upload may have begun, so that one is ready whenever a slot becomes free."""
_MOST_PREPARED = 512 * MIB
"""Bytes that all uploads together hash before there are slots for them: they should still be in memory when they are
sent. An upload that has no part ready may prepare one all the same."""
_FRESH_FOR = 60.0
"""Seconds that a URL must still be valid when its PUT begins."""
_SIGN_BATCH = 100
_GONE = frozenset({FaultKind.GONE})
_BAD_CONNECTION = frozenset({FaultKind.BROKEN, FaultKind.STALLED})
"""After these, the retry uses a new connection. If the network path is dead, so are the idle connections in the pool,
and each of them would cost one more attempt."""


class UnknownUpload(Exception):
    """The store no longer knows the upload id."""


class _SendAgainWithMd5(Exception):
    """The store has the part, but nothing proves it. Content-MD5 will."""


class _Rewritten(Exception):
    """The part of a growing file was rewritten while it was sent."""


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
        self._checksum = context.manifest.header.checksum
        self._puts = PartsInFlight(context)
        self._signer: Batcher[UnsignedPart, tuple[SignedRequest, float]] = Batcher(
            self._sign_batch, max_batch=_SIGN_BATCH
        )
        self._pending = state.pending()
        self._admitted = 0
        self._prepared: set[int] = set()
        """The numbers of the parts that have had no slot yet."""
        self._room = anyio.Event()
        # Content-MD5 is used if no checksum was declared, and as soon as the store shows that it ignores checksums.
        self._with_md5 = self._checksum.type is None and self._checksum.algorithm is not Algorithm.NONE
        self._probe = Md5Probe(self._sign_one, self._puts.put)

    async def run(self) -> None:
        """Upload until no part is missing.

        Raises:
            UnknownUpload: The store no longer knows the upload id.
            BigUploadError: The upload stops.
        """
        try:
            async with anyio.create_task_group() as watching:
                watching.start_soon(self._puts.watch, self._report)
                async with anyio.create_task_group() as parts:
                    await self._begin_all(parts)
                watching.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error = most_serious(group)
            if self._arriving is not None:
                await self._arriving.forget()
            raise error from None
        if self._broken_off is not None:
            raise self._broken_off
        if self._arriving is not None:
            self._arriving.require_all()
        self._report()

    async def _begin_all(self, parts: TaskGroup) -> None:
        try:
            while (part := await self._next()) is not None:
                self._prepare(part)
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

    def _prepare(self, part: Part) -> None:
        self._admitted += 1
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
        while self._admitted >= shared.limit + _LOOKAHEAD or (self._prepared and shared.prepared >= _MOST_PREPARED):
            self._room = anyio.Event()
            shared.waiting_for_room.add(self._room)
            try:
                await self._room.wait()
            finally:
                shared.waiting_for_room.discard(self._room)

    # -- one part

    async def _part(self, part: Part) -> None:
        try:
            hashed = await self._hasher.hash(part, md5=self._with_md5)
            record, attempt = await self._until_proved(part, hashed)
            await self._context.check_source()
            await self._context.journal.append(record)
            self._state.record(part.number)
            self._puts.proved(record.proof)
            self._context.emit(
                events.PartUploaded(number=part.number, size=part.size, attempt=attempt, proof=record.proof)
            )
        except _Rewritten:
            self._state.release(part.number)  # sent again once nothing writes to the file
        except BaseException:
            if self._state.part(part.number) is PartState.IN_FLIGHT:
                self._state.release(part.number)
            raise
        finally:
            if self._arriving is not None:
                self._arriving.release(part)
            self._prepared_until_now(part)
            self._admitted -= 1
            self._room.set()

    async def _until_proved(self, part: Part, hashed: Hashed) -> tuple[PartRecord, int]:
        attempts = self._context.retrier.attempts()
        request: tuple[SignedRequest, float] | None = None
        ahead, fresh = True, False
        while True:
            since = self._context.effects.clock()
            try:
                if ahead:
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
                with_md5 = "content-md5" in request[0].headers
                proof = await self._prove(part, hashed, response, with_md5=with_md5)
            except Postponed:
                continue
            except _SendAgainWithMd5:
                hashed, request = await self._hasher.hash(part, md5=True), None
            except Fault as fault:
                if fault.kind is FaultKind.GONE:
                    raise UnknownUpload from fault
                if fault.kind is FaultKind.REFUSED and request is not None:
                    fault.hint = self._context.store.refused(request[0])
                if fault.kind is FaultKind.BUSY:
                    self._context.shared.refused(self._context.effects.clock())
                retry = await self._context.retrier.pause(attempts, fault, since, part.number)
                ahead, fresh = not retry.resign, fault.kind in _BAD_CONNECTION
                request = request if ahead else None
                hashed = await self._hash_again(part, hashed) if retry.rehash else hashed
            else:
                self._context.retrier.note_response()
                record = PartRecord(
                    number=part.number, size=part.size, etag=response.etag, checksum=hashed.checksum, proof=proof
                )
                return record, attempts.made

    async def _hash_again(self, part: Part, before: Hashed) -> Hashed:
        """After a checksum mismatch: find out whether the file has changed."""
        await self._context.check_source()
        now = await self._hasher.hash(part, md5=before.md5 is not None)
        if now != before:
            if self._arriving is not None and self._arriving.is_growing:
                raise _Rewritten
            raise errors.SourceChanged(
                f"{self._context.source.path} changed in part {part.number} while it was uploaded, "
                "although its times did not: resume when nothing writes to it",
                same_size=True,
            )
        return now

    # -- signing

    async def _presigned(
        self, part: Part, hashed: Hashed, request: tuple[SignedRequest, float] | None
    ) -> tuple[SignedRequest, float]:
        """Get the present request, or a new one if the present one expires soon."""
        if request is None or request[1] - self._context.effects.clock() < _FRESH_FOR:
            return await self._signer.submit(UnsignedPart(part.number, part.size, self._headers(hashed)))
        return request

    def _headers(self, hashed: Hashed) -> dict[str, str]:
        headers = {}
        if self._checksum.type is not None:
            headers[self._checksum.algorithm.header] = hashed.checksum
        if self._with_md5 and hashed.md5 is not None:
            headers[Algorithm.MD5.header] = checksums.encode(hashed.md5)
        return headers

    async def _sign_batch(self, parts: Sequence[UnsignedPart]) -> list[tuple[SignedRequest, float]]:
        now = self._context.effects.clock()
        requests = await self._context.retrier.request(
            lambda: self._context.store.sign(self._upload_id, parts), expected=_GONE, contacts_store=False
        )
        return [(request, now + request.expires_in) for request in requests]

    async def _sign_one(self, part: UnsignedPart) -> SignedRequest:
        return (await self._signer.submit(part))[0]

    # -- proving

    async def _prove(self, part: Part, hashed: Hashed, response: PutResponse, *, with_md5: bool) -> PartProof:
        """Say how the response proves the part.

        Raises:
            Fault: CORRUPTED: checksum mismatch.
            _SendAgainWithMd5: Content-MD5 will prove the part.
            PartUnproved: Nothing proves it.
        """
        algorithm = self._checksum.algorithm

        def prove(md5: bytes | None) -> PartProof | None:
            try:
                return prove_part(
                    algorithm=algorithm,
                    sent=hashed.checksum,
                    echoed=response.checksums.get(algorithm.header),
                    etag=response.etag,
                    md5=md5,
                    md5_enforced=with_md5 and self._probe.enforced,
                )
            except ChecksumMismatch as e:
                raise Fault(FaultKind.CORRUPTED, f"part {part.number}: {e}") from e

        if (proof := prove(hashed.md5)) is not None:
            return proof
        if hashed.md5 is None:  # the response has no checksum: is its ETag the MD5?
            self._use_md5()
            md5 = (await self._hasher.hash(part, md5=True)).md5
            if (proof := prove(md5)) is not None:
                return proof
        if await self._probe.md5_is_enforced(part):
            raise _SendAgainWithMd5
        raise errors.PartUnproved(
            f"nothing proves part {part.number}: the store confirms no checksum, its ETags are not MD5s, and it does "
            "not check Content-MD5. Use another store, or `checksum='none'` to upload without proof"
        )

    def _use_md5(self) -> None:
        if not self._with_md5:
            self._with_md5 = True
            self._context.warn("the store confirms no checksums: parts are proved by MD5 instead")

    # -- progress

    def _report(self) -> None:
        manifest = self._context.manifest
        self._context.emit(
            events.Progress(
                bytes_uploaded=manifest.bytes_uploaded,
                bytes_in_flight=self._puts.sent(),
                size=self._state.plan.size,
                parts_uploaded=len(manifest.parts),
                parts=self._state.plan.count if self._state.plan.size is not None else None,
                concurrency=self._context.shared.limit,
                retries=self._context.counts.retries,
            )
        )
