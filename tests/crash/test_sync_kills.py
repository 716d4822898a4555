"""`bigupload sync`, killed at any moment: the same command sends only what was in flight."""

from __future__ import annotations

import random
import signal
from functools import partial
from pathlib import Path

import pytest

from bigupload.manifests.job_record import known_jobs
from bigupload.testing.strict_s3 import StrictS3

from .running import Place, end_of, until

FILES = 200
IN_FLIGHT = 4


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_sync_that_is_killed_again_and_again(tmp_path: Path) -> None:
    chosen = random.Random(13)
    root = tmp_path / "tree"
    for number in range(FILES):
        path = root / f"{number % 7}" / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chosen.randbytes(number * 100))
    place = Place(tmp_path / "home")
    place.directory.mkdir()
    with StrictS3() as s3:
        s3.create_bucket("bucket")
        command = (
            "sync", root, "--to", "s3://bucket/p/", "--endpoint-url", s3.url, "--progress", "none",
            "--concurrency", str(IN_FLIGHT), "--delete",
        )  # fmt: skip

        def has_sent(count: int) -> bool:
            return len(s3.objects["bucket"]) >= count

        kills = 0
        for after in sorted(chosen.sample(range(1, FILES - 20), 10)):
            with place.start(*command) as process:
                until(partial(has_sent, after), process)
                process.kill()
                kills += end_of(process).code == -signal.SIGKILL
            s3.settle()
        assert kills == 10
        (root / "0" / "file 0").unlink()
        ended = place.run(*command)
        assert ended.code == 0, ended.err
        puts = [request.key for request in s3.requests if request.op == "PutObject"]
        assert len(puts) - len(set(puts)) <= kills * (IN_FLIGHT + 4)
        assert {key: bytes(each.body) for key, each in s3.objects["bucket"].items()} == {
            f"p/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("file *")
        }
        assert known_jobs(place.state)[0].status == "finished"
        before = len(s3.requests)
        assert place.run(*command).code == 0
        assert [request.op for request in s3.requests[before:]] == ["ListObjectsV2"]
