"""The stories: the library keeps to the model in all of them, and a library broken on purpose does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .mutants import MUTANTS
from .stories import noticed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # hundreds of processes
    pytest.mark.skipif(not hasattr(os, "fork"), reason="each process is a fork of one that is warm"),
]


def test_the_library_keeps_to_the_model(tmp_path: Path) -> None:
    assert noticed(None, tmp_path) is None


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_library_is_noticed(mutant: str, tmp_path: Path) -> None:
    assert noticed(mutant, tmp_path) is not None
