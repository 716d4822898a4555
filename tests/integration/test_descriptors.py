"""More uploads at once than a process has descriptors for, and what is said if there are too few all the same."""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import bigupload
from bigupload import events
from bigupload.testing.strict_s3 import StrictS3

from .support import BUCKET, World

MANY = """
import asyncio, contextlib, json, os, resource, sys, threading
import bigupload

url, ca, directory, limit, count, options = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]), json.loads(sys.argv[6])
in_parts = sys.argv[7] == "True"
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
s3 = bigupload.S3Options(endpoint_url=url, region="us-east-1", ca_bundle=ca or None)
seen = {"threads": 0, "descriptors": 0, "open": 0}
open_now = set()


def look(number, event):
    open_now.add(number)
    if isinstance(event, bigupload.UploadCompleted):
        open_now.discard(number)
    seen["threads"] = max(seen["threads"], threading.active_count())
    seen["descriptors"] = max(seen["descriptors"], len(os.listdir("/proc/self/fd")))
    seen["open"] = max(seen["open"], len(open_now))


async def main():
    alone = contextlib.nullcontext(bigupload)
    async with alone if options == "alone" else bigupload.Uploader(**options) as uploader:
        found = await asyncio.gather(
            *(
                uploader.upload(
                    f"{directory}/{number}", to=f"s3://bucket/{number}", s3=s3,
                    on_event=lambda event, number=number: look(number, event),
                    manifest=f"{directory}/{number}.jsonl" if in_parts else None,
                )
                for number in range(count)
            ),
            return_exceptions=True,
        )
    errors = [f"{type(each).__name__}: {each}" for each in found if isinstance(each, BaseException)]
    proved = sum(each.verified == "full-object" for each in found if not isinstance(each, BaseException))
    retries = sum(each.retries for each in found if not isinstance(each, BaseException))
    # Not ru_maxrss: it counts the test process, too, whose memory this one had between fork and exec.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak = int(status["VmHWM"].split()[0]) / 1024
    print(json.dumps({"proved": proved, "errors": errors[:3], "retries": retries, "peak": peak, **seen}))


asyncio.run(main())
"""


def upload_many(
    s3: StrictS3, directory: Path, *, limit: int, count: int, in_parts: bool, alone: bool = False, **options: Any
) -> dict[str, Any]:
    """Upload many files in a process. With `in_parts`, each has a manifest; else one PUT sends it."""
    for number in range(count):
        (directory / str(number)).write_bytes(b"%d" % number * 100)
    given = json.dumps("alone" if alone else options)
    arguments = [s3.url, str(s3.ca_bundle or ""), str(directory), str(limit), str(count), given, str(in_parts)]
    ended = subprocess.run([sys.executable, "-c", MANY, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("count", "limit", "in_parts", "most_open"),
    [(40, 128, True, 6), (100, 128, True, 6), (300, 1024, True, 64), (200, 128, False, 28), (600, 1024, False, 260)],
)
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_more_uploads_than_descriptors(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    scheme: str,
    count: int,
    limit: int,
    in_parts: bool,
    most_open: int,
) -> None:
    s3: StrictS3 = request.getfixturevalue("s3_tls" if scheme == "https" else "s3")
    found = upload_many(s3, tmp_path, limit=limit, count=count, in_parts=in_parts)
    assert found["errors"] == []
    assert found["proved"] == count == len(s3.objects[BUCKET])
    assert found["retries"] == 0
    assert found["open"] <= most_open
    assert found["descriptors"] <= limit
    assert found["threads"] <= 2 * most_open + 40, "and not one for each upload"
    assert found["peak"] < 250


@pytest.mark.slow
@pytest.mark.parametrize(("in_parts", "most_open"), [(True, 6), (False, 28)])
def test_calls_without_an_uploader_are_counted_together(
    s3: StrictS3, tmp_path: Path, in_parts: bool, most_open: int
) -> None:
    found = upload_many(s3, tmp_path, limit=128, count=30, in_parts=in_parts, alone=True)
    assert found["errors"] == []
    assert (found["proved"], found["retries"]) == (30, 0)
    assert found["open"] <= most_open


@pytest.mark.parametrize("in_parts", [True, False])
async def test_max_uploads(world: World, in_parts: bool) -> None:
    begun: set[int] = set()
    most = 0

    def look(number: int, event: events.Event) -> None:
        nonlocal most
        begun.add(number)
        if isinstance(event, events.UploadCompleted):
            begun.discard(number)
        most = max(most, len(begun))

    async with bigupload.Uploader(max_uploads=2) as uploader:
        found = await asyncio.gather(
            *(
                uploader.upload(
                    world.file(100, f"{number}"), to=f"s3://{BUCKET}/{number}", s3=world.options(),
                    on_event=functools.partial(look, number),
                    manifest=world.directory / f"{number}.jsonl" if in_parts else None,
                )
                for number in range(8)
            )
        )  # fmt: skip
    assert [each.verified for each in found] == [bigupload.Verified.FULL_OBJECT] * 8
    assert most == 2


FEW = """
import asyncio, os, resource, sys
import bigupload

url, ca, path, free, warm = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
s3 = bigupload.S3Options(endpoint_url=url, region="us-east-1", ca_bundle=ca or None)


async def main():
    held = []
    async with bigupload.Uploader(retry=bigupload.RetryPolicy(base_delay=0, max_delay=0)) as uploader:
        if warm == "warm":
            await uploader.upload(path, to="s3://bucket/first", s3=s3)
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            for _ in range(int(free)):
                os.close(held.pop())
        try:
            print("proved", (await uploader.upload(path, to="s3://bucket/second", s3=s3)).verified)
        except bigupload.BigUploadError as error:
            print(error)
        finally:
            for each in held:
                os.close(each)


asyncio.run(main())
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("warm", ["warm", "cold"])
@pytest.mark.parametrize("each", [(0, 3), range(9)], ids=["two", "all"])
def test_too_few_descriptors_are_called_that(
    request: pytest.FixtureRequest, tmp_path: Path, scheme: str, warm: str, each: Sequence[int]
) -> None:
    """Whatever can't be opened for want of them: the file, its manifest, the configuration, a connection."""
    s3: StrictS3 = request.getfixturevalue("s3_tls" if scheme == "https" else "s3")
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    told = []
    for free in each:
        arguments = [s3.url, str(s3.ca_bundle or ""), str(path), str(free), warm]
        ended = subprocess.run([sys.executable, "-c", FEW, *arguments], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        told.append(ended.stdout.strip())
    failed = [line for line in told if line != "proved full-object"]
    assert failed
    if warm == "warm" or len(told) > 2:
        assert told[len(failed) :] == ["proved full-object"] * (len(told) - len(failed)) != [], "with more it works"
    for line in failed:
        assert "this process has too many files and connections open: allow more (ulimit -n)" in line
        assert "name another" not in line
