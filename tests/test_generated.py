"""The files that are made from declarations are as those are now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.tools.cases import each_case
from tests.tools.generated import FILES


@each_case(("path", "made"), FILES.items())
def test_a_file_follows_its_declarations(path: Path, made: Callable[[], str]) -> None:
    assert path.read_text(encoding="utf-8") == made(), "run python -m tests.tools.generated"
