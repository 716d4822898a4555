"""Whole uploads by the workers of a cluster."""

from __future__ import annotations

import dataclasses
import io
import logging
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

import bigupload
from bigupload import Uploader, events
from bigupload.cluster import membership, transport, worker_side
from bigupload.cluster.membership import Messenger
from bigupload.cluster.transport import ClusterTransport
from bigupload.core import hedging
from bigupload.core.part_plan import Part
from bigupload.http.put_transport import HttpTransport
from bigupload.stores.s3.multipart import S3Store
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import Exchange, S3Error
from tests.integration.support import BUCKET, World

from .support import MIB


def seen_tasks() -> Any:
    """A plugin of a scheduler: the keys of all tasks, and of those that it, and so its dashboard, counts as done."""
    from distributed.diagnostics.plugin import SchedulerPlugin  # see conftest.py

    class SeenTasks(SchedulerPlugin):
        def __init__(self) -> None:
            self.keys: set[Any] = set()
            self.done: set[Any] = set()

        def transition(self, key: Any, start: Any, finish: Any, *_: Any, **__: Any) -> None:
            self.keys.add(key)
            if finish == "memory":
                self.done.add(key)

    return SeenTasks()


def last_task_of(part: int, keys: set[Any]) -> Any:
    """The latest of the tasks whose names have a part."""
    of_part = [key for key in keys if part in range(int(key[1].split()[1].split("-")[0]), int(key[1][-1]) + 1)]
    return max(of_part, key=lambda key: key[2])


async def test_a_checksum_that_parts_of_workers_refuse_is_left_out(world: World, here: Any) -> None:
    def receive(exchange: Exchange) -> None:
        if exchange.op == "UploadPart" and "x-amz-checksum-crc64nvme" in exchange.headers:
            raise S3Error("AccessDenied", "The header x-amz-checksum-crc64nvme is not allowed here.")

    world.s3.knobs.receive = receive
    path = world.file(22 * MIB)
    await world.upload(path, dask=here.scheduler_address, part_size=5 * MIB)
    assert world.holds(path)
    (restarted,) = world.told(bigupload.events.Restarted)
    assert "the store refused crc64nvme checksums" in restarted.reason


async def test_workers_hash_and_send_a_file(world: World, here: Any, caplog: pytest.LogCaptureFixture) -> None:
    here.scheduler.add_plugin(seen := seen_tasks())
    path = world.file(22 * MIB)
    with caplog.at_level(logging.DEBUG, logger="bigupload.engine"):
        result = await world.upload(path, dask=here.scheduler_address, part_size=5 * MIB)
    assert result.verified is bigupload.Verified.FULL_OBJECT
    assert (result.parts, result.retries, result.bytes_sent) == (5, 0, path.stat().st_size)
    assert world.s3.objects[BUCKET]["key"].body == path.read_bytes()
    assert {key[0] for key in seen.keys} == {"hash file.bin"}
    assert all(re.fullmatch("part [1-5]|parts [1-4]-[2-5]", key[1]) for key in seen.keys)
    # Hashing ahead is cancelled when create has its response. What was asked for last counts as done.
    assert {last_task_of(part, seen.keys) for part in range(1, 6)} <= seen.done
    attempts = [record.getMessage() for record in caplog.records if "attempt 1 to" in record.getMessage()]
    addresses = {worker.address for worker in here.workers.values()}
    assert {part.split(" by worker ")[1].split(": ")[0] for part in attempts} == addresses
    assert not [e for e in world.events if isinstance(e, events.Warned | events.Retrying)]


@pytest.mark.slow
async def test_a_clients_cluster_is_used_whichever_loop_it_runs_in(world: World, here: Any) -> None:
    from distributed import Client

    path = world.file(11 * MIB)
    async with Client(here, asynchronous=True) as client, Uploader(dask=client) as uploader:
        assert (await uploader.upload(path, to=f"s3://{BUCKET}/a", s3=world.options())).parts == 3
        assert client.status == "running"


