"""An interrupted stream comes once more: what the store has is compared and not sent."""

from __future__ import annotations

import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.testing.faults import Conflict, Status

from .stopped import PARTS, SIZE
from .streams import WHOLE, hashed, stream, whole
from .support import BUCKET, FAST, PART, World, no_leaks


async def test_only_what_is_missing_is_sent(world: World) -> None:
    await world.interrupted(stream(WHOLE), after=3)
    missing, before = world.missing(), len(world.s3.requests)
    async with no_leaks():
        result = await world.upload(stream(WHOLE, 13_007))
    assert sorted(world.sent(since=before)) == missing
    assert result.resumed_parts == PARTS - len(missing)
    assert result.bytes_sent <= SIZE - result.resumed_parts * PART + PART
    assert whole(world.object()) == hashed(WHOLE)
    assert world.s3.count("CreateMultipartUpload") == 1


async def test_a_part_that_only_the_store_has_is_not_sent(world: World) -> None:
    """The process was killed between its acknowledgement and its record."""
    await world.interrupted(stream(WHOLE), after=3)
    lines = world.manifest_path.read_bytes().splitlines(keepends=True)
    world.manifest_path.write_bytes(b"".join(lines[:-2]))
    missing, before = world.missing(), len(world.s3.requests)
    await world.upload(stream(WHOLE))
    assert sorted(world.sent(since=before)) == missing
    assert whole(world.object()) == hashed(WHOLE)


@pytest.mark.parametrize("checksum", ["auto", "md5"])
async def test_another_stream_changes_nothing(world: World, checksum: str) -> None:
    await world.interrupted(stream(WHOLE), after=3, checksum=checksum)
    recorded = dict(world.manifest.parts)
    first = min(recorded)
    other = bytearray(WHOLE)
    other[(first - 1) * PART + 5] ^= 1
    with pytest.raises(errors.SourceChanged, match=f"the part from byte {(first - 1) * PART:,} on differs") as caught:
        await world.upload(stream(bytes(other)))
    assert caught.value.exit_code == errors.EXIT_FAILED
    assert world.manifest.parts == recorded
    assert world.object() is None
    await world.upload(stream(WHOLE))
    assert whole(world.object()) == hashed(WHOLE)


async def test_what_another_stream_uploaded_before_it_was_found_out_is_forgotten(world: World) -> None:
    """Else the right stream would differ from that, and neither could be resumed any more."""
    await world.interrupted(stream(WHOLE), after=3)
    recorded = dict(world.manifest.parts)
    last = max(recorded)
    lines = world.manifest_path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b'"type":"part"' not in line or b'"number":%d,' % last in line]
    world.manifest_path.write_bytes(b"".join(kept))
    other = bytearray(WHOLE)
    other[0] ^= 1
    other[(last - 1) * PART] ^= 1
    for _ in range(2):  # the second time, the store has its first part
        with pytest.raises(errors.SourceChanged):
            await world.upload(stream(bytes(other)))
        assert 1 not in world.manifest.parts
        assert world.manifest.parts[last] == recorded[last]
    await world.upload(stream(WHOLE))
    assert whole(world.object()) == hashed(WHOLE)


async def test_a_replay_that_ends_early(world: World) -> None:
    """What writes the stream may have failed."""
    await world.interrupted(stream(WHOLE), after=3)
    reached = (max(world.manifest.parts) - 1) * PART
    for size in (1, reached, reached + 5):
        with pytest.raises(errors.StreamInterrupted, match="ended after") as caught:
            await world.upload(stream(WHOLE[:size]))
        assert caught.value.exit_code == errors.EXIT_RESUMABLE
        assert world.object() is None
    await world.upload(stream(WHOLE))
    assert whole(world.object()) == hashed(WHOLE)


