"""How many parts a machine gets at once. Pure.

A part that is handed over by itself costs the one that hands it over more than a part of a group. A group should be
short in time: what is in it waits for its turn, though another machine might be free. Towards the end, groups become
smaller, so that all machines end together: Polychronopoulos and Kuck, "Guided self-scheduling", 1987,
https://doi.org/10.1109/TC.1987.5009495.
"""

from __future__ import annotations

from bigupload.core.part_plan import MIB

GROUP_SECONDS = 6.0
"""Seconds that a group should take. Parts that take more than half of it are sent one by one."""
MOST_SECONDS = 2 * GROUP_SECONDS
"""Seconds after which a group begins no further part: it was slower than expected."""
MOST_BYTES = 2048 * MIB
"""Bytes of all groups of one machine. They are hashed before they are sent, and should still be in memory then."""
_MOST_PARTS = 32
"""Parts of a group. What a group costs by itself is less than a tenth of its parts' cost then."""


def group_size(*, usual: float | None, part_size: int, waiting: int, slots: int, machines: int) -> int:
    """How many parts to send one after another in one slot.

    Args:
        usual: Seconds that a part takes in a slot; None: that is not known yet.
        part_size: In bytes.
        waiting: The parts that nobody sends yet.
        slots: The parts that may be in flight.
        machines: How many machines send them.

    Returns:
        1 at least.
    """
    if usual is None:
        return 1
    by_time = int(GROUP_SECONDS / usual) if usual > 0 else _MOST_PARTS
    by_memory = MOST_BYTES * machines // (max(1, slots) * max(1, part_size))
    return max(1, min(by_time, by_memory, waiting // max(1, slots), _MOST_PARTS))
