"""The quota of bytes, counted by several replicas together through a real Valkey, and by each alone without it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from bigupload.service.access.shared import SharedEngine
from bigupload.service.problems import Refused
from bigupload.service.uploads.quota import KeptCount, Quota
from tests.service.test_quota import Notes, SlowStore, Store, allowed
from tests.tools.valkey import Valkey, valkey_running


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with valkey_running(tmp_path / "valkey") as running:
        yield running


@contextlib.asynccontextmanager
async def sharing(
    valkey: Valkey, store: Store, count: int = 2, limit: int = 100, **more: Any
) -> AsyncIterator[list[Quota]]:
    """So many replicas. Those that look for an engine that is away do so for ever."""
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            engine = SharedEngine(
                valkey.url, prefix="test", on_change=lambda _: None, within=60, sleep=lambda _: asyncio.Event().wait()
            )
            await stack.enter_async_context(engine)
            ours: dict[str, Any] = {"limit": limit, "clock": lambda: store.now, "engine": engine, **more}
            made.append(Quota(store.sizes, store.open_keys, **ours))
            stack.push_async_callback(made[-1].aclose)
        yield made


async def test_what_another_replica_promised_counts(valkey: Valkey) -> None:
    store = Store(a=40)
    async with sharing(valkey, store) as (one, other):
        assert await allowed(one, "b", 50)
        assert not await allowed(other, "c", 11)
        assert await allowed(other, "c", 10)
        assert not await allowed(one, "d", None)  # of an unknown size: there must be room for a byte
        assert await allowed(one, "c", 10)  # the same again
        assert await allowed(one, "x", 60, owner="you")
        assert store.lists == 2  # one for each owner, for both replicas
        other.release("me", "c")
        assert await allowed(other, "e", 10)
        assert not await allowed(one, "f", 1)


async def test_of_many_at_once_there_is_room_for_so_many(valkey: Valkey) -> None:
    async with sharing(valkey, Store()) as pair:
        asked = [allowed(quota, f"{number}-{n}", 10) for n, quota in enumerate(pair) for number in range(20)]
        assert (await asyncio.gather(*asked)).count(True) == 10


async def test_what_arrived_is_counted_once(valkey: Valkey) -> None:
    store = Store()
    async with sharing(valkey, store) as (one, other):
        assert await allowed(one, "a", 60)
        store.files = {"a": 60}
        one.changed("me")
        assert await allowed(one, "b", 40)
        assert store.lists == 1  # there was room anyway
        takes = "your files take 60 B and uploads that are not complete take 40 B of 100 B, and this one has 1 B"
        with pytest.raises(Refused, match=takes):
            await other.reserve("me", "c", 1)
        store.files = {}
        other.changed("me")  # it deleted `a`
        assert await allowed(other, "c", 60)
        assert store.lists == 3
        assert not await allowed(one, "d", 1)


async def test_a_promise_ends(valkey: Valkey) -> None:
    async with sharing(valkey, Store()) as (one, other):
        await one.reserve("me", "a", 100, lifetime=0)
        assert not await allowed(other, "b", 100)  # the list is from before: the file may be there
        other.changed("me")
        assert await allowed(other, "b", 100)


async def test_an_open_upload_counts_for_as_long_as_it_is_open(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigupload.service.uploads.quota._BEGINS_WITHIN", 0.0)
    store = Store()
    async with sharing(valkey, store) as (one, other):
        store.open = {"a"}
        await one.reserve("me", "a", 60, lifetime=7 * 86_400)
        other.changed("me")
        assert not await allowed(other, "b", 60)
        store.open = set()  # it was swept
        one.changed("me")
        assert await allowed(other, "b", 60)


async def test_an_abort_makes_room_once_the_list_shows_no_object(valkey: Valkey) -> None:
    store = Store()
    async with sharing(valkey, store) as (one, other):
        assert await allowed(one, "a", 60)
        assert await allowed(one, "b", 40)
        store.files = {"a": 60}  # the upload was complete
        other.ended("me", "a")
        other.ended("me", "b")
        assert not await allowed(other, "c", 41)
        assert await allowed(other, "c", 40)


async def test_promises_that_the_engine_dropped_count_no_more(valkey: Valkey) -> None:
    store = Store()
    async with sharing(valkey, store) as (one, other), redis.asyncio.Redis.from_url(valkey.url) as admin:
        assert await allowed(one, "a", 60)
        await admin.delete("test:quota:{me}:promises")
        other.release("me", "a")
        other.changed("me")
        assert not await allowed(other, "b", 101)
        assert await allowed(other, "b", 100)
        assert not await allowed(one, "c", 1)


async def test_no_replica_waits_for_a_long_list(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigupload.service.uploads.quota._PARTLY", 1)
    store = SlowStore(a=30, b=40)
    async with (
        redis.asyncio.Redis.from_url(valkey.url) as admin,
        sharing(valkey, store, patience=0.0) as (one, other),
        asyncio.timeout(60),
    ):
        assert await allowed(one, "c", 50)
        while await admin.hget("test:quota:{me}", "stored") != b"30":
            await asyncio.sleep(0)
        with pytest.raises(Refused, match="your files are being counted again"):
            await other.reserve("me", "d", 21)
        assert await allowed(other, "d", 20)


async def test_an_engine_that_was_emptied_goes_on_by_the_count_that_was_kept(valkey: Valkey) -> None:
    store, notes = SlowStore(a=30, b=40), Notes(me=KeptCount(70, 100.0))
    async with sharing(valkey, store, kept=notes, patience=60.0) as (one, other), asyncio.timeout(50):
        assert not await allowed(one, "c", 31)
        assert await allowed(one, "c", 20)
        assert not await allowed(other, "d", 11)
        assert await allowed(other, "d", 10)


async def test_what_a_process_notes_for_the_time_without_an_engine_does_not_grow(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigupload.service.uploads.quota._NOTED_PROMISES", 50)
    async with sharing(valkey, Store(), count=1, limit=10**9) as (quota,):
        for number in range(60):
            await quota.reserve("me", f"{number}", 1)
        held = [number for number in range(60) if quota.holds("me", f"{number}")]
        assert held == list(range(10, 60))
        quota.release("me", "59")  # the ledger in Valkey has them all
        quota.ended("me", "1")
        await quota.reserve("me", "x", 10**9 - 59 * (10**9 // 50_000))


async def test_what_an_earlier_version_promised_counts(valkey: Valkey) -> None:
    """It wrote no end of a promise beside its size, but a sorted set."""
    account, store = "test:quota:{me}", Store()
    async with sharing(valkey, store) as (one, other), redis.asyncio.Redis.from_url(valkey.url) as admin:
        now = (await admin.time())[0]
        began = f"{now - 10}.000000"
        await admin.hset(account, mapping={"stored": 10, "began": began, "took": "0.1", "promised": 60})
        await admin.hset(f"{account}:promises", mapping={"a": f"20 {now - 5}", "b": f"40 {now - 3601}"})
        await admin.zadd(f"{account}:ends", {"a": now + 3595, "b": now - 1})
        assert await allowed(one, "c", 30)
        assert not await allowed(other, "d", 51), "what is stored is gone, and the URL of b has ended"
        assert store.lists == 1
        assert await allowed(other, "d", 50)


async def test_an_engine_that_dies_while_a_list_is_read_holds_up_nobody(valkey: Valkey) -> None:
    store = SlowStore(a=40)
    async with sharing(valkey, store, patience=60.0) as (one, other), asyncio.timeout(50):
        asked = [asyncio.create_task(allowed(quota, f"{number}", 30)) for number, quota in enumerate((one, one, other))]
        while store.lists < 2:  # one list of each replica
            await asyncio.sleep(0)
        valkey.kill()
        store.go_on.set()
        assert await asyncio.gather(*asked) == [True, True, True]  # each replica by itself: 60 of 60, and 30
        assert not await allowed(one, "x", 1)
        assert await allowed(other, "x", 30)


async def test_while_it_is_away_each_counts_for_itself(valkey: Valkey) -> None:
    store = Store(a=40)
    async with sharing(valkey, store) as (one, other):
        assert await allowed(one, "b", 60)
        valkey.kill()
        assert not await allowed(one, "c", 1)  # it remembers its own promise
        assert await allowed(other, "c", 60)
        one.release("me", "b")
        one.changed("me")
        assert await allowed(one, "d", 60)
