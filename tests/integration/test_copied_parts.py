"""The contract of `MultipartStore.copy_part`, for the strict fake over http and https, and for SeaweedFS."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncIterator

import pytest

from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import CopySource, PartProof
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import Part, Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.service_client import ServiceStore
from bigupload.testing.faults import ErrorIn200, Status

from .backends import ANY_UPLOAD, PART, TOKEN, Backend, crc, create, put, raised
from .support import BUCKET, content

SIZE = PART + 17
FIRST, LAST = content(PART, 1), content(17, 2)


async def make(backend: Backend, key: str = "source/a b+ü.bin", **options: object) -> CopySource:
    """An object of two parts."""
    async with contextlib.aclosing(backend.store(key, **options)) as store:
        upload = await create(store, SIZE)
        records = [await put(backend, store, upload, n, data) for n, data in ((1, FIRST), (2, LAST))]
        made = await store.complete(
            upload, records, size=SIZE, algorithm=Algorithm.CRC64NVME, checksum=crc(FIRST + LAST)
        )
        return CopySource(bucket=BUCKET, key=key, etag=made.etag, size=SIZE, version_id=made.version_id)


@contextlib.asynccontextmanager
async def uploading(backend: Backend, key: str = "target", **options: object) -> AsyncIterator[tuple[S3Store, str]]:
    async with contextlib.aclosing(backend.store(key, **options)) as store:
        yield store, await create(store, SIZE)


@pytest.mark.exhaustive
async def test_a_part_is_copied(real_store: Backend) -> None:
    origin = await make(real_store)
    async with uploading(real_store) as (store, upload):
        copied = await store.copy_part(upload, Part(1, 0, PART), origin)
        if real_store.name == "strict":
            assert copied.checksums == {Algorithm.CRC64NVME.header: crc(FIRST)}
        record = PartRecord(number=1, size=PART, etag=copied.etag, checksum=crc(FIRST), proof=PartProof.CHECKSUM)
        records = [record, await put(real_store, store, upload, 2, LAST)]
        made = await store.complete(
            upload, records, size=SIZE, algorithm=Algorithm.CRC64NVME, checksum=crc(FIRST + LAST)
        )
        seen = await store.stat(ANY_UPLOAD, Algorithm.CRC64NVME)
    assert seen is not None
    assert (seen.etag, seen.size, seen.checksum) == (made.etag, SIZE, crc(FIRST + LAST))


async def test_a_whole_object_is_one_part(real_store: Backend) -> None:
    """S3 copies no range of an object of up to 5 MB: without one, it copies all of it."""
    async with contextlib.aclosing(real_store.store("small")) as small:
        upload = await create(small, 17)
        record = await put(real_store, small, upload, 1, LAST)
        made = await small.complete(upload, [record], size=17, algorithm=Algorithm.CRC64NVME, checksum=crc(LAST))
    origin = CopySource(bucket=BUCKET, key="small", etag=made.etag, size=17)
    async with uploading(real_store) as (store, upload):
        copied = await store.copy_part(upload, Part(1, 0, 17), origin)
        (row,) = await store.list_parts(upload, Algorithm.CRC64NVME)
        assert (row.number, row.size, row.etag) == (1, 17, copied.etag)
        assert copied.checksums[Algorithm.CRC64NVME.header] == crc(LAST)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"etag": '"another"'}, FaultKind.EXISTS),
        ({"key": "missing"}, FaultKind.EXISTS),
        ({"version_id": "missing"}, FaultKind.EXISTS),
        ({"bucket": "missing"}, FaultKind.UNSUPPORTED),
        ({"size": 3 * PART}, FaultKind.UNSUPPORTED),
    ],
)
async def test_what_is_not_there_is_not_copied(real_store: Backend, changed: dict[str, str], kind: FaultKind) -> None:
    origin = dataclasses.replace(await make(real_store), **changed)  # type: ignore[arg-type]  # of each field its own
    async with uploading(real_store) as (store, upload):
        part = Part(1, PART, PART) if "size" in changed else Part(1, 0, PART)
        e = await raised(store.copy_part(upload, part, origin), [real_store.secret])
        assert isinstance(e, Fault)
        assert e.kind is kind
        assert await store.list_parts(upload, Algorithm.CRC64NVME) == []


async def test_an_unknown_upload_is_gone(real_store: Backend) -> None:
    origin = await make(real_store)
    async with uploading(real_store) as (store, upload):
        await store.abort(upload)
        e = await raised(store.copy_part(upload, Part(1, 0, PART), origin), [real_store.secret])
    assert isinstance(e, Fault)
    assert e.kind is FaultKind.GONE


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (Status(501, "NotImplemented"), FaultKind.UNSUPPORTED),
        (Status(405, "MethodNotAllowed"), FaultKind.UNSUPPORTED),
        (Status(400, "InvalidRequest"), FaultKind.UNSUPPORTED),
        (Status(403, "AccessDenied"), FaultKind.REFUSED),
        (Status(403, "ObjectNotInActiveTierError"), FaultKind.REFUSED),
        (Status(503, "SlowDown"), FaultKind.BUSY),
        (ErrorIn200("InternalError"), FaultKind.SERVER),
        (ErrorIn200("SlowDown"), FaultKind.BUSY),
        (ErrorIn200("PreconditionFailed"), FaultKind.EXISTS),
    ],
)
async def test_what_a_refusal_means(fake: Backend, response: Status | ErrorIn200, kind: FaultKind) -> None:
    assert fake.s3 is not None
    origin = await make(fake)
    fake.s3.script("UploadPartCopy", response)
    async with uploading(fake) as (store, upload):
        e = await raised(store.copy_part(upload, Part(1, 0, PART), origin), [fake.secret])
    assert isinstance(e, Fault)
    assert e.kind is kind


async def test_a_store_that_does_not_know_of_copies_at_all(fake: Backend) -> None:
    """It takes the request for a part of no bytes."""
    assert fake.s3 is not None
    origin = await make(fake)
    fake.s3.knobs.ignores_copy_source, fake.s3.knobs.require_part_checksums = True, False
    async with uploading(fake) as (store, upload):
        e = await raised(store.copy_part(upload, Part(1, 0, PART), origin), [fake.secret])
        (row,) = await store.list_parts(upload, Algorithm.CRC64NVME)
    assert row.size == 0
    assert isinstance(e, Fault)
    assert e.kind is FaultKind.UNSUPPORTED


async def test_owner_and_payer_are_said(fake: Backend) -> None:
    assert fake.s3 is not None
    origin = await make(fake)
    fake.s3.knobs.requester_pays = True
    options = {"request_payer": True, "expected_bucket_owner": fake.s3.knobs.owner}
    async with uploading(fake, **options) as (store, upload):
        await store.copy_part(upload, Part(1, 0, PART), dataclasses.replace(origin, owner=fake.s3.knobs.owner))
        sent = fake.s3.requests[-1].headers
        assert (sent["x-amz-request-payer"], sent["x-amz-source-expected-bucket-owner"]) == (
            "requester",
            fake.s3.knobs.owner,
        )
        e = await raised(
            store.copy_part(upload, Part(1, 0, PART), dataclasses.replace(origin, owner="999999999999")), [fake.secret]
        )
    assert isinstance(e, Fault)
    assert e.kind is FaultKind.REFUSED


async def test_an_algorithm_of_the_upload_is_the_copys(fake: Backend) -> None:
    origin = await make(fake)
    async with contextlib.aclosing(fake.store("sha")) as store:
        created = await store.create(Plan(SIZE, PART), Algorithm.SHA256, declare=True, token=TOKEN)
        copied = await store.copy_part(created.upload_id, Part(1, 0, PART), origin)
    digest = base64.b64encode(hashlib.sha256(FIRST).digest()).decode()
    assert copied.checksums == {Algorithm.SHA256.header: digest}


async def test_a_media_service_copies_no_parts() -> None:
    store = ServiceStore(url="http://127.0.0.1:9", api_key="k", filename="a.mp4", content_type="video/mp4")
    origin = CopySource(bucket=BUCKET, key="key", etag='"etag"', size=4)
    async with contextlib.aclosing(store):
        with pytest.raises(Fault) as caught:
            await store.copy_part("upload", Part(1, 0, 4), origin)
    assert caught.value.kind is FaultKind.UNSUPPORTED
