"""Stores that refuse HEAD with x-amz-checksum-mode: it is asked without, and not asked so again."""

from __future__ import annotations

import pytest

import bigupload
from bigupload import Verified, errors
from bigupload.testing.faults import LostResponse, Status
from bigupload.testing.strict_s3 import Exchange, S3Error

from .support import BUCKET, FAST, PART, World

pytestmark = pytest.mark.parametrize("status", [501, 400])


def modes(world: World) -> list[bool]:
    """Of each HEAD: whether it asked for checksums."""
    return ["x-amz-checksum-mode" in request.headers for request in world.s3.requests if request.op == "HeadObject"]


def refuse_modes(world: World, status: int) -> None:
    def receive(exchange: Exchange) -> None:
        if exchange.op == "HeadObject" and "x-amz-checksum-mode" in exchange.headers:
            raise S3Error("InvalidRequest" if status == 400 else "NotImplemented", status=status)

    world.s3.knobs.receive = receive


async def test_an_upload_that_ends_with_a_head(world: World, status: int) -> None:
    """The store has no checksums, so the object is looked at."""
    world.s3.knobs.echo_checksums = False
    refuse_modes(world, status)
    path = world.file(3 * PART)
    result = await world.upload(path)
    assert result.verified is Verified.COMPOSITE_ETAG
    assert world.holds(path)
    assert modes(world)[:2] == [True, False]
    assert not any(modes(world)[1:])


async def test_an_upload_whose_complete_is_lost(world: World, status: int) -> None:
    refuse_modes(world, status)
    world.s3.script("CompleteMultipartUpload", LostResponse())
    path = world.file(3 * PART)
    result = await world.upload(path)
    assert world.holds(path)
    assert result.verified in (Verified.FULL_OBJECT, Verified.SIZE)
    assert world.s3.count("CompleteMultipartUpload") == 1


async def test_a_look_before_the_upload(world: World, status: int) -> None:
    """There is no object yet: the first HEAD without checksums says 404, which says nothing of the store."""
    refuse_modes(world, status)
    path = world.file(3 * PART)
    await world.upload(path, options=world.options(if_none_match=True))
    assert world.holds(path)
    assert modes(world)[:2] == [True, False]
    with pytest.raises(errors.TargetExists):
        await world.upload(path, options=world.options(if_none_match=True), manifest=world.directory / "second.jsonl")


async def test_several_uploads_of_one_uploader_are_refused_once(world: World, status: int) -> None:
    world.s3.knobs.echo_checksums = False
    refuse_modes(world, status)
    async with bigupload.Uploader(retry=FAST, state_dir=world.directory / "state") as uploader:
        for n in range(3):
            path = world.file(3 * PART, f"{n}.bin", seed=n)
            await uploader.upload(path, to=f"s3://{BUCKET}/", s3=world.options())
    assert modes(world).count(True) == 1


async def test_what_is_refused_for_another_reason_stays_refused(world: World, status: int) -> None:
    """Without checksums, too: then it is not the mode."""
    path = world.file(3 * PART)
    await world.upload(path)
    world.s3.script("HeadObject", Status(status), repeat=True)
    before = len(modes(world))
    with pytest.raises(errors.StoreError, match=str(status)):
        await bigupload.verify(path, f"s3://{BUCKET}/key", s3=world.options(), uploader=bigupload.Uploader(retry=FAST))
    assert modes(world)[before : before + 2] == [True, False]
