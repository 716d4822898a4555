"""A user with neither HOME nor a name, as in a container that runs as any number."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import Ended, Place

_NOBODY = """
import os, pwd, runpy
def getpwuid(uid):
    raise KeyError(uid)
pwd.getpwuid = getpwuid
os.environ.pop("HOME", None)
runpy.run_module("bigupload", run_name="__main__", alter_sys=True)
"""


def _run(place: Place, *arguments: str | Path, **environment: str) -> Ended:
    own = {name: value for name, value in place.environment().items() if name != "BIGUPLOAD_STATE_DIR"}
    own.pop("BIGUPLOAD_LOCAL_STORE_DIR")
    return place.run(*arguments, command=[sys.executable, "-c", _NOBODY], environment=own | environment)


def test_an_upload_needs_no_home_where_the_state_has_a_place(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(100_000))
    with StrictS3(min_part_size=65536) as s3:
        s3.create_bucket("bucket")
        call = ["upload", file, "--to", "s3://bucket/", "--endpoint-url", s3.url, "--progress", "none"]
        call += ["--manifest", tmp_path / "manifest"]
        ended = _run(Place(tmp_path), *call, BIGUPLOAD_STATE_DIR=str(tmp_path / "state"))
        assert (ended.code, ended.err) == (0, "")
        assert s3.objects["bucket"]["file"].body == bytes(100_000)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["status"], "BIGUPLOAD_STATE_DIR"),
        (["store", "status"], "BIGUPLOAD_LOCAL_STORE_DIR"),
        (["keys", "list"], "BIGUPLOAD_KEYS"),
        (["config", "show"], "--config FILE"),
        (["completion", "install", "bash"], "XDG_DATA_HOME"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_what_needs_a_home_says_what_to_set(tmp_path: Path, arguments: list[str], place: str) -> None:
    ended = _run(Place(tmp_path), *arguments)
    assert (ended.code, ended.complaint) == (2, f"bigupload: there is no home directory: set HOME, or {place}")
