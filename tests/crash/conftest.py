"""A strict store for processes that are killed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from bigupload.testing.strict_s3 import StrictS3

from .running import PART

collect_ignore = [] if os.name == "posix" else ["test_kill_records.py", "test_signals.py", "test_tree.py"]
"""Files that can't even be imported without POSIX's signals and limits."""


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    with StrictS3(min_part_size=PART) as server:
        server.create_bucket("bucket")
        yield server
