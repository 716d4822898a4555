"""Results that can't be written: one line that says so, and what is done by then. No traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Ended, Place

from .support import Command, assert_refused, to

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="a device that is always full")
CANT = "can't write the results to standard output: No space left on device"


def run_into(output: int, place: Place, *arguments: str | Path, unbuffered: str = "") -> Ended:
    environment = place.environment(PYTHONUNBUFFERED=unbuffered)
    return place.run(*arguments, environment=environment, output=output, cold=bool(unbuffered))


Full = Callable[..., Ended]


@pytest.fixture
def full(place: Place) -> Full:
    def run(*arguments: str | Path, unbuffered: str = "") -> Ended:
        with FULL.open("w") as file:
            return run_into(file.fileno(), place, *arguments, unbuffered=unbuffered)

    return run


@pytest.mark.exhaustive
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_list(full: Full, stopped: Path, unbuffered: str) -> None:
    for more in ([], ["--json"]):
        assert_refused(full("status", *more, unbuffered=unbuffered), 1, f"bigupload: {CANT}")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["upload", "--help"], ["config", "show"], ["completion", "show", "zsh"]]
)
def test_what_no_command_prints(full: Full, arguments: list[str]) -> None:
    assert_refused(full(*arguments), 1, f"bigupload: {CANT}")


@pytest.mark.exhaustive
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_orphans(full: Full, s3: StrictS3, stopped: Path, place: Place, json: list[str]) -> None:
    """The results come from a task of a group."""
    stopped.unlink()
    ended = full("gc", "s3://bucket/", "--endpoint-url", s3.url, "--older-than", "0s", "--dry-run", *json)
    assert_refused(ended, 1, f"bigupload: {CANT}")


@pytest.mark.exhaustive
@pytest.mark.parametrize("more", [[], ["--json"], ["--download"]])
def test_a_proof(full: Full, bigupload: Command, s3: StrictS3, file: Path, more: list[str]) -> None:
    assert bigupload("upload", file, *to(s3)).code == 0
    ended = full("verify", file, "s3://bucket/key", "--endpoint-url", s3.url, "--progress", "none", *more)
    proof = "read-back" if more == ["--download"] else "full-object"
    assert_refused(ended, 1, f"bigupload: the object is the file (proved: {proof}), but {CANT}")


def test_a_proof_that_nobody_reads(bigupload: Command, s3: StrictS3, place: Place, file: Path) -> None:
    assert bigupload("upload", file, *to(s3)).code == 0
    reads, writes = os.pipe()
    os.close(reads)
    ended = run_into(writes, place, "verify", file, "s3://bucket/key", "--endpoint-url", s3.url)
    os.close(writes)
    assert_refused(ended, 1, "the object is the file (proved: full-object), but", "Broken pipe")


def test_proofs_of_a_directory_that_nobody_reads(bigupload: Command, s3: StrictS3, place: Place) -> None:
    """click itself ends without a word where a pipe is broken."""
    tree = place.directory / "tree"
    tree.mkdir()
    (tree / "a").write_text("a")
    assert bigupload("upload", tree, *to(s3, "s3://bucket/p/")).code == 0
    reads, writes = os.pipe()
    os.close(reads)
    ended = run_into(writes, place, "verify", tree, "s3://bucket/p/", "--endpoint-url", s3.url, "--json")
    os.close(writes)
    assert_refused(ended, 1, "1 file verified until now, but can't write the results", "Broken pipe")


def test_proofs_of_a_directory(full: Full, bigupload: Command, s3: StrictS3, place: Place) -> None:
    tree = place.directory / "tree"
    tree.mkdir()
    (tree / "a").write_text("a")
    assert bigupload("upload", tree, *to(s3, "s3://bucket/p/")).code == 0
    ended = full("verify", tree, "s3://bucket/p/", "--endpoint-url", s3.url)
    assert_refused(ended, 1, f"bigupload: verified 1 file, 1 B, against s3://bucket/p/, but {CANT}")
    ended = full("verify", tree, "s3://bucket/p/", "--endpoint-url", s3.url, "--json")
    assert_refused(ended, 1, f"bigupload: 1 file verified until now, but {CANT}")


def test_another_error_of_the_system_is_not_taken_for_it(bigupload: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bigupload.cli.unfinished.known_uploads", fails)
    with pytest.raises(OSError, match="No space"):
        bigupload("status")


def test_an_upload_that_fails_keeps_its_status(full: Full, s3: StrictS3, file: Path) -> None:
    s3.script("UploadPart", Status(403, "AccessDenied"), repeat=True)
    ended = full("upload", file, *to(s3), "--json", "--progress", "none", "--part-size", "5MiB")
    assert ended.code == 75
    assert "403 AccessDenied" in ended.err
    assert "uploads are done" not in ended.err
    assert "can't write the results (No space left on device)" in ended.err


@pytest.mark.exhaustive
@pytest.mark.parametrize("more", [["--progress", "none"], ["--progress", "plain"], ["--progress", "bar"], ["--json"]])
@pytest.mark.parametrize("command", ["sync", "upload"])
def test_a_dry_run_that_nobody_reads_sent_nothing(s3: StrictS3, place: Place, command: str, more: list[str]) -> None:
    """As with `| head -1`."""
    tree = place.directory / "tree"
    tree.mkdir()
    for number in range(3):
        (tree / f"{number}").write_text("a")
    reads, writes = os.pipe()
    os.close(reads)
    ended = run_into(writes, place, command, tree, *to(s3, "s3://bucket/p/"), "--dry-run", *more)
    os.close(writes)
    assert ended.code == 1
    assert ended.err.splitlines()[-1] == "bigupload: can't write the list (Broken pipe): nothing was sent"
    assert "uploads are done" not in ended.err
    assert "Traceback" not in ended.err
