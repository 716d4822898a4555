"""How descriptors are divided among uploads and parts, for every limit and what the caller chose."""

from __future__ import annotations

import itertools

import pytest

from bigupload.api.upload_slots import (
    DESCRIPTORS_PER_PART,
    DESCRIPTORS_PER_UPLOAD,
    MAX_UPLOADS,
    DescriptorBudget,
    divide_descriptors,
)
from bigupload.core.flight import MOST
from tests.tools.cases import each_case


@each_case(
    ("limit", "uploads", "parts"),
    [(None, 64, 128), (1 << 20, 64, 128), (1024, 64, 128), (256, 12, 48), (128, 6, 24), (64, 2, 8), (32, 1, 1)],
)
def test_what_the_usual_limits_allow(limit: int | None, uploads: int, parts: int) -> None:
    assert divide_descriptors(limit) == DescriptorBudget(uploads, parts)


def test_it_fits_wherever_it_can() -> None:
    """And leaves a quarter, and never less than 32, to the program around."""
    for limit in range(50, 5000):
        found = divide_descriptors(limit)
        used = DESCRIPTORS_PER_UPLOAD * found.uploads + DESCRIPTORS_PER_PART * found.parts
        assert used <= limit - max(32, limit // 4)
        assert 1 <= found.uploads <= MAX_UPLOADS
        assert 1 <= found.parts <= MOST


def test_a_higher_limit_never_allows_less() -> None:
    for lower, higher in itertools.pairwise(divide_descriptors(limit) for limit in range(1, 5000)):
        assert lower.uploads <= higher.uploads
        assert lower.parts <= higher.parts


@pytest.mark.parametrize("limit", [None, 64, 1024])
def test_what_the_caller_chose_stays(limit: int | None) -> None:
    assert divide_descriptors(limit, concurrency=256, max_uploads=600) == DescriptorBudget(600, 256)
    assert divide_descriptors(limit, concurrency=200).parts == 200
    assert divide_descriptors(limit, max_uploads=200).uploads == 200


def test_the_other_one_makes_way() -> None:
    assert divide_descriptors(1024, concurrency=256) == DescriptorBudget(32, 256)
    assert divide_descriptors(1024, max_uploads=90) == DescriptorBudget(90, 24)
    assert divide_descriptors(1024, max_uploads=1000) == DescriptorBudget(1000, 1)
