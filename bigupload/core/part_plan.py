"""How a file is divided into parts. Pure arithmetic.

S3's limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html. All parts but the last are equal,
because Cloudflare R2 refuses anything else.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from bigupload.errors import UsageError
from bigupload.units import format_part_size, format_size

MIB = 1024 * 1024
GIB = 1024 * MIB
DEFAULT_PART_SIZE = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a store allows. Sizes are in bytes. Tests shrink them to try every size."""

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
class Plan:
    """A file of `size` bytes in parts of `part_size` bytes. The last part may be smaller. An empty file is one part."""

    size: int
    part_size: int

    @property
    def count(self) -> int:
        """The number of parts, at least 1."""
        return max(1, -(-self.size // self.part_size))

    def part(self, number: int) -> Part:
        """Get part `number`, from 1 to `count`. Raises ValueError for any other number."""
        if not 1 <= number <= self.count:
            raise ValueError(f"part {number} is not one of 1..{self.count}")
        offset = (number - 1) * self.part_size
        return Part(number, offset, min(self.part_size, self.size - offset))

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
    if part_size is None:
        small = max(limits.min_part_size, _granules(size, limits.enough_parts, limits))
        part_size = max(min(small, limits.default_part_size), _granules(size, limits.max_parts, limits))
        if part_size > limits.max_part_size:
            part_size = limits.max_part_size  # which need not be a multiple of the granule
    elif part_size < limits.min_part_size and size > part_size:
        raise UsageError(
            f"a part size of {format_part_size(part_size)} is below the store's "
            f"{format_part_size(limits.min_part_size)}"
        )
    elif part_size < 1:
        raise UsageError("a part size is at least 1 byte")
    if part_size > limits.max_part_size:
        raise UsageError(
            f"a part size of {format_part_size(part_size)} is above the store's "
            f"{format_part_size(limits.max_part_size)}"
        )
    if part_size < least:
        raise UsageError(
            f"parts of {format_part_size(part_size)} can't hold {format_size(size)} in {limits.max_parts:,} parts: "
            f"use a part size of {-(-least // MIB)}MiB or more"
        )
    return Plan(size, part_size)


def _granules(size: int, parts: int, limits: Limits) -> int:
    """The least multiple of the granule with which so many parts hold `size` bytes."""
    return -(-size // (parts * limits.granule)) * limits.granule
