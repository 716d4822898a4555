"""A store's name during an upload that takes days: it gets other addresses, has several, or gets no response; and the
path to them dies without a word.

Loopback's many addresses play the store's, and `getaddrinfo` the name servers.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.http import connection_pool, socket_tuning
from bigupload.http.put_transport import HttpTransport
from bigupload.ports import PutResponse, SignedRequest
from bigupload.sources.file import FileSource

from .support import write

HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
FOR_EVER = 10**9


@dataclass
class FrontEnds:
    """A store at several addresses, one PUT of ten bytes a connection, and the name that leads there."""

    port: int = 0
    listed: list[str] = field(default_factory=lambda: list(HOSTS))
    """What the name's look-up gives."""
    closes: bool = False
    """Whether each connection is closed at once."""
    asked: int = 0
    met: list[str] = field(default_factory=list)
    """Whom each PUT was sent to."""
    servers: dict[str, asyncio.Server] = field(default_factory=dict)

    async def start(self) -> None:
        for host in HOSTS:
            self.servers[host] = await asyncio.start_server(self._respond, host, self.port)
            self.port = self.servers[host].sockets[0].getsockname()[1]

    async def stop(self, host: str) -> None:
        server = self.servers.pop(host)
        server.close()
        await server.wait_closed()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.met.append(writer.get_extra_info("sockname")[0])
        if self.closes:
            writer.close()
            return
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(10)
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        await writer.drain()
        writer.close()

    def look_up(self, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        self.asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (h, self.port)) for h in self.listed]


@dataclass
class Sender:
    transport: HttpTransport
    source: FileSource
    ends: FrontEnds

    async def put(self, *, fresh: bool = False, scheme: str = "http") -> PutResponse:
        request = SignedRequest(f"{scheme}://store.test:{self.ends.port}/part", {}, 60)
        return await self.transport.put(request, self.source, Part(1, 0, 10), on_start=lambda _: None, fresh=fresh)


@pytest.fixture
async def sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sender]:
    ends = FrontEnds()
    await ends.start()
    monkeypatch.setattr(socket, "getaddrinfo", ends.look_up)
    try:
        with FileSource(write(tmp_path / "file", 10)) as source:
            async with HttpTransport() as transport:
                yield Sender(transport, source, ends)
    finally:
        for host in list(ends.servers):
            await ends.stop(host)


@pytest.mark.parametrize("fresh", [False, True], ids=["pooled", "fresh"])
async def test_connections_go_round_all_addresses_of_a_name(sender: Sender, fresh: bool) -> None:
    """Each has its own share of the store's bandwidth."""
    for _ in range(6):
        await sender.put(fresh=fresh)
    assert sorted(sender.ends.met) == sorted(HOSTS * 2)
    assert sender.ends.asked == 1


async def test_connections_that_are_few_and_far_between_go_round_too(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is made after what was known of the name has ended, and every look-up begins with the same address: a
    front end that takes connections and fails would meet every retry."""
    monkeypatch.setattr(connection_pool, "KEPT", -1)
    for fresh in (False, True, False):  # a hedge's second PUT must get another address, too
        await sender.put(fresh=fresh)
    assert sender.ends.asked == 3
    assert sender.ends.met == HOSTS


async def test_a_name_that_moves_is_followed_at_the_first_failure(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "KEPT", FOR_EVER)
    sender.ends.listed = HOSTS[:1]
    await sender.put()
    await sender.ends.stop(HOSTS[0])
    sender.ends.listed = HOSTS[1:2]
    with pytest.raises(Fault) as caught:
        await sender.put()
    assert caught.value.kind is FaultKind.UNREACHABLE
    await sender.put()
    assert sender.ends.met == HOSTS[:2]


async def test_a_name_that_moves_is_followed_in_time(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fails: the old address serves on, but it is not the name's any more."""
    sender.ends.listed = HOSTS[:1]
    await sender.put()
    sender.ends.listed = HOSTS[1:2]
    later = time.monotonic() + connection_pool.KEPT + 1
    monkeypatch.setattr(connection_pool, "time", SimpleNamespace(monotonic=lambda: later))
    await sender.put()
    assert sender.ends.met == HOSTS[:2]
    assert connection_pool.KEPT <= 60


async def test_an_address_that_is_dead_costs_no_attempt(sender: Sender) -> None:
    await sender.ends.stop(HOSTS[0])
    for _ in range(3):
        await sender.put()
    assert set(sender.ends.met) == set(HOSTS[1:])


async def test_the_address_that_was_reached_says_why(sender: Sender) -> None:
    """One refuses, as a front end that is down; the other one takes the connection, and closes it."""
    await sender.ends.stop(HOSTS[1])
    sender.ends.listed, sender.ends.closes = HOSTS[:2], True
    async with asyncio.timeout(60):
        for _ in HOSTS[:2]:  # each begins with another address
            with pytest.raises(Fault, match=r"store\.test:\d+ takes the connection and closes it"):
                await sender.put(scheme="https")


async def test_an_address_that_is_reached_by_another_is_tried_once(sender: Sender) -> None:
    """0.0.0.0 leads to 127.0.0.1, which the socket then names as its peer."""
    sender.ends.listed, sender.ends.closes = ["0.0.0.0"], True
    async with asyncio.timeout(60):
        with pytest.raises(Fault, match=r"takes the connection and (closes|resets) it"):
            await sender.put(scheme="https")
    assert len(sender.ends.met) == 1


async def test_a_look_up_that_never_ends_is_no_stall(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name servers of the network that was left do not respond. It is an outage, waited for as one: the part's attempts
    do not count."""

    release = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        release.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(connection_pool, "CONNECT_WITHIN", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        with pytest.raises(Fault) as caught:
            await asyncio.wait_for(sender.put(), 60)
    finally:
        release.set()
    assert caught.value.kind is FaultKind.UNREACHABLE


def test_all_connecting_takes_less_than_a_stall() -> None:
    """Else an outage would be called a stall, which costs a part one of its attempts."""
    assert socket_tuning.CONNECT_TIMEOUT < connection_pool.CONNECT_WITHIN < RetryPolicy().stall_after
