"""`bigupload verify` of a directory."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bigupload.testing.strict_s3 import StrictS3

from .support import Command, assert_refused, to


@pytest.fixture
def local_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the working directory."""
    for name in ("a.txt", "sub/b c.txt", "sub/empty", "sub/large"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(b"" if name.endswith("empty") else name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tree"


@pytest.fixture
def tree(bigupload: Command, s3: StrictS3, local_tree: Path) -> Path:
    """The same, uploaded."""
    assert bigupload("upload", "tree", *to(s3, "s3://bucket/p/"), "-q").code == 0
    return local_tree


def at(s3: StrictS3, url: str = "s3://bucket/p/") -> list[str]:
    return [url, "--endpoint-url", s3.url]


def test_a_directory(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    ended = bigupload("verify", "tree", *at(s3))
    assert (ended.code, ended.out) == (0, "full-object: 4 files\n")
    says = "bigupload: verified 4 files, 25 B, against s3://bucket/p/"
    assert ended.err == f"{says}: the store's checksum of each whole object is the file's\n"
    quiet = bigupload("verify", "tree", *at(s3), "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, ended.out, "")


def test_each_file_that_differs_is_named(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    (tree / "a.txt").write_bytes(b"A.txt")
    (tree / "new").touch()
    (tree / "newer").touch()
    (tree / "sub" / "b c.txt").write_bytes(b"longer than before")
    ended = bigupload("verify", "tree", *at(s3))
    assert (ended.code, ended.out) == (1, "full-object: 2 files\n")
    first, *lines = ended.err.splitlines()
    groups = {"  there is no object", "  the object is not the file"}
    assert first == "bigupload: failed: 4"
    assert groups <= set(lines), "each reason is told once"
    assert "    tree/newer: there is no object at s3://bucket/p/newer: check the name" in lines
    below = [line for line in lines if line.startswith("    tree/")]
    assert any(
        line.startswith("    tree/a.txt: s3://bucket/p/a.txt is not the file: the store's checksum is ")
        for line in below
    )
    assert any(
        "tree/sub/b c.txt: s3://bucket/p/sub/b c.txt has 11 bytes, and the file has 18" in line for line in below
    )
    assert lines[-1].startswith("bigupload: verified 2 files, 9 B, against s3://bucket/p/: the store's checksum ")
    assert lines[-1].endswith("; 4 failed")
    quiet = bigupload("verify", "tree", *at(s3), "-q")
    assert len([line for line in quiet.err.splitlines() if "check the name" in line]) == 2


def test_a_single_failure_is_one_line(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    (tree / "new").touch()
    failure, _ = bigupload("verify", "tree", *at(s3)).err.splitlines()
    assert failure == "bigupload: tree/new: there is no object at s3://bucket/p/new: check the name"


def test_as_json(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    (tree / "a.txt").write_bytes(b"A.txt")
    ended = bigupload("verify", "tree", *at(s3), "--json", "--exclude", "large")
    *files, total = map(json.loads, ended.out.splitlines())
    assert {file["key"]: file.get("verified", file.get("error")) for file in files} == {
        "p/a.txt": "ObjectMismatch",
        "p/sub/b c.txt": "full-object",
        "p/sub/empty": "full-object",
    }
    assert total == {"files": 2, "size": 11, "failed": 1, "exit_status": 1, "verified": {"full-object": 2}}
    assert ended.code == 1


def test_what_is_selected(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    assert bigupload("verify", "tree", *at(s3), "--include", "*.txt").out == "full-object: 2 files\n"
    assert bigupload("verify", "tree/**/*.txt", *at(s3)).out == "full-object: 2 files\n"
    (tree.parent / "list").write_text("a.txt\n")
    assert bigupload("verify", "tree", *at(s3), "--files-from", "list").out == "full-object: 1 file\n"
    assert_refused(bigupload("verify", "tree", *at(s3), "--include", "*.x"), 2, "nothing to verify: tree has no file")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tree", "s3://bucket/p"], "many files are not one object: end the URL with a slash, as in s3://bucket/p/"),
        (["tree", "s3://bucket/p/", "--download"], "--download is for one file"),
        (["tree/a.txt", "s3://bucket/p/", "--files-from", "list"], "beside --files-from, name the directory"),
    ],
)
def test_a_call_that_can_not_be(bigupload: Command, local_tree: Path, arguments: list[str], says: str) -> None:
    assert_refused(bigupload("verify", *arguments), 2, says)


def test_a_bucket_that_is_not_there_is_told_once(bigupload: Command, s3: StrictS3, local_tree: Path) -> None:
    ended = bigupload("verify", "tree", *at(s3, "s3://nowhere/p/"))
    assert_refused(ended, 1, "there is no bucket 'nowhere' at this store: create it, or check the name")
    assert ended.err.count("\n") == 1


def test_a_folder_stands_for_the_object_of_the_file_s_name(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    assert bigupload("verify", "tree/a.txt", *at(s3)).out == "full-object\n"
    assert bigupload("verify", "tree/a.txt", *at(s3), "--download", "-q").out == "read-back\n"
    for url in ("s3://bucket", "s3://bucket/"):
        ended = bigupload("verify", "tree/a.txt", *at(s3, url))
        assert_refused(ended, 1, "there is no object at s3://bucket/a.txt: check the name")


def test_one_file_is_verified_as_ever(
    bigupload: Command, s3: StrictS3, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGUPLOAD_EXCLUDE", "*.txt")
    assert bigupload("verify", "tree/a.txt", *at(s3, "s3://bucket/p/a.txt")).out == "full-object\n"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_reads_the_checksums(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    (tree / "two\nlines \\").write_bytes(b"awkward")
    assert bigupload("upload", "tree", *to(s3, "s3://bucket/p/"), "-q").code == 0
    (tree / "a.txt").write_bytes(b"A.txt")
    ended = bigupload("verify", "tree", *at(s3), "--write-checksums", "sums", "--json")
    assert ended.code == 1
    told = {file["key"]: file["sha256"] for file in map(json.loads, ended.out.splitlines()) if "sha256" in file}
    assert told["p/sub/empty"] == hashlib.sha256().hexdigest()
    checked = subprocess.run(["sha256sum", "-c", "../sums"], cwd=tree, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert sorted(checked.stdout.splitlines()) == [
        "\\two\\nlines \\\\: OK", "sub/b c.txt: OK", "sub/empty: OK", "sub/large: OK",
    ]  # fmt: skip
    assert not Path("sums.partial").exists()


def test_the_checksum_of_one_file(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    ended = bigupload("verify", "tree/a.txt", *at(s3, "s3://bucket/p/a.txt"), "--write-checksums", "sums")
    assert ended.code == 0
    assert Path("sums").read_text() == f"{hashlib.sha256(b'a.txt').hexdigest()}  tree/a.txt\n"
    (tree / "a.txt").write_bytes(b"A.txt")
    assert bigupload("verify", "tree/a.txt", *at(s3, "s3://bucket/p/a.txt"), "--write-checksums", "sums").code == 1
    assert Path("sums").exists(), "it is replaced only by one that is whole"
    refused = bigupload("verify", "tree", *at(s3), "--write-checksums", "nowhere/sums")
    assert (refused.code, refused.out) == (1, "")
    assert refused.complaint == "bigupload: can't write --write-checksums nowhere/sums: No such file or directory"
