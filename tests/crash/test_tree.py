"""Files with awkward names, killed, read back and synced. `python -m benchmarks tree` has more and larger ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import tree
from bigupload.stores.local_store import LocalStore
from tests.tools.buckets import fresh_name

FILES = 1_500
"""Each awkward name as that of twenty files in other directories, and more than one page of a list."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_tree_of_awkward_names(tmp_path: Path, weed: LocalStore) -> None:
    large = (30_000_000, 12_000_000, 9_000_000)
    targets = tree.trial(tmp_path, weed, files=FILES, most=4_000, large=large, kills=3, bucket=fresh_name(weed))
    assert [str(target) for target in targets if not target.holds] == []
