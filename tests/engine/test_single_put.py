"""Small files by one PUT each: how many at once, and with which headers."""

from __future__ import annotations

import asyncio
import hashlib
from types import SimpleNamespace
from typing import Any

from bigupload import Verified
from bigupload.core.flight import SMALL_AT_ONCE, SMALL_JUDGED, START_BYTES
from bigupload.core.flight_trials import BACK_OFF, REFUSALS
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine.context import SharedSlots, UploadSettings
from bigupload.engine.retrying import Effects, Retrier
from bigupload.engine.single_put import SinglePuts
from bigupload.ports import PutResponse, SignedRequest, UnsignedPut
from bigupload.sources.objects import MemorySource

REQUEST = SignedRequest("https://store/object", {}, 3600)


class FarStore:
    """A transport whose clock shows how long each response took."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0

    async def put(self, *request: Any, **more: Any) -> PutResponse:
        self.now += self.seconds
        return PutResponse("etag", {}, None)


async def sent_to(store: FarStore, shared: SharedSlots, files: int) -> None:
    effects, objects = Effects(clock=lambda: store.now), SimpleNamespace(replaces=True)
    puts = SinglePuts(objects, store, shared, UploadSettings(), effects)  # type: ignore[arg-type]  # fakes
    retrier = Retrier(policy=RetryPolicy(), emit=lambda event: None)
    for _ in range(files):
        await puts.put(MemorySource("a", b"abc"), Part(1, 0, 3), REQUEST, retrier, fresh=False)


async def test_a_store_that_is_far_away_gets_more_at_once() -> None:
    shared = SharedSlots(None)
    await sent_to(FarStore(0.0625), shared, SMALL_JUDGED)
    assert shared.limit == SMALL_AT_ONCE
    await sent_to(FarStore(0.0625), shared, SMALL_JUDGED + 1)
    assert shared.limit == shared.slots.total_tokens == 188
    shared.expect_parts(5 << 20, 0.0)
    assert shared.limit == shared.slots.total_tokens == START_BYTES // (5 << 20), "small files say nothing of parts"


async def test_a_store_that_is_near_gets_no_more() -> None:
    shared = SharedSlots(None)
    await sent_to(FarStore(0.005), shared, 2 * SMALL_JUDGED)
    assert shared.limit == SMALL_AT_ONCE


async def test_a_store_that_asks_to_slow_down_gets_fewer() -> None:
    shared = SharedSlots(None)
    await sent_to(FarStore(0.0625), shared, 2 * SMALL_JUDGED)
    for _ in range(2 * REFUSALS):  # of the 32 PUTs, more than chance makes of it
        shared.refused(10.0)
    assert shared.limit == shared.slots.total_tokens == int(BACK_OFF * 188)


class NoChecksums:
    """A store that refuses checksums, and holds its refusals back until it has taken a file without one."""

    replaces = True
    token = "token"

    def __init__(self, sent_before_a_refusal: int) -> None:
        self.sent: list[bool] = []
        """Of each PUT, whether it had a checksum."""
        self._all_sent = asyncio.Event()
        self._has_taken_one = asyncio.Event()
        self._count = sent_before_a_refusal

    async def sign_put(self, put: UnsignedPut) -> SignedRequest:
        return SignedRequest("https://store/object", put.headers, 3600)

    def refused(self, request: SignedRequest, fault: Fault) -> None:
        pass

    async def put(self, request: SignedRequest, source: Any, part: Part, **more: Any) -> PutResponse:
        has_checksum = "x-amz-checksum-crc64nvme" in request.headers
        self.sent.append(has_checksum)
        number = len(self.sent)
        if not has_checksum:
            self._has_taken_one.set()
            return PutResponse(f'"{hashlib.md5(source.view(0, part.size)).hexdigest()}"', {}, None)
        if number == self._count:
            self._all_sent.set()
        await self._all_sent.wait()
        if number > 1:
            await self._has_taken_one.wait()
        raise Fault(FaultKind.FINAL, "refused", status=400, code="InvalidRequest")


async def test_refusals_of_checksums_that_come_after_a_file_was_taken_without() -> None:
    """The files were in flight already, with a checksum: each is sent again without."""
    store = NoChecksums(5)
    puts = SinglePuts(store, store, SharedSlots(None), UploadSettings())  # type: ignore[arg-type]  # a fake
    retrier = Retrier(policy=RetryPolicy(), emit=lambda event: None)

    async def upload(number: int) -> Verified:
        source = MemorySource(f"{number}", b"abc")
        return (await puts.upload(source, f"{number}", "", retrier, store=store)).verified  # type: ignore[arg-type]  # a fake

    found = await asyncio.gather(*(upload(number) for number in range(5)))
    assert found == [Verified.COMPOSITE_ETAG] * 5
    assert store.sent == [True] * 5 + [False] * 5
    assert await upload(5) is Verified.COMPOSITE_ETAG
    assert store.sent == [True] * 5 + [False] * 6
