"""A store that has stalled: it accepts connections, and says nothing. Requests must not hang with it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bigupload import errors
from bigupload.core.checksums import Algorithm
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.media_objects import StoreHealth
from bigupload.service.problems import Problem, Refused
from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore
from tests.service.test_multipart import PART, create, cut, described, film, send
from tests.tools.service import Service, serving
from tests.tools.waiting import until


class Store:
    """Responds to the question, or not."""

    def __init__(self) -> None:
        self.asked = 0
        self.failing: Exception | None = None
        self.silent = False
        self.changes: list[str | None] = []
        self.now = 0.0

    async def ask(self) -> None:
        self.asked += 1
        if self.silent:
            await asyncio.get_running_loop().create_future()
        if self.failing is not None:
            raise self.failing

    def health(self, **times: float) -> StoreHealth:
        return StoreHealth(self.ask, clock=lambda: self.now, on_change=self.changes.append, **times)


async def test_the_store_is_asked_once_for_all_and_rarely() -> None:
    store = Store()
    health = store.health(every=5)
    assert await asyncio.gather(*(health.problem() for _ in range(20))) == [None] * 20
    store.now = 4.9
    await health.problem()
    assert store.asked == 1
    store.now, store.failing = 5.0, Fault(FaultKind.UNREACHABLE, "nothing listens")
    assert await health.problem() is store.failing
    store.now = 10.0
    assert await health.problem() is store.failing
    store.now, store.failing = 15.0, None
    assert await health.problem() is None
    assert (store.asked, store.changes) == (4, ["nothing listens", None])


async def test_a_silent_store_does_not_respond_and_a_busy_one_does() -> None:
    store = Store()
    store.silent = True
    problem = await store.health(within=0.0).problem()
    assert isinstance(problem, Fault)
    assert problem.kind is FaultKind.STALLED
    busy = Store()
    busy.failing = Fault(FaultKind.BUSY, "slow down")
    assert await busy.health().problem() is None
    refusing = Store()
    refusing.failing = errors.CredentialsError("no credentials")
    assert await refusing.health().problem() is refusing.failing


async def test_a_long_call_goes_on_while_the_store_responds() -> None:
    store = Store()
    health = store.health(patience=0.0, every=0.0)
    end = asyncio.Event()

    async def work() -> str:
        await end.wait()
        return "done"

    waiting = asyncio.create_task(health.while_responding(work()))
    await until(lambda: store.asked > 3)
    end.set()
    assert await waiting == "done"


async def test_a_call_is_left_behind_when_the_store_stops_responding() -> None:
    store = Store()
    health = store.health(patience=0.0, within=0.0, every=0.0)
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    waiting = asyncio.create_task(health.while_responding(work()))
    await until(lambda: store.asked > 3)
    store.silent = True
    with pytest.raises(Refused) as refused:
        await waiting
    assert (refused.value.problem, refused.value.retry_after) == (Problem.STORE_UNAVAILABLE, 5.0)
    await cancelled.wait()


async def test_a_call_that_ends_while_the_store_is_asked_is_not_kept_waiting() -> None:
    store = Store()
    store.silent = True
    end = asyncio.Event()

    async def work() -> str:
        await end.wait()
        return "done"

    waiting = asyncio.create_task(store.health(patience=0.0, within=1e6).while_responding(work()))
    await until(lambda: store.asked == 1)
    end.set()
    assert await waiting == "done"


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise Refused(Problem.UPLOAD_GONE)

    with pytest.raises(Refused) as refused:
        await Store().health().while_responding(work())
    assert refused.value.problem is Problem.UPLOAD_GONE


async def test_what_the_store_fails_with_is_refused() -> None:
    async def work() -> None:
        raise Fault(FaultKind.BUSY, "503 SlowDown", retry_after=7.0)

    with pytest.raises(Refused) as refused:
        await Store().health().while_responding(work())
    assert (refused.value.problem, refused.value.retry_after) == (Problem.STORE_UNAVAILABLE, 7.0)
    assert isinstance(refused.value.__cause__, Fault)


# -- a real store, stopped as by a hanging disk


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[LocalStore]:
    """A SeaweedFS that may be stopped: no other test uses it."""
    directory = tmp_path / "weed"
    store = local_store.start(directory)
    try:
        yield store
    finally:
        os.kill(store.pid, signal.SIGCONT)
        local_store.stop(directory)


def status_of(service: Service, path: str) -> int:
    return httpx.get(service.url + path, trust_env=False, timeout=60).status_code


@pytest.mark.slow
async def test_requests_to_a_stalled_store_end_with_503(own_store: LocalStore, tmp_path: Path) -> None:
    with serving(own_store, tmp_path, "--store-timeout", "1s", "--sweep-every", "0") as service:
        data = film(PART)
        parts = described(cut(data), Algorithm.CRC64NVME)
        made = create(service, PART, firstParts=parts).json()
        (etag,) = send(made["signed"], [data])
        complete = {"upload": made["upload"], "parts": [{"partNumber": 1, "etag": etag, **parts[0]}]}
        upload: dict[str, Any] = {"params": {"upload": made["upload"]}}
        assert (status_of(service, "/healthz"), status_of(service, "/readyz")) == (200, 200)
        os.kill(own_store.pid, signal.SIGSTOP)
        try:
            for response in (
                create(service, PART),
                service.call("GET", "/v1/media/multipart/parts", **upload),
                service.call("GET", "/v1/media/multipart", **upload),
                service.call("POST", "/v1/media/multipart/complete", json=complete),  # its own limit is 300 s
            ):
                assert (response.status_code, response.json()["error"]["code"]) == (503, "store_unavailable")
                assert response.headers["Retry-After"] == "5"
            await until(lambda: status_of(service, "/readyz") == 503)
            assert status_of(service, "/healthz") == 200
        finally:
            os.kill(own_store.pid, signal.SIGCONT)
        await until(lambda: status_of(service, "/readyz") == 200)
        done = service.call("POST", "/v1/media/multipart/complete", json=complete)
        assert done.status_code == 200, done.text  # the same request as the one that got 503
        told = [line for line in map(json.loads, service.log().splitlines()) if line["event"] == "store"]
        assert [line["responds"] for line in told] == [False, True]


def test_readiness_is_not_life(service: Service) -> None:
    assert httpx.get(f"{service.url}/readyz", trust_env=False).json() == {"status": "ok"}
    assert httpx.get(f"{service.url}/healthz", trust_env=False).json() == {"status": "ok"}
