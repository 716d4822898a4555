"""The options that S3 has for an object and for each request: where they are sent, what is kept, what is refused."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import S3Options, errors, events
from bigupload.s3_parameters import OBJECT, parameters
from bigupload.stores.local_store import LocalStore
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.stores.s3.support import PARAMETERS
from tests.tools.buckets import options_for
from tests.tools.cases import each_case
from tests.tools.weed import weed_client

from .backends import Backend, create, put
from .support import BUCKET, FAST, KIB, PART, World, content

KEY = bytes(range(32))
OWNER = "111122223333"
LATER = "2999-01-31T00:00:00Z"
TO = f"s3://{BUCKET}/key"

_LOCK = {"object_lock_mode": "GOVERNANCE", "object_lock_retain_until": LATER}
"""Each needs the other, and a time that has not come."""


@pytest.fixture
def world_tls(s3_tls: StrictS3, tmp_path: Path, small_limits: None) -> World:
    return World(s3_tls, tmp_path)


def named(warnings: list[events.Event]) -> str:
    return " ".join(event.message for event in warnings if isinstance(event, events.Warned))


# -- the object


@each_case("name", OBJECT)
async def test_create_declares_the_property(fake: Backend, name: str) -> None:
    """That the headers are those of boto3 for the same property is shown by tests/stores/s3."""
    assert fake.s3 is not None
    options = _LOCK if name in _LOCK else {name: PARAMETERS[name][0]}
    wanted = parameters(OBJECT, S3Options(**options))
    assert wanted
    async with contextlib.aclosing(fake.store(**options)) as store:
        upload = fake.s3.uploads[await create(store)]
        await put(fake, store, upload.id, 1, b"data")
    found = {name: value for name, value in upload.headers.items() if name != "x-amz-meta-bigupload-token"}
    assert found == wanted or found == wanted | {"content-type": "binary/octet-stream"}


async def test_resuming_keeps_the_properties(world: World) -> None:
    path = world.file(6 * PART)
    began = {"cache_control": "no-store", "object_lock_mode": "GOVERNANCE", "object_lock_retain_until": LATER}
    await world.interrupted(path, after=2, s3=world.options(**began))
    world.s3.clear()
    await world.upload(path, options=world.options(cache_control="max-age=60", acl="private"))
    found = world.s3.objects[BUCKET]["key"].headers
    assert (found["cache-control"], found["x-amz-object-lock-retain-until-date"]) == ("no-store", LATER)
    assert "x-amz-acl" not in found
    for option in ("cache_control", "acl", "object_lock_mode", "object_lock_retain_until"):
        assert option in named(world.events)


async def test_a_retention_that_has_ended_starts_no_upload(world: World) -> None:
    options = world.options(object_lock_mode="GOVERNANCE", object_lock_retain_until="2020-01-01T00:00:00Z")
    with pytest.raises(errors.UsageError, match="`object_lock_retain_until` is in the past: 2020-01-01T00:00:00Z"):
        await world.upload(world.file(KIB), options=options)
    assert world.s3.requests == []


@pytest.mark.parametrize("checksum", ["md5", "none"])
async def test_a_locked_object_has_checksums(world: World, checksum: Any) -> None:
    options = world.options(object_lock_legal_hold=True)
    if checksum == "none":
        with pytest.raises(errors.UsageError, match="a locked object needs checksums: use another `checksum`"):
            await world.upload(world.file(KIB), options=options, checksum=checksum)
        assert world.s3.requests == []
    else:
        await world.upload(world.file(KIB), options=options, checksum=checksum)
        (sent,) = [request.headers for request in world.s3.requests if request.op == "UploadPart"]
        assert "content-md5" in sent


async def test_the_local_store_shows_the_properties(weed: LocalStore, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(content(KIB))
    properties: dict[str, Any] = {
        "cache_control": "max-age=60",
        "content_disposition": "attachment",
        "content_encoding": "gzip",
        "content_language": "de-CH",
        "content_type": "video/mp4",
        "expires": "2027-01-31T00:00:00Z",
        "storage_class": "STANDARD_IA",
    }
    weed_client(weed).create_bucket(Bucket="properties")
    options = S3Options(
        endpoint_url=weed.endpoint_url, region=weed.region, access_key=weed.access_key, secret_key=weed.secret_key,
        **properties,
    )  # fmt: skip
    result = await bigupload.upload(path, to="s3://properties/key", s3=options, uploader=bigupload.Uploader(retry=FAST))
    found = weed_client(weed).head_object(Bucket="properties", Key="key")
    assert result.version_id is None
    assert found["CacheControl"] == "max-age=60"
    assert found["ContentDisposition"] == "attachment"
    assert found["ContentEncoding"] == "gzip"
    assert found["ContentLanguage"] == "de-CH"
    assert found["ContentType"] == "video/mp4"
    assert found["ExpiresString"] == "Sun, 31 Jan 2027 00:00:00 GMT"


# -- every request

_SSE_C = "x-amz-server-side-encryption-customer-"
OF_SSE_C = {
    _SSE_C + "algorithm": "AES256",
    _SSE_C + "key": base64.b64encode(KEY).decode(),
    _SSE_C + "key-md5": "tP/LI3N87DFaSk0aoqYgzg==",
}
WITH_KEY = {
    "CreateMultipartUpload", "UploadPart", "ListParts", "CompleteMultipartUpload", "HeadObject", "GetObject",
}  # fmt: skip
WITHOUT_KEY = {"AbortMultipartUpload", "ListMultipartUploads"}
"""The operations that take a customer key, and the others, by https://docs.aws.amazon.com/AmazonS3/latest/API/."""


