"""Proves an object against a file after the fact, by what the store holds of it, without a download."""

from __future__ import annotations

import contextlib
import os

import anyio

from bigupload import checksums, errors
from bigupload.checksums import Algorithm, ChecksumType
from bigupload.hashing import PartHasher
from bigupload.job import Patience, Shared, the_one
from bigupload.options import S3Options
from bigupload.planning import Plan
from bigupload.proof import Expected, ObjectFacts, Verified, prove_object
from bigupload.retry import RetryPolicy
from bigupload.source import FileSource
from bigupload.stores.s3 import S3Store
from bigupload.targets import connect, parse_s3_url

_WHOLE = 64 * 1024 * 1024
"""Bytes of a piece where any cut will do, because CRCs combine."""


async def verify(path: str | os.PathLike[str], url: str, *, s3: S3Options | None = None) -> Verified:
    """How `url`, "s3://BUCKET/KEY", is proved to be the file. Raises ObjectMismatch where it is not, or not there."""
    with FileSource(path) as source:
        bucket, key = parse_s3_url(url)
        store = await connect(bucket, key, s3 or S3Options())
        async with contextlib.aclosing(store):
            return await _verify(source, store, url)


async def _verify(source: FileSource, store: S3Store, url: str) -> Verified:
    patience = Patience(policy=RetryPolicy(), emit=lambda _: None)
    facts = await patience.request(store.stat_any)
    if facts is None:
        raise errors.ObjectMismatch(f"there is no object at {url}")
    if facts.size is not None and facts.size != source.fingerprint.size:
        raise errors.ObjectMismatch(f"{url} has {facts.size:,} bytes, the file {source.fingerprint.size:,}")
    expected = await _expected(source, store, patience, facts)
    verified = prove_object(facts, expected) or Verified.SIZE
    source.check()
    return verified


async def _expected(source: FileSource, store: S3Store, patience: Patience, facts: ObjectFacts) -> Expected:
    algorithm = facts.algorithm or Algorithm.MD5
    size = source.fingerprint.size
    part_size: int | None = _WHOLE
    if algorithm.type is ChecksumType.COMPOSITE or facts.checksum_type is ChecksumType.COMPOSITE:
        in_parts = "-" in facts.etag
        part_size = await patience.request(store.first_part_size) if in_parts else size
    plan = Plan(size, max(1, part_size or size))
    hasher = PartHasher(source, algorithm, Shared(None).hashing)
    hashes: list[str] = [""] * plan.count
    queue = iter(plan)

    async def worker() -> None:
        for part in queue:
            hashes[part.number - 1] = (await hasher.hash(part)).checksum

    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(os.cpu_count() or 1):
                tasks.start_soon(worker)
    except BaseExceptionGroup as group:
        raise the_one(group) from None
    digests = [checksums.decode(algorithm, checksum) for checksum in hashes]
    checksum = None
    if algorithm.is_s3_checksum:
        checksum = checksums.combine(algorithm, [(d, part.size) for d, part in zip(digests, plan, strict=True)])
    etags = [checksums.etag_of_md5(d) for d in digests] if algorithm is Algorithm.MD5 else None
    return Expected(size=plan.size, algorithm=algorithm, checksum=checksum, part_etags=etags)
