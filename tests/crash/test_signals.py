"""Stopped by a signal, by another process that has the lock, by a full disk: resumable, and one line says so."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.testing.faults import Call, Ok
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.signals import heard

from .running import LONG, PART, Ended, Place, Process, driver, end_of, random_file, until

PARTS = 40
SIZE = PARTS * PART
SMALL = driver(["--least-part", str(PART)])


@pytest.fixture(autouse=True)
def signals_are_heard() -> Iterator[None]:
    """A test run in the background has them ignored, and what it starts would inherit that."""
    with heard():
        yield


@pytest.fixture
def place(tmp_path: Path) -> Place:
    random_file(tmp_path / "file.bin", SIZE, seed=3)
    return Place(tmp_path)


def upload(s3: StrictS3, place: Place, *more: str) -> list[str | Path]:
    target = ["upload", place.directory / "file.bin", "--to", "s3://bucket/key", "--endpoint-url", s3.url]
    return [*target, "--part-size", str(PART), "--concurrency", "4", "--progress", "none", "--json", *more]


def assert_proved(s3: StrictS3, place: Place, ended: Ended) -> None:
    assert (ended.code, ended.err) == (0, "")
    assert ended.result["verified"] == "full-object"
    assert s3.objects["bucket"]["key"].body == (place.directory / "file.bin").read_bytes()
    assert s3.count("CompleteMultipartUpload", status=200) == 1
    assert not s3.uploads


def delivered(process: Process, number: int) -> bool:
    """Whether the kernel has handed over every signal of that number."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    pending = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return not any(mask >> (number - 1) & 1 for mask in pending)


# --- signals


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)], ids=lambda value: str(value)
)
def test_a_signal_leaves_a_resumable_manifest_and_one_line(
    s3: StrictS3, place: Place, number: signal.Signals, code: int
) -> None:
    s3.hold("UploadPart")
    with place.start(*upload(s3, place), command=SMALL) as process:
        s3.wait_for("UploadPart", 4, timeout=LONG)
        process.send_signal(number)
        ended = end_of(process)
    assert (ended.code, ended.out) == (code, "")
    assert (
        ended.complaint
        == f"bigupload: stopped: 0 of {PARTS} parts are known to be in the store; the same command resumes"
    )
    assert place.manifest().status == "uploading"
    (upload_id,) = s3.uploads
    s3.release()
    ended = place.run(*upload(s3, place), command=SMALL)
    assert_proved(s3, place, ended)
    assert {each.upload_id for each in s3.requests if each.op == "UploadPart"} == {upload_id}


@pytest.mark.parametrize("command", ["upload", "sync"])
@pytest.mark.exhaustive
def test_many_files_that_a_signal_stops_are_resumed(s3: StrictS3, place: Place, command: str) -> None:
    """What is said to be in the store is not sent again: neither the files nor the parts of a large one."""
    root = place.directory / "tree"
    root.mkdir()
    for number in range(20):
        (root / f"{number:02}").write_bytes(bytes([number]) * 1000)
    (place.directory / "file.bin").rename(root / "99")
    held = threading.Event()
    for key in ("p/18", "p/19"):
        s3.script("PutObject", Call(lambda _: held.wait() and None), key=key)
    s3.script("UploadPart", *[Ok()] * 7, *[Call(lambda _: held.wait() and None)] * PARTS)
    target = ("--to", "s3://bucket/p/", "--endpoint-url", s3.url, "--part-size", str(PART), "--concurrency", "4")
    arguments = (command, root, *target, "--progress", "json", "--json")
    with place.start(*arguments, command=SMALL) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(18):  # a line for each file
            assert process.stdout.readline()
        parts = 0
        while parts < 7:
            parts += json.loads(process.stderr.readline())["event"] == "PartUploaded"
        process.send_signal(signal.SIGINT)
        ended = end_of(process)
    held.set()
    assert ended.code == 130
    assert ended.err.splitlines()[-1].startswith(
        f"bigupload: stopped: 18 files (18 kB) and at least 7 of {PARTS} parts of another are in the store; "
    )
    s3.clear()
    before = len(s3.requests)
    ended = place.run(*arguments, command=SMALL)
    assert ended.code == 0
    sent = [request.op for request in s3.requests[before:]]
    assert (sent.count("PutObject"), sent.count("UploadPart")) == (2, PARTS - 7)
    assert {key: bytes(each.body) for key, each in s3.objects["bucket"].items()} == {
        f"p/{path.name}": path.read_bytes() for path in root.iterdir()
    }


