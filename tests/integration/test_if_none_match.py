"""Uploads that may replace no object."""

from __future__ import annotations

import pytest

from bigupload import Verified, errors, events
from bigupload.testing.faults import Call, LostResponse, Ok, Status
from bigupload.testing.strict_s3 import Exchange, S3Error, StrictS3

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


# -- stores that refuse a header of complete, or of a PUT


def refuse(world: World, op: str, header: str, status: int, *, field: str | None = None) -> None:
    """Refuse each request of an operation that has a header, in one of the ways in which stores name it."""

    def receive(exchange: Exchange) -> None:
        if exchange.op == op and header in exchange.headers:
            code = "NotImplemented" if status == 501 else "InvalidArgument"
            named = f"Unsupported header '{header}' received for this API call." if field is None else "Unsupported."
            raise S3Error(code, named, status=status, fields={} if field is None else {field: header.title()})

    world.s3.knobs.receive = receive


def put_theirs(s3: StrictS3) -> None:
    client = s3.client()
    client.put_object(Bucket=BUCKET, Key="key", Body=b"theirs")
    client.close()


@pytest.mark.parametrize(("status", "field"), [(400, None), (400, "ArgumentName"), (501, "Header"), (501, None)])
@pytest.mark.parametrize("header", ["if-none-match", "x-amz-mp-object-size"])
async def test_a_header_that_complete_refuses_is_left_out(
    world: World, header: str, status: int, field: str | None
) -> None:
    refuse(world, "CompleteMultipartUpload", header, status, field=field)
    path = world.file(2 * PART)
    result = await world.upload(path, options=world.options(if_none_match=True))
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert world.s3.count("CompleteMultipartUpload") == 2
    sent = world.s3.requests[-1].headers
    assert header not in sent
    assert {"if-none-match", "x-amz-mp-object-size"} - {header} <= sent.keys()
    assert f"sent without {header}" in world.warnings()
    assert ("right before it is made" in world.warnings()) is (header == "if-none-match")


@pytest.mark.parametrize("refusals", [1, 2])
async def test_a_501_that_names_nothing_may_mean_any_header(world: World, refusals: int) -> None:
    """The size goes first: the condition protects an object."""
    world.s3.script("CompleteMultipartUpload", *[Status(501, "NotImplemented")] * refusals)
    path = world.file(2 * PART)
    await world.upload(path, options=world.options(if_none_match=True))
    assert world.holds(path)
    assert ("if-none-match" in world.s3.requests[-1].headers) is (refusals == 1)
    assert "sent without x-amz-mp-object-size" in world.warnings()
    assert ("sent without if-none-match" in world.warnings()) is (refusals == 2)
    warned = [event.message.count("the store refused") for event in world.told(events.Warned)]
    assert warned == [1] * refusals, "a warning for each"
    assert ("right before it is made" in world.warnings()) is (refusals == 2)


async def test_without_a_list_of_parts_a_501_may_mean_the_condition_alone(world: World) -> None:
    refuse(world, "CompleteMultipartUpload", "if-none-match", 501)
    world.s3.script("ListParts", Status(501, "NotImplemented"), repeat=True)
    path = world.file(2 * PART)
    await world.upload(path, options=world.options(if_none_match=True))
    assert world.holds(path)
    assert "x-amz-mp-object-size" in world.s3.requests[-1].headers


