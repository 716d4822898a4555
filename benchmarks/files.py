"""How many small files a second?  `python -m benchmarks files [--count 2000] [--size 100KB] [--rtt 0,5,50]`

The files of one directory to the null store over http, with a round trip of so many milliseconds. The contestants take
turns within each round. Measured is the whole process: files a second, CPU time a file, the largest resident set. The
commands of bigupload also record which files are in the store, with an fsync. `bigupload:sync` lists the prefix, which
is empty, before it sends. `bigupload:library` is `upload_many` without a record, and `bigupload:gather` is `upload` of
each file, all at once. Everyone gets the same files, from the page cache, and the benchmark stops if the store received
other bytes than those.

The exit status is 1 if at 5 ms `bigupload upload`, `sync` or `upload_many` sends fewer files a second than s5cmd, if
`bigupload upload` or `bigupload:gather` sends fewer than 3 × boto3 in 16 threads, if `bigupload:gather` sends fewer
than 0.8 × `bigupload:library`, or if that needs more than 1.5 × the CPU time of obstore, which is a library, too. The
command also reads options and records each file: its CPU time is told without a target.
"""

from __future__ import annotations

import argparse
import compileall
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import bigupload
from bigupload.units import parse_size

from . import report
from .children import Ended, own_peak, run
from .command import write_random
from .contest import turn
from .contestants import CRC32, CRC64, MD5, OURS, SHA256, Contestant, Job, command, library, only
from .peering import Peers, default_directory
from .report import Spread, Target
from .stores import Store, null_store

SYNC = f"{OURS}:sync"
LIBRARY = f"{OURS}:library"
GATHER = f"{OURS}:gather"
MOST_CPU = 1.5
LEAST_OF_BOTO3 = 3.0
LEAST_OF_LIBRARY = 0.8
TARGETS_AT = 5.0
"""Milliseconds of round trip for which the targets hold."""


@dataclass(frozen=True, kw_only=True)
class FilesRun:
    """One contestant's turn."""

    contestant: str
    rtt: float
    round: int
    count: int
    seconds: float
    cpu: float
    peak: int

    @property
    def rate(self) -> float:
        """Files a second."""
        return self.count / self.seconds

    @property
    def cpu_per_file(self) -> float:
        """Microseconds."""
        return self.cpu / self.count * 1e6


def everyone(peers: Peers) -> list[Contestant]:
    """Return the installed contestants, bigupload first. `Job.file` is the directory, `Job.key` the prefix."""
    to = ["{job.file}/", "s3://{job.bucket}/{job.key}"]
    options = [to[0], "--to", to[1], "--endpoint-url", "{job.url}", "--progress", "none"]
    own = {"BIGUPLOAD_STATE_DIR": "{job.scratch}/state", "PYTHONPATH": str(Path(__file__).parent.parent)}
    main, both = peers.python("main", "boto3"), f"{SHA256}, {MD5}"
    remote = {f"RCLONE_CONFIG_NULL_{name}": value for name, value in _RCLONE.items()}
    rclone = ["copy", "{job.file}", "null:{job.bucket}/{job.key}", "--s3-no-check-bucket", "--transfers", "16"]
    cli = ["--endpoint-url", "{job.url}", "s3", "cp", "--recursive", "--no-progress", *to]
    scripts = [
        *library(LIBRARY, sys.executable, "many_bigupload.py", CRC64, CRC64),
        *library(GATHER, sys.executable, "gather_bigupload.py", CRC64, CRC64),
    ]
    return [
        *command(OURS, sys.executable, ["-m", "bigupload", "upload", *options], CRC64, CRC64, own),
        *command(SYNC, sys.executable, ["-m", "bigupload", "sync", *options], CRC64, CRC64, own),
        *(replace(each, settings=own) for each in scripts),
        *library("boto3", main, "many_boto3.py", CRC32, CRC32, at_once=16),
        *library("obstore", peers.python("main", "obstore"), "many_obstore.py", SHA256, SHA256, at_once=50),
        *command("s5cmd", peers.command("s5cmd"), ["--endpoint-url", "{job.url}", "cp", *to], both, both),
        *command("rclone", peers.command("rclone"), rclone, both, MD5, remote),
        *command("aws-cli", peers.command("aws"), cli, CRC32, CRC32),
    ]


_RCLONE = {"TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": "{job.url}", "ENV_AUTH": "true"}


def one(
    contestant: Contestant, store: Store, directory: Path, names: Sequence[str], size: int, patience: float
) -> Ended:
    """Run one contestant. Raises SystemExit if it failed, or if the store received anything else than the files."""
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as home:
        prefix = f"{contestant.name.replace(':', '-')}/"  # of its own: rclone sends nothing that is there
        job = Job(
            url=store.url,
            ca=None,
            bucket=store.bucket,
            key=prefix,
            file=directory,
            scratch=Path(home),
            access_key=store.access_key,
            secret_key=store.secret_key,
            region=store.region,
        )
        store.reset()
        ended = run(contestant.argv(job), contestant.environment(job), patience=patience, where=Path(home))
    if ended.status != 0:
        raise SystemExit(f"{contestant.name}: {ended.complaint or ended.status}")
    received = store.counts()["bytes_received"]
    missing = [name for name in (names[0], names[-1]) if store.size_of(prefix + name) != size]
    if received != len(names) * size or missing:
        raise SystemExit(f"{contestant.name}: the store received {received:,} bytes, and {missing} are not there")
    return ended


