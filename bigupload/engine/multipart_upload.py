"""Run an upload stage after stage, as `core/upload_state` decides, until the object is proved.

If the response to complete was lost, the run finds out what the store did.

A run ends in one of three ways: the object is proved, a public error that can be resumed, a public error that cannot.
It aborts no upload except one that a conflict has superseded.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from bigupload import errors, events
from bigupload.core.integrity import ONLY_CONDITION, ObjectFacts, Verified, prove_object, refused_checksum
from bigupload.core.manifest import ChecksumRecord, Completed, CompletingRecord, Restart, SourceRecord
from bigupload.core.part_plan import MIB, Plan
from bigupload.core.remote_url import path_of
from bigupload.core.retry_policy import Attempts, Fault, FaultKind
from bigupload.core.upload_state import Stage, StageResult, UploadState
from bigupload.engine.context import CANCEL_GRACE, UploadContext, new_header, plan_of
from bigupload.engine.part_copying import CopyTakenForPart, matches_source
from bigupload.engine.part_hashing import PartHasher
from bigupload.engine.part_uploader import PartUploader, UnknownUpload
from bigupload.engine.reconcile import Reconciler
from bigupload.engine.stream_parts import StreamParts
from bigupload.ports import UnsignedPart
from bigupload.support.cancellation import most_serious, run_shielded

_MOST_RESTARTS = 4
_HASH_FIRST = 128 * MIB
"""Bytes hashed before the create request at most: a fraction of a second."""
_HASH_AHEAD = 512 * MIB
"""Bytes hashed before the upload exists at most: they should still be in memory when they are sent."""
_HEAD_START = 0.01
"""Seconds between the create request and anything else. Loading the library that hashes holds the GIL. And a store with
few workers would serve the connections that are made ahead, which send nothing yet, before the request."""
_GONE = "the store no longer knows the upload (aborted, or expired by a lifecycle rule)"
_NO_COPIES = "the store does not know of copies, and took one for a part without bytes"
_CONFLICT = "another write to the key won (409), and the store wants every part again"


class MultipartUpload:
    """Runs one context. A journal that has records is resumed. Else the upload is new."""

    def __init__(self, context: UploadContext, *, manifest_id: str) -> None:
        """`manifest_id` is the id of a new manifest."""
        self._context = context
        self._id = manifest_id
        self._restart_reason: str | None = None
        self._superseded: str | None = None
        self._announced = False
        self._compared = False
        if context.journal.exists:
            manifest = context.manifest
            _check_marker(context)
            context.previous_version, context.copying = (
                manifest.header.copies,
                context.copying and not manifest.sends_all,
            )
            stage = Stage.OUTCOME_UNKNOWN if manifest.status == "completing" else Stage.RECONCILING
            algorithm = manifest.header.checksum.algorithm
            plan = manifest.first_plan
            if plan.size is None and context.source.stream is None:  # the source was a stream and is a file now
                plan = _closed(plan, context)
        else:
            stage = Stage.NEW
            algorithm = context.settings.algorithm
            plan = plan_of(context)
        self._algorithm = algorithm
        if context.origin is not None and context.origin.algorithm is not algorithm:
            context.origin = None  # an upload that began with another checksum keeps it
        self._state = UploadState(plan, stage)
        self._hasher = PartHasher(context.source, algorithm, context.hashing, context.hash_elsewhere, context.whole)
        self._reconciler = Reconciler(context, self._state, self._hasher)
        self._completion = _Completion(context, self._state, self._reconciler)
        stream = context.source.stream
        self._arriving = (
            None if stream is None else StreamParts(context, stream, self._state, self._hasher, self._reconciler)
        )
        self._steps: dict[Stage, Callable[[], Awaitable[StageResult]]] = {
            Stage.NEW: self._create,
            Stage.RECONCILING: self._reconcile,
            Stage.UPLOADING: self._upload_parts,
            Stage.COMPLETING: self._complete,
            Stage.OUTCOME_UNKNOWN: self._completion.find_outcome,
        }

    async def run(self) -> Completed:
        """Run until the object is proved.

        Raises:
            BigUploadError: `manifest` is set if there is a manifest to resume from.
        """
        if self._context.journal.exists:
            for number in self._context.manifest.parts:
                self._state.record(number)
            self._context.counts.resumed_parts = len(self._context.manifest.parts)
        try:
            while self._state.stage is not Stage.COMPLETED:
                self._state.advance(await self._steps[self._state.stage]())
        except errors.BigUploadError as e:
            if self._context.journal.exists and e.manifest is None:
                e.manifest = self._context.journal.path
            raise
        except Fault as fault:
            error = fault.public()
            error.manifest = self._context.journal.path if self._context.journal.exists else None
            raise error from fault
        completed = self._context.manifest.completed
        assert completed is not None
        return completed

    async def made_of_source(self) -> bool:
        """Whether the object that was proved is the source as it is now. An earlier run may have completed it."""
        context = self._context
        if context.has_fingerprint:
            if context.manifest.source.fingerprint == context.source.fingerprint:
                return True
        elif self._compared:
            return True
        if self._arriving is not None and not self._arriving.is_growing:
            await self._arriving.compare_all()
            return True
        if context.manifest.plan.size != context.source.fingerprint.size or context.copies_unread:
            return False
        self._state.end(context.manifest.plan.known_size)
        return not await self._reconciler.changed("an earlier run completed the object: is it of these bytes?")

    # -- NEW

    async def _create(self) -> StageResult:
        context = self._context
        if self._restart_reason is None:
            await self._precheck()
        else:
            if self._arriving is not None:
                await self._restart_stream(self._arriving)
            context.emit(events.Restarted(reason=self._restart_reason))
            context.counts.resumed_parts = context.counts.bytes_copied = 0
            context.hedging.restarted()
            context.counts.restarts += 1
            if context.counts.restarts > _MOST_RESTARTS:
                raise errors.UploadGone(
                    f"the store forgot {_MOST_RESTARTS} uploads in a row: use another store, or ask its operator"
                )
            await context.check_source()
        # A restart declares the same checksum as the first record says.
        recorded = context.journal.exists
        try:
            declare = context.manifest.header.checksum.type is not None if recorded else context.declares
            await self._create_once(declare=declare)
        except Fault as fault:
            if recorded or not (declare and fault.may_be_unsupported and self._algorithm.is_s3_checksum):
                raise fault.public() from fault
            await self._create_once(declare=False)
            context.warn(
                f"the store refused {self._algorithm} checksums ({fault}): the parts are proved by MD5 instead"
            )
        self._announced = False
        return StageResult.CREATED

    async def _restart_stream(self, arriving: StreamParts) -> None:
        """Begin with the first part, or let the next run do so."""
        try:
            await arriving.restart()
        except errors.StreamInterrupted:
            if self._superseded is not None:  # it lists its parts, and completing them would conflict again
                await self._reconciler.drop(list(self._context.manifest.parts), _CONFLICT)
                await self._abort_quietly(self._superseded)
            raise

    async def _precheck(self) -> None:
        try:
            await self._context.retrier.request(self._context.store.precheck, contacts_store=False)
        except errors.AccessDenied:
            self._context.warn(ONLY_CONDITION)

    async def _create_once(self, *, declare: bool) -> None:
        reads = self._arriving is None and not self._context.copies_unread
        ahead = declare and self._algorithm.is_s3_checksum and reads
        first = await self._first_parts() if ahead else []
        token = secrets.token_hex(16)  # the same for all attempts: by it a service knows a create that is repeated
        try:
            # Not a group of anyio's: to load that takes 25 ms, which may pass while the response comes.
            async with asyncio.TaskGroup() as meanwhile:
                preparing = meanwhile.create_task(self._prepare(ahead))
                await self._context.retrier.request(
                    lambda: run_shielded(self._create_and_record(first, token, declare=declare), grace=CANCEL_GRACE),
                    expected={FaultKind.UNSUPPORTED, FaultKind.FINAL},
                )
                preparing.cancel()
        except BaseExceptionGroup as group:
            error = most_serious(group)
            raise error from error.__cause__

    async def _first_parts(self) -> list[UnsignedPart]:
        """Hash the parts whose URLs come with the response to create: this saves the round trip to sign them."""
        signed: list[UnsignedPart] = []
        for part in itertools.islice(self._state.plan.first(_HASH_FIRST), self._context.store.signs_ahead):
            if not await self._context.hold(part, wait=False):
                break
            hashed = await self._hasher.hash_ahead(part)
            signed.append(UnsignedPart(part.number, part.size, {self._algorithm.header: hashed.checksum}))
        return signed

    async def _prepare(self, hash_ahead: bool) -> None:
        """Prepare what parts need, while the upload is created. That takes round trips and maybe retries."""
        await self._context.effects.sleep(_HEAD_START)
        await self._connect_ahead()
        await asyncio.sleep(0)  # the connections begin before the modules for hashing load, for tens of milliseconds
        if hash_ahead:
            await self._hash_ahead()

    async def _connect_ahead(self) -> None:
        """Connect for the first parts: this saves the round trips of each handshake."""
        context, plan = self._context, self._state.plan
        sends_all = context.source.stream is None and context.previous_version is None and not context.copies_unread
        if sends_all and plan.size is not None:
            with contextlib.suppress(Fault, errors.BigUploadError):  # create or a part will meet it again
                if (address := await context.store.part_address()) is not None:
                    context.transport.connect_ahead(address, min(context.shared.limit, plan.count))

    async def _hash_ahead(self) -> None:
        """Hash the first parts."""
        with contextlib.suppress(errors.BigUploadError):  # hashing the part will raise it again
            for part in self._state.plan.first(_HASH_AHEAD):
                if not await self._context.hold(part, wait=False):
                    break
                await self._hasher.hash_ahead(part)

    async def _create_and_record(self, first: Sequence[UnsignedPart], token: str, *, declare: bool) -> None:
        context = self._context
        plan = self._state.plan
        created = await context.store.create(plan, self._algorithm, declare=declare, token=token, first=first)
        try:
            if context.journal.exists:
                key = context.store.target.key
                moved = None if key == context.manifest.target.key else key
                now = context.source_identity
                # There are no parts to compare with the file: its present fingerprint counts.
                same = self._arriving is not None or now == context.manifest.source
                changed = [] if same else [SourceRecord(now)]
                sends_all = True if context.manifest.sends_all or self._restart_reason == _NO_COPIES else None
                restart = Restart(created.upload_id, token, self._restart_reason or "", moved, sends_all)
                await context.journal.append(restart, *changed)
            else:
                checksum = ChecksumRecord(self._algorithm, created.checksum_type)
                context.journal.begin(new_header(context, self._id, plan, checksum, created.upload_id, token))
        except errors.ManifestUnwritable:
            await self._abort_quietly(created.upload_id)  # it is empty, and no manifest will know it
            raise
        if self._superseded is not None:
            await self._abort_quietly(self._superseded)
            self._superseded = None

    async def _abort_quietly(self, upload_id: str) -> None:
        """Try once. An upload that stays open only costs space, until a lifecycle rule or `gc` aborts it."""
        with contextlib.suppress(Fault, errors.BigUploadError):
            await self._context.store.abort(upload_id)

    # -- RECONCILING, UPLOADING

    async def _reconcile(self) -> StageResult:
        if not await self._reconciler.run():
            if self._context.manifest.completing is not None and not await self._lost_by_hedging():
                return StageResult.RESPONSE_LOST
            self._restart_reason = _GONE
            return StageResult.UPLOAD_UNKNOWN
        if not self._announced:  # later in the run, some of them were sent by it
            self._context.counts.resumed_parts = len(self._context.manifest.parts)
        return StageResult.LISTED

    async def _lost_by_hedging(self) -> bool:
        """Whether the store threw the upload away for parts that were sent twice, instead of completing it."""
        if not self._context.hedging.refused_at_complete:
            return False
        return await self._completion.object_is_missing()

    async def _upload_parts(self) -> StageResult:
        context = self._context
        if not self._announced:
            self._announced = True
            context.emit(self._started())
        self._compared = True  # each part was hashed in this run
        try:
            await PartUploader(context, self._state, self._hasher, self._arriving).run()
            while self._arriving is not None and self._state.missing:  # parts were rewritten while they were sent
                await self._arriving.restart()
                await PartUploader(context, self._state, self._hasher, self._arriving).run()
        except UnknownUpload:
            if context.hedging.parts:
                context.stop_hedging("the store lost the upload after a part of it was sent twice")
            self._restart_reason = _GONE
            return StageResult.UPLOAD_UNKNOWN
        except CopyTakenForPart:
            self._superseded = context.manifest.upload_id
            self._restart_reason = _NO_COPIES
            return StageResult.UPLOAD_UNKNOWN
        return StageResult.ALL_UPLOADED

    def _started(self) -> events.UploadStarted:
        manifest, plan = self._context.manifest, self._state.plan
        return events.UploadStarted(
            path=path_of(self._context.source.path),
            target=str(manifest.target),
            size=plan.size,
            part_size=plan.part_size,
            parts=plan.count if plan.size is not None else None,
            manifest=self._context.journal.path,
            resumed_parts=len(manifest.parts),
            resumed_bytes=manifest.bytes_uploaded,
        )

    # -- COMPLETING

    async def _complete(self) -> StageResult:
        if self._arriving is not None and not await self._arriving.is_settled():
            return StageResult.INVALID_PARTS
        if not matches_source(self._context, self._state.plan):
            await self._reconciler.drop(list(self._context.manifest.parts), "the copies do not add up to the source")
            return StageResult.INVALID_PARTS
        result = await self._completion.complete()
        if result is StageResult.CONFLICT:
            self._superseded = self._context.manifest.upload_id  # aborted only when its successor is recorded
            self._restart_reason = _CONFLICT
        return result


def _check_marker(context: UploadContext) -> None:
    """Raise UsageError if a stream that began with an end marker comes without it: it could break off unnoticed."""
    recorded, stream = context.manifest.header.end_marker, context.source.stream
    if recorded is not None and stream is not None and stream.end_marker != recorded:
        raise errors.UsageError(
            f"the upload of {context.source.path} began with an `end_marker`, which marks the end of the stream: give "
            "the same again, or start anew with `resume=False`"
        )


def _closed(plan: Plan, context: UploadContext) -> Plan:
    """The plan of an upload that began as a stream, whose source is a file now.

    Raises:
        SourceChanged: The file is shorter than what was uploaded, or longer than the plan.
    """
    path, size = context.source.path, context.source.fingerprint.size
    if size > plan.capacity or any(plan.part(number).offset >= max(1, size) for number in context.manifest.parts):
        raise errors.SourceChanged(
            f"{errors.IT} has {size:,} bytes now, and more bytes or other ones were uploaded: nothing was changed. To "
            "start anew: `resume=False`",
            it=path,
            same_size=False,
            manifest=context.journal.path,
        )
    return plan.closed(size)


_LOOK_FOR = 300.0
"""Seconds to look for an object that complete may have made. S3 may work on a complete for minutes."""
_LOOK_EVERY = 5.0
"""Seconds between two looks."""
_MOST_HASHES = 2
"""The number of times that a file whose metadata keeps changing is hashed again before complete."""
_MOST_ROUNDS = 4
"""The most completes of one run if the store refuses the parts or reports conflicts. More would not help."""


class _Completion:
    """The last stages of one upload, for one context."""

    def __init__(self, context: UploadContext, state: UploadState, reconciler: Reconciler) -> None:
        self._context = context
        self._state = state
        self._reconciler = reconciler
        self._algorithm = reconciler.algorithm
        self._rounds = 0
        self._attempts: Attempts = context.retrier.attempts()

    # -- COMPLETING

    async def complete(self) -> StageResult:
        """Send the complete request, and prove the object by its response or by HEAD."""
        context = self._context
        await self._check_source()
        plan = self._state.plan
        checksum = context.manifest.expected_object(plan).checksum
        if context.manifest.completing is None:
            await context.journal.append(CompletingRecord(checksum, plan.size if plan.steps else None))
        context.emit(events.Completing(parts=plan.count))
        since = context.effects.clock()
        try:
            facts, verified = await run_shielded(self._complete_and_record(), grace=CANCEL_GRACE)
        except Fault as fault:
            return await self._after_fault(fault, since)
        if context.manifest.completed is None:
            facts, verified = await self._prove_by_head(facts, verified)
            await run_shielded(self._record(facts, verified or Verified.SIZE))
        return StageResult.PROVED

    async def _check_source(self) -> None:
        """Raise SourceChanged unless the parts are the file."""
        context, source = self._context, self._context.source
        await context.check_source()
        # Each part of a stream was hashed from memory, and sent from there. A growing file was hashed again.
        if source.stream is None and context.settings.verify_source and not source.metadata_changed:
            await self._reconciler.verify_source("the file is hashed once more (`verify_source`)")
        # Bounded: a program that touches the metadata all the time must not keep the upload from its end.
        for _ in range(_MOST_HASHES):
            if not source.metadata_changed:
                break
            source.accept_metadata()
            await self._reconciler.verify_source("the file's metadata changed: it is hashed once more")
            await context.journal.append(SourceRecord(context.source_identity))
            await context.check_source()
        if source.is_away:
            context.warn(f"{source.path} was moved or deleted: the object is the file that was opened")

    async def _complete_and_record(self) -> tuple[ObjectFacts, Verified | None]:
        """Record the object at once if the response proves it. HEAD may take its time, and can be cancelled."""
        context = self._context
        expected = context.manifest.expected_object()
        facts = await context.store.complete(
            context.manifest.upload_id,
            [context.manifest.parts[part.number] for part in context.manifest.plan],
            size=context.manifest.plan.known_size,
            algorithm=self._algorithm,
            checksum=expected.checksum if context.manifest.header.checksum.type is not None else None,
        )
        context.retrier.record_response()
        for lack in facts.lacks:
            context.warn(lack)
        verified = prove_object(facts, expected)
        if verified in (Verified.FULL_OBJECT, Verified.COMPOSITE_CHECKSUM):
            await self._record(facts, verified)
        return facts, verified

    async def _prove_by_head(
        self, facts: ObjectFacts, verified: Verified | None
    ) -> tuple[ObjectFacts, Verified | None]:
        """Ask for a better proof than complete's response gave."""
        context = self._context
        try:
            found = await self._head()
        except errors.AccessDenied:
            context.warn("these credentials may not read the object: only the response to complete proves it")
            return facts, verified
        # An adopted upload has no token, and some stores keep no metadata: then complete's ETag identifies the object.
        tokens_known = found is not None and None not in (found.token, context.manifest.token)
        if found is None or (found.token != context.manifest.token if tokens_known else found.etag != facts.etag):
            raise errors.TargetReplaced(
                f"someone else replaced or deleted {context.manifest.target} right after this upload completed"
            )
        better = prove_object(found, context.manifest.expected_object())
        levels = [level for level in Verified if level in (verified, better)]
        return replace(found, etag=found.etag or facts.etag), levels[0] if levels else None

    async def _head(self) -> ObjectFacts | None:
        context = self._context
        return await context.retrier.request(lambda: context.store.stat(context.manifest.upload_id, self._algorithm))

    async def _record(self, facts: ObjectFacts, verified: Verified) -> None:
        context = self._context
        completed = Completed(
            etag=facts.etag,
            verified=verified,
            checksum=facts.checksum,
            url=context.store.url(),
            version_id=facts.version_id,
        )
        await context.journal.append(completed)
        if verified is Verified.SIZE:
            advice = "To compare every byte, use `read_back`"
            context.warn(f"the store gives no checksum of the whole object: only its size is proved. {advice}")
        if verified.satisfies(context.settings.require_proof):
            context.emit(
                events.UploadCompleted(
                    url=context.store.url(),
                    etag=facts.etag,
                    verified=verified,
                    bytes_sent=context.counts.bytes_sent,
                    bytes_copied=self._bytes_copied,
                )
            )

    @property
    def _bytes_copied(self) -> int | None:
        context = self._context
        could_copy = context.manifest.header.copies is not None or context.origin is not None
        return context.counts.bytes_copied if could_copy else None

    async def _after_fault(self, fault: Fault, since: float) -> StageResult:
        """Decide what follows a complete request that failed at `since`."""
        context = self._context
        if fault.kind is FaultKind.GONE:
            self._rounds += 1
            if self._rounds >= _MOST_ROUNDS:
                raise errors.StoreUnavailable(
                    "the store contradicts itself: it lists the upload, and does not know it at complete"
                ) from fault
            return StageResult.RESPONSE_LOST
        if fault.kind.leaves_unknown:
            await context.retrier.pause(self._attempts, fault, since)
            return StageResult.RESPONSE_LOST
        if fault.kind is FaultKind.CORRUPTED:
            if context.source.stream is None or context.source.stream.is_growing:
                await self._reconciler.verify_source("the store refuses the checksum of the whole object")
            raise refused_checksum(self._algorithm) from fault
        if fault.kind is FaultKind.EXISTS:
            found = await self._head()
            if found is not None and context.manifest.made_object(found):
                return StageResult.RESPONSE_LOST  # an earlier complete of this upload made the object
            raise errors.TargetExists(
                f"{context.manifest.target} was created meanwhile, and `if_none_match` forbids to replace it"
            ) from fault
        if fault.kind in (FaultKind.INVALID_PART, FaultKind.FINAL) and not self._state.plan.has_equal_parts:
            raise errors.StoreRefused(
                f"{fault}. The parts of a stream of unknown size grow, and this store may want parts of "
                "equal size: upload again with `expected_size` and `resume=False`"
            ) from fault
        self._rounds += 1
        if self._rounds >= _MOST_ROUNDS:
            raise fault.public() from fault
        if fault.kind is FaultKind.INVALID_PART:
            if not await self._reconciler.drop_copied(fault):
                await self._reconciler.drop_hedged(fault)
            return StageResult.INVALID_PARTS
        if fault.kind is FaultKind.CONFLICT:
            return StageResult.CONFLICT
        await context.retrier.pause(self._attempts, fault, since)
        return StageResult.RESPONSE_LOST

    # -- OUTCOME_UNKNOWN

    async def find_outcome(self) -> StageResult:
        """Find out whether complete made the object: by its token, or by its content if the store keeps no token."""
        context = self._context
        until = context.effects.clock() + _LOOK_FOR
        warned = False
        while True:
            found, denied = await self._try_head()
            is_made = found is not None and context.manifest.made_object(found)
            by_token = found is not None and None not in (found.token, context.manifest.token)
            # Another upload may have made an object of the same content: then this one is still open.
            is_open = not (is_made and by_token) and await self._reconciler.is_open()
            if found is not None and is_made and not is_open:
                verified = prove_object(found, context.manifest.expected_object())
                await run_shielded(self._record(found, verified or Verified.SIZE))
                return StageResult.PROVED
            if is_open:
                return StageResult.STILL_OPEN
            if denied is not None:
                raise denied
            if context.effects.clock() >= until:
                raise self._lost(found)
            if not warned:
                warned = True
                context.warn(
                    "the upload is no longer open, and its object is not there yet: looking for up to 5 minutes"
                )
            await context.effects.sleep(_LOOK_EVERY)

    async def _try_head(self) -> tuple[ObjectFacts | None, errors.AccessDenied | None]:
        """HEAD, or its refusal: the credentials may be allowed to list the parts all the same."""
        try:
            return await self._head(), None
        except errors.AccessDenied as e:
            return None, e

    async def object_is_missing(self) -> bool:
        """Whether the store has no object that this upload can have made."""
        found, _ = await self._try_head()
        return found is None or not self._context.manifest.made_object(found)

    def _lost(self, found: ObjectFacts | None) -> errors.BigUploadError:
        target = self._context.manifest.target
        if found is not None:
            return errors.TargetReplaced(
                f"{target} is another object, and this upload no longer exists. Nothing was overwritten. "
                "Use another key, or upload again with `resume=False` to replace the object"
            )
        return errors.UploadGone(
            f"the upload to {target} no longer exists, and there is no object: the upload was aborted, or the object "
            "deleted. Upload again with `resume=False`"
        )
