"""What is told of a job: how far it is, what failed, and the sums."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bigupload import Verified, errors, events
from bigupload.batch.job import UploadFailed
from bigupload.cli import reporting
from bigupload.cli.job_report import Failures, JobReport, LeftOut
from bigupload.cli.narration import Narrator
from bigupload.engine.upload_run import UploadResult
from bigupload.errors import IT
from bigupload.progress import job_progress
from bigupload.progress.rows import RowState, render, update_total
from tests.tools.cases import each_case


class Noted:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.lines: list[str] = []

    def begin(self, path: Path, note: str) -> None:
        self.told.append((str(path), note))

    def end(self, path: Path) -> None:
        self.told.append((str(path), "end"))

    def on_event(self, path: Path, event: events.Event) -> None:
        self.told.append((str(path), type(event).__name__))

    def on_result(self, line: str) -> None:
        self.lines.append(line)

    def close(self) -> None:
        pass


def result(path: str, size: int, **more: Any) -> UploadResult:
    more = {"bytes_sent": size, **more}
    return UploadResult(
        path=Path(path), bucket="b", key=path, url=f"https://s3.example/b/{path}", size=size, etag="e", checksum=None,
        verified=Verified.FULL_OBJECT, parts=1, resumed_parts=0, retries=0, seconds=1.0,
        manifest=Path("m"), guarded_by="fingerprint", **more,
    )  # fmt: skip


def report(reporter: Noted, mode: str = "plain", *, as_json: bool = False) -> JobReport:
    now = iter([0.0, 10.0])
    return JobReport(reporter, as_json=as_json, sums=True, mode=mode, clock=lambda: next(now))


def failed(path: str, text: str, it: str | None = None) -> UploadFailed:
    return UploadFailed(source=path, key="", error=errors.SourceUnreadable(text, it=it or path))


def fill(told: JobReport) -> None:
    told.on_outcome(result("/small", 100))
    told.on_outcome(failed("/bad\udcff", f"{IT}: its name is not UTF-8", r"/bad\xff"))
    told.on_outcome(failed("/a", f"can't read {IT}: Permission denied"))
    told.on_outcome(failed("b", f"can't read {IT}: Permission denied", str(Path("b").absolute())))
    told.on_outcome(failed("/c", f"{IT} changed while it was uploaded"))
    told.on_outcome(result("/there", 700, skipped=True, bytes_sent=0))


TABLE = r"""bigupload: failed: 4
  its name is not UTF-8
    /bad\xff
  can't read it: Permission denied
    /a
    b
  it changed while it was uploaded
    /c
