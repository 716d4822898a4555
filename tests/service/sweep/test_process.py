"""The sweep of a running service: a process of its own, which ends with it, and is started again where it ends."""

from __future__ import annotations

import asyncio
import errno
import json
import multiprocessing
import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from bigupload.service.call import AccessLog
from bigupload.service.http import serving as http_serving
from bigupload.service.http.serving import ServeSettings
from bigupload.service.media.policy import ANY_TYPES, POLICY_KEY
from bigupload.service.uploads.bucket_rules import set_up
from bigupload.service.webhooks.hooks import Hooks
from bigupload.stores.local_store import LocalStore
from tests.service.posts.support import sent
from tests.service.sweep.support import keys, made, put
from tests.service.test_workers import is_alive, workers_of
from tests.tools.buckets import Meddled, fresh_name, options_for
from tests.tools.service import Service, serving
from tests.tools.waiting import until

EXE = b"MZ\x90\x00" + bytes(4096)
MINUTES = 180.0
"""Seconds: the sweep looks at what other tests left in the bucket, and yields to everything else on this machine."""


def events(service: Service, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in service.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


async def sweeper_of(service: Service) -> int:
    """The process that sweeps for a service of one process."""
    await until(lambda: workers_of(service) != [])
    (sweeper,) = workers_of(service)
    return sweeper


def gone(url: str) -> bool:
    return httpx.get(url, trust_env=False).status_code == 404


@pytest.mark.slow
async def test_a_process_of_its_own_sweeps_and_ends_with_the_service(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path, "--sweep-every", "0.2") as service:
        sweeper = await sweeper_of(service)
        url = sent(service, EXE)
        await until(lambda: gone(url), within=MINUTES)
        assert os.getpriority(os.PRIO_PROCESS, sweeper) > os.getpriority(os.PRIO_PROCESS, service.process.pid)
        assert list((tmp_path / "state" / "sweeps").glob("*.sqlite3"))
        await until(lambda: sum(line["not_media"] for line in events(service, "sweep")) >= 1, within=MINUTES)
        assert service.stop() == 0
        await until(lambda: not is_alive(sweeper))
        assert events(service, "sweeper") == []


async def test_a_policy_that_is_gone_deletes_nothing(weed: LocalStore, bucket: Meddled) -> None:
    """By the published one, what an earlier policy accepted would go: here, a text."""
    key = made("a.txt")
    await set_up(bucket, named={"types": ANY_TYPES, "keep": None})
    await put(bucket, key, b"a text", "text/plain")
    lines: list[dict[str, Any]] = []
    log = AccessLog(write=lambda line: lines.append(json.loads(line)))
    settings = ServeSettings(
        bucket=bucket.name, s3=options_for(weed), keys=Path("keys"), secrets=("s" * 32,), host="", port=0,
        workers=1, sweep_every=0.0,
    )  # fmt: skip
    sweeping = asyncio.create_task(http_serving._sweep_on(bucket, settings, log, None, Hooks()))
    try:
        await until(lambda: lines != [])
        await bucket.call("to lose it", "DeleteObject", Key=POLICY_KEY)
        await until(lambda: "is gone" in lines[-1].get("error", ""))
        assert key in await keys(bucket)
        await set_up(bucket, named={"types": ANY_TYPES, "keep": None})
        await until(lambda: "error" not in lines[-1])
        assert key in await keys(bucket)
    finally:
        sweeping.cancel()
        await asyncio.wait([sweeping])


@pytest.mark.slow
async def test_it_ends_with_a_service_that_is_killed(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path, "--sweep-every", "600") as service:
        sweeper = await sweeper_of(service)
        assert is_alive(sweeper)
        service.stop(signal.SIGKILL)
        await until(lambda: not is_alive(sweeper))  # fails if it outlives the service


@pytest.mark.slow
async def test_a_sweeper_that_ends_is_started_again(
    weed: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "from importlib import import_module\n"
        "if '--multiprocessing-fork' not in sys.argv and 'serve' in sys.argv:\n"
        "    import_module('bigupload.service.http.serving')._SWEEPER_RESTART_AFTER = 0.1\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serving(weed, tmp_path, "--sweep-every", "0.2", cold=True) as service:
        first = await sweeper_of(service)
        await until(lambda: events(service, "sweep") != [], within=MINUTES)
        os.kill(first, signal.SIGKILL)
        await until(lambda: workers_of(service) not in ([], [first]), within=MINUTES)
        url = sent(service, EXE)
        await until(lambda: gone(url), within=MINUTES)
        (told,) = events(service, "sweeper")
        assert (told["error"], told["again_in"]) == ("the sweeper ended with status -9", 0.1)


@pytest.mark.slow
async def test_of_two_services_that_share_a_directory_one_sweeps(weed: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state").symlink_to(tmp_path / "state")
    with serving(weed, tmp_path / "one", "--sweep-every", "0.2") as one:
        await until(lambda: events(one, "sweep") != [], within=MINUTES)
        with serving(weed, tmp_path / "other", "--sweep-every", "0.2") as other:
            await until(lambda: events(other, "sweep") != [], within=MINUTES)
            (told,) = events(other, "sweep")
            assert "waits_for" in told
            assert "waits_for" not in events(one, "sweep")[-1]
            assert one.stop() == 0
            url = sent(other, EXE)
            await until(lambda: gone(url), within=MINUTES)


async def test_a_sweeper_that_can_not_be_started_is_tried_again(
    weed: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor is left for its pipe, at first."""
    monkeypatch.setattr(http_serving, "_SWEEPER_RESTART_AFTER", 0.0)
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", str(tmp_path / "state"))
    lines: list[str] = []
    settings = ServeSettings(
        host="127.0.0.1", port=0, workers=1, bucket=fresh_name(weed), s3=options_for(weed), signing_endpoint=None,
        public_url=None, keys=tmp_path / "keys", secrets=("s" * 32,), requests_a_second=1.0, max_open_uploads=1,
        posts_api=None, allow_private_media_hosts=False, sweep_every=600.0,
    )  # fmt: skip
    resource = pytest.importorskip("resource", reason="Windows has no limits of processes")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as lowest_free:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno() + 1, hard))
        try:
            async with http_serving.sweeping(settings, AccessLog(write=lines.append)):
                await until(lambda: len(lines) >= 2)
                assert not multiprocessing.active_children()
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                await until(lambda: multiprocessing.active_children() != [])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not multiprocessing.active_children()
    told = json.loads(lines[0])
    assert (told["event"], told["error"], told["again_in"]) == ("sweeper", os.strerror(errno.EMFILE), 0.0)


@pytest.mark.slow
async def test_workers_have_one_sweeper_among_them(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path, "--workers", "2", "--sweep-every", "0.2") as service:
        url = sent(service, EXE)
        await until(lambda: gone(url), within=MINUTES)
        assert service.stop() == 0
