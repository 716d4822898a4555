"""What does each rule of what is in flight bring?  `python -m benchmarks controller [--seeds N] [--paths]`

It simulates uploads over many kinds of paths (`_upload_model`), with the real `core.flight` and `core.stored_rate`, and
a virtual clock: 1 MB/s to 25 Gbit/s, 1 to 300 ms, BBR and Reno with up to 2 % of the packets lost, stores that bound
each connection, read slowly or refuse requests, proxies that take bodies faster than they pass them on. *Regret* is how
much longer an upload takes than with the best fixed limit, which is found by trying.

Then each rule is switched off alone. The table shows what that does to the regret, on average and on the worst path,
and to the number of parts in flight. `yes`: the rule brings something. The same seeds give the same figures.

`--paths` prints the paths alone. `--constants` also tries half and twice each constant. `--interruptions` prints
instead what a kill loses on each path, and `--begin` what it costs to begin a far upload with fewer parts. The exit
status is 1 if a rule brings nothing, or the regret is above 10 % on average or above 30 % on a path.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool
from statistics import fmean as mean
from typing import Any

from bigupload.core import flight, flight_bound, flight_trials, stored_rate
from bigupload.core.flight import Flight
from bigupload.core.stored_rate import HORIZON

from ._running import all_hold
from ._upload_model import TICK, Outcome, Upload, Way

Run = Callable[[Callable[[Way], Any], Iterable[Way]], Iterable[Any]]
"""`map`, or the same in several processes."""

MB, GB = 1e6, 1e9
GBIT = 120 * MB
"""The payload of 1 Gbit/s, in bytes a second."""
BEGIN_WITH = (4, 8, 12, 16, 24, 32)
FIXED = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
WAYS = (
    Way(name="1 MB/s, 30 ms", rate=1 * MB, rtt=0.03, size=100 * MB),
    Way(name="2.5 MB/s, 20 ms, wavers", rate=2.5 * MB, rtt=0.02, size=200 * MB, noise=0.2),
    Way(name="4 MB/s, 60 ms, wavers much", rate=4 * MB, rtt=0.06, size=200 * MB, noise=0.4),
    Way(name="6 MB/s, 300 ms, 0.5 % lost", rate=6 * MB, rtt=0.3, size=300 * MB, loss=0.005),
    Way(name="12 MB/s, 80 ms, 0.5 % lost, Reno", rate=12 * MB, rtt=0.08, size=400 * MB, loss=0.005, reno=True),
    Way(name="60 MB/s, 100 ms, 2 % lost", rate=60 * MB, rtt=0.1, size=2 * GB, loss=0.02),
    Way(name="60 MB/s, 20 ms, 2 % lost, Reno", rate=60 * MB, rtt=0.02, size=1.5 * GB, loss=0.02, reno=True),
    Way(name="1 Gbit/s, 1 ms", rate=GBIT, rtt=0.001, size=4 * GB),
    Way(name="1 Gbit/s, 50 ms, 0.1 % lost", rate=GBIT, rtt=0.05, size=2 * GB, loss=0.001),
    Way(name="1 Gbit/s, 50 ms, 0.1 % lost, Reno", rate=GBIT, rtt=0.05, size=2 * GB, loss=0.001, reno=True),
    # Measured by `benchmarks.path`: BBR over 50 ms carried 118, 62, 50 and 27 MB/s by 16, 32, 64 and 128 connections.
    Way(name="1 Gbit/s, 50 ms, crowded above 16", rate=GBIT, rtt=0.05, size=3 * GB, crowded=16, crowding=0.7),
    Way(name="1 Gbit/s, 200 ms", rate=GBIT, rtt=0.2, size=4 * GB),
    Way(name="1 Gbit/s, 150 ms, 1 % lost, Reno", rate=GBIT, rtt=0.15, size=600 * MB, loss=0.01, reno=True),
    Way(name="10 Gbit/s, 10 ms, 90 MB/s each", rate=10 * GBIT, rtt=0.01, size=30 * GB, each=90 * MB),
    Way(name="10 Gbit/s, 300 ms", rate=10 * GBIT, rtt=0.3, size=30 * GB),
    Way(name="25 Gbit/s, 1 ms, 90 MB/s each", rate=25 * GBIT, rtt=0.001, size=80 * GB, each=90 * MB),
    Way(name="25 Gbit/s, 60 ms, 30 MB/s each", rate=25 * GBIT, rtt=0.06, size=80 * GB, each=30 * MB),
    Way(name="200 MB/s, 30 ms, 40 MB/s each", rate=200 * MB, rtt=0.03, size=6 * GB, each=40 * MB, by_store=True),
    Way(name="SlowDown above 4", rate=GB, rtt=0.03, size=1.5 * GB, each=10 * MB, accepts=4),
    Way(name="SlowDown above 4, 300 ms", rate=GB, rtt=0.3, size=300 * MB, each=2 * MB, accepts=4),
    Way(name="SlowDown above 20", rate=GB, rtt=0.03, size=30 * GB, each=10 * MB, accepts=20),
    Way(name="SlowDown above 60", rate=GB, rtt=0.03, size=24 * GB, each=10 * MB, accepts=60),
    Way(
        name="SlowDown above 8, above 40 after 15 s",
        rate=GB, rtt=0.03, size=12 * GB, each=10 * MB, accepts=8, relents=(15, 40),
    ),
    Way(name="3 % refused, 10 MB/s each", rate=GB, rtt=0.03, size=24 * GB, each=10 * MB, hiccups=0.03),
    Way(name="5 % refused, 25 Gbit/s", rate=25 * GBIT, rtt=0.001, size=60 * GB, each=60 * MB, hiccups=0.05),
    Way(
        name="a disk that writes in bursts",
        rate=200 * MB, rtt=0.001, size=6 * GB, crowded=20, bursts=(0.0, 0.5, 1.0, 1.5, 2.0), by_store=True,
    ),
    Way(name="a store that is best at 4", rate=200 * MB, rtt=0.005, size=4 * GB, crowded=4, by_store=True),
    Way(name="2 MB/s each, responses after 1.5 s", rate=GBIT, rtt=0.03, size=4.5 * GB, each=2 * MB, responds=1.5),
    Way(name="a peer that reads 2 MB/s", rate=GBIT, rtt=0.02, size=200 * MB, passes_on=2 * MB, takes=128 * 1024),
    Way(
        name="a peer that reads 2 MB/s, large buffers",
        rate=GBIT, rtt=0.02, size=400 * MB, passes_on=2 * MB, takes=4 * MB,
    ),
    Way(name="a peer that reads 40 MB/s", rate=10 * GBIT, rtt=0.001, size=2 * GB, passes_on=40 * MB, takes=256 * 1024),
    Way(name="a proxy passes on 0.8 MB/s", rate=GB, rtt=0.001, size=200 * MB, passes_on=0.8 * MB),
    Way(name="a proxy passes on 8 MB/s", rate=GB, rtt=0.001, size=GB, passes_on=8 * MB),
    Way(name="a proxy passes on 80 MB/s", rate=GB, rtt=0.001, size=4 * GB, passes_on=80 * MB),
    Way(name="a far proxy passes on 8 MB/s", rate=GBIT, rtt=0.03, size=GB, passes_on=8 * MB),
    Way(name="a spool passes on 2 MB/s", rate=GB, rtt=0.001, size=200 * MB, passes_on=2 * MB, one_by_one=True),
    Way(name="a spool passes on 20 MB/s", rate=GB, rtt=0.001, size=2 * GB, passes_on=20 * MB, one_by_one=True),
    Way(name="100 MB/s, 2 MB/s, 100 MB/s", rate=100 * MB, rtt=0.03, size=4 * GB, becomes=(10, 0.02, 40)),
    Way(
        name="a link that becomes a quarter",
        rate=100 * MB, rtt=0.03, size=3 * GB, each=5 * MB, becomes=(20, 0.25, math.inf),
    ),
    Way(
        name="a link that becomes fourfold",
        rate=100 * MB, rtt=0.03, size=10 * GB, each=5 * MB, becomes=(20, 4, math.inf),
    ),
)  # fmt: skip
LINKS = tuple(
    Way(name=f"{rate:g} MB/s, {rtt:g} ms", rate=rate * MB, rtt=rtt / 1000, size=max(60.0, 60 * rate) * MB)
    for rate, rtt in ((0.5, 30), (1, 30), (2, 30), (2, 150), (5, 50), (10, 30), (100, 30))
)
"""Links that one upload fills, for what an interruption costs: a minute or two of sending."""
SLOW = (
    Way(name="0.5 MB/s each", rate=GBIT, rtt=0.03, size=8 * GB, each=0.5 * MB, by_store=True),
    Way(name="0.5 MB/s each, 1.6 GB", rate=GBIT, rtt=0.03, size=1.6 * GB, each=0.5 * MB, by_store=True),
    Way(name="1 MB/s each, a link of 40 MB/s", rate=40 * MB, rtt=0.05, size=4 * GB, each=MB),
    Way(name="20 MB/s, 50 ms, 0.1 % lost, Reno", rate=20 * MB, rtt=0.05, size=4 * GB, loss=0.001, reno=True),
    Way(name="60 MB/s, 150 ms, 1 % lost, Reno", rate=60 * MB, rtt=0.15, size=4 * GB, loss=0.01, reno=True),
)
"""Paths on which each connection carries little, and files that could have smaller parts than the automatic ones."""


READER = next(way for way in WAYS if MB < way.takes < math.inf)
"""A far store that takes much, and reads it slowly."""
BEGINNINGS = tuple(
    Way(name=f"{rtt:g} ms, {size:g} MB", rate=GBIT, rtt=rtt / 1000, size=size * MB)
    for rtt, size in itertools.product((30, 300), (100, 250, 1000))
)
"""Links of 1 Gbit/s, and uploads that are short enough for the beginning to matter."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How the control differs from the usual one."""

    constants: tuple[tuple[str, float], ...] = ()
    """Other values of constants, by their modules and names."""
    wakes: bool = True
    """Whether a raised limit wakes the uploads that wait for room."""
    fixed: int | None = None


