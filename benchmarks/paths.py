"""Is what is in flight right on every kind of path?  `python -m benchmarks paths [--quick] [--kinds link,buffering]`

The kinds: a link; a store that reads at one rate for all connections; a cap for each connection; a proxy that buffers
bodies and forwards all of them at once; one that forwards them one after another; SlowDown; a path whose rate changes;
loss with BBR and with Reno; 300 ms. Each at three rates, with --quick at the middle one. `--list` describes them.

On each, three things are measured:

- An upload without faults: its seconds; the bytes of bodies that left the client; the parts that the store accepted
  twice; and how wrong the displayed time left was after 25, 50 and 75 % of the time, as a share of the truth.
- The same upload with `--concurrency` fixed at several values. *Regret* is the extra time over the best of them. One
  that is slower than the best by far is stopped.
- Kills by SIGKILL. A kill loses the bytes that left the client in this run, less the parts that the store had
  responded to, and less what had left when the upload was begun anew in smaller parts. The bound is ten seconds of the
  stored rate, or one part, and half a part of those that are held. Most
  kills come at a seeded moment after as much is stored as had left the client before the first response of the run:
  until then, the path is not known. Every fourth comes at one after the first byte. The bound is not for these: such
  kills of the start have columns of their own. The stored rate is the path's. Where the number of connections decides
  about that, it is that of the upload without kills, or what became stored in the last ten seconds, if that is more;
  and on the path that changes what became stored in the last ten seconds.

`bytes that left the client` are counted by the proxy where there is one, else by the store, with what its kernel has
received and it has not read.

`--old REF` also runs a version in git, `--peers` the installed peers, by turns with the others. `--livelock` does
nothing but upload 5 GB through a buffering proxy of 8 MB/s, with `--response-timeout 30s`.

The exit status is 1 if a goal is missed: sent ≤ 1.05 × the file (1.02 with --livelock) and no part twice; the bound
holds at each kill; mean regret ≤ 10 %, worst ≤ 30 %; with peers ≤ 0.9 × CRT over the link from 1 GiB on and ≤ 1.0 ×
below, ≤ 1.0 × obstore with loss and BBR. It needs root and Linux for the kinds of packets, and leaves these out for
others.
"""

from __future__ import annotations

import argparse
import compileall
import functools
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bigupload
from bigupload.core.manifest import Manifest
from bigupload.manifests.journal import read_manifest
from bigupload.units import parse_rate, parse_size

from . import _stamped, report
from ._kinds import BUFFERING, KINDS, Kind, Place, chosen
from ._time_left import TimeLeft, progress, time_left
from .children import run
from .command import write_sparse
from .contest import Run, judge
from .contestants import OURS, Contestant, Job, everyone, ourselves
from .path import PathUnavailable
from .peering import Peers, default_directory
from .report import Row, Target
from .versions import installed

OLD = f"{OURS}:old"
HORIZON = 10.0
"""Seconds of the stored rate that a kill may lose."""
SENT, SENT_IN_LIVELOCK = 1.05, 1.02
MEAN_REGRET, WORST_REGRET = 0.1, 0.3
PEERS = ("crt", "obstore", "mc:tuned", "s5cmd")
BIG = 1 << 30
HELD = 0.5
"""The share of a part that other parts may have sent before and while they are held: 24 of them begin, each sends until
the rate is known, and then some KiB every ten seconds."""
EARLY = 4
"""One of so many kills comes soon after the first byte."""
EARLY_TO = 3.0
"""The most seconds from the first byte to such a kill."""
WORTH = 1.3
"""A fixed concurrency that takes so many times as long as the best is stopped."""
WORTH_OF_OURS = 1.5
"""So is one that takes so many times as long as without it."""
LATE = 8
"""An upload that takes so many times as long as the path needs is stopped."""
LOOK_EVERY = 0.2
DRAINED_WITHIN = 1200.0
"""Seconds in which nothing must be left of what a killed process had given to its kernel."""
STILL = 150.0
"""Seconds without a byte after which none will come: TCP tries again within 120, and where its last packets are lost, a
store waits for a killed process for ever."""
MOST_FILE = 140e9
"""Bytes. Parts of a larger file are larger than usual."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long everything takes. Times in seconds."""

    seconds: float
    """What the path carries in this time is the size of the file."""
    least: int
    """The least size of the file, in bytes."""
    fixed: Sequence[int]
    """In the order in which they are tried: slow ones are stopped sooner if a fast one was before them."""
    kills: int
    latest: float
    """The most seconds to a kill, from the moment when the path is known."""
    response_within: float
    """The most seconds to that moment, before a kill comes anyhow."""


