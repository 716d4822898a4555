"""Going on with what was completed, or was about to be, whether that was recorded or not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.core.manifest import Completed, CompletingRecord
from bigupload.engine import multipart_upload
from bigupload.manifests.journal import read_manifest
from bigupload.manifests.state_directory import SUFFIX
from bigupload.testing.faults import Status
from tests.core import samples

from .stopped import PARTS, SIZE, edit, lines, the_file
from .support import BUCKET, PART, World


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
    result = await world.upload(path)
    assert world.holds(path)
    assert result.resumed_parts == 0, "those that were there are the other upload's"
    assert "the source has changed since: uploading it again" in world.warnings()


@pytest.mark.parametrize("change", [Path.touch, lambda path: path.chmod(0o600), lambda path: copy_over(path)])
async def test_completed_unrecorded_and_only_the_fingerprint_changed_sends_nothing(
    world: World, change: Callable[[Path], None]
) -> None:
    """The file is hashed instead: it may be a terabyte."""
    path = world.file(SIZE)
    await world.upload(path)
    world.manifest_path.write_bytes(b"".join(lines(world)[:-1]))
    world.events.clear()
    change(path)
    sent = len(world.sent())
    result = await world.upload(path)
    assert result.verified is Verified.FULL_OBJECT
    assert (len(world.sent()), world.s3.count("CompleteMultipartUpload")) == (sent, 1)
    assert [event.reason for event in world.told(events.Hashing)] == [
        "an earlier run completed the object: is it of these bytes?"
    ]
    assert not world.warnings()


def copy_over(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


async def test_resume_of_a_completed_unrecorded_upload_of_a_changed_file_only_says_so(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    world.manifest_path.write_bytes(b"".join(lines(world)[:-1]))
    before = world.object().sha256()
    edit(path, 2)
    result = await world.resume(trust=True)
    assert result.verified is Verified.FULL_OBJECT
    assert world.object().sha256() == before
    assert "has changed since" in world.warnings()


async def test_completing_and_the_session_has_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request is a HEAD, whose 400 has no body that would say ExpiredToken."""
    path = world.file(SIZE)
    await world.upload(path)
    world.manifest_path.write_bytes(b"".join(lines(world)[:-1]))
    session = world.s3.issue_session(seconds=-1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", session.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", session.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", session.session_token or "")
    with pytest.raises(errors.CredentialsError, match="credentials have expired") as caught:
        await world.resume(trust=True)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE


async def test_completing_and_gone_and_no_object(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart_upload, "_LOOK_FOR", 0.0)
    path = world.file(SIZE)
    await world.upload(path)
    world.manifest_path.write_bytes(b"".join(lines(world)[:-1]))
    world.s3.objects[BUCKET].clear()
    with pytest.raises(errors.UploadGone, match="`resume=False`") as caught:
        await world.upload(path)
    assert caught.value.exit_code == 1
    await world.upload(path, resume=False)
    assert world.holds(path)


async def test_an_object_that_appears_late_is_waited_for_and_the_wait_is_told_once(world: World) -> None:
    path = world.file(SIZE)
    await world.upload(path)
    world.manifest_path.write_bytes(b"".join(lines(world)[:-1]))
    world.events.clear()
    world.s3.script("HeadObject", *[Status(404)] * 3)
    since = world.s3.count("UploadPart")
    result = await world.upload(path)
    assert result.verified is bigupload.Verified.FULL_OBJECT
    assert world.s3.count("UploadPart") == since
    assert world.warnings().count("its object is not there yet") == 1


async def test_completing_and_anothers_object(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart_upload, "_LOOK_FOR", 0.0)
    path = world.file(SIZE)
    await world.upload(path)
    world.manifest_path.write_bytes(b"".join(lines(world)[:-1]))
    client = world.s3.client()
    client.put_object(Bucket=BUCKET, Key="key", Body=b"theirs")
    client.close()
    with pytest.raises(errors.TargetReplaced):
        await world.resume(trust=True)
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


async def test_an_upload_deletes_what_finished_long_ago(world: World) -> None:
    """No command is needed to keep the state directory small."""
    state = world.directory / "state"
    state.mkdir(mode=0o700)
    old = state / f"old{SUFFIX}"
    completed = (*samples.ALL_PARTS, CompletingRecord(None), Completed(etag='"e"', verified=Verified.SIZE))
    old.write_bytes(samples.lines(samples.header(), *completed))
    os.utime(old, (0, 0))
    result = await world.upload(world.file(PART + 1), state_dir=state, manifest=None)
    assert list(state.glob(f"*{SUFFIX}*")) == [result.manifest]