async def test_requests_carry_owner_payer_and_key_wherever_s3_takes_them(world_tls: World) -> None:
    world = world_tls
    world.s3.knobs.requester_pays = True
    options = world.options(sse_customer_key=KEY, expected_bucket_owner=OWNER, request_payer=True, if_none_match=True)
    path = world.file(6 * PART)
    await world.interrupted(path, after=2, s3=options)
    world.s3.clear()
    result = await world.resume(s3=S3Options(sse_customer_key=KEY))
    assert result.verified is bigupload.Verified.FULL_OBJECT
    assert result.resumed_parts >= 2
    await bigupload.verify(path, TO, s3=options)
    await bigupload.read_back(path, TO, s3=options)
    other = world.file(2 * PART, "other.bin")
    second = world.directory / "second.jsonl"
    await world.interrupted(other, after=1, s3=options, to=f"s3://{BUCKET}/adopted", manifest=second)
    world.s3.clear()
    second.unlink()
    third = world.directory / "third.jsonl"
    await bigupload.adopt(
        f"s3://{BUCKET}/adopted", source=other, s3=options, manifest=third, uploader=bigupload.Uploader(retry=FAST)
    )
    await world.interrupted(path, after=1, s3=options, to=f"s3://{BUCKET}/aborted", manifest=second)
    await bigupload.abort(second, s3=S3Options(sse_customer_key=KEY), uploader=bigupload.Uploader(retry=FAST))
    seen = {record.op for record in world.s3.requests}
    assert seen >= WITH_KEY | WITHOUT_KEY
    for record in world.s3.requests:
        assert record.headers["x-amz-expected-bucket-owner"] == OWNER, record.op
        assert record.headers["x-amz-request-payer"] == "requester", record.op
        given = {name: value for name, value in record.headers.items() if name.startswith(_SSE_C)}
        assert given == (OF_SSE_C if record.op in WITH_KEY else {}), record.op


async def test_a_customer_key_is_in_no_file_and_no_url(world_tls: World) -> None:
    world = world_tls
    await world.interrupted(world.file(6 * PART), after=2, s3=world.options(sse_customer_key=KEY))
    text = "".join(path.read_text(errors="replace") for path in world.directory.rglob("*.jsonl"))
    assert '"needs_sse_customer_key":true' in text
    for form in (base64.b64encode(KEY).decode(), KEY.hex(), repr(KEY), OF_SSE_C[_SSE_C + "key-md5"]):
        assert form not in text
        assert all(form not in "&".join(record.query.values()) for record in world.s3.requests)


