"""Where displays of a program's uploads draw, and that an upload goes on when nobody reads what they draw."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import bigupload
from bigupload import events

from .support import BUCKET, FAST, PART, World, of_function

pty = pytest.importorskip("pty", reason="a terminal")

IDENTITY = events.UploadIdentity(source="/a/movie.mov", target="s3://b/k", id="1", manifest=None)


@contextlib.contextmanager
def terminal() -> Iterator[tuple[io.TextIOWrapper, Callable[[], str]]]:
    """A terminal's end for a program, and what was written to it."""
    here, there = pty.openpty()
    os.set_blocking(here, False)

    def written() -> str:
        blocks = []
        with contextlib.suppress(BlockingIOError):
            while True:
                blocks.append(os.read(here, 1 << 16))
        return b"".join(blocks).decode()

    try:
        with open(there, "w", encoding="utf-8") as file:
            yield file, written
    finally:
        os.close(here)


def started() -> events.UploadStarted:
    return events.UploadStarted(
        upload=IDENTITY, path=Path("/a/movie.mov"), target="s3://b/k", size=100, part_size=10, parts=10,
        manifest=Path("m"), resumed_parts=0, resumed_bytes=0,
    )  # fmt: skip


def test_a_file_that_the_program_closes_ends_no_upload() -> None:
    file = io.StringIO()
    show = bigupload.rich_progress(Console(file=file, force_terminal=True))
    show(started())
    file.close()
    show(events.UploadStopped(upload=IDENTITY, reason="cancelled", resumable=True))  # no ValueError of the file
    show.close()
    assert file.closed


@pytest.mark.parametrize("own", [False, True])
def test_what_a_program_prints_goes_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    """As of `program > out.txt`."""
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal() as (screen, written), (tmp_path / "out.txt").open("w+") as out:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", screen)
        with bigupload.rich_progress(Console(file=screen) if own else None) as show:
            show(started())
            print("a result")
        out.seek(0)
        assert out.read() == "a result\n"
        shown = written()
        assert "movie.mov" in shown
        assert "a result" not in shown


def test_what_a_program_prints_to_the_terminal_goes_above_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal() as (screen, written):
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(sys, "stderr", screen)
        with bigupload.rich_progress() as show:
            show(started())
            assert sys.stdout is not screen
            print("a result")
        assert "a result" in written()


class Gone(io.StringIO):
    """A stream whose reader is gone."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error: OSError | None = error

    def write(self, text: str) -> int:
        if text and self.error is not None:
            raise self.error
        return len(text)

    def isatty(self) -> bool:
        return True


@pytest.mark.exhaustive
@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, ""), OSError(errno.EIO, "")], ids=["pipe", "terminal"])
@pytest.mark.parametrize("kind", ["rich", "own console", "tqdm"])
async def test_nobody_reads_it(world: World, monkeypatch: pytest.MonkeyPatch, error: OSError, kind: str) -> None:
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # rich closes the standard output for a broken pipe
    gone = Gone(error)
    if kind == "tqdm":
        display: Any = bigupload.tqdm_progress(file=gone, mininterval=0)
    elif kind == "own console":
        display = bigupload.rich_progress(Console(file=gone, force_terminal=True))
    else:
        monkeypatch.setattr(sys, "stderr", gone)
        display = bigupload.rich_progress()

    def on_event(event: events.Event) -> None:
        display(event)
        display(events.Warned(upload=event.upload, message="a warning"))
        if getattr(display, "_live", None) is not None:
            display._live.refresh()  # as its thread does

    with display:
        for _ in range(2):
            to = {"to": f"s3://{BUCKET}/", "s3": world.options(), "part_size": PART}
            await bigupload.upload(world.file(3 * PART), on_event=on_event, **of_function({"retry": FAST} | to))
    assert not display._bars


@pytest.mark.parametrize("disable", [True, None])
def test_a_warning_of_a_bar_that_is_disabled(disable: bool | None) -> None:
    out = io.StringIO()
    with bigupload.tqdm_progress(file=out, disable=disable) as show:
        show(started())
        show(events.Warned(upload=IDENTITY, message="a warning"))
    assert out.getvalue() == ""  # the log has it


def test_a_warning_of_a_bar() -> None:
    out = io.StringIO()
    with bigupload.tqdm_progress(file=out) as show:
        show(started())
        show(events.Warned(upload=IDENTITY, message="a warning"))
    assert "movie.mov: warning: a warning\n" in out.getvalue()


def test_the_reader_goes_at_the_end() -> None:
    gone = Gone(BrokenPipeError(errno.EPIPE, ""))
    error, gone.error = gone.error, None
    show = bigupload.tqdm_progress(file=gone, mininterval=0)
    show(started())
    gone.error = error
    show(events.UploadStopped(upload=IDENTITY, reason="cancelled", resumable=True))
    assert not show._bars
