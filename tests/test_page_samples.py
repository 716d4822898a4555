"""The samples of the pages are what their language can read: a person copies them."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tools.cases import each_case

pytestmark = pytest.mark.slow  # guards pages of the documentation

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"^[ \t]*```(python|json|toml)\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


def _python(text: str) -> Any:
    return compile(text, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


READERS: dict[str, Callable[[str], Any]] = {"python": _python, "json": json.loads, "toml": tomllib.loads}
BLOCKS = [
    (f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}", found[1], found[2])
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    for text in [page.read_text(encoding="utf-8")]
    for found in _BLOCK.finditer(text)
]


def test_there_are_samples_of_each_language() -> None:
    assert {language for _, language, _ in BLOCKS} == set(READERS)


@each_case(("place", "language", "text"), BLOCKS)
def test_a_sample_can_be_read(place: str, language: str, text: str) -> None:
    READERS[language](text)
