"""Prove an object by the checksums that the store holds of it, without a download.

Every checksum that the store reports must be the file's; the strongest is the proof. To check a checksum of the parts'
checksums, the part sizes must be known: the store is asked, and if it does not say, the sizes that common tools use are
tried. A composite checksum contradicts the file only if the part sizes are certain. `prove_existing` does this before
an upload, so that it can be skipped.
Here is also what both ways to verify begin with: a file and its object, opened and checked together.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from bigupload import errors
from bigupload.core.checksums import Algorithm, combine_crc, digest_of, new_hasher
from bigupload.core.integrity import ObjectAttributes, ObjectClaim, Verified, claims_of, plausible_part_sizes
from bigupload.core.part_plan import MIB, Plan
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.context import check_source
from bigupload.engine.retrying import Retrier
from bigupload.engine.upload_run import UploadResult
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.sources.file import FileSource, open_file
from bigupload.stores.s3.bucket import BucketPool
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.targets import connect, parse_s3_url
from bigupload.support.cancellation import for_each
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.support.pages import page_buffer

_CHECKS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """An object that was compared with a file."""

    path: Path
    """The file, absolute."""
    bucket: str
    key: str
    url: str
    """The object's URL, without a signature."""
    size: int
    """Bytes."""
    etag: str


@dataclass(frozen=True, slots=True)
class FileAndObject:
    """A file and an object of the same size. `attributes`: those of the object, from HEAD."""

    source: FileSource
    bucket: str
    key: str
    store: S3Store
    retrier: Retrier
    attributes: ObjectAttributes
    checking: asyncio.Semaphore
    """Threads that ask the file system whether the file has changed."""
    reading: asyncio.Semaphore | None
    """Threads that read the file. The program's own may all be waiting for this."""

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer from the file. Blocking.

        Args:
            buffer: Where the bytes go.
            offset: Position in the file, in bytes.

        Raises:
            SourceChanged: The file became shorter.
            SourceUnreadable: The file can't be read.
        """
        if self.source.read_into(buffer, offset) < len(buffer):
            raise errors.SourceChanged(
                f"{errors.IT} became shorter while it was compared", it=self.source.path, same_size=False
            )

    async def check_source(self) -> None:
        """Raises SourceChanged if the file changed since it was opened."""
        try:
            await check_source(self.source, self.checking)
        except errors.SourceChanged as e:
            raise errors.SourceChanged(
                f"{errors.IT} changed while it was compared: verify it again",
                it=self.source.path,
                same_size=e.resumable,
            ) from None

    async def check_object(self) -> None:
        """Raises TargetReplaced if HEAD shows anything of the object that is not as it was at first."""
        if await self.retrier.request(self.store.attributes) != self.attributes:
            raise errors.TargetReplaced(
                f"{self.store.target} was replaced or deleted while it was read: verify it again"
            )

    def compared(self) -> dict[str, object]:
        """The fields of `Compared`."""
        return {
            "path": Path(self.source.path),
            "bucket": self.bucket,
            "key": self.key,
            "url": self.store.url(),
            "size": self.attributes.size,
            "etag": self.attributes.etag,
        }


async def _has_bucket(store: S3Store, retrier: Retrier) -> bool:
    """Whether the bucket is there for sure. Raises BucketNotFound if it is not: the two look alike in a HEAD."""
    try:
        return await retrier.request(store.objects("").require_bucket)
    except errors.BucketNotFound:
        raise
    except (errors.StoreError, errors.UsageError):  # that does not answer the question
        return False


@contextlib.asynccontextmanager
async def open_both(
    path: str | os.PathLike[str],
    url: str,
    s3: S3Options | None,
    retrier: Retrier,
    pool: BucketPool | None = None,
    reading: asyncio.Semaphore | None = None,
) -> AsyncIterator[FileAndObject]:
    """Open a file, and ask the store for an object's attributes.

    Args:
        path: The file.
        url: "s3://BUCKET/KEY" of the object.
        s3: How to reach the store.
        retrier: Repeats failed requests.
        pool: Where to take the connection to the bucket from.
        reading: Bounds the threads that read files. None: the caller bounds them itself.

    Raises:
        ObjectNotFound: There is no object.
        BucketNotFound: There is no such bucket.
        ObjectMismatch: Its size is not the file's.
        SourceError: The file can't be opened.
        StoreError: The store refused, or can't be reached.
    """
    with await open_file(path) as source:
        bucket, key = parse_s3_url(url)
        store = await connect(bucket, key, s3 or S3Options(), pool, creates_bucket=False)
        async with contextlib.aclosing(store):
            attributes = await retrier.request(store.attributes)
            if attributes is None:
                doubt = "" if await _has_bucket(store, retrier) else ", or no such bucket"
                raise errors.ObjectNotFound(f"there is no object at {url}{doubt}: check the name")
            if attributes.size != source.fingerprint.size:
                raise errors.ObjectMismatch(
                    f"{url} has {attributes.size:,} bytes, and the file has {source.fingerprint.size:,}"
                )
            checking = asyncio.Semaphore(_CHECKS_AT_ONCE)
            given = reading
            yield FileAndObject(source, bucket, key, store, retrier, attributes, checking, given)


_PIECE = 64 * MIB
"""Bytes that one thread hashes at a time where CRCs can be combined, so that any division will do."""
_BUFFER = MIB
_MAX_REQUESTS = 8
"""HEAD requests for single parts at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification(Compared):
    """An object that was proved by the store's checksums."""

    checksum: str | None
    """The checksum that proved it, "<algorithm>:<value as S3 writes it>"; None if only the size was proved."""
    verified: Verified
    seconds: float
    sha256: str | None = None
    """The file's SHA-256 in hexadecimal, if that was asked for."""


