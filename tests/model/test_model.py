"""The model, the same examples every time; `python -m tests.model --minutes N` plays others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .__main__ import play

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # hundreds of processes
    pytest.mark.skipif(not hasattr(os, "fork"), reason="each process is a fork of one that is warm"),
]


@pytest.mark.parametrize("number", range(20))
def test_model(number: int, tmp_path: Path) -> None:
    play(tmp_path, number)
