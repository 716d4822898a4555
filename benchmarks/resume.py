"""How soon does a killed upload resume?  `python -m benchmarks resume`

The real command sends half of a file to a null store and is killed. Then it runs again, and the time counts from the
start of its process until the store has the headers of the first new PUT. The second measurement touches the file in
between, so that the parts already sent are hashed again first: the bytes hashed over the extra time are the rate. The
file is in the page cache. No peer resumes a killed process, so there is no comparison.

The exit status is 1 if a target is missed: the first new PUT within 0.7 s; hashing at 2 GB/s or more; only the parts in
flight sent twice.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bigupload.core.flight import MOST
from bigupload.core.part_plan import DEFAULT_PART_SIZE

from . import report
from .children import run
from .command import files, parser
from .contest import turn
from .contestants import Job, ourselves
from .report import Spread, Target
from .stores import Store, null_store

MOST_SECONDS = 0.7
LEAST_RATE = 2e9
IN_FLIGHT = MOST * DEFAULT_PART_SIZE
"""The most bytes in flight at a kill: as many parts as are ever sent at once."""


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A resumed upload. Times in seconds from the process's start, sizes in bytes."""

    round: int
    touched: bool
    first_put: float
    seconds: float
    cpu: float
    kept: int
    sent: int
    verified: str


def resumed(store: Store, file: Path, number: int, *, touched: bool) -> Resumed:
    """Send half of a file, then resume."""
    contestant = ourselves()
    with tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
        job = Job(
            url=store.url,
            ca=store.ca,
            bucket=store.bucket,
            key=f"{number}-{touched}",
            file=file,
            scratch=Path(name),
            access_key=store.access_key,
            secret_key=store.secret_key,
            region=store.region,
        )
        argv, environment = contestant.argv(job), contestant.environment(job)
        kill_half_way(argv, environment, store, file.stat().st_size // 2)
        if touched:
            os.utime(file)
        store.reset()
        began = time.time()
        ended = run(argv, environment, patience=300)
    if ended.status != 0:
        raise SystemExit(f"resuming ended with {ended.status}: {ended.complaint}")
    counts, result = store.counts(), json.loads(ended.output)
    return Resumed(
        round=number,
        touched=touched,
        first_put=counts["first_put"]["time"] - began,
        seconds=ended.seconds,
        cpu=ended.cpu,
        kept=result["size"] - result["bytes_sent"],
        sent=counts["bytes_received"],
        verified=result["verified"],
    )


def kill_half_way(argv: Sequence[str], environment: dict[str, str], store: Store, half: int) -> None:
    """Send SIGKILL when the store has accepted that many bytes."""
    store.reset()
    with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL) as child:
        try:
            while store.counts()["bytes_accepted"] < half:
                if child.poll() is not None:
                    raise SystemExit("the upload ended before it could be killed: take a larger --size")
                time.sleep(0.01)
        finally:
            child.kill()


def targets(found: Sequence[Resumed], size: int) -> list[Target]:
    plain = [each for each in found if not each.touched]
    touched = [each for each in found if each.touched]
    first = Spread.of(each.first_put for each in plain)
    longer = Spread.of(each.first_put for each in touched).median - first.median
    rate = Spread.of(each.kept for each in touched).median / max(longer, 1e-9)
    most = max(each.sent + each.kept - size for each in found)
    return [
        Target(what="first new PUT ≤ 0.7 s", found=f"{first} s", holds=first.median <= MOST_SECONDS),
        Target(what="touched: hashed again at ≥ 2 GB/s", found=f"{rate / 1e9:.1f} GB/s", holds=rate >= LEAST_RATE),
        Target(
            what="half was kept, and the rest sent once",
            found=f"at most {most / size:.1%} of the file twice",
            holds=most <= 0.01 * size and all(each.kept >= 0.5 * size - IN_FLIGHT for each in found),
        ),
        Target(
            what="proved full-object",
            found=", ".join(sorted({each.verified for each in found})),
            holds={each.verified for each in found} == {"full-object"},
        ),
    ]


def main() -> int:
    made = parser(__doc__, size="5GB", rounds=5)
    arguments = made.parse_args()
    if arguments.file or arguments.contestants:
        made.error("the file is touched, and there are no peers: neither --file nor --contestants")
    found: list[Resumed] = []
    with files(arguments) as (file, _):
        for number in range(arguments.rounds + 1):
            for touched in (False, True):
                with (
                    turn(arguments.lock),
                    tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name,
                    null_store()(Path(name), number) as store,
                ):
                    once = resumed(store, file, number, touched=touched)
                kind = "touched" if touched else "as it was"
                turns = f"round {number}" if number else "warm-up"
                print(
                    f"  {turns}  {kind:<10} first PUT after {once.first_put:.3f} s, "
                    f"{once.kept / 1e9:.2f} GB kept, whole {once.seconds:.2f} s",
                    flush=True,
                )
                if number:
                    found.append(once)
    checked = targets(found, arguments.size)
    if arguments.json is not None:
        report.write(arguments.json, "resume", {"arguments": vars(arguments), "runs": found}, checked)
    return report.conclude(checked)
