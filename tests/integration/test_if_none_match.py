"""Uploads that may replace no object."""

from __future__ import annotations

import pytest

from bigupload import Verified, errors
from bigupload.testing.faults import Call, LostResponse
from bigupload.testing.strict_s3 import StrictS3

from .support import BUCKET, PART, World


async def test_if_none_match_refuses_before_anything_is_sent(world: World) -> None:
    client = world.s3.client()
    client.put_object(Bucket=BUCKET, Key="key", Body=b"theirs")
    client.close()
    with pytest.raises(errors.TargetExists) as caught:
        await world.upload(world.file(PART), options=world.options(if_none_match=True))
    assert caught.value.exit_code == 1
    assert world.s3.count("CreateMultipartUpload") == 0
    assert world.object().body == b"theirs"
    assert not world.manifest_path.exists()


async def test_if_none_match_is_held_to_at_complete(world: World) -> None:
    def overtake(s3: StrictS3) -> None:
        client = s3.client()
        client.put_object(Bucket=BUCKET, Key="key", Body=b"theirs")
        client.close()

    world.s3.script("CompleteMultipartUpload", Call(overtake))
    with pytest.raises(errors.TargetExists) as caught:
        await world.upload(world.file(PART), options=world.options(if_none_match=True))
    assert caught.value.exit_code == 1
    assert world.object().body == b"theirs"


async def test_if_none_match_lets_a_new_key_through(world: World) -> None:
    path = world.file(PART)
    await world.upload(path, options=world.options(if_none_match=True))
    assert world.holds(path)


async def test_if_none_match_with_a_lost_response_finds_its_own_object(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", LostResponse())
    path = world.file(PART)
    result = await world.upload(path, options=world.options(if_none_match=True))
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT


async def test_a_conditional_conflict_sends_every_part_again(world: World) -> None:
    world.s3.knobs.conditional_conflicts = 1
    path = world.file(2 * PART)
    await world.upload(path, options=world.options(if_none_match=True))
    assert world.holds(path)
    assert sorted(world.sent()) == [1, 1, 2, 2]


async def test_a_refused_upload_leaves_the_manifest_of_the_completed_one(world: World) -> None:
    path = world.file(PART)
    done = await world.upload(path)
    with pytest.raises(errors.TargetExists):
        await world.upload(path, options=world.options(if_none_match=True))
    assert world.warnings() == ""  # nothing was going to be replaced
    assert (await world.resume()).etag == done.etag


async def test_a_refused_new_start_leaves_the_manifest_of_the_unfinished_upload(world: World) -> None:
    path = world.file(6 * PART)
    await world.interrupted(path, after=3)
    client = world.s3.client()
    client.put_object(Bucket=BUCKET, Key="key", Body=b"theirs")
    client.close()
    with pytest.raises(errors.TargetExists):
        await world.upload(path, resume=False, options=world.options(if_none_match=True))
    assert "starting again" not in world.warnings()
    assert (await world.resume()).resumed_parts >= 3
