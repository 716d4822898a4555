"""One contract for every store behind S3Store: the strict fake over http and https, SeaweedFS, and moto.

moto proves nothing about signing or integrity (it takes any signature and any checksum) and lists no checksums: it runs
only the tests that say so by using `any_store`, which are about the shape of calls and answers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import hashlib
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import boto3
import pytest
from awscrt import checksums as crt
from botocore.config import Config

from bigupload import S3Options, errors
from bigupload.checksums import Algorithm, ChecksumType
from bigupload.local_store import LocalStore
from bigupload.manifest import PartRecord
from bigupload.planning import MIB, Part, Plan
from bigupload.ports import PartToSign, PutAnswer, SignedRequest
from bigupload.proof import PartProof
from bigupload.retry import Fault, FaultKind
from bigupload.source import FileSource
from bigupload.stores.s3 import S3Store
from bigupload.transport import HttpTransport
from tests.tools.strict_s3 import LostAnswer, Stall, Status, StrictS3
from tests.tools.waiting import until

from .support import BUCKET, assert_secretless, content

PART = 5 * MIB  # of the least size that real stores take
TOKEN = "0123456789abcdef0123456789abcdef"
ANY_UPLOAD = "any"


@dataclass
class Backend:
    """A store to reach, and who it is."""

    name: str
    options: S3Options
    directory: Path
    s3: StrictS3 | None = None

    def store(self, key: str = "key", bucket: str = BUCKET, **changed: Any) -> S3Store:
        return S3Store(bucket, key, replace(self.options, **changed))

    @property
    def secret(self) -> str:
        assert self.options.secret_key is not None
        return self.options.secret_key


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="moto-secret-key", region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    client.close()
    yield url
    server.stop()


def strict(s3: StrictS3, directory: Path) -> Backend:
    options = S3Options(
        endpoint_url=s3.url,
        region=s3.region,
        ca_bundle=s3.ca_bundle,
        access_key=s3.access_key,
        secret_key=s3.secret_key,
    )
    return Backend("strict", options, directory, s3)


def backend(name: str, request: pytest.FixtureRequest, directory: Path) -> Backend:
    if name == "moto":
        url: str = request.getfixturevalue("moto")
        return Backend(
            name,
            S3Options(endpoint_url=url, region="us-east-1", access_key="a", secret_key="moto-secret-key"),
            directory,
        )
    if name == "seaweedfs":
        weed: LocalStore = request.getfixturevalue("weed")
        options = S3Options(
            endpoint_url=weed.endpoint_url, region=weed.region, access_key=weed.access_key, secret_key=weed.secret_key
        )
        return Backend(name, options, directory)
    s3: StrictS3 = request.getfixturevalue("s3_tls" if name == "strict-https" else "s3")
    return strict(s3, directory)


@pytest.fixture(params=["strict-http", "strict-https", "seaweedfs"])
def real_store(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """A store that checks what it is sent."""
    return backend(request.param, request, tmp_path)


@pytest.fixture(params=["strict-http", "strict-https", "seaweedfs", "moto"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Also a store that believes everything."""
    return backend(request.param, request, tmp_path)


@pytest.fixture
def fake(s3: StrictS3, tmp_path: Path) -> Backend:
    return strict(s3, tmp_path)


# --- one part by hand


def crc(data: bytes) -> str:
    return base64.b64encode(crt.crc64nvme(data).to_bytes(8, "big")).decode()


def headers_of(data: bytes) -> dict[str, str]:
    return {Algorithm.CRC64NVME.header: crc(data)}


async def create(store: S3Store, size: int = PART, **more: Any) -> str:
    arguments: dict[str, Any] = {"declare": True, "token": TOKEN} | more
    return (await store.create(Plan(size, PART), Algorithm.CRC64NVME, **arguments)).upload_id


async def send(backend: Backend, request: SignedRequest, data: bytes, number: int = 1) -> PutAnswer:
    path = backend.directory / f"part-{number}"
    path.write_bytes(data)
    with FileSource(path) as source:
        async with HttpTransport(ca_bundle=backend.options.ca_bundle) as transport:
            return await transport.put(request, source, Part(number, 0, len(data)), on_start=lambda _: None)


