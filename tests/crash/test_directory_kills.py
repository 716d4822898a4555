"""`bigupload upload DIR`, killed in the middle: the same command sends what is missing."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from bigupload.manifests.job_record import known_jobs
from bigupload.testing.faults import Call
from bigupload.testing.strict_s3 import StrictS3

from .running import Place, end_of, until

FILES = 60


@pytest.mark.slow
def test_a_killed_directory_continues(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    for number in range(FILES):
        path = root / f"{number % 7}" / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{number}".encode() * 1000)
    held = threading.Event()
    with StrictS3() as s3:
        s3.create_bucket("bucket")
        for number in (20, 40):
            s3.script("PutObject", Call(lambda _: held.wait() and None), key=f"p/{number % 7}/file {number}")
        place = Place(tmp_path / "home")
        place.directory.mkdir()
        command = ("upload", root, "--to", "s3://bucket/p/", "--endpoint-url", s3.url, "--progress", "none", "--json")
        with place.start(*command) as process:
            until(lambda: any(job.files == FILES - 2 for job in known_jobs(place.state)), process)
            process.kill()
            assert end_of(process).code == -signal.SIGKILL
        held.set()
        s3.clear()
        before = len(s3.requests)
        ended = place.run(*command)
        assert ended.code == 0, ended.err
        sent = [request.key for request in s3.requests[before:] if request.op == "PutObject"]
        assert sorted(sent) == ["p/5/file 40", "p/6/file 20"]
        assert '"skipped": 58' in ended.out.splitlines()[-1]
        assert {key: bytes(each.body) for key, each in s3.objects["bucket"].items()} == {
            f"p/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("file *")
        }


@pytest.mark.slow
@pytest.mark.parametrize("command", ["upload", "move"])
def test_a_killed_directory_that_replaces_nothing_continues(tmp_path: Path, command: str) -> None:
    """Killed when the store has files, and before it responds: nothing is recorded."""
    root = tmp_path / "tree"
    root.mkdir()
    contents = {f"file {number}": f"{number}".encode() * 1000 for number in range(10)}
    for name, body in contents.items():
        (root / name).write_bytes(body)
    with StrictS3() as s3:
        s3.create_bucket("bucket")
        s3.hold("PutObject", acted=True)
        place = Place(tmp_path / "home")
        place.directory.mkdir()
        words = (command, root, "--to", "s3://bucket/p/", "--endpoint-url", s3.url, "--if-none-match", "--json")
        with place.start(*words) as process:
            until(lambda: len(s3.objects["bucket"]) >= 3, process)
            process.kill()
            assert end_of(process).code == -signal.SIGKILL
        s3.release()
        s3.settle()
        assert 3 <= s3.count("PutObject") <= len(contents)
        ended = place.run(*words)
        assert ended.code == 0, ended.err
        assert {key: bytes(each.body) for key, each in s3.objects["bucket"].items()} == {
            f"p/{name}": body for name, body in contents.items()
        }
        assert s3.count("PutObject", status=200) == len(contents)
        assert not (command == "move" and any(root.iterdir()))
