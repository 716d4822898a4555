"""A pipe into a real SeaweedFS, killed with SIGKILL at ten seeded counts of bytes, and replayed each time."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from tests.tools.weed import weed_client

from .running import COMMAND, LONG, REPOSITORY, Ended, Place, end_of, random_file

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")]

SIZE = 150_000_000
PART_SIZE = 5 << 20
KILLS = 10
BUCKET, KEY = "piped", "piped.bin"
CONCURRENCY = 2
HELD = (CONCURRENCY + 5) * PART_SIZE
"""Bytes of parts that are in flight or prepared at most when the process dies."""


def test_ten_kills_of_one_pipe(tmp_path: Path, weed: LocalStore) -> None:
    s3 = weed_client(weed)
    s3.create_bucket(Bucket=BUCKET)
    file = tmp_path / "piped.bin"
    sha256 = random_file(file, SIZE, seed=3)
    gaps = random.Random(10)
    place = Place(tmp_path, weed.access_key, weed.secret_key)

    def run(proxy: FaultProxy, *, kill: bool) -> Ended:
        arguments = [
            "upload", "-", "--to", f"s3://{BUCKET}/{KEY}", "--endpoint-url", proxy.url, "--part-size", "5MiB",
            "--concurrency", str(CONCURRENCY), "--limit-rate", "150MB/s", "--json", "--progress", "none",
        ]  # fmt: skip
        with (
            subprocess.Popen(["cat", str(file)], stdout=subprocess.PIPE) as cat,
            subprocess.Popen(
                [*COMMAND, *arguments], cwd=REPOSITORY, env=place.environment(), stdin=cat.stdout,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            ) as process,
        ):  # fmt: skip
            assert cat.stdout is not None
            cat.stdout.close()
            if kill:
                proxy.on_taken(proxy.bytes_taken + gaps.randint(1, 2 * SIZE // (3 * KILLS)), process.kill)
            ended = end_of(process)
        proxy.wait_for(lambda p: p.idle, LONG)
        return ended

    with FaultProxy("127.0.0.1", urlsplit(weed.endpoint_url).port or 0) as proxy:
        for _ in range(KILLS):
            assert run(proxy, kill=True).code == -signal.SIGKILL
        ended = run(proxy, kill=False)
        taken = proxy.bytes_taken

    assert ended.code == 0, ended.err
    assert ended.result["verified"] == "full-object"
    assert ended.result["resumed_parts"] > 0
    assert taken <= SIZE + KILLS * HELD
    digest = hashlib.sha256()
    for block in s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].iter_chunks(1 << 20):
        digest.update(block)
    assert digest.hexdigest() == sha256
