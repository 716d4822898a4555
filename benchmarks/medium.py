"""How fast are files of medium size, near and far?  `python -m benchmarks medium [--inside] [--brief]`

Files of 1 to 256 MB (`--sizes`) go to the null store at three round trips (`--rtts`), over http and https, by the peers
that were the fastest at that. A far store takes 40 MB/s from each connection (`--rate`), or is behind 1 Gbit/s
(`--path`, `--link`). Each cell has bigupload's seconds, and their ratio to those of the fastest peer in that cell.

By default the whole process is measured. `--inside` measures one call within a running process that has sent a small
file before: the engine without the interpreter's start, against the libraries. `--brief` takes the smallest and the
largest size at the shortest and the longest round trip, in one round.

The exit status is 1 if a cell misses the target: wall ≤ 1.0 × the fastest peer.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bigupload.units import parse_rate, parse_size

from . import path as packets
from . import report
from .command import Held, chosen, files, hold, parser
from .contestants import Contestant
from .latency import LINK, RATE
from .peering import Peers
from .report import Target
from .stores import null_store

SIZES = "1MB,8MB,16MB,64MB,256MB"
RTTS = "0,30,100"
PEERS = "crt,obstore,s5cmd,mc"
INSIDE = "crt,boto3-crt,obstore"


@dataclass(frozen=True, kw_only=True, order=True)
class Path:
    """A column of the table."""

    tls: bool
    rtt: float
    """Milliseconds."""

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}, {self.rtt:g} ms"


def measure(arguments: argparse.Namespace, contestants: Sequence[Contestant], size: int, path: Path) -> Held:
    """Measure one cell."""
    prefixes: tuple[Sequence[str], Sequence[str]] = (), ()
    host, there = None, None
    with contextlib.ExitStack() as opened:
        if path.rtt and arguments.path:
            try:
                there = opened.enter_context(packets.path(rtt=path.rtt / 1e3, rate=arguments.link))
            except packets.PathUnavailable as error:
                raise SystemExit(f"no path of packets: {error}") from None
            host, prefixes = there.server_address, (there.server_prefix, there.client_prefix)
        file, warm = opened.enter_context(files(argparse.Namespace(**{**vars(arguments), "size": size})))
        held = hold(
            f"{size / 1e6:g} MB, {path}{', within a running process' if arguments.inside else ''}",
            contestants,
            arguments,
            null_store(store_options(path, arguments.rate, host), tls=path.tls, prefix=prefixes[0]),
            file=file,
            warm=warm,
            tls=path.tls,
            inside=arguments.inside,
            prefix=prefixes[1],
        )
    if there is not None:
        late = max(there.report[way]["latest"] for way in ("there", "back"))
        print(f"  the forwarder of the packets was at most {late * 1e3:.0f} ms late", flush=True)
    return held


def store_options(path: Path, rate: str, host: str | None) -> list[str]:
    """Return the null store's options.

    Behind a path of packets (`host`), the link alone limits the rate. A store that limits it has receive buffers of
    128 KiB, so that little is sent ahead of it: over 100 ms, these would carry 1 MB/s for each connection.
    """
    if host is not None:
        return ["--host", host]
    return ["--rate", rate, "--rtt", str(path.rtt / 1e3)] if path.rtt else []


def target(held: Held) -> Target:
    """Return the target of one cell."""
    (found,) = report.wall_target(1.0, report.fastest(held.rows), "the fastest peer")
    return replace(found, what=f"{held.title}: {found.what}")


def table(cells: Mapping[tuple[int, Path], Held]) -> Iterator[str]:
    """Return the lines of a Markdown table: a row for each size, a column for each path."""
    columns = list(dict.fromkeys(path for _, path in cells))
    yield f"| file | {' | '.join(map(str, columns))} |"
    yield "|---" * (1 + len(columns)) + "|"
    for size in dict.fromkeys(size for size, _ in cells):
        yield f"| {size / 1e6:g} MB | {' | '.join(cell(cells[size, path]) for path in columns)} |"


def cell(held: Held) -> str:
    """Return bigupload's seconds, and their ratio to the fastest peer's. A ratio above 1 is bold."""
    seconds = f"{report.own(held.rows).seconds.median:.2f} s"
    best = report.fastest(held.rows)
    if best is None or best.ratio is None:
        return seconds
    ratio = f"{best.ratio.median:.2f}"
    return f"{seconds}, {ratio if target(held).holds else f'**{ratio}**'} × {best.name}"


def main() -> int:
    made = parser(__doc__, size="256MB", rounds=3)
    made.add_argument("--sizes", default=SIZES, metavar="A,B,…", help=f"Sizes of the files. [{SIZES}]")
    made.add_argument("--rtts", default=RTTS, metavar="A,B,…", help=f"Round trips in milliseconds. [{RTTS}]")
    made.add_argument("--rate", default=RATE, help=f"Of each connection to a far store, without --path. [{RATE}]")
    made.add_argument("--schemes", default="http,https", metavar="A,B", help="[http,https]")
    made.add_argument("--path", action="store_true", help="Far stores are behind a link between network namespaces.")
    made.add_argument("--link", type=parse_rate, default=LINK, help=f"The rate of that link. [{LINK / 1e6:g}MB/s]")
    made.add_argument("--inside", action="store_true", help="Measure a call within a running process.")
    made.add_argument("--brief", action="store_true", help="The ends of both scales in one round.")
    arguments = made.parse_args()
    sizes = [parse_size(text) for text in arguments.sizes.split(",")]
    rtts = [float(text) for text in arguments.rtts.split(",")]
    if arguments.brief:
        sizes, rtts = sorted({min(sizes), max(sizes)}), sorted({min(rtts), max(rtts)})
        arguments.rounds = 1
    contestants = chosen(arguments, only=INSIDE if arguments.inside else PEERS)
    if not arguments.contestants:
        contestants = [each for each in contestants if not each.tuned]
    paths = [Path(tls=scheme == "https", rtt=rtt) for scheme in arguments.schemes.split(",") for rtt in rtts]
    cells = {(size, path): measure(arguments, contestants, size, path) for path in paths for size in sizes}
    for held in cells.values():
        report.show(held.title, held.rows, held.cpu)
    print("\n".join(table(cells)), flush=True)
    targets = [target(held) for held in cells.values()]
    if arguments.json is not None:
        figures = {
            "arguments": vars(arguments),
            "peers": Peers(arguments.peers).versions(),
            "contests": list(cells.values()),
        }
        report.write(arguments.json, "medium", figures, targets)
    return report.conclude(targets)
