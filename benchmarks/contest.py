"""Everyone in one run, by turns: A B C, A B C, … after a round to warm up. What each took, and whether it cheated."""

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
    """One upload by one contestant. `seconds` is a lower bound where it was late."""

    contestant: str
    round: int
    outcome: Outcome
    size: int
    seconds: float
    cpu: float
    """Seconds, user and system, of the contestant and its children."""
    peak: int
    """Resident bytes."""
    why: str = ""
    """What it said where it failed, or how it cheated."""
    counts: Mapping[str, Any] = field(default_factory=dict)
    """What the store counted."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """What bigupload's --json said."""

    @property
    def cpu_per_gib(self) -> float:
        return self.cpu / (self.size / (1 << 30))

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.size / self.seconds

    @property
    def sent_ratio(self) -> float | None:
        """What the store received, of the file; None where it did not count."""
        received = self.counts.get("bytes_received")
        return None if received is None else received / self.size


def cheating(size: int, stored: int | None, counts: Mapping[str, Any]) -> str:
    """Why what the store has is not exactly the file; empty where it is.

    More may have been received than the file, by attempts that failed or were doubled; less can't be.
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
    """What is the same for everyone."""

    file: Path
    store: Opened
    patience: float
    """Seconds until a contestant is given up."""
    lock: Path | None = None
    """Held around each run, where several share a machine and take turns."""
    prefix: Sequence[str] = ()
    """Goes before each contestant's command, to run it in another network namespace."""
    inside: bool = False
    """Measure within a running process, without its start."""
    warm: Path | None = None
    """A small file: for the round to warm up, and within a running process."""
    say: Callable[[str], None] = lambda text: print(text, flush=True)

    def rounds(self, contestants: Sequence[Contestant], count: int) -> list[Run]:
        """All of them, by turns. One that was late or failed in a round is not asked again. Cheating ends it all."""
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
        """One upload into a fresh store."""
        with turn(self.lock), tempfile.TemporaryDirectory(prefix="bigupload-bench-") as name:
            directory = Path(name)
            scratch = directory / "home"
            scratch.mkdir()
            with self.store(directory, number) as store:
                job = self._job(store, file, scratch)
                argv = contestant.inside(job) if self.inside and contestant.inside else contestant.argv(job)
                environment = contestant.environment(job)
                ended = run([*self.prefix, *argv], environment, patience=self.patience, where=scratch)
                stored = store.size_of(job.key) if ended.status == 0 else None
                counts = store.counts()
        if self.inside and self.warm and "bytes_received" in counts:
            counts["bytes_received"] -= self.warm.stat().st_size
        return judge(contestant, number, file.stat().st_size, ended, stored, counts, inside=self.inside)

    def _job(self, store: Store, file: Path, scratch: Path) -> Job:
        return Job(
            url=store.url,
            ca=store.ca,
            bucket=store.bucket,
            key=file.name,
            file=file,
            scratch=scratch,
            access_key=store.access_key,
            secret_key=store.secret_key,
            region=store.region,
            warm=self.warm if self.inside else None,
        )


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
    """What an ended child amounts to."""
    outcome: Outcome = "done"
    why = ""
    said: dict[str, Any] = {}
    if ended.late:
        outcome, why = "late", f"given up after {ended.seconds:.0f} s"
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
    """One line."""
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
    """While nobody else has it."""
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
