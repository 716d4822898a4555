"""Which worker gets a part, what a worker is told at once, and how the bandwidth limit is divided."""

from __future__ import annotations

import asyncio
import gc
import types
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bigupload.cluster import _compat
from bigupload.cluster.membership import (
    ANSWER,
    Member,
    Membership,
    Messenger,
    Outbox,
    RateShares,
    RemoteGauge,
    RemotePut,
    SharedFile,
    choose,
    record_hashed,
    record_sent,
)
from bigupload.cluster.messages import FileId
from bigupload.cluster.worker_side import CoordinatorLink
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import PutResponse
from bigupload.support.rate_limiter import RateLimiter
from tests.tools.cases import each_case


def file(**verdicts: str) -> SharedFile:
    return SharedFile(FileId("/f", 1, 1), "", {f"tcp://{name}": verdict for name, verdict in verdicts.items()})


def remote_put(loop: asyncio.AbstractEventLoop, parts: int = 1, **more: Any) -> RemotePut:
    return RemotePut(loop.create_future(), RemoteGauge(), more.get("on_news", lambda *_: None), parts)


def member(name: str, *, puts: int = 0, given: int = 0, heard: float = 0.0) -> Member:
    made = Member(f"tcp://{name}", heard, given=given)
    loop = asyncio.new_event_loop()
    made.puts = {number: remote_put(loop) for number in range(1, puts + 1)}
    loop.close()
    return made


def chosen(*members: Member, of: SharedFile | None = None, now: float = 1.0, **more: Any) -> str | None:
    found = choose(members, of or file(a="", b="", c=""), now, **more)
    return None if found is None else found.address.removeprefix("tcp://")


def test_the_one_with_the_least_to_do_gets_the_part() -> None:
    assert chosen(member("a", puts=2), member("b", puts=1), member("c", puts=3)) == "b"


async def test_of_a_group_the_parts_count_that_are_still_to_be_sent() -> None:
    busy, other = member("a"), member("b", puts=3)
    busy.puts[1] = group = remote_put(asyncio.get_running_loop(), parts=8)
    assert chosen(busy, other, now=0.0) == "b"
    group.hear(0, False, 0.0, 6, [[0.5, '"e"', {}]] * 6)
    assert (group.left, chosen(busy, other, now=0.0)) == (2, "a")


async def test_news_of_parts_one_after_another() -> None:
    heard: list[Any] = []
    put = remote_put(asyncio.get_running_loop(), parts=3, on_news=lambda *news: heard.append(news))
    put.hear(7, True, 0.25, 2, [[0.5, '"a"', {"x": "1"}], [0.75, '"b"', {}]])
    assert heard == [([(PutResponse('"a"', {"x": "1"}), 0.5), (PutResponse('"b"', {}), 0.75)], 0.25)]
    assert (put.gauge.sent(), put.gauge.paused()) == (7, True)


async def test_a_response_that_got_lost_ends_the_put_before_another_is_taken_for_it() -> None:
    heard: list[Any] = []
    put = remote_put(asyncio.get_running_loop(), parts=3, on_news=lambda *news: heard.append(news))
    put.hear(0, False, 0.0, 2, [[0.5, '"b"', {}]])
    with pytest.raises(Fault, match="a response was lost") as found:
        await put.done
    assert found.value.kind is FaultKind.BROKEN
    put.hear(0, False, 0.0, 3, [[0.5, '"c"', {}]])
    assert heard == []


async def test_news_that_cannot_be_taken_ends_the_put() -> None:
    def refuse(*_: object) -> None:
        raise ValueError("a bug")

    sender = member("a")
    sender.puts[1] = put = remote_put(asyncio.get_running_loop(), on_news=refuse)
    messages = Messenger(
        {"tcp://a": sender}, lambda: None, "topic", shares=None, congestion="auto", adapts=True, clock=lambda: 0.0
    )
    messages.on_event((0.0, ["tcp://a", 0, [[1, 0, False, 0.0, 1, [[0.5, '"e"', {}]]]]]))
    with pytest.raises(ValueError, match="a bug"):
        await put.done


