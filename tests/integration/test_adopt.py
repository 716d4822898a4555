"""Going on from nothing but the file and what the store has of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import Verified, errors
from bigupload.ports import ListedPart
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3.multipart import S3Store
from bigupload.testing.faults import LostResponse, Status

from .stopped import PARTS, SIZE, edit, lines, the_file
from .support import BUCKET, KIB, World, content, no_leaks, write


async def test_adopt_without_any_manifest(stopped: World) -> None:
    stopped.manifest_path.unlink()
    missing, before = stopped.missing(), len(stopped.s3.requests)
    async with no_leaks():
        result = await stopped.adopt(the_file(stopped))
    assert stopped.holds(the_file(stopped))
    assert (result.verified, result.resumed_parts) == (Verified.FULL_OBJECT, PARTS - len(missing))
    assert sorted(stopped.sent(since=before)) == missing
    assert stopped.s3.count("CreateMultipartUpload") == 1
    assert stopped.manifest.token is None


async def test_adopt_keeps_only_what_is_the_files(stopped: World) -> None:
    stopped.manifest_path.unlink()
    (upload,) = stopped.s3.uploads.values()
    edited = min(upload.parts)
    edit(the_file(stopped), edited)
    missing, before = stopped.missing(), len(stopped.s3.requests)
    await stopped.adopt(the_file(stopped))
    assert stopped.holds(the_file(stopped))
    assert sorted(stopped.sent(since=before)) == sorted([*missing, edited])


async def test_adopt_from_a_store_that_lists_no_checksums(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    path = world.file(SIZE)
    await world.interrupted(path, after=3)
    await world.settled()
    world.manifest_path.unlink()
    missing, before = world.missing(), len(world.s3.requests)
    result = await world.adopt(path)
    assert world.holds(path)
    assert (result.verified, result.resumed_parts) == (Verified.COMPOSITE_ETAG, PARTS - len(missing))
    assert sorted(world.sent(since=before)) == missing


async def test_adopt_where_only_the_short_last_part_has_arrived(world: World) -> None:
    """It fits a plan of its own size, too, whose parts are fewer bytes than the store takes."""
    path = world.file(SIZE)
    client = world.s3.client()
    upload_id = client.create_multipart_upload(
        Bucket=BUCKET, Key="key", ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
    )["UploadId"]
    last = {"PartNumber": PARTS, "Body": path.read_bytes()[-100:], "ChecksumAlgorithm": "CRC64NVME"}
    client.upload_part(Bucket=BUCKET, Key="key", UploadId=upload_id, **last)
    client.close()
    before = len(world.s3.requests)
    result = await world.adopt(path)
    assert world.holds(path)
    assert (result.parts, result.resumed_parts) == (PARTS, 1)
    assert sorted(world.sent(since=before)) == list(range(1, PARTS))


async def test_adopt_of_parts_that_are_as_small_as_the_store_takes(world: World) -> None:
    size = 100 * KIB + 100
    path = world.file(size)
    await world.interrupted(path, after=3, part_size=KIB)
    await world.settled()
    world.manifest_path.unlink()
    result = await world.adopt(path)
    assert world.holds(path)
    assert result.parts == -(-size // KIB)
    assert result.resumed_parts >= 3


async def test_adopt_with_a_lost_response_is_recognised_by_content(stopped: World) -> None:
    stopped.manifest_path.unlink()
    stopped.s3.script("CompleteMultipartUpload", LostResponse())
    result = await stopped.adopt(the_file(stopped))
    assert stopped.holds(the_file(stopped))
    assert result.verified is Verified.FULL_OBJECT
    assert stopped.s3.count("CompleteMultipartUpload") == 1


async def test_adopt_of_none(world: World) -> None:
    with pytest.raises(errors.UploadGone, match="no open upload"):
        await world.adopt(world.file(SIZE))
    assert not world.manifest_path.exists()


async def test_several_to_adopt_are_listed_and_not_guessed(stopped: World) -> None:
    await stopped.upload(the_file(stopped), resume=False)
    await stopped.interrupted(the_file(stopped), after=2, resume=False)
    await stopped.settled()
    ids = list(stopped.s3.uploads)
    assert len(ids) == 2
    stopped.manifest_path.unlink()
    with pytest.raises(errors.UsageError, match="2 uploads") as caught:
        await stopped.adopt(the_file(stopped))
    assert all(upload in str(caught.value) for upload in ids)
    with pytest.raises(errors.UploadGone):
        await stopped.adopt(the_file(stopped), upload_id="no-such-id")
    await stopped.adopt(the_file(stopped), upload_id=ids[1])
    assert stopped.holds(the_file(stopped))
    assert list(stopped.s3.uploads) == [ids[0]]


async def test_adopt_of_what_has_a_manifest_is_refused(stopped: World) -> None:
    with pytest.raises(errors.ManifestMismatch, match="resume"):
        await stopped.adopt(the_file(stopped))


async def test_adopt_is_resumed_as_any_other(stopped: World) -> None:
    stopped.manifest_path.unlink()
    stopped.s3.script("UploadPart", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied) as caught:
        await stopped.adopt(the_file(stopped))
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    stopped.s3.clear()
    await stopped.resume()
    assert stopped.holds(the_file(stopped))


async def test_a_number_that_is_listed_twice(stopped: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SeaweedFS lists both uploads of a part that was sent twice: the one that is the file's is kept."""
    true_list = S3Store.list_parts

    async def twice(self: S3Store, *arguments: Any) -> list[ListedPart]:
        rows = await true_list(self, *arguments)
        return [ListedPart(row.number, row.size, f'"{"0" * 32}"', "AAAAAAAAAAA=") for row in rows] + rows

    monkeypatch.setattr(S3Store, "list_parts", twice)
    stopped.manifest_path.write_bytes(b"".join(lines(stopped)[:2]))
    missing, before = stopped.missing(), len(stopped.s3.requests)
    await stopped.resume()
    assert stopped.holds(the_file(stopped))
    assert sorted(stopped.sent(since=before)) == missing


async def test_parts_that_the_plan_has_not_are_left_out(stopped: World) -> None:
    """Someone else's parts in the same upload: other sizes, other numbers."""
    (upload,) = stopped.s3.uploads.values()
    client = stopped.s3.client()
    for number, size in ((PARTS + 3, 10), (PARTS, 5)):
        client.upload_part(
            Bucket=BUCKET, Key="key", UploadId=upload.id, PartNumber=number, Body=content(size),
            ChecksumAlgorithm="CRC64NVME",
        )  # fmt: skip
    client.close()
    await stopped.resume()
    assert stopped.holds(the_file(stopped))


async def test_a_failed_adopt_leaves_the_manifest_of_the_completed_upload(world: World) -> None:
    path = world.file(SIZE)
    done = await world.upload(path)
    with pytest.raises(errors.UploadGone, match="no open upload"):
        await world.adopt(path)
    assert world.warnings() == ""  # nothing was going to be sent again
    assert (await world.resume()).etag == done.etag


async def test_nothing_is_made_in_the_local_store(
    weed: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to adopt in a bucket that is not there."""
    monkeypatch.setenv("BIGUPLOAD_LOCAL_STORE_DIR", str(weed.data_dir))
    film = write(tmp_path / "film", 100)
    for _ in range(2):
        with pytest.raises(errors.BucketNotFound):
            await bigupload.adopt("s3://not-there/film", source=film, s3=bigupload.S3Options(local=True))
