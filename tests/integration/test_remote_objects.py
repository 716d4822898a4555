"""An object of a store is uploaded elsewhere, read through this machine."""

from __future__ import annotations

import hashlib
import time

import pytest

import bigupload
from bigupload import S3Options, errors
from bigupload.stores.local_store import LocalStore
from bigupload.testing.faults import Call, Ok, Status
from bigupload.testing.strict_s3.sigv4 import IssuedCredentials
from tests.tools.buckets import options_for
from tests.tools.weed import weed_client

from .remotes import DATA, PARTS, SIZE, holds
from .support import BUCKET, FAST, PART, World

FROM = f"s3://{BUCKET}/from/film.mov"


@pytest.fixture
def stored(world: World) -> World:
    """With the object to upload. The store does not copy it: `test_copied_objects` has what it copies."""
    world.s3.script("UploadPartCopy", Status(501, "NotImplemented"), repeat=True)
    bigupload.upload_sync(DATA, to=FROM, s3=world.options(content_type="video/x-of-its-own"), name="x")
    return world


def gets(world: World) -> list[tuple[int, int]]:
    """The ranges that were read."""
    found = [r.headers["range"].removeprefix("bytes=").split("-") for r in world.s3.requests if r.op == "GetObject"]
    return sorted((int(first), int(last) + 1) for first, last in found)


async def test_an_object_is_read_in_ranges_of_one_version(stored: World) -> None:
    result = await stored.upload(FROM, to=f"s3://{BUCKET}/copy/")
    assert (result.key, str(result.path), result.guarded_by) == ("copy/film.mov", "film.mov", "version")
    assert holds(stored, key="copy/film.mov")
    assert gets(stored) == [(number * PART, min(SIZE, (number + 1) * PART)) for number in range(PARTS)]
    etag = stored.object("from/film.mov").etag
    assert {r.headers["if-match"] for r in stored.s3.requests if r.op == "GetObject"} == {etag}
    assert stored.object("copy/film.mov").headers["content-type"] == "video/x-of-its-own"
    source = stored.manifest.source
    assert (source.path, source.kind, source.pin) == (FROM, "remote", etag)


async def test_what_is_recorded_is_not_read_again(stored: World) -> None:
    await stored.interrupted(FROM, after=3)
    unrecorded = PARTS - len(stored.manifest.parts)
    before = len(gets(stored))
    await stored.upload(FROM)
    assert holds(stored)
    assert len(gets(stored)) == before + unrecorded


@pytest.mark.slow
async def test_a_manifest_alone_resumes_the_upload_of_an_object(stored: World) -> None:
    await stored.interrupted(FROM, after=3)
    await stored.resume()
    assert holds(stored)


async def test_an_object_that_is_replaced_meanwhile(stored: World) -> None:
    stored.s3.script("GetObject", Status(412, "PreconditionFailed"))
    with pytest.raises(errors.SourceChanged, match=f"{FROM} was replaced or deleted while it was read") as caught:
        await stored.upload(FROM, to=f"s3://{BUCKET}/key")
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert stored.object() is None


async def test_ranges_that_may_be_of_different_versions(stored: World) -> None:
    stored.s3.knobs.respond = lambda op, response: response.without("ETag") if op == "GetObject" else response
    with pytest.raises(errors.SourceUnsupported, match=f"{FROM}: the store sends ranges without an ETag") as caught:
        await stored.upload(FROM, to=f"s3://{BUCKET}/key")
    assert caught.value.exit_code == errors.EXIT_FAILED
    assert stored.object() is None


async def test_a_store_that_caps_ranges_is_asked_for_the_rest(stored: World) -> None:
    stored.s3.knobs.most_of_range = PART // 3
    result = await stored.upload(FROM)
    assert holds(stored)
    assert result.retries == 0
    assert len(set(gets(stored))) == len(gets(stored)) > 3 * (PARTS - 1)


@pytest.mark.slow
async def test_a_store_that_is_busy(stored: World) -> None:
    stored.s3.script("GetObject", Status(503, "SlowDown"), Status(500, "InternalError"))
    result = await stored.upload(FROM)
    assert holds(stored)
    assert result.retries == 2


@pytest.mark.slow
async def test_a_url_that_is_refused_is_signed_again(stored: World) -> None:
    """With other credentials: those that signed the first URL end while ranges are read by it."""
    issued: list[IssuedCredentials] = []

    def issue() -> bigupload.Credentials:
        issued.append(stored.s3.issue_session(seconds=3600))
        new = issued[-1]
        return bigupload.Credentials(
            access_key=new.access_key, secret_key=new.secret_key, session_token=new.session_token
        )

    stored.s3.script("GetObject", Ok(), Call(lambda _: object.__setattr__(issued[0], "expires_at", time.time())))
    options = S3Options(endpoint_url=stored.s3.url, region=stored.s3.region, credentials=issue)
    result = await stored.upload(FROM, options=options)
    assert holds(stored)
    assert (len(issued), result.retries > 0) == (2, True)


@pytest.mark.slow
async def test_an_object_that_may_not_be_read(stored: World) -> None:
    stored.s3.script("GetObject", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.SourceUnreadable, match=f"{FROM}: the store refused to read the object: 403"):
        await stored.upload(FROM)


async def test_an_object_that_is_not_there(world: World) -> None:
    with pytest.raises(errors.SourceNotFound, match=f"there is no object at s3://{BUCKET}/none"):
        await world.upload(f"s3://{BUCKET}/none")


@pytest.mark.slow
async def test_an_object_of_a_bucket_that_is_not_there(world: World) -> None:
    with pytest.raises(errors.SourceNotFound, match="or no such bucket"):
        await world.upload("s3://none/none")


@pytest.mark.slow
async def test_an_empty_object(world: World) -> None:
    await bigupload.upload(b"", to=FROM, s3=world.options(), name="x")
    await world.upload(FROM)
    assert holds(world, b"")


async def test_what_is_said_of_the_target_is_not_sent_to_the_source(stored: World) -> None:
    options = stored.options(expected_bucket_owner=stored.s3.knobs.owner, storage_class="STANDARD_IA")
    stored.s3.requests.clear()
    await stored.upload(FROM, options=options)
    asked = {(request.key, "x-amz-expected-bucket-owner" in request.headers) for request in stored.s3.requests}
    assert asked == {("from/film.mov", False), ("key", True)}


@pytest.mark.slow
def test_a_real_store(weed: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one bucket of SeaweedFS into another."""
    options = options_for(weed)
    client = weed_client(weed)
    client.create_bucket(Bucket="remote-copies")
    data = DATA * 40
    source = f"s3://{BUCKET}/remote/film.mov"
    bigupload.upload_sync(data, to=source, s3=options, name="x", uploader=bigupload.Uploader(retry=FAST))
    result = bigupload.upload_sync(
        source, to="s3://remote-copies/", s3=options, part_size="5MiB", uploader=bigupload.Uploader(retry=FAST)
    )
    assert (result.parts, result.verified) == (-(-len(data) // (5 << 20)), "full-object")
    found = client.get_object(Bucket="remote-copies", Key="film.mov")["Body"].read()
    assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest()
    client.close()