MODULES = {
    "flight": flight,
    "flight_trials": flight_trials,
    "flight_bound": flight_bound,
    "stored_rate": stored_rate,
}
"""The modules of `core` whose constants are changed."""
USUAL = Rules()
WITHOUT = {
    "the limit adapts": Rules(fixed=flight.START),
    "a raised limit takes effect at once, not when a part ends": Rules(wakes=False),
    "a larger limit must be worth it (`flight_trials.WORTH`)": Rules(constants=(("flight_trials.WORTH", 0.0),)),
    "the first trial waits for the start to settle (`flight_trials.SETTLED`)": Rules(
        constants=(("flight_trials.SETTLED", math.inf),)
    ),
    "goodput that has sunk begins the search anew (`flight_trials.SUNK`)": Rules(
        constants=(("flight_trials.SUNK", 0.0),)
    ),
    "a full link is not doubled (`flight_trials.QUEUED`)": Rules(constants=(("flight_trials.QUEUED", math.inf),)),
    "what is still seen after some windows will stay (`flight_trials.LASTING`)": Rules(
        constants=(("flight_trials.LASTING", 1),)
    ),
    "trials in vain become rare (`flight_trials.LONGEST_REST`)": Rules(constants=(("flight_trials.LONGEST_REST", 1),)),
    "a few refusals are no reason (`flight_trials.REFUSED_SHARE`, `flight_trials.REFUSALS`)": Rules(
        constants=(("flight_trials.REFUSED_SHARE", 0.0), ("flight_trials.REFUSALS", 1))
    ),
    "a ceiling is tried again (`flight_trials.PROBE_AFTER`)": Rules(
        constants=(("flight_trials.PROBE_AFTER", math.inf),)
    ),
    "a far path begins with more parts (`flight.START_FAR`)": Rules(constants=(("flight.START_FAR", flight.START),)),
    "first parts that end within a window widen the limit at once (`flight_trials.LEAP`)": Rules(
        constants=(("flight_trials.LEAP", 1),)
    ),
    "a new connection to a near store is up to speed at once (`flight_trials.SOON`)": Rules(
        constants=(("flight_trials.SOON", 0.0),)
    ),
    "a goodput that wavers is measured for longer (`flight_trials.WAVERS`)": Rules(
        constants=(("flight_trials.WAVERS", math.inf),)
    ),
    "what fills a buffer is no goodput (`stored_rate.FILLS_WITHIN`)": Rules(
        constants=(("stored_rate.FILLS_WITHIN", -1.0),)
    ),
    "the bound follows many windows (`flight_trials.AVERAGED`)": Rules(constants=(("flight_trials.AVERAGED", 1.0),)),
    "late responses are no goodput until they come (`stored_rate.LATE`)": Rules(
        constants=(("stored_rate.LATE", math.inf),)
    ),
}
"""Each rule, and the control without it."""
BRINGS_ON_ONE, BRINGS_PARTS = 0.1, 0.02
"""What a rule must save: that share of the time on one path, or that share of the parts in flight."""
NOT_SIMULATED = {
    "flight.FILLED", "flight_trials.QUEUED_FOR", "flight.SILENT", "flight.SMALL", "flight.SMALL_AT_ONCE",
    "flight.SMALL_A_SECOND", "flight.SMALL_JUDGED", "flight_trials.ALIKE", "flight_bound.AT_SPEED", "stored_rate.PAUSE",
    "stored_rate.HORIZON", "stored_rate.SLOWEST", "stored_rate.NEVER", "stored_rate.REMEMBERED",
}  # fmt: skip
"""Constants that matter to small files, to a busy or sleeping machine, to what a kill loses, to a response that never
comes, or to memory."""
MEAN_REGRET, MOST_REGRET = 0.10, 0.30