async def test_a_replay_that_ends_before_what_only_the_store_knows(world: World) -> None:
    """The process was killed before it recorded what it had sent, and then what writes the stream fails, too."""
    await world.interrupted(stream(WHOLE), after=3)
    reached = (max(world.manifest.parts) - 1) * PART
    kept = [line for line in world.manifest_path.read_bytes().splitlines(keepends=True) if b'"type":"part"' not in line]
    world.manifest_path.write_bytes(b"".join(kept))
    for size in (PART, reached, reached + 5):
        with pytest.raises(errors.StreamInterrupted, match="ended after") as caught:
            await world.upload(stream(WHOLE[:size]))
        assert caught.value.exit_code == errors.EXIT_RESUMABLE
        assert world.object() is None
    await world.upload(stream(WHOLE))
    assert whole(world.object()) == hashed(WHOLE)


async def test_a_replay_that_goes_on_after_an_end_that_was_never_completed(world: World) -> None:
    """As when Ctrl-C ends the program that writes before it ends this one."""
    world.s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    for size in (2 * PART + 100, 3 * PART):
        with pytest.raises(errors.AccessDenied):
            await world.upload(stream(WHOLE[:size]))
        assert (world.manifest.status, world.manifest.plan.size) == ("completing", size)
    world.s3.clear("CompleteMultipartUpload")
    result = await world.upload(stream(WHOLE))
    assert result.size == SIZE
    assert whole(world.object()) == hashed(WHOLE)


async def test_a_size_that_is_expected_from_the_replay_on(world: World) -> None:
    await world.interrupted(stream(WHOLE), after=3)
    with pytest.raises(errors.StreamInterrupted, match="expected"):
        await world.upload(stream(WHOLE), expected_size=SIZE + 1)
    await world.upload(stream(WHOLE), expected_size=SIZE)
    assert whole(world.object()) == hashed(WHOLE)


async def lose_the_last_record(world: World, data: bytes) -> None:
    await world.upload(stream(data))
    lines = world.manifest_path.read_bytes().splitlines(keepends=True)
    assert b'"completed"' in lines[-1]
    world.manifest_path.write_bytes(b"".join(lines[:-1]))


async def test_an_object_whose_record_was_lost(world: World) -> None:
    """It was completed by a run that was killed."""
    await lose_the_last_record(world, WHOLE)
    before = len(world.s3.requests)
    result = await world.upload(stream(WHOLE))
    assert not world.sent(since=before)
    assert (result.size, result.verified) == (SIZE, Verified.FULL_OBJECT)


@pytest.mark.exhaustive
@pytest.mark.parametrize("change", ["byte", "shorter", "longer"])
async def test_an_object_of_another_stream_whose_record_was_lost(world: World, change: str) -> None:
    """Yesterday's backup is not today's, and a program must not say so."""
    await lose_the_last_record(world, WHOLE)
    other = {"byte": WHOLE[:-1] + b"!", "shorter": WHOLE[:-1], "longer": WHOLE + b"!"}[change]
    with pytest.raises(errors.SourceError):
        await world.upload(stream(other))
    assert whole(world.object()) == hashed(WHOLE)
    await world.upload(stream(other))
    assert whole(world.object()) == hashed(other)


async def test_an_upload_that_the_store_forgot_before_the_replay(world: World) -> None:
    await world.interrupted(stream(WHOLE), after=3)
    world.s3.uploads.clear()
    result = await world.upload(stream(WHOLE))
    assert result.resumed_parts == 0
    assert whole(world.object()) == hashed(WHOLE)


async def test_an_upload_that_the_store_forgets_meanwhile(world: World) -> None:
    """The first parts have gone by: the next run begins again."""
    world.s3.script("UploadPart", Status(404, "NoSuchUpload"), part_number=4)
    with pytest.raises(errors.StreamInterrupted, match="from its first byte again") as caught:
        await world.upload(stream(WHOLE))
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    world.s3.uploads.clear()
    await world.upload(stream(WHOLE))
    assert whole(world.object()) == hashed(WHOLE)