QUICK = Settings(seconds=8, least=48 << 20, fixed=(8, 32, 2), kills=4, latest=10, response_within=20)
FULL = Settings(seconds=25, least=128 << 20, fixed=(16, 8, 32, 4, 64, 2, 1), kills=10, latest=25, response_within=120)


# -- what is found


@dataclass(frozen=True, kw_only=True)
class Killed:
    """A run that was killed. Sizes in bytes; `rate` is the stored rate in bytes a second."""

    contestant: str
    after: float
    """Seconds from the start of the process."""
    rate: float
    left: int
    """What left the client in this run."""
    accepted: int
    """The parts to which the store had responded."""
    given_up: int
    """What had left when the upload was begun anew: it is sent again without a kill, too."""
    again: int
    """Those of them that an earlier run had sent already."""
    part_size: int
    is_early: bool
    """Whether not all was stored that had left before the first response."""

    @property
    def lost(self) -> int:
        return max(0, self.left - self.accepted - self.given_up)

    @property
    def bound(self) -> float:
        return max(HORIZON * self.rate, (1 + HELD) * self.part_size)

    @property
    def holds(self) -> bool:
        return self.lost <= self.bound

    def __str__(self) -> str:
        judged = "of the start" if self.is_early else "holds" if self.holds else "does NOT hold"
        return (
            f"{self.contestant}: killed after {self.after:.1f} s, {self.left / 1e6:.1f} MB left, "
            f"{f'{self.given_up / 1e6:.1f} MB given up, ' * bool(self.given_up)}"
            f"{self.lost / 1e6:.1f} MB lost, the bound is {self.bound / 1e6:.1f} MB: {judged}"
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that was found on one kind of path at one rate."""

    kind: str
    rate: float
    size: int
    runs: Sequence[Run]
    displayed: Mapping[str, Sequence[TimeLeft]]
    """By contestant, a row for each round."""
    kills: Sequence[Killed] = ()
    note: str = ""

    @functools.cached_property
    def rows(self) -> Mapping[str, Row]:
        return {row.name: row for row in report.rows(self.runs, {})}

    @property
    def best(self) -> Row | None:
        """The fastest fixed concurrency."""
        fixed = [row for name, row in self.rows.items() if _is_fixed(name) and row.finished]
        return min(fixed, key=lambda row: row.seconds.median, default=None)

    @property
    def regret(self) -> float | None:
        """How much longer it takes than with the best fixed concurrency. None if either is unknown."""
        mine, best = self.rows.get(OURS), self.best
        if mine is None or not mine.finished or best is None:
            return None
        return mine.seconds.median / best.seconds.median - 1

    def most(self, name: str) -> float | None:
        """Return the largest of a count of bigupload's runs. None if it did not finish."""
        mine = [run.counts[name] for run in self.runs if run.contestant == OURS and run.outcome == "done"]
        return max(mine, default=None)

    @property
    def sent(self) -> float | None:
        """The bytes that left the client over those of the file."""
        most = self.most("bytes_left")
        return None if most is None else most / self.size

    @property
    def title(self) -> str:
        return f"{self.kind} | {self.rate / 1e6:g} MB/s"


def _is_fixed(name: str) -> bool:
    return name.startswith(f"{OURS}:") and name.removeprefix(f"{OURS}:").isdigit()


def stored_rate(counts: Mapping[str, Any], now: float) -> float:
    """Return the bytes a second that became stored in the last ten seconds. `now` as `time.time()`."""
    if not counts["first_put"]:
        return 0.0
    elapsed = now - counts["first_put"]["time"]
    begin = max(0, math.ceil(elapsed - HORIZON))
    return float(sum(row[0] for row in counts["timeline"][begin:]) / max(1.0, elapsed - begin))


# -- uploads that end


def once(
    kind: Kind, rate: float, contestant: Contestant, file: Path, number: int, patience: float, *, is_shown: bool
) -> tuple[Run, str]:
    """Upload over a new path. Returns what came of it, and standard error, stamped if `is_shown`."""
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        directory = Path(name)
        scratch = directory / "home"
        scratch.mkdir()
        with kind.open(rate, directory, number) as place:
            job = _job(place, file, scratch)
            stamp = [sys.executable, "-S", _stamped.__file__] if is_shown else []
            argv = [*place.prefix, *stamp, *contestant.argv(job)]
            ended = run(argv, contestant.environment(job), patience=patience, where=scratch)
            stored = place.store.size_of(job.key) if ended.status == 0 else None
            counts = place.store.counts()
    counts["bytes_received"] = counts["bytes_left"]
    return judge(contestant, number, file.stat().st_size, ended, stored, counts), ended.errors


def _job(place: Place, file: Path, scratch: Path) -> Job:
    return Job.at(place.store, file, scratch)


@dataclass(frozen=True, kw_only=True)
class Contestants:
    """`versions` are of bigupload: its progress is read, and they are killed."""

    versions: Sequence[Contestant]
    fixed: Sequence[Contestant]
    peers: Sequence[Contestant]


def uploads(
    kind: Kind, rate: float, those: Contestants, file: Path, rounds: int
) -> tuple[list[Run], dict[str, list[TimeLeft]]]:
    """Upload by turns. One that failed or was stopped is left out of later rounds."""
    runs: list[Run] = []
    displayed: dict[str, list[TimeLeft]] = {}
    usual = max(60.0, LATE * file.stat().st_size / kind.full(rate))
    for number in range(1, rounds + 1):
        for contestant in (*those.versions, *those.peers, *those.fixed):
            if any(run.contestant == contestant.name and run.outcome != "done" for run in runs):
                continue
            patience = min(usual, longest(runs)) if _is_fixed(contestant.name) else usual
            is_shown = contestant in those.versions
            found, errors = once(kind, rate, contestant, file, number, patience, is_shown=is_shown)
            runs.append(found)
            shown = time_left(errors) if is_shown else None
            if shown is not None:
                displayed.setdefault(contestant.name, []).append(shown)
            _say(f"{_described(found)}{f'; time left {shown}' if shown else ''}")
    return runs, displayed


def longest(runs: Sequence[Run]) -> float:
    """Return the seconds after which an upload with fixed concurrency can't be the best, or no longer matters."""
    mine = [WORTH_OF_OURS * run.seconds for run in runs if run.contestant == OURS]
    best = [WORTH * run.seconds for run in runs if _is_fixed(run.contestant) and run.outcome == "done"]
    return min([*mine, *best], default=math.inf)


def _described(found: Run) -> str:
    if found.outcome != "done":
        return f"{found.contestant}: {found.outcome}: {found.why}"
    again = found.counts["parts_again"]
    return f"{found.contestant}: {found.seconds:.1f} s, sent × {found.sent_ratio:.3f}{f', {again} twice' * bool(again)}"


# -- kills


def rate_of_kills(kind: Kind, rate: float, runs: Sequence[Run]) -> float | None:
    """Return the stored rate that bounds the kills of a contestant with these runs, if that of the moment is not more.

    None: that of the moment alone.
    """
    if kind.stored == "path":
        return rate
    done = [run.rate for run in runs if run.outcome == "done"]
    return statistics.median(done) if kind.stored == "upload" and done else None


def moments(kills: int, seed: str, latest: float) -> list[tuple[bool, float]]:
    """Return for each kill whether it comes when the path is known, and how long after that, or after the first byte,
    in seconds."""
    chance = random.Random(seed)
    return [
        (False, chance.uniform(0.0, EARLY_TO)) if number % EARLY == EARLY - 1 else (True, chance.uniform(0.0, latest))
        for number in range(kills)
    ]


def killed(
    kind: Kind,
    rate: float,
    contestant: Contestant,
    settings: Settings,
    seed: int,
    directory: Path,
    *,
    stored: float | None,
) -> tuple[list[Killed], str]:
    """Kill one upload again and again. Returns a note, too, if it ended before that.

    `stored` is what `rate_of_kills` returns.
    """
    file = directory / f"kills-{contestant.name.replace(':', '-')}.bin"
    write_sparse(
        file, int(min(MOST_FILE, kind.most(rate) * (settings.latest + settings.response_within) * (settings.kills + 1)))
    )
    found: list[Killed] = []
    with (
        tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name,
        kind.open(rate, Path(name), seed) as place,
    ):
        job = _job(place, file, Path(name))
        argv, environment = [*place.prefix, *contestant.argv(job)], contestant.environment(job)
        for is_late, seconds in moments(settings.kills, f"{seed} {kind.name} {rate}", settings.latest):
            place.store.reset()
            once = _kill(contestant, place, argv, environment, settings, is_late, seconds, stored)
            if once is None:
                return found, f"ended after {len(found)} kills"
            found.append(once)
            _say(str(once))
            if not _becomes_idle(place):
                return found, f"still busy {DRAINED_WITHIN:.0f} s after kill {len(found)}"
    return found, ""


def _kill(
    contestant: Contestant,
    place: Place,
    argv: Sequence[str],
    environment: Mapping[str, str],
    settings: Settings,
    is_late: bool,
    seconds: float,
    stored: float | None,
) -> Killed | None:
    """Run the command and kill it. Returns None if it ended before that."""
    began = time.monotonic()
    with subprocess.Popen(argv, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            awaited, least, known = "bytes_accepted" if is_late else "bytes_left", 1, not is_late
            while child.poll() is None and time.monotonic() - began < settings.response_within:
                counts = place.store.counts()
                if counts[awaited] >= least:
                    if known:
                        break
                    known, least = True, counts["bytes_left"]  # what was begun before the path was known
                time.sleep(LOOK_EVERY)
            time.sleep(seconds)
            counts, now = place.store.counts(), time.time()
            is_early = not is_late or counts[awaited] < least
            if child.poll() is not None:
                return None
        finally:
            child.kill()
    manifest = manifest_of(Path(environment["BIGUPLOAD_STATE_DIR"]))
    return Killed(
        contestant=contestant.name,
        after=time.monotonic() - began,
        rate=max(stored or 0.0, stored_rate(counts, now)),
        left=counts["bytes_left"],
        accepted=counts["bytes_accepted"],
        given_up=counts["bytes_given_up"],
        again=counts["parts_again"],
        part_size=manifest.plan.part_size if manifest else 0,
        is_early=is_early,
    )


def manifest_of(state: Path) -> Manifest | None:
    """Read the only manifest of a state directory."""
    found = [each for each in state.rglob("*.jsonl") if each.stat().st_size]
    return read_manifest(found[0]).manifest if found else None


def _becomes_idle(place: Place) -> bool:
    """Wait until nothing is under way that a killed process had given to its kernel."""
    began = changed = time.monotonic()
    known = -1
    while not place.idle():
        now, left = time.monotonic(), place.store.counts()["bytes_left"]
        if left != known:
            known, changed = left, now
        if now - changed > STILL:
            return True
        if now - began > DRAINED_WITHIN:
            return False
        time.sleep(LOOK_EVERY)
    return True


# -- tables and goals


def tables(found: Sequence[Found], peers: Sequence[str]) -> Iterator[str]:
    """Return the lines of the tables, in Markdown."""
    yield (
        "| path | rate | MB | seconds | old | best fixed | regret | sent × | twice | "
        "error of the time left at 25, 50, 75 % | jump |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for each in found:
        best, regret, sent, again = each.best, each.regret, each.sent, each.most("parts_again")
        shown = each.displayed.get(OURS, ())
        cells = [
            f"{each.size / 1e6:.0f}",
            _seconds(each.rows.get(OURS)),
            _seconds(each.rows.get(OLD)),
            f"{best.seconds.median:.1f} ({best.name.rpartition(':')[2]})" if best else "",
            "" if regret is None else f"{regret:+.0%}",
            "" if sent is None else f"{sent:.3f}",
            "" if again is None else f"{again:.0f}",
            "; ".join(map(str, shown)),
            f"{max(one.jump for one in shown):.0%}" if shown else "",
        ]
        yield f"| {each.title} | {' | '.join(cells)} |"
    if any(each.kills for each in found):
        yield ""
        yield from _table_of_kills(found)
    if peers:
        yield ""
        yield f"| path | rate | MB | {OURS} | {' | '.join(peers)} |"
        yield "|---" * (len(peers) + 4) + "|"
        for each in found:
            cells = [_seconds(each.rows.get(name)) for name in (OURS, *peers)]
            yield f"| {each.title} | {each.size / 1e6:.0f} | {' | '.join(cells)} |"


def _table_of_kills(found: Sequence[Found]) -> Iterator[str]:
    yield (
        "| path | rate | version | kills | within the bound | MB lost: median | most | bound | "
        "kills of the start | MB lost: most | parts sent again | |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|"
    for each in found:
        for name in dict.fromkeys(kill.contestant for kill in each.kills):
            mine = [kill for kill in each.kills if kill.contestant == name]
            late, early = [kill for kill in mine if not kill.is_early], [kill for kill in mine if kill.is_early]
            lost = [kill.lost / 1e6 for kill in late]
            cells = [
                name,
                f"{len(late)}",
                f"{sum(kill.holds for kill in late)}",
                f"{statistics.median(lost):.1f}" if lost else "",
                f"{max(lost):.1f}" if lost else "",
                f"{min(kill.bound for kill in late) / 1e6:.1f}" if late else "",
                f"{len(early)}",
                f"{max(kill.lost for kill in early) / 1e6:.1f}" if early else "",
                f"{sum(kill.again for kill in mine)}",
                each.note,
            ]
            yield f"| {each.title} | {' | '.join(cells)} |"


def _seconds(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{row.seconds.median:.1f}" if row.finished else "failed" if row.outcome == "failed" else "stopped"


def targets(found: Sequence[Found], *, peers: bool = False) -> list[Target]:
    """Return the goals: those of each kind of path, then regret, then those with peers."""
    made: list[Target] = []
    for kind in dict.fromkeys(each.kind for each in found):
        those = [each for each in found if each.kind == kind]
        made += [_sent_target(kind, those), *_kill_targets(kind, those)]
        if peers:
            made += [target for each in those for target in _peer_targets(each)]
    regrets = {each.title: each.regret for each in found if each.best is not None}
    known = {title: regret for title, regret in regrets.items() if regret is not None}
    if known:
        mean, worst = statistics.mean(known.values()), max(known, key=lambda title: known[title])
        made += [
            Target(what=f"mean regret ≤ {MEAN_REGRET:.0%}", found=f"{mean:+.1%}", holds=mean <= MEAN_REGRET),
            Target(
                what=f"worst regret ≤ {WORST_REGRET:.0%}",
                found=f"{known[worst]:+.1%}, {worst.replace(' | ', ' ')}",
                holds=known[worst] <= WORST_REGRET,
            ),
        ]
    return made


def _sent_target(kind: str, those: Sequence[Found]) -> Target:
    what = f"{kind}: sent ≤ {SENT} × the file, no part twice"
    if unfinished := [each for each in those if each.sent is None]:
        return Target(what=what, found=f"not finished at {unfinished[0].rate / 1e6:g} MB/s", holds=False)
    sent, again = max(each.sent or 0.0 for each in those), sum(each.most("parts_again") or 0 for each in those)
    return Target(what=what, found=f"{sent:.3f} ×, {again:.0f} parts twice", holds=sent <= SENT and not again)


def _kill_targets(kind: str, those: Sequence[Found]) -> list[Target]:
    """Return the bound's goal. It is missed at a rate at which no kill could be judged, too."""
    kills = {each.rate: [kill for kill in each.kills if kill.contestant == OURS] for each in those if each.kills}
    if not kills:
        return []
    late = [kill for of_rate in kills.values() for kill in of_rate if not kill.is_early]
    unanswered = [rate for rate, of_rate in kills.items() if all(kill.is_early for kill in of_rate)]
    most = max((kill.lost / kill.bound for kill in late), default=0.0)
    found = f"{sum(kill.holds for kill in late)} of {len(late)}, at most {most:.2f} × the bound" if late else ""
    no_response = "".join(f"no response before any kill at {rate / 1e6:g} MB/s" for rate in unanswered[:1])
    return [
        Target(
            what=f"{kind}: a kill loses at most ten seconds or one part",
            found="; ".join(filter(None, [found, no_response])),
            holds=not unanswered and all(kill.holds for kill in late),
        )
    ]


def _peer_targets(found: Found) -> list[Target]:
    rival, factor = {
        "link": ("crt", 0.9 if found.size >= BIG else 1.0),
        "loss-bbr": ("obstore", 1.0),
    }.get(found.kind, ("", 0.0))
    row = found.rows.get(rival)
    if row is None or row.outcome == "failed":
        return []
    return report.wall_target(factor, row, f"{rival}, {found.title.replace(' | ', ' ')}")


# -- the livelock


def livelock(size: int, seed: int) -> tuple[dict[str, Any], list[Target]]:
    """Upload through a buffering proxy that needs far longer than the store may take to respond."""
    rate = 8e6
    options = ["--progress", "json", "--response-timeout", "30s"]
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        file = Path(name) / "file.bin"
        write_sparse(file, size)
        patience = 60 + 1.5 * size / rate
        found, errors = once(BUFFERING, rate, ourselves(OURS, *options), file, seed, patience, is_shown=True)
    samples = progress(errors)
    every = max(1, len(samples) // 20)
    rows = [(each.at, each.parts, each.recorded) for each in samples[::every]]
    print("| seconds | parts recorded | MB recorded |")
    print("|---|---|---|")
    for at, parts, recorded in rows:
        print(f"| {at:.0f} | {parts} | {recorded / 1e6:.0f} |")
    sent, again = found.counts["bytes_left"] / size, found.counts["parts_again"]
    stopped = "" if found.outcome == "done" else f", {found.outcome}: {found.why}"
    target = Target(
        what=f"livelock: sent ≤ {SENT_IN_LIVELOCK} × the file",
        found=f"{sent:.3f} × in {found.seconds:.0f} s, {again} parts twice{stopped}",
        holds=found.outcome == "done" and sent <= SENT_IN_LIVELOCK,
    )
    return {"run": found, "recorded": rows}, [target]


# -- the command


def measure(kind: Kind, rate: float, settings: Settings, arguments: argparse.Namespace) -> Found:
    """Do all of it on one kind of path at one rate. Raises PathUnavailable."""
    size = arguments.size or int(max(settings.least, kind.least, (kind.seconds or settings.seconds) * kind.full(rate)))
    print(f"{kind.name}, {rate / 1e6:g} MB/s, {size / 1e6:.0f} MB: {kind.what}", flush=True)
    shown = ("--progress", "json", *kind.options)
    versions, killable = [ourselves(OURS, *shown)], [ourselves(OURS, *kind.options)]
    if arguments.old:
        old = installed(arguments.old, arguments.peers or default_directory())
        versions.append(ourselves(OLD, *shown, python=old.python, tree=old.tree))
        killable.append(ourselves(OLD, *kind.options, python=old.python, tree=old.tree))
    known = everyone(Peers(arguments.peers)) if arguments.peers else {}
    those = Contestants(
        versions=versions,
        fixed=[
            ourselves(f"{OURS}:{n}", "--concurrency", str(n), *kind.options) for n in (*kind.fixed, *settings.fixed)
        ],
        peers=[known[name] for name in PEERS if name in known],
    )
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        directory = Path(name)
        file = directory / "file.bin"
        write_sparse(file, size)
        runs, displayed = uploads(kind, rate, those, file, arguments.rounds)
        kills: list[Killed] = []
        notes = []
        for contestant in killable if settings.kills else ():
            stored = rate_of_kills(kind, rate, [run for run in runs if run.contestant == contestant.name])
            some, note = killed(kind, rate, contestant, settings, arguments.seed, directory, stored=stored)
            kills += some
            notes.append(note)
    return Found(
        kind=kind.name,
        rate=rate,
        size=size,
        runs=runs,
        displayed=displayed,
        kills=kills,
        note="; ".join(filter(None, notes)),
    )


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def _settings(arguments: argparse.Namespace) -> Settings:
    base = QUICK if arguments.quick else FULL
    given = {name: getattr(arguments, name) for name in ("seconds", "fixed", "kills")}
    return Settings(**{**vars(base), **{name: value for name, value in given.items() if value is not None}})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", metavar="NAME,…", help=f"Only these: {', '.join(KINDS)}.")
    parser.add_argument("--rates", metavar="RATE,…", help="Instead of each kind's own.")
    parser.add_argument(
        "--quick", action="store_true", help="The middle rate, small files, fewer kills: about 2 min a kind."
    )
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="What the path carries in this time is a file's size."
    )
    parser.add_argument("--size", type=parse_size, help="Of the file that is uploaded without kills.")
    parser.add_argument("--fixed", type=_numbers, metavar="N,…", help="The fixed concurrencies; '' for none.")
    parser.add_argument("--kills", type=int, metavar="N", help="Kills at each rate. [10; 4 with --quick]")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="Of all uploads, by turns. [1]")
    parser.add_argument("--seed", type=int, default=1, help="Chooses the moments.")
    parser.add_argument("--old", metavar="REF", help="A version in git to compare with.")
    parser.add_argument(
        "--peers",
        type=Path,
        nargs="?",
        const=default_directory(),
        metavar="DIR",
        help="Also the peers installed there.",
    )
    parser.add_argument("--livelock", action="store_true", help="Only that. --size is 5 GB then, unless given.")
    parser.add_argument("--list", action="store_true", help="Describe the kinds of paths.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write all figures there.")
    arguments = parser.parse_args()
    if arguments.list:
        for kind in KINDS.values():
            print(f"{kind.name:<10} {kind.what}; {', '.join(f'{rate / 1e6:g}' for rate in kind.rates)} MB/s")
        return 0
    compileall.compile_dir(Path(bigupload.__file__).parent, quiet=2)
    if arguments.livelock:
        figures, checked = livelock(arguments.size or parse_size("5GB"), arguments.seed)
        if arguments.json is not None:
            report.write(arguments.json, "paths-livelock", {"arguments": vars(arguments), **figures}, checked)
    else:
        found = _measure_all(arguments)
        peers = [name for name in PEERS if any(name in each.rows for each in found)]
        print("\n".join(tables(found, peers)), flush=True)
        checked = targets(found, peers=bool(peers))
    return report.conclude(checked)


def _write(arguments: argparse.Namespace, found: Sequence[Found]) -> None:
    """Write what is there after each rate: all of them take hours."""
    if arguments.json is not None:
        checked = targets(found, peers=bool(arguments.peers))
        report.write(arguments.json, "paths", {"arguments": vars(arguments), "found": found}, checked)


def _measure_all(arguments: argparse.Namespace) -> list[Found]:
    settings = _settings(arguments)
    found = []
    for kind in chosen(arguments.kinds):
        if kind.root and os.geteuid() != 0:
            print(f"{kind.name} is left out: it needs root")
            continue
        rates = list(kind.rates)
        if arguments.rates:
            rates = [parse_rate(rate) for rate in arguments.rates.split(",")]
        elif arguments.quick:
            rates = rates[1:2]
        try:
            for rate in rates:
                found.append(measure(kind, rate, settings, arguments))
                _write(arguments, found)
        except PathUnavailable as error:
            print(f"{kind.name} is left out: {error}")
    return found
