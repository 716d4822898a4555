"""`bigupload upload --follow`: a wrong call, and what resumes it. The rest is in tests/integration and tests/crash."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.cases import each_case

from .support import Command, assert_refused


@each_case(
    ("arguments", "code", "says"),
    [
        (["-", "--follow"], 2, "--follow is for files: name one by its path"),
        (["file", "--idle", "5s"], 2, "--idle is for files that are followed: add --follow"),
        (["file", "--follow", "--idle", "soon"], 2, "not a time: 'soon'"),
        (["file", "--follow", "--idle", "0s"], 2, "1 second at least"),
        (["file", "--follow", "--checksum", "none"], 2, "--checksum none can't be used with --follow"),
        (["file", "--follow", "--on-change", "restart"], 2, "--on-change restart can't be used with --follow"),
        (["file", "--follow", "--skip-existing"], 2, "--skip-existing can't be used with --follow"),
        (["no-such-file", "--follow"], 1, "no such file"),
    ],
)
def test_a_wrong_call(bigupload: Command, s3: StrictS3, arguments: list[str], code: int, says: str) -> None:
    target = ["--to", "s3://bucket/key", "--endpoint-url", s3.url]
    assert_refused(bigupload("upload", *arguments, *target), code, says)


@pytest.mark.parametrize("manifest", [None, "its manifest.jsonl"])
def test_resume_names_the_command_that_goes_on_following(
    bigupload: Command, s3: StrictS3, tmp_path: Path, manifest: str | None
) -> None:
    """The file may be growing still: `resume` without a name would upload half a recording, with status 0."""
    recording = tmp_path / "my recording.mov"
    recording.write_bytes(b"x" * 5_300_000)
    s3.script("UploadPart", Status(403, "AccessDenied"), repeat=True)
    where, pace = ["s3://bucket/key", "--endpoint-url", s3.url], ["--idle", "1s", "--progress=none"]
    where += [] if manifest is None else ["--manifest", str(tmp_path / manifest)]
    bigupload("upload", "--follow", recording, *where, "--part-size", "5MiB", *pace)
    s3.clear("UploadPart")
    for ended in (bigupload("status"), bigupload("resume")):
        assert ended.code == 0
        *_, says, command = ended.err.splitlines()
        assert "A watch continues its files itself; else this command goes on" in says
        assert shlex.split(command) == ["bigupload", "upload", "--follow", str(recording), *where]
    assert "key" not in s3.objects["bucket"]
    with recording.open("ab") as file:
        file.write(b"y")
    created = s3.count("CreateMultipartUpload")
    assert bigupload(*shlex.split(command)[1:], *pace).code == 0
    assert s3.objects["bucket"]["key"].body == recording.read_bytes()
    assert s3.count("CreateMultipartUpload") == created, "it finds its upload"


@pytest.mark.parametrize("left", [100, 5 << 20])
def test_a_file_that_became_shorter(bigupload: Command, s3: StrictS3, tmp_path: Path, left: int) -> None:
    """One part of it is uploaded, or two are."""
    recording, size = tmp_path / "recording", 11 << 20
    recording.write_bytes(b"x" * size)
    s3.script("UploadPart", Status(403, "AccessDenied"), part_number=3, repeat=True)
    command = ["upload", "--follow", recording, "s3://bucket/key", "--endpoint-url", s3.url, "--part-size", "5MiB"]
    pace = ["--idle", "1s", "--progress=none", "--concurrency", "1"]
    assert bigupload(*command, *pace).code != 0
    s3.clear()
    (upload,) = s3.uploads.values()
    uploaded = sum(part.size for part in upload.parts.values())
    assert uploaded == 10 << 20
    with recording.open("r+b") as file:
        file.truncate(left)
    assert_refused(
        bigupload(*command, *pace),
        1,
        f"recording was truncated or replaced: it has {left:,} bytes now, and an earlier run uploaded it up to byte "
        f"{uploaded:,}. Nothing was changed: --no-resume uploads it as it is now",
    )
    assert bigupload(*command, *pace, "--no-resume").code == 0
    assert s3.objects["bucket"]["key"].body == recording.read_bytes()