def simulate(way: Way, seeds: int, rules: Rules = USUAL) -> list[Outcome]:
    """One upload for each seed."""
    with changed(rules.constants):
        return [Upload(way, Flight(rules.fixed), seed=seed, wakes=rules.wakes).run() for seed in range(1, seeds + 1)]


def seconds(outcomes: Sequence[Outcome]) -> float:
    """On average."""
    return mean(each.seconds for each in outcomes)


def best_fixed(way: Way, seeds: int) -> tuple[int, dict[int, float]]:
    """Return the limit of the shortest uploads, and the seconds with each limit.

    Use the seeds of the uploads that are compared with it: on a path that wavers, a few others may have been lucky.
    """
    limits = {*FIXED, *([way.accepts] if way.accepts <= max(FIXED) else [])}
    took = {limit: seconds(simulate(way, seeds, Rules(fixed=limit))) for limit in sorted(limits)}
    return min(took, key=lambda limit: took[limit]), took


@contextmanager
def changed(constants: Sequence[tuple[str, float]]) -> Iterator[None]:
    """Change constants inside the `with` statement."""
    before = [(name, value_of(name)) for name, _ in constants]
    try:
        _set(constants)
        yield
    finally:
        _set(before)


def value_of(name: str) -> float:
    """Return a constant by its module and name."""
    module, constant = name.split(".")
    value: float = getattr(MODULES[module], constant)
    return value


