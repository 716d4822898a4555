"""The kills of kills.py, at the moments of one seed: a sample. `python -m tests.cluster.kills --seed N` plays all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .kills import STORIES, Story, play

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="/proc")]


SAMPLE = [story for story in STORIES if story.sampled]


@pytest.mark.parametrize("story", SAMPLE, ids=lambda story: story.name.replace(" ", "-"))
def test_each_process_of_a_cluster_killed_and_restarted(story: Story, tmp_path: Path) -> None:
    print(play(story, 26, tmp_path))
