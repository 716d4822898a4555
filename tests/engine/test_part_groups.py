"""Groups of parts: what is recorded, what is left for parts by themselves, and what ends a group."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bigupload import errors, events
from bigupload.core.checksums import Algorithm, Digests, Hashed
from bigupload.core.flight import Flight
from bigupload.core.integrity import PartProof
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import MIB, Part, Plan
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.core.upload_state import PartState, UploadState
from bigupload.engine.context import SharedSlots
from bigupload.engine.part_hashing import PartHasher
from bigupload.engine.part_uploader import PartUploader, UnknownUpload
from bigupload.engine.retrying import Effects
from bigupload.ports import OnNews, PutResponse, SignedRequest, Source, UnsignedPart
from tests.tools.gauges import FakeGauge

from .fakes import fake_context

PARTS = 12
ALL = list(range(1, PARTS + 1))
CHECKSUM = "AAAAAAAAAAA="
ECHO = PutResponse('"etag"', {Algorithm.CRC64NVME.header: CHECKSUM})
Script = Callable[["Cluster", OnNews], Awaitable[None]]


async def all_at_once(cluster: Cluster, on_news: OnNews) -> None:
    on_news([(ECHO, 0.5)] * len(cluster.groups[-1]), 0.0)


class Cluster:
    """An upload over a transport for groups, of which the first one goes as the test says."""

    def __init__(self, first: Script = all_at_once, *, concurrency: int = 2, hedge: bool = True) -> None:
        self._first = first
        self.now = 0.0
        self.groups: list[list[int]] = []
        self.alone: list[tuple[int, bool]] = []
        """Parts that were sent by themselves, and whether elsewhere."""
        self.hashed: list[list[int]] = []
        self.signed: list[int] = []
        self.appended: list[list[int]] = []
        self.events: list[events.Event] = []
        self.expires_in = 3600.0
        self.append: Callable[[Sequence[PartRecord]], None] = lambda records: None
        plan = Plan(PARTS * 5 * MIB, 5 * MIB)
        self.shared = SharedSlots(concurrency)
        effects = Effects(clock=lambda: self.now, sleep=self._sleep, random=lambda: 0.5)
        self.context = fake_context(
            self, plan, self.shared, effects, algorithm=Algorithm.CRC64NVME, emit=self.events.append, hedge=hedge,
            groups=self, journal=SimpleNamespace(append=self._append),
        )  # fmt: skip
        self.counts = self.context.counts
        self.state = UploadState(plan)
        hasher = PartHasher(self.context.source, Algorithm.CRC64NVME, self.context.slots, self._hash)
        self.uploader = PartUploader(self.context, self.state, hasher)
        self.uploader._puts.proved(PartProof.CHECKSUM)
        for _ in range(4):
            self.uploader._puts.pace.arrived(0.5)

    def refused(self, request: SignedRequest, fault: Fault) -> None:
        pass

    async def _sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        self.now += seconds

    async def _append(self, *records: PartRecord) -> None:
        self.append(records)
        self.appended.append([record.number for record in records])

    async def _hash(self, source: Source, part: Part, wanted: Digests) -> Hashed:
        return Hashed(CHECKSUM)

    async def hash_group(self, source: Source, parts: Sequence[Part], wanted: Digests) -> list[Hashed]:
        self.hashed.append([part.number for part in parts])
        return [Hashed(CHECKSUM)] * len(parts)

    async def sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        self.signed += [part.number for part in parts]
        return [SignedRequest("https://store/part", part.headers, self.expires_in) for part in parts]

    async def put(self, request: Any, source: Any, part: Part, *, on_start: Callable[[Any], None], fresh: bool) -> Any:
        self.alone.append((part.number, fresh))
        on_start(FakeGauge(1))
        await anyio.lowlevel.checkpoint()
        return ECHO

    async def put_group(
        self,
        requests: Sequence[SignedRequest],
        source: Source,
        parts: Sequence[Part],
        *,
        seconds: float,
        on_start: Callable[[Any], None],
        on_news: OnNews,
    ) -> None:
        on_start(FakeGauge(1))
        self.groups.append([part.number for part in parts])
        if len(self.groups) == 1:
            await self._first(self, on_news)
        else:
            on_news([(ECHO, 0.5)] * len(parts), 0.0)

    async def run(self) -> list[int]:
        """Upload. Returns the parts of the first group that were sent by themselves afterwards."""
        await self.uploader.run()
        recorded = [number for numbers in self.appended for number in numbers]
        assert sorted(recorded) == ALL, "each part once"
        assert not self.state.missing
        assert self.shared.slots.borrowed_tokens == 0
        assert self.shared.prepared == 0
        assert [each.number for each in self.events if isinstance(each, events.PartUploaded)] == recorded
        return [number for number, _ in self.alone if number in self.groups[0]]


def after(responses: int, fault: Fault | None = None) -> Script:
    """A group that ends after so many responses."""

    async def script(cluster: Cluster, on_news: OnNews) -> None:
        on_news([(ECHO, 0.5)] * responses, 0.0)
        if fault is not None:
            raise fault

    return script


async def test_parts_are_hashed_signed_sent_and_recorded_in_groups_that_become_smaller() -> None:
    cluster = Cluster()
    assert await cluster.run() == []
    assert cluster.groups == cluster.hashed == [[1, 2, 3, 4, 5, 6], [7, 8, 9]]
    assert cluster.alone == [(10, False), (11, False), (12, False)]
    assert cluster.signed == ALL
    assert len(cluster.appended) < 6
    assert cluster.counts.retries == 0
    assert cluster.counts.bytes_sent == cluster.shared.bytes_sent == 9 * 5 * MIB + 3, "a gauge here has one byte"


async def test_a_group_is_one_part_in_flight() -> None:
    seen: list[tuple[int, int, int]] = []

    async def script(cluster: Cluster, on_news: OnNews) -> None:
        for _ in cluster.groups[0]:
            (flying,) = cluster.shared.first_puts
            seen.append((cluster.shared.slots.borrowed_tokens, flying.size, flying.sent()))
            on_news([(ECHO, 0.5)], 0.0)

    await Cluster(script, concurrency=1).run()
    assert seen == [(1, 5 * MIB, 1)] * len(seen)


async def test_there_are_no_groups_before_it_shows_how_the_store_proves_parts() -> None:
    cluster = Cluster()
    cluster.uploader._puts._proofs.clear()
    cluster.context.shared.flight = Flight(1)  # so that others follow the first ones
    await cluster.run()
    first = [number for number, _ in cluster.alone[:5]]
    assert first == [1, 2, 3, 4, 5]
    ambiguous = Cluster()
    ambiguous.uploader._puts.proved(PartProof.MD5)
    await ambiguous.uploader.run()
    assert ambiguous.groups == []


async def test_what_a_group_hands_back_is_sent_part_by_part_and_that_is_no_retry() -> None:
    cluster = Cluster(after(2))
    assert await cluster.run() == [3, 4, 5, 6]
    assert cluster.counts.retries == 0
    assert all(not fresh for _, fresh in cluster.alone)
    assert cluster.signed == ALL, "hashed and signed once"
    assert cluster.uploader._admitted == 0, "each is counted until it ends"


async def test_a_group_whose_responses_have_no_etags_is_sent_part_by_part() -> None:
    """It proves nothing, and its parts are found in the store's list when they are sent alone."""

    async def script(cluster: Cluster, on_news: OnNews) -> None:
        on_news([(PutResponse("", ECHO.checksums), 0.5)] * len(cluster.groups[-1]), 0.0)

    cluster = Cluster(script)
    assert await cluster.run() == [1, 2, 3, 4, 5, 6]


