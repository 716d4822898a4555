"""The real command watches a directory in which real processes write, and is killed. The store is real."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from tests.tools.busy_tree import BusyTree
from tests.tools.signals import heard
from tests.tools.weed import fetch, weed_client

from .running import LONG, Ended, Place, Process, end_of, random_file

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")]

PART_SIZE = 5 << 20
MIB = 1 << 20
EVENTS = ("--progress", "json")
"""For `next_event`. Without a reader, the command waits once the pipe is full."""
WRITER = """
import random, sys
source = random.Random(5)
with open(sys.argv[1], "wb", buffering=0) as file:
    for line in sys.stdin:
        for _ in range(int(line)):
            file.write(source.randbytes(1 << 20))
        print("done", flush=True)
"""


class Watch:
    """A directory, a bucket of its own, and the command between them."""

    def __init__(self, tmp_path: Path, weed: LocalStore, bucket: str) -> None:
        self.weed = weed
        self.bucket = bucket
        self.place = Place(tmp_path, weed.access_key, weed.secret_key)
        self.directory = tmp_path / "watched"
        self.directory.mkdir()
        weed_client(weed).create_bucket(Bucket=bucket)

    def start(self, *more: str, endpoint: str | None = None) -> Process:
        with heard():
            return self.place.start(
                "watch", self.directory, f"s3://{self.bucket}/raw/", "--endpoint-url",
                endpoint or self.weed.endpoint_url, "--idle", "1s", "--json", "--progress", "none",
                "--part-size", "5MiB", *more,
            )  # fmt: skip

    def run(self, *more: str) -> Ended:
        with self.start("--until-idle", "2s", *more) as process:
            return end_of(process)

    def write(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def etags(self) -> dict[str, str]:
        """The ETag of each object, which is the MD5 of a small one."""
        pages = weed_client(self.weed).get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        rows = [each for page in pages for each in page.get("Contents", [])]
        return {each["Key"].removeprefix("raw/"): each["ETag"].strip('"') for each in rows}

    def keys(self) -> set[str]:
        return set(self.etags())

    def open_uploads(self) -> list[Any]:
        found: list[Any] = weed_client(self.weed).list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return found

    def parts_left(self) -> list[Any]:
        """Return the parts of the open uploads."""
        client = weed_client(self.weed)
        open_ones = [(each["Key"], each["UploadId"]) for each in self.open_uploads()]
        return [
            part
            for key, upload in open_ones
            for part in client.list_parts(Bucket=self.bucket, Key=key, UploadId=upload).get("Parts", [])
        ]

    def assert_stored(self, *names: str) -> None:
        for name in names:
            stored = fetch(self.weed, self.bucket, f"raw/{name}")
            assert hashlib.sha256(stored).hexdigest() == sha256(self.directory / name), name


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def results(ended: Ended) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in ended.out.splitlines()]
    return {Path(each["path"]).name: each for each in found}


def next_event(process: Process, kind: str, name: str) -> None:
    """Wait until the command tells of something."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("{"):
            event = json.loads(line)
            if event["event"] == kind and Path(event["path"]).name == name:
                return
    raise AssertionError(f"the command ended without a {kind} of {name}")


def next_result(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def stop(process: Process, number: signal.Signals) -> Ended:
    process.send_signal(number)
    return end_of(process)


@contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()


def tell(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{count}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


@pytest.fixture
def watch(tmp_path: Path, weed: LocalStore) -> Watch:
    return Watch(tmp_path, weed, f"watch-{secrets.token_hex(8)}")


def test_a_day_in_a_directory(watch: Watch) -> None:
    """Files are copied, written slowly, renamed, deleted and changed. Ctrl-C, and the same command again."""
    watch.write("there already.txt", b"there")
    with watch.start(*EVENTS) as process:
        assert next_result(process)["key"] == "raw/there already.txt"
        watch.write(".film.mp4.Xy", b"rsync writes").rename(watch.directory / "film.mp4")
        watch.write("gone", b"deleted before it has settled").unlink()
        watch.write("sub/deep/😀 name", b"named")
        assert {next_result(process)["key"] for _ in range(2)} == {"raw/film.mp4", "raw/sub/deep/😀 name"}
        with writer(watch.directory / "slow.bin") as slow:
            tell(slow, 17)
            next_event(process, "PartUploaded", "slow.bin")  # while it is written
            tell(slow, 9)
        assert next_result(process)["size"] == 26 * MIB
        watch.write("film.mp4", b"another cut")
        assert next_result(process)["key"] == "raw/film.mp4"
        ended = stop(process, signal.SIGINT)
    assert ended.code == 130
    assert "stopped: the same command resumes" in ended.err
    names = {"there already.txt", "film.mp4", "sub/deep/😀 name", "slow.bin"}
    assert watch.keys() == names
    watch.assert_stored(*names)
    again = watch.run()
    assert again.code == 0
    assert {each["skipped"] for each in results(again).values()} == {True}


def test_killed_again_and_again(watch: Watch) -> None:
    """Nothing is sent twice but what was in flight."""
    files = {f"{number}.bin": random_file(watch.directory / f"{number}.bin", 12 * MIB, number) for number in range(4)}
    kills, concurrency = 4, 2
    port = urlsplit(watch.weed.endpoint_url).port or 0
    with FaultProxy("127.0.0.1", port) as proxy:
        for _ in range(kills):
            with watch.start("--concurrency", str(concurrency), endpoint=proxy.url) as process:
                proxy.on_taken(proxy.bytes_taken + 6 * MIB, process.kill)
                assert end_of(process).code == -signal.SIGKILL
        with watch.start("--until-idle", "1s", endpoint=proxy.url) as process:
            ended = end_of(process)
        taken = proxy.bytes_taken
    assert ended.code == 0, ended.err
    assert watch.keys() == set(files)
    watch.assert_stored(*files)
    assert taken <= 4 * 12 * MIB + kills * (concurrency + 5) * PART_SIZE + MIB
    # A kill between the store's response and the manifest's first line leaves an empty upload, for `gc`.
    assert watch.parts_left() == []
    assert len(watch.open_uploads()) <= kills * concurrency


def test_hundreds_at_once(watch: Watch) -> None:
    with watch.start("--until-idle", "2s") as process:
        for number in range(200):
            watch.write(f"{number % 7}/{number}", b"%d" % number)
        ended = end_of(process)
    assert ended.code == 0, ended.err
    assert len(watch.keys()) == len(results(ended)) == 200
    assert len(watch.place.run("status").out.splitlines()) == 1  # the watch itself: a small file has no manifest


def test_everything_happens_and_it_is_killed(watch: Watch) -> None:
    """What a busy watch has not uploaded is late: nothing is lost."""
    tree = BusyTree(watch.directory, seed=7)
    for _ in range(3):
        with watch.start() as process:
            for _ in range(120):
                tree.fill()
            for _ in range(40):
                next_result(process)
                for _ in range(5):
                    tree.change()
            assert stop(process, signal.SIGKILL).code == -signal.SIGKILL
    ended = watch.run()
    assert ended.code in (0, 75), ended.err
    assert watch.run().code == 0
    files = tree.digests()
    stored = watch.etags()
    assert {name: stored.get(name) for name in files} == files


@pytest.mark.parametrize("how", ["truncated", "replaced", "killed and truncated"])
def test_a_file_that_is_followed_does_not_stay_what_it_was(watch: Watch, how: str) -> None:
    path, other = watch.directory / "slow.bin", watch.write("slow.bin.tmp", b"x" * 20 * MIB)
    with writer(path) as slow, watch.start(*EVENTS) as process:
        tell(slow, 18)
        next_event(process, "PartUploaded", "slow.bin")
        if "killed" in how:
            assert stop(process, signal.SIGKILL).code == -signal.SIGKILL
        if "truncated" in how:
            os.truncate(path, 3 * MIB)
        else:
            other.replace(path)
        if "killed" not in how:
            found = next_result(process)
            assert (found["key"], found["size"]) == ("raw/slow.bin", path.stat().st_size)
            ended = stop(process, signal.SIGTERM)
            assert ended.code == 75
            assert "was rewritten, truncated or replaced" in ended.err
    if "killed" in how:
        ended = watch.run()
        assert ended.code == 0, ended.err
    watch.assert_stored("slow.bin")
    assert watch.open_uploads() == []


def test_the_directory_is_deleted(watch: Watch) -> None:
    """What is followed is uploaded all the same: the open file still has its bytes."""
    path = watch.directory / "slow.bin"
    with writer(path) as slow, watch.start(*EVENTS) as process:
        tell(slow, 18)
        next_event(process, "PartUploaded", "slow.bin")
        digest = sha256(path)
        shutil.rmtree(watch.directory)
        ended = end_of(process)
    assert ended.code == 75
    (line,) = [line for line in ended.err.splitlines() if not line.startswith("{")]
    assert "can't see" in line
    assert "Try again when it is back" in line
    assert hashlib.sha256(fetch(watch.weed, watch.bucket, "raw/slow.bin")).hexdigest() == digest


def test_a_recording_of_ffmpeg(watch: Watch) -> None:
    """In the store after its end, with the header that ffmpeg writes last."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    noisy = "testsrc2=size=1280x720:rate=25,noise=alls=60:allf=t"
    how = ["-t", "8", "-c:v", "mpeg4", "-q:v", "2", "-y", str(watch.directory / "live.mp4")]
    with watch.start("--until-idle", "3s") as process:
        subprocess.run([ffmpeg, "-v", "error", "-re", "-f", "lavfi", "-i", noisy, *how], check=True, timeout=LONG)
        ended = end_of(process)
    assert ended.code == 0, ended.err
    assert ended.result["verified"] == "full-object"
    watch.assert_stored("live.mp4")
