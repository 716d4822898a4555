"""docs/security.md: each claim names the test that shows it, and each test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # guards a page of the documentation

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "security.md"
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text()) if PAGE.exists() else []


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda value: value)
def test_what_is_named_is_there(file: str, test: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    functions = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert not test or test in functions


def test_every_row_of_a_table_names_one() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    claims = [row for row in rows if not row.startswith(("| what", "| asset"))]
    assert claims
    for row in claims:
        assert "`tests/" in row or "| nothing" in row or row.startswith("| *"), row
