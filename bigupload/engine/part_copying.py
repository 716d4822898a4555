"""Parts that the store copies from an object that it has, instead of their being sent.

Either the object is what was there before (`delta`): then a part is hashed here, copied if the object has the same one,
and proved like a part that was sent, by the checksum in the response. Or the object is the source itself: then no byte
of it is read here, and the checksums of all copies must add up to its store's checksum of the whole object.

Copies take no slot of the parts in flight, because no bytes leave this machine.
"""

from __future__ import annotations

from bigupload import errors
from bigupload.core.checksums import Hashed
from bigupload.core.integrity import ChecksumMismatch, CopySource, PartProof, prove_part
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import Part, Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.engine.context import UploadContext
from bigupload.engine.part_hashing import PartHasher
from bigupload.ports import PutResponse

_REFUSALS = frozenset({FaultKind.GONE, FaultKind.EXISTS, FaultKind.UNSUPPORTED, FaultKind.FINAL})


class CopyTakenForPart(Exception):
    """The store took a copy for a part without bytes. Not every store lets that be replaced: the upload starts over."""


class PartCopier:
    """Lets the store copy parts of one upload, until that turns out to be impossible."""

    def __init__(self, context: UploadContext, hasher: PartHasher) -> None:
        self._context = context
        self._hasher = hasher
        self.needs_md5 = False
        """Whether the store reports no checksums of its copies, so that only ETags may prove them."""

    def can_copy(self, part: Part, hashed: Hashed) -> bool:
        """Whether the object that was there before has this part."""
        previous = self._context.previous_version
        return previous is not None and self._context.copying and previous.has(part, hashed.checksum)

    async def copy(self, part: Part, hashed: Hashed) -> PartRecord | None:
        """Let the store copy a part from the object that was there before.

        Returns:
            The part's record; None if it must be sent.

        Raises:
            Fault: GONE: the store no longer knows the upload id.
            CopyTakenForPart: The upload is of no use any more.
            BigUploadError: The upload stops.
        """
        assert self._context.previous_version is not None
        response = await self._copied(part, self._context.previous_version.source)
        proof = None if response is None else await self._prove(part, hashed, response)
        if response is None or proof is None:
            return None
        return self._record(part, response, hashed, proof)

    async def copy_unread(self, part: Part) -> PartRecord | None:
        """Let the store copy a part of the source. `matches_source` proves all parts together.

        Returns:
            The part's record; None if its bytes must be read here.

        Raises:
            Fault: GONE: the store no longer knows the upload id.
            SourceChanged: The source is another object by now.
            CopyTakenForPart: The upload is of no use any more.
            BigUploadError: The upload stops.
        """
        origin = self._context.origin
        if origin is None or not self._context.copying:
            return None
        response = await self._copied(part, origin.source)
        if response is None:
            return None
        checksum = response.checksums.get(origin.algorithm.header)
        if checksum is None:
            self._stop("the store reports no checksums of copied parts, so nothing proves them")
            return None
        return self._record(part, response, Hashed(checksum), PartProof.CHECKSUM)

    async def _copied(self, part: Part, source: CopySource) -> PutResponse | None:
        context = self._context
        async with context.shared.copying:
            if not context.copying:  # since this part waits
                return None
            try:
                return await context.retrier.request(
                    lambda: context.store.copy_part(context.manifest.upload_id, part, source), expected=_REFUSALS
                )
            except Fault as fault:
                if fault.kind is FaultKind.GONE:
                    raise
                if fault.kind is FaultKind.EXISTS and context.origin is not None and context.origin.source is source:
                    raise errors.SourceChanged(
                        f"{errors.IT} was replaced or deleted while it was copied. Nothing was completed: "
                        "try again to upload it as it is now",
                        it=context.source.path,
                        same_size=True,
                    ) from fault
                self._stop(str(fault))
                if fault.status == 200:
                    raise CopyTakenForPart from fault
            except (errors.AccessDenied, errors.StoreUnavailable) as e:  # which may be true of copies alone
                self._stop(str(e))
        return None

    def _record(self, part: Part, response: PutResponse, hashed: Hashed, proof: PartProof) -> PartRecord:
        self._context.counts.bytes_copied += part.size
        return PartRecord.of(part, hashed, response.etag, proof)

    async def _prove(self, part: Part, hashed: Hashed, response: PutResponse) -> PartProof | None:
        algorithm = self._context.manifest.header.checksum.algorithm
        if algorithm.header not in response.checksums and hashed.md5 is None:
            self.needs_md5 = True
            hashed = await self._hasher.hash(part, md5=True)
        try:
            proof = prove_part(algorithm, hashed, echoed=response.checksums, etag=response.etag)
        except ChecksumMismatch:
            self._stop(f"the store's copy of part {part.number} is not the file's")
            return None
        if proof is None:
            self._stop("the store reports no checksums of copied parts, so nothing proves them")
        return proof

    def _stop(self, reason: str) -> None:
        context = self._context
        if context.copying:  # else another part has said so
            context.copying = False
            how = "sent" if context.origin is None else "read through this machine"
            context.warn(f"no more parts are copied by the store, and the rest is {how}: {reason}")


def matches_source(context: UploadContext, plan: Plan) -> bool:
    """Whether all parts together have the source's checksum by its store.

    Nothing but this proves parts that were copied unread. If it fails once, the parts have to be compared with the
    source's bytes, read here.

    Raises:
        ObjectMismatch: The parts were read here, and the source's store contradicts its own bytes.
    """
    header, now = context.manifest.header, context.source.fingerprint
    recorded = header.source_checksum if header.source.fingerprint == now else None
    expected = recorded if context.origin is None else context.origin.checksum
    found = context.manifest.expected_object(plan).checksum
    if expected is None or found == expected:
        return True
    if not context.source_refuted:
        context.source_refuted, context.copying = True, False
        context.warn(
            f"the copied parts add up to {found}, and {context.source.path} has {expected} by its store: it is "
            "read through this machine, and compared"
        )
        return False
    raise errors.ObjectMismatch(
        f"the bytes of {errors.IT} have the {header.checksum.algorithm} {found}, and its store "
        f"reports {expected}: it is damaged there. Nothing was completed",
        it=context.source.path,
    )