async def test_a_put_that_was_given_up_is_cancelled_when_its_worker_tells_of_it() -> None:
    """As after a lost response: the worker would send what is left of the group beside the one that has it now."""
    sender = member("a", puts=1)
    sender.gone = True  # nothing leaves the outbox
    messages = Messenger(
        {"tcp://a": sender}, lambda: None, "topic", shares=None, congestion="auto", adapts=True, clock=lambda: 0.0
    )
    messages.on_event((0.0, ["tcp://a", 0, [[number, 7, False, 0.5, 0, []] for number in (1, 5)]]))
    assert sender.outbox.cancels == [5]


async def test_a_put_that_is_cancelled_before_it_begins_is_forgotten_by_its_worker() -> None:
    """A message may ask for a PUT and cancel it, if the one before it took long."""
    worker = types.SimpleNamespace(address="tcp://a")
    first = {"topic": "topic", "limited": False, "congestion": "auto", "interval": 60.0}
    link = CoordinatorLink(worker, first)
    link.work([{"id": 1}], [1], None)
    await asyncio.sleep(0)
    assert link._puts == {}
    await link.close()


def test_of_two_that_have_nothing_to_do_the_one_that_got_less_gets_it() -> None:
    assert chosen(member("a", given=8), member("b", given=2)) == "b"


def test_what_a_worker_has_in_memory_and_has_yet_to_send_is_to_be_done_too() -> None:
    one, other, shared = member("a"), member("b", puts=1), file(a="", b="")
    members = {each.address: each for each in (one, other)}
    record_hashed(members, shared, [1, 2], "tcp://a")
    assert chosen(one, other, of=shared) == "b"
    assert record_sent(members, shared, [2]) == "tcp://a"
    assert record_sent(members, shared, [2]) == "tcp://a", "a second attempt"
    assert record_sent(members, shared, [1]) == "tcp://a"
    assert record_sent(members, shared, [3]) is None
    assert chosen(one, other, of=shared) == "a"


def test_what_is_in_memory_of_a_file_that_is_done_is_forgotten() -> None:
    one, other, shared = member("a"), member("b", puts=1), file(a="", b="")
    record_hashed({"tcp://a": one}, shared, [1, 2], "tcp://a")
    record_hashed({"tcp://a": one}, shared, [3], "tcp://gone")
    assert one.load() == (2, 0)
    del shared
    gc.collect()
    assert one.load() == (0, 0)
    assert chosen(one, other) == "a"


def test_the_one_that_has_the_part_in_memory_sends_it() -> None:
    assert chosen(member("a", puts=9), member("b"), near="tcp://a") == "a"


def test_one_that_failed_is_avoided_while_there_are_others() -> None:
    assert chosen(member("a"), member("b", puts=9), near="tcp://a", not_={"tcp://a"}) == "b"
    assert chosen(member("a"), near="tcp://a", not_={"tcp://a"}) == "a"


def test_one_that_sees_another_file_or_was_not_asked_gets_nothing() -> None:
    assert chosen(member("a"), member("b"), member("c"), of=file(a="another file", c="")) == "c"
    assert chosen(member("a"), member("b"), of=file(a="another file")) is None


def test_one_that_is_gone_or_silent_gets_nothing() -> None:
    gone = member("a")
    gone.gone = True
    assert chosen(gone, member("b", puts=1, heard=0.0), now=5.0) == "b"
    assert chosen(gone, member("b", puts=1, heard=0.0), now=5.1) is None
    assert chosen(gone, member("b", heard=0.0), now=99.0) == "b", "who has no PUTs has nothing to tell"


