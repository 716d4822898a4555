"""Stores that know less than AWS, or say what is not so: proved by what remains, refused where they contradict."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

import bigupload
from bigupload import PartProof, Verified, errors, events
from bigupload.testing.faults import LostResponse, Reset, Status, WrongEtag
from bigupload.testing.strict_s3 import Exchange, StoreResponse

from .support import FAST, PART, World, assert_secretless


async def test_a_store_that_does_not_echo_is_proved_by_etags(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    path = world.file(5 * PART)
    result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is Verified.COMPOSITE_ETAG
    assert result.checksum is None
    assert world.warnings().count("proved by MD5 instead") == 1
    assert {event.proof for event in world.told(events.PartUploaded)} == {PartProof.ETAG}
    # The first parts went out before the store's silence was noticed; nothing is sent twice for it.
    assert sorted(world.sent()) == [1, 2, 3, 4, 5]


async def test_a_store_that_capitalises_metadata_keys_is_believed(world: World) -> None:
    """As rclone's server: without checksums the object is looked at, and its ETag is not the one of complete."""
    world.s3.knobs.echo_checksums = False
    path = world.file(3 * PART)
    whole = f'"{hashlib.md5(path.read_bytes()).hexdigest()}"'

    def respond(op: str, response: StoreResponse) -> StoreResponse:
        told = response.with_etag(whole) if op == "HeadObject" else response
        return replace(told, headers={name.title(): value for name, value in told.headers.items()})

    world.s3.knobs.respond = respond
    result = await world.upload(path, options=world.options(metadata={"Tok": "value"}))
    assert world.holds(path)
    assert result.verified is Verified.COMPOSITE_ETAG


def forget_metadata(exchange: Exchange) -> None:
    for name in [each for each in exchange.headers if each.startswith("x-amz-meta-")]:
        del exchange.headers[name]


@pytest.mark.parametrize("checksums", [True, False], ids=["with checksums", "without checksums"])
async def test_a_lost_complete_on_a_store_that_keeps_no_metadata(world: World, checksums: bool) -> None:
    """There is no token to look for. Without one it looked for five minutes, and then called the object another's."""
    world.s3.knobs.receive = forget_metadata
    world.s3.knobs.echo_checksums = checksums
    world.s3.script("CompleteMultipartUpload", LostResponse())
    path = world.file(3 * PART)
    result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is (Verified.FULL_OBJECT if checksums else Verified.COMPOSITE_ETAG)
    assert world.s3.count("CompleteMultipartUpload") == 1
    assert "looking" not in world.warnings()


async def test_an_object_of_the_same_bytes_does_not_end_an_upload_that_is_open(world: World) -> None:
    """Without metadata only the content tells, and here an earlier upload made it."""
    world.s3.knobs.receive = forget_metadata
    path = world.file(3 * PART)
    await world.upload(path, manifest=world.directory / "first.jsonl")
    world.s3.script("CompleteMultipartUpload", Reset())
    await world.upload(path)
    assert world.s3.count("CompleteMultipartUpload") == 3
    assert not world.s3.uploads


@pytest.mark.parametrize(("checksum", "other"), [("auto", "sha256"), ("crc32c", "sha256"), ("sha256", "md5")])
async def test_a_store_that_computes_the_objects_checksum_wrongly(world: World, checksum: str, other: str) -> None:
    """The advice works: with it, the upload succeeds."""
    refused = Status(400, "BadDigest")
    world.s3.script("CompleteMultipartUpload", refused)
    path = world.file(3 * PART)
    with pytest.raises(
        errors.ObjectMismatch, match=f"wrongly. Upload .*`resume=False`.*`checksum='{other}'`$"
    ) as caught:
        await world.upload(path, checksum=checksum)
    assert caught.value.exit_code == 1
    await world.upload(path, checksum=other, resume=False)
    assert world.holds(path)


@pytest.mark.parametrize("lacks", [Status(501, "NotImplemented"), Status(405, "MethodNotAllowed")], ids=["501", "405"])
async def test_a_store_without_list_parts_names_the_way_out(world: World, lacks: Status) -> None:
    path = world.file(6 * PART)
    await world.interrupted(path, after=2)
    world.s3.script("ListParts", lacks, repeat=True)
    with pytest.raises(errors.StoreRefused, match=r"cannot list the parts.*again with `resume=False`$") as caught:
        await world.upload(path)
    assert caught.value.exit_code == 1
    await world.upload(path, resume=False)
    assert world.holds(path)


async def test_a_store_without_list_parts_can_abort(world: World) -> None:
    await world.interrupted(world.file(6 * PART), after=2)
    world.s3.script("ListParts", Status(501, "NotImplemented"), repeat=True)
    async with bigupload.Uploader(retry=FAST) as uploader:
        await uploader.abort(world.manifest_path)
    assert not world.s3.uploads
    assert world.manifest.status == "aborted"


async def test_a_store_without_abort_says_what_is_left(world: World) -> None:
    await world.interrupted(world.file(6 * PART), after=2)
    world.s3.script("AbortMultipartUpload", Status(405, "MethodNotAllowed"), repeat=True)
    async with bigupload.Uploader(retry=FAST) as uploader:
        with pytest.raises(errors.StoreRefused, match="cannot abort an upload: delete the manifest to forget it"):
            await uploader.abort(world.manifest_path)


@pytest.mark.parametrize("checksum", ["auto", "md5"])
async def test_opaque_etags_are_proved_by_content_md5(world: World, checksum: str) -> None:
    world.s3.knobs.echo_checksums = False
    world.s3.knobs.etags = "opaque"
    path = world.file(4 * PART)
    result = await world.upload(path, checksum=checksum, concurrency=2)
    assert world.holds(path)
    assert result.verified is Verified.SIZE
    assert "only its size" in world.warnings()
    assert {event.proof for event in world.told(events.PartUploaded)} == {PartProof.MD5}
    refused = [r for r in world.s3.requests if r.op == "UploadPart" and r.error == "BadDigest"]
    assert len(refused) == 1, "the store is probed once"