bigupload: uploaded 1 file, 100 B, 1 already there, 4 failed in 10 s, 10.0 B/s
"""


def test_failures_are_told_at_once_and_in_a_table_by_their_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Noted()
    told = report(reporter)
    told.begin("connecting")
    fill(told)
    assert capsys.readouterr().err.splitlines()[:2] == [
        r"bigupload: /bad\xff: its name is not UTF-8", "bigupload: can't read /a: Permission denied",
    ]  # fmt: skip
    assert told.finish() == errors.EXIT_FAILED
    assert reporter.lines == ["https://s3.example/b//small", "https://s3.example/b//there"]
    assert capsys.readouterr().err == TABLE
    assert reporter.told[0] == ("total", "connecting")
    assert (str(Path("/bad\udcff").absolute()), "end") in reporter.told
    assert (str(Path("b").absolute()), "end") in reporter.told, "as its events name it"


def test_a_terminal_counts_failures_and_names_them_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    told = report(Noted(), "bar")
    fill(told)
    assert capsys.readouterr().err == ""
    told.finish()
    assert capsys.readouterr().err == TABLE


@pytest.mark.parametrize("mode", ["plain", "bar", "none"])
def test_a_failure_that_is_all_is_told_once(capsys: pytest.CaptureFixture[str], mode: str) -> None:
    told = report(Noted(), mode)
    told.on_outcome(failed("*.mov", f"{IT}: no file matches it"))
    assert told.finish() == errors.EXIT_FAILED
    assert capsys.readouterr().err == "bigupload: *.mov: no file matches it\n"


def test_quiet_tells_each_failure_and_no_sum(capsys: pytest.CaptureFixture[str]) -> None:
    told = report(Noted(), "none")
    fill(told)
    told.finish()
    assert len(capsys.readouterr().err.splitlines()) == 4


def table_of(*errors_of: tuple[int, str]) -> list[str]:
    failures = Failures()
    for count, text in errors_of:
        for number in range(count):
            failures.add(f"/{number}", errors.SourceUnreadable(f"can't read {IT}: {text}", it=f"/{number}"))
    return failures.table()


def test_a_long_list_of_failures_is_cut() -> None:
    lines = table_of((1234, "Permission denied"))
    assert lines[:2] == ["failed: 1,234", "  can't read it: Permission denied"]
    assert lines[2:22] == [f"    /{number}" for number in range(20)]
    assert lines[22:] == ["    … and 1,214 more", "  With --json, standard output names each of them."]


def test_no_reason_is_hidden_by_another_one() -> None:
    lines = table_of((1234, "Permission denied"), (3, "Input/output error"))
    assert lines[12:16] == ["    … and 1,224 more", "  can't read it: Input/output error", "    /0", "    /1"]
    lines = table_of(*((5, f"reason {number}") for number in range(13)))
    assert len(lines) == 1 + 10 * (1 + 2 + 1) + 2
    assert lines[-2:] == ["  … and 15 more for other reasons", "  With --json, standard output names each of them."]
    assert table_of() == []


@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_done_is_told_also_if_the_job_ends_early(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    reporter = Noted()
    told = report(reporter, "bar", as_json=as_json)
    fill(told)
    with pytest.raises(errors.BucketNotFound), told.running():
        raise errors.BucketNotFound("no such bucket: b")
    if not as_json:
        assert capsys.readouterr().err == TABLE.replace("uploaded 1", "until now: uploaded 1")
        return
    total = json.loads(reporter.lines[-1])
    assert total == {
        "files": 2, "skipped": 1, "size": 100, "failed": 4, "bytes_sent": 100, "bytes_copied": 0, "sources_deleted": 0,
        "exit_status": 1, "seconds": 10.0, "error": "BucketNotFound", "message": "no such bucket: b",
    }  # fmt: skip


def test_nothing_is_told_of_a_job_that_did_not_begin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), report(Noted()).running():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_what_is_left_out_is_told_of_a_few(capsys: pytest.CaptureFixture[str]) -> None:
    left_out = LeftOut(quiet=False)
    for number in range(1007):
        left_out.add(f"/{number}", "a named pipe")
    left_out.finish()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "bigupload: /0: left out: a named pipe"
    assert lines[5:] == ["bigupload: left out in the same way: 1,002 more names"]
    quiet = LeftOut(quiet=True)
    quiet.add("/0", "a named pipe")
    quiet.finish()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", [f"{IT}: no such file", f"no such file: {IT}", f"can't read {IT}: Permission denied"])
def test_a_space_at_the_end_of_a_name_makes_no_reason_of_its_own(text: str) -> None:
    failures = Failures()
    for path in ("/c.pdf ", "/d.pdf"):
        failures.add(path, errors.SourceNotFound(text, it=path))
    assert failures.table()[2:] == [r"    /c.pdf\x20", "    /d.pdf"]


def test_a_rate_is_told_of_a_second_or_more() -> None:
    told = report(Noted())
    told.on_outcome(result("/a", 300))
    assert told._sum(0.9) == "uploaded 1 file, 300 B in 1 s"
    assert told._sum(2.0) == "uploaded 1 file, 300 B in 2 s, 150.0 B/s"


def test_what_was_not_sent_now_is_told() -> None:
    told = report(Noted())
    told.on_outcome(replace(result("/resumed", 300), bytes_sent=100))
    assert told._sum(10.0) == "uploaded 1 file, 300 B (100 B sent now) in 10 s, 10.0 B/s"
    told.on_outcome(replace(result("/copied", 300), bytes_sent=0, bytes_copied=300))
    assert told._sum(10.0) == "uploaded 2 files, 600 B (300 B copied by the store) in 10 s, 10.0 B/s"


def test_on_a_terminal_no_results_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Noted()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    report(reporter).on_outcome(result("/a", 1))
    assert reporter.lines == []
    report(reporter, as_json=True).on_outcome(result("/a", 1))
    assert len(reporter.lines) == 1


# --- how far it is


def progress(**more: Any) -> events.JobProgress:
    given = {
        "files_found": 1300, "bytes_found": 2_100_000_000, "is_listed": True, "files_uploaded": 170,
        "files_skipped": 12, "files_failed": 2, "bytes_uploaded": 1_000_000_000, "bytes_in_flight": 50_000_000,
        "bytes_skipped": 50_000_000, "bytes_failed": 0,
    }  # fmt: skip
    return events.JobProgress(**{**given, **more})


@each_case(
    ("more", "line"),
    [
        (
            {},
            "50 % of 2.1 GB, 184 of 1,300 files done, 12 already there, 2 failed, 50 MB in flight, 100.0 MB/s",
        ),
        (
            {"seconds_left": 10.0, "is_waiting": True},
            "50 % of 2.1 GB, 184 of 1,300 files done, 12 already there, 2 failed, 50 MB in flight, 100.0 MB/s, "
            f"{job_progress.WAITING}, 10 s left",
        ),
        (
            {"is_listed": False, "files_failed": 0, "files_skipped": 0, "bytes_in_flight": 0},
            "1.1 GB of 2.1+ GB, 170 of 1,300+ files done, 100.0 MB/s",
        ),
        (
            {"bytes_found": 0, "files_failed": 0, "bytes_in_flight": 0},
            "182 of 1,300 files done, 12 already there, 100.0 MB/s",
        ),
        (
            {"files_found": 0, "bytes_found": 0, "is_listed": False, "bytes_in_flight": 0, "objects_listed": 5000},
            "5,000 objects listed, 100.0 MB/s",
        ),
        (
            {"files_found": 0, "bytes_found": 0, "is_listed": False, "bytes_in_flight": 0},
            "looking for files, 100.0 MB/s",
        ),
        (
            {"files_found": 184, "bytes_in_flight": 0, "objects_deleted": 3, "rate": 0.0},
            "50 % of 2.1 GB, 184 of 184 files done, 12 already there, 3 deleted, 2 failed",
        ),
    ],
)  # fmt: skip
def test_the_line_of_a_job(more: dict[str, Any], line: str) -> None:
    assert job_progress.line(progress(**{"rate": 100e6, **more}), {}) == line


def test_the_largest_files_under_way_are_named() -> None:
    files = {f"{size}.bin": (size, size // 3) for size in (10, 500, 90, 70, 60, 0)}
    line = job_progress.line(progress(), files)
    assert line.endswith(", 50 MB in flight; 500.bin 33 %, 90.bin 33 %, 70.bin 32 %, 60.bin 33 %")


def test_plain_lines_of_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    reporter = reporting._PlainJob(Narrator(lambda: now), lambda: now)
    large = events.Progress(
        bytes_uploaded=1, bytes_in_flight=0, size=4, parts_uploaded=1, parts=4, concurrency=1, retries=0
    )
    for second in (0.0, 1.0, 2.0, 3.0, 4.0):
        now = second
        if second < 3:
            reporter.on_event(Path("/d/large"), large)
        else:
            reporter.end(Path("/d/large"))
        reporter.on_event(Path("total"), progress(bytes_uploaded=int(second) * 10_000_000, rate=10e6))
    first, second_line = capsys.readouterr().err.splitlines()
    assert first.startswith("total: 3 % of 2.1 GB, 184 of 1,300 files done, ")
    assert first.endswith("; large 25 %")
    assert second_line.endswith(", 10.0 MB/s")
    assert "large" not in second_line


def test_the_row_of_a_job_grows_a_share_when_all_is_listed() -> None:
    row = RowState("total", note="connecting")
    update_total(row, progress(is_listed=False, rate=1e9))
    assert render(row, 79, names=12).plain == "total         1.1 GB of 2.1+ GB  1.00 GB/s"
    update_total(row, progress(rate=500e6, seconds_left=2.0))
    assert render(row, 79, names=12).plain.endswith(" 50 %   1.1/2.1 GB 500.0 MB/s    0:02")
    update_total(row, progress(rate=500e6, seconds_left=2.0, is_waiting=True))
    assert render(row, 79, names=12).plain.endswith(f" 50 %   1.1/2.1 GB {job_progress.WAITING}    0:02")


def test_after_a_signal_the_table_is_told_and_the_sums_are_left_to_others(capsys: pytest.CaptureFixture[str]) -> None:
    told = report(Noted(), "bar")
    fill(told)
    with pytest.raises(KeyboardInterrupt), told.running():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == TABLE.partition("bigupload: uploaded")[0]


def test_the_same_warning_of_many_files_is_told_of_a_few() -> None:
    def told(narrator: Narrator) -> list[str | None]:
        warned = [
            events.Warned(
                message=f"s3://b/{number} was uploaded before",
                upload=events.UploadIdentity(source="/f", target=f"s3://b/{number}", id="i", manifest=None),
            )
            for number in range(5)
        ]
        return [narrator.text(event) for event in (*warned, events.Warned(message="another one"))]

    seldom = told(Narrator(lambda: 0.0, job=True))
    assert seldom[1] == "warning: s3://b/1 was uploaded before"
    assert seldom[2] == "warning: s3://b/2 was uploaded before (not repeated for other files)"
    assert seldom[3:] == [None, None, "warning: another one"]
    assert None not in told(Narrator(lambda: 0.0))


@pytest.mark.parametrize("message", ["this file was uploaded already, as http://h/{}.png: again", "/f/{} was moved"])
def test_warnings_that_name_their_file_or_its_url_are_alike(message: str) -> None:
    narrator = Narrator(lambda: 0.0, job=True)

    def warned(number: int) -> events.Warned:
        upload = events.UploadIdentity(source=f"/f/{number}", target="http://service", id="i", manifest=None)
        return events.Warned(message=message.format(number), upload=upload)

    told = [narrator.text(warned(number)) for number in range(5)]
    assert [text is None for text in told] == [False, False, False, True, True]
