"""What `--json` prints has the fields that docs/commands.md lists for it."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Ended

from .support import IN_PARTS, Command, to

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
ROWS = re.findall(r"^\| (.+?) \| (.+?) \| (.+) \|$", PAGE.read_text().partition("## JSON")[2], re.MULTILINE)


def fields(what: str, command: str) -> set[str]:
    """The fields of the first row of the table that has both texts, without what a semicolon sets apart."""
    found = next(cells for commands, objects, cells in ROWS if command in commands and what in objects)
    return set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", found.partition(";")[0])))


def printed(ended: Ended, code: int = 0) -> list[set[str]]:
    """The fields of each line."""
    assert ended.code == code, ended.err
    return [set(json.loads(line)) for line in ended.out.splitlines()]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_bytes(b"a")
    return tmp_path / "tree"


def test_what_is_sent_and_what_would_be(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    folder = (*to(s3, "s3://bucket/p/"), "--json", "--progress", "none")
    would, sums = printed(bigupload("upload", tree, *folder, "--dry-run"))
    assert would == fields("would be sent", "upload")
    assert sums == fields("the sums", "`upload --dry-run`")
    sent, sums = printed(bigupload("upload", tree, *folder))
    assert sent == fields("a file in the store", "upload")
    assert sums == fields("the sums", "of a directory")
    assert printed(bigupload("upload", tree / "gone", *folder), 1) == [fields("that failed", "upload")]


def test_a_path_is_absolute_whatever_became_of_the_file(
    bigupload: Command, s3: StrictS3, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    of = ("--endpoint-url", s3.url, "--json", "--progress", "none")

    def paths(*arguments: str) -> set[str]:
        ended = bigupload(*arguments, *of)
        assert ended.code == 1, ended.err
        return {row["path"] for row in map(json.loads, ended.out.splitlines()) if "path" in row}

    assert paths("upload", "a", "gone", "s3://bucket/") == {str(tree / "a"), str(tree / "gone")}
    (tree / "new").write_bytes(b"new")
    assert paths("verify", ".", "s3://bucket/") == {str(tree / "a"), str(tree / "new")}
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert paths("upload", "-", "s3://bucket/stream") == {"stream"}


def test_a_sync(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    (tree / "gone").write_bytes(b"x")
    sync = ("sync", tree, *to(s3, "s3://bucket/p/"), "--json", "--progress", "none")
    assert len(printed(bigupload(*sync))) == 3
    (tree / "gone").unlink()
    *_, would, sums = printed(bigupload(*sync, "--delete", "--dry-run"))
    assert would == fields("would be deleted", "sync")
    assert sums == fields("the sums", "sync") | {"deleted", "not_deleted"}
    *_, deleted, _ = printed(bigupload(*sync, "--delete"))
    assert deleted == fields("was deleted", "sync")


def test_a_verification(bigupload: Command, s3: StrictS3, tree: Path) -> None:
    assert bigupload("upload", tree, *to(s3, "s3://bucket/p/"), "--progress", "none").code == 0
    of = ("--endpoint-url", s3.url, "--json", "--progress", "none")
    proved, sums = printed(bigupload("verify", tree, "s3://bucket/p/", *of))
    assert proved == fields("an object that is the file", "`verify`")
    assert [proved] == printed(bigupload("verify", tree / "a", "s3://bucket/p/a", *of))
    assert sums == fields("the sums", "`verify` of a directory")
    assert printed(bigupload("verify", tree / "a", "s3://bucket/p/a", *of, "--download")) == [
        fields("that is the file", "--download")
    ]


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_gc_aborts(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    assert bigupload("upload", file, *to(s3), *IN_PARTS, "--progress", "none").code == 75
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", str(tmp_path / "another machine"))
    gc = ("gc", "s3://bucket/", "--older-than", "0s", "--endpoint-url", s3.url, "--json")
    assert printed(bigupload(*gc, *["--dry-run"] * dry_run)) == [fields("aborted", "gc")]
