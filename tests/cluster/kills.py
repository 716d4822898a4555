"""Kills and restarts of each process of an upload by a Dask cluster, at seeded moments, with all real timeouts.

`python -m tests.cluster.kills --seed N` plays all of them, with other moments for each seed. Scheduler, nannies and
workers are those of Dask's own command lines, and the coordinator is `bigupload upload --dask`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Ended, Place, end_of, random_file
from tests.tools.signals import heard
from tests.tools.warm_starts import Cold, Started

from .nodes import WITH_DASK
from .support import COLD, MIB, NODE, REPOSITORY, descendants, is_alive

PART = 5 * MIB
PARTS = 12
RATE = "8MiB"
KILL, TERM = signal.SIGKILL, signal.SIGTERM
_LONG = 120.0
"""Seconds for a process to be where a story wants it; nothing depends on it."""


def _wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _LONG
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)  # the processor is for the processes that it waits for


class Process:
    """One of Dask's commands."""

    def __init__(self, directory: Path, name: str, *arguments: str, cold: bool) -> None:
        self.log = directory / f"{name}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        read, written = os.pipe()
        self._input = open(written, "wb")  # noqa: SIM115 - it ends with the process
        with self.log.open("w") as log, open(read):
            out = log.fileno()
            self._popen: Cold | Started = (
                Cold([*COLD, *arguments], cwd=REPOSITORY, env=environment, stdin=read, stdout=out, stderr=out)
                if cold
                else WITH_DASK.start(arguments, environment, module=NODE, stdin=read, output=out, error=out)
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def until_logged(self, text: str) -> None:
        def holds() -> bool:
            assert self._popen.poll() is None, self.log.read_text()
            return text in self.log.read_text()

        _wait_until(holds, f"{text!r} in {self.log.name}")

    def send(self, how: signal.Signals) -> None:
        """Send it a signal, and wait until it is gone."""
        self._popen.send_signal(how)
        self._popen.wait(_LONG)

    def end(self) -> None:
        """Kill it and all that it started."""
        below = descendants(self.pid)
        self._popen.kill()
        self._popen.communicate()
        self._input.close()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, KILL)


class Cluster:
    """A scheduler, and nannies or workers, as they are started."""

    def __init__(self, directory: Path, *, nannies: bool) -> None:
        self._directory = directory
        self._nannies = nannies
        self._started: list[Process] = []
        self.cold = False
        """Whether what is started from now on needs an interpreter of its own, and so some time."""
        self.nodes: list[Process] = []
        self.start_scheduler(0)
        self.address = str(json.loads((directory / "scheduler.json").read_text())["address"])
        self.start_node(wait=False)
        self.start_node(wait=False)
        for node in self.nodes:
            node.until_logged("Registered to:")

    def _start(self, kind: str, *arguments: str) -> Process:
        process = Process(self._directory, f"{kind}-{len(self._started)}", *arguments, cold=self.cold)
        self._started.append(process)
        return process

    def start_scheduler(self, port: int | None = None) -> None:
        """Start one, at the address of the one before it."""
        port = int(self.address.rpartition(":")[2]) if port is None else port
        file = self._directory / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self._start(
            "scheduler", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port),
            "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file),
        )  # fmt: skip
        _wait_until(lambda: file.exists() and file.read_text().strip().endswith("}"), "a scheduler")

    def start_node(self, *, wait: bool = True) -> None:
        """Start a worker, or a nanny with its worker."""
        node = self._start(
            "node", "distributed.cli.dask_worker", self.address, "--host", "127.0.0.1", "--nthreads", "1",
            "--nanny" if self._nannies else "--no-nanny", "--no-dashboard",
            "--local-directory", str(self._directory / f"scratch-{len(self._started)}"),
        )  # fmt: skip
        if wait:
            node.until_logged("Registered to:")
        self.nodes.append(node)

    def worker_below(self, node: Process) -> int:
        """The worker of a nanny."""
        (pid,) = [pid for pid in descendants(node.pid) if _is_spawned(pid)]
        return pid

    def make_whole(self) -> None:
        """Whatever was killed: a scheduler and two new nodes at the same address."""
        for process in self._started:
            process.end()
        self.start_scheduler()
        self.start_node()

    def end(self) -> None:
        for process in self._started:
            process.end()

    def logs(self) -> str:
        return "".join(process.log.read_text() for process in self._started)


