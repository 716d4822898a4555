"""An s3:// source: the store copies it, and no byte of it passes this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.core.part_plan import MIB
from bigupload.http.put_transport import HttpTransport
from bigupload.stores.local_store import LocalStore
from bigupload.testing.faults import Call, LostResponse, Ok, Status
from bigupload.testing.strict_s3 import StrictS3
from bigupload.testing.strict_s3.model import Checksum, wrong
from tests.tools.buckets import options_for

from .remotes import DATA, PARTS, SIZE
from .support import BUCKET, PART, World, content, of_function

FROM = f"s3://{BUCKET}/from/film.mov"


@pytest.fixture
async def stored(world: World) -> World:
    """With the object to copy."""
    await put(world)
    return world


async def put(world: World, data: bytes = DATA, **more: Any) -> None:
    await bigupload.upload(
        data, to=FROM, s3=world.options(content_type="video/x-of-its-own"), name="x", **of_function(more)
    )


def holds(world: World, data: bytes = DATA, key: str = "key") -> bool:
    return bool(world.object(key).body == data)


def unread(world: World) -> bool:
    return world.s3.count("GetObject") == 0


async def test_an_object_is_copied_by_its_store(stored: World, monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[int] = []
    monkeypatch.setattr(HttpTransport, "connect_ahead", lambda _, __, count: connected.append(count))
    before = stored.s3.count("UploadPart")
    result = await stored.upload(FROM, to=f"s3://{BUCKET}/copy/")
    assert (result.key, result.verified, result.guarded_by) == ("copy/film.mov", Verified.FULL_OBJECT, "version")
    assert (result.bytes_sent, result.bytes_copied, result.parts) == (0, SIZE, PARTS)
    assert holds(stored, key="copy/film.mov")
    assert unread(stored)
    assert stored.s3.count("UploadPart") == before
    assert not connected
    made = stored.object("copy/film.mov")
    assert made.headers["content-type"] == "video/x-of-its-own"
    assert made.metadata["bigupload-token"] != stored.object("from/film.mov").metadata["bigupload-token"]
    copies = [r.headers for r in stored.s3.requests if r.op == "UploadPartCopy"]
    assert {sent["x-amz-copy-source-if-match"] for sent in copies} == {stored.object("from/film.mov").etag}
    assert stored.warnings() == ""


async def test_delta_is_not_asked_for_what_the_store_copies(stored: World) -> None:
    """No part would be sent anyway: neither is that warned of, nor is another part size taken."""
    for _ in range(2):
        result = await stored.upload(FROM, delta=True)
        assert (result.bytes_sent, result.bytes_copied, result.parts) == (0, SIZE, PARTS)
        assert holds(stored)
        assert stored.warnings() == ""
    assert unread(stored)


async def test_delta_of_what_the_store_does_not_copy_says_that_it_is_sent(world: World) -> None:
    await put(world, checksum="sha256")
    result = await world.upload(FROM, delta=True)
    assert result.bytes_sent == SIZE
    assert "is read through this machine" in world.warnings()
    assert "`delta` is not possible, and all parts are sent: no manifest on this machine" in world.warnings()
    result = await world.upload(FROM, delta=True)
    assert (result.bytes_sent, result.bytes_copied) == (0, SIZE)  # compared here, part by part


@pytest.mark.slow
async def test_to_another_bucket(stored: World) -> None:
    stored.s3.create_bucket("another")
    await stored.upload(FROM, to="s3://another/key")
    assert stored.s3.objects["another"]["key"].body == DATA
    assert unread(stored)


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [0, 1, PART, PART + 1])
async def test_sizes(world: World, size: int) -> None:
    await put(world, content(size))
    result = await world.upload(FROM)
    assert holds(world, content(size))
    assert (result.bytes_copied, result.bytes_sent, result.verified) == (size, 0, Verified.FULL_OBJECT)
    assert unread(world)


@pytest.mark.slow
async def test_a_checksum_that_the_source_has_is_the_copys(world: World) -> None:
    await put(world, checksum="crc32c")
    result = await world.upload(FROM)
    assert str(result.checksum).startswith("crc32c:")
    assert (result.bytes_copied, result.verified) == (SIZE, Verified.FULL_OBJECT)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("before", "asked", "reason"),
    [
        ("sha256", "auto", "its store has no crc64nvme of the whole object"),
        ("auto", "sha256", "its store has no sha256 of the whole object"),
        ("auto", "crc32c", "its store has no crc32c of the whole object"),
    ],
)
async def test_what_nothing_would_prove_is_read(world: World, before: Any, asked: Any, reason: str) -> None:
    await put(world, checksum=before)
    result = await world.upload(FROM, checksum=asked)
    assert (result.bytes_copied, result.bytes_sent) == (0, SIZE)
    assert world.s3.count("UploadPartCopy") == 0
    assert holds(world)
    (warning,) = [event.message for event in world.told(events.Warned)]
    assert warning.startswith(f"{FROM} is read through this machine: {reason}")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("checksums", "response", "reason"),
    [
        ("right", Status(501, "NotImplemented"), "501 NotImplemented"),
        ("right", Status(403, "AccessDenied"), "403 AccessDenied"),
        ("missing", Ok(), "reports no checksums of copied parts"),
    ],
    ids=["not implemented", "refused", "no checksums"],
)
async def test_what_the_store_does_not_copy_is_read(stored: World, checksums: Any, response: Any, reason: str) -> None:
    stored.s3.knobs.copied_checksums = checksums
    stored.s3.script("UploadPartCopy", response, repeat=True)
    result = await stored.upload(FROM)
    assert (result.bytes_copied, result.bytes_sent, result.verified) == (0, SIZE, Verified.FULL_OBJECT)
    assert holds(stored)
    (warning,) = [event.message for event in stored.told(events.Warned)]
    assert warning.startswith("no more parts are copied by the store, and the rest is read through this machine: ")
    assert reason in warning


@pytest.mark.slow
@pytest.mark.parametrize("knob", ["ignores_copy_source", "completes_copied"])
async def test_a_store_whose_copies_are_none(stored: World, knob: str) -> None:
    stored.s3.knobs.require_part_checksums = False
    setattr(stored.s3.knobs, knob, knob == "ignores_copy_source")
    result = await stored.upload(FROM)
    assert (result.bytes_sent, result.verified) == (SIZE, Verified.FULL_OBJECT)
    assert holds(stored)


async def test_copies_that_do_not_add_up_are_compared_with_the_source(stored: World) -> None:
    """What the store lists turns out to be right: nothing is sent."""
    stored.s3.knobs.copied_checksums = "wrong"
    before = stored.s3.count("UploadPart")
    result = await stored.upload(FROM)
    assert result.verified is Verified.FULL_OBJECT
    assert stored.s3.count("GetObject") == PARTS
    assert stored.s3.count("UploadPart") == before
    assert holds(stored)
    assert "read through this machine, and compared" in stored.warnings()


@pytest.mark.slow
async def test_a_source_that_its_own_store_contradicts(stored: World) -> None:
    source = stored.object("from/film.mov")
    source.checksum = Checksum("CRC64NVME", "FULL_OBJECT", wrong(source.checksum.value))
    with pytest.raises(errors.ObjectMismatch, match=r"it is damaged there\. Nothing was completed"):
        await stored.upload(FROM)
    assert stored.object() is None


async def test_a_source_that_is_replaced_meanwhile(stored: World) -> None:
    def replace_it(s3: StrictS3) -> None:
        s3.client().put_object(Bucket=BUCKET, Key="from/film.mov", Body=b"another", ChecksumAlgorithm="CRC64NVME")

    stored.s3.script("UploadPartCopy", Call(replace_it), part_number=3)
    with pytest.raises(errors.SourceChanged, match="was replaced or deleted while it was copied") as caught:
        await stored.upload(FROM)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert stored.object() is None
    result = await stored.upload(FROM, on_change="restart")
    assert holds(stored, b"another")
    assert result.bytes_copied == 7


@pytest.mark.slow
async def test_a_source_that_is_replaced_meanwhile_is_followed(stored: World) -> None:
    other = content(SIZE, seed=7)

    def replace_it(s3: StrictS3) -> None:
        s3.client().put_object(Bucket=BUCKET, Key="from/film.mov", Body=other, ChecksumAlgorithm="CRC64NVME")

    stored.s3.script("UploadPartCopy", Call(replace_it), part_number=3)
    result = await stored.upload(FROM, on_change="restart", concurrency=1)
    assert holds(stored, other)
    assert result.verified is Verified.FULL_OBJECT
    assert unread(stored)


@pytest.mark.slow
async def test_a_version_is_copied_although_it_was_replaced(world: World) -> None:
    world.s3.knobs.versioning = True
    await put(world)

    def replace_it(s3: StrictS3) -> None:
        s3.client().put_object(Bucket=BUCKET, Key="from/film.mov", Body=b"another")

    world.s3.script("UploadPartCopy", Call(replace_it), part_number=1)
    result = await world.upload(FROM)
    assert (result.bytes_copied, result.bytes_sent) == (SIZE, 0)
    assert holds(world)


async def interrupted(world: World) -> None:
    later = Status(503, "SlowDown", headers={"Retry-After": "900"})
    world.s3.script("UploadPartCopy", later, part_number=PARTS, repeat=True)
    await world.interrupted(FROM, after=3)  # type: ignore[arg-type]  # a URL
    world.s3.clear("UploadPartCopy")


@pytest.mark.exhaustive
@pytest.mark.parametrize("by", ["the same call", "the manifest"])
async def test_an_interrupted_copy_goes_on(stored: World, by: str) -> None:
    await interrupted(stored)
    recorded = set(stored.manifest.parts)
    before = len(stored.s3.requests)
    result = await (stored.upload(FROM) if by == "the same call" else stored.resume())
    copied = {r.part_number for r in stored.s3.requests[before:] if r.op == "UploadPartCopy"}
    assert copied == set(range(1, PARTS + 1)) - recorded
    assert result.resumed_parts == len(recorded)
    assert result.verified is Verified.FULL_OBJECT
    assert holds(stored)
    assert unread(stored)


@pytest.mark.slow
async def test_another_version_is_copied_from_the_beginning(stored: World) -> None:
    await interrupted(stored)
    other = content(SIZE, seed=7)
    await put(stored, other)
    result = await stored.upload(FROM)
    assert (result.bytes_copied, result.bytes_sent) == (SIZE, 0)
    assert holds(stored, other)
    assert unread(stored)


@pytest.mark.slow
async def test_what_was_copied_unread_is_never_trusted_alone(stored: World) -> None:
    """A later run, in which the store says no checksum of the source any more, compares with what it said before."""
    stored.s3.knobs.copied_checksums = "wrong"
    await interrupted(stored)
    assert stored.manifest.header.source_checksum is not None
    stored.object("from/film.mov").checksum = None
    result = await stored.upload(FROM)
    assert result.verified is Verified.FULL_OBJECT
    assert stored.s3.count("GetObject") >= PARTS
    assert holds(stored)


@pytest.mark.slow
async def test_copies_are_retried_and_begun_again(stored: World) -> None:
    stored.s3.script("UploadPartCopy", Status(503, "SlowDown"), LostResponse(), Status(404, "NoSuchUpload"))
    result = await stored.upload(FROM)
    assert result.verified is Verified.FULL_OBJECT
    assert len(stored.told(events.Restarted)) == 1
    assert holds(stored)
    assert unread(stored)


async def test_an_object_is_not_copied_onto_itself(stored: World) -> None:
    with pytest.raises(errors.UsageError, match=re.escape(f"{FROM} is the source and the target")):
        await stored.upload(FROM, to=f"s3://{BUCKET}/from/")
    assert stored.s3.count("CreateMultipartUpload") == 1


@pytest.mark.slow
async def test_a_customer_key_encrypts_the_copy(s3_tls: StrictS3, tmp_path: Path, small_limits: None) -> None:
    world = World(s3_tls, tmp_path)
    await put(world)
    result = await world.upload(FROM, options=world.options(sse_customer_key=bytes(range(32))))
    assert (result.bytes_copied, result.verified) == (SIZE, Verified.FULL_OBJECT)
    assert holds(world)


async def test_the_local_store_copies(weed: LocalStore, tmp_path: Path) -> None:
    options = options_for(weed)
    data = content(3 * 5 * MIB + 17)
    await bigupload.upload(data, to=f"s3://{BUCKET}/whole/from.bin", s3=options)
    result = await bigupload.upload(f"s3://{BUCKET}/whole/from.bin", to=f"s3://{BUCKET}/whole/to.bin", s3=options)
    assert (result.bytes_sent, result.bytes_copied, result.verified) == (0, len(data), Verified.FULL_OBJECT)
    path = tmp_path / "data"
    path.write_bytes(data)
    assert (await bigupload.read_back(path, f"s3://{BUCKET}/whole/to.bin", s3=options)).size == len(data)