async def test_without_a_list_of_parts_the_refusal_of_complete_is_what_is_said(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", Status(501, "NotImplemented"), repeat=True)
    world.s3.script("ListParts", Status(501, "NotImplemented"), repeat=True)
    with pytest.raises(errors.BigUploadError, match="complete the upload") as caught:
        await world.upload(world.file(2 * PART))
    assert "list the parts" not in str(caught.value)


async def test_the_object_is_looked_for_before_each_complete_without_the_condition(world: World) -> None:
    """It comes between two refusals: of the condition, and then of the size."""

    def receive(exchange: Exchange) -> None:
        refused = [each for each in ("if-none-match", "x-amz-mp-object-size") if each in exchange.headers]
        if exchange.op == "CompleteMultipartUpload" and refused:
            raise S3Error("InvalidArgument", f"Unsupported header '{refused[0]}' received for this API call.")

    world.s3.knobs.receive = receive
    world.s3.script("HeadObject", Ok(), Ok(), Call(put_theirs))
    with pytest.raises(errors.TargetExists):
        await world.upload(world.file(2 * PART), options=world.options(if_none_match=True))
    assert world.object().body == b"theirs"


async def test_another_400_at_complete_is_final(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", Status(400, "InvalidRequest"), repeat=True)
    with pytest.raises(errors.StoreRefused, match="InvalidRequest"):
        await world.upload(world.file(2 * PART), options=world.options(if_none_match=True))
    assert world.s3.count("CompleteMultipartUpload") == 1


@pytest.mark.parametrize("status", [400, 501])
async def test_an_object_that_came_meanwhile_stays_where_complete_knows_no_condition(world: World, status: int) -> None:
    refuse(world, "CompleteMultipartUpload", "if-none-match", status)
    world.s3.script("UploadPart", Call(put_theirs), part_number=2)
    with pytest.raises(errors.TargetExists) as caught:
        await world.upload(world.file(2 * PART), options=world.options(if_none_match=True))
    assert caught.value.exit_code == 1
    assert world.object().body == b"theirs"


@pytest.mark.parametrize("size", [PART // 2, 2 * PART])
async def test_without_the_condition_who_may_not_look_replaces_nothing(world: World, size: int) -> None:
    small = size < PART
    refuse(world, "PutObject" if small else "CompleteMultipartUpload", "if-none-match", 400)
    world.s3.script("HeadObject", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.StoreRefused, match="these credentials may not look whether the object exists: allow"):
        await world.upload(world.file(size), options=world.options(if_none_match=True), manifest=None)
    assert "key" not in world.s3.objects[BUCKET]


@pytest.mark.parametrize("size", [PART // 2, 2 * PART])
async def test_who_may_not_look_is_warned_that_only_the_store_protects_an_object(world: World, size: int) -> None:
    """This store ignores the condition, and nothing in its responses shows that."""
    world.s3.knobs.receive = lambda exchange: exchange.headers.pop("if-none-match", None)
    world.s3.script("HeadObject", Status(403, "AccessDenied"), repeat=True)
    put_theirs(world.s3)
    path = world.file(size)
    await world.upload(path, options=world.options(if_none_match=True), manifest=None)
    assert world.holds(path), "it is replaced"
    assert world.warnings().count("a store that ignores If-None-Match replaces it") == 1


@pytest.mark.parametrize("size", [PART // 2, 2 * PART])
async def test_a_store_that_ignores_the_condition_is_asked_before(world: World, size: int) -> None:
    world.s3.knobs.receive = lambda exchange: exchange.headers.pop("if-none-match", None)
    put_theirs(world.s3)
    with pytest.raises(errors.TargetExists):
        await world.upload(world.file(size), options=world.options(if_none_match=True), manifest=None)
    assert world.object().body == b"theirs"


@pytest.mark.parametrize("field", [None, "ArgumentName"])
async def test_a_small_file_keeps_its_checksum_where_the_store_knows_no_condition(
    world: World, field: str | None
) -> None:
    refuse(world, "PutObject", "if-none-match", 400, field=field)
    path = world.file(PART // 2)
    result = await world.upload(path, options=world.options(if_none_match=True), manifest=None)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert world.s3.count("PutObject") == 2
    assert "right before it is made" in world.warnings()


async def test_an_object_that_came_meanwhile_stays_where_a_put_knows_no_condition(world: World) -> None:
    refuse(world, "PutObject", "if-none-match", 400)
    world.s3.script("HeadObject", Ok(), Call(put_theirs))
    with pytest.raises(errors.TargetExists):
        await world.upload(world.file(PART // 2), options=world.options(if_none_match=True), manifest=None)
    assert world.object().body == b"theirs"


async def test_a_small_file_keeps_its_condition_where_the_store_knows_no_checksum(world: World) -> None:
    """Although the refusal does not say of which header it is."""
    world.s3.knobs.refuse_checksum_algorithm = 400
    path = world.file(PART // 2)
    await world.upload(path, options=world.options(if_none_match=True), manifest=None)
    assert world.holds(path)
    assert world.s3.requests[-1].headers["if-none-match"] == "*"
    assert "right before it is made" not in world.warnings()
