"""The real command follows files that real processes write: killed again and again, and a recording of ffmpeg's."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from tests.tools.weed import weed_client

from .running import LONG, Ended, Place, end_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")]

BUCKET, KEY = "followed", "followed.bin"
PART_SIZE = 5 << 20
KILLS = 5
CONCURRENCY = 2
HELD = (CONCURRENCY + 5) * PART_SIZE
"""Bytes of parts that are in flight or prepared at most when the process dies."""
WRITER = """
import random, sys
source = random.Random(5)
with open(sys.argv[1], "r+b", buffering=0) as file:
    for line in sys.stdin:
        verb, count = line.split()
        if verb == "append":
            for _ in range(int(count)):
                file.write(source.randbytes(1 << 20))
        else:
            file.seek(int(count))
            file.write(b"the header, which is known at the end")
            file.seek(0, 2)
        print("done", flush=True)
"""


def test_kills_while_a_process_writes(tmp_path: Path, weed: LocalStore) -> None:
    s3 = weed_client(weed)
    s3.create_bucket(Bucket=BUCKET)
    file = tmp_path / "followed.bin"
    file.touch()
    gaps = random.Random(12)
    place = Place(tmp_path, weed.access_key, weed.secret_key)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def tell(command: str) -> None:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(f"{command}\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "done\n"

    def run(proxy: FaultProxy, while_it_runs: Callable[[], None]) -> Ended:
        command = place.start(
            "upload", "--follow", file, "--to", f"s3://{BUCKET}/{KEY}", "--endpoint-url", proxy.url, "--part-size",
            "5MiB", "--concurrency", str(CONCURRENCY), "--idle", "2s", "--json", "--progress", "none",
        )  # fmt: skip
        with command as process:
            while_it_runs()
            if not last:
                proxy.on_taken(proxy.bytes_taken + gaps.randint(1, 3 * PART_SIZE), process.kill)
                tell("append 11")
            ended = end_of(process)
        proxy.wait_for(lambda p: p.idle, LONG)
        return ended

    with writer, FaultProxy("127.0.0.1", urlsplit(weed.endpoint_url).port or 0) as proxy:
        last = False
        tell("append 7")
        for _ in range(KILLS):
            assert run(proxy, lambda: tell("append 6")).code == -signal.SIGKILL
        last = True
        ended = run(proxy, lambda: tell("header 0"))
        taken = proxy.bytes_taken
        assert writer.stdin is not None
        writer.stdin.close()

    assert ended.code == 0, ended.err
    assert ended.result["verified"] == "full-object"
    assert ended.result["resumed_parts"] > 0
    assert taken <= file.stat().st_size + PART_SIZE + KILLS * HELD
    assert sha256_in_store(weed) == hashlib.sha256(file.read_bytes()).hexdigest()


def sha256_in_store(weed: LocalStore, key: str = KEY) -> str:
    digest = hashlib.sha256()
    for block in weed_client(weed).get_object(Bucket=BUCKET, Key=key)["Body"].iter_chunks(1 << 20):
        digest.update(block)
    return digest.hexdigest()
