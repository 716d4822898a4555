"""Each pair of steps, and a kill between them: the same call again ends as if there had been none."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bigupload.support.files import ASIDE
from bigupload.testing.strict_s3 import StrictS3
from bigupload.verification.receipts import read_receipt

pytestmark = pytest.mark.slow

STEPS = ("digest", "link", "receipt", "delete", "own")
PAIRS = [
    (first, second)
    for first, second in itertools.permutations(STEPS, 2)
    if first != "delete" or second == "own"  # what is named before a deletion comes before it
]
PROGRAM = """
import asyncio, json, os, signal, sys
import bigupload

async def own(row):
    return row

async def die(_):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    first, second, kills, path, receipt, url, function = sys.argv[1:]
    made = {
        "digest": bigupload.Digest("sha256"), "link": bigupload.Link("1h"), "receipt": bigupload.Receipt(receipt),
        "delete": bigupload.DeleteSource(), "own": own,
    }
    then = (made[first], *([die] if kills == "yes" else []), made[second])
    options = {"s3": bigupload.S3Options(endpoint_url=url), "then": then}
    if function == "upload":
        result = await bigupload.upload(path, "s3://bucket/p/", **options)
    else:
        files = bigupload.select_files(os.path.dirname(path))
        outcomes = [each async for each in bigupload.upload_many(files, "s3://bucket/p/", job="job", **options)]
        result = outcomes[0] if outcomes else None
    error = getattr(result, "error", None)
    print(json.dumps({"error": error and str(error), "sha256": getattr(result, "sha256", None)}))

asyncio.run(main())
"""


@pytest.mark.parametrize("size", [1000, 9_000_000], ids=["one PUT", "parts"])
@pytest.mark.parametrize("function", ["upload", "upload_many"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_killed_between_two_steps(tmp_path: Path, pair: tuple[str, str], function: str, size: int) -> None:
    path, receipt = tmp_path / "source" / "file", tmp_path / "receipt.json"
    path.parent.mkdir()
    body = os.urandom(size)
    path.write_bytes(body)
    with StrictS3() as s3:
        s3.create_bucket("bucket")
        environment = os.environ | {
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            "AWS_DEFAULT_REGION": s3.region,
            "BIGUPLOAD_STATE_DIR": str(tmp_path / "state"),
        }

        def run(kills: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-c", PROGRAM, *pair, kills, str(path), str(receipt), s3.url, function]
            return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

        assert run("yes").returncode == -signal.SIGKILL
        is_gone = not path.exists()
        assert is_gone == (pair[0] == "delete")
        ended = run("no")
        assert bytes(s3.objects["bucket"]["p/file"].body) == body
    if is_gone and function == "upload" and size == 1000:  # as for `mv`: nothing is left of it here
        assert "SourceNotFound" in ended.stderr
    else:
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["error"] is None
    assert path.exists() == ("delete" not in pair)
    if "receipt" in pair:
        assert [file.key for file in read_receipt(receipt).files] == ["p/file"]
    assert not [each for each in path.parent.iterdir() if each.name.startswith(ASIDE)]
