"""A program of boto3's with one line added, killed in the middle and run again: it sends what was missing."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from bigupload.testing.local_bucket import LocalBucket

pytestmark = pytest.mark.slow

SIZE = int(os.environ.get("BIGUPLOAD_KILLED_SIZE", 300_000_000))
PROGRAM = """
import sys
import boto3
from boto3.s3.transfer import TransferConfig
from bigupload.adapters.boto3 import install

class OneWay:
    def __init__(self, file):
        self.read = file.read

path, bucket, key, kind = sys.argv[1:]
s3 = boto3.client("s3")
install(s3, on_result=lambda result: print("sent", result.bytes_sent, result.resumed_parts, result.verified))
slowly = TransferConfig(max_bandwidth=60_000_000)
seen = 0

def report(count):
    global seen
    seen += count
    print("seen", seen, flush=True)

if kind == "file":
    s3.upload_file(path, bucket, key, Callback=report, Config=slowly)
else:
    with open(path, "rb") as file:
        s3.upload_fileobj(file if kind == "file object" else OneWay(file), bucket, key, Callback=report, Config=slowly)
"""


@pytest.mark.parametrize("kind", ["file", "file object", "stream"])
def test_killed_and_run_again(bigupload_bucket: LocalBucket, tmp_path: Path, kind: str) -> None:
    path, key = tmp_path / "film.bin", f"film-{uuid.uuid4()}"
    hashed = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(SIZE // 1_000_000):
            piece = os.urandom(1_000_000)
            hashed.update(piece)
            file.write(piece)
    command = [sys.executable, "-c", PROGRAM, str(path), bigupload_bucket.name, key, kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        seen = next(line for line in first.stdout if int(line.split()[1]) > SIZE * 0.6)
        os.kill(first.pid, signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    again = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    lines = again.stdout.splitlines()
    _, sent, resumed, verified = lines[-1].split()
    reached = int(seen.split()[1])
    print(f"{kind}: {SIZE:,} bytes, killed at {reached:,}; then {int(sent):,} sent, {resumed} parts kept, {verified}")
    assert verified == "full-object"
    assert int(resumed) > 0
    assert int(sent) < SIZE * 0.85  # what was seen and not yet stored is sent again
    assert [line for line in lines if line.startswith("seen")][-1] == f"seen {SIZE}"
    found = hashlib.sha256()
    for piece in bigupload_bucket.client.get_object(Bucket=bigupload_bucket.name, Key=key)["Body"].iter_chunks(1 << 20):
        found.update(piece)
    assert found.digest() == hashed.digest()
