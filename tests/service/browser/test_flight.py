"""How many parts a page has in flight, on paths that are simulated in Node: how much a closed page loses, and how fast
it is."""

from __future__ import annotations

from typing import Any

import pytest

from bigupload.core.stored_rate import HORIZON
from tests.tools.cases import each_case
from tests.tools.node import Call

PART = 5 * 1024 * 1024

# A path passes bytes on at `rate`, for all parts together or one after another, and `each` at most for a part. It
# accepts what it passes on, and of each part as many bytes more as it `buffers`; true: whole bodies, of which it
# `takes` so many bytes a second, for all parts together, before it passes them on. `changes` has pairs of a second and
# the path's new properties.
PATH = """
const STEP = 0.1, RESPONSE = 0.1; // seconds
const pass = (path, parts) => {
  let left = path.rate * STEP;
  const most = (path.each ?? Infinity) * STEP;
  parts.forEach((part, index) => {
    const share = path.inTurn ? left : left / (parts.length - index);
    const bytes = Math.min(share, most, part.size - part.passed);
    part.passed += bytes;
    left -= bytes;
  });
};
const flight = new m.Flight();
const path = { changes: [], ...x };
let flying = [], now = 1000, second = 0, stored = 0, begun = 0, wasted = 0, first = Infinity;
const log = [];
while (second < x.seconds && stored < (x.size ?? Infinity)) {
  if (second >= (path.changes[0]?.[0] ?? Infinity)) Object.assign(path, path.changes.shift()[1]);
  while (flying.length < flight.limit(now) && begun < (x.size ?? Infinity)) {
    flying.push({ size: x.part, taken: 0, passed: 0, done: null, part: flight.begin(x.part, now) });
    begun += x.part;
  }
  now += STEP;
  second += STEP;
  const share = ((path.takes ?? Infinity) * STEP) / flying.filter(({ taken, size }) => taken < size).length;
  for (const each of flying) each.taken = Math.min(each.size, each.taken + share);
  pass(path, flying.filter(({ passed, size, taken }) => passed < size && taken === size));
  for (const each of flying) {
    const held = path.buffers === true ? each.size : (path.buffers ?? 0);
    flight.accept(each.part, Math.min(each.taken, each.passed + held), now);
    if (each.passed >= each.size) each.done ??= now + RESPONSE;
  }
  for (const each of flying.filter(({ done }) => done && done <= now)) {
    flying = flying.filter((other) => other !== each);
    flight.store(each.part, now);
    first = Math.min(first, second);
    stored += each.size;
  }
  flight.look(now);
  for (const part of flight.surplus()) {
    flight.end(part, now);
    begun -= part.size;
    wasted += part.accepted;
    flying = flying.filter((each) => each.part !== part);
  }
  const accepted = flying.reduce((sum, each) => sum + each.part.accepted, 0);
  log.push({ second, accepted, stored, parts: flying.length, rate: path.rate, late: flight.late });
}
"""


def simulate(run: Call, asked: str, **path: Any) -> Any:
    return run("client/flight", PATH + f"return {asked};", {"part": PART, "seconds": 300} | path)


def between(since: float, until: float) -> str:
    """What is stored in a second, between two moments."""
    at = "log.findLast((each) => each.second <= {}).stored"
    return f"({at.format(until)} - {at.format(since)}) / {until - since}"


def worst(since: float = 0, until: float = 1e9) -> str:
    """How many bytes were accepted and not stored, at most, once the first response was there."""
    chosen = f"each.second > Math.max(first, {since}) && each.second < {until}"
    return f"Math.max(...log.filter((each) => {chosen}).map((each) => each.accepted))"


PROXIES = {"one after another": {"inTurn": True}, "all together": {}}


@each_case("proxy", PROXIES)
@each_case("rate", [0.1e6, 0.5e6, 1e6, 2e6, 3e6, 10e6])
def test_behind_a_proxy_that_takes_whole_bodies_a_closed_page_loses_ten_seconds_or_a_part(
    run: Call, rate: float, proxy: str
) -> None:
    path = {"rate": rate, "buffers": True} | PROXIES[proxy]
    lost, more, speed = simulate(run, f"[{worst(until=60)}, {worst()}, stored / second]", **path)
    bound = max(HORIZON * rate, PART)
    assert lost <= bound
    assert more <= bound + PART, "now and then it tries one part more"
    assert speed > 0.9 * rate - 2 * PART / 300, "but for what is in flight at the end"


