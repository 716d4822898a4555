"""Many files by one call: small ones by one PUT each, the others as `upload` does it."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import S3Options, UploadFailed, UploadResult, Verified, errors, events
from bigupload.batch.tree import FileEntry
from bigupload.engine.context import SharedSlots
from bigupload.sources import objects
from bigupload.testing.faults import Call, FlipBit, LostResponse, Reset, Status
from bigupload.testing.strict_s3 import Exchange, S3Error, StrictS3
from tests.tools.web_server import WebServer

from .backends import Backend
from .support import BUCKET, FAST, KIB, PART, World, content, no_leaks, of_function, sha256, write

TO = f"s3://{BUCKET}/p/"


async def sent(sources: Any, options: S3Options, **more: Any) -> list[UploadResult | UploadFailed]:
    more.setdefault("to", TO)
    more.setdefault("retry", FAST)
    return [each async for each in bigupload.upload_many(sources, s3=options, **of_function(more))]


def results(outcomes: list[UploadResult | UploadFailed]) -> list[UploadResult]:
    for each in outcomes:
        assert isinstance(each, UploadResult), each
    return [each for each in outcomes if isinstance(each, UploadResult)]


def failure(outcomes: list[UploadResult | UploadFailed]) -> UploadFailed:
    (failed,) = [each for each in outcomes if isinstance(each, UploadFailed)]
    return failed


def holds(s3: StrictS3, path: Path, key: str) -> bool:
    found = s3.objects[BUCKET].get(key)
    return found is not None and found.sha256() == sha256(path)


async def test_a_small_file_is_one_put_with_its_checksum(world: World) -> None:
    path = world.file(PART)
    (result,) = results(await sent([path], world.options(), on_event=world.events.append))
    assert holds(world.s3, path, "p/file.bin")
    assert [each.op for each in world.s3.requests] == ["PutObject"]
    assert (result.path, result.bucket, result.key, result.size) == (path, BUCKET, "p/file.bin", PART)
    assert (result.verified, result.parts, result.bytes_sent, result.retries) == (Verified.FULL_OBJECT, 1, PART, 0)
    assert result.checksum is not None
    assert result.checksum.startswith("crc64nvme:")
    assert result.url == f"{world.s3.url}/{BUCKET}/p/file.bin"
    assert result.guarded_by == "fingerprint"
    assert world.told(events.UploadCompleted)[0].upload.source == str(path)


async def test_every_file_of_many_and_a_large_one_by_parts(world: World) -> None:
    paths = [write(world.directory / f"{number}.bin", number, number) for number in range(40)]
    large = world.file(3 * PART, "large.bin")
    async with no_leaks():
        outcomes = results(await sent([*paths, large], world.options()))
    assert len(outcomes) == 41
    for path in [*paths, large]:
        assert holds(world.s3, path, f"p/{path.name}")
    assert world.s3.count("PutObject") == 40
    assert world.s3.count("CompleteMultipartUpload") == 1


async def test_sources_of_every_kind(world: World) -> None:
    path = world.file(10)

    async def sources() -> AsyncIterator[Any]:
        yield path
        yield str(path), "named/by the caller +%"
        yield b"bytes", "bytes"
        yield iter([b"a", b"stream"]), "stream"
        yield FileEntry.of(str(path), "entry/ü.bin", path.stat())

    await sent(sources(), world.options())
    objects = {key: each.body for key, each in world.s3.objects[BUCKET].items()}
    file = path.read_bytes()
    assert objects == {
        "p/file.bin": file,
        "p/named/by the caller +%": file,
        "p/bytes": b"bytes",
        "p/stream": b"astream",
        "p/entry/ü.bin": file,
    }


async def test_an_empty_stream_fails_unless_that_is_allowed(world: World) -> None:
    sources = [(iter([]), "stream"), (world.file(0), "file")]
    failed = failure(await sent(sources, world.options()))
    assert (failed.key, type(failed.error)) == ("p/stream", errors.StreamInterrupted)
    assert "`allow_empty=True` uploads an empty object" in str(failed.error)
    results(await sent([(iter([]), "stream")], world.options(), allow_empty=True))
    assert {key: each.body for key, each in world.s3.objects[BUCKET].items()} == {"p/file": b"", "p/stream": b""}


async def test_the_object_has_all_options(world: World) -> None:
    options = world.options(
        metadata={"k": "v"}, tags={"a": "b c"}, storage_class="STANDARD_IA", cache_control="no-cache", acl="private",
        expires="2030-01-31T00:00:00Z", object_lock_mode="GOVERNANCE", object_lock_retain_until="2030-01-31T00:00:00Z",
        expected_bucket_owner=world.s3.knobs.owner, request_payer=True, sse="AES256",
    )  # fmt: skip
    movie, text = world.file(10, "movie.mp4"), world.file(10, "page.html.gz")
    await sent([movie, text], options)
    found = world.s3.objects[BUCKET]["p/movie.mp4"].headers
    assert found["content-type"] == "video/mp4"
    assert found["x-amz-meta-k"] == "v"
    assert found["x-amz-tagging"] == "a=b%20c"
    assert found["x-amz-storage-class"] == "STANDARD_IA"
    assert found["expires"] == "Thu, 31 Jan 2030 00:00:00 GMT"
    assert found["x-amz-object-lock-retain-until-date"] == "2030-01-31T00:00:00Z"
    assert world.s3.objects[BUCKET]["p/page.html.gz"].headers["content-encoding"] == "gzip"


async def test_one_failed_file_does_not_stop_the_others(world: World) -> None:
    good = [world.file(10, f"{number}.bin", number) for number in range(5)]
    world.s3.script("PutObject", Status(403, "AccessDenied"), key="p/2.bin", repeat=True)
    missing = world.directory / "missing.bin"
    outcomes = await sent([*good, missing], world.options())
    failed = {each.key: each for each in outcomes if isinstance(each, UploadFailed)}
    assert set(failed) == {"p/2.bin", "p/missing.bin"}
    assert isinstance(failed["p/2.bin"].error, errors.AccessDenied)
    assert failed["p/2.bin"].source == str(good[2])
    assert isinstance(failed["p/missing.bin"].error, errors.SourceNotFound)
    assert len(outcomes) == 6


@pytest.mark.parametrize(
    "fault",
    [Status(503, "SlowDown"), Status(500), Reset(3), LostResponse(), FlipBit(1)],
    ids=lambda f: type(f).__name__,
)
async def test_what_passes_is_retried(world: World, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_to_slow_down: list[float] = []
    monkeypatch.setattr(SharedSlots, "refused", lambda self, now: asked_to_slow_down.append(now))
    world.s3.script("PutObject", fault)
    path = world.file(PART)
    (result,) = results(await sent([path], world.options(), on_event=world.events.append))
    assert holds(world.s3, path, "p/file.bin")
    assert result.retries == 1
    (retrying,) = world.told(events.Retrying)
    assert retrying.upload.source == str(path)
    assert len(asked_to_slow_down) == (getattr(fault, "status", None) == 503)


async def test_a_mismatch_that_stays_fails(world: World) -> None:
    world.s3.script("PutObject", FlipBit(1), repeat=True)
    failed = failure(await sent([world.file(PART)], world.options()))
    assert isinstance(failed.error, errors.PartCorrupted)
    assert not world.s3.objects[BUCKET]


async def test_what_every_file_would_meet_ends_the_job(world: World) -> None:
    paths = [world.file(10, f"{number}.bin") for number in range(40)]
    with pytest.raises(errors.BucketNotFound):
        await sent(paths, world.options(), to="s3://no-such-bucket/", concurrency=1)
    assert world.s3.count("PutObject") < 10


async def test_a_bucket_in_another_region_is_found_once(world: World) -> None:
    """Nobody has named the region, and the store says which one it is: to large files, and to many small ones."""
    world.s3.create_bucket("far", region="eu-west-9")
    paths = [world.file(3 * PART if number == 0 else 10, f"{number}.bin", number) for number in range(30)]
    outcomes = results(await sent(paths, dataclasses.replace(world.options(), region=None), to="s3://far/"))
    assert len(outcomes) == len(world.s3.objects["far"]) == 30
    assert world.s3.count("HeadBucket", status=200) <= 1


async def test_a_region_that_is_named_and_wrong_ends_the_job(world: World) -> None:
    world.s3.create_bucket("far", region="eu-west-9")
    with pytest.raises(errors.WrongRegion, match="region='eu-west-9'"):
        await sent([world.file(10)], world.options(), to="s3://far/")
    assert world.s3.count("PutObject") == 1


async def test_a_connection_that_breaks_for_one_file_alone_fails_that_file(world: World) -> None:
    paths = [world.file(10, f"{number}.bin", number) for number in range(20)]
    world.s3.script("PutObject", Reset(3), key="p/0.bin", repeat=True)
    outcomes = await sent(paths, world.options(), concurrency=2)
    failed = failure(outcomes)
    assert (failed.key, type(failed.error)) == ("p/0.bin", errors.StoreUnreachable)
    assert len(outcomes) == 20


async def test_a_store_that_is_not_there_ends_the_job(world: World) -> None:
    paths = [world.file(10, f"{number}.bin", number) for number in range(20)]
    gone = S3Options(endpoint_url="http://127.0.0.1:1", region="us-east-1")
    with pytest.raises(errors.StoreUnreachable):
        await sent(paths, gone)


async def test_a_key_of_one_s_own(s3_tls: StrictS3, tmp_path: Path) -> None:
    """SSE-C: what each request has to send is sent with the PUT, too."""
    options = S3Options(
        endpoint_url=s3_tls.url, region=s3_tls.region, ca_bundle=s3_tls.ca_bundle, sse_customer_key=b"k" * 32
    )
    path = write(tmp_path / "file.bin", 100)
    (result,) = results(await sent([path], options))
    assert holds(s3_tls, path, "p/file.bin")
    assert s3_tls.objects[BUCKET]["p/file.bin"].headers["x-amz-server-side-encryption-customer-algorithm"] == "AES256"
    assert result.verified is Verified.FULL_OBJECT


async def test_a_refused_signature_is_made_anew(world: World) -> None:
    world.s3.script("PutObject", Status(403, "AccessDenied"))
    assert results(await sent([world.file(10)], world.options()))


# -- stores that know less


async def test_a_store_that_does_not_echo_is_proved_by_etags(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    paths = [world.file(10, f"{number}.bin", number) for number in range(5)]
    outcomes = results(await sent(paths, world.options(), on_event=world.events.append, concurrency=1))
    assert {each.verified for each in outcomes} == {Verified.COMPOSITE_ETAG}
    assert {each.checksum for each in outcomes} == {None}
    assert world.warnings().count("proved by MD5 instead") == 1
    assert world.s3.count("PutObject") == 5


@pytest.mark.parametrize("status", [400, 501])
async def test_a_store_that_refuses_the_checksum(world: World, status: int) -> None:
    paths = [world.file(10, f"{number}.bin", number) for number in range(5)]
    world.s3.knobs.refuse_checksum_algorithm = status
    world.s3.knobs.default_crc64nvme = False
    outcomes = results(await sent(paths, world.options(), on_event=world.events.append, concurrency=1))
    assert world.warnings().count("refused crc64nvme checksums") == 1
    assert {each.verified for each in outcomes} == {Verified.COMPOSITE_ETAG}
    assert world.s3.count("PutObject", status=200) == 5
    assert world.s3.count("PutObject") <= 10


def refuse_checksums(world: World, status: int = 400, text: str | None = None) -> None:
    """Refuse each PUT with a checksum. The refusal names its header, unless there is another text."""

    def receive(exchange: Exchange) -> None:
        if exchange.op == "PutObject" and "x-amz-checksum-crc64nvme" in exchange.headers:
            named = "Unsupported header 'x-amz-checksum-crc64nvme' received for this API call."
            raise S3Error("NotImplemented" if status == 501 else "InvalidRequest", text or named, status=status)

    world.s3.knobs.default_crc64nvme = False
    world.s3.knobs.receive = receive


@pytest.mark.parametrize(
    ("status", "text", "bodies"), [(400, "Refused.", [2, 2]), (400, None, [2, 1]), (501, "Refused.", [2, 1])]
)
async def test_only_a_refusal_that_is_of_checksums_is_remembered(
    world: World, status: int, text: str | None, bodies: list[int]
) -> None:
    refuse_checksums(world, status, text)
    path, found = world.file(10), []
    for _ in bodies:
        before = world.s3.count("PutObject")
        (result,) = results(await sent([path], world.options()))
        assert result.verified is Verified.COMPOSITE_ETAG
        found.append(world.s3.count("PutObject") - before)
    assert found == bodies


async def test_one_400_that_names_nothing_is_of_one_run(world: World) -> None:
    world.s3.knobs.default_crc64nvme = False
    world.s3.script("PutObject", Status(400, "InvalidRequest"))
    path = world.file(10)
    found = [results(await sent([path], world.options()))[0].verified for _ in range(2)]
    assert found == [Verified.COMPOSITE_ETAG, Verified.FULL_OBJECT]


async def test_what_one_bucket_refused_is_tried_in_another(world: World) -> None:
    refuse_checksums(world)
    path = world.file(10)
    results(await sent([path], world.options()))
    world.s3.knobs.receive = lambda exchange: None
    world.s3.create_bucket("other")
    (result,) = results(await sent([path], world.options(), to="s3://other/p/"))
    assert result.verified is Verified.FULL_OBJECT


async def test_the_next_run_sends_no_checksum_to_a_store_that_refused_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a day, and not where more proof is required than the store gave then."""
    refuse_checksums(world)
    path = world.file(10)

    async def requests(**more: Any) -> int:
        before, world.events = world.s3.count("PutObject"), []
        (result,) = results(await sent([path], world.options(), on_event=world.events.append, **more))
        assert result.verified is Verified.COMPOSITE_ETAG
        assert world.warnings().count("files are proved by MD5 instead") == 1
        return world.s3.count("PutObject") - before

    assert await requests() == 2
    assert await requests() == 1
    await world.upload(path, manifest=None)
    assert world.s3.count("PutObject") == 4, "a single file knows it, too"
    later = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: later)
    assert await requests() == 2
    assert await requests() == 1
    world.s3.knobs.receive = lambda exchange: None
    (result,) = results(await sent([path], world.options(), require_proof="full-object"))
    assert result.verified is Verified.FULL_OBJECT


