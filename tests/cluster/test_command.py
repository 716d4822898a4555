"""The command with `--dask`: a local cluster, interruptions, and one line for what goes wrong."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Security

from bigupload import ClusterUnreachable, UsageError
from bigupload.cluster import _compat
from bigupload.cluster.local_cluster import LocalWorkers
from bigupload.testing.faults import Stall
from bigupload.testing.strict_s3 import StrictS3
from bigupload.units import install_command
from tests.crash.running import Place, end_of, random_file, until
from tests.tools.signals import heard

from .nodes import WITH_DASK
from .support import MIB, descendants, is_alive

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="/proc")]
PART = 5 * MIB
PARTS = 8


@pytest.fixture(autouse=True)
def signals_are_heard() -> Iterator[None]:
    with heard():
        yield


@pytest.fixture
def place(tmp_path: Path) -> Place:
    random_file(tmp_path / "file.bin", PARTS * PART, seed=3)
    return Place(tmp_path, starts=WITH_DASK)


def upload(s3: StrictS3, place: Place, dask: str, *more: str) -> list[str | Path]:
    target = ["upload", place.directory / "file.bin", "--to", "s3://bucket/key", "--endpoint-url", s3.url]
    return [*target, "--part-size", "5MiB", "--concurrency", "4", "--json", "--progress", "none", "--dask", dask, *more]


def recorded(place: Place) -> int:
    with contextlib.suppress(ValueError, LookupError):
        return len(place.manifest().parts)
    return 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_local_cluster_ends_with_the_command_and_the_upload_resumes(
    s3: StrictS3, place: Place, how: signal.Signals
) -> None:
    s3.script("UploadPart", Stall(0), part_number=PARTS)
    with place.start(*upload(s3, place, "local:2")) as process:
        until(lambda: recorded(place) >= 3, process)
        workers = descendants(process.pid)
        assert len(workers) >= 3, "the cluster's process and two workers"
        process.send_signal(how)
        ended = end_of(process)
    s3.clear()  # the part that was to stall may not have been sent yet
    s3.release()
    if how is signal.SIGINT:
        assert ended.code == 130
        said = ended.err.splitlines()[-1]
        assert re.fullmatch(
            rf"bigupload: stopped: (at least )?\d+ of {PARTS} parts are (known to be )?in the store; "
            "the same command resumes",
            said,
        )
    while any(map(is_alive, workers)):
        os.sched_yield()
    resumed = place.run(*upload(s3, place, "local:2"))
    assert (resumed.code, resumed.err) == (0, "")
    assert resumed.result["verified"] == "full-object"
    assert resumed.result["resumed_parts"] >= 3
    assert s3.objects["bucket"]["key"].body == (place.directory / "file.bin").read_bytes()


def test_one_line_says_that_no_scheduler_responds(s3: StrictS3, place: Place) -> None:
    ended = place.run(*upload(s3, place, "tcp://127.0.0.1:9"))
    assert ended.code == 75
    assert re.fullmatch(
        r"bigupload: \S+file\.bin: no Dask scheduler responds at tcp://127\.0\.0\.1:9 \(\w+\): is it running, and is "
        r"this its address\?",
        ended.complaint,
    )


def test_one_line_says_that_dask_is_missing(s3: StrictS3, place: Place) -> None:
    hidden = "import runpy, sys; sys.modules['distributed'] = None; runpy.run_module('bigupload', run_name='__main__')"
    command = [sys.executable, "-c", hidden]
    ended = place.run(*upload(s3, place, "local:2"), command=command)
    assert (ended.code, ended.complaint) == (2, f"bigupload: Dask is not installed: {install_command('dask')}")


async def test_a_local_cluster_s_workers_hold_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {"AWS_SECRET_ACCESS_KEY": "secret-1", "AWS_PROFILE": "secret-2", "BIGUPLOAD_API_KEY": "secret-3"}
    for name, value in secret.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    local = await LocalWorkers.start(1)
    try:
        client = await _compat.connect(local.address, local.security)
        try:
            (there,) = (await client.run(lambda: dict(os.environ))).values()  # type: ignore[no-untyped-call]  # Dask's
        finally:
            await _compat.close(client)
        of_all = []
        for pid in descendants(os.getpid()):
            with contextlib.suppress(OSError):  # it has ended
                of_all.append(Path(f"/proc/{pid}/environ").read_text())
        assert of_all
    finally:
        await local.aclose()
    assert there["https_proxy"] == "http://proxy:3128"
    assert not [each for each in [*there.values(), *of_all] for value in secret.values() if value in each]


async def test_a_local_cluster_takes_nobody_without_its_certificate() -> None:
    local = await LocalWorkers.start(1)
    try:
        assert local.address.startswith("tls://127.0.0.1:")
        await _compat.close(await _compat.connect(local.address, local.security))
        with pytest.raises((UsageError, ClusterUnreachable)):
            await _compat.connect(local.address, Security.temporary())
    finally:
        await local.aclose()
