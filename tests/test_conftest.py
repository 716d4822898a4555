"""What `conftest` watches over in all tests."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import NeverRetrieved

pytestmark = pytest.mark.slow

_HANGS = """
import pytest
from hypothesis import given, strategies

@pytest.fixture
def never_torn_down():
    yield
    while True:
        pass

@pytest.mark.timeout(1)
@given(strategies.integers())
def test_an_example_that_hangs(number):
    while number > 5:
        pass

@pytest.mark.timeout(1)
def test_a_failure_before_a_fixture_that_hangs(never_torn_down):
    raise AssertionError
"""


def test_an_exception_that_nobody_retrieves_is_noticed() -> None:
    async def leave_behind() -> None:
        failed = asyncio.get_running_loop().create_future()
        failed.set_exception(ValueError("lost"))
        del failed

    handler, log = NeverRetrieved(), logging.getLogger("asyncio")
    others, log.handlers = log.handlers, [handler]
    try:
        asyncio.run(leave_behind())
    finally:
        log.handlers = others
    (found,) = handler.found
    assert "ValueError: lost" in found


def test_a_test_that_hangs_ends_at_its_limit(tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text(_HANGS)
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    root = Path(__file__).parents[1]
    # The limit of this test itself ends it, were there none of the others.
    ran = subprocess.run([*command, "-n", "0", tmp_path], cwd=root, capture_output=True, text=True, check=False)
    assert "2 failed, 1 error" in ran.stdout, ran.stdout + ran.stderr
