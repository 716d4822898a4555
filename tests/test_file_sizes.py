"""A file of more than 400 lines, or a function of more than 50, is a sign that two things share one name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 50
NOT_OURS = {REPOSITORY / "tests" / "service" / "examples"}
"""Kept as they were published."""


def files(folder: str) -> list[Path]:
    found = [path for ending in ("py", "js") for path in (REPOSITORY / folder).rglob(f"*.{ending}")]
    return [path for path in found if not NOT_OURS & set(path.parents)]


@pytest.mark.parametrize("folder", ["bigupload", "tests", "benchmarks"])
def test_files_are_short(folder: str) -> None:
    lines = {str(path.relative_to(REPOSITORY)): path.read_text().count("\n") for path in files(folder)}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_functions_are_short() -> None:
    lengths = {}
    for path in (REPOSITORY / "bigupload").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths[f"{path.name}: {node.name}"] = (node.end_lineno or 0) - node.lineno + 1
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION} == {}