async def test_one_refusal_does_not_weaken_the_proof_of_a_move(world: World) -> None:
    """Not even one that names the checksum, and that later runs would recall."""
    refuse_checksums(world)
    path = world.file(10)
    (result,) = results(await sent([path], world.options()))
    assert result.verified is Verified.COMPOSITE_ETAG
    world.s3.knobs.receive = lambda exchange: None
    (result,) = results(await sent([path], world.options(), then=bigupload.DeleteSource()))
    assert (result.verified, result.source_deleted) == (Verified.FULL_OBJECT, True)


async def test_a_checksum_that_the_caller_chose_is_tried_whatever_was_remembered(world: World) -> None:
    refuse_checksums(world)
    path = world.file(10)
    results(await sent([path], world.options()))
    world.s3.knobs.receive = lambda exchange: None
    (result,) = results(await sent([path], world.options(), checksum="crc64nvme"))
    assert result.verified is Verified.FULL_OBJECT


async def test_what_was_remembered_goes_where_it_proves_nothing(world: World) -> None:
    refuse_checksums(world)
    results(await sent([world.file(10)], world.options()))
    world.s3.knobs.receive = lambda exchange: None
    world.s3.knobs.etags = "opaque"
    paths = [world.file(10, name=f"{n}") for n in range(2)]
    found = [results(await sent([path], world.options()))[0].verified for path in paths]
    assert found == [Verified.SIZE, Verified.FULL_OBJECT]