async def test_there_are_no_groups_where_a_proxy_drops_etags() -> None:
    cluster = Cluster()
    cluster.uploader._prover.lists_etags = True
    await cluster.uploader.run()
    assert cluster.groups == []
    assert sorted(number for number, _ in cluster.alone) == ALL


async def test_a_part_that_is_refused_in_a_group_is_retried_as_the_policy_says() -> None:
    cluster = Cluster(after(2, Fault(FaultKind.BUSY, "slow down", status=503)))
    assert sorted(await cluster.run()) == [3, 4, 5, 6]
    (retrying,) = [each for each in cluster.events if isinstance(each, events.Retrying)]
    assert (retrying.part, retrying.attempt, retrying.reason) == (3, 1, "slow down")
    assert cluster.counts.retries == 1
    uploaded = {each.number: each.attempt for each in cluster.events if isinstance(each, events.PartUploaded)}
    assert uploaded == {number: 1 + (number == 3) for number in ALL}
    assert all(not fresh for _, fresh in cluster.alone)


async def test_after_a_worker_is_gone_its_parts_are_sent_from_elsewhere() -> None:
    cluster = Cluster(after(2, Fault(FaultKind.BROKEN, "the worker is gone")))
    assert sorted(await cluster.run()) == [3, 4, 5, 6]
    assert cluster.counts.retries == 1
    assert all(fresh for number, fresh in cluster.alone if number in cluster.groups[0])


async def test_an_upload_that_is_gone_is_begun_anew() -> None:
    cluster = Cluster(after(1, Fault(FaultKind.GONE, "404 NoSuchUpload", status=404)))
    with pytest.raises(UnknownUpload):
        await cluster.uploader.run()