@each_case("takes", [10e6, 15e6, 20e6, 30e6])
def test_parts_that_begin_together_show_no_higher_rate(run: Call, takes: float) -> None:
    """Several parts are begun before the first body is whole. The first of them wait for fewer than later ones do."""
    path = {"rate": 2e6, "inTurn": True, "buffers": True, "takes": takes, "seconds": 60}
    assert simulate(run, worst(), **path) <= HORIZON * 2e6


@pytest.mark.parametrize("rate", [0.5e6, 2e6, 10e6])
def test_on_a_link_that_takes_what_it_carries_a_closed_page_loses_as_little(run: Call, rate: float) -> None:
    lost, speed = simulate(run, f"[{worst()}, stored / second]", rate=rate)
    assert lost <= max(HORIZON * rate, 1.05 * PART)
    assert speed > 0.95 * rate


@pytest.mark.parametrize("rate", [0.5e6, 2e6, 10e6])
def test_buffers_of_connections_are_no_rate(run: Call, rate: float) -> None:
    """Systems take the first megabytes of each body at once. What they hold is not cancelled and sent again."""
    asked = f"[{worst(40e6 / rate, 100)}, stored / second, wasted / stored]"
    lost, speed, wasted = simulate(run, asked, rate=rate, buffers=3 * 1024 * 1024, seconds=150)
    assert lost <= max(HORIZON * rate, 2 * PART)
    assert speed > 0.9 * rate
    assert wasted < 0.01


