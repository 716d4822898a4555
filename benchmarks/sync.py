"""What does a sync cost that finds nothing to do?  `python -m benchmarks sync [--files 10000,100000,1000000]`

A directory with so many files of 8 bytes, in memory if Linux has a file system for that, and a store that lists an
object for each (`listed_store`). The contestants take turns within each round. Measured is the whole process: seconds,
CPU time, the largest resident set. The benchmark stops if anyone asks the store for more than lists, or fails.

How each knows that an object is the file:

  bigupload        the size and ETag that the store lists and the file's metadata are those that the last sync proved
  rclone:checksum  the ETag is the MD5 of the file, which is read again
  rclone           the sizes are equal (`--size-only`; without it, rclone asks for each object's metadata)
  s5cmd, aws-cli   the sizes are equal, and the object is newer

The exit status is 1 if bigupload needs more than 1.25 × the memory with the most files that it needs with the fewest,
or with the most files more seconds or memory than `rclone:checksum`.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import report
from .children import Ended, own_peak, run
from .contest import turn
from .contestants import NONE, OURS, RCLONE_REMOTE, Contestant, Job, command, only
from .listed_store import plant
from .peering import Peers, default_directory
from .report import Spread, Target
from .stores import BUCKET, REGION

MOST_GROWTH = 1.25
RIVAL = "rclone:checksum"
_MOST_FILES = {"aws-cli": 100_000, "s5cmd": 100_000}
"""With a million, aws-cli takes minutes, and s5cmd gigabytes."""
_PREFIX = "tree/"
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True)
class SyncRun:
    """One contestant's turn."""

    contestant: str
    files: int
    round: int
    seconds: float
    cpu: float
    peak: int


def everyone(peers: Peers) -> list[Contestant]:
    """Return the installed contestants, bigupload first."""
    to = ["{job.file}/", "s3://{job.bucket}/{job.key}"]
    ours = ["-m", "bigupload", "sync", *to, "--endpoint-url", "{job.url}", "--progress", "none"]
    own = {"BIGUPLOAD_STATE_DIR": "{job.scratch}/state", "PYTHONPATH": str(Path(__file__).parent.parent)}
    rclone = ["sync", "{job.file}", "null:{job.bucket}/{job.key}", "--s3-no-check-bucket"]
    binary = peers.command("rclone")
    return [
        *command(OURS, sys.executable, ours, NONE, NONE, own),
        *command(RIVAL, binary, [*rclone, "--checksum"], NONE, NONE, RCLONE_REMOTE),
        *command("rclone", binary, [*rclone, "--size-only"], NONE, NONE, RCLONE_REMOTE),
        *command("s5cmd", peers.command("s5cmd"), ["--endpoint-url", "{job.url}", "sync", *to], NONE, NONE),
        *command("aws-cli", peers.command("aws"), ["--endpoint-url", "{job.url}", "s3", "sync", *to], NONE, NONE),
    ]