async def test_an_upload_that_is_gone_when_a_group_is_signed_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sign(upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        raise Fault(FaultKind.GONE, "404 NoSuchUpload", status=404)

    cluster = Cluster()
    monkeypatch.setattr(cluster, "sign", sign)
    with pytest.raises(UnknownUpload):
        await cluster.uploader.run()


async def test_a_group_that_stalls_ends() -> None:
    async def script(cluster: Cluster, on_news: OnNews) -> None:
        on_news([(ECHO, 0.5)], 0.0)
        await anyio.sleep_forever()

    cluster = Cluster(script, hedge=False)
    assert sorted(await cluster.run()) == [2, 3, 4, 5, 6]
    assert cluster.counts.retries == 1
    (retrying,) = [each for each in cluster.events if isinstance(each, events.Retrying)]
    assert (retrying.part, retrying.reason) == (2, "part 2 stalled")
    assert cluster.now >= RetryPolicy().stall_after


async def test_a_group_that_lags_behind_ends_and_that_is_no_retry() -> None:
    async def script(cluster: Cluster, on_news: OnNews) -> None:
        on_news([(ECHO, 0.5)], 60.0)  # one byte of the second part in a minute
        await anyio.sleep_forever()

    cluster = Cluster(script)
    assert sorted(await cluster.run()) == [2, 3, 4, 5, 6]
    assert cluster.counts.retries == 0
    assert cluster.now < RetryPolicy().stall_after
    assert all(fresh for number, fresh in cluster.alone if number in cluster.groups[0])


async def test_a_group_of_which_nothing_was_heard_yet_does_not_lag() -> None:
    async def script(cluster: Cluster, on_news: OnNews) -> None:
        while cluster.now < 15:  # thirty times what a part takes
            await anyio.lowlevel.checkpoint()
        on_news([(ECHO, 0.5)] * 6, 0.0)

    assert await Cluster(script).run() == []


async def test_a_part_that_arrived_corrupted_is_sent_again() -> None:
    async def script(cluster: Cluster, on_news: OnNews) -> None:
        other = PutResponse('"etag"', {Algorithm.CRC64NVME.header: "BBBBBBBBBBA="})
        on_news([(other if number == 2 else ECHO, 0.5) for number in range(1, 7)], 0.0)

    cluster = Cluster(script)
    assert await cluster.run() == [2]
    assert cluster.counts.retries == 1


async def test_urls_that_expire_while_a_group_waits_for_a_slot_are_made_anew() -> None:
    cluster = Cluster()
    cluster.expires_in = 59.0
    await cluster.run()
    assert sorted(cluster.signed) == sorted(2 * ALL)


async def test_what_was_proved_is_recorded_before_the_group_ends() -> None:
    async def script(cluster: Cluster, on_news: OnNews) -> None:
        on_news([(ECHO, 0.5)] * 2, 0.0)
        while [1, 2] not in cluster.appended:
            await anyio.lowlevel.checkpoint()
        on_news([(ECHO, 0.5)] * (len(cluster.groups[0]) - 2), 0.0)

    # With one group in flight, no other one has them recorded.
    assert await Cluster(script, concurrency=1).run() == [], "it stalled before they were recorded"


async def test_a_manifest_that_cannot_be_written_stops_the_upload() -> None:
    def full(records: Sequence[PartRecord]) -> None:
        raise errors.ManifestUnwritable("no space left")

    cluster = Cluster()
    cluster.append = full
    with pytest.raises(errors.ManifestUnwritable):
        await cluster.uploader.run()
    assert {cluster.state.part(number) for number in ALL} == {PartState.PENDING}


async def test_a_cancelled_upload_cancels_its_groups_and_releases_their_parts() -> None:
    ended: list[bool] = []

    async def script(cluster: Cluster, on_news: OnNews) -> None:
        try:
            tasks.cancel_scope.cancel()
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    cluster = Cluster(script)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cluster.uploader.run)
    assert ended == [True]
    assert {cluster.state.part(number) for number in ALL} == {PartState.PENDING}
    assert cluster.shared.slots.borrowed_tokens == 0
    assert cluster.shared.prepared == 0


async def test_a_group_leaves_out_what_is_recorded_already() -> None:
    cluster = Cluster(concurrency=1)
    for number in (3, 4):
        cluster.state.record(number)
    with pytest.raises(AssertionError, match="each part once"):
        await cluster.run()
    recorded = sorted(number for numbers in cluster.appended for number in numbers)
    assert recorded == [number for number in ALL if number not in (3, 4)]
    assert cluster.groups[:2] == [[1, 2], [5, 6, 7, 8, 9, 10, 11, 12]]
