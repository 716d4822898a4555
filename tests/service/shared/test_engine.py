"""Valkey as the engine that replicas share: killed, stalled, refusing and back. Each test has one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from bigupload.errors import ServiceError, UsageError
from bigupload.service.access.callers import RequestRateLimit
from bigupload.service.access.shared import EngineAwayError, SharedEngine, check_shared_url
from bigupload.testing.certificates import Certificates, make_certificates
from tests.tools.cases import each_case
from tests.tools.valkey import Valkey, free_port, valkey_running
from tests.tools.waiting import until

RATE = 0.11
"""Six requests in 60 seconds: no machine is so slow that the first of them leaves the window during a test."""
MOST = 6
BACK = "(back)"


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with valkey_running(tmp_path / "valkey") as running:
        yield running


class Replica:
    """What one process has of the engine, and what it told."""

    def __init__(self, url: str, *, within: float = 60.0) -> None:
        self.told: list[str] = []
        self.alone = 0
        self.may_probe = asyncio.Event()
        self.probes = 0
        """How many were sent, or are about to be."""
        self.engine = SharedEngine(
            url,
            prefix="bigupload:test",
            on_change=lambda why: self.told.append(why or BACK),
            within=within,
            sleep=self._sleep,
        )
        self.limit = RequestRateLimit(RATE, self.engine, on_alone=self._was_alone)

    async def _sleep(self, _: float) -> None:
        await self.may_probe.wait()
        self.probes += 1
        await asyncio.sleep(0)

    def _was_alone(self) -> None:
        self.alone += 1

    async def allowed(self, count: int) -> int:
        return [await self.limit.take("a key") == 0.0 for _ in range(count)].count(True)


@contextlib.asynccontextmanager
async def replicas(valkey: Valkey, count: int = 2, *, within: float = 60.0) -> AsyncIterator[list[Replica]]:
    made = [Replica(valkey.url, within=within) for _ in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        for replica in made:
            await stack.enter_async_context(replica.engine)
        yield made


async def test_two_replicas_allow_as_many_as_one(valkey: Valkey) -> None:
    async with replicas(valkey) as (one, other):
        assert await one.allowed(4) == 4
        assert await other.allowed(4) == MOST - 4
        assert await one.allowed(2) == 0
        assert 0 < await other.limit.take("a key") <= 60
        assert await other.limit.take("another key") == 0.0
        assert (one.told, other.told, one.alone) == ([], [], 0)


async def test_many_at_once_are_no_more(valkey: Valkey) -> None:
    async with replicas(valkey) as pair:
        taken = await asyncio.gather(*(each.limit.take("a key") for each in pair for _ in range(100)))
        assert all(each.told == [] for each in pair)
    assert taken.count(0.0) == MOST


async def test_killed_it_is_done_without_and_found_again(valkey: Valkey) -> None:
    async with replicas(valkey) as (one, other):
        valkey.kill()
        assert await one.allowed(10) == MOST  # each by itself
        assert await other.allowed(10) == MOST
        assert (one.alone, other.alone) == (10, 10)
        assert [len(one.told), len(other.told)] == [1, 1]
        for each in (one, other):
            each.may_probe.set()
        await until(lambda: min(one.probes, other.probes) > 2)
        valkey.start()
        await until(lambda: not one.engine.away and not other.engine.away)
        assert await one.allowed(4) + await other.allowed(4) == MOST  # nothing was kept
        assert [one.told[1:], other.told[1:]] == [[BACK], [BACK]]


async def test_stalled_it_is_waited_for_once(valkey: Valkey) -> None:
    async with replicas(valkey, 1, within=0.3) as (one,):
        valkey.stall()
        assert await one.allowed(10) == MOST
        assert one.told == ["it did not respond within 0.3 s"]
        with pytest.raises(EngineAwayError):
            await one.engine.ask(lambda: pytest.fail("nobody waits for an engine that is away"))
        valkey.go_on()
        one.may_probe.set()
        await until(lambda: not one.engine.away)
        assert one.told[1:] == [BACK]


async def test_an_engine_that_is_away_at_the_start_is_found_later(tmp_path: Path) -> None:
    valkey = Valkey(tmp_path, port=free_port())
    try:
        async with replicas(valkey, 1) as (one,):
            assert len(one.told) == 1
            assert await one.allowed(10) == MOST
            valkey.start()
            one.may_probe.set()
            await until(lambda: not one.engine.away)
            assert one.told[1:] == [BACK]
    finally:
        valkey.kill()


async def test_connections_that_it_closed_are_opened_again(valkey: Valkey) -> None:
    async with replicas(valkey, 1) as (one,):
        assert await one.allowed(1) == 1
        valkey.kill()
        valkey.start()
        assert await one.allowed(1) == 1
        assert (one.told, one.alone) == ([], 0)


async def test_a_replica_of_the_engine_that_only_reads_is_none(valkey: Valkey) -> None:
    async with replicas(valkey, 1) as (one,), redis.asyncio.Redis.from_url(valkey.url) as admin:
        await admin.replicaof("127.0.0.1", free_port())
        assert await one.allowed(10) == MOST
        assert one.alone == 10
        one.may_probe.set()
        await until(lambda: one.probes > 2)
        assert one.engine.away
        await admin.replicaof("NO", "ONE")
        await until(lambda: not one.engine.away)
        assert len(one.told) == 2


@pytest.mark.parametrize(
    ("change", "why"), [(("secret-word", "wrong-word"), "password"), (("/0", "/99"), "DB index is out of range")]
)
async def test_one_that_refuses_fails_the_start(tmp_path: Path, change: tuple[str, str], why: str) -> None:
    with valkey_running(tmp_path / "valkey", password="secret-word") as valkey:
        async with replicas(valkey) as pair:
            assert await pair[0].allowed(1) == 1
        with pytest.raises(ServiceError, match=why) as refused:
            await Replica(valkey.url.replace(*change)).engine.__aenter__()
    assert "-word" not in str(refused.value)


@contextlib.asynccontextmanager
async def with_tls(valkey: Valkey, certs: Certificates) -> AsyncIterator[int]:
    """A port at which the engine is reached by TLS, as through a cloud's proxy."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certs.cert, certs.key)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            while data := await reader.read(65536):
                writer.write(data)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection("127.0.0.1", valkey.port)
        await asyncio.gather(pass_on(reader, their_writer), pass_on(their_reader, writer))

    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def test_by_tls_its_certificate_is_verified(valkey: Valkey, tmp_path: Path) -> None:
    (tmp_path / "another").mkdir()
    mine, another = make_certificates(tmp_path), make_certificates(tmp_path / "another", "127.0.0.2")
    async with with_tls(valkey, mine) as port:
        trusting = Replica(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={mine.ca}")
        async with trusting.engine:
            assert await trusting.allowed(10) == MOST
            assert (trusting.told, trusting.alone) == ([], 0)
        distrusting = Replica(f"rediss://127.0.0.1:{port}/0")
        async with distrusting.engine:
            assert "certificate verify failed" in distrusting.told[0]
    async with with_tls(valkey, another) as port:
        elsewhere = Replica(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={another.ca}")
        async with elsewhere.engine:
            assert "certificate verify failed" in elsewhere.told[0]  # it is that of another address


@each_case(
    "url", ["", "host:6379", "http://host", "redis://", "redis://:geheim@host:0", "redis://:geheim@host:99999",
            "redis://:geheim@host/name", "redis://:geheim@host/0#x", "redis://:geheim@[::1"],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UsageError, match="write it like") as refused:
        check_shared_url(url)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("query", ["?no_such=1", "?socket_timeout=x"])
def test_a_query_that_is_no_setting(query: str) -> None:
    with pytest.raises(UsageError, match="has an unknown setting"):
        SharedEngine(f"redis://:geheim@host:1/0{query}", prefix="", on_change=print)


@pytest.mark.parametrize("url", ["redis://host", "redis://user:word@host:6379/", "rediss://host/15"])
def test_what_is_a_url(url: str) -> None:
    """None is refused."""
    check_shared_url(url)