async def test_another_write_to_the_key_that_won(world: World) -> None:
    """409: the store wants every part again, which only another run has."""
    world.s3.script("CompleteMultipartUpload", Conflict())
    with pytest.raises(errors.StreamInterrupted, match="from its first byte again"):
        await world.upload(stream(WHOLE))
    await world.upload(stream(WHOLE))
    assert whole(world.object()) == hashed(WHOLE)
    assert not world.s3.uploads


async def test_a_part_that_the_store_lost(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied):
        await world.upload(stream(WHOLE))
    world.s3.clear("CompleteMultipartUpload")
    (upload,) = world.s3.uploads.values()
    del upload.parts[2]
    before = len(world.s3.requests)
    await world.upload(stream(WHOLE))
    assert world.sent(since=before) == [2]
    assert whole(world.object()) == hashed(WHOLE)


async def test_a_new_stream_without_resume(world: World) -> None:
    await world.interrupted(stream(WHOLE), after=3)
    other = bytes(reversed(WHOLE))
    await world.upload(stream(other), resume=False)
    assert whole(world.object()) == hashed(other)


@pytest.mark.parametrize("as_file", [True, False])
async def test_what_was_saved_in_a_file_resumes_it(world: World, as_file: bool) -> None:
    await world.interrupted(stream(WHOLE), after=3)
    path, before = world.directory / "saved", len(world.s3.requests)
    path.write_bytes(WHOLE)
    result = await (world.resume(source=path) if as_file else world.upload(WHOLE))
    assert len(world.sent(since=before)) < PARTS
    assert (result.size, whole(world.object())) == (SIZE, hashed(WHOLE))


async def test_another_exception_tells_how_a_stream_is_resumed(world: World) -> None:
    def fail(event: bigupload.Event) -> None:
        if isinstance(event, events.PartUploaded):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await bigupload.upload(
            stream(WHOLE),
            to=f"s3://{BUCKET}/key",
            s3=world.options(),
            manifest=world.manifest_path,
            on_event=fail,
            uploader=bigupload.Uploader(retry=FAST),
        )
    assert caught.value.__notes__ == ["the upload can be resumed: by the same call with the same bytes"]
    await world.upload(stream(WHOLE))
    assert whole(world.object()) == hashed(WHOLE)


async def test_a_manifest_alone_can_not_resume_it(world: World) -> None:
    await world.interrupted(stream(WHOLE), after=3)
    with pytest.raises(errors.UsageError, match="upload the same bytes once more"):
        await world.resume()


@pytest.mark.parametrize("checksum", ["auto", "md5"])
async def test_another_stream_replaces_the_unfinished_one_where_changes_are_followed(
    world: World, checksum: str
) -> None:
    """Parts that are the same stay. One that differs is sent, and a shorter end; what was beyond that is dropped."""
    await world.interrupted(stream(WHOLE), after=3, checksum=checksum)
    recorded, before = dict(world.manifest.parts), len(world.s3.requests)
    other = bytearray(WHOLE[: max(recorded) * PART - 5])
    first = min(recorded)
    other[(first - 1) * PART + 5] ^= 1
    result = await world.upload(stream(bytes(other)), on_change="restart", checksum=checksum)
    assert whole(world.object()) == hashed(bytes(other))
    assert first in world.sent(since=before)
    assert result.size == len(other)
    assert world.s3.count("CreateMultipartUpload") == 1


async def test_a_shorter_stream_replaces_what_only_the_store_has(world: World) -> None:
    await world.interrupted(stream(WHOLE), after=3)
    lines = world.manifest_path.read_bytes().splitlines(keepends=True)
    world.manifest_path.write_bytes(lines[0])  # killed before any record
    assert not world.manifest.parts
    await world.upload(stream(WHOLE[: PART + 7]), on_change="restart")
    assert whole(world.object()) == hashed(WHOLE[: PART + 7])
    assert world.s3.count("CreateMultipartUpload") == 1
