"""What does a kill cost?  `python -m benchmarks interruptions [--rates 0.5MB/s,2MB/s,10MB/s,100MB/s] [--kills 10]`

The real command uploads a file to a null store, over a path of packets between two network namespaces (`path`: 30 ms,
and the rate given). It is killed with SIGKILL after a seeded time of 5 to 25 s, started again, and so on; the last run
goes on to the end. That needs root and Linux.

A kill loses what the store had received in that run when it came, less the parts that it had accepted. That includes
what the run sent in vain because it cancelled PUTs. If the parts accepted by all runs add up to the file, none of them
was sent twice: the manifest had them, or the next run found them in the store. The file has no bytes on the disk.

The exit status is 1 if a kill loses more than ten seconds of the rate and more than one part, if parts were sent twice,
or if the object is not proved at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bigupload.core.manifest import Manifest
from bigupload.core.stored_rate import HORIZON
from bigupload.manifests.journal import read_manifest
from bigupload.units import parse_rate, parse_size

from . import path, report
from .command import write_sparse
from .contestants import Job, ourselves
from .report import Target
from .stores import Store, null_store

RTT = 0.03
SOONEST, LATEST = 5.0, 25.0
"""Seconds after its start in which a run is killed."""
SECONDS = 25
"""For each kill, a file has what the link carries in so many seconds."""
HEDGED = 1.01
"""A straggler's part may be accepted twice."""
PAYLOAD = 1448 / 1500
"""Of a packet."""


@dataclass(frozen=True, kw_only=True)
class Killed:
    """A run that was killed after `seconds`. Sizes in bytes; `rate` in bytes a second."""

    rate: float
    seconds: float
    received: int
    """What the store received in this run."""
    arriving: int
    """Of that, what belongs to PUTs that were in flight at the kill."""
    accepted: int
    """The parts that the store accepted in this run."""
    recorded: int
    """Of those, what the manifest had when the process was dead."""
    part_size: int

    @property
    def lost(self) -> int:
        return self.received - self.accepted

    @property
    def bound(self) -> float:
        return max(HORIZON * self.rate, self.part_size)

    @property
    def holds(self) -> bool:
        return self.lost <= self.bound


@dataclass(frozen=True, kw_only=True)
class Series:
    """The kills of one upload, and what came of it."""

    rate: float
    size: int
    kills: Sequence[Killed]
    received: int
    accepted: int
    """Bytes of the parts that the store accepted in all runs."""
    verified: str


def manifest_of(state: Path) -> Manifest | None:
    """Read the only manifest of a state directory."""
    found = [each for each in state.rglob("*.jsonl") if each.stat().st_size]
    return read_manifest(found[0]).manifest if found else None


def one_kill(argv: Sequence[str], environment: dict[str, str], store: Store, rate: float, seconds: float) -> Killed:
    """Run the command and kill it. Raises SystemExit if it ended before that."""
    state = Path(environment["BIGUPLOAD_STATE_DIR"])
    before, known = store.counts(), manifest_of(state)
    with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL) as child:
        try:
            time.sleep(seconds)
            after = store.counts()
            if child.poll() is not None:
                raise SystemExit("the upload ended before it could be killed: take a larger --size, or fewer --kills")
        finally:
            child.kill()
    manifest = manifest_of(state)
    return Killed(
        rate=rate,
        seconds=seconds,
        received=received(after) - received(before),
        arriving=after["bytes_arriving"],
        accepted=after["bytes_accepted"] - before["bytes_accepted"],
        recorded=(manifest.bytes_uploaded if manifest else 0) - (known.bytes_uploaded if known else 0),
        part_size=manifest.plan.part_size if manifest else 0,
    )


def received(counts: Mapping[str, int]) -> int:
    """Return how many bytes of bodies have come."""
    return counts["bytes_received"] + counts["bytes_arriving"]


def settled(store: Store) -> None:
    """Wait until nothing arrives that a killed process had given to its kernel."""
    while store.counts()["bytes_arriving"]:
        time.sleep(0.1)


