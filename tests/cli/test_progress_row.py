"""The rows of the progress display: what they show at every width, and how events change them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len

from bigupload import events
from bigupload.cli import reporting
from bigupload.cli.narration import Narrator
from bigupload.cli.progress_display import Bars, JobBars
from bigupload.core.integrity import Verified
from bigupload.engine.context import PutInFlight
from bigupload.progress.job_progress import distinct_names
from bigupload.progress.rows import RowState, cut_middle, most_name, render, update
from tests.tools.cases import each_case

SIZE = 120_000_000


def progress(*, uploaded: int, in_flight: int, parts: int = 0, retries: int = 0, **more: Any) -> events.Progress:
    return events.Progress(
        bytes_uploaded=uploaded, bytes_in_flight=in_flight, size=SIZE, parts_uploaded=parts, parts=103, concurrency=8,
        retries=retries, **more,
    )  # fmt: skip


def half_way(name: str = "movie.mov") -> RowState:
    row = RowState(name)
    done = progress(uploaded=60_000_000, in_flight=30_000_000, parts=57, retries=3, rate=90e6, seconds_left=0.4)
    update(row, done)
    return row


def shown(row: RowState, width: int, *, ascii_only: bool = False) -> str:
    return render(row, width, names=most_name(width), ascii_only=ascii_only).plain


@each_case("name", ["a", "movie.mov", "a name that is far longer than any row", "映画" * 20])
def test_a_row_never_wraps(name: str) -> None:
    for row in (half_way(name), RowState(name, note="starting the local store"), RowState(name, size=0)):
        for width in range(1, 200):
            assert cell_len(shown(row, width)) <= width


def test_files_of_one_name_are_told_apart() -> None:
    paths = [
        Path(path) for path in ("/d/movie.mov", "/d/inbox/movie.mov", "/d/old/inbox/movie.mov", "/d/a.mov", "total")
    ]
    assert list(distinct_names(paths[:2]).values()) == ["d/movie.mov", "inbox/movie.mov"]
    names = distinct_names(paths)
    assert [names[path] for path in paths] == [
        "d/movie.mov", "d/inbox/movie.mov", "old/inbox/movie.mov", "a.mov", "total",
    ]  # fmt: skip
    assert distinct_names([Path("a"), Path("/a")]) == {Path("a"): "a", Path("/a"): "/a"}
    for width in (70, 200):
        assert shown(half_way("inbox-of-2026-11/movie.mov"), width).startswith("inb")
        assert "…/movie.mov " in shown(half_way("inbox-of-2026-11/movie.mov"), width)


def test_the_ends_of_long_names_stay() -> None:
    names = [f"part-of-a-very-long-recording-{number}.mov" for number in range(3)]
    assert len({shown(half_way(name), 80).partition(" ")[0] for name in names}) == 3
    for width in range(1, 60):
        for name in (*names, "映画" * 20, "a"):
            assert cell_len(cut_middle(name, width)) <= width


def test_the_row_of_all_files_outlives_a_file_of_its_name() -> None:
    bars = JobBars(Narrator())
    bars.begin(Path("total"), "connecting")
    bars.end(Path("/d/total"))
    assert bars._total is not None
    bars.end(Path("total"))
    assert bars._total is None


def test_the_total_is_whole_at_60_columns() -> None:
    assert " 50 %    60/120 MB  90.0 MB/s" in shown(half_way("a name that is far longer than any row"), 59)


def test_what_does_not_fit_is_left_out_whole() -> None:
    whole = " 50 %    60/120 MB  90.0 MB/s    0:00 57/103 parts 3 retries"
    fields = [whole[:end] for end in (5, 18, 29, 37, 50, 60)]
    shortened = {shown(half_way(), width).rpartition("─")[2].removeprefix(" ") for width in range(30, 120)}
    assert shortened == set(fields)


def test_wide_terminals_show_everything() -> None:
    text = shown(half_way(), 120)
    assert text.endswith(" 50 %    60/120 MB  90.0 MB/s    0:00 57/103 parts 3 retries")


def test_the_bar_tells_acknowledged_bytes_from_those_in_flight() -> None:
    bar = shown(half_way(), 150, ascii_only=True).partition(" " * 10)[2].lstrip().partition(" ")[0]
    assert bar == "#" * 20 + "=" * 10 + "-" * 10


def test_in_flight_bytes_are_not_done() -> None:
    row = RowState("movie.mov")
    update(row, progress(uploaded=0, in_flight=SIZE))
    text = shown(row, 120, ascii_only=True)
    assert "  0 %  0 B/120 MB" in text.replace("   0 B", "  0 B")
    assert "=" * 40 in text
    assert "0/103 parts" in text


def test_a_stream_of_unknown_size_has_no_share() -> None:
    row = RowState("pipe")
    event = progress(uploaded=30_000_000, in_flight=0, parts=2, rate=30e6)
    update(row, replace(event, size=None, parts=None))
    assert shown(row, 80).split() == ["pipe", "30", "MB", "30.0", "MB/s", "2", "parts"]


def test_an_upload_from_resuming_to_its_end() -> None:
    row = RowState("movie.mov", note="connecting")
    assert shown(row, 80).split() == ["movie.mov", "connecting"]
    path = Path("movie.mov")
    update(
        row,
        events.UploadStarted(
            path=path, target="s3://b/k", size=SIZE, part_size=1, parts=103, manifest=path, resumed_parts=50,
            resumed_bytes=SIZE // 2,
        ),
    )  # fmt: skip
    assert " 50 % " in shown(row, 80)
    assert "50/103 parts" in shown(row, 100)
    assert "   -:--" in shown(row, 80)
    update(row, progress(uploaded=SIZE // 2, in_flight=1_000_000, rate=1e6, seconds_left=59.0))
    assert "  1.0 MB/s    0:59" in shown(row, 80)
    update(row, events.Completing(parts=103))
    assert "100 %   120/120 MB completing" in shown(row, 80)
    update(row, events.UploadCompleted(url="u", etag="e", verified=Verified.FULL_OBJECT))
    assert "proved: full-object" in shown(row, 60)
    update(row, events.Restarted(reason="the store forgot it"))
    assert (row.acknowledged, row.in_flight) == (0, 0)


def test_an_outage_is_shown_until_it_ends() -> None:
    row = half_way()
    update(row, events.OutageStarted(reason="refused", gives_up_in=900))
    update(row, progress(uploaded=60_000_000, in_flight=0))
    assert "60/120 MB no connection since " in shown(row, 80)
    update(row, events.OutageEnded(lasted=9.0))
    assert "no connection" not in shown(row, 80)


def test_an_outage_is_told_once_for_all_files() -> None:
    now = 0.0
    narrator = Narrator(lambda: now)
    started = events.OutageStarted(reason="connection refused", gives_up_in=900)
    continues = events.OutageContinues(reason="connection refused", lasted=60, gives_up_in=840)
    ended = events.OutageEnded(lasted=90)
    told = [narrator.text(event) for event in (started, started, started)]
    now = 60.0
    told += [narrator.text(event) for event in (continues, continues, ended, ended, ended)]
    begin, minute, end = [text for text in told if text]
    assert "connection refused): waiting, gives up at " in begin
    assert minute.startswith("no connection for 1:00 min (connection refused): still waiting, gives up at ")
    assert end == "the store responds again, after 1:30 min"
    assert narrator.text(started) is not None  # the next outage


def test_plain_lines_tell_acknowledged_bytes_from_those_in_flight(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    reporter = reporting._Plain(Narrator(lambda: now), lambda: now)
    event = progress(uploaded=SIZE // 4, in_flight=SIZE * 3 // 4, parts=25)
    reporter.on_event(Path("movie.mov"), event)
    now = reporting.PLAIN_EVERY
    reporter.on_event(Path("movie.mov"), event)
    line = capsys.readouterr().err
    assert line == "movie.mov: 25 % of 120 MB, 25 of 103 parts, 90 MB in flight\n"
    for name in ("movie.mov", "small.txt"):  # the small one had no line until now
        reporter.on_event(Path(name), events.Completing(parts=103))
        reporter.on_event(Path(name), events.UploadCompleted(url="u", etag="e", verified=Verified.FULL_OBJECT))
    assert capsys.readouterr().err.splitlines() == [
        "movie.mov: all parts are in the store, which completes the object",  # it may take minutes
        "movie.mov: done, proved: full-object",
        "small.txt: done, proved: full-object",
    ]


@pytest.mark.parametrize(
    ("more", "plain", "in_row"),
    [
        ({"rate": 2e6, "seconds_left": 45.0}, ", 2.0 MB/s, 45 s left", "   2.0 MB/s    0:45 25/103 parts"),
        (
            {"rate": 2e6, "seconds_left": 45.0, "is_waiting": True},
            ", 2.0 MB/s, waiting for the store, 45 s left",
            " waiting for the store    0:45 25/103 parts",
        ),
        ({"is_waiting": True}, ", waiting for the store", " waiting for the store    -:-- 25/103 parts"),
        ({}, "", "    0.0 B/s    -:-- 25/103 parts"),
        (
            {"source_hangs_for": 42.0},
            ", no byte of the file could be read since -42 s",
            " no byte of the file could be read since -42 s 30/120 MB",
        ),
    ],
)
def test_the_pace_is_the_events(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], plain: str, in_row: str
) -> None:
    monkeypatch.setattr("bigupload.progress.job_progress.time_in", lambda seconds: f"{seconds:.0f} s")
    event = progress(uploaded=SIZE // 4, in_flight=SIZE // 4, parts=25, **more)
    clock = itertools.count(0.0, reporting.PLAIN_EVERY)
    reporter = reporting._Plain(Narrator(lambda: 0.0), lambda: next(clock))
    for _ in range(2):
        reporter.on_event(Path("movie.mov"), event)
    assert capsys.readouterr().err == f"movie.mov: 25 % of 120 MB, 25 of 103 parts, 30 MB in flight{plain}\n"
    row = RowState("movie.mov")
    update(row, event)
    assert shown(row, 130).endswith(in_row)


def test_a_terminal_of_80_columns_says_that_a_file_hangs() -> None:
    row = RowState("a-name-of-some-length.mov")
    update(row, progress(uploaded=SIZE // 4, in_flight=0, source_hangs_for=42.0))
    assert " 25 % no byte of the file could be read since " in shown(row, 80)


def test_plain_lines_of_reading_back(capsys: pytest.CaptureFixture[str]) -> None:
    clock = itertools.count(0.0, reporting.PLAIN_EVERY)
    reporter = reporting._Plain(Narrator(lambda: 0.0), lambda: next(clock))
    for _ in range(2):
        compared = events.ReadingBack(bytes_compared=SIZE // 4, size=SIZE, rate=30e6, seconds_left=3.0)
        reporter.on_event(Path("movie.mov"), compared)
    assert capsys.readouterr().err == "movie.mov: 25 % of 120 MB compared, 30.0 MB/s, 3 s left\n"


def no_response(part: int) -> events.Retrying:
    """As the engine tells it."""
    put: Any = SimpleNamespace(
        request=SimpleNamespace(subject=""), part=SimpleNamespace(number=part), accepted=10.0, moved_at=None
    )
    return events.Retrying(part=part, attempt=1, delay=0.3, reason=str(PutInFlight.stalled(put, 310.0)))


SENT_AGAIN = "sent again: no response to part 7, 5:00 min after all of it was sent; attempt 2 in 0.3 s"


def test_each_part_that_is_sent_again_is_told() -> None:
    narrator = Narrator(lambda: 10.0)
    refused = events.Retrying(part=3, attempt=1, delay=0.3, reason="503 SlowDown")
    assert narrator.text(refused) == "part 3: 503 SlowDown; attempt 2 in 0.3 s"
    assert narrator.text(refused) is None
    assert narrator.text(no_response(7)) == SENT_AGAIN
    assert narrator.text(no_response(8)) == SENT_AGAIN.replace("part 7", "part 8")
    small = replace(no_response(1), part=None)  # there may be a hundred of them at a time
    assert narrator.text(small) is None


def test_a_part_is_named_once() -> None:
    stalled = events.Retrying(part=7, attempt=1, delay=0.3, reason="part 7 stalled")
    assert Narrator(lambda: 10.0).text(stalled) == "part 7 stalled; attempt 2 in 0.3 s"


@pytest.mark.parametrize("kind", [reporting._Plain, reporting._PlainJob])
def test_plain_lines_tell_what_is_sent_again(capsys: pytest.CaptureFixture[str], kind: type[reporting._Plain]) -> None:
    kind(Narrator(lambda: 10.0), lambda: 10.0).on_event(Path("movie.mov"), no_response(7))
    assert capsys.readouterr().err == f"movie.mov: {SENT_AGAIN}\n"


@pytest.mark.parametrize("kind", [Bars, JobBars])
def test_bars_tell_what_is_sent_again(capsys: pytest.CaptureFixture[str], kind: type[Bars]) -> None:
    kind(Narrator(lambda: 10.0)).on_event(Path("movie.mov"), no_response(7))
    assert capsys.readouterr().err == f"movie.mov: {SENT_AGAIN}\n"


def test_one_part_is_no_parts(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    reporter = reporting._Plain(Narrator(lambda: now), lambda: now)
    row = RowState("movie.mov")
    for size, parts, told in ((SIZE, 1, "0 of 1 part"), (None, None, "1 part"), (SIZE, 1203, "1 of 1,203 parts")):
        event = replace(progress(uploaded=1, in_flight=0, parts=int(parts != 1)), size=size, parts=parts)
        for _ in range(2):
            reporter.on_event(Path("movie.mov"), event)
            now += reporting.PLAIN_EVERY
        assert f" {told}, 0 B in flight" in capsys.readouterr().err
        update(row, event)
        assert parts is None or shown(row, 100).endswith(f"{int(parts != 1)}/{parts} {told.rpartition(' ')[2]}")
    start = events.UploadStarted(
        path=Path("movie.mov"), target="t", size=9, part_size=9, parts=1, manifest=Path("m"), resumed_parts=1,
        resumed_bytes=1,
    )  # fmt: skip
    assert Narrator().text(start) == "resuming: the store has 1 of 1 part"


@pytest.mark.parametrize("total", [False, True])
def test_plain_lines_become_rare(capsys: pytest.CaptureFixture[str], total: bool) -> None:
    now = 0.0
    reporter = reporting._Plain(Narrator(lambda: now), lambda: now)
    told = []
    for second in range(3600):
        now = float(second)
        if total:  # as of many files
            reporter.begin(Path("total"), f"{second} files")
        else:
            reporter.on_event(Path("movie.mov"), progress(uploaded=second, in_flight=0))
        if capsys.readouterr().err:
            told.append(second)
    gaps = [later - sooner for sooner, later in itertools.pairwise(told)]
    assert set(gaps[:8]) == {2}
    assert gaps == sorted(gaps)
    assert set(gaps[-45:]) == {60}
    assert len(told) < 110


@pytest.mark.parametrize(("verbose", "told"), [(0, [True, True]), (1, [False, True]), (2, [False, False])])
def test_what_the_log_shows_is_not_told_again(verbose: int, told: list[bool]) -> None:
    narrator = Narrator(lambda: 10.0, verbose=verbose)
    retrying = events.Retrying(part=1, attempt=1, delay=0, reason="503")
    assert [narrator.text(event) is not None for event in (events.Warned(message="w"), retrying)] == told


def test_what_a_delta_saved_is_told() -> None:
    done = events.UploadCompleted(url="u", etag="e", verified=Verified.FULL_OBJECT, bytes_sent=5_000_000)
    narrator = Narrator(lambda: 10.0)
    assert narrator.text(done) is None
    told = [narrator.text(replace(done, bytes_copied=copied)) for copied in (95_000_000, 0)]
    assert told == ["sent 5 MB, 95 MB copied by the store", "sent 5 MB, 0 B copied by the store"]


def test_reading_back() -> None:
    row = RowState("movie.mov", note="connecting")
    update(row, events.ReadingBack(bytes_compared=SIZE // 4, size=SIZE, rate=30e6, seconds_left=3.0))
    assert " 25 %    30/120 MB  30.0 MB/s    0:03" in shown(row, 80)