def test_one_that_does_not_reach_the_store_gets_nothing_while_others_do() -> None:
    away = member("a")
    away.avoided_until = 30.0
    assert chosen(away, member("b", puts=9, heard=29.0), now=29.0) == "b"
    assert chosen(away, now=29.0) == "a"
    assert chosen(away, member("b", puts=9, heard=30.0), now=30.0) == "a"


@pytest.mark.parametrize(("now", "waits"), [(5.0, True), (5.1, False)])
def test_a_put_of_a_worker_that_tells_nothing_may_stall_whatever_it_told_last(now: float, waits: bool) -> None:
    silent = member("a", puts=1)
    assert silent.puts[1].gauge.paused()
    messages = Messenger(
        {"tcp://a": silent}, lambda: None, "topic", shares=None, congestion="auto", adapts=True, clock=lambda: now
    )
    messages.remind(keep_alive=False)
    assert silent.puts[1].gauge.paused() is waits


class Clock:
    now = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def limiter_and_clock() -> tuple[RateLimiter, Clock]:
    clock = Clock()
    return RateLimiter(100.0, clock=lambda: clock.now, sleep=clock.sleep), clock


def test_an_outbox_is_emptied_at_once() -> None:
    outbox = Outbox()
    assert outbox.take() is None
    outbox.puts.append({"id": 1})
    outbox.cancels.append(7)
    taken = outbox.take()
    assert taken is not None
    assert (taken.puts, taken.cancels, taken.stops) == ([{"id": 1}], [7], [])
    assert outbox.take() is None
    outbox.due = True
    assert outbox.take() is not None, "a message without content keeps the worker's PUTs alive"
    assert outbox.take() is None


@each_case(("workers", "here", "share"), [(0, False, 100.0), (4, False, 25.0), (4, True, 20.0), (0, True, 100.0)])
async def test_the_limit_is_divided_among_the_places_that_send(workers: int, here: bool, share: float) -> None:
    limiter, clock = limiter_and_clock()
    if here:
        await limiter.take(1)
    shares = RateShares(lambda: 100.0, limiter)
    assert shares.divide(workers) is (workers + here > 1)
    assert shares.share() == share
    assert clock.now < 1.0


async def test_a_machine_that_has_not_sent_for_a_second_sends_nothing() -> None:
    limiter, clock = limiter_and_clock()
    await limiter.take(1)
    assert limiter.in_use
    clock.now += 1.1
    assert not limiter.in_use


def test_a_schedule_without_a_limit_now_limits_nobody() -> None:
    shares = RateShares(lambda: None, RateLimiter(100.0))
    shares.divide(4)
    assert shares.share() is None


async def test_a_coordinator_that_was_stopped_does_not_take_its_scheduler_for_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Time in which it asked nothing, as after SIGSTOP, or while the connection was lost, is no silence."""
    now, connected = [0.0], [True]
    member = Membership("tcp://127.0.0.1:1", spread=lambda _: None, clock=lambda: now[0])
    monkeypatch.setattr(_compat, "connection", lambda _: "a connection" if connected[0] else None)
    monkeypatch.setattr(_compat, "reconnects", lambda _: True)

    def looks(seconds: float, *, answers: bool) -> Callable[[Any], Awaitable[set[str]]]:
        async def workers_of(_: Any) -> set[str]:
            now[0] += seconds
            if not answers:
                raise TimeoutError
            return set()

        return workers_of

    async def is_gone(seconds: float, *, answers: bool) -> bool:
        monkeypatch.setattr(_compat, "workers_of", looks(seconds, answers=answers))
        await member._update_members()
        return member._is_scheduler_gone()

    assert not await is_gone(0.0, answers=True)
    now[0] += 120.0  # stopped between two looks
    assert not member._is_scheduler_gone()
    assert not await is_gone(120.0, answers=False)  # and within one
    connected[0] = False
    assert not member._is_scheduler_gone()
    now[0] += 4.0
    connected[0] = True
    assert not await is_gone(ANSWER, answers=False)
    assert await is_gone(ANSWER, answers=False), "it hangs"
    await member.aclose()
