"""All benchmarks that have a target, in one table.  `python -m benchmarks all --quick`, or `--full`

--quick takes about ten minutes: small files, few rounds, and of the peers those that are fast or well known. --full
takes hours: each benchmark as it is by itself. Both need the peers: `python -m benchmarks peers`. What needs root is
left out for others.

Each line of the table is a target, what was found, and `yes` or `NO`. `--json FILE` writes all figures of this run
into one file, of which `python -m benchmarks plots FILE` makes the plots. `--output FILE` writes what the benchmarks
print themselves. The exit status is 1 if a target is missed or a benchmark failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from . import report
from .report import Target

_FAST = "bigupload,mc:tuned,mc:crc,crt:crc,obstore,boto3:tuned"
_SMALL = "bigupload,bigupload:sync,bigupload:library,bigupload:gather,s5cmd,obstore,boto3"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One benchmark with its options. `quick` are those for --quick; None: it is a part of --full alone.

    `figures`: it has an option `--json`.
    """

    name: str
    options: str = ""
    quick: str | None = None
    root: bool = False
    figures: bool = True

    def command(self, *, quick: bool, figures: Path) -> list[str]:
        shorter = (self.quick or "") if quick else ""
        written = ["--json", str(figures)] if self.figures else []
        return [sys.executable, "-m", "benchmarks", self.name, *self.options.split(), *shorter.split(), *written]

    @property
    def title(self) -> str:
        return f"{self.name} {self.options}".strip()


ENTRIES = (
    Entry(name="throughput", quick=f"--size 3GB --rounds 3 --contestants {_FAST}"),
    Entry(name="throughput", options="--tls", quick=f"--size 3GB --rounds 3 --contestants {_FAST}"),
    Entry(name="throughput", options="--tiny", quick="--rounds 5 --contestants bigupload,boto3,obstore,s5cmd"),
    Entry(name="throughput", options="--seaweedfs"),
    Entry(name="pipe", quick="--size 1GB --rounds 1 --contestants bigupload,mc,obstore"),
    Entry(name="pipe", options="--tls"),
    Entry(name="writers"),
    Entry(name="writers", options="--leaves --size 200MB"),
    Entry(name="latency", quick="--size 256MB --rounds 1 --contestants bigupload,crt,obstore"),
    Entry(name="latency", options="--path", root=True),
    Entry(name="medium", quick="--brief"),
    Entry(name="medium", options="--inside", quick="--brief"),
    Entry(name="sweep", root=True, quick="--size 64MB --rounds 1 --rtts 10,50,150 --losses 0,0.1,1"),
    Entry(name="faults", quick="--size 500MB --rounds 2 --contestants bigupload,crt"),
    Entry(name="faults", options="--slow-down"),
    Entry(name="files", quick=f"--rtt 5 --rounds 2 --contestants {_SMALL}"),
    Entry(name="sync", quick="--files 10000,100000 --rounds 1 --contestants bigupload,rclone:checksum"),
    Entry(name="tree"),
    Entry(name="tree", options="--sync"),
    Entry(name="resume", quick="--size 1GB --rounds 1"),
    Entry(name="scale", quick="--sizes 0.1GB,1GB,5GB,20GB --rounds 1 --parts 0"),
    Entry(name="growth"),
    Entry(name="service", quick="--seconds 1"),
    Entry(name="service_load"),
    Entry(name="service_load", options="--clients 200"),
    Entry(name="owner_growth"),
    Entry(name="memory", quick="--size 500MB", figures=False),
    Entry(name="stream"),
    Entry(name="delta", quick="--size 250e6", figures=False),
    Entry(name="interruptions", root=True, quick="--rates 0.5MB/s,5MB/s,50MB/s --kills 1"),
    Entry(name="paths", root=True, quick="--quick --kinds reader,buffering --kills 2 --fixed 8"),
    Entry(name="closed_page", quick="--rates 2MB/s --closes 1"),
    Entry(name="fairness", figures=False),
    Entry(name="loop_lag", figures=False),
    Entry(name="ten_thousand", figures=False),
    Entry(name="dask"),
    Entry(name="controller", figures=False),
)


def outcomes(lines: Sequence[str], status: int) -> Iterator[Target]:
    """Read the targets out of what a benchmark printed. One that ends without any has failed."""
    found = [line for line in lines if line.startswith(("yes ", "NO  "))]
    for line in found:
        what, _, figure = line[4:].partition(": ")
        yield Target(what=what, found=figure, holds=line.startswith("yes"))
    if status not in (0, 1) or (status == 1 and all(line.startswith("yes ") for line in found)):
        last = next((line for line in reversed(lines) if line.strip()), "")
        yield Target(what="ends", found=f"exit status {status}: {last[:80]}", holds=False)


def _run(command: Sequence[str], output: IO[str]) -> tuple[list[str], int]:
    output.write(f"\n== {' '.join(command[1:])}\n")
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                lines.append(line.rstrip())
                output.write(line)
                output.flush()
        finally:
            if child.poll() is None:
                child.terminate()
        status = child.wait()
    return lines, status


def _print(entry: Entry, targets: Sequence[Target]) -> None:
    for target in targets:
        print(f"{'yes' if target.holds else 'NO':<4}{entry.title:<20} {target.what}: {target.found}", flush=True)


def _figures_of(file: Path) -> Any:
    """Return what a benchmark wrote; None if it failed before that."""
    return json.loads(file.read_text()) if file.exists() and file.stat().st_size else None


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    length = made.add_mutually_exclusive_group(required=True)
    length.add_argument("--quick", action="store_true", help="About ten minutes.")
    length.add_argument("--full", action="store_true", help="Hours.")
    made.add_argument("--only", metavar="NAME", help="Only the benchmark of this name.")
    made.add_argument("--output", type=Path, default=os.devnull, metavar="FILE", help="Write what they print there.")
    made.add_argument("--json", type=Path, metavar="FILE", help="Write all figures there.")
    arguments = made.parse_args()
    found: list[Target] = []
    figures: dict[str, Any] = {}
    with open(arguments.output, "w") as output, tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        for number, entry in enumerate(ENTRIES):
            if arguments.only not in (None, entry.name) or (arguments.quick and entry.quick is None):
                continue
            if entry.root and os.geteuid() != 0:
                print(f"    {entry.title:<20} left out: it needs root")
                continue
            began, written = time.monotonic(), Path(name) / f"{number}.json"
            targets = list(outcomes(*_run(entry.command(quick=arguments.quick, figures=written), output)))
            _print(entry, targets)
            print(f"    {entry.title:<20} took {time.monotonic() - began:.0f} s", flush=True)
            found += targets
            if (of := _figures_of(written)) is not None:
                figures[entry.title] = of
            if arguments.json is not None:  # each time, so that a run that is ended early leaves what it found
                report.write(arguments.json, "all", {"arguments": vars(arguments), "benchmarks": figures}, found)
    return 0 if all(target.holds for target in found) else 1
