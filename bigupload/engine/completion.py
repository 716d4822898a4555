"""Complete an upload, judge the object, and find out what a complete request did if its response was lost."""

from __future__ import annotations

from dataclasses import replace

from bigupload import errors, events
from bigupload.core.integrity import ObjectFacts, Verified, prove_object, refused_checksum
from bigupload.core.manifest import Completed, CompletingRecord, SourceRecord
from bigupload.core.retry_policy import Attempts, Fault, FaultKind
from bigupload.core.upload_state import StageResult, UploadState
from bigupload.engine.context import CANCEL_GRACE, UploadContext
from bigupload.engine.reconcile import Reconciler
from bigupload.support.cancellation import run_shielded

_LOOK_FOR = 300.0
"""Seconds to look for an object that complete may have made. S3 may work on a complete for minutes."""
_LOOK_EVERY = 5.0
"""Seconds between two looks."""
_MOST_HASHES = 2
"""The number of times that a file whose metadata keeps changing is hashed again before complete."""
_MOST_ROUNDS = 4
"""The most completes of one run if the store refuses the parts or reports conflicts. More would not help."""


class Completion:
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
        context.retrier.note_response()
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
