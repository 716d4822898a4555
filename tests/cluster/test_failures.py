"""What a cluster can do wrong: processes that are killed, that hang, or that see another file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import RetryPolicy, __version__, errors, events
from bigupload.cluster import membership, worker_side
from bigupload.cluster.messages import FileId
from bigupload.cluster.transport import ClusterTransport
from bigupload.core.part_plan import Part
from bigupload.sources.file import FileSource
from bigupload.testing.faults import Stall
from tests.integration.support import BUCKET, World, of_function
from tests.tools.cases import each_case
from tests.tools.waiting import until

from .support import COLD, MIB, Node, Processes

PART = 5 * MIB
PARTS = 12
SIZE = PARTS * PART


def at_part(number: int, action: Callable[[], object]) -> Callable[[events.Event], None]:
    """An `on_event` that acts when so many parts are recorded."""
    recorded: list[events.Event] = []

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.PartUploaded):
            recorded.append(event)
            if len(recorded) == number:
                action()

    return on_event


async def upload(world: World, path: Path, cluster: Processes, **more: Any) -> bigupload.UploadResult:
    more = {"retry": RetryPolicy(base_delay=0.01, stall_after=2.0), "concurrency": 4, "part_size": PART} | more
    to = f"s3://{BUCKET}/key"
    return await bigupload.upload(
        path,
        to=to,
        s3=world.options(),
        manifest=world.manifest_path,
        **of_function({"dask": cluster.address} | more),
    )


def recorded_parts(world: World) -> set[int]:
    """The numbers of the parts that the manifest has."""
    records = map(json.loads, world.manifest_path.read_text().splitlines())
    return {record["number"] for record in records if record["type"] == "part"}


class Interruption:
    """Notes which parts are recorded, and which are sent from then on."""

    def __init__(self, world: World, then: Callable[[], object]) -> None:
        self._world = world
        self._then = then
        self._begun = 0
        self.recorded: set[int] = set()

    def __call__(self) -> None:
        self.recorded = recorded_parts(self._world)
        self._begun = len(self._world.s3.requests)
        self._then()

    def sent_again(self) -> set[int]:
        """The recorded parts that came once more. One that was late may have come twice before it was recorded."""
        later = list(self._world.s3.requests)[self._begun :]
        return self.recorded & {int(each.query["partNumber"]) for each in later if each.op == "UploadPart"}


def assert_whole(world: World, path: Path, result: bigupload.UploadResult) -> None:
    assert result.verified is bigupload.Verified.FULL_OBJECT
    assert world.s3.objects[BUCKET]["key"].body == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("how", [Node.kill, Node.hang])
async def test_a_worker_that_dies_or_hangs_costs_what_it_had_not_told_of_its_groups(
    world: World, processes: Processes, how: Callable[[Node], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    put_group = ClusterTransport.put_group

    async def noted(self: ClusterTransport, requests: Any, source: Any, parts: Sequence[Part], **more: Any) -> None:
        groups.append(len(parts))
        await put_group(self, requests, source, parts, **more)

    monkeypatch.setattr(ClusterTransport, "put_group", noted)
    path, interruption = world.file(50 * PART), Interruption(world, lambda: how(processes.workers[0]))
    stop = at_part(24, interruption)
    result = await upload(world, path, processes, on_event=stop, concurrency=2, limit_rate=40 * MIB)
    assert_whole(world, path, result)
    assert max(groups) >= 4
    sent = Counter(int(each.query["partNumber"]) for each in world.s3.requests if each.op == "UploadPart")
    assert sorted(sent) == list(range(1, 51))
    assert not interruption.sent_again()
    # Each of two slots: one part in flight, and what was sent in the second since the last report, at 4 parts a second.
    assert sum(sent.values()) - 50 <= 2 * 6, "not all of its groups"


@pytest.mark.slow
async def test_workers_that_join_get_parts_and_the_last_one_may_leave(world: World, processes: Processes) -> None:
    path = world.file(SIZE)

    def replace_all() -> None:
        processes.start_worker()
        for worker in processes.workers[:2]:
            worker.kill()

    result = await upload(world, path, processes, on_event=at_part(2, replace_all))
    assert_whole(world, path, result)


@pytest.mark.slow
async def test_a_cluster_without_workers_says_what_it_waits_for(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "_WARN_AFTER", 0.0)
    with contextlib.ExitStack() as stack:
        cluster = Processes(tmp_path, stack)

        def on_event(event: events.Event) -> None:
            if isinstance(event, events.Warned) and "waits 60 s for one" in event.message:
                cluster.start_worker()

        path = world.file(SIZE)
        assert_whole(world, path, await upload(world, path, cluster, on_event=on_event))


@pytest.mark.slow
async def test_a_worker_that_sees_another_file_is_named_before_anything_is_sent(
    world: World, processes: Processes, can_unshare: None, tmp_path: Path
) -> None:
    path = world.file(SIZE)
    other = world.file(SIZE, name="other.bin", seed=1)
    stat = path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    mounted = f'mount --bind "{other}" "{path}" && exec "$@"'
    wrong = processes.start_worker("unshare", "-m", "sh", "-c", mounted, "sh", *COLD)
    with pytest.raises(bigupload.FileNotShared) as caught:
        await upload(world, path, processes)
    assert str(caught.value) == (
        f"the Dask worker {wrong.address} does not see the same file: {path} is another file: it has other bytes there"
        ". Workers need the file system that the file is on, under the same path"
    )
    assert not world.s3.uploads
    assert not world.manifest_path.exists()


async def test_a_path_that_workers_do_not_share_is_refused_at_once(
    world: World, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.file(6 * MIB)
    opened = worker_side._opened

    def elsewhere(file: FileId) -> FileSource:
        return opened(replace(file, path=f"{file.path}.elsewhere"))

    monkeypatch.setattr(worker_side, "_opened", elsewhere)
    with pytest.raises(bigupload.FileNotShared) as caught:
        await world.upload(path, dask=here.scheduler_address)
    assert re.fullmatch(
        rf"the Dask worker tcp://\S+ does not see the same file: no such file: {re.escape(str(path))}\.elsewhere\. "
        "Workers need the file system that the file is on, under the same path",
        str(caught.value),
    )
    assert caught.value.exit_code == errors.EXIT_FAILED
    assert not world.s3.uploads
    assert not world.manifest_path.exists()


@pytest.mark.slow
async def test_workers_need_no_credentials(world: World, processes: Processes) -> None:
    from distributed import Client

    async with Client(processes.address, asynchronous=True) as client:
        there: dict[str, dict[str, str]] = await client.run(lambda: dict(os.environ))
    assert not [name for environ in there.values() for name in environ if name.startswith("AWS_")]
    path = world.file(11 * MIB)
    assert_whole(world, path, await upload(world, path, processes))
    sent = [each for each in world.s3.requests if each.op == "UploadPart"]
    assert len(sent) == 3
    assert all("authorization" not in {name.lower() for name in each.headers} for each in sent), "URLs say all"


@pytest.mark.slow
async def test_a_worker_that_joins_without_the_file_gets_no_part(
    world: World, processes: Processes, can_unshare: None
) -> None:
    path = world.file(SIZE)
    hidden = f'mount -t tmpfs none "{world.directory}" && exec "$@"'

    def join() -> None:
        processes.start_worker("unshare", "-m", "sh", "-c", hidden, "sh", *COLD)

    unhurried = RetryPolicy()  # the start of a worker keeps two cores busy for longer than the other tests' two seconds
    result = await upload(world, path, processes, on_event=at_part(2, join), retry=unhurried)
    assert_whole(world, path, result)
    assert result.retries == 0


_OLD = """
import sys
from tests.cluster.nodes import main
assert "bigupload" not in sys.modules
sys.modules["bigupload"] = None  # as where it is not installed
main()
"""


@pytest.mark.slow
async def test_workers_without_bigupload_are_named(world: World, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        cluster = Processes(tmp_path, stack)
        worker = cluster.start_worker(sys.executable, "-c", _OLD)
        with pytest.raises(bigupload.ClusterError) as caught:
            await upload(world, world.file(SIZE), cluster)
    version = bigupload.__version__
    assert str(caught.value) == (
        f"the Dask worker {worker.address} has no bigupload {version}, or can't run it: install that version there, "
        "with the extra dask"
    )


@pytest.mark.slow
async def test_nothing_secret_is_left_with_scheduler_and_workers(world: World, processes: Processes) -> None:
    from distributed import Client

    path = world.file(SIZE)
    world.s3.script("UploadPart", Stall(0), part_number=2)
    recorded: list[events.Event] = []
    dump = world.directory / "dump.yaml"
    async with Client(processes.address, asynchronous=True) as client:
        on_event = at_part(3, lambda: recorded.append(events.Warned(message="")))
        uploading = asyncio.create_task(upload(world, path, processes, on_event=on_event, retry=RetryPolicy()))
        await until(lambda: bool(recorded), within=60.0)
        await client.dump_cluster_state(str(dump.with_suffix("")), format="yaml")  # with part 2 in flight
        world.s3.release()
        assert_whole(world, path, await uploading)
        told = repr(await client.get_events()) + repr(await client.get_worker_logs(n=100_000)) + dump.read_text()
    signatures = {each.query["X-Amz-Signature"] for each in world.s3.requests if each.op == "UploadPart"}
    assert len(signatures) >= PARTS
    for where in (told, processes.logs()):
        assert "bigupload" in where, "the probe sees what it is to look at"
        for secret in (*signatures, "X-Amz-Signature", world.s3.secret_key):
            assert secret not in where


@pytest.mark.parametrize("is_same_version", [False, True])
async def test_workers_with_another_version_are_named(
    world: World, here: Any, monkeypatch: pytest.MonkeyPatch, is_same_version: bool
) -> None:
    monkeypatch.setattr(membership, "SPOKEN", "9.9 (messages 4)")
    if not is_same_version:
        monkeypatch.setattr(membership, "__version__", "9.9")
    with pytest.raises(bigupload.ClusterError) as caught:
        await world.upload(world.file(6 * MIB), dask=here.scheduler_address)
    why = f"has bigupload {__version__}, and this is 9.9: install the same version there"
    if is_same_version:
        why = f"runs another build of bigupload {__version__}: install there what is installed here"
    first = min(worker.address for worker in here.workers.values())
    assert str(caught.value) == (f"the Dask worker {first} {why}, and restart the worker (2 workers can't be used)")
    assert not world.s3.uploads


@each_case("wrong", ["", "local:0", "local:", "local:1000", "tcp://", "a b", 4, object()])
def test_what_is_no_cluster(wrong: object) -> None:
    with pytest.raises(bigupload.UsageError, match="`dask` is"):
        bigupload.Uploader(dask=wrong)