async def test_a_store_that_requires_what_it_refused_before(world: World) -> None:
    """What was remembered is forgotten at the first refusal."""
    refuse_checksums(world)
    path = world.file(10)
    results(await sent([path], world.options()))

    def receive(exchange: Exchange) -> None:
        if exchange.op == "PutObject" and "x-amz-checksum-crc64nvme" not in exchange.headers:
            raise S3Error("InvalidRequest")

    world.s3.knobs.receive = receive
    for expected in (2, 1):
        before = world.s3.count("PutObject")
        (result,) = results(await sent([path], world.options()))
        assert result.verified is Verified.FULL_OBJECT
        assert world.s3.count("PutObject") - before == expected


async def test_a_refusal_of_one_file_is_no_refusal_of_checksums(world: World) -> None:
    """As of a key that the store does not take. It is refused before the store has taken any file."""
    paths = [world.file(10, f"{number}.bin", number) for number in range(5)]
    world.s3.script("PutObject", Status(400, "InvalidRequest"), key="p/0.bin", repeat=True)
    refused = asyncio.Event()

    async def sources() -> AsyncIterator[Path]:
        yield paths[0]
        await refused.wait()
        for path in paths[1:]:
            yield path

    given: dict[str, Any] = {"to": TO, "s3": world.options(), "on_event": world.events.append, "retry": FAST}
    async for outcome in bigupload.upload_many(sources(), **of_function(given)):
        if isinstance(outcome, UploadFailed):
            assert outcome.key == "p/0.bin"
            refused.set()
        else:
            assert outcome.verified is Verified.FULL_OBJECT
    assert world.s3.count("PutObject", status=200) == 4
    assert not world.warnings()


