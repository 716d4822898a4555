"""The service's workers, and how it stops: replaced, orphaned, drained, or at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path

import aiohttp
import httpx
import pytest

from bigupload.service.http.handling import RequestsInFlight
from bigupload.service.http.serving import drain
from bigupload.stores.local_store import LocalStore
from tests.service.test_multipart import PART, create
from tests.tools.service import Service, serving
from tests.tools.waiting import until

STOPS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]


def made_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a service that is started now puts what is temporary."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def workers_of(service: Service) -> list[int]:
    """Its worker processes: its children that run Python's spawn."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == service.process.pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def healthy(service: Service) -> bool:
    try:
        return httpx.get(service.url + "/healthz", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.slow
async def test_workers_share_a_port_and_are_replaced(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path, "--workers", "2") as service:
        before = workers_of(service)
        assert len(before) == 2
        made = create(service, PART).json()
        for _ in range(20):  # each a connection of its own, so that both workers get some
            response = service.call("GET", "/v1/media/multipart", params={"upload": made["upload"]})
            assert response.json()["status"] == "open"
        assert 'method="GET",route="/v1/media/multipart",status="200"} 20.0' in httpx.get(service.url + "/metrics").text
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: len(workers_of(service)) == 2 and before[0] not in workers_of(service))
        await until(lambda: healthy(service))
        assert 'bigupload_workers_ended_total{how="SIGKILL"} 1.0' in httpx.get(service.url + "/metrics").text
        (told,) = [line for line in map(json.loads, service.log().splitlines()) if line["event"] == "worker"]
        assert (told["error"], told["again_in"]) == ("a worker died: SIGKILL", 1.0)
        assert service.stop() == 0
        await until(lambda: not any(map(is_alive, before)))


@pytest.mark.slow
async def test_workers_end_with_a_parent_that_is_killed(
    weed: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = made_temporary(tmp_path, monkeypatch)
    with serving(weed, tmp_path, "--workers", "2") as service:
        workers = workers_of(service)
        assert len(workers) == 2
        assert list(temporary.iterdir())
        service.stop(signal.SIGKILL)
        await until(lambda: not any(map(is_alive, workers)))
        assert not list(temporary.iterdir())


@pytest.mark.exhaustive
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", STOPS)
def test_a_stop_responds_to_what_is_under_way(
    weed: LocalStore, tmp_path: Path, workers: str, number: signal.Signals
) -> None:
    """The request's last byte is sent only after the signal: its response comes all the same."""
    with serving(weed, tmp_path, "--workers", workers) as service:
        host, port = service.url.removeprefix("http://").split(":")
        body = b'{"filename": "a.jpg", "contentType": "image/jpeg"}'
        head = (
            f"POST /v1/media/presign HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {service.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        )
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + body[:-1])
            assert connection.recv(1000).startswith(b"HTTP/1.1 100")  # it is in the handler
            service.process.send_signal(number)
            refused(service)  # no new connection is taken: the stop has begun
            connection.sendall(body[-1:])
            response = b""
            while more := connection.recv(65536):
                response += more
        assert response.startswith(b"HTTP/1.1 200"), response
        assert service.process.wait(60) == 0


def refused(service: Service) -> None:
    """Wait until nothing listens any more. A minute is more than any stop takes."""
    host, port = service.url.removeprefix("http://").split(":")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it was in the backlog
            continue
    raise AssertionError("it goes on listening")


async def test_connections_are_accepted_until_the_delay_is_over() -> None:
    in_flight = RequestsInFlight()
    seen: list[tuple[float, bool, bool]] = []
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)

    async def sleep(seconds: float) -> None:
        seen.append((seconds, server.is_serving(), in_flight.stopping))

    await drain(server, in_flight, delay=5, within=0, sleep=sleep)
    assert seen == [(5, True, True)]
    assert not server.is_serving()


class KeepAliveClient:
    """Sends requests over one connection until a response says that the connection ends."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.statuses: list[int] = []

    async def run(self) -> None:
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(self._url, connector=connector) as http:
            while True:
                async with http.get("/openapi.json") as response:
                    await response.read()
                    self.statuses.append(response.status)
                    if response.headers.get("Connection") == "close":
                        return


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_stop_with_a_delay_breaks_no_request(weed: LocalStore, tmp_path: Path, workers: str) -> None:
    """A load balancer's connections, each of which gets a request more often than every five seconds."""
    more = ("--workers", workers, "--stop-delay", "5s", "--sweep-every", "0")
    with serving(weed, tmp_path, *more) as service:
        clients = [KeepAliveClient(service.url) for _ in range(50)]
        async with asyncio.TaskGroup() as group:  # a request that fails ends the test
            for client in clients:
                group.create_task(client.run())
            await until(lambda: all(client.statuses for client in clients))
            service.process.send_signal(signal.SIGTERM)
            async with aiohttp.ClientSession(service.url) as http:  # the balancer's own question, on new connections
                told: tuple[int, dict[str, str]] = (200, {})
                while told[0] == 200:
                    async with http.get("/readyz", headers={"Connection": "close"}) as response:
                        told = response.status, await response.json()
        assert told == (503, {"status": "stopping"})
        assert {status for client in clients for status in client.statuses} == {200}
        assert service.process.wait(60) == 0


@pytest.mark.slow
def test_a_worker_that_cant_be_started_again_is_tried_again(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path, "--workers", "2") as service:
        keys = tmp_path / "keys.json"
        good = keys.read_text()
        keys.write_text("{")
        first, other = workers_of(service)
        os.kill(first, signal.SIGKILL)
        asyncio.run(until(lambda: service.log().count('"event": "worker"') == 2, within=60))  # died; can't start
        assert is_alive(other)
        keys.write_text(good)
        asyncio.run(until(lambda: len(workers_of(service)) == 2, within=60))
        assert service.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_leaves_at_once(
    weed: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    temporary = made_temporary(tmp_path, monkeypatch)
    with serving(weed, tmp_path, "--workers", workers) as service:
        host, port = service.url.removeprefix("http://").split(":")
        head = (
            f"POST /v1/media/presign HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {service.key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        )
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 100")
            service.process.send_signal(signal.SIGTERM)
            refused(service)
            assert service.stop(signal.SIGINT) == 130  # and not 0, after the grace
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_what_a_caller_has_ignored_stays_ignored(weed: LocalStore, tmp_path: Path) -> None:
    """`nohup`: a terminal that closes is no stop."""
    with serving(weed, tmp_path, ignored=(signal.SIGHUP,)) as service:
        service.process.send_signal(signal.SIGHUP)
        assert healthy(service)
        assert service.stop() == 0
