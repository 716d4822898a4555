"""Proves an object against a file after the fact, by what the store holds of it, without a download.

A checksum of the whole object decides. One of its parts needs to know how it was cut: the store is asked, and where it
does not tell, the cuts that tools make are tried. A sum of parts contradicts the file only where the cuts are certain.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread

from bigupload import errors
from bigupload.core.checksums import Algorithm, combine_crc, digest_of, new_hasher
from bigupload.core.integrity import Verified
from bigupload.core.object_claims import ObjectAttributes, ObjectClaim, claims_of, plausible_part_sizes
from bigupload.core.part_plan import MIB, Plan
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.retrying import Retrier
from bigupload.engine.task_groups import for_each
from bigupload.options import S3Options
from bigupload.sources.file import FileSource
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.targets import connect, parse_s3_url

_PIECE = 64 * MIB
"""Where any cut will do, because CRCs combine."""
_BUFFER = MIB
_ASKS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """An object that was held against a file. `size` is bytes."""

    path: Path
    bucket: str
    key: str
    url: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(Compared):
    """What the store's own word of it proved."""

    checksum: str | None
    """That of the proof, "<sum> <as S3 writes it>"; None where nothing but the size was proved."""
    verified: Verified
    seconds: float


async def verify(
    path: str | os.PathLike[str], url: str, *, s3: S3Options | None = None, part_size: int | None = None
) -> Verification:
    """How `url`, "s3://BUCKET/KEY", is proved to be the file. Raises ObjectMismatch where it is not, or not there.

    `part_size`: bytes of its parts, for a store that does not tell and a size that nobody would guess.
    """
    began = time.monotonic()
    async with paired(path, url, s3, Retrier(policy=RetryPolicy(), emit=lambda _: None)) as pair:
        claim = await _Proof(pair, part_size).proved()
        pair.hold_still()
        return Verification(
            path=Path(pair.source.path),
            bucket=pair.bucket,
            key=pair.key,
            url=pair.store.url(),
            size=pair.look.size,
            etag=pair.look.etag,
            checksum=None if claim is None else str(claim),
            verified=Verified.SIZE if claim is None else claim.level,
            seconds=round(time.monotonic() - began, 3),
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """A file and the object that is held against it: what the store said of it may be the file's."""

    source: FileSource
    bucket: str
    key: str
    store: S3Store
    retrier: Retrier
    look: ObjectAttributes

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill the buffer from the file's bytes at `offset`, which the object has. Blocking."""
        if self.source.read_into(buffer, offset) < len(buffer):
            raise errors.SourceChanged(f"{self.source.path} became shorter while it was compared", same_size=False)

    def hold_still(self) -> None:
        """Raises SourceChanged where the file did not."""
        try:
            self.source.check()
        except errors.SourceChanged as e:
            raise errors.SourceChanged(
                f"{self.source.path} changed while it was compared: verify it again", same_size=e.resumable
            ) from None


@contextlib.asynccontextmanager
async def paired(path: str | os.PathLike[str], url: str, s3: S3Options | None, retrier: Retrier) -> AsyncIterator[Pair]:
    """The file and the object at `url`, "s3://BUCKET/KEY". Raises ObjectMismatch where their sizes tell them apart."""
    with FileSource(path) as source:
        bucket, key = parse_s3_url(url)
        store = await connect(bucket, key, s3 or S3Options())
        async with contextlib.aclosing(store):
            look = await retrier.request(store.look)
            if look is None:
                raise errors.ObjectMismatch(f"there is no object at {url}")
            if look.size != source.fingerprint.size:
                raise errors.ObjectMismatch(f"{url} has {look.size:,} bytes, the file {source.fingerprint.size:,}")
            yield Pair(source, bucket, key, store, retrier, look)


class _Proof:
    """One file against one object."""

    def __init__(self, pair: Pair, part_size: int | None) -> None:
        self._pair = pair
        self._store = pair.store
        self._look = pair.look
        self._part_size = part_size

    async def proved(self) -> ObjectClaim | None:
        """The strongest claim that is the file's, None where none can be shown to be. Raises ObjectMismatch."""
        for claim in claims_of(self._look):
            holds = await (self._of_whole(claim) if claim.parts is None else self._of_parts(claim))
            if holds:
                return claim
            if holds is False and not claim.is_etag:
                raise errors.ObjectMismatch(f"the store holds {claim}, and the file has another")
        return None

    async def _of_whole(self, claim: ObjectClaim) -> bool:
        size = self._look.size
        if not claim.algorithm.is_crc:
            return (await self._digests(claim.algorithm, [size]))[0] == claim.digest
        cuts = [part.size for part in Plan(size, _PIECE)]
        digests = await self._digests(claim.algorithm, cuts)
        return combine_crc(claim.algorithm, zip(digests, cuts, strict=True)) == claim.digest

    async def _of_parts(self, claim: ObjectClaim) -> bool | None:
        """None: not by any of the cuts that were tried, which says nothing."""
        tried: list[Sequence[int]] = []
        async with contextlib.aclosing(self._cuts(claim.parts or 0)) as all_cuts:
            async for cuts, certain in all_cuts:
                if cuts not in tried:
                    tried.append(cuts)
                    digests = await self._digests(claim.algorithm, cuts)
                    if digest_of(claim.algorithm, b"".join(digests)) == claim.digest:
                        return True
                if certain:
                    return False
        return None

    async def _cuts(self, parts: int) -> AsyncGenerator[tuple[Sequence[int], bool], None]:
        """Sizes of parts that make the object, and whether they are known to be its own."""
        size = self._look.size
        if parts == 1:
            yield [size], True
            return
        if self._part_size is not None:
            yield _even(size, self._part_size), False
        first = await self._part(1)
        if first is not None and (first[0] < size or first[1] is not None):
            parts = parts or first[1] or 0
            even = _even(size, first[0]) if first[0] else []
            if len(even) == parts:
                yield even, False
            told = await self._all_parts(parts, first[0])
            if sum(told) == size:
                yield told, True
            return
        for part_size in plausible_part_sizes(size, parts):
            yield _even(size, part_size), False

    async def _part(self, number: int) -> tuple[int, int | None] | None:
        part = await self._pair.retrier.request(lambda: self._store.part(number))
        if part is None:
            return None
        if part.etag != self._look.etag:
            raise errors.TargetReplaced("the object was replaced while it was looked at: verify it again")
        return part.size, part.parts

    async def _all_parts(self, parts: int, first: int) -> list[int]:
        sizes = [first] + [0] * (parts - 1)

        async def ask(number: int) -> None:
            part = await self._part(number)
            sizes[number - 1] = 0 if part is None else part[0]

        await for_each(range(2, parts + 1), ask, at_once=_ASKS_AT_ONCE)
        return sizes

    async def _digests(self, algorithm: Algorithm, cuts: Sequence[int]) -> list[bytes]:
        digests = [b""] * len(cuts)
        offsets = [0]
        for size in cuts:
            offsets.append(offsets[-1] + size)

        async def digest(number: int) -> None:
            digests[number] = await anyio.to_thread.run_sync(self._hash, algorithm, offsets[number], cuts[number])

        await for_each(range(len(cuts)), digest, at_once=os.cpu_count() or 1)
        return digests

    def _hash(self, algorithm: Algorithm, offset: int, size: int) -> bytes:
        hasher, buffer = new_hasher(algorithm), memoryview(bytearray(min(_BUFFER, size)))
        end = offset + size
        while offset < end:
            chunk = buffer[: min(_BUFFER, end - offset)]
            self._pair.read_into(chunk, offset)
            hasher.update(chunk)
            offset += len(chunk)
            anyio.from_thread.check_cancelled()
        return hasher.digest()


def _even(size: int, part_size: int) -> list[int]:
    return [part.size for part in Plan(size, part_size)]