def measure(arguments: argparse.Namespace, contestants: Sequence[Contestant], directory: Path) -> list[FilesRun]:
    """All rounds at all round trips."""
    names = sorted(entry.name for entry in directory.iterdir())
    found: list[FilesRun] = []
    for rtt in arguments.rtt:
        print(f"round trip {rtt:g} ms: {', '.join(each.name for each in contestants)}", flush=True)
        for number in range(arguments.rounds + 1):
            opened = null_store(["--rtt", str(rtt / 1000)])
            with turn(arguments.lock), opened(directory, number) as store:
                for contestant in contestants:
                    ended = one(contestant, store, directory, names, arguments.size, arguments.patience)
                    made = FilesRun(
                        contestant=contestant.name,
                        rtt=rtt,
                        round=number,
                        count=len(names),
                        seconds=ended.seconds,
                        cpu=ended.cpu,
                        peak=ended.peak,
                    )
                    print(f"  {_described(made)}{'' if number else '  (warm-up)'}", flush=True)
                    found += [made] if number else []
    return found


def _described(made: FilesRun) -> str:
    hidden = " (or less)" if made.peak <= own_peak() else ""
    return (
        f"{made.contestant:<18} {made.rate:7.0f} files/s  CPU {made.cpu_per_file:6.0f} µs a file  "
        f"{made.peak / 1e6:5.0f} MB resident{hidden}"
    )


def targets(runs: Sequence[FilesRun]) -> list[Target]:
    """What has to hold at `TARGETS_AT`."""
    at = [each for each in runs if each.rtt == TARGETS_AT]
    of = {name: [each for each in at if each.contestant == name] for name in {each.contestant for each in at}}

    def compared(
        ours: str, peer: str, figure: Callable[[FilesRun], float], bound: float, what: str, *, at_least: bool
    ) -> Target:
        if peer not in of or ours not in of:
            return Target(what=what, found=report.NOBODY, holds=False)
        pairs = zip(of[ours], of[peer], strict=True)
        ratio = Spread.of(figure(mine) / figure(theirs) for mine, theirs in pairs)
        return Target(what=what, found=f"{ratio} ×", holds=(ratio.median >= bound) == at_least)

    def rate(each: FilesRun) -> float:
        return each.rate

    def cpu(each: FilesRun) -> float:
        return each.cpu

    return [
        compared(OURS, "s5cmd", rate, 1.0, "upload: files/s ≥ s5cmd's", at_least=True),
        compared(SYNC, "s5cmd", rate, 1.0, "sync: files/s ≥ s5cmd's", at_least=True),
        compared(LIBRARY, "s5cmd", rate, 1.0, "library: files/s ≥ s5cmd's", at_least=True),
        compared(OURS, "boto3", rate, LEAST_OF_BOTO3, "upload: files/s ≥ 3 × boto3's in threads", at_least=True),
        compared(GATHER, LIBRARY, rate, LEAST_OF_LIBRARY, "gather: files/s ≥ 0.8 × the library's", at_least=True),
        compared(GATHER, "boto3", rate, LEAST_OF_BOTO3, "gather: files/s ≥ 3 × boto3's in threads", at_least=True),
        compared(LIBRARY, "obstore", cpu, MOST_CPU, "library: CPU ≤ 1.5 × obstore's", at_least=False),
        compared(OURS, "obstore", cpu, math.inf, "(no target) upload: CPU of obstore's", at_least=False),
    ]


def show(runs: Sequence[FilesRun]) -> None:
    """Print the medians."""
    for rtt in dict.fromkeys(each.rtt for each in runs):
        print(f"\nround trip {rtt:g} ms, medians (least–most):")
        for name in dict.fromkeys(each.contestant for each in runs):
            of = [each for each in runs if (each.contestant, each.rtt) == (name, rtt)]
            rate, cpu = Spread.of(each.rate for each in of), Spread.of(each.cpu_per_file for each in of)
            peak = statistics.median(each.peak for each in of)
            print(
                f"  {name:<18} {rate.median:6.0f} ({rate.least:.0f}–{rate.most:.0f}) files/s   "
                f"{cpu.median:5.0f} ({cpu.least:.0f}–{cpu.most:.0f}) µs of CPU a file   {peak / 1e6:.0f} MB"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="Files. [2000]")
    parser.add_argument("--size", type=parse_size, default=parse_size("100KB"), help="Of each, like 100KB. [100KB]")
    parser.add_argument("--rtt", type=_numbers, default=[0.0, 5.0, 50.0], metavar="MS,…", help="[0,5,50]")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="Rounds after the warm-up. [3]")
    parser.add_argument("--contestants", metavar="A,B,…", help="Only these, and bigupload.")
    parser.add_argument("--patience", type=float, default=300.0, metavar="SECONDS", help="Time limit of a contestant.")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="Directory for the files.")
    parser.add_argument("--peers", type=Path, default=default_directory(), metavar="DIR", help="See `peers`.")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="Lock FILE for each round.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write all figures there.")
    arguments = parser.parse_args()
    peers = Peers(arguments.peers)
    contestants = only(arguments.contestants, everyone(peers))
    compileall.compile_dir(Path(bigupload.__file__).parent, quiet=2)
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-", dir=arguments.dir) as name:
        for number in range(arguments.count):
            write_random(Path(name) / f"{number:06}.bin", arguments.size)
        os.sync()  # else writing them to the disk would be on the bill of those who come first
        runs = measure(arguments, contestants, Path(name))
    show(runs)
    found = targets(runs) if TARGETS_AT in arguments.rtt else []
    if arguments.json is not None:
        figures = {"arguments": vars(arguments), "peers": peers.versions(), "runs": runs}
        report.write(arguments.json, "files", figures, found)
    return report.conclude(found)


def _numbers(text: str) -> list[float]:
    return [float(each) for each in text.split(",")]
