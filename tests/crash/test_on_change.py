"""`--on-change restart`, killed between the abort of the old upload and the new one: nothing stays, nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.testing.faults import Call, Status
from bigupload.testing.strict_s3 import StrictS3
from bigupload.testing.strict_s3.exchange import Dropped
from tests.crash.running import Place, Process, random_file

MIB = 1024 * 1024


@pytest.fixture
def s3() -> Iterator[StrictS3]:
    with StrictS3() as server:
        server.create_bucket("bucket")
        yield server


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("op", "acted", "needs_the_option"),
    [
        ("AbortMultipartUpload", True, True),  # the manifest does not know yet
        ("AbortMultipartUpload", False, True),
        ("CreateMultipartUpload", False, False),  # it says that the old upload is aborted
        ("CreateMultipartUpload", True, False),
    ],
)
def test_killed_at_each_request_of_a_restart(
    s3: StrictS3, tmp_path: Path, op: str, acted: bool, needs_the_option: bool
) -> None:
    place, path = Place(tmp_path), tmp_path / "file.bin"
    command = ("upload", path, "s3://bucket/key", "--endpoint-url", s3.url, "--part-size", "5MiB", "--progress", "none")
    random_file(path, 11 * MIB, 1)
    s3.script("UploadPart", Status(403, "AccessDenied"), part_number=2, repeat=True)
    assert place.run(*command).code == 75
    s3.clear()
    (before,) = s3.uploads
    digest = random_file(path, 6 * MIB, 2)
    running: list[Process] = []

    def kill(_: StrictS3) -> None:
        os.kill(running[0].pid, signal.SIGKILL)
        if not acted:
            raise Dropped  # else what has arrived would still be carried out

    s3.script(op, Call(kill, acted=acted))
    with place.start(*command, "--on-change", "restart") as process:
        running.append(process)
        assert process.wait(60) == -signal.SIGKILL
    s3.settle()
    s3.clear()
    if needs_the_option:
        refused = place.run(*command)
        assert refused.code == 1
        assert "--on-change restart" in refused.complaint
    ended = place.run(*command, *(("--on-change", "restart") if needs_the_option else ()))
    assert ended.code == 0, ended.err
    assert s3.objects["bucket"]["key"].sha256() == digest
    assert before not in s3.uploads
    # A create whose response nobody heard leaves an empty upload, as after any kill there: `gc` finds it.
    orphans = [0] if (op, acted) == ("CreateMultipartUpload", True) else []
    assert [len(upload.parts) for upload in s3.uploads.values()] == orphans
