"""The plan covers every byte exactly once, whatever the size: tried for *all* sizes under shrunken limits."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bigupload.core.part_plan import (
    DEFAULT_PART_SIZE,
    GIB,
    MIB,
    S3_LIMITS,
    SMALLER,
    Limits,
    Part,
    Plan,
    plan_parts,
    plan_small_parts,
)
from bigupload.errors import UsageError
from tests.tools.cases import each_case, examples

SMALL = Limits(min_part_size=2, max_part_size=11, max_parts=7, default_part_size=6, granule=2, enough_parts=4)
ODD = Limits(min_part_size=1, max_part_size=9, max_parts=5, default_part_size=4, granule=3, enough_parts=3)
"""Here the largest part is three granules, but the default part is no whole granule."""


def assert_covers(plan: Plan, size: int, limits: Limits) -> None:
    parts = list(plan)
    assert [part.number for part in parts] == list(range(1, plan.count + 1))
    assert parts[0].offset == 0
    for before, after in itertools.pairwise(parts):
        assert after.offset == before.offset + before.size
    assert parts[-1].offset + parts[-1].size == size
    assert {part.size for part in parts[:-1]} <= {plan.part_size}
    assert parts[-1].size <= plan.part_size
    assert all(part.size > 0 for part in parts) or (size == 0 and len(parts) == 1)
    assert 1 <= plan.count <= limits.max_parts
    assert plan.part_size <= limits.max_part_size


@pytest.mark.parametrize("limits", [SMALL, ODD])
def test_every_size_automatically(limits: Limits) -> None:
    capacity = limits.max_part_size * limits.max_parts
    for size in range(capacity + 1):
        plan = plan_parts(size, limits=limits)
        assert_covers(plan, size, limits)
        edges = (limits.min_part_size, limits.default_part_size, limits.max_part_size)
        assert plan.part_size % limits.granule == 0 or plan.part_size in edges
        # And it is the smallest that will do.
        enough = limits.enough_parts if plan.part_size <= limits.default_part_size else limits.max_parts
        less = plan.part_size - limits.granule
        assert plan.part_size == limits.min_part_size or less <= 0 or -(-size // less) > enough
    for size in range(capacity + 1, capacity + 20):
        with pytest.raises(UsageError, match="one object can hold"):
            plan_parts(size, limits=limits)


@pytest.mark.parametrize("limits", [SMALL, ODD])
def test_every_size_with_every_part_size(limits: Limits) -> None:
    capacity = limits.max_part_size * limits.max_parts
    accepted = 0
    for size, part_size in itertools.product(range(capacity + 3), range(-1, limits.max_part_size + 3)):
        count = max(1, -(-size // part_size)) if part_size > 0 else 0
        allowed = (
            1 <= part_size <= limits.max_part_size
            and count <= limits.max_parts
            and (count == 1 or part_size >= limits.min_part_size)
        )
        if not allowed:
            with pytest.raises(UsageError):
                plan_parts(size, part_size, limits=limits)
            continue
        accepted += 1
        plan = plan_parts(size, part_size, limits=limits)
        assert plan.part_size == part_size
        assert_covers(plan, size, limits)
    assert accepted > capacity


@settings(deadline=None, max_examples=examples(150))
@given(size=st.integers(0, 10_000 * 5 * GIB))
@example(size=10_000 * 16 * MIB)
@example(size=10_000 * 16 * MIB + 1)
@example(size=10_000 * 5 * GIB)
def test_real_limits(size: int) -> None:
    plan = plan_parts(size)
    assert plan.count <= 10_000
    assert plan.part_size % MIB == 0
    assert 5 * MIB <= plan.part_size <= 5 * GIB
    assert plan.part_size >= DEFAULT_PART_SIZE or plan.count <= 256
    first, last = plan.part(1), plan.part(plan.count)
    assert first.offset == 0
    assert last.offset + last.size == size
    assert last.offset == (plan.count - 1) * plan.part_size
    assert plan_parts(size) == plan  # nothing but the size decides


@settings(deadline=None, max_examples=examples(60))
@given(size=st.integers(0, 200 * MIB), part_size=st.integers(5 * MIB, 64 * MIB))
def test_real_limits_and_a_given_part_size(size: int, part_size: int) -> None:
    assert_covers(plan_parts(size, part_size), size, S3_LIMITS)


@each_case(
    ("size", "part_size", "count", "last"),
    [
        (0, None, 1, 0),
        (1, None, 1, 1),
        (5 * MIB - 1, None, 1, 5 * MIB - 1),
        (5 * MIB, None, 1, 5 * MIB),
        (5 * MIB + 1, None, 2, 1),
        (256 * 5 * MIB, None, 256, 5 * MIB),
        (256 * 5 * MIB + 1, None, 214, 256 * 5 * MIB + 1 - 213 * 6 * MIB),
        (256 * 16 * MIB, None, 256, 16 * MIB),
        (256 * 16 * MIB + 1, None, 257, 1),
        (10_000 * 16 * MIB, None, 10_000, 16 * MIB),
        (10_000 * 16 * MIB + 1, None, 9_412, 9_999 * 16 * MIB + 16 * MIB + 1 - 9_411 * 17 * MIB),
        (10_000 * 5 * MIB, 5 * MIB, 10_000, 5 * MIB),
        (10_000 * 5 * GIB, None, 10_000, 5 * GIB),
        (10_000 * 5 * GIB, 5 * GIB, 10_000, 5 * GIB),
        (5 * GIB + 1, 5 * GIB, 2, 1),
        (3, 7, 1, 3),  # one part may be smaller than the least part size
        (7, 7, 1, 7),
    ],
)
def test_edges(size: int, part_size: int | None, count: int, last: int) -> None:
    plan = plan_parts(size, part_size)
    assert plan.count == count
    assert plan.part(count).size == last


@each_case(
    ("size", "part_size", "says"),
    [
        (10_000 * 5 * MIB + 1, 5 * MIB, "use a part size of 6MiB or more"),
        (10_000 * 5 * GIB + 1, None, "one object can hold 53,687,091,200,000 bytes at most"),
        (10_000 * 5 * GIB + 1, 5 * GIB, "one object can hold 53,687,091,200,000 bytes at most"),
        (6 * MIB, 5 * MIB - 1, "below the store's 5 MiB"),
        (8, 7, "below the store's 5 MiB"),
        (0, 0, "at least 1 byte"),
        (0, -1, "below"),
        (1, 0, "below"),
        (1, 5 * GIB + 1, "above the store's 5 GiB"),
        (6 * GIB, 6 * GIB, "above the store's 5 GiB"),
    ],
)
def test_what_fits_no_limit(size: int, part_size: int | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        plan_parts(size, part_size)


def test_the_advised_part_size_is_accepted() -> None:
    size = 10_000 * 5 * MIB + 1
    assert plan_parts(size, 6 * MIB).count <= 10_000


@pytest.mark.parametrize("limits", [SMALL, ODD])
def test_every_size_in_smaller_parts(limits: Limits) -> None:
    found = 0
    for size, part_size in itertools.product(range(1, limits.max_part_size * limits.max_parts + 1), range(15)):
        usual, plan = plan_parts(size, limits=limits), plan_small_parts(size, part_size, limits=limits)
        granules = range(limits.granule, limits.max_part_size + 2 * limits.granule, limits.granule)
        allowed = [n for n in granules if n >= limits.min_part_size and -(-size // n) <= limits.max_parts]
        best = max((n for n in allowed if n <= part_size), default=allowed[0])
        if best > SMALLER * usual.part_size:
            assert plan is None
        else:
            found += 1
            assert plan is not None
            assert plan.part_size == best
            assert_covers(plan, size, limits)
    assert found > 30


@each_case(
    ("size", "part_size", "becomes"),
    [
        (8 * 10**9, 4 * 10**6, 5 * MIB),  # S3 allows no smaller ones
        (8 * 10**9, 9 * 10**6, 8 * MIB),
        (8 * 10**9, 12 * MIB, 12 * MIB),
        (8 * 10**9, 13 * MIB, None),  # too little would be won
        (10**9, 1, None),  # it has the smallest already
        (75 * 10**9, 4 * 10**6, 8 * MIB),  # in 10,000 parts
        (130 * 10**9, 4 * 10**6, None),
    ],
)
def test_smaller_parts_within_the_limits_of_s3(size: int, part_size: int, becomes: int | None) -> None:
    plan = plan_small_parts(size, part_size)
    assert (None if plan is None else plan.part_size) == becomes


@each_case("number", [-1, 0, 4, 10**9])
def test_a_part_outside_the_plan(number: int) -> None:
    with pytest.raises(ValueError, match=r"not one of 1\.\.3"):
        Plan(30, 10).part(number)


def test_a_part_inside_the_plan() -> None:
    assert Plan(25, 10).part(3) == Part(3, 20, 5)


@each_case(("most", "numbers"), [(0, []), (5, []), (6, [1]), (11, [1]), (12, [1, 2]), (16, [1, 2]), (17, [1, 2, 3])])
def test_the_first_parts_of_so_many_bytes(most: int, numbers: list[int]) -> None:
    assert [part.number for part in Plan(17, 6).first(most)] == numbers
