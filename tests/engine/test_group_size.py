"""How many parts a machine gets at once."""

from __future__ import annotations

from bigupload.core.part_plan import MIB
from bigupload.engine.part_groups import GROUP_SECONDS, MOST_BYTES, group_size
from tests.tools.cases import each_case


def size(usual: float | None = 0.25, part_size: int = 5 * MIB, waiting: int = 10_000, slots: int = 8) -> int:
    return group_size(usual=usual, part_size=part_size, waiting=waiting, slots=slots, machines=1)


@each_case(
    ("usual", "parts"),
    [
        (None, 1),
        (GROUP_SECONDS * 10, 1),
        (GROUP_SECONDS / 2 + 0.01, 1),
        (GROUP_SECONDS / 2, 2),
        (GROUP_SECONDS / 24, 24),
        (0.001, 32),
        (0.0, 32),
    ],
)
def test_a_group_is_short_in_time(usual: float | None, parts: int) -> None:
    assert size(usual) == parts


def test_the_groups_of_a_machine_fit_into_its_memory() -> None:
    for slots in (1, 2, 8, 100, 1000):
        for part_size in (1, 5 * MIB, 100 * MIB, 5120 * MIB):
            found = size(0.01, part_size, slots=slots)
            assert found == 1 or found * part_size * slots <= MOST_BYTES


def test_more_machines_have_more_memory() -> None:
    alone = group_size(usual=0.01, part_size=64 * MIB, waiting=10_000, slots=16, machines=1)
    assert group_size(usual=0.01, part_size=64 * MIB, waiting=10_000, slots=16, machines=4) == 4 * alone


@each_case(("slots", "parts"), [(1, 100), (8, 1), (8, 7), (8, 500), (32, 10_000)])
def test_groups_become_smaller_so_that_all_slots_end_together(slots: int, parts: int) -> None:
    sizes: list[int] = []
    while parts:
        sizes.append(size(waiting=parts, slots=slots))
        assert sizes[-1] == 1 or sizes[-1] * slots <= parts, "each slot gets as much"
        parts -= sizes[-1]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1 or slots == 1
