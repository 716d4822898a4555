"""`--write-checksums` of `upload` and `sync`: sha256sum itself reads what is written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from bigupload.testing.faults import Call, Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Place

from .support import PART, SIZE, Command, assert_refused, to

NAMES = ["a.txt", "sub/b c.txt", "sub/back\\slash", "sub/two\nlines"]


pytestmark = pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")


@pytest.fixture
def tree(place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = place.directory / "tree"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "large").write_bytes(b"x" * SIZE)
    monkeypatch.chdir(place.directory)
    return root


def checked(directory: Path, sums: Path) -> int:
    """How many files sha256sum finds as the list says."""
    ended = subprocess.run(["sha256sum", "-c", sums], cwd=directory, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return len(ended.stdout.splitlines())


def quiet(s3: StrictS3, folder: str = "p") -> list[str]:
    return [*to(s3, f"s3://bucket/{folder}/"), "--progress", "none", "--part-size", str(PART)]


@pytest.mark.parametrize("command", ["upload", "sync"])
def test_all_files_that_are_in_the_store(
    bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path, command: str
) -> None:
    sums = tmp_path / "SUMS"
    s3.script("PutObject", Status(403, "AccessDenied"), key="p/a.txt", repeat=True)
    ended = bigupload(command, tree, *quiet(s3), "--write-checksums", sums)
    s3.clear()
    assert ended.code == 1
    assert checked(tree, sums) == 4
    ended = bigupload(command, tree, *quiet(s3), "--write-checksums", sums, "--json")
    assert ended.code == 0
    assert checked(tree, sums) == 5, "also those that were there already"
    *files, _ = map(json.loads, ended.out.splitlines())
    assert {Path(each["path"]).read_bytes() for each in files} == {name.encode() for name in NAMES} | {b"x" * SIZE}
    for each in files:
        assert each["sha256"] == sha256(Path(each["path"]).read_bytes()).hexdigest()


@pytest.mark.slow
def test_paths_are_those_that_sha256sum_opens(bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path) -> None:
    """From the directory that is named or that a pattern begins with, else from the working directory."""
    sums = tmp_path / "SUMS"
    for names, directory, count in (
        (["tree/sub/*"], tree / "sub", 3),
        (["tree/a.txt", "tree/large"], tmp_path, 2),
        (["tree/sub/", "tree/large"], tmp_path, 4),
        (["tree/a.txt", "--exclude", "*.bak"], tmp_path, 1),
        (["tree/a.txt"], tmp_path, 1),
    ):
        assert bigupload("upload", *names, *quiet(s3), "--write-checksums", sums).code == 0
        assert checked(directory, sums) == count
    (tmp_path / "list").write_text("a.txt\nlarge\n")
    assert bigupload("upload", "tree", "--files-from", "list", *quiet(s3), "--write-checksums", sums).code == 0
    assert checked(tree, sums) == 2


def test_a_file_that_changed_since_gets_no_line(bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path) -> None:
    def change(_: StrictS3) -> None:
        status = (tree / "a.txt").stat()
        (tree / "a.txt").write_bytes(b"A.TXT")
        os.utime(tree / "a.txt", ns=(status.st_atime_ns, status.st_mtime_ns))

    s3.script("PutObject", Call(change), key="p/a.txt")
    sums = tmp_path / "SUMS"
    ended = bigupload("upload", tree, *quiet(s3), "--write-checksums", sums)
    assert ended.code == 1
    assert (
        "a.txt changed after it was uploaded, so its SHA-256 is not the object's. The object is complete" in ended.err
    )
    assert checked(tree, sums) == 4
    assert bigupload("upload", tree, *quiet(s3), "--write-checksums", sums).code == 0
    assert checked(tree, sums) == 5


def test_a_stopped_job_leaves_no_list(bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path) -> None:
    sums = tmp_path / "SUMS"
    ended = bigupload("upload", tree, *to(s3, "s3://nowhere/p/"), "--progress", "none", "--write-checksums", sums)
    assert ended.code == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("SUMS")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path) -> None:
    """It is met when the uploads are done, which changes nothing of them; the receipt is written, too."""
    receipt, full = tmp_path / "receipt", ["--write-checksums", "/dev/full"]
    why = "can't write --write-checksums /dev/full: No space left on device"
    for command in (["upload", tree], ["upload", tree / "large"], ["sync", tree]):
        ended = bigupload(*command, *quiet(s3), *full, "--receipt", receipt)
        assert (ended.code, ended.err.splitlines()[-1]) == (3, f"bigupload: the upload is done, but {why}")
        receipt.unlink()
    s3.script("PutObject", Status(403, "AccessDenied"), key="p/a.txt", repeat=True)
    assert bigupload("upload", tree, *quiet(s3), *full).code == 1
    for path, url in (("tree", "s3://bucket/p/"), ("tree/large", "s3://bucket/p/large")):
        ended = bigupload("verify", path, url, "--endpoint-url", s3.url, "--progress", "none", *full)
        assert (ended.code, ended.complaint) == (3, f"bigupload: the verification is done, but {why}")
        assert "full-object" in ended.out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_list_that_fills_the_disk_meanwhile_ends_no_upload(
    bigupload: Command, s3: StrictS3, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigupload.cli.after_proof._line", lambda sha256, name: name * 10_000)  # more than a buffer
    ended = bigupload("upload", tree, *quiet(s3), "--write-checksums", "/dev/full")
    assert (ended.code, len(ended.out.splitlines())) == (3, 5)


@pytest.mark.parametrize("command", ["upload", "sync"])
def test_what_can_not_be(bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path, command: str) -> None:
    ended = bigupload(command, "tree", *quiet(s3), "--write-checksums", "tree/sub/SUMS")
    assert_refused(ended, 2, "tree/sub/SUMS would be uploaded itself while it is written", "--exclude '/sub/SUMS*'")
    exclude = ["--exclude", "/sub/SUMS*"]
    assert bigupload(command, "tree", *quiet(s3), *exclude, "--write-checksums", "tree/sub/SUMS").code == 0
    assert checked(tree, tree / "sub" / "SUMS") == 5
    ended = bigupload(command, "tree", *quiet(s3), "--write-checksums", "SUMS", "--dry-run")
    assert_refused(ended, 2, "leave out --write-checksums")
    ended = bigupload(command, "tree", *quiet(s3), "--write-checksums", "no/SUMS")
    assert_refused(ended, 1, "can't write --write-checksums no/SUMS: No such file or directory")


def test_no_file_that_is_read_is_replaced(bigupload: Command, s3: StrictS3, tree: Path, tmp_path: Path) -> None:
    for number in range(17):  # so many names are one job
        (tree / f"n{number}").write_text(str(number))
    (tmp_path / "list").write_text("a.txt\nlarge\n")
    (tmp_path / "link").symlink_to(tree / "a.txt")
    names, below = sorted(tree.glob("n*")), to(s3, "s3://bucket/p/")
    before, sent = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}, len(s3.requests)
    listed = ["tree", "--files-from", "list"]
    at_store = ["s3://bucket/p/", "--endpoint-url", s3.url]
    a = "--write-checksums", tree / "a.txt"
    for call, says in (
        (["upload", *names, *below, "--write-checksums", tree / "n3"], "n3, which is uploaded: name another one"),
        (["upload", *names, *below, "--receipt", tree / "n3"], "n3, which is uploaded: name another one"),
        (["upload", *listed, *below, *a], "a.txt, which is uploaded: name another one"),
        (
            ["upload", *listed, *below, "--receipt", "link"],
            "--receipt link would replace tree/a.txt, which is uploaded",
        ),
        (["upload", *listed, *below, "--receipt", "list"], "--receipt list would replace the list of --files-from"),
        (["verify", "tree/a.txt", *at_store, *a], "would replace the file that is verified: name another one"),
        (["verify", "tree", *at_store, *a], "would be verified itself while it is written: name a file elsewhere"),
        (["verify", *listed[:1], *at_store, *listed[1:], *a], "a.txt, which is verified: name another one"),
    ):
        assert_refused(bigupload(*call), 2, says)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert len(s3.requests) == sent


def test_a_stream_has_none(bigupload: Command, s3: StrictS3, tmp_path: Path) -> None:
    """An earlier list stays."""
    sums = tmp_path / "SUMS"
    sums.write_text("earlier")
    ended = bigupload("upload", "https://localhost:1/x", *to(s3), "--write-checksums", sums, "--progress", "none")
    assert sums.read_text() == "earlier"
    assert_refused(ended, 2, "--sha256 (or --write-checksums) is for files: leave it out")