def test_a_signal_after_no_resume_names_the_command_that_resumes(s3: StrictS3, place: Place) -> None:
    s3.hold("UploadPart")
    with place.start(*upload(s3, place), "--no-resume", command=SMALL) as process:
        s3.wait_for("UploadPart", 1, timeout=LONG)
        process.send_signal(signal.SIGTERM)
        ended = end_of(process)
    assert ended.complaint.endswith("in the store; the same command without --no-resume resumes")


_PROGRAM = """
import sys, bigupload
bigupload.upload_sync(sys.argv[1], to="s3://bucket/key", s3=bigupload.S3Options(endpoint_url=sys.argv[2]))
"""


def test_ctrl_c_in_a_program_leaves_a_short_traceback_that_says_what_resumes(s3: StrictS3, place: Place) -> None:
    random_file(place.directory / "file.bin", 9_000_000, seed=3)
    s3.hold("UploadPart")
    program = [sys.executable, "-c", _PROGRAM]
    with place.start(place.directory / "file.bin", s3.url, command=program) as process:
        s3.wait_for("UploadPart", 1, timeout=LONG)
        process.send_signal(signal.SIGINT)
        ended = end_of(process)
    s3.release()
    assert ended.err.count("Traceback") == 1
    assert ended.err.count('  File "') == 2  # the program's line and `upload_sync`
    resume = f"the upload can be resumed: bigupload resume {place.manifest_path()}"
    assert ended.err.splitlines()[-2:] == ["KeyboardInterrupt", resume]
    assert place.manifest().status == "uploading"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="what is pending is read from /proc")
def test_a_second_one_leaves_at_once(s3: StrictS3, place: Place) -> None:
    """Complete is under way, and its response is waited for after the first."""
    s3.hold("CompleteMultipartUpload", acted=True)
    with place.start(*upload(s3, place), command=SMALL) as process:
        until(lambda: "key" in s3.objects["bucket"], process)
        process.send_signal(signal.SIGINT)
        until(lambda: delivered(process, signal.SIGINT), process)
        process.send_signal(signal.SIGINT)
        ended = end_of(process)
    assert (ended.code, ended.out, ended.err) == (130, "", "")
    assert place.manifest().status == "completing"
    s3.release()
    ended = place.run(*upload(s3, place), command=SMALL)
    assert_proved(s3, place, ended)
    assert ended.result["bytes_sent"] == 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="what is pending is read from /proc")
def test_a_complete_that_is_under_way_is_seen_through(s3: StrictS3, place: Place) -> None:
    s3.hold("CompleteMultipartUpload", acted=True)
    with place.start(*upload(s3, place), command=SMALL) as process:
        until(lambda: "key" in s3.objects["bucket"], process)
        process.send_signal(signal.SIGTERM)
        until(lambda: delivered(process, signal.SIGTERM), process)
        s3.release()
        ended = end_of(process)
    assert ended.code == 75
    assert place.manifest().status == "completed"


@pytest.mark.slow  # the grace is five seconds
def test_a_complete_that_hangs_does_not_keep_the_process(s3: StrictS3, place: Place) -> None:
    """Neither the upload nor the thread that waits for the response, which would for five minutes."""
    s3.hold("CompleteMultipartUpload", acted=True)
    with place.start(*upload(s3, place), command=SMALL) as process:
        until(lambda: "key" in s3.objects["bucket"], process)
        process.send_signal(signal.SIGTERM)
        ended = end_of(process)
    assert ended.code == 75
    assert place.manifest().status == "completing"
    s3.release()
    ended = place.run(*upload(s3, place), command=SMALL)
    assert_proved(s3, place, ended)
    assert ended.result["bytes_sent"] == 0
    ended = place.run("resume", place.manifest_path(), "--json", "--progress", "none")
    assert_proved(s3, place, ended)


