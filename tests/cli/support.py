"""What the tests of commands share."""

from __future__ import annotations

from collections.abc import Callable

from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Ended

PART = 5 << 20
SIZE = PART + 1000
Command = Callable[..., Ended]
IN_PARTS = ("--part-size", "5MiB")
"""Makes two parts, and so a manifest, of a file of SIZE bytes, which one PUT sends otherwise."""


def to(s3: StrictS3, url: str = "s3://bucket/key") -> list[str]:
    return ["--to", url, "--endpoint-url", s3.url]


def assert_refused(ended: Ended, code: int, *says: str) -> None:
    """The right status, and one line that says what is wrong and what to do."""
    assert (ended.code, ended.out) == (code, ""), ended.err
    assert ended.complaint.startswith("bigupload: ")
    assert "Traceback" not in ended.err
    for words in says:
        assert words in ended.complaint
