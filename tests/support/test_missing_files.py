"""What is said of a file that does not exist."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bigupload.errors import SourceNotFound
from bigupload.sources.file import FileSource
from bigupload.support.files import why_missing


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("Video.MOV", "plan\u00e9.txt", "sub/a b.txt", "file"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("no where")
    monkeypatch.chdir(tmp_path)
    return tmp_path


OTHER = ", whose name differs in case, spaces, quotes or accents"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("s3:/bucket/key", "; a URL has two slashes: s3://bucket/key"),
        ("s3:bucket/key", "; a URL has two slashes: s3://bucket/key"),
        ("HTTPS:/host/a", "; a URL has two slashes: https://host/a"),
        ("https:/host/a?signature=SECRET", "; a URL has two slashes: https://host/a"),
        ("https:/host/a#SECRET", "; a URL has two slashes: https://host/a"),
        ("https:/user:SECRET@host/a", "; a URL has two slashes: https://host/a"),
        ("~/video.mov", "; the shell did not replace ~: write it without quotes"),
        ("video.mov", f"; there is 'Video.MOV'{OTHER}"),
        ("Video.MOV\n", f"; there is 'Video.MOV'{OTHER}"),
        (" 'Video.MOV'", f"; there is 'Video.MOV'{OTHER}"),
        ("plane\u0301.txt", f"; there is 'plan\u00e9.txt'{OTHER}"),
        ("sub/A_b.txt", " (the working directory is HERE)"),
        ("sub/A b.txt", f"; there is 'a b.txt'{OTHER}"),
        ("other.mov", " (the working directory is HERE)"),
        ("other/", " (the working directory is HERE)"),
        ("no/such/a", "; no does not exist (the working directory is HERE)"),
        ("HERE/no/such/a", "; HERE/no does not exist"),
        ("file/a", "; file is not a directory (the working directory is HERE)"),
        ("HERE/other", ""),
        ("link", "; it is a symbolic link to 'no where', which does not exist"),
        ("a\0b", " (the working directory is HERE)"),
        ("C:\\a", " (the working directory is HERE)"),
    ],
)
def test_what_may_be_meant(here: Path, name: str, why: str) -> None:
    assert why_missing(name.replace("HERE", str(here))) == why.replace("HERE", str(here))


def test_what_can_t_be_looked_at_says_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "scandir", fails)
    assert why_missing(f"{here}/video.mov") == ""
    (here / "gone").mkdir()
    monkeypatch.chdir("gone")
    (here / "gone").rmdir()
    assert why_missing("video.mov") == ""


@pytest.mark.parametrize("name", ["https:/host/a?b=SECRET", "https:/u:SECRET@host/a", "s3:/b/k#SECRET"])
def test_nothing_secret_of_a_mistyped_url_is_repeated(name: str) -> None:
    with pytest.raises(SourceNotFound) as caught:
        FileSource(name)
    assert "SECRET" not in str(caught.value)
    assert "a URL has two slashes" in str(caught.value)