@each_case("size", [5, 16, 64, 100, 5000])
def test_before_the_first_response_little_is_begun(run: Call, size: int) -> None:
    """A proxy takes 64 MiB at most; one that takes a body at once takes only that."""
    part = size * 1024 * 1024
    before = "Math.max(...log.filter(({ second }) => second < first).map(({ parts }) => parts))"
    slow = {"rate": 10e6, "part": part, "seconds": 20}
    assert simulate(run, before, **slow, buffers=True) == 1
    assert simulate(run, before, **slow) <= max(1, 64 // size)


@each_case("buffers", [True, False])
@each_case("each", [0.3e6, 1e6, 2e6])
def test_where_each_connection_carries_little_all_of_them_carry(run: Call, each: float, buffers: bool) -> None:
    """Fewer parts carry less there: that is tried, and taken back."""
    path = {"rate": 1e9, "each": each, "buffers": buffers, "seconds": 900}
    late, soon = simulate(run, f"[{between(600, 900)}, {between(5, 100)}]", **path)
    assert late > 0.8 * 6 * each
    assert soon > 0.8 * 6 * each or buffers


@pytest.mark.parametrize("buffers", [True, False])
def test_a_path_that_changes_is_noticed_both_ways(run: Call, buffers: bool) -> None:
    changes = [[30, {"rate": 1e6}], [150, {"rate": 20e6}]]
    asked = f"[{worst(70, 90)}, {between(180, 200)}]"
    lost, speed = simulate(run, asked, rate=20e6, buffers=buffers, changes=changes, seconds=200)
    assert lost <= max(HORIZON * 1e6, 2 * PART)
    assert speed > 0.85 * 20e6


def test_no_number_is_kept_for_ever(run: Call) -> None:
    """A slow link becomes one where each connection carries little: more parts are found to carry more."""
    path = {"rate": 0.5e6, "changes": [[60, {"rate": 1e9, "each": 0.4e6}]], "seconds": 500}
    assert simulate(run, between(300, 500), **path) > 0.9 * 6 * 0.4e6
    assert simulate(run, between(400, 500), **path, buffers=True) > 0.8 * 6 * 0.4e6


@pytest.mark.parametrize("seed", range(3))
def test_an_outage_says_nothing_of_the_path(run: Call, seed: int) -> None:
    path = {"rate": 10e6, "changes": [[20 + seed / 3, {"rate": 0}], [50, {"rate": 10e6}]], "seconds": 80}
    parts = "Math.min(...log.filter(({ second }) => second > 25 && second < 50).map(({ parts }) => parts))"
    held, speed = simulate(run, f"[{parts}, {between(52, 80)}]", **path)
    assert held == 6
    assert speed > 0.9 * 10e6


LOST = """
  const flight = new m.Flight();
  const begin = (now) => { const part = flight.begin(1000, now); flight.accept(part, 1000, now); return part; };
"""


def test_a_part_waits_for_its_response_while_others_become_stored(run: Call) -> None:
    """A proxy has eleven parts, and passes them on one after another."""
    body = """const parts = Array.from({ length: 11 }, () => begin(0)), slow = parts.pop(), seen = [];
    for (let now = 50; now <= 500; now += 50) {
      flight.store(parts.shift(), now);
      seen.push(flight.isLost(slow, 100, now + 49));
    }
    return [seen.some(Boolean), flight.isLost(slow, 100, 599), flight.isLost(slow, 100, 601)];"""
    assert run("client/flight", LOST + body) == [False, False, True]


def test_a_part_waits_until_the_backlog_can_be_stored(run: Call) -> None:
    """Ten parts are accepted at once, and the first is stored after 60 s: the nine others need as long each."""
    body = """const parts = Array.from({ length: 10 }, () => begin(0));
    flight.store(parts.shift(), 60);
    return [100, 1100, 1150].map((now) => flight.isLost(parts[0], 100, now));"""
    assert run("client/flight", LOST + body) == [False, False, True]


def test_a_tiny_part_says_nothing_of_the_patience_with_a_large_one(run: Call) -> None:
    """100 bytes in 0.2 s are no rate at which 5 MB become stored."""
    body = """const tiny = flight.begin(100, 0);
    flight.store(tiny, 0.2);
    const parts = [flight.begin(5e6, 1), flight.begin(5e6, 1)];
    for (const part of parts) flight.accept(part, 5e6, 2);
    flight.look(100);
    return [101, 103].map((now) => flight.isLost(parts[0], 100, now));"""
    assert run("client/flight", LOST + body) == [False, True]


def test_where_nothing_is_stored_a_part_waits_for_the_timeout(run: Call) -> None:
    body = "const part = begin(5); return [100, 106].map((now) => flight.isLost(part, 100, now));"
    assert run("client/flight", LOST + body) == [False, True]


def test_a_part_that_was_overtaken_by_much_is_lost(run: Call) -> None:
    body = """const slow = begin(0), next = begin(90), late = begin(101);
    flight.store(next, 101);
    const before = flight.isLost(slow, 100, 102);
    flight.store(late, 102);
    return [before, flight.isLost(slow, 100, 103)];"""
    assert run("client/flight", LOST + body) == [False, True]


def test_a_whole_body_that_is_sent_again_halves_the_limit_for_a_while(run: Call) -> None:
    body = """flight.store(begin(0), 0.1);
    begin(1);
    const before = flight.limit(1);
    flight.again(1);
    return [before, ...[1, 60, 62, 122, 182, 500].map((now) => flight.limit(now))];"""
    assert run("client/flight", LOST + body) == [6, 3, 3, 4, 5, 6, 6]


def test_a_pause_is_no_part_of_a_rate(run: Call) -> None:
    """Of two parts that take five seconds each, the second begins an hour later."""
    body = """for (const at of [0, 3600]) {
      const part = flight.begin(8e6, at);
      flight.accept(part, 8e6, at);
      for (let now = at; now < at + 5; now += 0.1) flight.look(now);
      flight.store(part, at + 5);
    }
    return [flight.late, flight.limit(3605)];"""
    assert run("client/flight", LOST + body) == [True, 1]  # 1.6 MB/s for eight seconds
    assert run("client/flight", LOST + body.replace("8e6", "4e6")) == [True, 1]
    assert run("client/flight", LOST + body.replace("+ 5", "+ 2")) == [True, 4]


def test_until_a_part_is_begun_there_is_room_for_one(run: Call) -> None:
    """The others would not know what that one meets."""
    assert run("client/flight", "return new m.Flight().limit(0);") == 1


def test_until_the_first_byte_nothing_is_measured(run: Call) -> None:
    """Name, connection and TLS may take seconds."""
    body = """for (let part = 0; part < 6; part += 1) flight.begin(5e6, 0);
    for (let now = 0; now < 9; now += 0.1) flight.look(now);
    return [flight.limit(9), flight.surplus().length];"""
    assert run("client/flight", LOST + body) == [6, 0]


def test_of_parts_that_are_too_many_the_first_ones_stay(run: Call) -> None:
    """Who gives up the first ones of equals, gives up all of them in turn."""
    body = """const parts = [0, 1, 2].map(() => flight.begin(5e6, 0));
    for (let now = 0; now < 9; now += 0.1) {
      for (const part of parts) flight.accept(part, 1000 * now, now);
      flight.look(now);
    }
    return flight.surplus().map((part) => parts.indexOf(part));"""
    assert run("client/flight", LOST + body) == [2, 1]
