"""`delta` with stores that do not copy parts, or copy them badly, as stores that were tried do."""

from __future__ import annotations

from typing import Any

import pytest

from bigupload import Verified, events
from bigupload.testing.faults import Ok, Status

from .support import PART, World
from .test_delta import SIZE, changed


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("knobs", "response", "reason"),
    [
        ({}, Status(501, "NotImplemented"), "501 NotImplemented"),
        ({}, Status(403, "AccessDenied"), "403 AccessDenied"),
        ({}, Status(400, "InvalidRequest"), "400 InvalidRequest"),
        ({}, Status(400, "BadDigest"), "400 BadDigest"),
        ({}, Status(500, "InternalError"), "500 InternalError"),
        ({"copied_checksums": "wrong"}, Ok(), "copy of part "),
        ({"copied_checksums": "missing", "etags": "opaque"}, Ok(), "reports no checksums of copied parts"),
    ],
    ids=["not implemented", "refused", "invalid", "digest", "fails", "wrong checksum", "no checksum"],
)
async def test_a_store_that_cannot_copy_gets_all_parts(
    world: World, knobs: dict[str, Any], response: Status | Ok, reason: str
) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    for name, value in knobs.items():
        setattr(world.s3.knobs, name, value)
    world.s3.script("UploadPartCopy", response, repeat=True)
    result = await world.upload(path, delta=True, concurrency=1)
    assert (result.bytes_sent, result.bytes_copied) == (SIZE, 0)
    assert world.holds(path)
    (warning,) = [event.message for event in world.told(events.Warned)]
    assert warning.startswith("no more parts are copied by the store, and the rest is sent: ")
    assert reason in warning


def knows_no_copies(world: World) -> None:
    """As rclone's S3 server, which streams each part to where it stays."""
    knobs = world.s3.knobs
    knobs.ignores_copy_source, knobs.require_part_checksums, knobs.replaces_parts = True, False, False


async def test_a_store_that_takes_a_copy_for_a_part_without_bytes(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    knows_no_copies(world)
    result = await world.upload(path, delta=True)
    assert (result.bytes_copied, result.verified) == (0, Verified.FULL_OBJECT)
    assert world.holds(path)
    assert world.s3.uploads == {}
    assert "does not confirm it" in world.warnings()
    (restarted,) = world.told(events.Restarted)
    assert "does not know of copies" in restarted.reason
    assert world.manifest.sends_all


@pytest.mark.slow
async def test_a_store_that_knows_no_copies_is_not_asked_again(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    knows_no_copies(world)
    await world.interrupted(path, after=3, delta=True)
    before = len(world.s3.requests)
    result = await world.upload(path, delta=True)
    assert result.resumed_parts >= 3
    assert not [r for r in world.s3.requests[before:] if r.op == "UploadPartCopy"]
    assert world.holds(path)


async def test_a_store_that_refuses_to_complete_with_copied_parts(world: World) -> None:
    """As ministack: the copied parts are sent, and those that were sent stay."""
    path = world.file(SIZE)
    await world.upload(path)
    world.s3.knobs.completes_copied = False
    before = len(world.s3.requests)
    result = await world.upload(changed(path, 0), delta=True)
    assert sorted(world.sent(since=before)) == [1, 2, 3, 4, 5, 6]
    assert (result.bytes_sent, result.bytes_copied, result.verified) == (SIZE, 0, Verified.FULL_OBJECT)
    assert world.holds(path)
    assert "refuses to complete the upload with parts that it has copied" in world.warnings()


async def test_etags_prove_copies_of_a_store_without_checksums(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    path = world.file(SIZE)
    await world.upload(path)
    result = await world.upload(changed(path, 0), delta=True)
    assert (result.bytes_sent, result.bytes_copied) == (PART, SIZE - PART)
    assert result.verified is Verified.COMPOSITE_ETAG
    assert world.holds(path)
