"""Does the cost grow only with the number of bytes?  `python -m benchmarks scale`

bigupload alone sends to a null store: 0.1, 1, 5 and 20 GB, and then the bytes of 10,000 parts of 5 MiB, in those parts
and in a hundredth of them. The files are holes, in a tmpfs if there is one (--dir names another place): each byte is
read from the kernel's one page of zeros, so that neither the disk nor the page cache is measured. That lowers the cost
of a byte, but hides no cost that grows. The cost of a 1 KiB upload, which is that of the start, is subtracted. The
table shows both.

The exit status is 1 if a target is missed: CPU a GiB beyond the start and resident memory within 10 % of their median
over the sizes; 10,000 parts ≤ 1 ms CPU each beyond what the bytes cost.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bigupload.units import parse_size

from . import report
from .command import files, parser, write_sparse
from .contest import Contest, Run, describe
from .contestants import OURS, Contestant, ourselves
from .report import Spread, Target
from .stores import null_store

SIZES = "0.1GB,1GB,5GB,20GB"
TINY = 1024
PART = 5 << 20
FEWER = 100
"""How many times fewer parts the comparison has, for the same bytes."""
GIB = 1 << 30


def beyond(runs: Sequence[Run], start: float) -> float:
    """Return the CPU seconds a GiB of the bytes alone: the median."""
    return Spread.of((run.cpu - start) / (run.size / GIB) for run in runs).median


def flatness(values: Sequence[float]) -> float:
    """Return the largest distance from the median, as a share of it."""
    middle = Spread.of(values).median
    return max(abs(value - middle) for value in values) / middle


def targets(by_size: Mapping[int, Sequence[Run]], start: float) -> list[Target]:
    costs = [beyond(runs, start) for runs in by_size.values()]
    peaks = [Spread.of(run.peak for run in runs).median for runs in by_size.values()]
    cost, peak = flatness(costs), flatness(peaks)
    return [
        Target(
            what="CPU a GiB beyond the start flat within 10 %",
            found=f"{cost:.1%}: {', '.join(f'{each:.2f}' for each in costs)} s/GiB",
            holds=cost <= 0.1,
        ),
        Target(
            what="resident memory flat within 10 %",
            found=f"{peak:.1%}: {', '.join(f'{each / 1e6:.0f}' for each in peaks)} MB",
            holds=peak <= 0.1,
        ),
    ]


def part_target(many: Sequence[Run], few: Sequence[Run], parts: int) -> Target:
    """Compare the same bytes in many parts and in few. The difference is the cost of the parts."""
    more = Spread.of(run.cpu for run in many).median - Spread.of(run.cpu for run in few).median
    each = more / (parts - parts // FEWER)
    return Target(what=f"{parts:,} parts ≤ 1 ms CPU each", found=f"{each * 1e3:.2f} ms", holds=each <= 1e-3)


def measure(contest: Contest, plan: Sequence[tuple[Contestant, int]], rounds: int, where: Path) -> list[Run]:
    """Run the sizes by turns, each with a new file."""
    found: list[Run] = []
    for number in range(1, rounds + 1):
        for contestant, size in plan:
            file = where / f"hole-{size}.bin"
            write_sparse(file, size)
            once = contest.once(contestant, number, file)
            file.unlink()
            print(f"  round {number}  {size / 1e9:8.3f} GB  {describe(once)}", flush=True)
            if once.outcome != "done":
                raise SystemExit(f"{once.outcome}: {once.why}")
            found.append(once)
    return found


def show(by_size: Mapping[int, Sequence[Run]], start: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="bigupload, null store, http, files of holes", title_justify="left")
    for column in ("GB", "parts", "seconds", "MB/s", "CPU s", "CPU s/GiB", "beyond the start", "resident MB"):
        table.add_column(column, justify="right")
    for size, runs in sorted(by_size.items()):
        seconds = Spread.of(run.seconds for run in runs)
        table.add_row(
            f"{size / 1e9:g}",
            str(runs[0].counts["parts"]),
            str(seconds),
            f"{size / seconds.median / 1e6:,.0f}",
            str(Spread.of(run.cpu for run in runs)),
            f"{Spread.of(run.cpu_per_gib for run in runs).median:.2f}",
            f"{beyond(runs, start):.2f}",
            f"{Spread.of(run.peak for run in runs).median / 1e6:.0f}",
        )
    Console(width=120).print(table)


def main() -> int:
    made = parser(__doc__, size="64MB", rounds=3)
    made.add_argument("--sizes", default=SIZES, metavar="A,B,…", help=f"[{SIZES}]")
    made.add_argument("--parts", type=int, default=10_000, help="Of 5 MiB; 0: leave that out. [10000]")
    arguments = made.parse_args()
    if arguments.file or arguments.contestants:
        made.error("the files are made for each run, and there are no peers: neither --file nor --contestants")
    sizes = [parse_size(each) for each in arguments.sizes.split(",")]
    many, few = f"{OURS}:many", f"{OURS}:few"
    plan = [(ourselves(), TINY), *((ourselves(), size) for size in sizes)]
    if arguments.parts:
        whole = arguments.parts * PART
        plan += [
            (ourselves(many, "--part-size", str(PART)), whole),
            (ourselves(few, "--part-size", str(FEWER * PART)), whole),
        ]
    runs = _runs(arguments, plan)
    start = Spread.of(run.cpu for run in runs if run.size == TINY).median
    by_size = {size: [run for run in runs if run.contestant == OURS and run.size == size] for size in sizes}
    show({TINY: [run for run in runs if run.size == TINY], **by_size}, start)
    checked = targets(by_size, start)
    if arguments.parts:
        in_many, in_few = ([run for run in runs if run.contestant == name] for name in (many, few))
        checked.append(part_target(in_many, in_few, arguments.parts))
    if arguments.json is not None:
        report.write(arguments.json, "scale", {"arguments": vars(arguments), "runs": runs}, checked)
    return report.conclude(checked)


def _memory() -> Path | None:
    found = Path("/dev/shm")
    return found if found.is_dir() else None


def _runs(arguments: argparse.Namespace, plan: Sequence[tuple[Contestant, int]]) -> list[Run]:
    with (
        files(arguments, sparse=True) as (file, _),
        tempfile.TemporaryDirectory(prefix="bigupload-bench-", dir=arguments.dir or _memory()) as name,
    ):
        contest = Contest(file=file, store=null_store(), patience=arguments.patience, lock=arguments.lock)
        contest.once(ourselves(), 0, file)
        return measure(contest, plan, arguments.rounds, Path(name))
