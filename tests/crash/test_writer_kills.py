"""A program with a writer, into a real SeaweedFS: killed at ten seeded counts of bytes, and ended otherwise."""

from __future__ import annotations

import io
import random
import signal
import sys
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import botocore.exceptions
import pytest

from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from tests.tools.cases import each_case
from tests.tools.weed import weed_client

from .running import LONG, Ended, Place, end_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")]

SIZE = 300_000_000
PART_SIZE = 5 << 20
KILLS = 10
BUCKET = "written"
HELD = (2 + 5) * PART_SIZE
"""Bytes of parts that are in flight or prepared at most when the process dies."""
PROGRAM = Path(__file__).with_name("writing.py")


class Store:
    """What the program's object is, at any moment."""

    def __init__(self, weed: LocalStore, directory: Path) -> None:
        self.s3 = weed_client(weed)
        self.place = Place(directory, weed.access_key, weed.secret_key)
        if BUCKET not in [each["Name"] for each in self.s3.list_buckets()["Buckets"]]:
            self.s3.create_bucket(Bucket=BUCKET)

    def command(self, *more: str) -> list[str]:
        return [sys.executable, *more, str(PROGRAM)]

    def has(self, key: str) -> bool:
        try:
            self.s3.head_object(Bucket=BUCKET, Key=key)
        except botocore.exceptions.ClientError:
            return False
        return True

    def member(self, key: str) -> bytes:
        body = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            assert archive.testzip() is None
            return archive.read("member")


@pytest.fixture
def store(weed: LocalStore, tmp_path: Path) -> Store:
    return Store(weed, tmp_path)


def test_ten_kills_of_one_writer(store: Store, weed: LocalStore) -> None:
    gaps = random.Random(10)

    def run(proxy: FaultProxy, *, kill: bool) -> Ended:
        arguments = [proxy.url, f"s3://{BUCKET}/killed.zip", str(SIZE), "cleanly"]
        with store.place.start(*arguments, command=store.command()) as process:
            if kill:
                proxy.on_taken(proxy.bytes_taken + gaps.randint(1, 2 * SIZE // (3 * KILLS)), process.kill)
            ended = end_of(process)
        proxy.wait_for(lambda p: p.idle, LONG)
        return ended

    with FaultProxy("127.0.0.1", urlsplit(weed.endpoint_url).port or 0) as proxy:
        for _ in range(KILLS):
            assert run(proxy, kill=True).code == -signal.SIGKILL
            assert not store.has("killed.zip")
        ended = run(proxy, kill=False)
        taken = proxy.bytes_taken

    assert ended.code == 0, ended.err
    verified, resumed = ended.out.split()
    assert verified == "full-object"
    assert int(resumed) > 0
    assert taken <= SIZE + KILLS * HELD
    assert len(store.member("killed.zip")) == SIZE


@each_case(
    "how, code",
    [("raise", 1), ("exit", 0), ("os._exit", 0), ("interrupt", -signal.SIGINT), ("forgotten", 0), ("in a thread", 0)],
)
@pytest.mark.parametrize("size", [1_000, 12_000_000])
def test_the_end_of_the_process_commits_nothing(store: Store, weed: LocalStore, size: int, how: str, code: int) -> None:
    key = f"{how}-{size}"
    arguments = [weed.endpoint_url, f"s3://{BUCKET}/{key}", str(size), how]
    ended = store.place.run(*arguments, command=store.command("-X", "dev"))
    assert ended.code == code, ended.err
    assert not store.has(key)
    assert "Exception ignored" not in ended.err
    again = store.place.run(*arguments[:-1], "cleanly", command=store.command())
    assert again.code == 0, again.err
    assert len(store.member(key)) == size
