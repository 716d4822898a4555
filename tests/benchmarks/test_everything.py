"""All benchmarks in one table: what is read out of what each prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import everything
from benchmarks.everything import ENTRIES, Entry, outcomes
from benchmarks.report import Target, conclude

pytestmark = pytest.mark.slow  # guards the benchmarks, not the product

MISSED = Target(what="resident ≤ 100 MB", found="120 MB", holds=False)


def test_targets_are_read_as_they_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    status = conclude([MISSED, Target(what="sent", found="1: all", holds=True)])
    lines = ["a table", *capsys.readouterr().out.splitlines()]
    assert list(outcomes(lines, status)) == [MISSED, Target(what="sent", found="1: all", holds=True)]


@pytest.mark.parametrize(("status", "ends"), [(0, True), (1, False), (2, False), (-9, False)])
def test_one_that_fails_is_no_success(status: int, ends: bool) -> None:
    found = list(outcomes(["yes resident ≤ 100 MB: 80 MB", "no peers are installed", ""], status))
    assert [target.holds for target in found] == [True] if ends else [True, False]
    assert ends or found[1].found == f"exit status {status}: no peers are installed"


def test_no_benchmark_is_forgotten() -> None:
    from benchmarks.__main__ import NAMES

    others = {"peers", "all", "goals", "starts", "plots", "threads"}
    assert {entry.name for entry in ENTRIES} == set(NAMES) - others - {"soak"}  # soak has no end of its own


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.title)
def test_its_figures_are_asked_for_where_it_has_some(entry: Entry, tmp_path: Path) -> None:
    command = entry.command(quick=entry.quick is not None, figures=tmp_path / "figures.json")
    assert ("--json" in command) == entry.figures


def test_all_figures_and_targets_are_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writes = "import sys; open(sys.argv[-1], 'w').write('[1]'); print('yes sent: all'); print('NO  fast: 3 s')"

    def command(entry: Entry, *, quick: bool, figures: Path) -> list[str]:
        return [sys.executable, "-c", writes, str(figures)]

    monkeypatch.setattr(Entry, "command", command)
    file = tmp_path / "all.json"
    monkeypatch.setattr("sys.argv", ["all", "--quick", "--only", "pipe", "--json", str(file)])
    assert everything.main() == 1
    found = json.loads(file.read_text())
    assert found["benchmarks"] == {"pipe": [1]}
    assert [(target["what"], target["holds"]) for target in found["targets"]] == [("sent", True), ("fast", False)]
    assert "NO  pipe                 fast: 3 s" in capsys.readouterr().out
