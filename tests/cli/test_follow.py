"""`bigupload upload --follow`: what a wrong call says. The rest is in tests/integration and tests/crash."""

from __future__ import annotations

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
