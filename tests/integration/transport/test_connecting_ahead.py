"""Connections that are made before there is anything to send."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from bigupload.core.retry_policy import Fault
from bigupload.http.connection import Connection
from bigupload.http.connection_pool import ConnectionPool
from bigupload.http.put_transport import HttpTransport
from bigupload.support.rate_limiter import RateLimiter
from bigupload.testing.certificates import make_certificates
from tests.integration.support import no_leaks
from tests.integration.transport.test_connecting import STORED, put, serving
from tests.integration.transport.test_users_proxy import name_proxy
from tests.tools.waiting import until


class Store:
    """Stores parts of ten bytes, and counts its connections."""

    def __init__(self) -> None:
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(10)
            writer.write(STORED)
            await writer.drain()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Nothing is connected until this is set."""
    real, go = ConnectionPool._connect_to, asyncio.Event()

    async def connect(self: ConnectionPool, *to: Any) -> Connection:
        await go.wait()
        return await real(self, *to)

    monkeypatch.setattr(ConnectionPool, "_connect_to", connect)
    return go


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("made", [True, False], ids=["made already", "being made"])
async def test_parts_go_over_them(tmp_path: Path, tls: bool, made: bool) -> None:
    store, certificates = Store(), make_certificates(tmp_path) if tls else None
    async with (
        serving(store.serve, certificates) as port,
        no_leaks(),
        HttpTransport(ca_bundle=certificates.ca if certificates else None) as transport,
    ):
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/key"
        transport.connect_ahead(url, 3)
        if made:
            await until(lambda: store.connections == 3 and not any(transport._client.pool._coming.values()))
        await asyncio.gather(*(put(transport, url) for _ in range(3)))
        assert store.connections == 3
        await asyncio.gather(*(put(transport, url) for _ in range(4)))
        assert store.connections == 4


async def test_those_that_there_are_count(held: asyncio.Event) -> None:
    """One of them may carry the request that creates the upload, and the first part after it."""
    store = Store()
    async with serving(store.serve) as port, no_leaks(), HttpTransport() as transport:
        url = f"http://127.0.0.1:{port}/key"
        for _ in range(2):
            transport.connect_ahead(url, 2)
        held.set()
        await put(transport, url)
        await until(lambda: store.connections == 2)
        transport.connect_ahead(url, 2)
        await put(transport, url)
        assert len(transport._client.pool._open) == store.connections == 2
        transport.connect_ahead(url, 5)
        await until(lambda: store.connections == 5)
        await put(transport, url)
        assert len(transport._client.pool._open) == store.connections == 5


async def test_a_part_that_is_cancelled_leaves_its_connection_to_another(held: asyncio.Event) -> None:
    store = Store()
    async with serving(store.serve) as port, no_leaks(), HttpTransport() as transport:
        url = f"http://127.0.0.1:{port}/key"
        transport.connect_ahead(url, 1)
        sending = asyncio.create_task(put(transport, url))
        await until(lambda: not any(transport._client.pool._coming.values()))
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        held.set()
        await put(transport, url)
        assert store.connections == 1


async def test_a_part_that_needs_a_new_one_does_not_wait(held: asyncio.Event) -> None:
    store = Store()
    async with serving(store.serve) as port, no_leaks(), HttpTransport() as transport:
        url = f"http://127.0.0.1:{port}/key"
        transport.connect_ahead(url, 1)
        sending = asyncio.create_task(put(transport, url, fresh=True))
        await until(lambda: bool(transport._client._routes))
        held.set()
        await sending
        await until(lambda: not transport._client.pool._ahead)
        assert [len(kept) for kept in transport._client.pool._kept.values()] == [1], "nobody took it"
        await until(lambda: store.connections == 2)


async def test_what_fails_then_is_told_by_those_who_send(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    async with no_leaks(), HttpTransport() as transport:
        transport.connect_ahead("http://127.0.0.1:9", 2)
        assert transport._client.pool._ahead
        await until(lambda: not transport._client.pool._ahead)
        transport.connect_ahead("http://127.0.0.1:9", 1)
        for _ in range(2):
            with pytest.raises(Fault, match=r"127\.0\.0\.1:9"):
                await put(transport, "http://127.0.0.1:9/key")
        for address in ("http://[", "ftp://127.0.0.1:9"):
            transport.connect_ahead(address, 2)
        name_proxy(monkeypatch, "socks5h://127.0.0.1:9")
        transport.connect_ahead("http://127.0.0.1:10", 2)
        assert not transport._client.pool._ahead
    assert not caplog.records


async def test_none_is_left_behind(held: asyncio.Event, caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    async with serving(store.serve) as port, no_leaks():
        async with HttpTransport() as transport:
            transport.connect_ahead(f"http://127.0.0.1:{port}/key", 3)
            await asyncio.sleep(0)
        async with HttpTransport() as transport:
            transport.connect_ahead(f"http://127.0.0.1:{port}/key", 3)
            held.set()
            await until(lambda: store.connections == 3)
        transport.connect_ahead(f"http://127.0.0.1:{port}/key", 3)
        assert not transport._client.pool._ahead, "it is closed"
    assert not caplog.records


async def test_a_proxy_is_not_told_a_wrong_password_many_times(monkeypatch: pytest.MonkeyPatch) -> None:
    name_proxy(monkeypatch, "http://user:wrong@127.0.0.1:9")
    async with HttpTransport() as transport:
        for address in ("http://127.0.0.1:10", "https://127.0.0.1:10"):
            transport.connect_ahead(address, 3)
        assert not transport._client.pool._ahead


@pytest.mark.parametrize("path", ["", "/", "/bucket"], ids=["a host", "its root", "a bucket"])
async def test_an_address_with_or_without_a_path(path: str) -> None:
    """The host of a bucket at AWS has none."""
    store = Store()
    async with serving(store.serve) as port, no_leaks(), HttpTransport() as transport:
        transport.connect_ahead(f"http://127.0.0.1:{port}{path}", 2)
        await until(lambda: store.connections == 2)
        await put(transport, f"http://127.0.0.1:{port}/bucket/key")
        assert store.connections == 2


async def test_with_a_rate_limit_none_is_made_ahead() -> None:
    async with HttpTransport(limiter=RateLimiter(1e6)) as transport:
        transport.connect_ahead("http://127.0.0.1:9/key", 3)
        assert not transport._client.pool._ahead
