"""Killed at every await, every file operation and every request of a small upload, and gone on with: there is no fourth
ending. `steps.py` does it, from outside the product."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .running import REPOSITORY
from .steps import SCENARIOS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="each attempt is a fork")]

KINDS = {
    "fresh": {"before create", "after create", "before part", "after part", "before complete", "after complete"},
    "halfway": {"before list", "before ftruncate", "before part", "after complete"},
    "gone": {"before list", "before create", "after part", "after complete"},
    "completing": {"before stat"},
    "anew": {"before create", "before abort", "after abort", "before rename", "after part", "after complete"},
}
"""Of steps that there must be, or the scenario is not what it says."""


def steps_killed_at(program: str, scenario: str, directory: Path) -> set[str]:
    """Run a program that kills at every step, and check that nothing was wrong. Returns the kinds of steps."""
    done = subprocess.run(
        [sys.executable, "-m", program, str(directory), scenario],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["wrong"] == {}, done.stderr[-3000:]
    assert told["killed"] >= len(told["steps"]) > 10
    assert told["killed"] >= told["situations"] > 2
    return set(told["steps"])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_every_step(scenario: str, tmp_path: Path) -> None:
    kinds = steps_killed_at("tests.crash.steps", scenario, tmp_path)
    assert kinds >= {"before write", "half of a write", "before fsync", *KINDS[scenario]}
    assert any(kind.startswith("await in") for kind in kinds)