def _is_spawned(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@dataclass(frozen=True)
class Moment:
    """When `recorded` parts are in the manifest, and then `begun` more PUTs of parts have begun."""

    recorded: int
    begun: int

    def __str__(self) -> str:
        return f"{self.recorded} parts recorded, {self.begun} more begun"


@dataclass(frozen=True)
class Upload:
    """The upload of a story, while it runs."""

    process: subprocess.Popen[str] | Started
    place: Place
    s3: StrictS3

    def is_at(self, count: Callable[[], int], number: int) -> None:
        """Wait until a count is reached."""

        def holds() -> bool:
            assert self.process.poll() is None, f"it ended before that: {end_of(self.process)}"
            return count() >= number

        _wait_until(holds, f"{number} of {count}")

    def reach(self, moment: Moment) -> None:
        if moment.recorded:
            self.is_at(lambda: len(recorded_parts(self.place)), moment.recorded)
        else:
            self.is_at(lambda: self.s3.count("CreateMultipartUpload"), 1)
        self.is_at(lambda: self.s3.count("UploadPart"), self.s3.count("UploadPart") + moment.begun)


def recorded_parts(place: Place) -> set[int]:
    """The numbers of the parts that the manifest has now."""
    for path in place.state.glob("*.manifest.jsonl"):
        lines = path.read_text().split("\n")[:-1]
        return {record["number"] for record in map(json.loads, lines) if record["type"] == "part"}
    return set()


Act = Callable[[Cluster, Upload], None]
GONE = r"the Dask scheduler \S+ is gone: try again later"
IN_STORE = rf" \((at least )?\d+ of {PARTS} parts are (known to be )?in the store\)"
SCHEDULER_GONE = rf"bigupload: \S+file\.bin: {GONE}({IN_STORE})?"
NO_WORKERS = (
    r"bigupload: \S+file\.bin: no worker of the Dask cluster can be used since 60 s: start workers, "
    rf"and try again{IN_STORE}"
)
TERMINATED = (
    rf"bigupload: stopped: ((at least )?\d+ of {PARTS} parts are (known to be )?in the store|no part .*); "
    "the same command resumes"
)


@dataclass(frozen=True)
class Story:
    """What is done to whom, and which endings are right: an exit status, and the last line for it."""

    name: str
    act: Act
    endings: dict[int, str]
    nannies: bool = True
    local: bool = False
    """Whether the cluster is the command's own, `--dask local:2`."""
    sampled: bool = False
    """Whether the slow suite plays it, too: what no other test of a cluster does."""
    restarts: str = ""
    """How soon what was killed is started again; "": not before the command has ended."""


def _scheduler(how: signal.Signals) -> Act:
    return lambda cluster, _: cluster.scheduler.send(how)


def _node(how: signal.Signals, count: int = 1) -> Act:
    def act(cluster: Cluster, _: Upload) -> None:
        for node in cluster.nodes[:count]:
            node.send(how)

    return act


def _coordinator(how: signal.Signals) -> Act:
    return lambda _, upload: upload.process.send_signal(how)


def _worker_of_a_nanny(cluster: Cluster, _: Upload) -> None:
    os.kill(cluster.worker_below(cluster.nodes[0]), KILL)


def _local_scheduler(_: Cluster, upload: Upload) -> None:
    (cluster,) = [pid for pid in descendants(upload.process.pid) if b"local_cluster" in _command_line(pid)]
    os.kill(cluster, KILL)


def _command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _restart_scheduler(how: signal.Signals) -> Act:
    def act(cluster: Cluster, _: Upload) -> None:
        cluster.scheduler.send(how)
        cluster.start_scheduler()
        cluster.start_node(wait=False)

    return act


def _restart_node(cluster: Cluster, _: Upload) -> None:
    cluster.nodes[0].send(KILL)
    cluster.start_node(wait=False)


def _restart_all_nodes(cluster: Cluster, _: Upload) -> None:
    _node(TERM, 2)(cluster, _)
    cluster.start_node(wait=False)


_WHOLE = {0: ""}
_GONE = {75: SCHEDULER_GONE}
STORIES = [
    Story("the scheduler is killed", _scheduler(KILL), _GONE, sampled=True),
    Story("the scheduler is terminated", _scheduler(TERM), _GONE, nannies=False),
    Story("one of two workers is killed", _node(KILL), _WHOLE, nannies=False),
    Story("one of two workers is terminated", _node(TERM), _WHOLE, nannies=False),
    Story("the worker of a nanny is killed", _worker_of_a_nanny, _WHOLE, sampled=True),
    Story("one of two nannies is killed", _node(KILL), _WHOLE),
    Story("one of two nannies is terminated", _node(TERM), _WHOLE, sampled=True),
    Story("both nannies are killed", _node(KILL, 2), {75: NO_WORKERS}, sampled=True),
    Story("the coordinator is killed", _coordinator(KILL), {-KILL: ""}, sampled=True),
    Story("the coordinator is terminated", _coordinator(TERM), {75: TERMINATED}),
    Story("the command's own scheduler is killed", _local_scheduler, _GONE, local=True, sampled=True),
    Story(
        "the scheduler restarts at once after a kill",
        _restart_scheduler(KILL),
        _WHOLE,
        restarts="at once",
        sampled=True,
    ),
    Story("the scheduler restarts at once after its end", _restart_scheduler(TERM), _WHOLE | _GONE, restarts="at once"),
    Story(
        "the scheduler restarts slowly",
        _restart_scheduler(KILL),
        _WHOLE | _GONE,
        restarts="as long as it takes",
        sampled=True,
    ),
    Story("a worker restarts", _restart_node, _WHOLE, nannies=False, restarts="as long as it takes"),
    Story("all nannies restart", _restart_all_nodes, _WHOLE, restarts="as long as it takes", sampled=True),
]
"""Eleven kills and five restarts. Each that ends the command has the coordinator's restart, too: the same command."""


def moment_of(story: Story, seed: int) -> Moment:
    """The same for each run with that seed."""
    chance = random.Random(f"{seed} {story.name}")
    return Moment(chance.randrange(PARTS - 6), chance.randrange(3))


def play(story: Story, seed: int, directory: Path) -> str:
    """Play a story, and check its end. Returns one line: what was done, and how it ended."""
    moment = moment_of(story, seed)
    random_file(directory / "file.bin", PARTS * PART, seed=seed)
    place = Place(directory, starts=WITH_DASK)
    with contextlib.ExitStack() as stack:
        stack.enter_context(heard())
        s3 = stack.enter_context(StrictS3(min_part_size=PART))
        s3.create_bucket("bucket")
        cluster = None
        if not story.local:
            cluster = Cluster(directory, nannies=story.nannies)
            stack.callback(cluster.end)
            cluster.cold = story.restarts == "as long as it takes"
        command = [
            "upload", place.directory / "file.bin", "--to", "s3://bucket/key", "--endpoint-url", s3.url, "--part-size",
            "5MiB", "--concurrency", "4", "--json", "--progress", "none",
            "--dask", "local:2" if cluster is None else cluster.address,
        ]  # fmt: skip
        # Slow enough that it is under way at each moment. What is left is sent without a limit.
        with place.start(*command, environment=place.environment(BIGUPLOAD_LIMIT_RATE=RATE)) as process:
            stack.callback(process.kill)
            upload = Upload(process, place, s3)
            upload.reach(moment)
            below = descendants(process.pid)
            kept = recorded_parts(place)
            sent = _sent(s3)
            began = time.monotonic()
            story.act(cluster, upload)  # type: ignore[arg-type]  # who needs one has one
            ended = end_of(process)
            seconds = time.monotonic() - began
        _check_end(story, ended)
        _wait_until(lambda: not any(map(is_alive, below)), "no process is left")
        if ended.code != 0:
            kept = recorded_parts(place)
            sent = _sent(s3)
            if cluster is not None and ended.code != -KILL:
                cluster.make_whole()
            resumed = place.run(*command)
            assert (resumed.code, resumed.err) == (0, ""), resumed
        twice = [number for number in kept if _sent(s3)[number] > sent[number]]
        assert not twice, f"recorded, and sent again: {twice}"
        assert s3.objects["bucket"]["key"].body == (directory / "file.bin").read_bytes()
        if cluster is not None:
            _check_logs(cluster.logs())
    again = sum(_sent(s3).values()) - PARTS
    return f"{story.name}: {moment}: {ended.code} after {seconds:.1f} s, {again} parts sent twice: {_last(ended.err)}"


def _sent(s3: StrictS3) -> Counter[int]:
    return Counter(int(each.query["partNumber"]) for each in list(s3.requests) if each.op == "UploadPart")


def _last(text: str) -> str:
    return text.splitlines()[-1] if text else "-"


def _check_end(story: Story, ended: Ended) -> None:
    assert ended.code in story.endings, ended
    for word in ("Traceback", "never retrieved", "Exception"):
        assert word not in ended.err, ended.err
    waits = "no worker of the Dask cluster can be used: waits 60 s for one"
    said = [line for line in ended.err.splitlines() if not line.endswith(waits)]
    assert re.fullmatch(story.endings[ended.code], "\n".join(said)), ended.err


def _check_logs(logs: str) -> None:
    """What Dask logs of itself is its own; nothing of bigupload may have raised there."""
    assert "bigupload/" not in logs, logs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.kills", description=__doc__)
    parser.add_argument("--seed", type=int, default=26)
    parser.add_argument("--only", type=int, help="the number of one story")
    arguments = parser.parse_args()
    logging.getLogger("aiohttp.server").disabled = True  # the store's, whose clients are killed
    failed = 0
    for number, story in enumerate(STORIES):
        if arguments.only in (None, number):
            with tempfile.TemporaryDirectory() as directory:
                began = time.monotonic()
                try:
                    print(f"{number:2} {play(story, arguments.seed, Path(directory))}", end="")
                except AssertionError as e:
                    failed += 1
                    print(f"{number:2} {story.name}: {moment_of(story, arguments.seed)}: WRONG\n{e}", end="")
                print(f" ({time.monotonic() - began:.0f} s in all)", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
