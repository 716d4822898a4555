"""A store, a place with a file in it, and the command in this process."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.cli import main
from bigupload.testing.faults import Call
from bigupload.testing.strict_s3 import StrictS3
from bigupload.testing.strict_s3.wire import S3Error
from tests.crash.running import Ended, Place
from tests.tools.waiting import until

from .support import SIZE, Command, assert_refused, to


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3]:
    with StrictS3() as running:
        yield running


@pytest.fixture
def s3(server: StrictS3) -> StrictS3:
    server.objects.clear()
    server.uploads.clear()
    server.clear()
    server.create_bucket("bucket")
    server.create_bucket("far", region="eu-west-3")
    return server


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="session")
def bytes_of_file() -> bytes:
    """The bytes of `file`: made once, because that takes longer than many a test."""
    return random.Random(4).randbytes(SIZE)


@pytest.fixture
def file(place: Place, bytes_of_file: bytes) -> Path:
    path = place.directory / "file.bin"
    path.write_bytes(bytes_of_file)
    return path


@pytest.fixture
def bigupload(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process."""
    environment = place.environment()
    for name in set(os.environ) - set(environment):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str | Path) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return Ended(code, out, err)

    return run


@pytest.fixture
def stopped(bigupload: Command, s3: StrictS3, file: Path, place: Place) -> Path:
    """The manifest of an upload that came half way: the first part is on record, the second one was refused."""

    def refuse_when_recorded(store: StrictS3) -> None:
        if not any(upload.parts for upload in store.uploads.values()):
            raise S3Error("SlowDown")  # it took the only slot first
        asyncio.run(until(lambda: len(place.manifest().parts) == 1))
        raise S3Error("AccessDenied")

    s3.script("UploadPart", Call(refuse_when_recorded), part_number=2, repeat=True)
    pace = ["--part-size", "5MiB", "--concurrency", "1"]
    ended = bigupload("upload", file, *to(s3), *pace, "--progress", "none")
    assert_refused(ended, 75, "403 AccessDenied")
    s3.clear()
    return place.manifest_path()
