"""What does more cost: bytes, parts, files, processes?  `python -m benchmarks growth [--pythons PATH,…]`

bigupload alone sends sparse files from 0.1 to 100 GB to a null store, 10,000 parts of 5 MiB, a directory of 10,000
files of 1 KiB, and 2 GB over 1, 2 and 4 Dask workers with eight connections of 14 MB/s each. `--pythons` names
interpreters that have bigupload's dependencies installed; they take turns at each work. Measured is the whole process,
with all processes that it starts.

The table has for each Python the seconds, the CPU time of a part or file, without the start, and the largest resident
set of a single process. The start is that of an upload of 1 KiB. `--brief` leaves out what takes more than a few
seconds.

The exit status is 1 if a target is missed: the largest file needs at most 1.1 times the memory of one of 1 GB, and so
do 10,000 parts.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bigupload
from bigupload.units import parse_size

from . import files as small_files
from . import report
from .children import Ended
from .command import parser, write_sparse
from .contest import Contest
from .contestants import OURS, ourselves
from .report import Target
from .stores import null_store

SIZES = ("0.1GB", "1GB", "10GB", "100GB")
PART = 5 << 20
PARTS = FILES = 10_000
TINY = 1024
CACHED = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
"""Bytes of a file that are read before the first upload: half of the memory. More could drop the first ones again."""
WORKERS = (1, 2, 4)
CONNECTIONS, RATE, SPREAD = 8, "14MB/s", parse_size("2GB")
MOST = 1.1
START, COMPARED, IN_PARTS = "start: 1 KiB", "1GB", f"{PARTS:,} parts of 5 MiB"


@dataclass(frozen=True, kw_only=True)
class Work:
    """One line of the table: a file of so many bytes, or, with `files`, a directory of so many files of that size."""

    title: str
    size: int
    options: tuple[str, ...] = ()
    files: int = 0
    knobs: tuple[str, ...] = ()
    """Of the null store."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One upload by one Python. CPU in seconds, memory in bytes; `count`: parts or files."""

    work: str
    python: str
    seconds: float
    cpu: float
    peak: int
    count: int


def works(*, brief: bool) -> list[Work]:
    found = [Work(title=START, size=TINY)]
    found += [Work(title=size, size=parse_size(size)) for size in (SIZES[:2] if brief else SIZES)]
    if not brief:
        found.append(Work(title=IN_PARTS, size=PARTS * PART, options=("--part-size", str(PART))))
    count = FILES // 10 if brief else FILES
    found.append(Work(title=f"{count:,} files of 1 KiB", size=TINY, files=count))
    for workers in WORKERS[:2] if brief else WORKERS:
        options = ("--dask", f"local:{workers}", "--concurrency", str(CONNECTIONS * workers))
        title = f"{SPREAD / 1e9:g} GB over {workers} Dask worker{'s' if workers > 1 else ''}"
        found.append(Work(title=title, size=SPREAD, options=options, knobs=("--rate", RATE)))
    return found