def _set(constants: Iterable[tuple[str, float]]) -> None:
    for name, value in constants:
        module, constant = name.split(".")
        setattr(MODULES[module], constant, value)


@dataclass(frozen=True)
class Found:
    """The results of the paths, in the order of `WAYS`."""

    least: list[float]
    """Seconds with the best fixed limit."""
    regret: list[float]
    parts_in_flight: list[float]

    @classmethod
    def of(cls, least: list[float], each: Sequence[Sequence[Outcome]]) -> Found:
        """The outcomes of each path."""
        regret = [seconds(outcomes) / best - 1 for outcomes, best in zip(each, least, strict=True)]
        return cls(least, regret, [mean(outcome.parts_in_flight for outcome in outcomes) for outcomes in each])


def show_paths(seeds: int, ways: Sequence[Way] = WAYS, run: Run = map) -> Found:
    """Print what adapting costs on each path."""
    print("| path | best limit | seconds | fixed 16 | fixed 128 | adapting | parts in flight | refused |")
    print("|---|---|---|---|---|---|---|---|")
    least, each = [], []
    simulated = run(partial(simulate, seeds=seeds), ways)
    for way, (best, took), outcomes in zip(ways, run(partial(best_fixed, seeds=seeds), ways), simulated, strict=True):
        least.append(took[best])
        each.append(outcomes)
        found = Found.of(least, each)
        print(
            f"| {way.name} | {best} | {took[best]:.0f} | {took[16] / took[best] - 1:+.0%} "
            f"| {took[128] / took[best] - 1:+.0%} | {found.regret[-1]:+.0%} | {found.parts_in_flight[-1]:.0f} "
            f"| {mean(outcome.refused for outcome in each[-1]):.1%} |",
            flush=True,
        )
    print(f"\nregret: {mean(found.regret):.1%} on average, {max(found.regret):.0%} at most\n")
    return found


