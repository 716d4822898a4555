"""The state directory is cleaned by one call of a process, however many begin at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bigupload.api import state
from bigupload.api.state import UploaderState


async def test_of_many_calls_one_looks_whether_the_directory_is_to_be_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    monkeypatch.setattr(state, "_clean_if_due", looked.append)
    states = [UploaderState(directory) for directory in [tmp_path / "one", tmp_path / "other"] * 50]
    await asyncio.gather(*(each.clean() for each in states))
    for each in states:
        each.close()
    assert sorted(looked) == [tmp_path / "one", tmp_path / "other"]