async def test_what_workers_cannot_read_is_sent_from_here_and_that_is_said_once(world: World, here: Any) -> None:
    warned: list[str] = []

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.Warned):
            warned.append(event.message)

    to: dict[str, Any] = {"s3": world.options(), "on_event": on_event}
    async with Uploader(dask=here.scheduler_address) as uploader:
        for name in ("one", "two"):
            await uploader.upload(io.BytesIO(bytes(6 * MIB)), to=f"s3://{BUCKET}/{name}", name=name, **to)
        await uploader.upload(world.file(10), to=f"s3://{BUCKET}/small", **to)
    assert warned == ["one is sent from this machine: Dask workers read nothing but files that are complete"]


async def test_concurrency_and_rate_limit_are_for_the_whole_cluster(
    world: World, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, rate = HttpTransport.put, 40 * MIB
    in_flight: list[Part] = []
    most: list[int] = []
    rates: set[float] = set()

    async def watched(self: HttpTransport, request: Any, source: Any, part: Part, **more: Any) -> Any:
        in_flight.append(part)
        most.append(len(in_flight))
        try:
            return await put(self, request, source, part, **more)
        finally:
            in_flight.remove(part)

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.PartUploaded):
            limits = [link._limiter._limit for link in worker_side._LINKS.values() if link._limiter is not None]
            rates.update(limit for limit in limits if isinstance(limit, int | float))

    monkeypatch.setattr(HttpTransport, "put", watched)
    path = world.file(22 * MIB)
    async with Uploader(dask=here.scheduler_address, concurrency=3, limit_rate=rate) as uploader:
        to: dict[str, Any] = {"to": f"s3://{BUCKET}/key", "s3": world.options(), "part_size": 5 * MIB}
        result = await uploader.upload(path, on_event=on_event, **to)
    assert result.verified is bigupload.Verified.FULL_OBJECT
    assert max(most) == 3
    assert min(rates) == rate / 2, "of each of two workers"


