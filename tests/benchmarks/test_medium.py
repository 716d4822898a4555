"""The table of files of medium size."""

from __future__ import annotations

import pytest

from benchmarks import medium, report
from benchmarks.command import Held
from benchmarks.contest import Run
from benchmarks.contestants import OURS
from benchmarks.medium import Path

pytestmark = pytest.mark.slow  # guards the benchmarks, not the product

NEAR, FAR = Path(tls=False, rtt=0), Path(tls=True, rtt=30)


def held(ours: float, **peers: float) -> Held:
    times = {OURS: ours, **peers}
    runs = [
        Run(contestant=name, round=1, outcome="done", size=1 << 20, seconds=seconds, cpu=0.5, peak=80_000_000)
        for name, seconds in times.items()
    ]
    return Held(title="1 MB", runs=runs, rows=report.rows(runs, {}))


def test_a_row_is_a_size_and_a_column_a_path() -> None:
    cells = {(10**6, NEAR): held(0.3, crt=0.2, mc=0.4), (10**6, FAR): held(0.3, crt=0.6, mc=0.5)}
    head, _, row = medium.table(cells)
    assert head == "| file | http, 0 ms | https, 30 ms |"
    assert row == "| 1 MB | 0.30 s, **1.50** {0} crt | 0.30 s, 0.60 {0} mc |".format("\N{MULTIPLICATION SIGN}")


@pytest.mark.parametrize(("ours", "holds"), [(0.3, False), (0.1, True)])
def test_the_target_is_the_fastest_peer(ours: float, holds: bool) -> None:
    assert medium.target(held(ours, crt=0.2, mc=0.4)).holds == holds


def test_behind_a_link_the_link_alone_limits_the_rate() -> None:
    """A store that limits it has small buffers, which fill at 1 MB/s for each connection over 100 ms."""
    behind = medium.store_options(FAR, "40MB/s", "10.197.0.2")
    assert behind == ["--host", "10.197.0.2"]
    assert medium.store_options(FAR, "40MB/s", None) == ["--rate", "40MB/s", "--rtt", "0.03"]
    assert medium.store_options(NEAR, "40MB/s", None) == []


def test_without_peers_the_target_is_not_met() -> None:
    alone = held(0.3)
    assert not medium.target(alone).holds
    assert medium.cell(alone) == "0.30 s"
