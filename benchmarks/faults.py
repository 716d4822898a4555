"""How fast is an upload if the store misbehaves?  `python -m benchmarks faults [--slow-down]`

By default: a store 30 ms away with 40 MB/s a connection. 2 % of the parts are stragglers at 1 MB/s, 3 % get a 503, and
2 % of the connections are reset. The round's seed, the part's number and its attempt decide a part's fault, so that all
contestants meet the same faults in each round. Contestants with larger parts have fewer parts that can fail.

`--slow-down`: a store with 40 MB/s a connection that answers 503 above 12 parts in flight. It compares bigupload, which
must find that limit, with bigupload that is given the limit.

A contestant that takes longer than --patience is stopped. Its row says `> N`, and its ratio is an upper bound.

The exit status is 1 if a target is missed: wall ≤ 0.25 × the best peer, bytes sent ≤ 1.07 × the file; with --slow-down,
goodput ≥ 90 % of the best fixed concurrency, and under 2 % of the PUTs answered 503 after the first ten seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bigupload.units import parse_size

from . import report
from .command import Held, chosen, files, finish, hold, parser
from .contestants import OURS, ourselves
from .null_store.counts import refused_share
from .report import Row, Target
from .stores import null_store

RATE = ["--rate", "40MB/s"]
STRAGGLERS = ["--straggler-share", "0.02", "--straggler-rate", "1MB/s"]
FAULTS = ["--rtt", "0.03", *RATE, *STRAGGLERS, "--slow-down-share", "0.03", "--reset-share", "0.02"]
MOST = 12
SETTLED = 10
"""The second from which refusals count."""
FIXED = (8, 10, 11, 12, 13, 14, 16)


def targets(found: Sequence[Row]) -> list[Target]:
    sent = report.own(found).sent or 0.0
    return [
        *report.wall_target(0.25, report.fastest(found), "the best peer"),
        Target(what="sent ≤ 1.07 × the file", found=f"{sent:.3f} ×", holds=0 < sent <= 1.07),
    ]


def slow_down_targets(held: Held) -> list[Target]:
    """Compare with bigupload at fixed concurrency."""
    mine = report.own(held.rows)
    best = min((row for row in held.rows if row.name != OURS and row.finished), key=lambda row: row.seconds.median)
    goodput = best.seconds.median / mine.seconds.median
    ours = [run for run in held.runs if run.contestant == OURS and run.outcome == "done"]
    refused = report.Spread.of(refused_share(run.counts, after=SETTLED) for run in ours)
    long_enough = all(len(run.counts["timeline"]) > SETTLED for run in ours)
    return [
        Target(
            what="goodput ≥ 90 % of the best fixed concurrency",
            found=f"{goodput:.1%} of {best.name}'s",
            holds=goodput >= 0.9,
        ),
        Target(
            what="under 2 % of PUTs answered 503 after ten seconds",
            found=f"{refused.median:.2%} (at most {refused.most:.2%})" if long_enough else "it took no ten seconds",
            holds=long_enough and refused.median < 0.02,
        ),
    ]


def _slow_down(arguments: argparse.Namespace) -> int:
    fixed = [ourselves(f"{OURS}:{number}", "--concurrency", str(number)) for number in FIXED]
    store = null_store([*RATE, "--most-in-flight", str(MOST)])
    with files(arguments, sparse=True) as (file, warm):
        title = f"{file.stat().st_size / 1e9:g} GB, 503 above {MOST} parts in flight, 40 MB/s a connection"
        held = hold(title, [ourselves(), *fixed], arguments, store, file=file, warm=warm)
    return finish("faults-slow-down", arguments, [held], slow_down_targets(held))


def main() -> int:
    made = parser(__doc__, size="5GB", rounds=3)
    made.add_argument("--slow-down", action="store_true", help="--size is 20 GB and sparse then, unless given.")
    made.set_defaults(size=None)
    arguments = made.parse_args()
    if arguments.size is None:
        arguments.size = parse_size("20GB" if arguments.slow_down else "5GB")
    if arguments.slow_down:
        return _slow_down(arguments)
    contestants = chosen(arguments)
    with files(arguments) as (file, warm):
        title = f"{file.stat().st_size / 1e9:g} GB, 30 ms, 40 MB/s, 2 % at 1 MB/s, 3 % 503, 2 % reset"
        held = hold(title, contestants, arguments, null_store(FAULTS), file=file, warm=warm)
    return finish("faults", arguments, [held], targets(held.rows))
