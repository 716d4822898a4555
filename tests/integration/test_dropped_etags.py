"""A proxy drops the ETag of responses: the store is asked for it. If that is not possible, the upload ends at once."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

import bigupload
from bigupload import PartProof, Verified, errors, events
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StoreResponse
from tests.tools.waiting import until

from .support import BUCKET, FAST, PART, World

PUTS = frozenset({"UploadPart", "PutObject"})
TO = f"s3://{BUCKET}/key"


def dropping(*others: str, leaves: str | None = None) -> Callable[[str, StoreResponse], StoreResponse]:
    """Drop the ETag from responses to PUTs, and to `others`. `leaves` comes in its place."""
    left = {} if leaves is None else {"ETag": leaves}

    def respond(op: str, response: StoreResponse) -> StoreResponse:
        if op not in PUTS | {*others}:
            return response
        return replace(response, headers={k: v for k, v in response.headers.items() if k != "ETag"} | left)

    return respond


@pytest.fixture(
    params=[dropping(), dropping("HeadObject"), dropping(leaves='""')], ids=["of PUTs", "of HEAD too", "empty ones"]
)
def dropped(world: World, request: pytest.FixtureRequest) -> World:
    world.s3.knobs.respond = request.param
    return world


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("checksum", "echoes", "verified", "proof"),
    [
        ("auto", True, Verified.FULL_OBJECT, PartProof.CHECKSUM),
        ("auto", False, Verified.COMPOSITE_ETAG, PartProof.ETAG),
        ("md5", True, Verified.COMPOSITE_ETAG, PartProof.ETAG),
    ],
    ids=["checksums", "a store without checksums", "md5"],
)
async def test_parts_are_proved_by_the_list(
    dropped: World, checksum: str, echoes: bool, verified: Verified, proof: PartProof
) -> None:
    dropped.s3.knobs.echo_checksums = dropped.s3.knobs.default_crc64nvme = echoes
    path = dropped.file(6 * PART)
    result = await dropped.upload(path, checksum=checksum)
    assert dropped.holds(path)
    assert sorted(dropped.sent()) == [1, 2, 3, 4, 5, 6]
    assert dropped.s3.count("ListParts") <= 6
    assert result.verified is verified
    assert result.etag == dropped.object().etag
    assert result.retries == 0
    assert {event.proof for event in dropped.told(events.PartUploaded)} == {proof}
    assert dropped.warnings().count("a proxy on the way drops it") == 1


async def test_parts_that_wait_share_a_list(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Else an upload of ten thousand parts would read ten thousand lists of up to ten thousand rows."""
    world.s3.knobs.respond = dropping()
    caplog.set_level(logging.DEBUG, "bigupload.engine")
    world.s3.hold("ListParts")
    path = world.file(6 * PART)
    uploading = asyncio.create_task(world.upload(path, concurrency=6))
    try:
        await until(lambda: caplog.text.count(": acknowledged after ") == 6)
    finally:
        world.s3.release()
    await uploading
    assert world.holds(path)
    assert world.s3.count("ListParts") <= 3


async def test_a_part_that_the_store_does_not_list_is_sent_again(world: World) -> None:
    """Something else has responded: the part never came to the store."""
    path = world.file(3 * PART)
    world.s3.script("UploadPart", Status(200), part_number=2)
    await world.upload(path)
    assert world.holds(path)
    assert sorted(world.sent()) == [1, 2, 2, 3]


async def test_a_list_with_another_checksum_is_a_damaged_part(world: World) -> None:
    dropped = dropping()

    def respond(op: str, response: StoreResponse) -> StoreResponse:
        if op == "ListParts":
            wrong = re.sub(rb"(<ChecksumCRC64NVME>)[^<]+", rb"\1AAAAAAAAAAA=", response.body)
            return replace(response, body=wrong)
        return dropped(op, response)

    world.s3.knobs.respond = respond
    with pytest.raises(errors.PartCorrupted, match="checksum mismatch"):
        await world.upload(world.file(3 * PART))


@pytest.mark.parametrize(
    "refusal", [Status(501, "NotImplemented"), Status(403, "AccessDenied")], ids=["no lists", "no permission"]
)
async def test_without_a_list_the_upload_ends_at_once(world: World, refusal: Status) -> None:
    world.s3.knobs.respond = dropping()
    world.s3.script("ListParts", refusal, repeat=True)
    with pytest.raises(errors.PartUnproved, match=r"no ETag, and the store's list .* drops the ETag header") as caught:
        await world.upload(world.file(3 * PART))
    assert caught.value.exit_code == 1
    assert len(world.sent()) == len(set(world.sent()))


@pytest.mark.parametrize("echoes", [True, False], ids=["checksums", "none"])
async def test_a_small_file_is_looked_at(dropped: World, echoes: bool) -> None:
    dropped.s3.knobs.echo_checksums = dropped.s3.knobs.default_crc64nvme = echoes
    path = dropped.file(100)
    result = await bigupload.upload(
        path, to=TO, s3=dropped.options(), on_event=dropped.events.append, uploader=bigupload.Uploader(retry=FAST)
    )
    assert dropped.holds(path)
    hides = dropped.s3.knobs.respond("HeadObject", StoreResponse(200, {"ETag": "e"})).headers == {}
    if echoes:
        assert result.verified is Verified.FULL_OBJECT
    else:
        assert result.verified is (Verified.SIZE if hides else Verified.COMPOSITE_ETAG)
    assert result.etag == ("" if hides else dropped.object().etag)
    assert [request.op for request in dropped.s3.requests] == ["PutObject", "HeadObject"]
    assert dropped.warnings().count("a proxy on the way drops it") == 1


async def test_a_small_file_that_is_not_there_is_sent_again(world: World) -> None:
    path = world.file(100)
    world.s3.script("PutObject", Status(200))
    await bigupload.upload(path, to=TO, s3=world.options(), uploader=bigupload.Uploader(retry=FAST))
    assert world.holds(path)
    assert world.s3.count("PutObject") == 2


async def test_a_small_file_that_may_not_be_looked_at(world: World) -> None:
    world.s3.knobs.respond = dropping()
    world.s3.script("HeadObject", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.PartUnproved, match=r"no ETag, and the object .* drops the ETag header") as caught:
        await bigupload.upload(world.file(100), to=TO, s3=world.options(), uploader=bigupload.Uploader(retry=FAST))
    assert caught.value.exit_code == 1
    assert world.s3.count("PutObject") == 1


async def test_many_small_files(dropped: World) -> None:
    files = [dropped.file(100 + n, f"{n}.bin", seed=n) for n in range(3)]
    async with bigupload.Uploader(retry=FAST) as uploader:
        results = [result async for result in uploader.upload_many(files, to=f"s3://{BUCKET}/p/", s3=dropped.options())]
    assert [type(result) for result in results] == 3 * [bigupload.UploadResult]
    assert {key: found.body for key, found in dropped.s3.objects[BUCKET].items()} == {
        f"p/{path.name}": path.read_bytes() for path in files
    }