@contextlib.contextmanager
def listed_store(files: int) -> Iterator[str]:
    """A store as a process of its own. Yields its URL."""
    argv = [sys.executable, "-m", "benchmarks.listed_store", "--files", str(files)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


def counts(url: str) -> dict[str, int]:
    """The requests that the store has counted since the last call."""
    with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        connection.request("GET", "/__counts?reset")
        found: dict[str, int] = json.loads(connection.getresponse().read())
        return found


def one(contestant: Contestant, job: Job, patience: float) -> Ended:
    """Run one contestant. Raises SystemExit if it failed, or did anything but list."""
    counts(job.url)
    ended = run(contestant.argv(job), contestant.environment(job), patience=patience, where=job.scratch)
    asked = counts(job.url)
    if ended.status != 0:
        raise SystemExit(f"{contestant.name}: {ended.complaint or ended.status}")
    if asked.keys() - {"list", "head"} or asked.get("head", 0) > 1:  # rclone asks whether the prefix is an object
        raise SystemExit(f"{contestant.name}: {asked}, and there was nothing to do but to list")
    return ended


def measure(files: int, contestants: Sequence[Contestant], arguments: argparse.Namespace) -> list[SyncRun]:
    """All rounds with so many files."""
    found: list[SyncRun] = []
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-", dir=arguments.dir) as name, opened(files, name) as job:
        for number in range(1, arguments.rounds + 1):
            with turn(arguments.lock):
                for each in contestants:
                    ended = one(each, job, arguments.patience)
                    made = SyncRun(
                        contestant=each.name,
                        files=files,
                        round=number,
                        seconds=ended.seconds,
                        cpu=ended.cpu,
                        peak=ended.peak,
                    )
                    print(f"  {_described(made)}", flush=True)
                    found.append(made)
    return found


@contextlib.contextmanager
def opened(files: int, directory: str) -> Iterator[Job]:
    """Make tree, store and record."""
    home, tree = Path(directory), Path(directory) / "tree"
    tree.mkdir()
    plant(tree, files)
    time.sleep(1)  # a list has whole seconds, and an object that is older than its file would be sent again
    with listed_store(files) as url:
        to = f"s3://{BUCKET}/{_PREFIX}"
        argv = [sys.executable, "-m", "benchmarks._synced", str(tree), to, url, str(home / "state")]
        subprocess.run(argv, check=True)
        yield Job(
            url=url,
            ca=None,
            bucket=BUCKET,
            key=_PREFIX,
            file=tree,
            scratch=home,
            access_key="benchmark",
            secret_key="benchmark",
            region=REGION,
        )


def _described(made: SyncRun) -> str:
    hidden = " (or less)" if made.peak <= own_peak() else ""
    return (
        f"{made.contestant:<16} {made.seconds:7.1f} s  CPU {made.cpu:6.1f} s, {made.cpu / made.files * 1e6:4.0f} µs a "
        f"file  {made.peak / 1e6:5.0f} MB resident{hidden}"
    )


def targets(runs: Sequence[SyncRun]) -> list[Target]:
    """What has to hold."""
    sizes = sorted({each.files for each in runs})

    def of(name: str, files: int) -> list[SyncRun]:
        return [each for each in runs if (each.contestant, each.files) == (name, files)]

    most = of(OURS, sizes[-1])
    found: list[Target] = []
    if len(sizes) > 1:
        least = statistics.median(each.peak for each in of(OURS, sizes[0]))
        growth = Spread.of(each.peak / least for each in most)
        what = f"memory with {sizes[-1]:,} files ≤ {MOST_GROWTH} × that with {sizes[0]:,}"
        found.append(Target(what=what, found=f"{growth} ×", holds=growth.median <= MOST_GROWTH))
    rivals = of(RIVAL, sizes[-1])
    if not rivals:
        return [*found, Target(what=f"≤ {RIVAL}", found=report.NOBODY, holds=False)]
    seconds = Spread.of(each.seconds / other.seconds for each, other in zip(most, rivals, strict=True))
    memory = Spread.of(each.peak / other.peak for each, other in zip(most, rivals, strict=True))
    return [
        *found,
        Target(what=f"seconds ≤ {RIVAL}'s", found=f"{seconds} ×", holds=seconds.median <= 1),
        Target(what=f"memory ≤ {RIVAL}'s", found=f"{memory} ×", holds=memory.median <= 1),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=_numbers, default=[10_000, 100_000, 1_000_000], metavar="N,…")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="Rounds. [1]")
    parser.add_argument("--contestants", metavar="A,B,…", help="Only these, and bigupload.")
    parser.add_argument("--patience", type=float, default=900.0, metavar="SECONDS", help="Time limit of a contestant.")
    parser.add_argument("--dir", type=Path, default=_MEMORY if _MEMORY.is_dir() else None, help="For the files.")
    parser.add_argument("--peers", type=Path, default=default_directory(), metavar="DIR", help="See `peers`.")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="Lock FILE for each round.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write all figures there.")
    arguments = parser.parse_args()
    peers = Peers(arguments.peers)
    contestants = only(arguments.contestants, everyone(peers))
    runs: list[SyncRun] = []
    for files in sorted(arguments.files):
        chosen = [each for each in contestants if files <= _MOST_FILES.get(each.name, files)]
        print(f"{files:,} files: {', '.join(each.name for each in chosen)}", flush=True)
        runs += measure(files, chosen, arguments)
    found = targets(runs)
    if arguments.json is not None:
        figures = {"arguments": vars(arguments), "peers": peers.versions(), "runs": runs}
        report.write(arguments.json, "sync", figures, found)
    return report.conclude(found)


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]