async def put(backend: Backend, store: S3Store, upload: str, number: int, data: bytes) -> PartRecord:
    (request,) = await store.sign(upload, [PartToSign(number, len(data), headers_of(data))])
    answer = await send(backend, request, data, number)
    return PartRecord(number=number, size=len(data), etag=answer.etag, checksum=crc(data), proof=PartProof.CHECKSUM)


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
            look = await store.look()
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
    """Not moto: it answers 500."""
    async with contextlib.aclosing(real_store.store("unknown")) as store:
        upload = await create(store)
        await store.abort(upload)
        with pytest.raises(Fault) as listing:
            await store.list_parts(upload, Algorithm.NONE)
        record = PartRecord(number=1, size=4, etag='"x"', checksum=crc(b"data"), proof=PartProof.CHECKSUM)
        with pytest.raises(Fault) as completing:
            await store.complete(upload, [record], size=4, algorithm=Algorithm.CRC64NVME, checksum=crc(b"data"))
        (request,) = await store.sign(upload, [PartToSign(1, 4, headers_of(b"data"))])
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
        (request,) = await store.sign(upload, [PartToSign(1, len(data), headers_of(data))])
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
        (request,) = await store.sign(upload, [PartToSign(1, 4, headers_of(b"data"))])
        assert request.expires_in == 3600
        fake.s3.clock = lambda: time.time() + 3601
        with pytest.raises(Fault) as caught:
            await send(fake, request, b"data")
    assert caught.value.kind is FaultKind.REFUSED


async def test_content_md5_is_bound_too(real_store: Backend) -> None:
    async with contextlib.aclosing(real_store.store("md5")) as store:
        upload = (await store.create(Plan(4, PART), Algorithm.MD5, declare=True, token=TOKEN)).upload_id
        digest = base64.b64encode(hashlib.md5(b"data").digest()).decode()
        (request,) = await store.sign(upload, [PartToSign(1, 4, {"content-md5": digest})])
        with pytest.raises(Fault) as caught:
            await send(real_store, request, b"DATA")
        assert caught.value.kind is FaultKind.CORRUPTED
        assert (await send(real_store, request, b"data")).etag == f'"{hashlib.md5(b"data").hexdigest()}"'
        await store.abort(upload)


async def test_many_are_signed_at_once_in_order(fake: Backend) -> None:
    async with contextlib.aclosing(fake.store()) as store:
        parts = [PartToSign(n, n, headers_of(bytes(n))) for n in range(1, 101)]
        requests = await store.sign("an-upload", parts)
    assert [f"partNumber={n}&" in r.url + "&" for n, r in enumerate(requests, 1)] == [True] * 100
    assert [r.headers for r in requests] == [p.headers for p in parts]
    assert "X-Amz-Signature" not in repr(requests[0])


# --- keys

