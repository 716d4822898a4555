"""Going on where an upload stopped, by its manifest and by what the store has; and giving it up."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import PartProof, S3Options, Verified, errors, events
from bigupload.core.part_plan import MIB
from bigupload.manifests.journal import read_manifest
from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.weed import fetch

from .stopped import PARTS, SIZE, edit, lines, the_file, touch
from .support import BUCKET, FAST, PART, World, content, no_leaks, of_function, write

# --- by the manifest


@pytest.mark.parametrize("by", ["upload", "resume"])
async def test_only_what_is_missing_is_sent(stopped: World, by: str) -> None:
    missing, before = stopped.missing(), len(stopped.s3.requests)
    stopped.events.clear()
    async with no_leaks():
        result = await (stopped.upload(the_file(stopped)) if by == "upload" else stopped.resume())
    assert stopped.holds(the_file(stopped))
    assert result.verified is Verified.FULL_OBJECT
    assert sorted(stopped.sent(since=before)) == missing
    plan = stopped.manifest.plan
    sizes = sum(plan.part(number).size for number in missing)
    assert result.bytes_sent == sizes
    received = sum(r.bytes_received for r in stopped.s3.requests[before:] if r.op == "UploadPart")
    assert received == sizes
    assert result.resumed_parts == PARTS - len(missing)
    (started,) = stopped.told(events.UploadStarted)
    assert (started.resumed_parts, started.resumed_bytes) == (PARTS - len(missing), SIZE - sizes)
    assert stopped.s3.count("CreateMultipartUpload") == 1


async def test_interrupted_again_and_again(world: World) -> None:
    path, world.parts = world.file(40 * PART), 40
    for _ in range(5):
        await world.interrupted(path, after=2)
        await world.settled()
    result = await world.upload(path)
    assert world.holds(path)
    assert result.resumed_parts >= 10
    acknowledged = [r.part_number for r in world.s3.requests if r.op == "UploadPart" and r.status == 200]
    assert len(acknowledged) - 40 <= 5, "sent twice is at most what was in flight at an interruption"


async def test_another_plan_or_checksum_is_kept_to_the_first(stopped: World) -> None:
    result = await stopped.upload(the_file(stopped), part_size=2 * PART, checksum="sha256")
    assert stopped.holds(the_file(stopped))
    assert (result.parts, result.verified) == (PARTS, Verified.FULL_OBJECT)
    assert "began with `part_size='64KiB'`, and keeps it (`resume=False`" in stopped.warnings()
    assert "began with `checksum='crc64nvme'`, and keeps it (`resume=False`" in stopped.warnings()


async def test_a_touched_file_is_hashed_again_and_kept(stopped: World) -> None:
    touch(the_file(stopped))
    missing, before, recorded = stopped.missing(), len(stopped.s3.requests), len(stopped.manifest.parts)
    stopped.events.clear()
    result = await stopped.upload(the_file(stopped))
    assert stopped.holds(the_file(stopped))
    assert sorted(stopped.sent(since=before)) == missing
    assert "touched" in stopped.told(events.Hashing)[0].reason
    assert stopped.told(events.Hashing)[0].parts == recorded
    assert stopped.manifest.source.mtime_ns == 10**9
    assert result.verified is Verified.FULL_OBJECT


@pytest.mark.parametrize("checksum", ["auto", "md5", "none"])
async def test_only_the_edited_part_is_sent_again(world: World, checksum: str) -> None:
    path = world.file(SIZE)
    await world.interrupted(path, after=3, checksum=checksum)
    await world.settled()
    edited = min(world.manifest.parts)
    edit(path, edited)
    missing, before = world.missing(), len(world.s3.requests)
    result = await world.upload(path, checksum=checksum)
    assert world.holds(path)
    assert sorted(world.sent(since=before)) == sorted([*missing, edited])
    assert result.parts == PARTS


async def test_a_moved_file(stopped: World) -> None:
    moved = stopped.directory / "moved.bin"
    the_file(stopped).rename(moved)
    with pytest.raises(errors.SourceNotFound):
        await stopped.resume()
    missing, before = stopped.missing(), len(stopped.s3.requests)
    result = await stopped.resume(source=moved)
    assert (result.path, stopped.holds(moved)) == (moved, True)
    assert sorted(stopped.sent(since=before)) == missing
    assert stopped.manifest.source.path == str(moved)


async def test_a_copy_of_the_file(stopped: World) -> None:
    copy = stopped.directory / "copy.bin"
    shutil.copy(the_file(stopped), copy)
    missing, before = stopped.missing(), len(stopped.s3.requests)
    await stopped.resume(source=copy)
    assert stopped.holds(copy)
    assert sorted(stopped.sent(since=before)) == missing


@pytest.mark.parametrize("size", [5, SIZE - 1, SIZE + 1])
async def test_another_size_is_refused_and_nothing_touched(stopped: World, size: int) -> None:
    write(the_file(stopped), size)
    before, journal = len(stopped.s3.requests), stopped.manifest_path.read_bytes()
    for attempt in (lambda: stopped.upload(the_file(stopped)), stopped.resume):
        with pytest.raises(errors.SourceChanged, match="nothing was changed") as caught:
            await attempt()
        assert (caught.value.exit_code, caught.value.resumable) == (1, False)
    assert stopped.manifest_path.read_bytes() == journal
    assert len(stopped.s3.requests) == before
    assert len(stopped.s3.uploads) == 1


async def test_aborted_elsewhere_starts_again_and_says_so(stopped: World) -> None:
    stopped.s3.uploads.clear()
    result = await stopped.upload(the_file(stopped))
    assert stopped.holds(the_file(stopped))
    assert (result.resumed_parts, result.verified) == (0, Verified.FULL_OBJECT)
    (restarted,) = stopped.told(events.Restarted)
    assert "lifecycle" in restarted.reason
    assert stopped.manifest.token == stopped.object().metadata["bigupload-token"]
    (record,) = [line for line in stopped.manifest_path.read_text().splitlines() if '"type":"restart"' in line]
    assert '"key"' not in record, "it is as before"


async def test_a_restart_of_a_file_that_was_touched_uploads_it_once(stopped: World) -> None:
    stopped.s3.uploads.clear()
    os.utime(the_file(stopped))
    result = await stopped.upload(the_file(stopped))
    assert stopped.holds(the_file(stopped))
    assert result.bytes_sent == the_file(stopped).stat().st_size
    assert stopped.s3.count("CompleteMultipartUpload") == 1
    assert stopped.manifest.source.mtime_ns == the_file(stopped).stat().st_mtime_ns


async def test_a_restart_declares_what_the_manifest_says(stopped: World) -> None:
    """A store that refuses now what it took before: parts without the checksum that is recorded would be no proof."""
    stopped.s3.uploads.clear()
    stopped.s3.knobs.refuse_checksum_algorithm = 400
    with pytest.raises(errors.StoreRefused):
        await stopped.upload(the_file(stopped))
    assert stopped.s3.count("UploadPart", status=400) == 0
    await stopped.upload(the_file(stopped), resume=False)
    assert stopped.holds(the_file(stopped))


async def test_a_restart_of_what_was_not_declared_does_not_declare(world: World) -> None:
    """A store that takes now what it refused before: it would want checksums that the parts do not come with."""
    world.s3.knobs.refuse_checksum_algorithm = 400
    path = world.file(SIZE)
    await world.interrupted(path, after=2)
    world.s3.knobs.refuse_checksum_algorithm = False
    world.s3.uploads.clear()
    result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert world.s3.count("UploadPart", status=400) == 0


async def test_a_part_that_the_store_lost_is_sent_again(stopped: World) -> None:
    (upload,) = stopped.s3.uploads.values()
    lost = min(stopped.manifest.parts)
    del upload.parts[lost]
    missing, before = stopped.missing(), len(stopped.s3.requests)
    assert lost in missing
    await stopped.resume()
    assert stopped.holds(the_file(stopped))
    assert sorted(stopped.sent(since=before)) == missing


async def test_a_part_that_someone_else_replaced_is_sent_again(stopped: World) -> None:
    (upload,) = stopped.s3.uploads.values()
    number = min(stopped.manifest.parts)
    theirs = content(PART, seed=77)
    client = stopped.s3.client()
    client.upload_part(
        Bucket=BUCKET, Key="key", UploadId=upload.id, PartNumber=number, Body=theirs, ChecksumAlgorithm="CRC64NVME"
    )
    client.close()
    missing, before = stopped.missing(), len(stopped.s3.requests)
    await stopped.resume()
    assert stopped.holds(the_file(stopped))
    assert sorted(stopped.sent(since=before)) == sorted([*missing, number])


async def test_pages_of_parts(stopped: World) -> None:
    stopped.s3.knobs.page_size = 2
    missing, before = stopped.missing(), len(stopped.s3.requests)
    await stopped.resume()
    assert stopped.holds(the_file(stopped))
    assert sorted(stopped.sent(since=before)) == missing


# --- abort


async def test_abort_frees_the_parts_and_is_recorded(stopped: World) -> None:
    await bigupload.abort(stopped.manifest_path)
    assert not stopped.s3.uploads
    assert stopped.manifest.status == "aborted"
    with pytest.raises(errors.UploadGone, match="aborted"):
        await stopped.resume()
    await bigupload.abort(stopped.manifest_path)
    result = await stopped.upload(the_file(stopped))
    assert (result.resumed_parts, stopped.holds(the_file(stopped))) == (0, True)


@pytest.mark.parametrize("fault", [Status(409, "OperationAborted"), Status(409), Status(507)], ids=str)
async def test_abort_and_its_list_of_parts_are_retried(stopped: World, fault: Status) -> None:
    stopped.s3.script("ListParts", fault)
    stopped.s3.script("AbortMultipartUpload", fault)
    async with bigupload.Uploader(retry=FAST) as uploader:
        await uploader.abort(stopped.manifest_path)
    assert (stopped.s3.count("AbortMultipartUpload"), stopped.s3.count("ListParts")) == (3, 1)
    assert stopped.manifest.status == "aborted"
    assert not stopped.s3.uploads


async def test_an_abort_that_leaves_parts_is_repeated_and_not_recorded(stopped: World) -> None:
    stopped.s3.script("AbortMultipartUpload", Status(204), repeat=True)  # it does nothing
    with pytest.raises(errors.StoreUnavailable, match="parts of the aborted upload are still there"):
        await bigupload.abort(stopped.manifest_path)
    assert (stopped.s3.count("AbortMultipartUpload"), stopped.manifest.status) == (10, "uploading")


async def test_abort_of_a_completed_upload_is_refused(world: World) -> None:
    path = world.file(1)
    await world.upload(path)
    with pytest.raises(errors.UsageError, match="complete"):
        await bigupload.abort(world.manifest_path)
    assert world.holds(path)


async def test_abort_of_an_adopted_upload_that_is_complete_is_refused_where_no_record_says_so(stopped: World) -> None:
    """It has no token by which its object could be told."""
    stopped.manifest_path.unlink()
    await stopped.adopt(the_file(stopped))
    stopped.manifest_path.write_bytes(b"".join(lines(stopped)[:-1]))
    with pytest.raises(errors.UsageError, match="resume the upload to prove it"):
        await bigupload.abort(stopped.manifest_path, trust=True)
    assert stopped.manifest.status == "completing"


async def test_abort_of_an_adopted_upload_that_is_open_beside_an_object_of_the_same_bytes(stopped: World) -> None:
    (upload_id,) = stopped.s3.uploads
    await stopped.upload(the_file(stopped), manifest=stopped.directory / "another.manifest.jsonl")
    stopped.manifest_path.unlink()
    stopped.s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    stopped.s3.script("HeadObject", Status(403), repeat=True)
    with pytest.raises(errors.StoreError):
        await stopped.adopt(the_file(stopped))
    assert stopped.manifest.status == "completing"
    stopped.s3.clear()
    assert list(stopped.s3.uploads) == [upload_id]
    await bigupload.abort(stopped.manifest_path)
    assert not stopped.s3.uploads


async def test_a_failed_abort_names_the_manifest(stopped: World) -> None:
    stopped.s3.script("AbortMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied) as caught:
        await bigupload.abort(stopped.manifest_path)
    assert (caught.value.manifest, caught.value.exit_code) == (stopped.manifest_path, errors.EXIT_RESUMABLE)
    assert stopped.manifest.status == "uploading"


async def test_a_failed_abort_of_an_aborted_upload_leaves_nothing_to_resume(stopped: World) -> None:
    await bigupload.abort(stopped.manifest_path)
    stopped.s3.script("AbortMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied) as caught:
        await bigupload.abort(stopped.manifest_path)
    assert (caught.value.manifest, caught.value.exit_code) == (None, errors.EXIT_FAILED)


# --- SeaweedFS


@pytest.fixture
def at_weed(weed: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Options:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", weed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", weed.secret_key)
    return S3Options(endpoint_url=weed.endpoint_url, region=weed.region)


@pytest.mark.parametrize("how", ["resume", "adopt"])
async def test_seaweedfs_goes_on(weed: LocalStore, at_weed: S3Options, tmp_path: Path, how: str) -> None:
    path, key = write(tmp_path / "file", 4 * 5 * MIB + 7), f"goes-on/{how}"
    manifest = tmp_path / "m"
    helper = World(None, tmp_path)
    await helper.interrupted(path, after=2, s3=at_weed, to=f"s3://{BUCKET}/{key}", manifest=manifest, part_size=5 * MIB)
    recorded = len(read_manifest(manifest).manifest.parts)
    async with bigupload.Uploader(retry=FAST) as uploader:
        if how == "resume":
            result = await uploader.resume(manifest)
        else:
            manifest.unlink()
            result = await uploader.adopt(f"s3://{BUCKET}/{key}", source=path, s3=at_weed, manifest=manifest)
    assert result.resumed_parts >= recorded >= 2
    assert result.parts == 5
    assert fetch(weed, BUCKET, key) == path.read_bytes()
    proofs = {part.proof for part in read_manifest(manifest).manifest.parts.values()}
    assert PartProof.NONE not in proofs
    assert how == "adopt" or result.verified is Verified.FULL_OBJECT


async def test_seaweedfs_completed_but_not_recorded(weed: LocalStore, at_weed: S3Options, tmp_path: Path) -> None:
    path, manifest = write(tmp_path / "file", 5 * MIB + 7), tmp_path / "m"
    where: dict[str, Any] = {"to": f"s3://{BUCKET}/unrecorded", "s3": at_weed, "manifest": manifest, "retry": FAST}
    await bigupload.upload(path, part_size=5 * MIB, **of_function(where))
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:-1]))
    result = await bigupload.upload(path, **of_function(where))
    assert (result.bytes_sent, result.verified) == (0, Verified.FULL_OBJECT)


async def test_the_local_store_may_come_back_on_another_port(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def comes_up_at(url: str) -> None:
        store = LocalStore(
            endpoint_url=url, access_key=StrictS3.access_key, secret_key=StrictS3.secret_key, region=world.s3.region,
            data_dir=world.directory, pid=1,
        )  # fmt: skip
        monkeypatch.setattr(local_store, "start", lambda: store)

    path = world.file(SIZE)
    world.s3.create_bucket("bigupload")
    comes_up_at(world.s3.url)
    await world.interrupted(path, after=3, s3=S3Options(local=True), to=None)
    await world.settled()
    assert world.s3.url not in world.manifest_path.read_text()
    with FaultProxy("127.0.0.1", world.s3.port) as proxy:
        comes_up_at(proxy.url)
        missing, before = world.missing(), len(world.s3.requests)
        result = await world.upload(path, to=None, options=S3Options(local=True))
        assert sorted(world.sent(since=before)) == missing
        assert result.url.startswith(proxy.url)
    assert world.s3.objects["bigupload"]["file.bin"].body == path.read_bytes()
