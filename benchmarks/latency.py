"""How fast is an upload if the path is the limit?  `python -m benchmarks latency [--rate RATE] [--path]`

By default: a store 30 ms away that accepts 40 MB/s from each connection (`--rate`), and all contestants with their
defaults. `--total-rate 200MB/s` also limits all connections together; then only bigupload runs, unless others are
named. `--path` uses a real path between two network namespaces with 50 ms, 1 Gbit/s and 0.1 % loss: once with BBR
allowed and once with Reno alone. That needs root and Linux.

With Reno alone, `bigupload` still asks for BBR, as it does by default; `bigupload:system` leaves Reno.

The exit status is 1 if a target is missed: wall ≤ 0.9 × CRT and ≤ 0.5 × every other; ≥ 97 % of the cap; on the path ≤
1.0 × obstore's time with BBR, and ≤ 0.5 × CRT's with Reno.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bigupload.units import parse_rate, parse_size

from . import report
from .command import Held, chosen, files, finish, hold, parser
from .contestants import OURS, Contestant, ourselves
from .report import Row, Target
from .stores import null_store

RTT = 0.03
RATE = "40MB/s"
LINK = 125e6
"""1 Gbit/s in bytes a second, with the packets' headers."""
AS_IT_IS = ("--congestion-control", "system")
"""Leaves the system's congestion control. By default bigupload asks the kernel for BBR."""
CRT = ("crt", "boto3-crt")


def targets(found: Sequence[Row]) -> list[Target]:
    """Return the targets. CRT has its own, because it raises its number of connections by itself."""
    crt = [row for row in found if row.name.partition(":")[0] in CRT]
    others = [row for row in found if row.name.partition(":")[0] not in CRT]
    return [
        *report.wall_target(0.9, report.fastest(crt), "CRT"),
        *report.wall_target(0.5, report.fastest(others), "every other"),
    ]


def cap_target(held: Held, cap: float) -> Target:
    """Return the target on the total rate. The rate is that of the whole process, with its start and end."""
    rates = report.Spread.of(run.rate / cap for run in held.runs if run.contestant == OURS and run.outcome == "done")
    return Target(what="≥ 97 % of the cap", found=f"{rates.median:.1%} of it", holds=rates.median >= 0.97)


def _defaults(contestants: Sequence[Contestant]) -> list[Contestant]:
    return [each for each in contestants if not each.tuned]


def _over_null_store(arguments: argparse.Namespace) -> int:
    knobs = ["--rtt", str(RTT), "--rate", arguments.rate]
    title = f"{RTT * 1e3:.0f} ms, {arguments.rate} a connection"
    cap = arguments.total_rate
    if cap:
        knobs += ["--total-rate", f"{cap:.0f}B/s"]
        title += f", {cap / 1e6:g} MB/s in all"
    contestants = chosen(arguments, only=OURS if cap else None)
    if not arguments.contestants:
        contestants = _defaults(contestants)
    with files(arguments) as (file, warm):
        size = file.stat().st_size
        held = hold(f"{size / 1e9:g} GB, {title}", contestants, arguments, null_store(knobs), file=file, warm=warm)
    return finish("latency", arguments, [held], [cap_target(held, cap)] if cap else targets(held.rows))


# -- a path of packets


def _over_path(arguments: argparse.Namespace) -> int:
    from . import path  # only here: it exists only on Linux

    held: list[Held] = []
    dropped: dict[str, object] = {}
    contestants = chosen(arguments)
    if not arguments.contestants:
        contestants = _defaults(contestants)
    with files(arguments) as (file, warm):
        for control in ("bbr", "reno"):
            those = [*contestants, ourselves(f"{OURS}:system", *AS_IT_IS)] if control == "reno" else contestants
            try:
                with path.path(rtt=0.05, rate=LINK, loss=0.001, congestion_control=control) as there:
                    store = null_store(["--host", there.server_address], prefix=there.server_prefix)
                    title = f"{file.stat().st_size / 1e9:g} GB, 50 ms, 1 Gbit/s, 0.1 % loss, {control}"
                    prefix = there.client_prefix
                    held.append(hold(title, those, arguments, store, file=file, warm=warm, prefix=prefix))
            except path.PathUnavailable as error:
                raise SystemExit(f"no path of packets: {error}") from None
            dropped[control] = there.report
    return finish("latency-path", arguments, held, path_targets(*held), packets=dropped)


def path_targets(bbr: Held, reno: Held) -> list[Target]:
    """Return the targets on the path."""
    obstore = [row for row in bbr.rows if row.name.partition(":")[0] == "obstore"]
    crt = [row for row in reno.rows if row.name.partition(":")[0] in CRT]
    return [
        *report.wall_target(1.0, report.fastest(obstore), "obstore with BBR"),
        *report.wall_target(0.5, report.fastest(crt), "CRT with Reno"),
    ]


def main() -> int:
    made = parser(__doc__, size="5GB", rounds=3)
    made.add_argument("--rate", default=RATE, help=f"Of each connection. [{RATE}]")
    made.add_argument("--total-rate", type=parse_rate, default=0.0, metavar="RATE", help="Of all connections together.")
    made.add_argument("--path", action="store_true", help="Two network namespaces; --size is 1 GiB then, unless given.")
    made.set_defaults(size=None)
    arguments = made.parse_args()
    if arguments.size is None:
        arguments.size = parse_size("1GiB" if arguments.path else "5GB")
    return _over_path(arguments) if arguments.path else _over_null_store(arguments)
