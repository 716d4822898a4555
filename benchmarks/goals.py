"""The goals for speed in one table: another version of bigupload, this one and the peers, by turns.

    python -m benchmarks goals --old REF [--json FILE] [--into docs/performance.md]

`--old` is a git reference. That version is installed into an environment of its own beside the peers. Each line of the
table has the contestants that have been the fastest at that work, who take turns in each round. What needs a path of
packets needs root. All of it takes about ten minutes on two cores. `--brief` takes a minute, to see that it works.

The table is Markdown: seconds, CPU seconds a GiB and resident memory, each the median over the rounds. "With proof" are
the peers that send a checksum with each part. The exit status is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bigupload.units import parse_size

from . import files as small_files
from . import report
from .command import files, hold, parser, write_random
from .contest import Run
from .contestants import CRC64, OURS, Contestant, everyone, library, ourselves
from .latency import LINK, RATE, RTT
from .peering import Peers
from .report import Row, Target
from .stores import null_store
from .versions import Version, installed

OLD = f"{OURS}:old"
FILES, FILE_SIZE = 2000, parse_size("100KB")
MANY = 5
"""Rounds, where the machine's other work shows most."""
FILES_OF_OLD = 200
"""Before `upload_many`, a file took a tenth of a second."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the lines of the table have in common."""

    arguments: argparse.Namespace
    peers: Peers
    old: Version | None

    def contestants(self, names: str, *options: str) -> list[Contestant]:
        """Return both versions of bigupload, and the peers of these names that are installed."""
        found = everyone(self.peers)
        both = [ourselves(OURS, *options)]
        if self.old is not None:
            both.append(ourselves(OLD, *options, python=self.old.python, tree=self.old.tree))
        return both + [found[name] for name in names.split(",") if name in found]

    def rounds(self, count: int) -> argparse.Namespace:
        """The arguments with `count` rounds, unless `--rounds` or `--brief` gives a number."""
        rounds = self.arguments.rounds or (1 if self.arguments.brief else count)
        return argparse.Namespace(**{**vars(self.arguments), "rounds": rounds})

    def size(self, text: str) -> int:
        return parse_size("64MB") if self.arguments.brief else parse_size(text)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One work. `cell` describes a row of it."""

    work: str
    rows: Sequence[Row]
    targets: Sequence[Target]
    cell: Callable[[Row], str]


def _cell(row: Row) -> str:
    if not row.finished:
        return f"{row.outcome}: {row.why}"
    parts = [f"{row.seconds.median:.2f} s"]
    if row.cpu is not None:
        parts.append(f"{row.cpu.median:.2f} CPU s/GiB")
    if row.peak is not None:
        parts.append(f"{row.peak / 1e6:.0f} MB")
    return ", ".join(parts)


def _tiny_cell(row: Row) -> str:
    return f"{row.seconds.median:.3f} s" if row.finished else f"{row.outcome}: {row.why}"


def _rate_cell(row: Row) -> str:
    """A row of which `seconds` are those of one file."""
    cpu = f", {_microseconds(row.cpu.median)} µs of CPU" if row.cpu else ""
    return f"{1 / row.seconds.median:,.0f} files/s{cpu}"


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}"


# -- the lines


def _null(settings: Settings, *, tls: bool) -> Line:
    """The whole process against a store that takes what comes."""
    size = settings.size("3GB")
    names = "mc:tuned,mc:crc,obstore:tuned,obstore,crt"
    with _made(settings, size) as (file, warm):
        held = hold(
            f"{'https' if tls else 'http'}, null store, {size / 1e9:g} GB, whole process",
            settings.contestants(names),
            settings.rounds(MANY if tls else 3),
            null_store(tls=tls),
            file=file,
            warm=warm,
            tls=tls,
        )
    wall, cpu = (1.0, 0.9) if tls else (0.7, 0.6)
    targets = [
        *report.wall_target(wall, report.fastest(held.rows), "the fastest peer"),
        *report.cpu_target(held.rows, cpu, report.thriftiest(held.rows, proving=True), "the best peer with proof"),
    ]
    return Line(work=held.title, rows=held.rows, targets=targets, cell=_cell)


def _far(settings: Settings) -> Line:
    """A store 30 ms away that takes little from each connection."""
    size = settings.size("1GiB")
    store = null_store(["--rtt", str(RTT), "--rate", RATE])
    with _made(settings, size) as (file, warm):
        held = hold(
            f"{RTT * 1e3:g} ms, {RATE} a connection, {size / 2**30:.3g} GiB",
            settings.contestants("crt,obstore,boto3"),
            settings.rounds(MANY),
            store,
            file=file,
            warm=warm,
        )
    targets = report.wall_target(0.9, report.fastest(held.rows), "the fastest peer")
    return Line(work=held.title, rows=held.rows, targets=targets, cell=_cell)


def _lossy(settings: Settings, *, control: str) -> Line:
    """A real path with losses. With Reno for all, bigupload asks for BBR, as it does by default."""
    from . import path  # only here: it exists only on Linux

    size = settings.size("256MiB")
    factor, whose = (1.0, "BBR for all") if control == "bbr" else (0.3, "Reno, and BBR where it is asked for")
    with (
        path.path(rtt=0.05, rate=LINK, loss=0.001, congestion_control=control) as there,
        _made(settings, size) as (file, warm),
    ):
        held = hold(
            f"50 ms, 1 Gbit/s, 0.1 % loss, {size / 2**20:.0f} MiB, {whose}",
            settings.contestants("crt,obstore,obstore:tuned"),
            settings.rounds(MANY),
            null_store(["--host", there.server_address], prefix=there.server_prefix),
            file=file,
            warm=warm,
            prefix=there.client_prefix,
        )
    targets = report.wall_target(factor, report.fastest(held.rows), "the fastest peer")
    return Line(work=held.title, rows=held.rows, targets=targets, cell=_cell)


def _tiny(settings: Settings) -> Line:
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        file = Path(name) / "tiny.bin"
        file.write_bytes(bytes(1024))
        held = hold(
            "1 KiB direct, whole process",
            settings.contestants("boto3,obstore,s5cmd"),
            settings.rounds(9),
            null_store(),
            file=file,
            warm=file,
        )
    boto3 = next((row for row in held.rows if row.name == "boto3"), None)
    targets = report.wall_target(0.27, boto3, "boto3's upload_file")
    return Line(work=held.title, rows=held.rows, targets=targets, cell=_tiny_cell)


def _small(settings: Settings) -> Line:
    """Files of 100 KB, 5 ms away, by one `Uploader`: `upload_many`, which the old version may not have."""
    count = 200 if settings.arguments.brief else FILES
    everybody = {each.name: each for each in small_files.everyone(settings.peers)}
    new = replace(everybody[f"{OURS}:library"], name=OURS)
    peers = [everybody[name] for name in ("s5cmd", "obstore", "boto3") if name in everybody]
    runs = _of_files(settings, [new, *peers], count, rounds=3)
    if settings.old is not None:
        (made,) = library(OLD, settings.old.python, "each_bigupload.py", CRC64, CRC64)
        tree = {"BIGUPLOAD_STATE_DIR": "{job.scratch}/state", "PYTHONPATH": str(settings.old.tree)}
        runs += _of_files(settings, [replace(made, settings=tree)], FILES_OF_OLD, rounds=1)
    rows = report.rows(runs, {})
    work = f"{count:,} files of 100 KB, 5 ms, one `Uploader`"
    rival = {row.name: row for row in rows}.get
    targets = [
        *report.wall_target(0.75, rival("s5cmd"), "s5cmd"),
        *report.cpu_target(rows, 1.15, rival("obstore"), "obstore", unit="µs a file", figure=_microseconds),
    ]
    return Line(work=work, rows=rows, targets=targets, cell=_rate_cell)


def _of_files(settings: Settings, those: Sequence[Contestant], count: int, *, rounds: int) -> list[Run]:
    """Return runs of which time and CPU are those of one file."""
    options = {**vars(settings.rounds(rounds)), "rtt": [5.0], "size": FILE_SIZE}
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        for number in range(count):
            write_random(Path(name) / f"{number:06}.bin", FILE_SIZE)
        os.sync()
        found = small_files.measure(argparse.Namespace(**options), those, Path(name))
    return [
        Run(
            contestant=each.contestant,
            round=each.round,
            outcome="done",
            size=FILE_SIZE,
            seconds=each.seconds / each.count,
            cpu=each.cpu / each.count,
            peak=each.peak,
        )
        for each in found
    ]


@contextlib.contextmanager
def _made(settings: Settings, size: int) -> Iterator[tuple[Path, Path]]:
    with files(argparse.Namespace(**{**vars(settings.arguments), "size": size})) as found:
        yield found


LINES: Mapping[str, Callable[[Settings], Line]] = {
    "http": lambda settings: _null(settings, tls=False),
    "https": lambda settings: _null(settings, tls=True),
    "far": _far,
    "bbr": lambda settings: _lossy(settings, control="bbr"),
    "reno": lambda settings: _lossy(settings, control="reno"),
    "tiny": _tiny,
    "files": _small,
}
NEEDING_ROOT = frozenset({"bbr", "reno"})


# -- the table


def table(lines: Sequence[Line], old: str | None) -> Iterator[str]:
    """Return the lines of a Markdown table."""
    yield f"| work | {old or 'before'} | bigupload | best peer | ratio, and the goal | met |"
    yield "|---|---|---|---|---|---|"
    for line in lines:
        of = {row.name: line.cell(row) for row in line.rows}
        best = report.fastest(line.rows)
        peer = f"{best.name}: {line.cell(best)}" if best else "none installed"
        goals = "; ".join(f"{target.what}: {target.found}" for target in line.targets)
        met = "yes" if all(target.holds for target in line.targets) else "NO"
        yield f"| {line.work} | {of.get(OLD, '')} | {of.get(OURS, '')} | {peer} | {goals} | {met} |"


def main() -> int:
    made = parser(__doc__, size="3GB", rounds=None)
    made.add_argument("--old", metavar="REF", help="A version in git to compare with.")
    made.add_argument("--only", choices=LINES, action="append", help="Only this line; may be repeated.")
    made.add_argument("--brief", action="store_true", help="Small files and one round: only to see that it works.")
    made.add_argument("--into", type=Path, metavar="PAGE", help="Put the table into this page, too.")
    arguments = made.parse_args()
    if arguments.file or arguments.contestants or arguments.list:
        made.error("each line has files and contestants of its own: neither --file, --contestants nor --list")
    old = installed(arguments.old, arguments.peers) if arguments.old else None
    settings = Settings(arguments=arguments, peers=Peers(arguments.peers), old=old)
    lines = []
    for name in arguments.only or LINES:
        if name in NEEDING_ROOT and os.geteuid() != 0:
            print(f"{name} is left out: it needs root")
            continue
        line = LINES[name](settings)
        lines.append(line)
        report.show(line.work, line.rows, "CPU s/GiB")
    made_table = list(table(lines, arguments.old))
    print("\n".join(made_table), flush=True)
    if arguments.into is not None:
        report.insert(
            arguments.into, "goals", made_table, {"Python": platform.python_version(), **settings.peers.versions()}
        )
    if arguments.json is not None:
        report.write(arguments.json, "goals", _figures(arguments, lines), [t for line in lines for t in line.targets])
    return report.conclude([target for line in lines for target in line.targets])


def _figures(arguments: argparse.Namespace, lines: Sequence[Line]) -> dict[str, Any]:
    return {
        "arguments": vars(arguments),
        "peers": Peers(arguments.peers).versions(),
        "lines": [{"work": line.work, "rows": line.rows, "targets": line.targets} for line in lines],
    }