async def verify(
    path: str | os.PathLike[str],
    url: str,
    *,
    s3: S3Options | None = None,
    part_size: int | None = None,
    require_proof: Verified = Verified.SIZE,
    retry: RetryPolicy | None = None,
    pool: BucketPool | None = None,
    reading: asyncio.Semaphore | None = None,
    sha256: bool = False,
) -> Verification:
    """Prove that an object is a file, by the checksums that the store holds.

    Args:
        path: The file.
        url: "s3://BUCKET/KEY" of the object.
        s3: How to reach the store.
        part_size: Bytes of the object's parts, if the store does not say and nobody would guess it.
        require_proof: The weakest proof that is accepted.
        retry: How often and for how long a failed request is repeated.
        pool: Where to take the connection to the bucket from.
        reading: Bounds the threads that read files. None: one for each processor.
        sha256: Also hash the file by SHA-256.

    Raises:
        ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
        ObjectMismatch: The object is not the file.
        ProofTooWeak: It is proved by less than `require_proof`.
        SourceError: The file can't be read, or changed during the call.
        StoreError: The store refused, or can't be reached.
    """
    began = time.monotonic()
    retrier = Retrier(policy=retry or RetryPolicy(), emit=lambda _: None)
    async with open_both(path, url, s3, retrier, pool, reading) as pair:
        proof = _Proof(pair, part_size, sha256=sha256)
        claim = await proof.strongest()
        hashed = (await proof.whole(Algorithm.SHA256)).hex() if sha256 else None
        await pair.check_source()
        verified = Verified.SIZE if claim is None else claim.level
        if not verified.satisfies(require_proof):
            raise errors.ProofTooWeak(
                f"not proved ({verified} only): the store holds no checksum that can be compared with the file; "
                "`read_back` compares the bytes themselves"
            )
        fields: dict[str, Any] = pair.compared()
        return Verification(
            **fields,
            checksum=None if claim is None else f"{claim.algorithm}:{claim.value}",
            verified=verified,
            seconds=round(time.monotonic() - began, 3),
            sha256=hashed,
        )


