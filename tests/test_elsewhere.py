"""The list of tests that are skipped elsewhere names tests that exist, and a run that was cut is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.platforms.__main__ import Row, count_printed
from tests.platforms.elsewhere import SKIPPED

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent


def test_each_one_exists() -> None:
    listed = [node for reasons in SKIPPED.values() for nodes in reasons.values() for node in nodes]
    assert listed
    for node in listed:
        file, _, test = node.partition("[")[0].partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, node


def test_a_run_that_was_cut() -> None:
    row = Row("cli")
    count_printed(
        """\
tests/cli/test_a.py::test_starts
[gw0] [  1%] PASSED tests/cli/test_a.py::test_passes[a b]
[gw1] [  2%] SKIPPED tests/cli/test_a.py::test_is_skipped
[gw0] [  3%] FAILED tests/cli/test_a.py::test_fails
[gw1] [  4%] PASSED tests/cli/test_a.py::test_leaves_something
[gw1] [  4%] ERROR tests/cli/test_a.py::test_leaves_something
tests/cli/test_a.py::test_does_not_end
""",
        row,
    )
    assert (row.passed, row.skipped.total()) == (1, 1)
    assert row.failed == ["tests/cli/test_a.py::test_fails", "tests/cli/test_a.py::test_leaves_something"]
