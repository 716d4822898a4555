"""Averages. The module `statistics` has them, too, and takes 10 ms to import: a tenth of the whole package."""

from __future__ import annotations

from collections.abc import Collection


def mean(values: Collection[float]) -> float:
    """The sum by the number of values, of which there is one at least."""
    return sum(values) / len(values)


def median(values: Collection[float]) -> float:
    """The value in the middle, or the mean of the two in the middle. There is one at least."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
