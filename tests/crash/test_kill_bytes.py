"""One upload into a real SeaweedFS, killed with SIGKILL at 20 seeded counts of bytes that the store has taken."""

from __future__ import annotations

import hashlib
import random
import signal
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bigupload.manifests.journal import read_manifest
from bigupload.stores.local_store import LocalStore
from bigupload.testing.fault_proxy import FaultProxy
from bigupload.testing.fault_proxy.exchange import ProxiedExchange
from tests.tools.weed import weed_client

from .running import LONG, Ended, Place, end_of, random_file

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")]

SIZE = 400_000_000
PART_SIZE = 5 << 20
KILLS = 20
MOST_BETWEEN = 30_000_000
"""Bytes from one kill to the next: 15 MB on average, so that the 20th comes well before the file's end."""
BUCKET, KEY = "killed", "killed.bin"
# The rate keeps the socket buffers short: what is in flight when the process dies is what it was sending.
PACE = ["--concurrency", "2", "--limit-rate", "150MB/s", "--part-size", str(PART_SIZE)]


def sent_parts(exchanges: list[ProxiedExchange]) -> list[tuple[int, ProxiedExchange]]:
    return [(each.part, each) for each in exchanges if each.part is not None]


def test_twenty_kills_in_one_upload(tmp_path: Path, weed: LocalStore) -> None:
    s3 = weed_client(weed)
    s3.create_bucket(Bucket=BUCKET)
    file = tmp_path / "killed.bin"
    sha256 = random_file(file, SIZE, seed=2)
    gaps = random.Random(20)
    place = Place(tmp_path, weed.access_key, weed.secret_key)

    lost = Counter[int]()  # by part: bytes that the store took of it and had not acknowledged when the process was dead
    kept: set[int] = set()  # parts that the store had acknowledged when a process was dead
    journalled: set[int] = set()

    def run(proxy: FaultProxy, *, kill: bool) -> Ended:
        begun = len(proxy.exchanges)
        arguments = ["upload", file, "--to", f"s3://{BUCKET}/{KEY}", "--endpoint-url", proxy.url, *PACE]
        with place.start(*arguments, "--json", "--progress", "none") as process:
            if kill:
                proxy.on_taken(proxy.bytes_taken + gaps.randint(1, MOST_BETWEEN), process.kill)
            ended = end_of(process)
        # What the dead process had given to the kernel may still arrive, and be acknowledged.
        proxy.wait_for(lambda p: p.idle, LONG)
        sent = sent_parts(list(proxy.exchanges)[begun:])
        again = {number for number, _ in sent} & (kept | journalled)
        assert not again, f"parts {again} were in the store and were sent again"
        journalled.update(read_manifest(place.manifest_path()).manifest.parts)
        kept.update(number for number, each in sent if each.acted)
        lost.update({number: each.taken for number, each in sent if not each.acted})
        return ended

    with FaultProxy("127.0.0.1", urlsplit(weed.endpoint_url).port or 0) as proxy:
        for _ in range(KILLS):
            assert run(proxy, kill=True).code == -signal.SIGKILL
        resumed = len(journalled)
        ended = run(proxy, kill=False)

    assert ended.code == 0, ended.err
    assert ended.result["verified"] == "full-object"
    assert ended.result["resumed_parts"] >= resumed > 0
    digest = hashlib.sha256()
    for block in s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].iter_chunks(1 << 20):
        digest.update(block)
    assert digest.hexdigest() == sha256

    parts = {number: traffic for (_, _, number), traffic in proxy.parts.items()}
    assert len(proxy.parts) == len(parts) == ended.result["parts"]  # one upload id from the first byte to the last
    assert {number: traffic.acknowledged for number, traffic in parts.items()} == dict.fromkeys(parts, 1)
    for number, traffic in parts.items():
        size = min(PART_SIZE, SIZE - (number - 1) * PART_SIZE)
        assert traffic.body_bytes == size + lost[number]  # sent twice: what was in flight at a kill, to the byte
    assert sum(traffic.body_bytes for traffic in parts.values()) == SIZE + lost.total()
    assert 0 < lost.total() <= KILLS * 2 * PART_SIZE
    assert s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []
    s3.close()