class _Proof:
    """Checks the claims that a store makes of one object against one file."""

    def __init__(self, pair: FileAndObject, part_size: int | None, *, sha256: bool) -> None:
        self._pair = pair
        self._store = pair.store
        self._attributes = pair.attributes
        self._part_size = part_size
        self._gives_part_etags = False
        self._claims = claims_of(pair.attributes)
        of_whole = [claim.algorithm for claim in self._claims if claim.parts is None and not claim.is_etag]
        self._together = dict.fromkeys([*of_whole, *([Algorithm.SHA256] if sha256 else [])])
        """Digests of the whole file that one read computes."""
        self._whole: dict[Algorithm, bytes] = {}
        self._cut: Sequence[int] | None = None
        """The sizes of the object's parts, once a checksum proved them."""

    async def strongest(self) -> ObjectClaim | None:
        """Return the strongest claim that the file fulfils, None if none could be checked.

        Raises:
            ObjectMismatch: The file contradicts any of the claims.
        """
        proved: ObjectClaim | None = None
        for claim in self._claims:
            if claim.is_etag and proved is not None:  # it would neither strengthen the proof nor contradict it
                break
            if claim.parts is None:
                holds: bool | None = await self.whole(claim.algorithm) == claim.digest
            else:
                holds = await self._of_parts(claim, proved is None)
            if holds is False and not claim.is_etag:
                raise errors.ObjectMismatch(
                    f"{self._store.target} is not the file: the store's checksum is {claim}, and the file's is "
                    "another. `read_back` shows the first byte that differs"
                )
            proved = proved or (claim if holds else None)
        return proved

    async def whole(self, algorithm: Algorithm) -> bytes:
        """Hash the whole file, by all algorithms that are wanted in one read."""
        if algorithm not in self._whole:
            wanted = list(self._together) if algorithm in self._together else [algorithm]
            size, crcs = self._attributes.size, all(each.is_crc for each in wanted)
            cuts = [part.size for part in Plan(size, _PIECE)] if crcs else [size]
            columns = zip(*await self._digests(wanted, cuts), strict=True)
            for each, digests in zip(wanted, columns, strict=True):
                self._whole[each] = combine_crc(each, zip(digests, cuts, strict=True)) if crcs else digests[0]
        return self._whole[algorithm]

    async def _of_parts(self, claim: ObjectClaim, guesses: bool) -> bool | None:
        """Whether the file fulfils a composite claim; None if none of the part sizes that were tried fits, which is
        inconclusive. `guesses`: whether to try sizes that the store does not report, which can only prove the claim."""
        tried: list[Sequence[int]] = []
        async with contextlib.aclosing(self._cuts(claim.parts or 0, guesses)) as all_cuts:
            async for cuts, certain in all_cuts:
                if cuts not in tried:
                    tried.append(cuts)
                    digests = [digest for (digest,) in await self._digests([claim.algorithm], cuts)]
                    if digest_of(claim.algorithm, b"".join(digests)) == claim.digest:
                        self._cut = cuts
                        return True
                if certain:
                    return False
        return None

    async def _cuts(self, parts: int, guesses: bool) -> AsyncGenerator[tuple[Sequence[int], bool], None]:
        """Yield sizes of parts to try, and whether they are certainly the object's."""
        size = self._attributes.size
        if self._cut is not None and parts in (0, len(self._cut)):
            yield self._cut, True
            return
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
            sizes = await self._all_parts(parts, first[0])
            if sum(sizes) == size:
                yield sizes, True
            return
        for part_size in plausible_part_sizes(size, parts) if guesses else ():
            yield _even(size, part_size), False

    async def _part(self, number: int) -> tuple[int, int | None] | None:
        """Ask for one part: its size in bytes, and how many there are; None if the store does not know its parts."""
        part = await self._pair.retrier.request(lambda: self._store.part(number))
        if part is None:
            return None
        if part.etag != self._attributes.etag and not self._gives_part_etags:
            await self._pair.check_object()
            self._gives_part_etags = True  # the object is the same: this store gives the part's own ETag
        return part.size, part.parts

    async def _all_parts(self, parts: int, first: int) -> list[int]:
        sizes = [first] + [0] * (parts - 1)

        async def ask(number: int) -> None:
            part = await self._part(number)
            sizes[number - 1] = 0 if part is None else part[0]

        await for_each(range(2, parts + 1), ask, at_once=_MAX_REQUESTS)
        if self._gives_part_etags:
            await self._pair.check_object()
        return sizes

    async def _digests(self, algorithms: Sequence[Algorithm], cuts: Sequence[int]) -> list[list[bytes]]:
        """Hash consecutive ranges of the file, whose sizes are `cuts`, in one thread for each processor.

        Returns:
            For each range, its digests by `algorithms`.
        """
        digests: list[list[bytes]] = [[]] * len(cuts)
        offsets = [0]
        for size in cuts:
            offsets.append(offsets[-1] + size)

        left_behind = threading.Event()

        async def digest(number: int) -> None:
            hash_cut = functools.partial(self._hash, algorithms, offsets[number], cuts[number], left_behind)
            # A read may hang in a network file system: a cancel leaves the thread behind.
            digests[number] = await run_in_daemon_thread(hash_cut, self._pair.reading)

        try:
            await for_each(range(len(cuts)), digest, at_once=os.cpu_count() or 1)
        finally:
            left_behind.set()
        return digests

    def _hash(
        self, algorithms: Sequence[Algorithm], offset: int, size: int, left_behind: threading.Event
    ) -> list[bytes]:
        hashers = [new_hasher(algorithm) for algorithm in algorithms]
        buffer = memoryview(page_buffer(min(_BUFFER, size)))
        end = offset + size
        while offset < end and not left_behind.is_set():
            chunk = buffer[: min(_BUFFER, end - offset)]
            self._pair.read_into(chunk, offset)
            for hasher in hashers:
                hasher.update(chunk)
            offset += len(chunk)
        return [hasher.digest() for hasher in hashers]