def show_interruptions(seeds: int, ways: Sequence[Way], run: Run = map) -> None:
    """Print what a kill loses at any moment since the first response."""
    print("| path | seconds | a kill loses: median | 95 % | within ten seconds or a part |")
    print("|---|---|---|---|---|")
    for way, outcomes in zip(ways, run(partial(simulate, seeds=seeds), ways), strict=True):
        median, most, within = lost_by_a_kill(way, outcomes)
        print(f"| {way.name} | {seconds(outcomes):.0f} | {median:.1f} s | {most:.1f} s | {within:.0%} |", flush=True)


def show_beginnings(seeds: int, ways: Sequence[Way] = BEGINNINGS, run: Run = map) -> None:
    """Print what a kill loses at most if a far upload begins with so many parts, and the seconds that uploads take."""
    print(f"| begin with | first response | a kill before it loses | {' | '.join(way.name for way in ways)} |")
    print("|---|---|---|" + "---|" * len(ways))
    for parts in BEGIN_WITH:
        begin = partial(simulate, seeds=seeds, rules=Rules(constants=(("flight.START_FAR", parts),)))
        reader, *others = run(begin, [READER, *ways])
        first = mean(next(tick for tick, lost in enumerate(each.at_risk) if lost) * TICK for each in reader)
        lost = mean(each.begun for each in reader) / MB
        print(f"| {parts} | {first:.0f} s | {lost:.0f} MB | {' | '.join(f'{seconds(each):.1f}' for each in others)} |")


