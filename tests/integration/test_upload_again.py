"""The same file to the same target again: what is said, what is sent, and what is skipped because it is there."""

from __future__ import annotations

import pickle

import pytest

import bigupload
from bigupload import Verified, errors, events

from .stopped import edit
from .support import BUCKET, PART, World


async def test_the_same_upload_again_says_that_the_object_is_replaced(world: World) -> None:
    path = world.file(3 * PART)
    await world.upload(path)
    assert world.warnings() == ""
    result = await world.upload(path)
    assert not result.skipped
    assert world.s3.count("CreateMultipartUpload") == 2
    assert "s3://bucket/key was uploaded before: uploading it again, which replaces the object" in world.warnings()
    assert "skip_existing" in world.warnings()


@pytest.mark.parametrize("checksum", ["auto", "crc32c", "sha256", "md5"])
async def test_an_object_that_is_the_file_is_skipped(world: World, checksum: str) -> None:
    path = world.file(3 * PART)
    first = await world.upload(path, checksum=checksum)
    before = len(world.s3.requests)
    result = await world.upload(path, skip_existing=True)
    assert {r.op for r in list(world.s3.requests)[before:]} == {"HeadObject"}
    assert result.skipped
    # The store computes a CRC64NVME of objects that were uploaded by MD5, and that is the stronger proof.
    assert result.verified.satisfies(first.verified)
    assert (result.url, result.etag, result.size) == (first.url, first.etag, first.size)
    assert (result.bytes_sent, result.parts, result.manifest) == (0, 0, first.manifest)
    (told,) = world.told(events.UploadSkipped)
    assert len(world.told(events.UploadCompleted)) == 1, "of the first"
    assert told == events.UploadSkipped(upload=told.upload, url=result.url, etag=result.etag, verified=result.verified)
    assert world.warnings() == ""
    assert pickle.loads(pickle.dumps(result)) == result


async def test_an_object_of_another_tool_is_skipped_too(world: World) -> None:
    path = world.file(PART)
    client = world.s3.client()
    client.put_object(Bucket=BUCKET, Key="key", Body=path.read_bytes())
    client.close()
    assert (await world.upload(path, skip_existing=True)).skipped
    assert not world.manifest_path.exists() or not world.manifest_path.stat().st_size


async def test_without_an_object_or_with_another_one_the_file_is_uploaded(world: World) -> None:
    path = world.file(3 * PART)
    assert not (await world.upload(path, skip_existing=True)).skipped
    edit(path, 2)
    assert not (await world.upload(path, skip_existing=True)).skipped
    assert world.holds(path)
    assert "is not there or not proved to equal the file any more: uploading it again" in world.warnings()
    assert "skip_existing" not in world.warnings()  # it was given


async def test_what_is_not_proved_is_not_skipped(world: World) -> None:
    world.s3.knobs.default_crc64nvme = False
    world.s3.knobs.etags = "opaque"
    path = world.file(PART)
    await world.upload(path, checksum="none")
    again = await world.upload(path, checksum="none", skip_existing=True)
    assert (again.skipped, again.verified) == (False, Verified.SIZE)


async def test_less_proof_than_is_required_is_not_skipped(world: World) -> None:
    world.s3.knobs.default_crc64nvme = False
    path = world.file(3 * PART)
    await world.upload(path, checksum="sha256")
    assert (await world.upload(path, skip_existing=True, require_proof="composite-checksum")).skipped
    assert not (await world.upload(path, skip_existing=True, require_proof="full-object")).skipped


async def test_an_unfinished_upload_is_resumed(world: World) -> None:
    path = world.file(6 * PART)
    await world.interrupted(path, after=3)
    result = await world.upload(path, skip_existing=True)
    assert not result.skipped
    assert result.resumed_parts >= 3


async def test_a_media_service_has_no_object_to_skip_for(world: World) -> None:
    with pytest.raises(errors.UsageError, match="makes a new one for each upload"):
        await bigupload.upload(world.file(1), service="https://media.example.com", skip_existing=True)
