"""What a store refuses, and how S3Store says it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

import bigupload
from bigupload import S3Options, Verified, errors
from bigupload.core.checksums import Algorithm
from bigupload.core.part_plan import MIB
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import UnsignedPart
from bigupload.stores import targets
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.s3.multipart import S3Store
from bigupload.testing.faults import LostResponse, Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.buckets import options_for

from .backends import ANY_UPLOAD, Backend, crc, create, headers_of, put, raised, send, strict
from .support import BUCKET, PART, World, content


async def test_a_folder_of_the_objects_name_is_named(weed: LocalStore) -> None:
    """SeaweedFS keeps keys as files, and completes no upload whose key is a folder there: it answers 500 for ever."""
    to, options = f"s3://{BUCKET}/folders", options_for(weed)
    for key in ("new/below", "old", "old/below"):
        await bigupload.upload(b"data", to=f"{to}/{key}", s3=options)
    async with contextlib.aclosing(S3Bucket(BUCKET, options)) as bucket:  # as S3's console makes a folder
        await bucket.call("to make a folder", "PutObject", Key="folders/marked/", Body=b"")
    for key in ("new", "old", "marked"):
        with pytest.raises(errors.StoreRefused, match=rf"keeps a folder {to}/{key}/ .*upload to another key") as raised:
            await bigupload.upload(content(5 * MIB + 17), to=f"{to}/{key}", s3=options, part_size=5 * MIB)
        assert (raised.value.exit_code, raised.value.resumable) == (errors.EXIT_FAILED, False)
        assert raised.value.manifest is not None
        await bigupload.abort(raised.value.manifest, s3=options)


async def test_an_error_of_s3_is_tried_again_whatever_is_below(world: World, small_limits: None) -> None:
    to = f"s3://{BUCKET}/key"
    await bigupload.upload(b"data", to=f"{to}/below", s3=world.options())
    objects = world.s3.objects[BUCKET]
    for marker in ({}, {"key/": objects["key/below"]}):  # as S3's console makes a folder
        objects.update(marker)
        world.s3.script("CompleteMultipartUpload", Status(500, "InternalError"))
        path = world.file(2 * PART, seed=len(marker))
        result = await world.upload(path, to=to, part_size=PART, manifest=None)
        assert (result.verified, result.retries) == (Verified.FULL_OBJECT, 1)


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
    store = await targets.connect(BUCKET, "key", S3Options(profile="mine", addressing="path"))
    async with contextlib.aclosing(store):
        assert await create(store) in fake.s3.uploads
    assert store.target.endpoint == fake.s3.url


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
        assert "`region='eu-north-1'`" in str(e)
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


@pytest.mark.parametrize(
    "endpoint",
    [
        "nonsense", "ftp://host", "http://", "http://host:port", "127.0.0.1:9000", "http://a..b",
        f"http://{'a' * 64}.com", "http://bücher..example",
    ],
)  # fmt: skip
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
    assert "`ca_bundle`" in str(e)


async def test_a_ca_bundle_that_is_missing(s3_tls: StrictS3, tmp_path: Path) -> None:
    async with contextlib.aclosing(strict(s3_tls, tmp_path).store(ca_bundle=tmp_path / "missing.pem")) as store:
        e = await raised(create(store), [s3_tls.secret_key])
    assert "can't use the CA bundle" in str(e)
    assert "missing.pem" in str(e)


@pytest.mark.parametrize(("offset", "way"), [(3600, "slow"), (-3600, "fast")])
async def test_a_skewed_clock(fake: Backend, offset: int, way: str) -> None:
    """As the store sees it: its clock, and the Date of its responses, are an hour off."""
    assert fake.s3 is not None
    date = datetime.datetime.fromtimestamp(time.time() + offset, datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    fake.s3.script("CreateMultipartUpload", Status(403, "RequestTimeTooSkewed", headers={"Date": date}))
    async with contextlib.aclosing(fake.store()) as store:
        e = await raised(create(store), [fake.secret])
    assert isinstance(e, Fault)
    assert isinstance(e.public(), errors.ClockSkewed)
    assert re.search(rf"clock is (1 h|59 min|1:00 h) {way}: set it", str(e)), "the responses take some seconds"


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
        (request,) = await store.sign(upload, [UnsignedPart(1, 4, headers_of(b"data"))])
        await send(fake, request, b"data")
        fake.s3.clock = lambda: time.time() + 61
        e = await raised(store.list_parts(upload, Algorithm.NONE), secrets)
        assert isinstance(e, Fault)
        assert e.kind is FaultKind.REFUSED
        assert isinstance(e.public(), errors.CredentialsError)
        e = await raised(send(fake, request, b"data"), secrets)
        assert isinstance(e, Fault)
        assert e.kind is FaultKind.REFUSED
        e = await raised(store.stat(upload, Algorithm.NONE), secrets)  # whose response has no body to say why
        assert isinstance(e, Fault)
        assert (e.kind, e.status) == (FaultKind.REFUSED, 400)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Status(500, "InternalError"), FaultKind.SERVER),
        (Status(503, "SlowDown", headers={"Retry-After": "7"}), FaultKind.BUSY),
        (Status(503), FaultKind.BUSY),
        (Status(502), FaultKind.SERVER),
        (Status(403), FaultKind.REFUSED),
        (Status(405, "MethodNotAllowed"), FaultKind.UNSUPPORTED),
    ],
)
async def test_refusals_in_general(fake: Backend, fault: Status, kind: FaultKind) -> None:
    """Each is one request; but HEAD is asked once more without checksums, if the store may not know these."""
    assert fake.s3 is not None
    if kind is FaultKind.UNSUPPORTED:
        fake.s3.script("HeadObject", fault)
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
    assert len(fake.s3.requests) == (6 if kind is FaultKind.UNSUPPORTED else 5)


async def test_an_abort_whose_parts_can_not_be_listed_is_not_known_to_be_one(fake: Backend) -> None:
    assert fake.s3 is not None
    async with contextlib.aclosing(fake.store()) as store:
        upload = await create(store)
        fake.s3.script("ListParts", Status(500, "InternalError"))
        e = await raised(store.abort(upload), [fake.secret])
    assert isinstance(e, Fault)
    assert e.kind is FaultKind.SERVER


async def test_a_lost_response_is_broken(fake: Backend) -> None:
    assert fake.s3 is not None
    fake.s3.script("CreateMultipartUpload", LostResponse())
    async with contextlib.aclosing(fake.store()) as store:
        e = await raised(create(store), [fake.secret])
    assert isinstance(e, Fault)
    assert e.kind is FaultKind.BROKEN
    assert fake.s3.count("CreateMultipartUpload") == 1


@pytest.mark.parametrize("way", get_args(Way))
async def test_the_buckets_region_is_found_by_several_calls_at_once(fake: Backend, way: Way) -> None:
    """Uploads share a connection: a second redirect must not take the found region for one that the user named."""
    assert fake.s3 is not None
    fake.s3.knobs.wrong_region = way
    fake.s3.create_bucket("far-away", region="eu-north-1")
    async with contextlib.aclosing(fake.store(bucket="far-away", region=None)) as store:
        uploads = await asyncio.gather(*(create(store.at(f"key-{n}")) for n in range(4)))
    assert set(uploads) == set(fake.s3.uploads)
