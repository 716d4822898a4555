"""Finds out whether a store checks Content-MD5 at all: one that does not would accept anything as proved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from bigupload import errors
from bigupload.core import checksums
from bigupload.core.checksums import Algorithm
from bigupload.core.manifest import Fingerprint
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import PutResponse, SignedRequest, Source, UnsignedPart


class Md5Probe:
    """Asked once for an upload, by whichever part needs to know first."""

    def __init__(
        self,
        sign: Callable[[UnsignedPart], Awaitable[SignedRequest]],
        put: Callable[[Source, Part, SignedRequest], Awaitable[PutResponse]],
    ) -> None:
        self._sign = sign
        self._put = put
        self._known: bool | None = None
        self._probing = anyio.Lock()

    @property
    def enforced(self) -> bool:
        """Whether the store was seen to refuse a wrong Content-MD5."""
        return bool(self._known)

    async def md5_is_enforced(self, part: Part) -> bool:
        """Sends one byte with another byte's MD5 as `part`, which is sent again after in any case.

        Only the refusal of just that digest counts: another refusal (busy, expired, malformed) says nothing of it, and
        is raised as the Fault that it is.
        """
        async with self._probing:
            if self._known is None:
                wrong = {Algorithm.MD5.header: checksums.encode(checksums.digest_of(Algorithm.MD5, b"?"))}
                try:
                    request = await self._sign(UnsignedPart(part.number, 1, wrong))
                except errors.MediaRefused:  # a media service signs parts of the plan alone: it stays unknown
                    return False
                try:
                    await self._put(_OneByte(), Part(part.number, 0, 1), request)
                    self._known = False
                except Fault as fault:
                    if fault.kind is not FaultKind.CORRUPTED:
                        raise
                    self._known = True
            return self._known


class _OneByte:
    """The probe's body, as a source."""

    path = "the probe"
    fingerprint = Fingerprint(1, 0, 0, 0)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        buffer[:] = b"!"
        return 1

    def fileno(self) -> None:
        return None

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass
