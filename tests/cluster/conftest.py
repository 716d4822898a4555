"""Dask clusters for tests: in this process, which starts at once, and of processes that can be killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bigupload.testing.strict_s3 import StrictS3
from tests.integration.support import BUCKET, World
from tests.tools.surroundings import only_strict_s3

from .support import MIB, Processes


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only_strict_s3(monkeypatch, tmp_path)


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    with StrictS3(min_part_size=5 * MIB) as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def world(s3: StrictS3, tmp_path: Path) -> World:
    return World(s3, tmp_path)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Any]:
    """A cluster of two workers in this process and this loop, which speak TCP all the same."""
    from distributed import LocalCluster  # takes seconds, and every worker of pytest imports this file

    async with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp://", host="127.0.0.1", asynchronous=True,
        dashboard_address="127.0.0.1:0", local_directory=str(tmp_path / "scratch"),
    ) as cluster:  # fmt: skip
        yield cluster


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """A scheduler and two workers as processes of their own, with logs in files."""
    with contextlib.ExitStack() as stack:
        cluster = Processes(tmp_path, stack)
        cluster.start_worker()
        cluster.start_worker()
        yield cluster


@pytest.fixture(scope="session")
def can_unshare() -> None:
    """Skips where no process may have mounts of its own."""
    probe = [sys.executable, "-c", "pass"]
    try:
        done = subprocess.run(["unshare", "-m", *probe], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare(1)")
    if done.returncode != 0:
        pytest.skip("no process may have mounts of its own here")
