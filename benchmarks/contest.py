"""Run all contestants by turns (A B C, A B C, …) after a warm-up round. Measure each, and detect cheating."""

from __future__ import annotations

import contextlib
import fcntl
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .children import Ended, own_peak, run
from .contestants import Contestant, Job
from .stores import Opened, Store

Outcome = Literal["done", "late", "failed", "cheated"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One upload by one contestant. `seconds` is a lower bound if it was stopped."""

    contestant: str
    round: int
    outcome: Outcome
    size: int
    seconds: float
    cpu: float
    """CPU seconds (user and system) of the contestant and its children."""
    peak: int
    """Peak resident memory in bytes."""
    why: str = ""
    """Its error output if it failed, or how it cheated."""
    counts: Mapping[str, Any] = field(default_factory=dict)
    """The store's counts."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """The output of bigupload's --json."""

    @property
    def cpu_per_gib(self) -> float:
        return self.cpu / (self.size / (1 << 30))

    @property
    def rate(self) -> float:
        """The rate in bytes a second."""
        return self.size / self.seconds

    @property
    def sent_ratio(self) -> float | None:
        """The bytes that the store received, over the file's size; None if the store does not count."""
        received = self.counts.get("bytes_received")
        return None if received is None else received / self.size


def cheating(size: int, stored: int | None, counts: Mapping[str, Any]) -> str:
    """Return why the stored object is not exactly the file; empty if it is.

    The store may receive more than the file because of failed or hedged attempts, but not less.
    """
    if stored is None:
        return "it said that it was done, and the store has no object"
    if stored != size:
        return f"the store has {stored:,} bytes of {size:,}"
    received = counts.get("bytes_received")
    if received is not None and received < size:
        return f"the store received {received:,} bytes of {size:,}"
    return ""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """The settings for all contestants."""

    file: Path
    store: Opened
    patience: float
    """The time limit of a contestant, in seconds."""
    lock: Path | None = None
    """A lock file that is held for each run, so that several benchmarks take turns."""
    prefix: Sequence[str] = ()
    """The prefix of each contestant's command, to run it in another network namespace."""
    inside: bool = False
    """Measure within a running process, without its start."""
    piped: bool = False
    """Give the file through a pipe from `cat`, on standard input."""
    warm: Path | None = None
    """A small file for the warm-up round, and for the warm-up within a running process."""
    say: Callable[[str], None] = lambda text: print(text, flush=True)

    def rounds(self, contestants: Sequence[Contestant], count: int) -> list[Run]:
        """Run all contestants by turns. One that failed or was stopped is left out of later rounds. Cheating stops
        all."""
        found: list[Run] = []
        out: set[str] = set()
        for number in range(0 if self.warm else 1, count + 1):
            for contestant in contestants:
                if contestant.name in out:
                    continue
                once = self.once(contestant, number, self.file if number else self.warm or self.file)
                self.say(f"  {'warm-up' if not number else f'round {number}'}  {describe(once)}")
                if once.outcome == "cheated":
                    raise SystemExit(f"{contestant.name} cheated: {once.why}")
                if once.outcome != "done":
                    out.add(contestant.name)
                if number or once.outcome != "done":
                    found.append(once)
        return found

    def once(self, contestant: Contestant, number: int, file: Path) -> Run:
        """Run one upload to a fresh store."""
        with turn(self.lock), tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
            directory = Path(name)
            scratch = directory / "home"
            scratch.mkdir()
            with self.store(directory, number) as store:
                job = self._job(store, file, scratch)
                argv = contestant.inside(job) if self.inside and contestant.inside else contestant.argv(job)
                environment = contestant.environment(job)
                ended = run(
                    [*self.prefix, *argv],
                    environment,
                    patience=self.patience,
                    where=scratch,
                    producer=["cat", str(file)] if self.piped else (),
                )
                stored = store.size_of(job.key) if ended.status == 0 else None
                counts = store.counts()
        if self.inside and self.warm and "bytes_received" in counts:
            counts["bytes_received"] -= self.warm.stat().st_size
        return judge(contestant, number, file.stat().st_size, ended, stored, counts, inside=self.inside)

    def _job(self, store: Store, file: Path, scratch: Path) -> Job:
        return Job.at(store, file, scratch, self.warm if self.inside else None)


def judge(
    contestant: Contestant,
    number: int,
    size: int,
    ended: Ended,
    stored: int | None,
    counts: Mapping[str, Any],
    *,
    inside: bool = False,
) -> Run:
    """Return the outcome of a child that has ended."""
    outcome: Outcome = "done"
    why = ""
    said: dict[str, Any] = {}
    if ended.late:
        outcome, why = "late", f"stopped after {ended.seconds:.0f} s"
    elif ended.status != 0:
        outcome, why = "failed", ended.complaint or f"exit status {ended.status}"
    elif why := cheating(size, stored, counts):
        outcome = "cheated"
    else:
        with contextlib.suppress(ValueError):
            said = json.loads(ended.output)
    within = inside and outcome == "done"
    return Run(
        contestant=contestant.name,
        round=number,
        outcome=outcome,
        size=size,
        seconds=said["seconds"] if within else ended.seconds,
        cpu=said["cpu"] if within else ended.cpu,
        peak=ended.peak,
        why=why,
        counts=dict(counts),
        result={} if within else {name: value for name, value in said.items() if name != "manifest"},
    )


def describe(once: Run) -> str:
    """Describe it in one line."""
    if once.outcome != "done":
        return f"{once.contestant:<16} {once.outcome}: {once.why}"
    sent = f"  sent x{once.sent_ratio:.3f}" if once.sent_ratio is not None else ""
    hidden = " (or less)" if once.peak <= own_peak() else ""
    return (
        f"{once.contestant:<16} {once.seconds:7.2f} s  {once.rate / 1e6:7.0f} MB/s  CPU {once.cpu:6.2f} s  "
        f"{once.peak / 1e6:6.0f} MB resident{hidden}{sent}"
    )


@contextlib.contextmanager
def turn(lock: Path | None) -> Iterator[None]:
    """Hold the lock file."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