@pytest.mark.slow
def test_nohup_is_respected(s3: StrictS3, place: Place) -> None:
    """A signal that the caller has it ignore does not stop it."""
    s3.hold("UploadPart")
    command = [sys.executable, "-c", _IGNORING, *SMALL]
    with place.start(*upload(s3, place), command=command) as process:
        s3.wait_for("UploadPart", 4, timeout=LONG)
        process.send_signal(signal.SIGHUP)
        s3.release()
        ended = end_of(process)
    assert_proved(s3, place, ended)


_IGNORING = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""


# --- two at once


@pytest.mark.slow
def test_the_second_of_two_is_told_who_holds_the_lock(s3: StrictS3, place: Place) -> None:
    s3.hold("UploadPart")
    with place.start(*upload(s3, place), command=SMALL) as first:
        s3.wait_for("UploadPart", 4, timeout=LONG)
        before = place.manifest_path().read_bytes()
        second = place.run(*upload(s3, place), command=SMALL)
        assert (second.code, second.result["error"]) == (75, "ManifestLocked")
        assert f"(process {first.pid})" in second.complaint
        assert "wait for it, or stop it first" in second.complaint
        resumed = place.run("resume", place.manifest_path())
        assert resumed.code == 75
        assert f"(process {first.pid})" in resumed.complaint
        assert place.manifest_path().read_bytes() == before
        s3.release()
        assert_proved(s3, place, end_of(first))
    assert s3.count("UploadPart") == PARTS
    assert s3.count("CreateMultipartUpload") == 1


# --- a full disk under the manifest


def assert_stopped_by_the_disk(ended: Ended, reason: str) -> None:
    assert (ended.code, ended.result["error"]) == (75, "ManifestUnwritable")
    assert "can't write the manifest" in ended.complaint
    assert reason in ended.complaint


def assert_intact(place: Place) -> int:
    """Check that the lines are whole and the upload can be resumed. Returns the recorded parts."""
    assert place.manifest_path().read_bytes().endswith(b"\n")
    manifest = place.manifest()
    assert manifest.status == "uploading"
    return len(manifest.parts)


@pytest.mark.slow
def test_a_manifest_that_may_not_grow(s3: StrictS3, place: Place) -> None:
    ended = place.run(*upload(s3, place), command=driver(["--least-part", str(PART), "--largest-file", "2500"]))
    assert_stopped_by_the_disk(ended, "this process may not write so large a file: allow more (ulimit -f)")
    assert 0 < assert_intact(place) < PARTS
    sent = s3.count("UploadPart", status=200)
    ended = place.run(*upload(s3, place), command=SMALL)
    assert_proved(s3, place, ended)
    assert s3.count("UploadPart", status=200) == PARTS, f"{sent} were there"  # what had no record was adopted


@pytest.mark.slow
def test_no_room_for_the_first_record(s3: StrictS3, place: Place) -> None:
    """The upload that was just created is aborted, because no manifest records it."""
    ended = place.run(*upload(s3, place), command=driver(["--least-part", str(PART), "--largest-file", "100"]))
    assert_stopped_by_the_disk(ended, "this process may not write so large a file: allow more (ulimit -f)")
    assert not s3.uploads
    assert not [path for path in place.state.iterdir() if path.suffix != ".lock"]
    assert_proved(s3, place, place.run(*upload(s3, place), command=SMALL))


@pytest.mark.slow
def test_a_disk_that_is_full(s3: StrictS3, place: Place, small_disk: Path) -> None:
    manifest = small_disk / "upload.manifest"
    filler = small_disk / "filler"
    page = os.sysconf("SC_PAGE_SIZE")
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(page))
    os.truncate(filler, filler.stat().st_size - 2 * page)  # one for the lock's pid, one for the manifest
    arguments = upload(s3, place, "--manifest", str(manifest))
    ended = place.run(*arguments, command=SMALL)
    assert_stopped_by_the_disk(ended, "No space left on device; free some space on that disk, then run again")
    assert manifest.read_bytes().endswith(b"\n")
    sent = s3.count("UploadPart", status=200)
    assert sent >= 4
    again = place.run(*arguments, command=SMALL)  # still full
    assert_stopped_by_the_disk(again, "No space left on device; free some space on that disk, then run again")
    filler.unlink()
    ended = place.run(*arguments, command=SMALL)
    assert_proved(s3, place, ended)
    assert s3.count("UploadPart", status=200) == PARTS