async def test_where_nothing_proves_a_put_its_size_is_proved(world: World) -> None:
    """Small files are not worth three times as many requests."""
    world.s3.knobs.echo_checksums = False
    world.s3.knobs.etags = "opaque"
    paths = [world.file(10, f"{number}.bin", number) for number in range(5)]
    told: list[Any] = []
    found = results(await sent(paths, world.options(), on_event=told.append))
    assert {each.verified for each in found} == {Verified.SIZE}
    for path in paths:
        assert holds(world.s3, path, f"p/{path.name}")
    assert {each.op for each in world.s3.requests} == {"PutObject"}
    warnings = [event.message for event in told if isinstance(event, events.Warned)]
    assert len(warnings) == 1
    assert "only their sizes are proved (to require more: `require_proof`)" in warnings[0]


async def test_where_a_put_proves_too_little_files_go_by_parts(world: World) -> None:
    world.s3.knobs.echo_checksums = False  # of a PUT, an ETag is left, which is less than required
    paths = [world.file(10, f"{number}.bin", number) for number in range(5)]
    for each in await sent(paths, world.options(), concurrency=1, require_proof="full-object"):
        assert isinstance(each, UploadFailed)
        assert isinstance(each.error, bigupload.ProofTooWeak)  # this store proves no more by parts, either
    for path in paths:
        assert holds(world.s3, path, f"p/{path.name}")
    assert world.s3.count("CompleteMultipartUpload") == 5
    assert world.s3.count("PutObject") <= 5  # those that were begun before the first response


