"""Patience: where a file's facts are found, no test depends on how soon."""

from __future__ import annotations

import pytest

from bigupload.service import fact_finder
from tests.service.facts.support import PATIENT, program


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs is a test of its own. What spins is ended by its processor time, however busy the machine is."""
    monkeypatch.setattr(fact_finder, "_WITHIN", 600)
    monkeypatch.setattr(fact_finder, "_PROGRAM", program(PATIENT))
