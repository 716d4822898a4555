"""How does throughput depend on the path?  `python -m benchmarks sweep [--rtts 10,50,150] [--losses 0,0.1,1]`

A path of packets between two network namespaces (`path`) with 1 Gbit/s. First its round trip changes, in milliseconds,
at 0.1 % loss; then its loss, in percent, at a round trip of 50 ms. All contestants have their defaults, and the kernel
its own congestion control (`--control` names another), from which bigupload asks for BBR. Measured is the whole
process. That needs root and Linux.

The exit status is 1 if a target is missed: on each path, wall ≤ 1.1 × the fastest peer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import path, report
from .command import chosen, files, hold, parser
from .contestants import Contestant
from .latency import LINK
from .peering import Peers
from .report import Row, Target
from .stores import null_store

USUAL_RTT, USUAL_LOSS = 50.0, 0.1
PEERS = "bigupload,crt,obstore,boto3"
MOST = 1.1


@dataclass(frozen=True, kw_only=True)
class Point:
    """The contestants over one path. `rtt` in milliseconds, `loss` in percent, `size` in bytes."""

    rtt: float
    loss: float
    size: int
    rows: Sequence[Row]


def paths(rtts: Sequence[float], losses: Sequence[float]) -> list[tuple[float, float]]:
    """Return the paths as pairs of round trip and loss, each once."""
    found = [(rtt, USUAL_LOSS) for rtt in rtts] + [(USUAL_RTT, loss) for loss in losses]
    return list(dict.fromkeys(found))


def targets(points: Sequence[Point]) -> list[Target]:
    return [
        target
        for each in points
        for target in report.wall_target(
            MOST, report.fastest(each.rows), f"the fastest peer at {each.rtt:g} ms, {each.loss:g} % loss"
        )
    ]


def _measure(
    arguments: argparse.Namespace, contestants: Sequence[Contestant], rtt: float, loss: float, file: Path, warm: Path
) -> Point:
    try:
        with path.path(
            rtt=rtt / 1e3, rate=LINK, loss=loss / 100, congestion_control=arguments.control, seed=arguments.seed
        ) as there:
            held = hold(
                f"{file.stat().st_size / 1e6:g} MB, {rtt:g} ms, {loss:g} % loss",
                contestants,
                arguments,
                null_store(["--host", there.server_address], prefix=there.server_prefix),
                file=file,
                warm=warm,
                prefix=there.client_prefix,
            )
    except path.PathUnavailable as error:
        raise SystemExit(f"no path of packets: {error}") from None
    report.show(held.title, held.rows, held.cpu)
    return Point(rtt=rtt, loss=loss, size=file.stat().st_size, rows=held.rows)


def main() -> int:
    made = parser(__doc__, size="128MB", rounds=2)
    made.add_argument("--rtts", type=_numbers, default=[10.0, 50.0, 100.0, 200.0], metavar="MS,…", help="Round trips.")
    made.add_argument("--losses", type=_numbers, default=[0.0, 0.1, 0.5, 1.0], metavar="PERCENT,…", help="Losses.")
    made.add_argument("--control", metavar="NAME", help="The congestion control of the namespaces, like reno.")
    made.add_argument("--seed", type=int, default=1, help="Chooses the packets that are lost.")
    arguments = made.parse_args()
    contestants = chosen(arguments, only=PEERS)
    with files(arguments) as (file, warm):
        points = [
            _measure(arguments, [each for each in contestants if not each.tuned], *each, file, warm)
            for each in paths(arguments.rtts, arguments.losses)
        ]
    checked = targets(points)
    if arguments.json is not None:
        figures = {"arguments": vars(arguments), "peers": Peers(arguments.peers).versions(), "points": points}
        report.write(arguments.json, "sweep", figures, checked)
    return report.conclude(checked)


def _numbers(text: str) -> list[float]:
    return [float(each) for each in text.split(",")]
