"""Small files by one PUT each: how many at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bigupload.core.flight import SMALL_AT_ONCE, SMALL_JUDGED, START_BYTES
from bigupload.core.flight_trials import BACK_OFF, REFUSALS
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.context import SharedSlots, UploadSettings
from bigupload.engine.retrying import Effects, Retrier
from bigupload.engine.single_put import SinglePuts
from bigupload.ports import PutResponse, SignedRequest
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
        await puts.put(MemorySource("a", b"abc"), Part(1, 0, 3), REQUEST, retrier, retrier.counts, fresh=False)


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
