"""Every store behaves as its module says: what works, what fails and in which words, and the level of proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import STORES
from .environments import Unavailable, cache_directory
from .launching import Store
from .trial import try_store

ENVIRONMENTS = cache_directory()
"""The user's own, taken before the session gets a home of its own: a store is installed once, and not at each run."""


@pytest.mark.stores
@pytest.mark.timeout(900)  # seconds: the first run installs the store
@pytest.mark.parametrize("store", STORES, ids=lambda store: store.name)
def test_a_store_from_a_package(store: Store, tmp_path: Path) -> None:
    try:
        trial = try_store(store, ENVIRONMENTS, tmp_path / store.name)
    except Unavailable as e:
        pytest.skip(f"{store.title} could not be had: {e}")
    assert trial.surprises() == []
