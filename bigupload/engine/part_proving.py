"""Prove that the store has a part: by its checksum, or its MD5 where the store confirms no checksums.

A Content-MD5 proves a part only where the store checks it, which one wrong Content-MD5 finds out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from bigupload import errors
from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, Hashed
from bigupload.core.integrity import ChecksumMismatch, prove_part
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.engine.context import UploadContext
from bigupload.engine.part_hashing import PartHasher
from bigupload.ports import PutResponse, SignedRequest, Source, UnsignedPart, Unwatched


class SendAgainWithMd5(Exception):
    """The store has the part, but nothing proves it. Content-MD5 will."""


class PartProver:
    """Proves the parts of one upload id.

    Attributes:
        with_md5: Whether parts are sent with Content-MD5: if no checksum was declared, and as soon as the store shows
            that it ignores checksums.
    """

    def __init__(self, context: UploadContext, hasher: PartHasher, probe: Md5Probe) -> None:
        self._context = context
        self._hasher = hasher
        self._probe = probe
        self._checksum = context.manifest.header.checksum
        self.with_md5 = self._checksum.type is None and self._checksum.algorithm is not Algorithm.NONE

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
            Fault: CORRUPTED: checksum mismatch.
            SendAgainWithMd5: Content-MD5 will prove the part.
            PartUnproved: Nothing proves it.
        """
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
        algorithm, enforced = self._checksum.algorithm, self._probe.enforced and "content-md5" in request.headers
        try:
            proof = prove_part(algorithm, hashed, echoed=response.checksums, etag=response.etag, md5_enforced=enforced)
        except ChecksumMismatch as e:
            raise Fault(FaultKind.CORRUPTED, f"part {part.number}: {e}") from e
        if proof is None:
            return None
        return PartRecord.of(part, hashed, response.etag, proof)

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
