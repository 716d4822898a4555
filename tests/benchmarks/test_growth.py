"""The table of what more costs."""

from __future__ import annotations

import sys

import pytest

from benchmarks import growth
from benchmarks.growth import COMPARED, IN_PARTS, SIZES, START, Cost

pytestmark = pytest.mark.slow  # guards the benchmarks, not the product


def cost(work: str, python: str = "3.11.2", *, cpu: float = 0.3, peak: int = 80_000_000, count: int = 1) -> Cost:
    return Cost(work=work, python=python, seconds=2.0, cpu=cpu, peak=peak, count=count)


def test_a_part_costs_what_is_beyond_the_start() -> None:
    costs = [
        cost(START),
        cost(START, "3.14.0t", cpu=0.4),
        cost(COMPARED, cpu=0.5, count=100),
        cost(IN_PARTS, "3.14.0t", cpu=10.4, count=10_000),
    ]
    assert list(growth.table(costs)) == [
        "| work | parts or files | Python 3.11.2 | Python 3.14.0t |",
        "|---|---|---|---|",
        "| start: 1 KiB | 1 | 2.00 s, CPU 0.30 s, 80 MB | 2.00 s, CPU 0.40 s, 80 MB |",
        "| 1GB | 100 | 2.0 s, 2.00 ms, 80 MB | not measured |",
        f"| {IN_PARTS} | 10,000 | not measured | 2.0 s, 1.00 ms, 80 MB |",
    ]


@pytest.mark.parametrize(("peak", "holds"), [(88_000_000, True), (89_000_000, False)])
def test_memory_must_not_grow_with_bytes_or_parts(peak: int, holds: bool) -> None:
    costs = [cost(START), cost(COMPARED), cost(SIZES[-1], peak=peak), cost(IN_PARTS, peak=peak)]
    assert [target.holds for target in growth.targets(costs)] == [holds, holds]


def test_each_work_has_its_own_title_and_brief_is_shorter() -> None:
    titles = [work.title for work in growth.works(brief=False)]
    assert len(set(titles)) == len(titles)
    assert {COMPARED, IN_PARTS, SIZES[-1], START} <= set(titles)
    assert len(growth.works(brief=True)) < len(titles)


def test_an_interpreter_is_named_by_its_version() -> None:
    assert growth.named(sys.executable).rstrip("t") == sys.version.split()[0]
