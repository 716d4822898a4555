"""What the tests of `core.flight` and its parts share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bigupload.core import flight
from tests.core.simulated_links import START, START_BYTES


@pytest.fixture(scope="module")
def few_to_begin_with() -> Iterator[None]:
    """How many parts are best to begin with is shown by `benchmarks controller`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(flight, "START", START)
        patched.setattr(flight, "START_BYTES", START_BYTES)
        yield