async def test_where_a_put_proves_too_little_what_must_not_be_replaced_stays(world: World) -> None:
    world.s3.knobs.echo_checksums = False
    path = world.file(10)
    (failed,) = await sent([path], world.options(if_none_match=True), require_proof="full-object")
    assert isinstance(failed, UploadFailed)
    assert isinstance(failed.error, bigupload.ProofTooWeak)
    assert "is complete, but proved by composite-etag only; full-object is required" in str(failed.error)
    assert holds(world.s3, path, "p/file.bin")
    assert world.s3.count("CreateMultipartUpload") == 0


@pytest.mark.parametrize("checksum", ["crc32c", "sha256", "md5", "none"])
async def test_other_checksums(world: World, checksum: Any) -> None:
    path = world.file(PART)
    (result,) = results(await sent([path], world.options(), checksum=checksum))
    assert holds(world.s3, path, "p/file.bin")
    levels = {"md5": Verified.COMPOSITE_ETAG, "none": Verified.SIZE}
    assert result.verified is levels.get(checksum, Verified.FULL_OBJECT)


# -- if_none_match


async def test_if_none_match_refuses_what_is_there(world: World) -> None:
    client = world.s3.client()
    client.put_object(Bucket=BUCKET, Key="p/file.bin", Body=b"theirs")
    client.close()
    failed = failure(await sent([world.file(10)], world.options(if_none_match=True)))
    assert isinstance(failed.error, errors.TargetExists)
    assert world.s3.objects[BUCKET]["p/file.bin"].body == b"theirs"


@pytest.mark.parametrize("same", [True, False], ids=["the same bytes", "other bytes"])
async def test_if_none_match_is_held_to_by_the_store(world: World, same: bool) -> None:
    path = world.file(10)

    def overtake(s3: StrictS3) -> None:
        client = s3.client()
        client.put_object(Bucket=BUCKET, Key="p/file.bin", Body=path.read_bytes() if same else b"theirs")
        client.close()

    world.s3.script("PutObject", Call(overtake))
    failed = failure(await sent([path], world.options(if_none_match=True)))
    assert isinstance(failed.error, errors.TargetExists)


@pytest.mark.parametrize("echo", [True, False], ids=["with checksums", "without checksums"])
async def test_if_none_match_with_a_lost_response_finds_its_own_object(world: World, echo: bool) -> None:
    world.s3.knobs.echo_checksums = echo
    world.s3.script("PutObject", LostResponse())
    path = world.file(10)
    (result,) = results(await sent([path], world.options(if_none_match=True)))
    assert holds(world.s3, path, "p/file.bin")
    assert world.s3.count("PutObject", status=412) == 1
    assert result.verified is (Verified.FULL_OBJECT if echo else Verified.COMPOSITE_ETAG)


