"""What an object is declared to be at create, and held to at complete."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest

from bigupload import S3Options, errors
from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.part_plan import MIB, Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.testing.faults import Stall
from tests.tools.buckets import client_of
from tests.tools.waiting import until

from .backends import PART, TOKEN, Backend, crc, create, put, raised
from .support import BUCKET, content


async def test_what_create_declares_arrives(fake: Backend) -> None:
    assert fake.s3 is not None
    wanted: dict[str, Any] = {
        "content_type": "video/mp4", "metadata": {"a": "b"}, "tags": {"k&1": "v=2 3"}, "storage_class": "STANDARD_IA",
        "sse": "aws:kms", "sse_kms_key_id": "key-id",
    }  # fmt: skip
    async with contextlib.aclosing(fake.store(**wanted)) as store:
        upload = fake.s3.uploads[await create(store)]
    assert upload.headers == {
        "content-type": "video/mp4",
        "x-amz-meta-a": "b",
        "x-amz-meta-bigupload-token": TOKEN,
        "x-amz-tagging": "k%261=v%3D2%203",
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "key-id",
    }


async def test_what_is_not_asked_for_is_not_declared(fake: Backend) -> None:
    assert fake.s3 is not None
    async with contextlib.aclosing(fake.store()) as store:
        upload = fake.s3.uploads[await create(store, declare=False)]
    assert set(upload.headers) <= {"x-amz-meta-bigupload-token", "content-type"}
    assert upload.algorithm is None


@pytest.mark.parametrize(
    ("algorithm", "declared", "kind"),
    [
        (Algorithm.CRC64NVME, "CRC64NVME", "FULL_OBJECT"),
        (Algorithm.CRC32C, "CRC32C", "FULL_OBJECT"),
        (Algorithm.SHA256, "SHA256", "COMPOSITE"),
        (Algorithm.MD5, None, None),
        (Algorithm.NONE, None, None),
    ],
)
async def test_the_checksum_that_is_declared(
    fake: Backend, algorithm: Algorithm, declared: str | None, kind: str | None
) -> None:
    assert fake.s3 is not None
    async with contextlib.aclosing(fake.store()) as store:
        created = await store.create(Plan(4, PART), algorithm, declare=True, token=TOKEN)
    upload = fake.s3.uploads[created.upload_id]
    assert (upload.algorithm, upload.checksum_type) == (declared, kind)
    assert created.checksum_type == (kind and ChecksumType(kind))


async def test_if_none_match(real_store: Backend) -> None:
    """SeaweedFS need not know the condition at complete; the precheck works everywhere."""
    async with contextlib.aclosing(real_store.store("taken", if_none_match=True)) as store:
        await store.precheck()
        upload, late = await create(store, 4), await create(store, 4)
        record = await put(real_store, store, upload, 1, b"data")
        await store.complete(upload, [record], size=4, algorithm=Algorithm.CRC64NVME, checksum=crc(b"data"))
        assert isinstance(await raised(store.precheck(), [real_store.secret]), errors.TargetExists)
        if real_store.name == "strict":
            record = await put(real_store, store, late, 1, b"late")
            e = await raised(
                store.complete(late, [record], size=4, algorithm=Algorithm.CRC64NVME, checksum=crc(b"late")), []
            )
            assert isinstance(e, Fault)
            assert e.kind is FaultKind.EXISTS
        await store.abort(late)


async def test_without_if_none_match_nothing_is_asked(fake: Backend) -> None:
    assert fake.s3 is not None
    async with contextlib.aclosing(fake.store()) as store:
        await store.precheck()
    assert not fake.s3.requests


async def test_complete_is_held_to_size_and_checksum(fake: Backend) -> None:
    assert fake.s3 is not None
    async with contextlib.aclosing(fake.store()) as store:
        upload = await create(store, 4)
        record = await put(fake, store, upload, 1, b"data")
        arguments: dict[str, Any] = {"size": 4, "algorithm": Algorithm.CRC64NVME, "checksum": crc(b"data")}
        e = await raised(store.complete(upload, [record], **arguments | {"size": 5}), [fake.secret])
        assert isinstance(e, Fault)
        assert (
            e.kind is FaultKind.UNSUPPORTED
        )  # it names a header that may be left out, and the parts are not all there
        e = await raised(store.complete(upload, [record], **arguments | {"checksum": crc(b"other")}), [fake.secret])
        assert isinstance(e, Fault)
        assert e.kind is FaultKind.CORRUPTED
        e = await raised(store.complete(upload, [replace(record, etag='"x"')], **arguments), [fake.secret])
        assert isinstance(e, Fault)
        assert e.kind is FaultKind.INVALID_PART
        await store.complete(upload, [record], **arguments)
    assert fake.s3.objects[BUCKET]["key"].body == b"data"


async def test_an_abort_while_a_part_arrives_is_repeated_until_nothing_is_left(fake: Backend) -> None:
    """S3 keeps parts that were in flight: list until there is nothing, and abort again."""
    assert fake.s3 is not None
    async with contextlib.aclosing(fake.store()) as store:
        upload = await create(store)
        fake.s3.script("UploadPart", Stall(after_bytes=1))
        arriving = asyncio.create_task(put(fake, store, upload, 1, content(8 * MIB)))
        await fake.s3.wait_for_async("UploadPart")
        await until(lambda: fake.s3.stalled == 1)
        aborting = asyncio.create_task(store.abort(upload))
        await fake.s3.wait_for_async("ListParts")
        fake.s3.release()
        await asyncio.gather(arriving, return_exceptions=True)
        await asyncio.gather(aborting, return_exceptions=True)
        await store.abort(upload)
    assert not fake.s3.uploads
    assert fake.s3.count("AbortMultipartUpload") >= 2


async def test_make_the_bucket_where_it_is_missing(real_store: Backend) -> None:
    async with contextlib.aclosing(real_store.store(bucket="made-here")) as store:
        with contextlib.closing(client_of(store._bucket)) as client:
            assert "made-here" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
            await store.ensure_bucket()
            await store.ensure_bucket()
            assert "made-here" in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
        await store.abort(await create(store))


async def test_a_closed_store_may_be_used_again(fake: Backend) -> None:
    assert fake.s3 is not None
    store = fake.store()
    upload = await create(store)
    await store.aclose()
    await store.aclose()
    assert await store.list_parts(upload, Algorithm.NONE) == []
    await store.aclose()


def test_nothing_secret_is_in_the_options(fake: Backend) -> None:
    assert fake.secret not in repr(fake.options)
    store = fake.store()
    assert fake.secret not in str(store.options())
    assert "access_key" not in store.options()
    assert S3Options.from_json(store.options()) == replace(fake.options, access_key=None, secret_key=None)
