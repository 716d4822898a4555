"""Killed at every await, every file operation, every statement and every request of an upload that deletes its source:
the file is here, or its object is proved, and the same call ends with the one state. `move_steps.py` does it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .move_steps import SCENARIOS
from .test_every_step import steps_killed_at

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="each attempt is a fork")]

KINDS = {
    "fresh": {"before create", "after complete", "before rename of the source"},
    "aside": {"before link of the source", "after unlink of the source"},
    "listed": {"before create", "after complete", "before rename of the source", "after rmdir of the source"},
    "listed-aside": {"before link of the source", "after rmdir of the source"},
}
"""Of steps that there must be, or the scenario is not what it says."""
AT_LAST = {"before stat", "before unlink of the source", "after unlink of the source"}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_every_step(scenario: str, tmp_path: Path) -> None:
    assert steps_killed_at("tests.crash.move_steps", scenario, tmp_path) >= KINDS[scenario] | AT_LAST
