"""The list of tests that are skipped elsewhere names tests that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

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