def lost_by_a_kill(way: Way, outcomes: Sequence[Outcome]) -> tuple[float, float, float]:
    """Return what a kill loses in seconds of sending: at half of all moments less, and at 95 % of them.

    The third figure is the share of the moments at which it loses at most ten seconds, or one part.
    """
    lost, within = [], []
    for outcome in outcomes:
        goodput = way.size / outcome.seconds
        at_risk = list(itertools.dropwhile(lambda sent: not sent, outcome.at_risk))
        lost += [sent / goodput for sent in at_risk]
        within += [sent <= max(HORIZON * goodput, outcome.part_size) for sent in at_risk]
    lost.sort()
    return lost[len(lost) // 2], lost[int(0.95 * len(lost))], mean(within)


@dataclass(frozen=True)
class Change:
    """What a change of the rules does."""

    regret: float
    """On average, as a share of the time with the best fixed limit."""
    worst: float
    """On the path that suffers most."""
    on: str
    """That path."""
    parts_in_flight: float
    """As a share of those before."""

    @property
    def costs(self) -> bool:
        """Whether the usual rules are better."""
        return self.worst >= BRINGS_ON_ONE or self.parts_in_flight >= BRINGS_PARTS

    def __str__(self) -> str:
        return f"{self.regret:+.1%} | {self.worst:+.0%} | {self.on} | {self.parts_in_flight:+.0%}"


def change(rules: Rules, before: Found, seeds: int, run: Run = map, ways: Sequence[Way] = WAYS) -> Change:
    """Find out what other rules do."""
    now = Found.of(before.least, list(run(partial(simulate, seeds=seeds, rules=rules), ways)))
    changes = [after - regret for after, regret in zip(now.regret, before.regret, strict=True)]
    worst = max(range(len(ways)), key=lambda index: changes[index])
    parts = mean(now.parts_in_flight) / mean(before.parts_in_flight) - 1
    return Change(mean(changes), changes[worst], ways[worst].name, parts)


def show_rules(before: Found, seeds: int, run: Run) -> bool:
    """Print a row for each rule. Returns whether each brings something."""
    print("| without this rule | regret, on average | at most | on | parts in flight | it brings something |")
    print("|---|---|---|---|---|---|")
    bring = []
    for name, rules in WITHOUT.items():
        found = change(rules, before, seeds, run)
        bring.append(found.costs)
        print(f"| {name} | {found} | {'yes' if found.costs else 'NO'} |", flush=True)
    return all(bring)


def constants() -> Iterator[tuple[str, float]]:
    """Each constant that the simulation can tell from another value, by its module and name."""
    for module, where in MODULES.items():
        for constant, value in vars(where).items():
            name = f"{module}.{constant}"
            if constant.isupper() and isinstance(value, int | float) and name not in NOT_SIMULATED:
                yield name, value


def show_constants(before: Found, seeds: int, run: Run) -> None:
    """Print a row for half and twice each constant."""
    print("\n| change | regret, on average | at most | on | parts in flight |")
    print("|---|---|---|---|---|")
    for name, usual in constants():
        for value in (usual / 2, usual * 2):
            other = max(1, round(value)) if isinstance(usual, int) else value
            found = change(Rules(constants=((name, other),)), before, seeds, run)
            print(f"| `{name}` {usual:g} → {other:g} | {found} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="Uploads over each path. [3]")
    parser.add_argument("--paths", action="store_true", help="Only the paths.")
    parser.add_argument("--constants", action="store_true", help="Also other values of each constant.")
    parser.add_argument("--interruptions", action="store_true", help="What a kill loses, and what that bound costs.")
    parser.add_argument("--begin", action="store_true", help="What it costs to begin a far upload with fewer parts.")
    arguments = parser.parse_args()
    with Pool() as pool:
        if arguments.begin:
            show_beginnings(arguments.seeds, run=pool.imap)
            return 0
        if arguments.interruptions:
            show_interruptions(arguments.seeds, LINKS + WAYS + SLOW, pool.imap)
            return 0
        found = show_paths(arguments.seeds, run=pool.imap)
        if arguments.paths:
            return 0
        bring = show_rules(found, arguments.seeds, pool.imap)
        if arguments.constants:
            show_constants(found, arguments.seeds, pool.imap)
    regret, most = mean(found.regret), max(found.regret)
    print()
    goals = {
        "each rule brings something": bring,
        f"mean regret {regret:.1%} ≤ {MEAN_REGRET:.0%}": regret <= MEAN_REGRET,
        f"worst regret {most:.0%} ≤ {MOST_REGRET:.0%}": most <= MOST_REGRET,
    }
    return 0 if all_hold(goals) else 1
