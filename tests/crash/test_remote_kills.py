"""A URL into a real SeaweedFS: killed with SIGKILL at seeded counts of bytes, and uploaded in bounded memory."""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from tests.tools.web_server import web_server
from tests.tools.weed import weed_client

from .running import LONG, Ended, Place, end_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")]

SIZE = 150_000_000
PART_SIZE = 5 << 20
KILLS = 6
BUCKET = "from-the-web"
CONCURRENCY = 2
HELD = (CONCURRENCY + 5) * PART_SIZE
"""Bytes of parts that are fetched, prepared or in flight at most when the process dies."""
MOST = 200e6


def test_kills_of_one_url(tmp_path: Path, weed: LocalStore) -> None:
    """Neither is sent again nor fetched again what a record has."""
    s3 = weed_client(weed)
    s3.create_bucket(Bucket=BUCKET)
    data = random.Random(3).randbytes(SIZE)
    gaps = random.Random(11)
    place = Place(tmp_path, weed.access_key, weed.secret_key)
    with web_server() as web, FaultProxy("127.0.0.1", urlsplit(weed.endpoint_url).port or 0) as proxy:
        web.serve("/film.mov", data)

        def run(*, kill: bool) -> Ended:
            with place.start(
                "upload", f"{web.url}/film.mov", f"s3://{BUCKET}/", "--endpoint-url", proxy.url, "--part-size", "5MiB",
                "--concurrency", str(CONCURRENCY), "--limit-rate", "150MB/s", "--json", "--progress", "none",
            ) as process:  # fmt: skip
                if kill:
                    proxy.on_taken(proxy.bytes_taken + gaps.randint(1, 2 * SIZE // (3 * KILLS)), process.kill)
                ended = end_of(process)
            proxy.wait_for(lambda p: p.idle, LONG)
            return ended

        for _ in range(KILLS):
            assert run(kill=True).code == -signal.SIGKILL
        ended = run(kill=False)
        fetched, taken = sum(end - start for start, end in web.ranges), proxy.bytes_taken
    assert ended.code == 0, ended.err
    assert (ended.result["verified"], ended.result["guarded_by"]) == ("full-object", "version")
    assert ended.result["resumed_parts"] > 0
    assert taken <= SIZE + KILLS * HELD
    assert fetched <= SIZE + KILLS * HELD
    digest = hashlib.sha256()
    for block in s3.get_object(Bucket=BUCKET, Key="film.mov")["Body"].iter_chunks(1 << 20):
        digest.update(block)
    assert digest.digest() == hashlib.sha256(data).digest()
    s3.close()


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("part_size", ["16MiB", "100MiB"])
def test_memory_is_bounded(tmp_path: Path, weed: LocalStore, ranges: bool, part_size: str) -> None:
    """Twice what may be held, also in parts that go through temporary files."""
    s3 = weed_client(weed)
    bucket = f"{BUCKET}-{part_size.lower()}-{ranges}".lower()
    s3.create_bucket(Bucket=bucket)
    data = random.Random(3).randbytes(1 << 20) * 400
    place = Place(tmp_path, weed.access_key, weed.secret_key)
    peak = 0
    with web_server() as web:
        web.serve("/film.mov", data, ranges=ranges)
        with place.start(
            "upload", f"{web.url}/film.mov", f"s3://{bucket}/", "--endpoint-url", weed.endpoint_url,
            "--part-size", part_size, "--temp-dir", tmp_path, "--json", "--progress", "none", cold=True,
        ) as process:  # fmt: skip
            while process.poll() is None:
                # The peak so far, of this process alone: ru_maxrss counts what was its parent's between fork and exec.
                found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
                peak = int(found[1]) * 1024 if found else peak
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
            ended = end_of(process)
    assert ended.code == 0, ended.err
    assert ended.result["size"] == len(data)
    assert 0 < peak < MOST
    s3.delete_object(Bucket=bucket, Key="film.mov")
    s3.close()
