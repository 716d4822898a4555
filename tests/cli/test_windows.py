"""What only Windows does with a command line and its output: simulated here."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click
import pytest

from bigupload import cli
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.other_systems import OtherOs

from .support import to


def test_patterns_are_bigupload_s_own(
    s3: StrictS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On Windows, click expands patterns as a POSIX shell does: also what `--include` is given."""
    for name in ("a.mov", "b.mov", "c.txt"):
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    words = ["bigupload", "upload", ".", *to(s3, "s3://bucket/"), "--dry-run", "--include", "*.mov"]
    monkeypatch.setattr(sys, "argv", [*map(str, words)])
    monkeypatch.setattr(click.core, "os", OtherOs(name="nt"))
    with pytest.raises(SystemExit) as ended:
        cli._run(None)
    assert ended.value.code == 0
    assert capsys.readouterr().out.split() == ["5", "B", "s3://bucket/a.mov", "5", "B", "s3://bucket/b.mov"]


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # of Linux, of Windows
@pytest.mark.parametrize(("encoding", "written"), [("cp1252", b"\xe9 \\u2192"), ("utf-8", "é →".encode())])
def test_what_the_output_can_not_encode(
    monkeypatch: pytest.MonkeyPatch, encoding: str, written: bytes, errors: str
) -> None:
    kept = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(kept, encoding=encoding, errors=errors, write_through=True))
    cli._escape_foreign_characters()
    click.echo("é →", nl=False)
    assert kept.getvalue() == written