async def test_where_nothing_proves_a_part_the_upload_ends(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    world.s3.knobs.etags = "opaque"
    world.s3.knobs.receive = lambda exchange: exchange.headers.pop("content-md5", None)
    path = world.file(3 * PART)
    with pytest.raises(errors.PartUnproved, match="`checksum='none'`") as caught:
        await world.upload(path)
    assert caught.value.exit_code == 1
    assert not world.object()
    assert not world.told(events.PartUploaded)


async def test_no_proof_is_fine_where_none_was_asked_for(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    world.s3.knobs.etags = "opaque"
    world.s3.knobs.receive = lambda exchange: exchange.headers.pop("content-md5", None)
    path = world.file(3 * PART)
    result = await world.upload(path, checksum="none")
    assert world.holds(path)
    assert result.verified is Verified.SIZE


@pytest.mark.parametrize("status", [400, 501])
async def test_a_refused_algorithm_is_left_out_once_with_a_warning(world: World, status: int) -> None:
    world.s3.knobs.refuse_checksum_algorithm = status
    path = world.file(3 * PART)
    result = await world.upload(path)
    assert world.holds(path)
    assert world.s3.count("CreateMultipartUpload") == 2
    assert world.warnings().count("the store refused crc64nvme checksums") == 1
    # AWS gives an object a CRC64NVME of its own accord, and that one counts.
    assert result.verified is Verified.FULL_OBJECT
    assert {event.proof for event in world.told(events.PartUploaded)} == {PartProof.ETAG}


async def test_a_refused_algorithm_at_a_store_without_checksums(world: World) -> None:
    world.s3.knobs.refuse_checksum_algorithm = 400
    world.s3.knobs.default_crc64nvme = False
    result = await world.upload(world.file(3 * PART))
    assert result.verified is Verified.COMPOSITE_ETAG


async def test_another_400_at_create_is_not_taken_for_a_refused_algorithm(world: World) -> None:
    with pytest.raises(errors.StoreRefused, match="InvalidStorageClass") as caught:
        await world.upload(world.file(1), options=world.options(storage_class="NO_SUCH"))
    assert caught.value.exit_code == 1
    assert not world.manifest_path.exists()
    assert_secretless(caught.value)


async def test_an_echo_that_differs_is_a_failed_part_and_never_a_lower_level(world: World) -> None:
    world.s3.knobs.lie_checksum = True
    with pytest.raises(errors.PartCorrupted, match="checksum mismatch") as caught:
        await world.upload(world.file(PART))
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert caught.value.manifest == world.manifest_path
    assert world.sent() == [1, 1]
    assert not world.told(events.PartUploaded)
    assert not world.object()


async def test_a_lie_about_the_whole_is_a_mismatch(world: World) -> None:
    world.s3.knobs.lie_complete = True
    with pytest.raises(errors.ObjectMismatch) as caught:
        await world.upload(world.file(3 * PART))
    assert caught.value.exit_code == 1
    assert world.manifest.status == "completing"
    assert not world.told(events.UploadCompleted)


async def test_a_wrong_etag_is_mended_from_the_list(world: World) -> None:
    world.s3.script("UploadPart", WrongEtag(), part_number=2)
    path = world.file(3 * PART)
    result = await world.upload(path)
    assert world.holds(path)
    assert result.verified is Verified.FULL_OBJECT
    assert world.s3.count("CompleteMultipartUpload", status=400) == 1
    assert sorted(world.sent()) == [1, 2, 3]


async def test_a_wrong_etag_without_checksums_is_sent_again_or_proved(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    world.s3.script("UploadPart", WrongEtag(), part_number=2)
    path = world.file(3 * PART)
    result = await world.upload(path, concurrency=1)
    assert world.holds(path)
    assert result.verified in (Verified.COMPOSITE_ETAG, Verified.SIZE)


@pytest.mark.parametrize(
    ("required", "enough"),
    [("full-object", False), ("composite-checksum", False), ("composite-etag", True), ("size", True)],
)
async def test_require_proof(world: World, required: str, enough: bool) -> None:
    world.s3.knobs.echo_checksums = False
    path = world.file(2 * PART)
    if enough:
        result = await world.upload(path, require_proof=required)
        assert result.verified is Verified.COMPOSITE_ETAG
        return
    with pytest.raises(errors.ProofTooWeak, match="composite-etag only") as caught:
        await world.upload(path, require_proof=required)
    assert caught.value.exit_code == 1
    assert world.holds(path)
    assert not world.told(events.UploadCompleted)


async def test_what_success_rests_on_where_the_store_shows_only_the_size(world: World) -> None:
    """As docs/proof.md says to those who delete the file: a warning, or an error for who asks for a proof."""
    world.s3.knobs.echo_checksums = False
    world.s3.knobs.etags = "opaque"
    path = world.file(2 * PART)
    result = await world.upload(path)
    assert result.verified is Verified.SIZE
    assert "size" in world.warnings()
    with pytest.raises(errors.ProofTooWeak) as caught:
        await world.upload(path, require_proof="composite-etag", resume=False)
    assert caught.value.exit_code == errors.EXIT_FAILED
    assert world.holds(path)


async def test_an_unknown_proof_is_a_usage_error(world: World) -> None:
    with pytest.raises(errors.UsageError, match="full-object, composite-checksum"):
        await world.upload(world.file(1), require_proof="certainly")
