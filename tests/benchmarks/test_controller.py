"""The simulation that shows what each constant of the concurrency control brings."""

from __future__ import annotations

import dataclasses
import math

import pytest

from benchmarks import controller
from benchmarks._upload_model import PACKET, STORE_TIME, TICK, UNACKNOWLEDGED, Upload, Way
from bigupload.core import flight, flight_bound, flight_trials, stored_rate
from bigupload.core.flight import Flight
from bigupload.core.part_plan import plan_parts

pytestmark = pytest.mark.slow  # guards the benchmarks, not the product

MB = 1e6
LINK = Way(name="link", rate=100 * MB, rtt=0.02, size=1000 * MB, noise=0.0)


def goodput(way: Way, limit: int) -> float:
    return way.size / Upload(way, Flight(limit), seed=1).run().seconds


def test_each_constant_is_changed() -> None:
    """But for those of which the simulation knows nothing."""
    names = {
        f"{module.__name__.rpartition('.')[2]}.{constant}"
        for module in (flight, flight_bound, flight_trials, stored_rate)
        for constant, value in vars(module).items()
        if constant.isupper() and isinstance(value, int | float)
    }
    assert dict(controller.constants()).keys() == names - controller.NOT_SIMULATED
    assert names > controller.NOT_SIMULATED


def test_the_same_seed_gives_the_same_upload() -> None:
    way = controller.WAYS[2]
    first, again, other = (Upload(way, Flight(), seed=seed).run() for seed in (1, 1, 2))
    assert first == again != other


def test_a_rule_that_brings_something_costs_when_it_is_off() -> None:
    crowded = Way(name="crowded", rate=120 * MB, rtt=0.05, size=500 * MB, crowded=16, noise=0.0)
    best, took = controller.best_fixed(crowded, 1)
    usual = controller.Found.of([took[best]], [controller.simulate(crowded, 1)])
    never = controller.Rules(constants=(("flight_trials.QUEUED", math.inf),))
    without = controller.change(never, usual, 1, ways=[crowded])
    assert without.on == "crowded"
    assert without.regret == without.worst > 0.02
    same = controller.change(controller.USUAL, usual, 1, ways=[crowded])
    assert (same.worst, same.parts_in_flight, same.costs) == (0, 0, False)


# -- the model


@pytest.mark.parametrize("limit", [8, 16, 64])
def test_a_link_is_filled_and_not_more(limit: int) -> None:
    assert 0.85 * LINK.rate <= goodput(LINK, limit) <= LINK.rate


def test_one_connection_is_bound_by_what_it_may_have_in_flight() -> None:
    """And by what each part costs: a round trip, and the store's time."""
    far = Way(name="far", rate=1000 * MB, rtt=0.2, size=1000 * MB, noise=0.0)
    part = plan_parts(int(far.size)).part_size
    pace = UNACKNOWLEDGED / far.rtt
    assert goodput(far, 1) == pytest.approx(part / (part / pace + far.rtt + STORE_TIME), rel=0.05)


def test_an_old_connection_of_reno_carries_what_losses_leave() -> None:
    """Mathis' formula."""
    lossy = Way(name="lossy", rate=1000 * MB, rtt=0.05, size=500 * MB, loss=0.001, reno=True, noise=0.0)
    assert 0.7 <= goodput(lossy, 8) / 8 / (PACKET / lossy.rtt * math.sqrt(1.5 / lossy.loss)) <= 1.3


def test_what_is_beyond_the_limit_of_a_store_is_refused() -> None:
    store = Way(name="store", rate=1000 * MB, rtt=0.02, size=500 * MB, each=10 * MB, accepts=4, noise=0.0)
    within, beyond = (Upload(store, Flight(limit), seed=1).run() for limit in (4, 8))
    assert within.refused == 0.0 < beyond.refused
    assert 0.85 * 4 * store.each <= goodput(store, 4) <= 4 * store.each


def test_a_raised_limit_waits_for_the_end_of_a_part_where_nobody_is_woken() -> None:
    slow = Way(name="slow", rate=1000 * MB, rtt=0.02, size=4000 * MB, each=1 * MB, noise=0.0)
    woken, waiting = (Upload(slow, Flight(), seed=1, wakes=wakes).run() for wakes in (True, False))
    assert woken.seconds < 0.9 * waiting.seconds


def test_a_crowded_link_is_not_tried_with_twice_as_many_connections() -> None:
    way = Way(name="crowded", rate=60 * MB, rtt=0.05, size=1000 * MB, crowded=24, noise=0.0)
    seen = Upload(way, Flight(), seed=1).run()
    at_the_store = Upload(dataclasses.replace(way, by_store=True), Flight(), seed=1).run()
    assert max(seen.limits) < 2 * flight.START_FAR <= max(at_the_store.limits)
    assert seen.seconds < at_the_store.seconds