def _even(size: int, part_size: int) -> list[int]:
    return [part.size for part in Plan(size, part_size)]


async def prove_existing(
    path: str,
    url: str,
    manifest: Path | None,
    *,
    s3: S3Options,
    required: Verified,
    part_size: int | None = None,
    retry: RetryPolicy | None = None,
    pool: BucketPool | None = None,
    reading: asyncio.Semaphore | None = None,
) -> UploadResult | None:
    """Hash the file, and compare it with the checksums that the store has of the object.

    Args:
        path: The file.
        url: "s3://BUCKET/KEY".
        manifest: The manifest of such an upload, if there is one.
        s3: How to reach the store.
        required: The least level of proof. The size alone never suffices.
        part_size: The object's part size in bytes, if known.
        retry: How often and for how long a failed request is repeated.
        pool: Where to take the connection to the bucket from.
        reading: Bounds the threads that read files. None: one for each processor.

    Returns:
        The result of the skipped upload. None if there is no object, another object, or no proof.

    Raises:
        BigUploadError: The file or the object cannot be read.
    """
    try:
        found = await verify(path, url, s3=s3, part_size=part_size, retry=retry, pool=pool, reading=reading)
    except errors.ObjectMismatch:
        return None
    if found.verified is Verified.SIZE or not found.verified.satisfies(required):
        return None
    return UploadResult(
        path=found.path,
        bucket=found.bucket,
        key=found.key,
        url=found.url,
        size=found.size,
        etag=found.etag,
        checksum=found.checksum if found.verified is not Verified.COMPOSITE_ETAG else None,
        verified=found.verified,
        seconds=found.seconds,
        manifest=manifest,
        skipped=True,
    )
