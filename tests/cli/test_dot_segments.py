"""Keys with the segments "." and "..": sent as they are, by every command; stores may refuse them, and links can't lead
to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigupload.s3_parameters import dot_segment
from bigupload.testing.strict_s3 import Exchange, S3Error, StrictS3
from tests.tools.cases import each_case

from .support import Command, assert_refused, to

QUIET = ("--progress", "none")
URL = "s3://bucket/a/../b.mov"
CAUSE = "the key has the segment '..', which many stores refuse and proxies change: name an object without it"


def at(s3: StrictS3) -> tuple[str, str]:
    return ("--endpoint-url", s3.url)


@each_case(
    "key, found",
    [("a/../b", ".."), ("./b", "."), ("..", ".."), ("a/.", "."), ("a/.../b", None), ("a..b/.c/d.", None), ("", None)],
)
def test_which_segment(key: str, found: str | None) -> None:
    assert dot_segment(key) == found


@pytest.fixture
def receipt(bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "receipt.json"
    assert bigupload("upload", file, *to(s3, URL), "--receipt", path, *QUIET).code == 0
    return path


def test_a_store_that_takes_them(bigupload: Command, s3: StrictS3, file: Path, receipt: Path) -> None:
    """As AWS does: the key is what was written."""
    assert list(s3.objects["bucket"]) == ["a/../b.mov"]
    assert bigupload("verify", file, URL, *at(s3), *QUIET).code == 0
    assert bigupload("verify", "--receipt", receipt, *at(s3), *QUIET).code == 0


def test_a_store_that_refuses_them(
    bigupload: Command, s3: StrictS3, file: Path, receipt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SeaweedFS does: 400, and to HEAD without a reason. Every command names the key, and not the credentials."""

    def refuse(exchange: Exchange) -> None:
        if dot_segment(exchange.key):
            raise S3Error("InvalidRequest")

    monkeypatch.setattr(s3.knobs, "receive", refuse)
    small = tmp_path / "small"
    small.write_bytes(b"small")
    for command in (
        ("upload", small, *to(s3, URL)),
        ("upload", file, *to(s3, URL), "--no-resume"),
        ("verify", file, URL, *at(s3)),
        ("verify", "--receipt", receipt, *at(s3)),
        ("verify", file, URL, *at(s3), "--download"),
    ):
        ended = bigupload(*command, *QUIET)
        assert ended.code != 0
        assert CAUSE in ended.err, (command, ended.err)
        assert "redentials" not in ended.err


def test_no_link_leads_there(bigupload: Command, s3: StrictS3, file: Path, receipt: Path) -> None:
    shared = bigupload("share", URL, *at(s3))
    assert_refused(shared, 2, "can't be shared: browsers and curl resolve the segment '..'")
    uploaded = bigupload("upload", file, *to(s3, URL), "--share", "1d", *QUIET)
    assert "can't be shared" in uploaded.err
    assert "X-Amz-Signature" not in shared.out + uploaded.out
