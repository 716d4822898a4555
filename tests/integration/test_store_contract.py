"""One contract for every store behind S3Store: the strict fake over http and https, SeaweedFS, and moto.

moto proves nothing about signing or integrity (it takes any signature and any checksum) and lists no checksums: it runs
only the tests that say so by using `any_store`, which are about the shape of calls and responses.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import time
import urllib.parse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bigupload import S3Options
from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import PartProof
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import UnsignedPart
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3.multipart import S3Store
from tests.tools.buckets import options_for
from tests.tools.cases import each_case

from .backends import ANY_UPLOAD, PART, TOKEN, Backend, crc, create, headers_of, put, send
from .support import BUCKET, assert_secretless, content

# --- the round trip


async def test_a_round_trip(any_store: Backend) -> None:
    store = any_store.store("round/trip.bin", content_type="video/mp4", metadata={"owner": "me"})
    first, last = content(PART, 1), content(17, 2)
    async with contextlib.aclosing(store):
        assert await store.stat(ANY_UPLOAD, Algorithm.CRC64NVME) is None
        created = await store.create(Plan(PART + 17, PART), Algorithm.CRC64NVME, declare=True, token=TOKEN)
        assert created.checksum_type is ChecksumType.FULL_OBJECT
        assert created.upload_id in [found.upload_id for found in await store.find_open()]
        assert await store.list_parts(created.upload_id, Algorithm.CRC64NVME) == []
        records = [
            await put(any_store, store, created.upload_id, 2, last),
            await put(any_store, store, created.upload_id, 1, first),
        ][::-1]
        rows = await store.list_parts(created.upload_id, Algorithm.CRC64NVME)
        assert [(row.number, row.size, row.etag) for row in rows] == [(r.number, r.size, r.etag) for r in records]
        if any_store.name == "strict":
            assert [row.checksum for row in rows] == [crc(first), crc(last)]
        whole = crc(first + last)
        made = await store.complete(
            created.upload_id, records, size=PART + 17, algorithm=Algorithm.CRC64NVME, checksum=whole
        )
        seen = await store.stat(ANY_UPLOAD, Algorithm.CRC64NVME)
        assert seen is not None
        assert seen.etag == made.etag
        assert (seen.size, seen.token) == (PART + 17, TOKEN)
        if any_store.name != "moto":
            assert made.checksum == seen.checksum == whole
            assert seen.checksum_type is ChecksumType.FULL_OBJECT
            look = await store.attributes()
            assert look is not None
            assert (look.etag, look.size, look.checksums["CRC64NVME"]) == (seen.etag, seen.size, whole)
        assert await store.find_open() == []
        with pytest.raises(Fault) as caught:
            await store.list_parts(created.upload_id, Algorithm.CRC64NVME)
        assert any_store.name == "moto" or caught.value.kind is FaultKind.GONE
        await store.abort(created.upload_id)  # of what is completed: fine, and the object stays
        assert await store.stat(ANY_UPLOAD, Algorithm.NONE) is not None


async def test_abort_frees_the_parts_and_may_be_repeated(real_store: Backend) -> None:
    async with contextlib.aclosing(real_store.store("aborted")) as store:
        upload = await create(store)
        await put(real_store, store, upload, 1, b"data")
        await store.abort(upload)
        await store.abort(upload)
        assert await store.find_open() == []
        assert await store.stat(ANY_UPLOAD, Algorithm.NONE) is None


async def test_an_unknown_upload_is_gone(real_store: Backend) -> None:
    """Not moto: it responds with 500."""
    async with contextlib.aclosing(real_store.store("unknown")) as store:
        upload = await create(store)
        await store.abort(upload)
        with pytest.raises(Fault) as listing:
            await store.list_parts(upload, Algorithm.NONE)
        record = PartRecord(number=1, size=4, etag='"x"', checksum=crc(b"data"), proof=PartProof.CHECKSUM)
        with pytest.raises(Fault) as completing:
            await store.complete(upload, [record], size=4, algorithm=Algorithm.CRC64NVME, checksum=crc(b"data"))
        (request,) = await store.sign(upload, [UnsignedPart(1, 4, headers_of(b"data"))])
        with pytest.raises(Fault) as putting:
            await send(real_store, request, b"data")
    assert {e.value.kind for e in (listing, completing, putting)} == {FaultKind.GONE}
    for e in (listing, completing, putting):
        assert_secretless(e.value, [real_store.secret])


async def test_open_uploads_are_of_exactly_this_key(any_store: Backend) -> None:
    stores = [any_store.store(key) for key in ("exact", "exact/deeper", "exactly", "exac")]
    async with contextlib.AsyncExitStack() as stack:
        for store in stores:
            await stack.enter_async_context(contextlib.aclosing(store))
        uploads = [await create(store) for store in stores]
        second = await create(stores[0])
        assert {found.upload_id for found in await stores[0].find_open()} == {uploads[0], second}
        for store, upload in zip(stores[1:], uploads[1:], strict=True):
            assert [found.upload_id for found in await store.find_open()] == [upload]
        (found,) = await stores[1].find_open()
        assert datetime.datetime.fromisoformat(found.initiated).tzinfo is not None
        for store, upload in zip(stores, uploads, strict=True):
            await store.abort(upload)
        await stores[0].abort(second)


async def test_open_uploads_over_several_pages(fake: Backend) -> None:
    assert fake.s3 is not None
    fake.s3.knobs.page_size = 2
    async with contextlib.aclosing(fake.store("key")) as store, contextlib.aclosing(fake.store("key-2")) as other:
        uploads = [await create(store) for _ in range(5)]
        assert await create(other)
        assert {found.upload_id for found in await store.find_open()} == set(uploads)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
async def test_lists_of_parts_over_several_pages(fake: Backend, count: int) -> None:
    assert fake.s3 is not None
    fake.s3.knobs.page_size = 2
    async with contextlib.aclosing(fake.store()) as store:
        upload = await create(store)
        for number in range(1, count + 1):
            await put(fake, store, upload, number, bytes([number]))
        rows = await store.list_parts(upload, Algorithm.CRC64NVME)
    assert [(row.number, row.size, row.checksum) for row in rows] == [
        (number, 1, crc(bytes([number]))) for number in range(1, count + 1)
    ]


@pytest.mark.slow
async def test_ten_thousand_rows(fake: Backend) -> None:
    assert fake.s3 is not None
    async with contextlib.aclosing(fake.store()) as store:
        upload = await create(store)
        await put(fake, store, upload, 1, b"x")
        parts = fake.s3.uploads[upload].parts
        parts |= {number: replace(parts[1], number=number) for number in range(2, 10_001)}
        rows = await store.list_parts(upload, Algorithm.CRC64NVME)
    assert [row.number for row in rows] == list(range(1, 10_001))
    assert fake.s3.count("ListParts") == 10


# --- what a signed URL is bound to


async def test_the_url_is_bound_to_number_length_and_checksum(real_store: Backend) -> None:
    async with contextlib.aclosing(real_store.store("bound")) as store:
        upload = await create(store)
        data, other = b"the part", b"THE PART"
        (request,) = await store.sign(upload, [UnsignedPart(1, len(data), headers_of(data))])
        url = urllib.parse.urlsplit(request.url)
        altered = {
            "number": replace(request, url=request.url.replace("partNumber=1", "partNumber=2")),
            "upload": replace(request, url=request.url.replace(f"uploadId={upload[:8]}", f"uploadId=x{upload[1:8]}")),
            "key": replace(request, url=request.url.replace("/bound?", "/free?")),
            "no checksum": replace(request, headers={}),
            "other checksum": replace(request, headers=headers_of(other)),
            "a header more": replace(request, headers={**request.headers, "x-amz-storage-class": "GLACIER"}),
        }
        assert all(each.url != request.url or each.headers != request.headers for each in altered.values())
        for what, each in altered.items():
            with pytest.raises(Fault) as caught:
                await send(real_store, each, other if what == "other checksum" else data)
            assert (caught.value.status or 0) // 100 == 4, what
            assert_secretless(caught.value, [real_store.secret])
        with pytest.raises(Fault) as longer:
            await send(real_store, request, data + b"!")
        assert longer.value.kind is FaultKind.REFUSED
        with pytest.raises(Fault) as different:
            await send(real_store, request, other)
        assert different.value.kind is FaultKind.CORRUPTED
        await send(real_store, request, data)
        (row,) = await store.list_parts(upload, Algorithm.CRC64NVME)
        assert (row.number, row.size) == (1, len(data))
        assert {"X-Amz-Expires=3600"} < set(url.query.split("&"))
        await store.abort(upload)


async def test_a_url_expires(fake: Backend) -> None:
    assert fake.s3 is not None
    async with contextlib.aclosing(fake.store()) as store:
        upload = await create(store)
        (request,) = await store.sign(upload, [UnsignedPart(1, 4, headers_of(b"data"))])
        assert request.expires_in == 3600
        fake.s3.clock = lambda: time.time() + 3601
        with pytest.raises(Fault) as caught:
            await send(fake, request, b"data")
    assert caught.value.kind is FaultKind.REFUSED


async def test_content_md5_is_bound_too(real_store: Backend) -> None:
    async with contextlib.aclosing(real_store.store("md5")) as store:
        upload = (await store.create(Plan(4, PART), Algorithm.MD5, declare=True, token=TOKEN)).upload_id
        digest = base64.b64encode(hashlib.md5(b"data").digest()).decode()
        (request,) = await store.sign(upload, [UnsignedPart(1, 4, {"content-md5": digest})])
        with pytest.raises(Fault) as caught:
            await send(real_store, request, b"DATA")
        assert caught.value.kind is FaultKind.CORRUPTED
        assert (await send(real_store, request, b"data")).etag == f'"{hashlib.md5(b"data").hexdigest()}"'
        await store.abort(upload)


async def test_many_are_signed_at_once_in_order(fake: Backend) -> None:
    async with contextlib.aclosing(fake.store()) as store:
        parts = [UnsignedPart(n, n, headers_of(bytes(n))) for n in range(1, 101)]
        requests = await store.sign("an-upload", parts)
    assert [f"partNumber={n}&" in r.url + "&" for n, r in enumerate(requests, 1)] == [True] * 100
    assert [r.headers for r in requests] == [p.headers for p in parts]
    assert "X-Amz-Signature" not in repr(requests[0])


# --- keys

KEYS = [
    "with space.bin", "ünïcode/日本語.bin", "a+b", "100%", "%41", "a//b", "~tilde", "a=b&c", "#hash", "quo\"te'",
    "a?b=c", "semi;colon,comma", "back\\slash", "dots/../up", "./here", "a:b@c", "(paren)*!", "trailing ",
]  # fmt: skip


@each_case("key", KEYS)
async def test_keys_of_every_kind(fake: Backend, key: str) -> None:
    assert fake.s3 is not None
    fake.s3.objects[BUCKET].clear()
    await check_there_and_back(fake, key)
    assert list(fake.s3.objects[BUCKET]) == [key]
    found = urllib.parse.urlsplit(fake.store(key).url())
    assert found.scheme == "s3"  # not yet connected


@each_case("key", [k for k in KEYS if not any(odd in k for odd in ("//", "..", "./", "\\"))])
async def test_keys_of_every_kind_in_seaweedfs(weed: LocalStore, tmp_path: Path, key: str) -> None:
    """It keeps keys as paths: those that are no clean path are others there, and a backslash it does not list."""
    options = options_for(weed)
    await check_there_and_back(Backend("seaweedfs", options, tmp_path), key)


async def check_there_and_back(backend: Backend, key: str) -> None:
    async with contextlib.aclosing(backend.store(key)) as store:
        upload = await create(store, 4)
        assert [found.upload_id for found in await store.find_open()] == [upload]
        record = await put(backend, store, upload, 1, b"data")
        await store.complete(upload, [record], size=4, algorithm=Algorithm.CRC64NVME, checksum=crc(b"data"))
        seen = await store.stat(ANY_UPLOAD, Algorithm.CRC64NVME)
        assert seen is not None
        assert (seen.size, seen.token) == (4, TOKEN)
        path = urllib.parse.urlsplit(store.url()).path
        assert urllib.parse.unquote(path) == f"/{BUCKET}/{key}"


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"endpoint_url": "http://127.0.0.1:9"}, "http://127.0.0.1:9/bucket/a%20b/c"),
        ({"endpoint_url": "http://s3.test:9", "addressing": "virtual"}, "http://bucket.s3.test:9/a%20b/c"),
        ({"endpoint_url": "http://s3.test:9", "addressing": "path"}, "http://s3.test:9/bucket/a%20b/c"),
        ({"region": "eu-west-1"}, "https://bucket.s3.eu-west-1.amazonaws.com/a%20b/c"),
        ({"region": "eu-west-1", "addressing": "path"}, "https://s3.eu-west-1.amazonaws.com/bucket/a%20b/c"),
    ],
)
async def test_the_objects_url(options: dict[str, Any], url: str) -> None:
    store = S3Store(BUCKET, "a b/c", S3Options(access_key="a", secret_key="s", **options))
    async with contextlib.aclosing(store):
        (request,) = await store.sign("upload", [UnsignedPart(1, 4, {})])
        assert store.url() == url
        assert request.url.startswith(f"{url}?")
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in request.url
