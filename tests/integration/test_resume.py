"""Going on where an upload stopped: by the manifest, by what the store has, and from nothing but the file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import PartProof, S3Options, Verified, engine, errors, events, local_store
from bigupload.journal import read_manifest
from bigupload.local_store import LocalStore
from bigupload.planning import MIB
from bigupload.ports import StoredPart
from bigupload.stores.s3 import S3Store
from tests.tools.proxy import CountingProxy
from tests.tools.strict_s3 import LostAnswer, Status, StrictS3
from tests.tools.weed import fetch

from .support import BUCKET, FAST, PART, World, content, no_leaks, write

PARTS = 6
SIZE = (PARTS - 1) * PART + 100


@pytest.fixture
async def stopped(world: World) -> World:
    """Six parts, of which the store has some and misses some; its file is `file.bin`."""
    await world.interrupted(world.file(SIZE), after=3)
    await world.settled()
    assert 0 < len(world.missing()) < PARTS
    assert world.manifest.status == "uploading"
    return world


def the_file(world: World) -> Path:
    return world.directory / "file.bin"


def lines(world: World) -> list[bytes]:
    return world.manifest_path.read_bytes().splitlines(keepends=True)


def edit(path: Path, part: int) -> None:
    with path.open("r+b") as file:
        file.seek((part - 1) * PART + 7)
        file.write(b"edited")


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


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
    assert "going on with parts of 65,536 bytes" in stopped.warnings()
    assert "going on with crc64nvme checksums" in stopped.warnings()


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
        with pytest.raises(errors.SourceChanged, match="nothing was touched") as caught:
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


# --- completed, recorded or not


async def test_completed_but_not_recorded(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    world.manifest_path.write_bytes(b"".join(lines(world)[:-1]))
    assert world.manifest.status == "completing"
    before = len(world.s3.requests)
    result = await world.upload(path)
    assert result.verified is Verified.FULL_OBJECT
    assert [r.op for r in world.s3.requests[before:]] == ["HeadObject"]
    assert world.manifest.status == "completed"


async def test_completing_was_recorded_but_complete_never_went_out(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", Status(500), repeat=True)
    path = world.file(SIZE)
    with pytest.raises(errors.StoreUnavailable):
        await world.upload(path)
    assert world.manifest.status == "completing"
    world.s3.clear()
    before = len(world.s3.requests)
    result = await world.resume()
    assert world.holds(path)
    assert world.sent(since=before) == []
    assert result.resumed_parts == PARTS


async def test_completed_unrecorded_and_the_file_changed_since_uploads_it_as_it_is_now(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    world.manifest_path.write_bytes(b"".join(lines(world)[:-1]))
    edit(path, 2)
    await world.upload(path)
    assert world.holds(path)
    assert "set aside" in world.warnings() or "is now" in world.warnings()


async def test_resume_of_a_completed_unrecorded_upload_of_a_changed_file_only_says_so(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    world.manifest_path.write_bytes(b"".join(lines(world)[:-1]))
    before = world.object().sha256()
    edit(path, 2)
    result = await world.resume()
    assert result.verified is Verified.FULL_OBJECT
    assert world.object().sha256() == before
    assert "has changed since" in world.warnings()


async def test_completing_and_gone_and_no_object(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_LOOK_FOR", 0.0)
    path = world.file(SIZE)
    await world.upload(path)
    world.manifest_path.write_bytes(b"".join(lines(world)[:-1]))
    world.s3.objects[BUCKET].clear()
    with pytest.raises(errors.UploadGone, match="--no-resume") as caught:
        await world.upload(path)
    assert caught.value.exit_code == 1
    await world.upload(path, resume=False)
    assert world.holds(path)


async def test_completing_and_anothers_object(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_LOOK_FOR", 0.0)
    path = world.file(SIZE)
    await world.upload(path)
    world.manifest_path.write_bytes(b"".join(lines(world)[:-1]))
    client = world.s3.client()
    client.put_object(Bucket=BUCKET, Key="key", Body=b"theirs")
    client.close()
    with pytest.raises(errors.TargetReplaced):
        await world.resume()
    assert world.object().body == b"theirs"


async def test_resume_of_a_completed_upload_gives_its_result_again(world: World) -> None:
    path = world.file(SIZE)
    first = await world.upload(path)
    before = len(world.s3.requests)
    again = await world.resume()
    assert len(world.s3.requests) == before
    assert (again.etag, again.checksum, again.verified, again.url) == (
        first.etag,
        first.checksum,
        first.verified,
        first.url,
    )
    assert (again.resumed_parts, again.bytes_sent) == (PARTS, 0)


async def test_upload_of_what_is_completed_starts_anew(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    result = await world.upload(path)
    assert result.resumed_parts == 0
    assert world.s3.count("CreateMultipartUpload") == 2
    aside = Path(f"{world.manifest_path}.1")
    assert read_manifest(aside).manifest.status == "completed"


async def test_no_resume_sets_the_manifest_aside_and_says_so(stopped: World) -> None:
    result = await stopped.upload(the_file(stopped), resume=False)
    assert stopped.holds(the_file(stopped))
    assert result.resumed_parts == 0
    aside = Path(f"{stopped.manifest_path}.1")
    assert read_manifest(aside).manifest.status == "uploading"
    assert str(aside) in stopped.warnings()
    assert len(stopped.s3.uploads) == 1, "the parts of the first stay, until they are aborted"
    await bigupload.abort(aside)
    assert not stopped.s3.uploads


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


async def test_abort_of_a_completed_upload_is_refused(world: World) -> None:
    path = world.file(1)
    await world.upload(path)
    with pytest.raises(errors.UsageError, match="complete"):
        await bigupload.abort(world.manifest_path)
    assert world.holds(path)


async def test_a_failed_abort_names_the_manifest(stopped: World) -> None:
    stopped.s3.script("AbortMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied) as caught:
        await bigupload.abort(stopped.manifest_path)
    assert (caught.value.manifest, caught.value.exit_code) == (stopped.manifest_path, errors.EXIT_RESUMABLE)
    assert stopped.manifest.status == "uploading"


# --- a damaged, lost or foreign manifest


async def test_a_lost_tail_is_found_in_the_store(stopped: World) -> None:
    """As after a kill between an acknowledgement and its fsync."""
    stopped.manifest_path.write_bytes(b"".join(lines(stopped)[:1]))
    missing, before = stopped.missing(), len(stopped.s3.requests)
    result = await stopped.upload(the_file(stopped))
    assert stopped.holds(the_file(stopped))
    assert sorted(stopped.sent(since=before)) == missing
    assert result.resumed_parts == PARTS - len(missing)
    assert any("does not tell of" in event.reason for event in stopped.told(events.Hashing))


@pytest.mark.parametrize("damage", [b'{"type":"part","num', b"\0" * 4096, b"not json\n", b'{"type":"part"}\n'])
async def test_a_torn_tail_is_cut_and_saved(stopped: World, damage: bytes) -> None:
    good = stopped.manifest_path.read_bytes()
    stopped.manifest_path.write_bytes(good + damage)
    missing, before = stopped.missing(), len(stopped.s3.requests)
    await stopped.upload(the_file(stopped))
    assert stopped.holds(the_file(stopped))
    assert sorted(stopped.sent(since=before)) == missing
    assert "the rest was cut" in stopped.warnings()
    assert stopped.manifest_path.read_bytes().startswith(good)
    saved = [p for p in stopped.directory.iterdir() if p.is_file() and p.read_bytes() == damage]
    assert len(saved) == 1


@pytest.mark.parametrize("damage", [b"garbage\n", b'{"type":"part"}\n', b'{"type":"manifest","version":9}\n', b"{"])
async def test_a_damaged_first_line_is_refused_and_left(stopped: World, damage: bytes) -> None:
    stopped.manifest_path.write_bytes(damage)
    before = len(stopped.s3.requests)
    for attempt in (lambda: stopped.upload(the_file(stopped)), stopped.resume):
        with pytest.raises(errors.ManifestCorrupt, match="nothing was changed") as caught:
            await attempt()
        assert caught.value.exit_code == 1
    assert stopped.manifest_path.read_bytes() == damage
    assert len(stopped.s3.requests) == before


async def test_an_empty_manifest_is_none_yet(world: World) -> None:
    world.manifest_path.touch()
    with pytest.raises(errors.ManifestCorrupt, match="empty"):
        await world.resume()
    path = world.file(1)
    await world.upload(path)
    assert world.holds(path)


async def test_no_manifest(world: World) -> None:
    with pytest.raises(errors.ManifestNotFound):
        await world.resume()
    with pytest.raises(errors.ManifestNotFound):
        await bigupload.abort(world.manifest_path)


async def test_the_manifest_of_another_file_or_target(stopped: World) -> None:
    other = stopped.file(SIZE, "other.bin", seed=3)
    before, journal = len(stopped.s3.requests), stopped.manifest_path.read_bytes()
    with pytest.raises(errors.ManifestMismatch, match=r"file\.bin"):
        await stopped.upload(other)
    with pytest.raises(errors.ManifestMismatch, match="s3://bucket/key"):
        await stopped.upload(the_file(stopped), to=f"s3://{BUCKET}/another")
    assert stopped.manifest_path.read_bytes() == journal
    assert len(stopped.s3.requests) == before


async def test_nothing_secret_is_in_a_manifest(stopped: World) -> None:
    options = stopped.options(access_key=StrictS3.access_key, secret_key=StrictS3.secret_key)
    await stopped.upload(the_file(stopped), options=options, resume=False)
    for path in stopped.directory.glob("the.manifest*"):
        text = path.read_text()
        assert StrictS3.secret_key not in text
        assert StrictS3.access_key not in text
        assert "X-Amz" not in text
        assert path.stat().st_mode & 0o077 == 0


# --- adopt


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


async def test_adopt_with_a_lost_answer_is_recognised_by_content(stopped: World) -> None:
    stopped.manifest_path.unlink()
    stopped.s3.script("CompleteMultipartUpload", LostAnswer())
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

    async def twice(self: S3Store, *arguments: Any) -> list[StoredPart]:
        rows = await true_list(self, *arguments)
        return [StoredPart(row.number, row.size, f'"{"0" * 32}"', "AAAAAAAAAAA=") for row in rows] + rows

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
    await bigupload.upload(path, part_size=5 * MIB, **where)
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:-1]))
    result = await bigupload.upload(path, **where)
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
    with CountingProxy("127.0.0.1", world.s3.port) as proxy:
        comes_up_at(proxy.url)
        missing, before = world.missing(), len(world.s3.requests)
        result = await world.upload(path, to=None, options=S3Options(local=True))
        assert sorted(world.sent(since=before)) == missing
        assert result.url.startswith(proxy.url)
    assert world.s3.objects["bigupload"]["file.bin"].body == path.read_bytes()