@pytest.mark.exhaustive
@pytest.mark.parametrize("where", ["s3", "limited"])
async def test_many_parts_are_hashed_and_sent_in_groups_one_after_another(
    world: World, here: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    here.scheduler.add_plugin(seen := seen_tasks())
    groups: list[list[int]] = []
    in_flight: list[Part] = []
    at_once: list[int] = []
    put, put_group = HttpTransport.put, ClusterTransport.put_group

    async def one_put(self: HttpTransport, request: Any, source: Any, part: Part, **more: Any) -> Any:
        in_flight.append(part)
        at_once.append(len(in_flight))
        try:
            return await put(self, request, source, part, **more)
        finally:
            in_flight.remove(part)

    async def noted(self: ClusterTransport, requests: Any, source: Any, parts: Sequence[Part], **more: Any) -> None:
        groups.append([part.number for part in parts])
        await put_group(self, requests, source, parts, **more)

    monkeypatch.setattr(HttpTransport, "put", one_put)
    monkeypatch.setattr(ClusterTransport, "put_group", noted)
    monkeypatch.setattr(hedging, "_GRACE", 600.0)  # where the machine stops for a moment, any part seems to lag
    monkeypatch.setattr(S3Store, "limits", dataclasses.replace(S3Store.limits, min_part_size=MIB))
    world.s3.knobs.min_part_size = MIB
    path, part_size = world.file(24 * MIB), MIB
    limit = {"limit_rate": 20 * MIB} if where == "limited" else {}
    async with Uploader(dask=here.scheduler_address, concurrency=2, **limit) as uploader:
        to: dict[str, Any] = {"to": f"s3://{BUCKET}/key", "s3": world.options(), "on_event": world.events.append}
        result = await uploader.upload(path, part_size=part_size, **to)
    assert result.verified is bigupload.Verified.FULL_OBJECT
    assert max(at_once) <= 2
    assert (result.retries, result.bytes_sent) == (0, path.stat().st_size)
    assert world.s3.objects[BUCKET]["key"].body == path.read_bytes()
    sent = Counter(int(each.query["partNumber"]) for each in world.s3.requests if each.op == "UploadPart")
    assert sent == dict.fromkeys(range(1, 25), 1)
    assert groups
    for group in groups:
        assert len(group) > 1
        assert group == list(range(group[0], group[-1] + 1))
    names = {key[1] for key in seen.keys}
    ends = [list(map(int, name.split()[1].split("-"))) for name in names]
    # What is sent together may be hashed apart. A task hashes the parts that follow, too, which another may have begun.
    assert {number for each in ends for number in range(each[0], each[-1] + 1)} == set(range(1, 25)), names
    uploaded = [each for each in world.events if isinstance(each, events.PartUploaded)]
    assert sorted(each.number for each in uploaded) == list(range(1, 25))
    assert {(each.attempt, each.copied) for each in uploaded} == {(1, False)}
    last = [each for each in world.events if isinstance(each, events.Progress)][-1]
    assert (last.bytes_uploaded, last.bytes_in_flight, last.parts_uploaded) == (path.stat().st_size, 0, 24)


@pytest.mark.slow
async def test_the_file_is_hashed_once_more(world: World, here: Any) -> None:
    path = world.file(22 * MIB)
    result = await world.upload(path, dask=here.scheduler_address, part_size=5 * MIB, verify_source=True)
    assert result.verified is bigupload.Verified.FULL_OBJECT


@pytest.mark.slow
@pytest.mark.parametrize("checksum", ["sha256", "md5", "crc32c", "none"])
async def test_every_checksum(world: World, here: Any, checksum: Any) -> None:
    path = world.file(11 * MIB)
    await world.upload(path, dask=here.scheduler_address, checksum=checksum)
    assert world.s3.objects[BUCKET]["key"].body == path.read_bytes()


async def test_a_refused_part_is_retried_as_the_policy_says(world: World, here: Any) -> None:
    world.s3.script("UploadPart", Status(500, "InternalError"), part_number=2)
    result = await world.upload(world.file(11 * MIB), dask=here.scheduler_address, part_size=5 * MIB)
    assert result.retries == 1
    (reason,) = [event.reason for event in world.events if isinstance(event, events.Retrying)]
    assert reason.startswith("the store refused part 2: 500 InternalError")


async def test_a_part_is_hashed_again_if_what_its_task_found_gets_lost(
    world: World, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_SUSPICIOUS_AFTER", 0.1)
    monkeypatch.setattr(membership, "_AVOID_FOR", 0.0)
    lost: list[Any] = []
    told = Messenger.on_event

    def lose_two(self: Messenger, event: Any) -> None:  # nobody may wait for the first one any more
        if len(lost) < 2 and event[1][-1][0] == "hashed":
            lost.append(event)
        else:
            told(self, event)

    monkeypatch.setattr(Messenger, "on_event", lose_two)
    path = world.file(6 * MIB)
    result = await world.upload(path, dask=here.scheduler_address, part_size=5 * MIB)
    assert result.verified is bigupload.Verified.FULL_OBJECT
    assert len(lost) == 2


async def test_the_large_ones_of_many_files_are_sent_by_workers(world: World, here: Any) -> None:
    here.scheduler.add_plugin(seen := seen_tasks())
    paths = [world.file(size, name=f"{size}.bin", seed=size) for size in (10, 7 * MIB, 11 * MIB)]
    async with Uploader(dask=here.scheduler_address) as uploader:
        found = uploader.upload_many(paths, to=f"s3://{BUCKET}/tree/", s3=world.options())
        results = [outcome async for outcome in found]
    assert len([each for each in results if isinstance(each, bigupload.UploadResult)]) == len(paths)
    for path in paths:
        assert world.s3.objects[BUCKET][f"tree/{path.name}"].body == path.read_bytes()
    assert {key[0] for key in seen.keys} == {f"hash {11 * MIB}.bin"}
