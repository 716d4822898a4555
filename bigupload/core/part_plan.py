"""The division of a source into parts. Pure arithmetic.

S3's limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html. All parts but the last are equal,
because Cloudflare R2 refuses anything else. Only a stream of unknown size gets larger parts as it goes on.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.units import format_part_size, format_size

MIB = 1024 * 1024
GIB = 1024 * MIB
DEFAULT_PART_SIZE = 16 * MIB
SMALLER = 0.75
"""A file that was begun is divided again only if its parts become that much smaller."""
START_OVER_WITHIN = 0.05
"""The share of a file that may have been sent when it is divided again. All of it is sent again."""
_STEPS = 10
"""Part sizes in a stream's plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a store. Sizes are in bytes. Tests shrink them to try every size."""

    min_part_size: int = 5 * MIB
    """The least size of every part but the last."""
    max_part_size: int = 5 * GIB
    max_parts: int = 10_000
    default_part_size: int = DEFAULT_PART_SIZE
    """The part size of a file that gets at least `enough_parts` and at most `max_parts` parts of it."""
    enough_parts: int = 256
    """A smaller file gets smaller parts, so that all connections have something to send until the end."""
    granule: int = MIB
    """Automatic part sizes are multiples of this."""


S3_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a plan. `number` counts from 1. `offset` and `size` are in bytes."""

    number: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class PlanStep:
    """A row of parts of the same size, in bytes."""

    parts: int
    part_size: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`size` bytes in parts of `part_size` bytes. The last part may be smaller. An empty source is one part.

    With `steps`, the parts are those of the first step, then those of the next one, and so on. `part_size` is the first
    step's then. Only a plan with steps may be open.
    """

    size: int | None
    """None: the plan is open, because the stream has not ended. Its last part may be smaller than planned."""
    part_size: int
    steps: tuple[PlanStep, ...] = ()

    @property
    def known_size(self) -> int:
        """The size of a plan that is not open."""
        assert self.size is not None
        return self.size

    @property
    def capacity(self) -> int:
        """The most bytes that the steps hold."""
        return sum(step.parts * step.part_size for step in self.steps)

    @property
    def count(self) -> int:
        """The number of parts, at least 1; of an open plan, the most that there may be."""
        if self.size is None:
            return sum(step.parts for step in self.steps)
        if not self.steps:
            return max(1, -(-self.size // self.part_size))
        count, left = 0, self.size
        for step in self.steps:
            if left <= step.parts * step.part_size:
                return max(1, count - -left // step.part_size)
            count, left = count + step.parts, left - step.parts * step.part_size
        return max(1, -(-self.size // self.part_size))

    @property
    def has_equal_parts(self) -> bool:
        """Whether all parts but the last have the same size."""
        return not self.steps or self.count <= self.steps[0].parts

    def part(self, number: int) -> Part:
        """Get part `number`, from 1 to `count`. Raises ValueError for any other number."""
        if not 1 <= number <= self.count:
            raise ValueError(f"part {number} is not one of 1..{self.count}")
        before, offset, part_size = 0, 0, self.part_size
        for step in self.steps:
            part_size = step.part_size
            if number <= before + step.parts:
                break
            before, offset = before + step.parts, offset + step.parts * part_size
        offset += (number - before - 1) * part_size
        return Part(number, offset, part_size if self.size is None else min(part_size, self.size - offset))

    def closed(self, size: int) -> Plan:
        """Get the plan of a stream that has ended after `size` bytes. Raises ValueError if it does not hold them."""
        if not 0 <= size <= self.capacity:
            raise ValueError(f"the plan does not hold {size} bytes")
        return dataclasses.replace(self, size=size)

    def __iter__(self) -> Iterator[Part]:
        return map(self.part, range(1, self.count + 1))

    def first(self, most: int) -> Iterator[Part]:
        """Get the first parts, `most` bytes of them at most."""
        return itertools.takewhile(lambda part: part.offset + part.size <= most, self)


def plan_parts(size: int, part_size: int | None = None, *, limits: Limits = S3_LIMITS) -> Plan:
    """Plan the parts of a file.

    The automatic part size is the default part size. It is smaller if the file would have fewer than `enough_parts`
    parts, and larger if it would have more than `max_parts`. It depends on the file's size alone, so that another
    machine makes the same plan.

    Args:
        size: The file's size in bytes.
        part_size: The part size in bytes; None: automatic.
        limits: What the store allows.

    Raises:
        UsageError: No plan fits the limits.
    """
    least = -(-size // limits.max_parts)
    if part_size is not None:
        _check_part_size(part_size, limits, alone=size <= part_size)
    else:
        small = max(limits.min_part_size, _granules(size, limits.enough_parts, limits))
        part_size = max(min(small, limits.default_part_size), _granules(size, limits.max_parts, limits))
        if part_size > limits.max_part_size:
            part_size = limits.max_part_size  # which need not be a multiple of the granule
    if least > limits.max_part_size:
        most = limits.max_parts * limits.max_part_size
        raise UsageError(f"one object can hold {most:,} bytes at most in this store, not {size:,}")
    if part_size < least:
        raise UsageError(
            f"parts of {format_part_size(part_size)} can't hold {format_size(size)} in {limits.max_parts:,} parts: "
            f"use a part size of {-(-least // MIB)}MiB or more"
        )
    return Plan(size, part_size)


def plan_small_parts(size: int, part_size: int, *, limits: Limits = S3_LIMITS) -> Plan | None:
    """Plan a file again, in smaller parts than the automatic ones, because its connections are slow.

    Args:
        size: The file's size in bytes.
        part_size: The largest part size in bytes that would do.
        limits: What the store allows. Within them, the parts may have to be larger.

    Returns:
        The plan; None if its parts would be larger than SMALLER times the automatic ones: too little would be won.
    """
    least = max(limits.min_part_size, _granules(size, limits.max_parts, limits))
    small = max(least, part_size // limits.granule * limits.granule)
    return Plan(size, small) if small <= SMALLER * plan_parts(size, limits=limits).part_size else None


def plan_stream(part_size: int | None = None, *, limits: Limits = S3_LIMITS) -> Plan:
    """Plan the parts of a stream whose size nobody knows.

    The part size is the default one, and doubles with every tenth of the parts that an upload may have. At S3's limits
    that holds 14 TB. A smaller start would cost more requests, and larger parts more memory.

    Args:
        part_size: The size of all parts in bytes; None: automatic.
        limits: What the store allows.

    Returns:
        An open plan.

    Raises:
        UsageError: The part size is not within the limits.
    """
    if part_size is not None:
        _check_part_size(part_size, limits)
        return Plan(None, part_size, (PlanStep(limits.max_parts, part_size),))
    first = max(limits.default_part_size, limits.min_part_size)
    tenth = max(1, limits.max_parts // _STEPS)
    begins = range(0, limits.max_parts, tenth)
    steps = [
        PlanStep(min(tenth, limits.max_parts - begin), min(first << number, limits.max_part_size))
        for number, begin in enumerate(begins)
    ]
    return Plan(None, steps[0].part_size, tuple(steps))


def _check_part_size(part_size: int, limits: Limits, *, alone: bool = False) -> None:
    """Raises UsageError for a size that the store does not allow. `alone`: there is one part, which may be small."""
    if part_size < limits.min_part_size and not alone:
        raise UsageError(
            f"a part size of {format_part_size(part_size)} is below the store's "
            f"{format_part_size(limits.min_part_size)}: use that or more"
        )
    if part_size < 1:
        raise UsageError("a part size is at least 1 byte")
    if part_size > limits.max_part_size:
        raise UsageError(
            f"a part size of {format_part_size(part_size)} is above the store's "
            f"{format_part_size(limits.max_part_size)}: use that or less"
        )


def _granules(size: int, parts: int, limits: Limits) -> int:
    """The least multiple of the granule with which this many parts hold `size` bytes."""
    return -(-size // (parts * limits.granule)) * limits.granule
