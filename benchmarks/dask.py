"""How much faster are more machines, and what do they cost this one?  `python -m benchmarks dask [--size 20GB]`

- `--only file`: a sparse file goes into a null store that takes 14 MB/s from each connection, over a Dask cluster of 1,
  2 and 4 worker processes with eight connections each. Targets: two workers are at least 1.6 times as fast as one, four
  at least 2.5 times.
- `--only tree`: 2,000 files of 100 kB, 20 MB and 200 MB in the same way. The same targets, and each worker sends at
  least half of its share. Small files are sent by the coordinator.
- `--only kills`: the file over four workers, one of which is killed with SIGKILL half-way; and by the real command,
  which is killed half-way and run again. Targets: the worker costs at most half of the parts in flight, of which four
  workers have a quarter each on average; the coordinator all of them.
- `--only coordinator`: 1,500 and 6,000 parts over four workers that pretend to hash and to send, some 130 a second, and
  the same by the engine alone. The difference of the CPU times is that of 4,500 parts, without what begins and ends an
  upload. Target: a part costs at most 0.3 ms, engine and cluster together.

- `--only far`: 10 TB over 100 workers that pretend to send 1 GB/s each. Targets: at 100 parts a second, coordinator and
  scheduler need at most half a core each; the coordinator's memory stays below 200 MB.

Without `--only`, all of them run. The exit status is 1 if a target is missed. The coordinator's CPU time is that of its
process: scheduler and workers are other ones. Store, scheduler and workers share this machine's cores, so that a small
machine, or a busy one, shows less of the speed-up than it is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bigupload.units import parse_rate, parse_size

from . import report
from ._over_workers import CONNECTIONS, OverWorkers, TreeOverWorkers, killed_and_resumed, make_tree, spread, spread_tree
from ._pretended import Pretended, far, many
from .report import Target
from .stores import Opened, null_store

MOST_CPU = 0.3e-3
FASTER = {2: 1.6, 4: 2.5}
LEAST_SHARE = 0.5
MOST_FAR_CPU = 0.5 / 100
"""Seconds a part."""
MOST_FAR_MEMORY = 200e6
MANY = 1500
"""Parts."""
SLOW = 5.0
"""Seconds of a PUT with which some six parts a second are done."""


def file_targets(found: Sequence[OverWorkers | TreeOverWorkers], what: str) -> list[Target]:
    seconds = {each.workers: each.seconds for each in found}
    return [
        Target(
            what=f"{what}: {workers} workers ≥ {least} × one",
            found=f"{seconds[1] / seconds[workers]:.2f} × ({seconds[workers]:.1f} s)",
            holds=seconds[1] / seconds[workers] >= least,
        )
        for workers, least in FASTER.items()
    ]


def tree_targets(found: Sequence[TreeOverWorkers]) -> list[Target]:
    least = min(min(each.sent_by) * each.workers / sum(each.sent_by) for each in found)
    return [
        *file_targets(found, "tree"),
        Target(
            what=f"tree: each worker sends ≥ {LEAST_SHARE:.0%} of its share",
            found=f"{least:.0%}",
            holds=least >= LEAST_SHARE,
        ),
    ]


def kill_targets(killed: OverWorkers, resumed: dict[str, Any]) -> list[Target]:
    in_flight = CONNECTIONS * 4 * killed.part_size
    size = resumed["size"]
    again = killed.received - size
    twice = resumed["before"] + resumed["after"] - size
    return [
        Target(
            what="a worker killed costs its parts in flight",
            found=f"{again / 1e6:.0f} MB more received, {killed.retries} retries, {killed.seconds:.1f} s",
            holds=again <= in_flight / 2 and killed.retries <= 2 * CONNECTIONS and killed.verified == "full-object",
        ),
        Target(
            what="the coordinator killed and resumed sends what was in flight again",
            found=f"{twice / 1e6:.0f} MB of {size / 1e9:.1f} GB twice",
            holds=twice <= in_flight,
        ),
    ]


def coordinator_targets(runs: dict[str, list[Pretended]]) -> list[Target]:
    (less, more), (less_alone, more_alone) = runs["cluster"], runs["engine"]
    parts = more.parts - less.parts
    whole = (more.coordinator - less.coordinator) / parts
    engine = (more_alone.coordinator - less_alone.coordinator) / parts
    scheduler = (more.scheduler - less.scheduler) / parts
    (slow,) = runs["slow"]
    rate = more.parts / more.seconds
    return [
        Target(
            what="a part costs ≤ 0.3 ms of the coordinator's CPU time",
            found=f"{whole * 1e3:.2f} ms, {engine * 1e3:.2f} of them the engine's, at {rate:.0f} parts/s",
            holds=whole <= MOST_CPU,
        ),
        Target(
            what="(no target) few parts",
            found=f"{slow.coordinator / slow.parts * 1e3:.2f} ms a part at {slow.parts / slow.seconds:.0f} parts/s, "
            f"{slow.coordinator / slow.seconds:.1%} of a core",
            holds=True,
        ),
        Target(what="(no target) the scheduler", found=f"{scheduler * 1e3:.2f} ms of CPU a part", holds=True),
    ]


def far_targets(found: Pretended) -> list[Target]:
    coordinator, scheduler = found.coordinator / found.parts, found.scheduler / found.parts
    told = (
        f"{found.parts:,} parts of {found.part_size / 1e9:.1f} GB in {found.seconds:.0f} s, "
        f"a manifest of {found.manifest / 1e6:.1f} MB"
    )
    return [
        Target(
            what="10 TB over 100 workers: coordinator and scheduler ≤ 5 ms of CPU time a part",
            found=f"{coordinator * 1e3:.1f} and {scheduler * 1e3:.1f} ms; {told}",
            holds=max(coordinator, scheduler) <= MOST_FAR_CPU,
        ),
        Target(
            what="10 TB over 100 workers: the coordinator's memory ≤ 200 MB",
            found=f"{found.peak / 1e6:.0f} MB",
            holds=found.peak <= MOST_FAR_MEMORY,
        ),
    ]


def over_file(directory: Path, file: Path, opened: Opened) -> tuple[Any, list[Target]]:
    found = []
    for workers in (1, 2, 4):
        with opened(directory, workers) as store:
            found.append(asyncio.run(spread(store, file, workers, directory / "state")))
        print(f"  {found[-1]}", flush=True)
    return found, file_targets(found, "file")


def over_tree(directory: Path, _: Path, opened: Opened) -> tuple[Any, list[Target]]:
    found = []
    files = make_tree(directory / "tree")
    for workers in (1, 2, 4):
        with opened(directory, workers) as store:
            found.append(asyncio.run(spread_tree(store, files, workers, directory / "state")))
        print(f"  {found[-1]}", flush=True)
    return found, tree_targets(found)


def with_kills(directory: Path, file: Path, opened: Opened) -> tuple[Any, list[Target]]:
    with opened(directory, 4) as store:
        killed = asyncio.run(spread(store, file, 4, directory / "state", kill=True))
    print(f"  {killed}", flush=True)
    with opened(directory, 0) as store:
        resumed = killed_and_resumed(store, file, directory / "state")
    print(f"  {resumed}", flush=True)
    return {"worker": killed, "coordinator": resumed}, kill_targets(killed, resumed)


def for_coordinator(directory: Path, _: Path, __: Opened) -> tuple[Any, list[Target]]:
    runs = {
        "cluster": [many(directory, MANY), many(directory, 4 * MANY)],
        "engine": [many(directory, MANY, alone=True), many(directory, 4 * MANY, alone=True)],
        "slow": [many(directory, 100, seconds=SLOW)],
    }
    for name, found in runs.items():
        for each in found:
            print(f"  {name:<8}{each}", flush=True)
    return runs, coordinator_targets(runs)


def from_far(directory: Path, _: Path, __: Opened) -> tuple[Any, list[Target]]:
    found = far(directory)
    print(f"  {found}", flush=True)
    return found, far_targets(found)


SECTIONS = {
    "file": over_file,
    "tree": over_tree,
    "kills": with_kills,
    "coordinator": for_coordinator,
    "far": from_far,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=parse_size, default=parse_size("20GB"), help="Size of the file. [20GB]")
    parser.add_argument("--rate", type=parse_rate, default=parse_rate("14MB/s"), help="Of a connection. [14MB/s]")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="What to measure; may be repeated. [all]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write all figures there.")
    arguments = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID="benchmark", AWS_SECRET_ACCESS_KEY="benchmark")
    figures: dict[str, Any] = {"arguments": vars(arguments)}
    checked: list[Target] = []
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        directory = Path(name)
        os.environ["BIGUPLOAD_STATE_DIR"] = str(directory / "state")
        file = directory / "sparse.bin"
        with file.open("wb") as sparse:
            sparse.truncate(arguments.size)
        for each in arguments.only or SECTIONS:
            figures[each], found = SECTIONS[each](directory, file, null_store(["--rate", f"{arguments.rate}B/s"]))
            checked += found
    if arguments.json is not None:
        report.write(arguments.json, "dask", figures, checked)
    return report.conclude(checked)