def test_a_store_that_is_best_at_few_parts_gets_few() -> None:
    """Those that began it had more goodput than the many after them. 16 parts take 1.77 times as long as four."""
    way = next(way for way in controller.WAYS if way.name == "a store that is best at 4")
    found, best = ([Upload(way, Flight(fixed), seed=seed).run() for seed in (1, 2, 3)] for fixed in (None, 4))
    assert controller.seconds(found) < 1.3 * controller.seconds(best)


# -- what something on the way has


PROXY = Way(name="proxy", rate=1000 * MB, rtt=0.001, size=100 * MB, passes_on=MB, noise=0.0)


@pytest.mark.parametrize("way", [PROXY, dataclasses.replace(PROXY, one_by_one=True)], ids=["together", "one by one"])
def test_what_passes_bodies_on_slowly_is_as_fast_as_that(way: Way) -> None:
    free = Upload(way, Flight(16), seed=1).run()
    assert way.size / way.passes_on <= free.seconds <= 1.1 * way.size / way.passes_on
    assert max(free.at_risk) > 15 * MB, "it has many whole bodies"


def test_a_peer_that_reads_slowly_has_no_more_than_its_buffers() -> None:
    reader = dataclasses.replace(PROXY, takes=128 * 1024)
    outcome = Upload(reader, Flight(16), seed=1).run()
    assert outcome.seconds >= reader.size / reader.passes_on
    assert outcome.seconds == pytest.approx(reader.size / reader.passes_on, rel=0.2)


def test_what_is_held_is_not_sent() -> None:
    class OneWrites(Flight):
        def writers(self, waiting: int) -> int:
            return 1

    slow = dataclasses.replace(LINK, rate=5 * MB, size=200 * MB)
    held, free = (Upload(slow, flight, seed=1).run() for flight in (OneWrites(16), Flight(16)))
    assert max(held.at_risk) <= 2 * held.part_size < 4 * held.part_size < max(free.at_risk)


# -- interruptions


@pytest.mark.parametrize("way", controller.LINKS[:5], ids=lambda way: way.name)
def test_a_kill_loses_little_on_a_link_that_is_full(way: Way) -> None:
    """At most ten seconds, or one part, at nearly every moment; and the upload takes no more than 10 % longer."""
    free, bounded = ([Upload(way, Flight(fixed), seed=seed).run() for seed in (1, 2)] for fixed in (16, None))
    a_part = plan_parts(int(way.size)).part_size / way.rate
    assert controller.lost_by_a_kill(way, bounded)[2] >= 0.94
    assert controller.lost_by_a_kill(way, bounded)[1] < 1.5 * max(10.0, a_part)
    assert controller.seconds(bounded) < 1.1 * controller.seconds(free)


@pytest.mark.parametrize(
    "way",
    [way for way in controller.WAYS if way.passes_on < math.inf],
    ids=lambda way: way.name,
)
def test_a_kill_loses_little_where_responses_are_late(way: Way) -> None:
    """Once what was begun before the first response is stored."""
    outcome = Upload(way, Flight(), seed=1).run()
    most = max(stored_rate.HORIZON * way.passes_on, outcome.part_size)
    first = next(tick for tick, lost in enumerate(outcome.at_risk) if lost)
    later = outcome.at_risk[first + round(outcome.at_risk[first] / way.passes_on / TICK) + 100 :]
    assert sum(lost <= 1.5 * most for lost in later) >= 0.85 * len(later)
    assert outcome.seconds < 1.3 * way.size / way.passes_on


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_large_buffers_get_no_more_before_the_first_response_than_a_start_needs(seed: int) -> None:
    outcome = Upload(controller.READER, Flight(), seed=seed).run()
    assert flight.START_FAR * controller.READER.takes < outcome.begun <= flight.START_FAR * outcome.part_size


@pytest.mark.parametrize("rate", [16, 24])
def test_large_buffers_that_fill_for_seconds_get_no_more_than_one_doubling(rate: float) -> None:
    """Until they are full, the goodput is the link's."""
    way = dataclasses.replace(controller.READER, rate=rate * MB, rtt=0.3, size=600 * MB)
    outcome = Upload(way, Flight(), seed=1).run()
    assert outcome.begun <= 2 * flight.START_FAR * outcome.part_size


@pytest.mark.parametrize(("takes", "first"), [(128 * 1024, 20.0), (512 * 1024, 40.0)])
def test_a_peer_that_reads_slowly_stores_parts_soon(takes: int, first: float) -> None:
    """39 parts share 2 MB/s, and end after 100 s, unless all but a few of them are held."""
    way = Way(name="reader", rate=controller.GBIT, rtt=0.02, size=200 * MB, passes_on=2 * MB, takes=takes)
    outcome = Upload(way, Flight(), seed=1).run()
    assert next(tick for tick, lost in enumerate(outcome.at_risk) if lost) * TICK < first
