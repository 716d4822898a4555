"""Each fuzzer for a moment, with a fixed seed: what it found once, it would find again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import run
from tests.fuzz.targets import SAMPLES, TARGETS
from tests.tools.cases import each_case


@each_case("name", TARGETS)
def test_good_samples_pass(name: str) -> None:
    finds = {}
    for sample in SAMPLES[name]:
        try:
            TARGETS[name](sample)
        except Exception as e:
            finds[sample] = e
    assert finds == {}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "times"), [("manifest", 2500), ("http", 5000), ("s3", 2000), ("service", 4000)])
def test_a_moment(name: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(name, seed=7, seconds=250, times=times) == times
