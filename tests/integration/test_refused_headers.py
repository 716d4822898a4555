"""Refusals that name a header that bigupload itself adds: it is left out, or the error names the option for that."""

from __future__ import annotations

import pytest

from bigupload import Verified, errors, events
from bigupload.cli.wording import for_command_line
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import Exchange, S3Error

from .streams import pipe
from .support import PART, World

CODES = {400: "InvalidRequest", 403: "AccessDenied", 501: "NotImplemented"}
CHECKSUM = "x-amz-checksum-crc64nvme"


def refuse(world: World, op: str, header: str, status: int, name: str | None = None) -> None:
    """Refuse each request of an operation that has a header, with a text that names it as `name`."""

    def receive(exchange: Exchange) -> None:
        if exchange.op == op and header in exchange.headers:
            raise S3Error(CODES[status], f"The header {name or header} is not allowed here.", status=status)

    world.s3.knobs.default_crc64nvme = False
    world.s3.knobs.receive = receive


@pytest.mark.parametrize("status", CODES)
@pytest.mark.parametrize("name", [CHECKSUM, "x-amz-checksum-*", "x-amz-sdk-checksum-algorithm"])
async def test_a_checksum_that_parts_refuse_is_left_out(world: World, status: int, name: str) -> None:
    refuse(world, "UploadPart", CHECKSUM, status, name)
    path = world.file(3 * PART)
    result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is Verified.COMPOSITE_ETAG
    assert world.s3.count("CreateMultipartUpload") == 2
    assert not world.s3.uploads, "the first one is aborted"
    (restarted,) = world.told(events.Restarted)
    assert "the store refused crc64nvme checksums" in restarted.reason
    assert "the parts are proved by MD5 instead" in restarted.reason


def assert_names_what_helps(e: errors.BigUploadError) -> None:
    assert isinstance(e, errors.StoreRefused)
    assert e.exit_code == errors.EXIT_FAILED
    assert for_command_line(str(e)).endswith("upload again with --checksum md5 --no-resume")


@pytest.mark.parametrize("status", CODES)
async def test_an_upload_with_parts_names_what_helps_against_a_refused_checksum(world: World, status: int) -> None:
    path = world.file(world.parts * PART)
    await world.interrupted(path, after=2)
    refuse(world, "UploadPart", CHECKSUM, status)
    with pytest.raises(errors.BigUploadError) as caught:
        await world.resume()
    assert_names_what_helps(caught.value)
    assert world.holds(path) is False
    await world.upload(path, checksum="md5", resume=False)
    assert world.holds(path)


@pytest.mark.parametrize("status", CODES)
async def test_a_checksum_that_complete_refuses(world: World, status: int) -> None:
    refuse(world, "CompleteMultipartUpload", CHECKSUM, status)
    path = world.file(2 * PART)
    with pytest.raises(errors.BigUploadError) as caught:
        await world.upload(path)
    assert_names_what_helps(caught.value)
    assert world.s3.count("CompleteMultipartUpload") == 1
    await world.upload(path, checksum="md5", resume=False)
    assert world.holds(path)


async def test_an_upload_that_can_t_be_aborted_names_what_helps_against_a_refused_checksum(world: World) -> None:
    refuse(world, "UploadPart", CHECKSUM, 400)
    world.s3.script("AbortMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.BigUploadError) as caught:
        await world.upload(world.file(3 * PART))
    assert_names_what_helps(caught.value)


async def test_a_stream_names_what_helps_against_a_refused_checksum(world: World) -> None:
    refuse(world, "UploadPart", CHECKSUM, 400)
    with pytest.raises(errors.BigUploadError) as caught, pipe(b"x" * (3 * PART)) as stream:
        await world.upload(stream)
    assert_names_what_helps(caught.value)


@pytest.mark.parametrize(("op", "size"), [("CreateMultipartUpload", 2 * PART), ("PutObject", PART // 2)])
async def test_a_policy_that_forbids_checksums(world: World, op: str, size: int) -> None:
    header = CHECKSUM if op == "PutObject" else "x-amz-checksum-algorithm"
    refuse(world, op, header, 403)
    path = world.file(size)
    result = await world.upload(path, manifest=None)
    assert world.holds(path)
    assert result.verified is Verified.COMPOSITE_ETAG
    assert "the store refused crc64nvme checksums" in world.warnings()
    assert world.s3.count(op) == 2


async def test_a_policy_that_forbids_the_size_at_complete(world: World) -> None:
    refuse(world, "CompleteMultipartUpload", "x-amz-mp-object-size", 403)
    path = world.file(2 * PART)
    await world.upload(path)
    assert world.holds(path)
    assert "sent without x-amz-mp-object-size" in world.warnings()


@pytest.mark.parametrize("size", [PART // 2, 2 * PART], ids=["one PUT", "parts"])
async def test_a_policy_that_forbids_the_condition(world: World, size: int) -> None:
    """It is no store that does not know it: the condition protects an object, so it stays."""
    small = size < PART
    op = "PutObject" if small else "CompleteMultipartUpload"
    refuse(world, op, "if-none-match", 403)
    path, manifest = world.file(size), None if small else world.manifest_path
    again = "" if small else ", and upload again with `resume=False`"
    named = f"names your option `if_none_match`: change it or leave it out{again}$"
    with pytest.raises(errors.StoreRefused, match=named) as caught:
        await world.upload(path, options=world.options(if_none_match=True), manifest=manifest)
    assert caught.value.exit_code == errors.EXIT_FAILED
    assert "credentials" not in str(caught.value)
    assert world.s3.count(op) == 1
    await world.upload(path, manifest=manifest, resume=False)
    assert world.holds(path)


async def test_a_403_that_names_none_of_them_is_of_the_credentials(world: World) -> None:
    world.s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    with pytest.raises(errors.AccessDenied, match="the credentials") as caught:
        await world.upload(world.file(2 * PART))
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
