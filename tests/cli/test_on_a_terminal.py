"""What is drawn on a terminal of 80 columns while a job runs, and what stays there at its end."""

from __future__ import annotations

import importlib
import io
import os
import re
import struct
import subprocess
from pathlib import Path

import pytest

from bigupload import errors
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import COMMAND, LONG, Place
from tests.tools.warm_starts import STARTS, Cold, Started

from .support import Command, to

fcntl = pytest.importorskip("fcntl", reason="a terminal of POSIX")
pty, termios = importlib.import_module("pty"), importlib.import_module("termios")


def on_terminal(
    place: Place, *arguments: str | Path, typed: bytes = b"", term: str = "xterm-256color"
) -> tuple[int, str]:
    """Run the command on a terminal, where something may be typed already. Returns its status, and what is shown."""
    terminal, its_end = pty.openpty()
    os.write(terminal, typed)
    fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**place.environment(), "TERM": term}
    command = [*map(str, arguments)]
    process: subprocess.Popen[bytes] | Started | Cold
    if typed:
        command = [*COMMAND, *command]
        process = subprocess.Popen(command, stdin=its_end, stdout=its_end, stderr=its_end, env=environment)
    else:  # nothing reads the input, so that a fork will do
        process = STARTS.start(command, environment, output=its_end, error=its_end)
    with process:
        os.close(its_end)
        shown = b""
        try:
            while block := os.read(terminal, 65536):
                shown += block
        except OSError:  # nobody has the other end any more
            pass
        finally:
            os.close(terminal)
        return process.wait(LONG), shown.decode()


def screen(shown: str) -> list[str]:
    """The lines that stay, as a terminal would have them. They are not wider than it."""
    lines, row = [""], 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", shown):
        if piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif piece == "\x1b[1A":
            row -= 1
        elif piece != "\r" and not piece.startswith("\x1b"):
            lines[row] += piece
    return [line for line in lines if line]


@pytest.fixture
def tree(place: Place) -> Path:
    root = place.directory / "tree"
    root.mkdir()
    for name in ("a", "b", "c"):
        (root / name).write_bytes(name.encode())
    (root / "large").write_bytes(b"x" * (11 << 20))
    (root / "link").symlink_to("a")
    return root


def test_files_that_are_there_already_are_counted(s3: StrictS3, place: Place, tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "large").unlink()
    upload = ["upload", tree, *to(s3, "s3://bucket/p/"), "--skip-existing"]
    assert on_terminal(place, *upload)[0] == 0
    _, shown = on_terminal(place, *upload)
    (line,) = screen(shown)
    assert re.fullmatch(r"bigupload: uploaded 0 files, 0 B, 3 already there in \d+ s", line)


def test_no_row_is_drawn_again_below_what_is_told_at_the_end(s3: StrictS3, place: Place, tree: Path) -> None:
    """Erased a moment later, it would still stay in a recording, or where the command is killed in between."""
    _, shown = on_terminal(place, "upload", tree, *to(s3, "s3://bucket/p/"), "--part-size", "5MiB")
    before, _, after = shown.partition("bigupload: uploaded 4 files")
    assert "total" in before
    assert "total" not in after
    assert "done" not in after
    _, shown = on_terminal(place, "upload", tree / "a", *to(s3, "s3://bucket/p/"))
    before, _, after = shown.partition("proved: full-object")
    assert "connecting" in before
    assert "connecting" not in after


def test_messages_are_above_the_rows_and_the_table_stays(s3: StrictS3, place: Place, tree: Path) -> None:
    s3.script("PutObject", Status(403, "AccessDenied"), key="p/b", repeat=True)
    code, shown = on_terminal(place, "upload", tree, *to(s3, "s3://bucket/p/"), "--part-size", "5MiB")
    s3.clear()
    assert code == 1
    lines = screen(shown)
    refused, left_out = sorted(lines[:2])  # the store may respond before the last file is reached
    assert left_out == f"bigupload: {tree}/link: left out: a symbolic link: --follow-symlinks uploads its target"
    assert refused.startswith("b: the store refused the object: 403 AccessDenied (Access Denied); attempt 2 in ")
    assert lines[2] == "bigupload: failed: 1"
    assert lines[3].startswith("  the store refused the object: 403 AccessDenied (Access Denied): ")
    assert lines[4] == f"    {tree}/b"
    assert re.fullmatch(r"bigupload: uploaded 3 files, 11.5 MB, 1 failed in \d+ s(, [\d.]+ [kM]B/s)?", lines[5])
    assert len(lines) == 6, "no row of the display stays, and nothing is told twice"
    assert "\x1b[2Kbigupload: failed" in shown, "the row below it was erased first"
    rows = [line for line in re.split(r"\r|\n", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)) if "total" in line]
    assert rows
    assert max(map(len, rows)) < 80


@pytest.mark.exhaustive
@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_can_only_append_has_plain_lines(s3: StrictS3, place: Place, tree: Path, term: str) -> None:
    _, shown = on_terminal(place, "upload", tree / "large", *to(s3, "s3://bucket/p/"), term=term)
    lines = ["large: done, proved: full-object", f"{s3.url}/bucket/p/large"]
    assert shown.splitlines() == lines, "neither an escape sequence nor a bar at the end"
    code, shown = on_terminal(place, "upload", tree, *to(s3, "s3://bucket/p/"), term=term)
    assert code == 0
    assert "\x1b" not in shown
    assert "large: warning: s3://bucket/p/large was uploaded before" in shown
    assert not any(line.startswith("total ") for line in shown.splitlines()), (
        "a row; `total:` is a line of a slow upload"
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("typed", [b"n\n", b"\n", b"\x04"], ids=["no", "enter", "end"])
def test_a_question_that_is_answered_with_no(place: Place, typed: bytes) -> None:
    kept = Path(place.environment()["BIGUPLOAD_LOCAL_STORE_DIR"]) / "kept"
    kept.parent.mkdir()
    kept.touch()
    code, shown = on_terminal(place, "store", "remove", typed=typed)
    assert code == 1
    assert screen(shown)[-1].endswith("bigupload: nothing was removed")  # what is typed ahead is echoed above
    assert kept.exists()


def test_ctrl_c_at_a_question(bigupload: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("click.termui.visible_prompt_func", interrupted)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    ended = bigupload("store", "remove")
    assert (ended.code, ended.out) == (errors.EXIT_INTERRUPTED, "")
