"""10,000 files with awkward names through the real command into a real SeaweedFS.  `python -m benchmarks tree`

The upload is killed (SIGKILL) at seeded moments, and the same command continues it. A proxy before the store counts
the bytes of each body. Then every object is read back, and the directory is synced: without a change, with three files
changed, and with files gone. Targets: what was recorded at a kill is not sent again; all objects are equal by SHA-256;
a sync sends and deletes what it should, and nothing else. Any other figure is for people to judge.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import report
from .report import Target

if TYPE_CHECKING:
    from bigupload.stores.local_store import LocalStore
    from bigupload.testing.fault_proxy import FaultProxy
    from bigupload.testing.fault_proxy.exchange import Head, ProxiedExchange

MB = 1_000_000
LARGE = (200 * MB, 200 * MB, *(8 * MB + number * 300_000 for number in range(1, 31)))
"""Sizes of the files that are sent in parts."""
PREFIX = "a tree/"
CHANGED = 3
MAX_CONCURRENCY = 256
"""Bodies that the command may have in flight: `api.checks` has the same."""
_LONG = 600.0
_READERS = 8

Unit = tuple[str, int]
"""A key below the prefix and a part's number; 0: the whole object by one PUT."""


@dataclass(kw_only=True)
class Ran:
    """One run of the command."""

    code: int
    seconds: float
    peak: int
    """VmHWM, in bytes."""
    said: str
    """The last line of standard error."""
    exchanges: Sequence[ProxiedExchange]

    @property
    def sent(self) -> Counter[Unit]:
        """Bytes that the store took of each body."""
        sent = Counter[Unit]()
        for each in self.exchanges:
            if each.method == "PUT":
                sent[_unit(each)] += each.taken
        return sent

    @property
    def requests(self) -> str:
        return ", ".join(f"{count:,} {op}" for op, count in Counter(each.op for each in self.exchanges).most_common())

    def __str__(self) -> str:
        return (
            f"{self.seconds:.1f} s, {len(self.sent):,} bodies of {self.sent.total() / MB:.1f} MB, "
            f"{self.peak / MB:.0f} MB resident: {self.requests}" + ("" if self.code else f"\n    {self.said}")
        )


