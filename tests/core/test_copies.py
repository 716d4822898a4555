"""Which parts of a new object another object has."""

from __future__ import annotations

import itertools

from bigupload.core.integrity import CopySource, PreviousVersion
from bigupload.core.part_plan import Part, Plan

CHECKSUMS = ("a", "b", "c", "d")


def base(size: int, part_size: int = 10) -> PreviousVersion:
    source = CopySource(bucket="bucket", key="key", etag='"etag"', size=size)
    return PreviousVersion(source=source, part_size=part_size, checksums=CHECKSUMS[: Plan(size, part_size).count])


def test_the_same_range_with_the_same_checksum() -> None:
    """Every size before and now: what is the same is all that lies in both, in parts of the same size."""
    for before, now in itertools.product(range(1, 41), range(41)):
        old = base(before)
        copied = [part.number for part in Plan(now, 10) if old.has(part, CHECKSUMS[part.number - 1])]
        whole = min(before, now) // 10
        last = [whole + 1] if before == now and now % 10 else []
        assert copied == [*range(1, whole + 1), *last], (before, now)


def test_another_checksum_another_place_or_nothing() -> None:
    old = base(35)
    assert not old.has(Part(1, 0, 10), "b")
    assert not old.has(Part(1, 5, 10), "a")
    assert not old.has(Part(5, 40, 10), "d")
    assert not base(0).has(Part(1, 0, 0), "a")
