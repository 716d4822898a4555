"""Find out whether a store checks Content-MD5. If it does not, Content-MD5 proves nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from bigupload import errors
from bigupload.core import checksums
from bigupload.core.checksums import Algorithm
from bigupload.core.manifest import Fingerprint, SourceKind
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import PutResponse, SignedRequest, Source, UnsignedPart


class Md5Probe:
    """Probes the store once in an upload, for the first part that needs to know."""

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
        """Whether the store has refused a wrong Content-MD5."""
        return bool(self._known)

    async def md5_is_enforced(self, part: Part) -> bool:
        """Send one byte with the MD5 of another byte as `part`, which must be sent again afterwards.

        Raises:
            Fault: Any refusal that is not about the digest (busy, expired, malformed) says nothing about MD5.
        """
        async with self._probing:
            if self._known is None:
                wrong = {Algorithm.MD5.header: checksums.encode(checksums.digest_of(Algorithm.MD5, b"?"))}
                try:
                    request = await self._sign(UnsignedPart(part.number, 1, wrong))
                except errors.MediaRefused:  # a media service signs only parts of the plan
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
    """The body of the probe, as a source."""

    kind = SourceKind.OBJECT
    stream = None
    path = "the probe"
    fingerprint = Fingerprint(1, 0, 0, 0)
    metadata_changed = False
    is_away = False
    on_local_disk = True

    async def hold(self, part: Part, *, wait: bool = True) -> bool:
        return True

    def release(self, part: Part) -> None:
        pass

    def view(self, offset: int, size: int) -> memoryview:
        return memoryview(b"!")[offset : offset + size]

    def read_into(self, buffer: memoryview, offset: int) -> int:
        buffer[:] = b"!"
        return 1

    def fileno(self) -> None:
        return None

    def check(self) -> None:
        pass

    def accept_metadata(self) -> None:
        pass

    def close(self) -> None:
        pass