@dataclass
class Trial:
    """A tree, a store, and the command between them."""

    root: Path
    state: Path
    store: LocalStore
    proxy: FaultProxy
    files: dict[str, str]
    """Each path with its SHA-256: what the store must have."""
    bucket: str
    targets: list[Target] = field(default_factory=list)

    # -- the parts of the trial

    def upload(self, command: str, kills: int, chosen: random.Random) -> None:
        """Upload the tree, and kill that at moments that are even over the files."""
        ends: list[int] = []
        for name in sorted(self.files, key=lambda name: name.encode()):
            ends.append((self.root / name).stat().st_size + (ends[-1] if ends else 0))
        sent, recorded = Counter[Unit](), set[Unit]()
        again, killed, most_again, most_waiting = set[Unit](), 0, 0, 0
        for moment in [*sorted(chosen.sample(ends[: len(ends) * 9 // 10], kills)), None]:
            ran = self.run(command, kill_after=None if moment is None else max(1, moment - ends[0]))
            again |= ran.sent.keys() & recorded
            twice = sum(size for unit, size in ran.sent.items() if unit in sent)
            most_again = max(most_again, twice)
            sent += ran.sent
            recorded = self._recorded()
            acknowledged = {_unit(each) for each in ran.exchanges if each.method == "PUT" and each.acted}
            most_waiting = max(most_waiting, len(acknowledged - recorded)) if moment is not None else most_waiting
            killed += ran.code == -signal.SIGKILL
            print(f"  {'killed' if ran.code else 'ended'} after {ran}; {twice / MB:.2f} MB sent again", flush=True)
        total = ends[-1]
        self.check(f"{kills} kills and a run that ends", f"{killed}, {ran.code}", (killed, ran.code) == (kills, 0))
        self.check("nothing that was recorded is sent again", f"{len(again)} bodies", not again)
        self.check(
            "what the store acknowledged is recorded at once",
            f"but for {most_waiting} bodies at a kill, of {MAX_CONCURRENCY} that may be in flight, and as many that "
            "share an fsync",
            most_waiting <= 2 * MAX_CONCURRENCY,
        )
        self.check(
            "all bodies together",
            f"{sent.total() / MB:.1f} of {total / MB:.1f} MB: {(sent.total() - total) / MB:.2f} MB twice, at most "
            f"{most_again / MB:.2f} MB for one kill",
            sent.total() >= total,
        )
        self.read_back(self.files)

    def sync_again(self) -> None:
        ran = self.run("sync")
        print(f"  {ran}", flush=True)
        self.check("a sync without a change sends nothing", f"{len(ran.sent)} bodies", ran.code == 0 and not ran.sent)
        asked = {each.op for each in ran.exchanges}
        self.check("and only lists", ran.requests, asked == {"ListObjectsV2"})

    def sync_changed(self, chosen: random.Random) -> None:
        names = chosen.sample(sorted(self.files), CHANGED)
        for name in names:
            data = chosen.randbytes(1 + (self.root / name).stat().st_size)
            (self.root / name).write_bytes(data)
            self.files[name] = hashlib.sha256(data).hexdigest()
        ran = self.run("sync")
        print(f"  {ran}", flush=True)
        sent = {key for key, _ in ran.sent}
        self.check(f"of {CHANGED} changed files just those are sent", f"{len(sent)} files", sent == set(names))
        self.read_back(names)

    def sync_deleted(self, chosen: random.Random) -> None:
        gone = chosen.sample(sorted(self.files), len(self.files) // 20)
        for name in gone:
            (self.root / name).unlink()
            del self.files[name]
        ran = self.run("sync", "--delete")
        print(f"  {ran}", flush=True)
        self.check("--delete sends nothing", f"{len(ran.sent)} bodies", ran.code == 0 and not ran.sent)
        self.check("and deletes what is gone", f"{len(gone):,} files, {ran.requests}", ran.code == 0)
        self.read_back(())

    def read_back(self, names: Iterable[str]) -> None:
        """Compare objects with their files, and the list of all with the tree."""
        began = time.monotonic()
        with contextlib.closing(self._client()) as client, ThreadPoolExecutor(_READERS) as threads:
            there = set(self._keys(client))
            read = functools.partial(_sha256, client, self.bucket)
            names = sorted(there & set(names))
            differ = [
                name for name, sha256 in zip(names, threads.map(read, names), strict=True) if sha256 != self.files[name]
            ]
        missing, more = self.files.keys() - there, there - self.files.keys()
        self.check(
            "each file has its object, and each object its file",
            f"{len(there):,}, of which {len(names):,} have the same SHA-256 ({time.monotonic() - began:.0f} s); "
            f"{len(differ)} differ, {len(missing)} are missing, {len(more)} too many "
            f"{[*differ, *missing, *more][:3] or ''}",
            not (differ or missing or more),
        )

    # -- its tools

    def check(self, what: str, found: str, holds: bool) -> None:
        self.targets.append(Target(what=what, found=found, holds=holds))

    def run(self, command: str, *more: str, kill_after: int | None = None) -> Ran:
        """Run the command.

        Args:
            command: Which of them.
            *more: Its further arguments.
            kill_after: Bytes of bodies, counted since the first run, after which it is killed.
        """
        self.proxy.exchanges.clear()
        to = [f"s3://{self.bucket}/{PREFIX}", "--endpoint-url", self.proxy.url, "--progress", "plain"]
        argv = [sys.executable, "-m", "bigupload", command, str(self.root), *to, *more]
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": self.store.access_key,
            "AWS_SECRET_ACCESS_KEY": self.store.secret_key,
            "BIGUPLOAD_STATE_DIR": str(self.state),
        }
        began, peak = time.monotonic(), 0
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output:
            with subprocess.Popen(argv, env=environment, stdout=output, stderr=errors) as process:
                if kill_after is not None:
                    self.proxy.on_taken(max(kill_after, self.proxy.bytes_taken + 1), process.kill)
                while process.poll() is None:
                    peak = max(peak, _peak_of(process.pid))
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.05)
            seconds = time.monotonic() - began
            errors.seek(0)
            lines = errors.read().decode(errors="replace").splitlines()
        self.proxy.wait_for(lambda proxy: proxy.idle, _LONG)  # what the dead process gave to the kernel still arrives
        exchanges = list(self.proxy.exchanges)
        said = lines[-1] if lines else ""
        if process.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(f"the command ended with {process.returncode}: {said}")
        return Ran(code=process.returncode, seconds=seconds, peak=peak, said=said, exchanges=exchanges)

    def _recorded(self) -> set[Unit]:
        """What the job's record and the manifests have, which are all that the next run knows."""
        from bigupload.manifests.job_record import known_jobs
        from bigupload.manifests.journal import read_manifest

        found = set[Unit]()
        for job in known_jobs(self.state):
            with contextlib.closing(sqlite3.connect(job.record)) as opened:
                whole = {key for (key,) in opened.execute("SELECT key FROM file")}
            found |= {(key, 0) for key in whole}
        for path in self.state.glob("*.manifest.jsonl"):
            with contextlib.suppress(Exception):  # killed before its first line was whole
                known = read_manifest(path).manifest
                found |= {(known.target.key.removeprefix(PREFIX), number) for number in known.parts}
        return found

    def _client(self) -> Any:
        from tests.tools.weed import weed_client

        return weed_client(self.store)

    def _keys(self, client: Any) -> Iterator[str]:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=PREFIX):
            yield from (row["Key"].removeprefix(PREFIX) for row in page.get("Contents", ()))


def _operation(head: Head) -> tuple[str, int | None]:
    from bigupload.testing.fault_proxy.exchange import s3_operation

    op, part = s3_operation(head)
    if op != "Bucket":
        return op, part
    method = head.start[0]
    names = {"GET": "ListObjectsV2", "HEAD": "HeadBucket", "POST": "DeleteObjects"}
    return names.get(method, method), None


def _unit(exchange: ProxiedExchange) -> Unit:
    return exchange.path.partition(f"/{PREFIX}")[2], exchange.part or 0


def _sha256(client: Any, bucket: str, name: str) -> str:
    digest = hashlib.sha256()
    for block in client.get_object(Bucket=bucket, Key=PREFIX + name)["Body"].iter_chunks(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _peak_of(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def trial(
    directory: Path,
    store: LocalStore,
    *,
    files: int,
    most: int,
    large: Sequence[int],
    kills: int,
    command: str = "upload",
    bucket: str = "trees",
) -> list[Target]:
    """Do all of it in a directory, and say what holds.

    Args:
        directory: Where the tree and the command's state go.
        store: It gets the bucket.
        files: How many files.
        most: The largest size of the small ones, in bytes.
        large: The sizes of the others.
        kills: How many kills.
        command: What is killed: upload or sync.
        bucket: It must not exist.
    """
    from bigupload.testing.fault_proxy import FaultProxy
    from tests.tools import awkward_tree

    chosen, root = random.Random(files), directory / "tree"
    names = awkward_tree.FOR_SEAWEEDFS
    made = awkward_tree.grow(root, files, names=names, prefix=PREFIX, most=most, large=large)
    address = urlsplit(store.endpoint_url)
    with FaultProxy("127.0.0.1", address.port or 0, name=_operation) as proxy:
        trial = Trial(root, directory / "state", store, proxy, made, bucket)
        with contextlib.closing(trial._client()) as client:
            client.create_bucket(Bucket=trial.bucket)
        print(f"{files:,} files, uploaded with {kills} kills", flush=True)
        trial.upload(command, kills, chosen)
        print("synced again", flush=True)
        trial.sync_again()
        print(f"{CHANGED} files changed", flush=True)
        trial.sync_changed(chosen)
        print("files deleted", flush=True)
        trial.sync_deleted(chosen)
    return trial.targets


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, metavar="N")
    parser.add_argument("--kills", type=int, default=10, metavar="N")
    parser.add_argument("--sync", action="store_true", help="Kill `sync` instead of `upload`.")
    parser.add_argument("--dir", type=Path, help="Where the tree and the store go for the time being: 2.5 GB.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the targets there.")
    arguments = parser.parse_args()
    from bigupload.stores import local_store

    with tempfile.TemporaryDirectory(prefix="bigupload-tree-", dir=arguments.dir) as name:
        directory = Path(name)
        try:
            store = local_store.start(directory / "store")
            command = "sync" if arguments.sync else "upload"
            sizes: dict[str, Any] = {"files": arguments.files, "most": 100_000, "large": LARGE}
            checked = trial(directory, store, **sizes, kills=arguments.kills, command=command)
        finally:
            local_store.stop(directory / "store")
    if arguments.json is not None:
        report.write(arguments.json, "tree", {}, checked)
    return report.conclude(checked)
