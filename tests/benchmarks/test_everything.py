"""All benchmarks in one table: what is read out of what each prints."""

from __future__ import annotations

import pytest

from benchmarks.everything import ENTRIES, outcomes
from benchmarks.report import Target, conclude

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

    assert {entry.name for entry in ENTRIES} == set(NAMES) - {"peers", "all", "soak"}  # soak has no end of its own
