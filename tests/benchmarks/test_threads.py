"""What one process can send, computed from the CPU time of its threads."""

from __future__ import annotations

import pytest

from benchmarks import threads
from benchmarks.threads import ENCRYPT, HASH, LOOP, Cost
from bigupload.core.part_plan import MIB

pytestmark = pytest.mark.slow  # guards the benchmarks, not the product

GB = 10**9


def test_two_part_sizes_tell_the_parts_cost_from_the_bytes() -> None:
    size = 1280 * MIB
    costs = Cost(part=0.001, byte=0.1 / size)
    seconds = {each: 0.1 + 0.001 * size / each for each in threads.PART_SIZES}
    found = threads.cost(size, seconds)
    assert found.part == pytest.approx(costs.part)
    assert found.byte == pytest.approx(costs.byte)


def test_small_parts_that_cost_no_more_cost_nothing() -> None:
    found = threads.cost(GB, dict.fromkeys(threads.PART_SIZES, 0.5))
    assert found.part == 0
    assert found.byte == 0.5 / GB


def test_the_limit_counts_parts_and_bytes() -> None:
    assert Cost(part=0, byte=0.5 / GB).limit(4) == pytest.approx(8 * GB)
    assert Cost(part=0.5 * MIB / GB, byte=0.5 / GB).limit(1, MIB) == pytest.approx(GB)


def test_a_row_is_a_kind_of_threads_that_did_something() -> None:
    found = {LOOP: Cost(part=0.001, byte=0.1 / GB), HASH: Cost(part=0, byte=0.1 / GB), ENCRYPT: Cost(part=0, byte=0)}
    _, _, *rows = threads.table({"http": found})
    assert rows == [
        "| http, event loop | 1 | 1.00 ms | 0.100 s | 6.3 GB/s |",
        "| http, hash | 4 | 0.00 ms | 0.100 s | 40.0 GB/s |",
    ]
