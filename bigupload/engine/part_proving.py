"""Prove that the store has a part: by its checksum, or its MD5 where the store confirms no checksums.

A Content-MD5 proves a part only where the store checks it, which one wrong Content-MD5 finds out. Where a proxy drops
the ETag of a response, the store's list of parts has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from bigupload import errors
from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, Hashed
from bigupload.core.integrity import NO_ETAG, ChecksumMismatch, prove_part
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import S3_LIMITS, Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.engine.context import UploadContext
from bigupload.engine.part_hashing import PartHasher
from bigupload.ports import ListedPart, PutResponse, SignedRequest, Source, UnsignedPart, Unwatched
from bigupload.support.batching import Batcher


class SendAgainWithMd5(Exception):
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
            SendAgainWithMd5: Content-MD5 will prove the part.
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
            raise SendAgainWithMd5
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