KEYS = [
    "with space.bin", "ünïcode/日本語.bin", "a+b", "100%", "%41", "a//b", "~tilde", "a=b&c", "#hash", "quo\"te'",
    "a?b=c", "semi;colon,comma", "back\\slash", "dots/../up", "./here", "a:b@c", "(paren)*!", "trailing ",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
async def test_keys_of_every_kind(fake: Backend, key: str) -> None:
    await check_there_and_back(fake, key)
    assert fake.s3 is not None
    assert list(fake.s3.objects[BUCKET]) == [key]
    found = urllib.parse.urlsplit(fake.store(key).url())
    assert found.scheme == "s3"  # not yet connected


@pytest.mark.parametrize("key", [k for k in KEYS if not any(odd in k for odd in ("//", "..", "./", "\\"))])
async def test_keys_of_every_kind_in_seaweedfs(weed: LocalStore, tmp_path: Path, key: str) -> None:
    """It keeps keys as paths: those that are no clean path are others there, and a backslash it does not list."""
    options = S3Options(
        endpoint_url=weed.endpoint_url, region=weed.region, access_key=weed.access_key, secret_key=weed.secret_key
    )
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
        (request,) = await store.sign("upload", [PartToSign(1, 4, {})])
        assert store.url() == url
        assert request.url.startswith(f"{url}?")
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in request.url


# --- what is refused, and how it is said


async def raised(awaitable: Any, secrets: list[str]) -> BaseException:
    """What it raises, which holds nothing secret."""
    with pytest.raises((Fault, errors.BigUploadError)) as caught:
        await awaitable
    assert_secretless(caught.value, secrets)
    return caught.value


async def test_no_such_bucket(fake: Backend) -> None:
    """SeaweedFS can't be asked: it makes the bucket for one who may."""
    async with contextlib.aclosing(fake.store(bucket="no-such-bucket")) as store:
        for call in (lambda: create(store), store.find_open):
            e = await raised(call(), [fake.secret])
            assert isinstance(e, errors.BucketNotFound)
            assert "no-such-bucket" in str(e)


@pytest.mark.parametrize("bucket", ["Not A Bucket", "x"])
async def test_a_bucket_name_that_is_none(fake: Backend, bucket: str) -> None:
    async with contextlib.aclosing(fake.store(bucket=bucket)) as store:
        e = await raised(create(store), [fake.secret])
    assert isinstance(e, errors.UsageError | errors.BucketNotFound)


async def test_no_credentials(fake: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with contextlib.aclosing(fake.store(access_key=None, secret_key=None)) as store:
        e = await raised(create(store), [fake.secret])
    assert isinstance(e, errors.CredentialsError)
    assert "AWS_ACCESS_KEY_ID" in str(e)
    assert e.exit_code == 1, "there is no upload to resume"


async def test_half_of_the_credentials(fake: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with contextlib.aclosing(fake.store(access_key=None, secret_key=None)) as store:
        assert isinstance(await raised(create(store), [fake.secret]), errors.CredentialsError)


async def test_an_unknown_access_key(real_store: Backend) -> None:
    async with contextlib.aclosing(real_store.store(access_key="AKIANOBODY", secret_key="nobody's-secret")) as store:
        e = await raised(create(store), ["nobody's-secret"])
    assert isinstance(e, Fault)
    assert isinstance(e.public(), errors.CredentialsError | errors.AccessDenied)


async def test_a_wrong_secret_key(real_store: Backend) -> None:
    async with contextlib.aclosing(real_store.store(secret_key="another-secret")) as store:
        e = await raised(create(store), ["another-secret", real_store.secret])
    assert isinstance(e, Fault)
    assert e.kind is FaultKind.REFUSED


async def test_an_unknown_profile(fake: Backend) -> None:
    async with contextlib.aclosing(fake.store(profile="nobody", access_key=None, secret_key=None)) as store:
        e = await raised(create(store), [fake.secret])
    assert isinstance(e, errors.UsageError)
    assert "nobody" in str(e)


async def test_a_profile(fake: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, endpoint and region of the user's own configuration."""
    assert fake.s3 is not None
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    config = fake.directory / "config"
    config.write_text(
        f"[profile mine]\naws_access_key_id = {fake.s3.access_key}\naws_secret_access_key = {fake.s3.secret_key}\n"
        f"region = {fake.s3.region}\nendpoint_url = {fake.s3.url}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    async with contextlib.aclosing(S3Store(BUCKET, "key", S3Options(profile="mine", addressing="path"))) as store:
        assert await create(store) in fake.s3.uploads


Way = Literal["redirect", "malformed"]


@pytest.mark.parametrize("way", get_args(Way))
async def test_a_wrong_region_is_named(fake: Backend, way: Way) -> None:
    assert fake.s3 is not None
    fake.s3.knobs.wrong_region = way
    fake.s3.create_bucket("far-away", region="eu-north-1")
    calls: list[Callable[[S3Store], Any]] = [create, S3Store.find_open]
    for call in calls:
        async with contextlib.aclosing(fake.store(bucket="far-away", region="us-east-1")) as store:
            e = await raised(call(store), [fake.secret])
        assert isinstance(e, errors.WrongRegion)
        assert e.region == "eu-north-1"
        assert "--region eu-north-1" in str(e)
    assert not fake.s3.uploads


@pytest.mark.parametrize("way", get_args(Way))
async def test_the_buckets_region_is_found_where_none_was_asked_for(fake: Backend, way: Way) -> None:
    assert fake.s3 is not None
    fake.s3.knobs.wrong_region = way
    fake.s3.create_bucket("far-away", region="eu-north-1")
    async with contextlib.aclosing(fake.store(bucket="far-away", region=None)) as store:
        upload = await create(store)
        assert upload in fake.s3.uploads
        record = await put(fake, store, upload, 1, b"data")  # the URL is signed for the region that was found
        await store.complete(upload, [record], size=4, algorithm=Algorithm.CRC64NVME, checksum=crc(b"data"))
    assert fake.s3.objects["far-away"]["key"].body == b"data"


async def test_nothing_listens(fake: Backend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    async with contextlib.aclosing(fake.store(endpoint_url=url)) as store:
        e = await raised(create(store), [fake.secret])
    assert isinstance(e, Fault)
    assert e.kind is FaultKind.UNREACHABLE
    assert isinstance(e.public(), errors.StoreUnreachable)


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://host", "http://", "http://host:port", "127.0.0.1:9000"])
async def test_an_endpoint_that_is_none(fake: Backend, endpoint: str) -> None:
    async def attempt() -> None:
        async with contextlib.aclosing(fake.store(endpoint_url=endpoint)) as store:
            await create(store)

    e = await raised(attempt(), [fake.secret])
    assert isinstance(e, errors.UsageError)
    assert "https://s3.example.com:9000" in str(e)


async def test_a_certificate_that_nobody_vouches_for(s3_tls: StrictS3, tmp_path: Path) -> None:
    async with contextlib.aclosing(strict(s3_tls, tmp_path).store(ca_bundle=None)) as store:
        e = await raised(create(store), [s3_tls.secret_key])
    assert isinstance(e, errors.StoreRefused)
    assert "--ca-bundle" in str(e)


async def test_a_ca_bundle_that_is_missing(s3_tls: StrictS3, tmp_path: Path) -> None:
    async with contextlib.aclosing(strict(s3_tls, tmp_path).store(ca_bundle=tmp_path / "missing.pem")) as store:
        e = await raised(create(store), [s3_tls.secret_key])
    assert "--ca-bundle" in str(e)


@pytest.mark.parametrize(("offset", "way"), [(3600, "slow"), (-3600, "fast")])
async def test_a_skewed_clock(fake: Backend, offset: int, way: str) -> None:
    """As the store sees it: its clock, and the Date of its answers, are an hour off."""
    assert fake.s3 is not None
    date = datetime.datetime.fromtimestamp(time.time() + offset, datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    fake.s3.script("CreateMultipartUpload", Status(403, "RequestTimeTooSkewed", headers={"Date": date}))
    async with contextlib.aclosing(fake.store()) as store:
        e = await raised(create(store), [fake.secret])
    assert isinstance(e, Fault)
    assert isinstance(e.public(), errors.ClockSkewed)
    assert f"s {way}" in str(e)
    assert abs(int(str(e).split(" is ")[1].split(" s ")[0]) - 3600) <= 5


async def test_a_clock_that_really_is_off(fake: Backend) -> None:
    assert fake.s3 is not None
    fake.s3.clock = lambda: time.time() + 3600
    async with contextlib.aclosing(fake.store()) as store:
        e = await raised(create(store), [fake.secret])
    assert isinstance(e, Fault)
    assert e.kind is FaultKind.SKEWED


async def test_session_credentials_that_expire(fake: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fake.s3 is not None
    session = fake.s3.issue_session(seconds=60)
    assert session.session_token is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", session.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", session.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", session.session_token)
    secrets = [session.secret_key, session.session_token]
    async with contextlib.aclosing(fake.store(access_key=None, secret_key=None)) as store:
        upload = await create(store)
        (request,) = await store.sign(upload, [PartToSign(1, 4, headers_of(b"data"))])
        await send(fake, request, b"data")
        fake.s3.clock = lambda: time.time() + 61
        e = await raised(store.list_parts(upload, Algorithm.NONE), secrets)
        assert isinstance(e, Fault)
        assert e.kind is FaultKind.REFUSED
        assert isinstance(e.public(), errors.CredentialsError)
        e = await raised(send(fake, request, b"data"), secrets)
        assert isinstance(e, Fault)
        assert e.kind is FaultKind.REFUSED


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Status(500, "InternalError"), FaultKind.SERVER),
        (Status(503, "SlowDown", headers={"Retry-After": "7"}), FaultKind.BUSY),
        (Status(503), FaultKind.BUSY),
        (Status(502), FaultKind.SERVER),
        (Status(403), FaultKind.REFUSED),
        (Status(405, "MethodNotAllowed"), FaultKind.FINAL),
    ],
)
async def test_refusals_in_general(fake: Backend, fault: Status, kind: FaultKind) -> None:
    """Each is one request: botocore's own retries are off."""
    assert fake.s3 is not None
    for op in ("CreateMultipartUpload", "ListParts", "ListMultipartUploads", "HeadObject", "AbortMultipartUpload"):
        fake.s3.script(op, fault)
    async with contextlib.aclosing(fake.store()) as store:
        for call in (
            lambda: create(store),
            lambda: store.list_parts("u", Algorithm.NONE),
            store.find_open,
            lambda: store.stat(ANY_UPLOAD, Algorithm.NONE),
            lambda: store.abort("u"),
        ):
            e = await raised(call(), [fake.secret])
            assert isinstance(e, Fault)
            assert e.kind is kind
            assert e.retry_after == (7.0 if "Retry-After" in fault.headers else None)
    assert len(fake.s3.requests) == 5


async def test_a_lost_answer_is_broken(fake: Backend) -> None:
    assert fake.s3 is not None
    fake.s3.script("CreateMultipartUpload", LostAnswer())
    async with contextlib.aclosing(fake.store()) as store:
        e = await raised(create(store), [fake.secret])
    assert isinstance(e, Fault)
    assert e.kind is FaultKind.BROKEN
    assert fake.s3.count("CreateMultipartUpload") == 1


# --- what the object is to be


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
        assert e.kind is FaultKind.FINAL
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
        client = await store._bucket._client(60.0)
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
