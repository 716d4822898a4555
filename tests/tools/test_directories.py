"""A session's directory is removed, with all that is in it."""

from __future__ import annotations

import pytest

from tests.tools.directories import session_directory

pytestmark = pytest.mark.slow


def test_a_sessions_directory_is_removed_with_its_content(tmp_path_factory: pytest.TempPathFactory) -> None:
    with session_directory(tmp_path_factory, "made") as made:
        (made / "data").mkdir()
        (made / "data" / "file").touch()
    assert made.name.startswith("made")
    assert not made.exists()
