"""Performs what `state` says and feeds back what happened, one stage after another, until the object is proved.

`run` ends in one of three ways: proved, a public error that can be resumed, a public error that can't. It never
aborts an upload, but for one that a conflict has superseded.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio

from bigupload import errors, events
from bigupload.core.integrity import ExpectedObject, ObjectFacts, Verified, prove_object, refused_checksum
from bigupload.core.manifest import ChecksumRecord, Completed, CompletingRecord, Restart, SourceIdentity, SourceRecord
from bigupload.core.part_plan import MIB, plan_parts
from bigupload.core.retry_policy import Attempts, Fault, FaultKind
from bigupload.core.upload_state import Happened, Stage, UploadState
from bigupload.engine.context import UploadContext, new_header
from bigupload.engine.part_hashing import PartHasher
from bigupload.engine.part_uploader import PartSender, UploadVanished
from bigupload.engine.reconcile import Reconciler
from bigupload.engine.task_groups import the_one
from bigupload.ports import UnsignedPart
from bigupload.support.shielding import run_shielded

_UNKNOWN_OUTCOME = frozenset(
    {FaultKind.BROKEN, FaultKind.STALLED, FaultKind.SERVER, FaultKind.BUSY, FaultKind.UNREACHABLE}
)
"""After these, complete may have made the object."""
_LOOK_FOR = 300.0
"""Seconds to look for an object that complete may have made."""
_LOOK_EVERY = 5.0
_MOST_ROUNDS = 4
"""Completes refused for their parts, or conflicts, in one run: more of the same leads nowhere."""
_MOST_RESTARTS = 4
_HASH_FIRST = 128 * MIB
"""Bytes of the file that are hashed before an upload is asked for, at most: a fraction of a second."""
_HASH_AHEAD = 512 * MIB
"""Bytes that are hashed before there is one: they should still be in memory when they are sent."""
_GONE = "the store no longer knows the upload (aborted, or expired by a lifecycle rule)"


class MultipartUpload:
    """Runs one context. A journal that has records is resumed; else the upload is new and gets the id `manifest_id`."""

    def __init__(self, context: UploadContext, *, manifest_id: str) -> None:
        self._context = context
        self._id = manifest_id
        self._restart_reason: str | None = None
        self._superseded: str | None = None
        self._rounds = 0
        self._announced = False
        self._completes: Attempts = context.retrier.attempts()
        if context.journal.exists:
            manifest = context.manifest
            stage = Stage.DOUBTFUL if manifest.status == "completing" else Stage.RECONCILING
            algorithm = manifest.header.checksum.algorithm
            plan = manifest.plan
        else:
            stage = Stage.NEW
            algorithm = context.settings.algorithm
            plan = plan_parts(context.source.fingerprint.size, context.settings.part_size, limits=context.store.limits)
        self._plan = plan
        self._algorithm = algorithm
        self._state = UploadState(plan, stage)
        self._hasher = PartHasher(context.source, algorithm, context.shared.hashing)
        self._reconciler = Reconciler(context, self._state, self._hasher)
        self._steps: dict[Stage, Callable[[], Awaitable[Happened]]] = {
            Stage.NEW: self._create,
            Stage.RECONCILING: self._reconcile,
            Stage.UPLOADING: self._send,
            Stage.COMPLETING: self._complete,
            Stage.DOUBTFUL: self._look,
        }

    async def run(self) -> Completed:
        """Until the object is proved. Raises public errors, with `manifest` set where there is one to resume from."""
        if self._context.journal.exists:
            for number in self._context.manifest.parts:
                self._state.record(number)
            self._context.counts.resumed_parts = len(self._context.manifest.parts)
        try:
            while self._state.stage is not Stage.COMPLETED:
                self._state.receive(await self._steps[self._state.stage]())
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

    # -- NEW

    async def _create(self) -> Happened:
        context = self._context
        if self._restart_reason is None:
            await self._precheck()
        else:
            context.emit(events.Restarted(reason=self._restart_reason))
            context.counts.resumed_parts = 0
            context.hedging.restarted()
            context.counts.restarts += 1
            if context.counts.restarts > _MOST_RESTARTS:
                raise errors.UploadGone(f"the store forgot {_MOST_RESTARTS} uploads in a row: it can't be relied on")
            context.source.check()
        # What the first record says of the checksum holds for a restart too.
        recorded = context.journal.exists
        try:
            await self._create_once(declare=not recorded or context.manifest.header.checksum.type is not None)
        except Fault as fault:
            refused = fault.kind is FaultKind.UNSUPPORTED or (fault.kind is FaultKind.FINAL and fault.status == 400)
            if recorded or not (refused and self._algorithm.is_s3_checksum):
                raise fault.public() from fault
            await self._create_once(declare=False)
            context.warn(
                f"the store refused {self._algorithm} checksums ({fault}): the parts are proved by MD5 instead"
            )
        self._announced = False
        return Happened.CREATED

    async def _precheck(self) -> None:
        try:
            await self._context.retrier.request(self._context.store.precheck, always_asks=False)
        except errors.AccessDenied:
            self._context.warn(
                "these credentials may not look at the object: whether it exists is seen at the end only"
            )

    async def _create_once(self, *, declare: bool) -> None:
        letting = frozenset({FaultKind.UNSUPPORTED, FaultKind.FINAL})
        ahead = declare and self._algorithm.is_s3_checksum
        first = await self._first_parts() if ahead else []
        try:
            async with anyio.create_task_group() as meanwhile:
                if ahead:
                    meanwhile.start_soon(self._hash_ahead)
                await self._context.retrier.request(
                    lambda: run_shielded(self._create_and_record(first, declare=declare)), letting=letting
                )
                meanwhile.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise the_one(group) from None

    async def _first_parts(self) -> list[UnsignedPart]:
        """Hashed before there is an upload, where that saves the round trip to have them signed."""
        signed: list[UnsignedPart] = []
        for part in itertools.islice(self._plan.first(_HASH_FIRST), self._context.store.signs_ahead):
            hashed = await self._hasher.hash_ahead(part)
            signed.append(UnsignedPart(part.number, part.size, {self._algorithm.header: hashed.checksum}))
        return signed

    async def _hash_ahead(self) -> None:
        """While the upload is created: that takes an import of botocore, round trips, and maybe patience."""
        with contextlib.suppress(errors.BigUploadError):  # it is told when it is that part's turn
            for part in self._plan.first(_HASH_AHEAD):
                await self._hasher.hash_ahead(part)

    async def _create_and_record(self, first: Sequence[UnsignedPart], *, declare: bool) -> None:
        context = self._context
        token = secrets.token_hex(16)
        created = await context.store.create(self._plan, self._algorithm, declare=declare, token=token, first=first)
        try:
            if context.journal.exists:
                key = context.store.target.key
                moved = None if key == context.manifest.target.key else key
                now = SourceIdentity.of(context.source.path, context.source.fingerprint)
                # No part is there that would have to be compared: the file counts as it is now.
                seen = [] if now == context.manifest.source else [SourceRecord(now)]
                restart = Restart(created.upload_id, token, self._restart_reason or "", moved)
                await context.journal.append(restart, *seen)
            else:
                checksum = ChecksumRecord(self._algorithm, created.checksum_type)
                context.journal.begin(new_header(context, self._id, self._plan, checksum, created.upload_id, token))
        except errors.ManifestUnwritable:
            await self._abort_quietly(created.upload_id)  # nothing else knows of it, and nothing is in it
            raise
        if self._superseded is not None:
            await self._abort_quietly(self._superseded)
            self._superseded = None

    async def _abort_quietly(self, upload_id: str) -> None:
        """One try: what stays open costs space until a lifecycle rule or the user ends it, and nothing else."""
        with contextlib.suppress(Fault, errors.BigUploadError):
            await self._context.store.abort(upload_id)

    # -- RECONCILING, UPLOADING

    async def _reconcile(self) -> Happened:
        if not await self._reconciler.run():
            if self._context.manifest.completing is not None and not await self._lost_by_hedging():
                return Happened.ANSWER_LOST
            self._restart_reason = _GONE
            return Happened.VANISHED
        if not self._announced:  # else this run has sent some of them
            self._context.counts.resumed_parts = len(self._context.manifest.parts)
        return Happened.LISTED

    async def _lost_by_hedging(self) -> bool:
        """Whether the store threw the upload away for parts that were sent twice, instead of completing it."""
        if not self._context.hedging.refused_at_complete:
            return False
        facts, _ = await self._stat()
        return facts is None or not self._context.manifest.made_object(facts)

    async def _send(self) -> Happened:
        context = self._context
        if not self._announced:
            self._announced = True
            context.emit(self._started())
        try:
            await PartSender(context, self._state, self._hasher).run()
        except UploadVanished:
            if context.hedging.parts:
                context.stop_hedging("the store lost the upload after a part of it was sent twice")
            self._restart_reason = _GONE
            return Happened.VANISHED
        return Happened.PARTS_DONE

    def _started(self) -> events.UploadStarted:
        manifest = self._context.manifest
        return events.UploadStarted(
            path=Path(self._context.source.path),
            target=str(manifest.target),
            size=self._plan.size,
            part_size=self._plan.part_size,
            parts=self._plan.count,
            manifest=self._context.journal.path,
            resumed_parts=len(manifest.parts),
            resumed_bytes=manifest.bytes_uploaded,
        )

    # -- COMPLETING

    async def _complete(self) -> Happened:
        context = self._context
        context.source.check()
        if context.settings.verify_source:
            await self._reconciler.verify_source("the file is hashed once more (--verify-source)")
        checksum = context.manifest.expected_object().checksum
        if context.manifest.completing is None:
            await context.journal.append(CompletingRecord(checksum))
        context.emit(events.Completing(parts=self._plan.count))
        since = context.effects.clock()
        try:
            facts, verified = await run_shielded(self._complete_and_record())
        except Fault as fault:
            return await self._complete_failed(fault, since)
        if context.manifest.completed is None:
            facts, verified = await self._ask_object(facts, verified, context.manifest.expected_object())
            await run_shielded(self._record(facts, verified or Verified.SIZE))
        return Happened.PROVED

    async def _complete_and_record(self) -> tuple[ObjectFacts, Verified | None]:
        """The answer is the proof; what it does not say must be asked for, which may take its time."""
        context = self._context
        expected = context.manifest.expected_object()
        facts = await context.store.complete(
            context.manifest.upload_id,
            [context.manifest.parts[part.number] for part in self._plan],
            size=self._plan.size,
            algorithm=self._algorithm,
            checksum=expected.checksum if context.manifest.header.checksum.type is not None else None,
        )
        context.retrier.contact()
        verified = prove_object(facts, expected)
        if verified in (Verified.FULL_OBJECT, Verified.COMPOSITE_CHECKSUM):
            await self._record(facts, verified)
        return facts, verified

    async def _ask_object(
        self, facts: ObjectFacts, verified: Verified | None, expected: ExpectedObject
    ) -> tuple[ObjectFacts, Verified | None]:
        """HEAD, for a better proof than complete's answer gave."""
        context = self._context
        try:
            seen = await context.retrier.request(
                lambda: context.store.stat(context.manifest.upload_id, self._algorithm)
            )
        except errors.AccessDenied:
            context.warn("these credentials may not look at the object: it is proved by complete's answer alone")
            return facts, verified
        # By the ETag of complete's answer where no token is known, be it of an adopted upload or of a store that
        # forgets metadata.
        told = seen is not None and None not in (seen.token, context.manifest.token)
        if seen is None or (seen.token != context.manifest.token if told else seen.etag != facts.etag):
            raise errors.TargetReplaced(
                f"{context.manifest.target} was replaced or deleted by someone else right after this upload completed"
            )
        better = prove_object(seen, expected)
        levels = [level for level in Verified if level in (verified, better)]
        return seen, levels[0] if levels else None

    async def _record(self, facts: ObjectFacts, verified: Verified) -> None:
        context = self._context
        completed = Completed(etag=facts.etag, verified=verified, checksum=facts.checksum, url=context.store.url())
        await context.journal.append(completed)
        if verified is Verified.SIZE:
            context.warn("the store offers no proof of the whole object: only its size is known to be the file's")
        if verified.satisfies(context.settings.require_proof):
            context.emit(events.UploadCompleted(url=context.store.url(), etag=facts.etag, verified=verified))

    async def _complete_failed(self, fault: Fault, since: float) -> Happened:
        """What may follow a complete that was not answered with the object."""
        context = self._context
        if fault.kind is FaultKind.GONE:
            self._rounds += 1
            if self._rounds >= _MOST_ROUNDS:
                raise errors.StoreUnavailable(
                    "the store contradicts itself: it lists the upload, and does not know it at complete"
                ) from fault
            return Happened.ANSWER_LOST
        if fault.kind in _UNKNOWN_OUTCOME:
            await context.retrier.pause(self._completes, fault, since)
            return Happened.ANSWER_LOST
        if fault.kind is FaultKind.CORRUPTED:
            await self._reconciler.verify_source("the store says that the whole is not what the parts' checksums make")
            raise refused_checksum(self._algorithm) from fault
        if fault.kind is FaultKind.EXISTS:
            facts = await context.retrier.request(
                lambda: context.store.stat(context.manifest.upload_id, self._algorithm)
            )
            if facts is not None and context.manifest.made_object(facts):
                return Happened.ANSWER_LOST  # of an earlier complete of ours, which made it
            raise errors.TargetExists(
                f"{context.manifest.target} came to exist meanwhile, and replacing it was ruled out"
            ) from fault
        self._rounds += 1
        if self._rounds >= _MOST_ROUNDS:
            raise fault.public() from fault
        if fault.kind is FaultKind.INVALID_PART:
            await self._reconciler.drop_hedged(fault)
            return Happened.PARTS_INVALID
        if fault.kind is FaultKind.CONFLICT:
            self._superseded = context.manifest.upload_id  # until its successor is recorded, it is what can be resumed
            self._restart_reason = "another write to the key won (409), and the store wants every part again"
            return Happened.CONFLICT
        await context.retrier.pause(self._completes, fault, since)
        return Happened.ANSWER_LOST

    # -- DOUBTFUL

    async def _look(self) -> Happened:
        """Find out whether complete made the object. Only a matching token, size and checksum is success."""
        context = self._context
        until = context.effects.clock() + _LOOK_FOR
        told = False
        while True:
            facts, denied = await self._stat()
            if facts is not None and context.manifest.made_object(facts):
                verified = prove_object(facts, context.manifest.expected_object())
                await run_shielded(self._record(facts, verified or Verified.SIZE))
                return Happened.PROVED
            if await self._reconciler.is_open():
                return Happened.STILL_OPEN
            if denied is not None:
                raise denied
            if context.effects.clock() >= until:
                raise self._lost(facts)
            if not told:
                told = True
                context.warn(
                    "the upload is no longer open and its object is not there yet: looking for up to 5 minutes"
                )
            await context.effects.sleep(_LOOK_EVERY)

    async def _stat(self) -> tuple[ObjectFacts | None, errors.AccessDenied | None]:
        """The object; where these credentials may not look, the upload may still be open, and that they may know."""
        context = self._context
        try:
            return await context.retrier.request(
                lambda: context.store.stat(context.manifest.upload_id, self._algorithm)
            ), None
        except errors.AccessDenied as e:
            return None, e

    def _lost(self, facts: ObjectFacts | None) -> errors.BigUploadError:
        target = self._context.manifest.target
        if facts is not None:
            return errors.TargetReplaced(
                f"another object lies under {target}, and this upload is gone: nothing was overwritten. "
                "Use another key, or upload again with --no-resume to replace it"
            )
        return errors.UploadGone(
            f"the upload to {target} is gone and left no object: it was aborted, or its object deleted. "
            "Upload again with --no-resume"
        )