def named(python: str) -> str:
    """Return a Python's version, with a `t` behind it if it is free-threaded."""
    code = (
        "import sys, sysconfig; print(sys.version.split()[0] + 't' * bool(sysconfig.get_config_var('Py_GIL_DISABLED')))"
    )
    return subprocess.run([python, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def measure(work: Work, python: str, directory: Path, patience: float) -> Cost:
    """Run one upload. Raises SystemExit if it fails, or if the store did not get exactly what was sent."""
    contestant = ourselves(OURS, *work.options, python=python)
    store = null_store(work.knobs)
    if work.files:
        ended = _directory(work, python, directory, patience)
        return Cost(
            work=work.title,
            python=named(python),
            seconds=ended.seconds,
            cpu=ended.cpu,
            peak=ended.peak,
            count=work.files,
        )
    file = directory / "sparse.bin"
    if not file.exists():
        write_sparse(file, work.size)
        _cache(file)
    run = Contest(file=file, store=store, patience=patience).once(contestant, 1, file)
    if run.outcome != "done":
        raise SystemExit(f"{work.title}, {python}: {run.outcome}: {run.why}")
    return Cost(
        work=work.title,
        python=named(python),
        seconds=run.seconds,
        cpu=run.cpu,
        peak=run.peak,
        count=run.counts["parts"] or 1,
    )


def _cache(file: Path) -> None:
    """Let the kernel cache the file's zeros, as far as it has room: the first Python must not pay for the pages."""
    with file.open("rb", buffering=0) as zeros:
        for _ in range(CACHED >> 20):
            if not zeros.read(1 << 20):
                return


def _directory(work: Work, python: str, directory: Path, patience: float) -> Ended:
    """Upload a directory of small files."""
    files = directory / "files"
    files.mkdir(exist_ok=True)
    names = [f"{number:06}.bin" for number in range(work.files)]
    for name in names:
        write_sparse(files / name, work.size)
    with null_store()(directory, 1) as store:
        return small_files.one(ourselves(python=python), store, files, names, work.size, patience)


# -- the table


def _cell(cost: Cost | None, start: Cost | None) -> str:
    if cost is None:
        return "not measured"
    if start is None or cost.work == START:
        return f"{cost.seconds:.2f} s, CPU {cost.cpu:.2f} s, {cost.peak / 1e6:.0f} MB"
    each = (cost.cpu - start.cpu) / cost.count
    return f"{cost.seconds:.1f} s, {each * 1e3:.2f} ms, {cost.peak / 1e6:.0f} MB"


def table(costs: Sequence[Cost]) -> Iterator[str]:
    """Return the lines of a Markdown table: a line for each work, a column for each Python."""
    pythons = list(dict.fromkeys(each.python for each in costs))
    of = {(each.work, each.python): each for each in costs}
    yield f"| work | parts or files | {' | '.join(f'Python {python}' for python in pythons)} |"
    yield "|---" * (len(pythons) + 2) + "|"
    for work in dict.fromkeys(each.work for each in costs):
        counts = {each.count for each in costs if each.work == work}
        cells = [_cell(of.get((work, python)), of.get((START, python))) for python in pythons]
        yield f"| {work} | {' to '.join(f'{count:,}' for count in sorted(counts))} | {' | '.join(cells)} |"


def targets(costs: Sequence[Cost]) -> list[Target]:
    found = []
    for python in dict.fromkeys(each.python for each in costs):
        peaks = {each.work: each.peak for each in costs if each.python == python}
        for title in (SIZES[-1], IN_PARTS):
            if title in peaks:
                ratio = peaks[title] / peaks[COMPARED]
                what = f"Python {python}: {title} in ≤ {MOST} × the memory of {COMPARED}"
                found.append(Target(what=what, found=f"{ratio:.2f} ×", holds=ratio <= MOST))
    return found


def main() -> int:
    made = parser(__doc__, size="1GB", rounds=1)
    made.add_argument("--pythons", default=sys.executable, metavar="PATH,…", help="Interpreters. [this one]")
    made.add_argument("--brief", action="store_true", help="Only what takes a few seconds.")
    made.add_argument("--only", metavar="TEXT", help="Only the works with this in their title, and the start.")
    made.add_argument("--into", type=Path, metavar="PAGE", help="Put the table into this page, too.")
    arguments = made.parse_args()
    costs: list[Cost] = []
    failures: list[Target] = []
    compileall.compile_dir(Path(bigupload.__file__).parent, quiet=2)
    pythons = [str(Path(each).absolute()) for each in arguments.pythons.split(",")]
    for python in pythons[1:]:
        subprocess.run([python, "-m", "compileall", "-q", Path(bigupload.__file__).parent], check=True)
    all_work = list(works(brief=arguments.brief))
    for python in pythons:  # its first start compiles modules
        with tempfile.TemporaryDirectory(prefix="bigupload-bench-", dir=arguments.dir) as name:
            measure(all_work[0], python, Path(name), arguments.patience)
    for work in all_work:
        if arguments.only and work.title != START and arguments.only not in work.title:
            continue
        with tempfile.TemporaryDirectory(prefix="bigupload-bench-", dir=arguments.dir) as name:
            for python in pythons:
                try:
                    costs.append(measure(work, python, Path(name), arguments.patience))
                except SystemExit as failed:
                    failures.append(Target(what=f"{work.title} is uploaded", found=str(failed), holds=False))
                    print(f"  {failed}", flush=True)
                else:
                    print(f"  {costs[-1]}", flush=True)
    made_table = list(table(costs))
    print("\n".join(made_table), flush=True)
    if arguments.into is not None:
        report.insert(arguments.into, "growth", made_table, {})
    checked = targets(costs) + failures
    if arguments.json is not None:
        report.write(arguments.json, "growth", {"arguments": vars(arguments), "costs": costs}, checked)
    return report.conclude(checked)