async def test_a_missing_customer_key_is_asked_for_before_anything_is_sent(world_tls: World) -> None:
    world = world_tls
    path = world.file(6 * PART)
    await world.interrupted(path, after=2, s3=world.options(sse_customer_key=KEY))
    sent = len(world.s3.requests)
    asked = r"encrypted with a key of your own \(SSE-C\).*`sse_customer_key`"
    with pytest.raises(errors.UsageError, match=asked):
        await world.resume()
    with pytest.raises(errors.UsageError, match=asked):
        await world.upload(path)
    assert len(world.s3.requests) == sent


async def test_an_upload_without_a_customer_key_is_not_resumed_with_one(world_tls: World) -> None:
    world = world_tls
    path = world.file(6 * PART)
    await world.interrupted(path, after=2)
    world.s3.clear()
    with pytest.raises(errors.UsageError, match="this upload began without `sse_customer_key`"):
        await world.upload(path, options=world.options(sse_customer_key=KEY))
    await world.resume(s3=S3Options(sse_customer_key=KEY))  # a key for other uploads
    assert "x-amz-server-side-encryption-customer-algorithm" not in world.s3.objects[BUCKET]["key"].headers


async def test_an_upload_with_a_customer_key_is_aborted_without_it(world_tls: World) -> None:
    world = world_tls
    await world.interrupted(world.file(6 * PART), after=2, s3=world.options(sse_customer_key=KEY))
    # A part that was in flight survived the abort, and the store does not list it without the key.
    world.s3.script("ListParts", Status(400, "InvalidRequest"))
    await bigupload.abort(world.manifest_path, uploader=bigupload.Uploader(retry=FAST))
    assert world.s3.uploads == {}
    assert world.s3.count("AbortMultipartUpload") == 2


async def test_gc_needs_the_customer_key_and_says_so(world_tls: World) -> None:
    world = world_tls
    options = world.options(sse_customer_key=KEY)
    await world.interrupted(world.file(6 * PART), after=2, s3=options)
    world.manifest_path.unlink()
    failed: list[str] = []
    without = await bigupload.abort_orphans(
        f"s3://{BUCKET}/",
        s3=world.options(),
        older_than=0,
        on_failure=lambda _, e: failed.append(str(e)),
        uploader=bigupload.Uploader(retry=FAST),
    )
    assert without.orphans == 0
    assert ["`sse_customer_key`" in each for each in failed] == [True]
    assert (
        await bigupload.abort_orphans(
            f"s3://{BUCKET}/", s3=options, older_than=0, uploader=bigupload.Uploader(retry=FAST)
        )
    ).orphans == 1
    assert world.s3.uploads == {}


async def test_the_wrong_owner_gets_nothing(world: World) -> None:
    with pytest.raises(errors.AccessDenied):
        await world.upload(world.file(KIB), options=world.options(expected_bucket_owner="999999999999"))
    assert world.s3.uploads == {}
    assert world.s3.objects[BUCKET] == {}


# -- versions


@pytest.mark.parametrize("checksum", ["auto", "md5"])
async def test_the_result_has_the_version(world: World, checksum: Any) -> None:
    world.s3.knobs.versioning = True
    result = await world.upload(world.file(2 * PART), checksum=checksum)
    assert result.version_id == world.s3.objects[BUCKET]["key"].version_id is not None
    assert (await world.resume()).version_id == result.version_id


async def test_without_versions_the_result_has_none(world: World) -> None:
    assert (await world.upload(world.file(KIB))).version_id is None


async def test_the_local_store_gives_versions(weed: LocalStore, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(content(KIB))
    client = weed_client(weed)
    client.create_bucket(Bucket="versions")
    client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    options = options_for(weed)
    result = await bigupload.upload(path, to="s3://versions/key", s3=options, uploader=bigupload.Uploader(retry=FAST))
    assert result.version_id == client.head_object(Bucket="versions", Key="key")["VersionId"]
