"""The table of the goals, and other versions."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import goals, report, versions
from benchmarks.contest import Run
from benchmarks.contestants import OURS, ourselves
from benchmarks.goals import OLD, Line
from benchmarks.peering import Peers

pytestmark = pytest.mark.slow  # guards the benchmarks, not the product

GIB = 1 << 30


def run_of(name: str, seconds: float) -> Run:
    return Run(contestant=name, round=1, outcome="done", size=GIB, seconds=seconds, cpu=0.5, peak=80_000_000)


def line(ours: float) -> Line:
    rows = report.rows([run_of(OURS, ours), run_of(OLD, 4.0), run_of("mc", 2.0)], {})
    targets = report.wall_target(0.8, report.fastest(rows), "the fastest peer")
    return Line(work="http", rows=rows, targets=targets, cell=goals._cell)


@pytest.mark.parametrize(("ours", "met"), [(1.5, "yes"), (1.8, "NO")])
def test_a_line_has_both_versions_the_best_peer_and_whether_the_goal_is_met(ours: float, met: str) -> None:
    head, _, found = goals.table([line(ours)], "v1")
    assert "v1" in head
    cells = [cell.strip() for cell in found.strip("|").split("|")]
    assert cells[:4] == [
        "http",
        "4.00 s, 0.50 CPU s/GiB, 80 MB",
        f"{ours:.2f} s, 0.50 CPU s/GiB, 80 MB",
        "mc: 2.00 s, 0.50 CPU s/GiB, 80 MB",
    ]
    assert cells[-1] == met


def test_without_peers_the_goal_is_not_met() -> None:
    rows = report.rows([run_of(OURS, 1.0)], {})
    targets = report.wall_target(0.8, report.fastest(rows), "the fastest peer")
    *_, found = goals.table([Line(work="http", rows=rows, targets=targets, cell=goals._cell)], None)
    assert "none installed" in found
    assert found.endswith("| NO |")


@pytest.mark.parametrize(("given", "brief", "rounds"), [(None, False, 9), (None, True, 1), (5, False, 5), (5, True, 5)])
def test_a_given_number_of_rounds_is_that_of_every_line(given: int | None, brief: bool, rounds: int) -> None:
    arguments = argparse.Namespace(rounds=given, brief=brief)
    settings = goals.Settings(arguments=arguments, peers=Peers(Path("none")), old=None)
    assert settings.rounds(9).rounds == rounds


def test_an_unknown_version_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="git knows no version 'nothing-of-this-name'"):
        versions.installed("nothing-of-this-name", tmp_path)


def test_another_version_runs_with_its_own_interpreter_and_tree(tmp_path: Path) -> None:
    from tests.benchmarks.test_report import job

    other = ourselves(OLD, python="/old/bin/python", tree=tmp_path)
    assert other.argv(job(tmp_path))[0] == "/old/bin/python"
    assert other.environment(job(tmp_path))["PYTHONPATH"] == str(tmp_path)