def series(rate: float, size: int, kills: int, seed: int, directory: Path) -> Series:
    """Kill one upload again and again, then let it end."""
    chance = random.Random(f"{seed} {rate}")
    file = directory / "file.bin"
    write_sparse(file, size)
    found: list[Killed] = []
    with (
        path.path(rtt=RTT, rate=rate / PAYLOAD, queue=max(rate * RTT, 1 << 16)) as there,
        null_store(["--finely", "1", "--host", there.server_address], prefix=there.server_prefix)(
            directory, seed
        ) as store,
    ):
        job = Job.at(store, file, directory)
        contestant = ourselves()
        argv, environment = [*there.client_prefix, *contestant.argv(job)], contestant.environment(job)
        for _ in range(kills):
            found.append(one_kill(argv, environment, store, rate, chance.uniform(SOONEST, LATEST)))
            print(f"  {line(found[-1])}", flush=True)
            settled(store)
        ended = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, check=True)
        counts = store.counts()
    return Series(
        rate=rate,
        size=size,
        kills=found,
        received=counts["bytes_received"],
        accepted=counts["bytes_accepted"],
        verified=str(json.loads(ended.stdout)["verified"]),
    )


def line(kill: Killed) -> str:
    """Return a row of the table."""
    return (
        f"| {kill.rate / 1e6:g} MB/s | {kill.seconds:.1f} s | {kill.received / 1e6:.1f} | {kill.accepted / 1e6:.1f} | "
        f"{kill.lost / 1e6:.2f} | {kill.arriving / 1e6:.2f} | {kill.lost / kill.rate:.1f} s | {kill.bound / 1e6:.2f} | "
        f"{'yes' if kill.holds else 'NO'} |"
    )


def show(found: Sequence[Series]) -> None:
    """Print a table of all kills."""
    print("| link | killed after | MB received | MB kept | MB lost | in flight | lost | bound, MB | holds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for each in found:
        for kill in each.kills:
            print(line(kill))


def targets(found: Sequence[Series]) -> list[Target]:
    made = []
    for each in found:
        lost = sorted(kill.lost / each.rate for kill in each.kills)
        holding = sum(kill.holds for kill in each.kills)
        made.append(
            Target(
                what=f"{each.rate / 1e6:g} MB/s: a kill loses at most ten seconds or one part",
                found=f"{holding} of {len(lost)}; median {lost[len(lost) // 2]:.1f} s, at most {lost[-1]:.1f} s; "
                f"sent {each.received / each.size:.2f} × the file",
                holds=holding == len(lost),
            )
        )
        made.append(
            Target(
                what="no part that the store had was sent again, but for hedges",
                found=f"{each.accepted / each.size:.3f} × the file accepted",
                holds=each.accepted <= HEDGED * each.size,
            )
        )
    levels = {each.verified for each in found}
    made.append(Target(what="proved full-object", found=", ".join(sorted(levels)), holds=levels == {"full-object"}))
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="0.5MB/s,2MB/s,10MB/s,100MB/s", metavar="RATE,…", help="Of the link.")
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="Kills of each upload. [10]")
    parser.add_argument("--size", type=parse_size, help=f"Of the file. [{SECONDS} s of the link for each kill]")
    parser.add_argument("--seed", type=int, default=0, help="Chooses the moments.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write all figures there.")
    arguments = parser.parse_args()
    found: list[Series] = []
    for rate in map(parse_rate, arguments.rates.split(",")):
        with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
            size = arguments.size or int(rate * SECONDS * arguments.kills)
            print(f"{rate / 1e6:g} MB/s, {size / 1e6:,.0f} MB", flush=True)
            try:
                found.append(series(rate, size, arguments.kills, arguments.seed, Path(name)))
            except path.PathUnavailable as error:
                raise SystemExit(f"no path of packets: {error}") from None
    show(found)
    checked = targets(found)
    if arguments.json is not None:
        report.write(arguments.json, "interruptions", {"series": found}, checked)
    return report.conclude(checked)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
