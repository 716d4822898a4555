"""Names that stand where others are meant, or that the shell has made of a pattern: which message each gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.cases import each_case

from .support import Command, assert_refused


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the working directory."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_bytes(b"a")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tree"


@each_case(
    ("arguments", "says"),
    [
        (["tree", "s3://b/", "tree", "--local"], "target comes last: bigupload upload PATH... s3://BUCKET/KEY (see"),
        (["tree", "s3://b/k", "tree", "--local"], "the target comes last"),
        (["tree", "s3://b/", "--local", "--exclude", "a.tmp", "b.tmp"], "; was a pattern after --exclude not quoted?"),
        (["tree", "s3://b/", "--include", "a.tmp", "b.tmp"], "; was a pattern after --include not quoted? (see"),
        (["s3://b/e/", "tree", "--to", "s3://b/"], "s3://b/e/ names no object to read; the target comes last"),
        (["s3://b/k", "tree", "--to", "s3://b/"], "a URL can't be beside a directory or a pattern"),
        (["tree", "my-bucket/x/", "--local"], "no such file: my-bucket/x/. A target begins with s3://"),
        (["tree", "my-bucket/x", "--local"], "no such file: my-bucket/x. A target begins with s3://"),
        (["tree/a.txt", "my-bucket/x/"], "; if my-bucket/x/ is the target, write s3://my-bucket/x/ (see"),
        (["tree/a.txt", "my-bucket/x/", "--local"], "no such file: my-bucket/x/. A target begins with s3://"),
    ],
)  # fmt: skip
def test_a_target_at_the_wrong_place(bigupload: Command, tree: Path, arguments: list[str], says: str) -> None:
    assert_refused(bigupload("upload", *arguments), 2, says)