async def test_if_none_match_with_a_lost_response_does_not_claim_another_object(world: World) -> None:
    path = world.file(10)

    def replace(s3: StrictS3) -> None:
        client = s3.client()
        client.put_object(Bucket=BUCKET, Key="p/file.bin", Body=path.read_bytes())
        client.close()

    world.s3.script("PutObject", Reset(3), Call(replace))
    failed = failure(await sent([path], world.options(if_none_match=True)))
    assert isinstance(failed.error, errors.TargetExists)


async def test_the_manifest_of_an_object_that_is_replaced_is_set_aside(world: World) -> None:
    path, state = world.file(10), world.directory / "state"
    more: dict[str, Any] = {"part_size": KIB, "verify_source": True, "state_dir": state}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bigupload.sources.objects.MAX_SMALL_FILE", 0)  # a file that is read twice goes by parts
        results(await sent([path], world.options(), **more))
    (manifest,) = state.glob("*.manifest.jsonl")
    path.write_bytes(b"other")
    results(await sent([path], world.options(), state_dir=state, on_event=world.events.append))
    assert world.s3.count("PutObject") == 1
    assert holds(world.s3, path, "p/file.bin")
    assert "was uploaded before: uploading it again" in world.warnings()
    assert not manifest.exists()


# -- files that change


async def test_a_file_that_changes_while_it_is_read_never_becomes_an_object(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.file(PART)
    read_cached = objects.read_cached

    def read_and_change(fd: int, buffer: memoryview, offset: int) -> int:
        count = read_cached(fd, buffer, offset)
        monkeypatch.setattr(objects, "read_cached", read_cached)
        path.write_bytes(content(PART, 9))
        return count

    monkeypatch.setattr(objects, "read_cached", read_and_change)
    (result,) = results(await sent([path], world.options()))
    assert result.size == PART
    assert holds(world.s3, path, "p/file.bin")


async def test_a_job_goes_on_when_the_file_is_replaced_meanwhile(world: World) -> None:
    """What was read is what is sent, whatever becomes of the file."""
    path = world.file(PART)
    before = path.read_bytes()
    world.s3.script("PutObject", Call(lambda _: path.write_bytes(b"new")))
    (result,) = results(await sent([path], world.options()))
    assert world.s3.objects[BUCKET]["p/file.bin"].body == before
    assert result.size == PART


async def test_arguments_are_checked_at_once(world: World) -> None:
    async with bigupload.Uploader() as uploader:
        with pytest.raises(errors.UsageError, match="slash"):
            uploader.upload_many([], to=f"s3://{BUCKET}/key")
        with pytest.raises(errors.UsageError, match="pair of a source and its key"):
            [each async for each in uploader.upload_many([7], to=TO, s3=world.options())]  # type: ignore[list-item]  # what is refused
        assert [each async for each in uploader.upload_many([], to=f"s3://{BUCKET}", s3=world.options())] == []


@pytest.mark.exhaustive
async def test_any_store_takes_awkward_keys(any_store: Backend, tmp_path: Path) -> None:
    keys = ["a b+c%41&=?#;,/é😀", "..", "a/../b", "//x//", "trailing.", "ÅÅ", "k" * 900]
    path = write(tmp_path / "file.bin", 3 * KIB)
    keys = [key for key in keys if any_store.name == "strict" or (".." not in key and "//" not in key)]
    outcomes = await sent([(path, f"{key}/end") for key in keys], any_store.options)
    assert len(results(outcomes)) == len(keys)
    for key in keys:
        store = any_store.store(f"p/{key}/end")
        found = await store.attributes()
        await store.aclose()
        assert found is not None, key
        assert found.size == 3 * KIB


async def test_urls_among_many_files(world: World, web: WebServer, url: str) -> None:
    """Each by its name, or by the key that stands beside it."""
    to = f"s3://{BUCKET}/many/"
    given = [url, (url, "other.mov")]
    outcomes = [
        each
        async for each in bigupload.upload_many(
            given, to=to, s3=world.options(), uploader=bigupload.Uploader(retry=FAST)
        )
    ]
    assert all(isinstance(each, bigupload.UploadResult) for each in outcomes)
    assert sorted(world.s3.objects[BUCKET]) == ["many/film.mov", "many/other.mov"]
    with pytest.raises(bigupload.UsageError, match="has no name of its own: give it together with a key"):
        async for _ in bigupload.upload_many([web.url], to=to, s3=world.options()):
            pass
