"""What a program may give by mistake: refused before anything is sent, by the argument's name."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import bigupload
from bigupload import S3Options, UsageError
from tests.integration.support import of_function
from tests.tools.cases import each_case

MISTAKES: dict[str, tuple[Callable[[Path, Any], Any], Any, str]] = {
    "a path as the target": (
        lambda file, value: bigupload.upload(file, to=value),
        PurePosixPath("s3://b/k"),
        "to must be a text, not PurePosixPath",
    ),
    "a path as the object": (
        lambda file, value: bigupload.verify(file, value),
        PurePosixPath("s3://b/k"),
        "the target must be a text like 's3://bucket/key', not PurePosixPath('s3:/b/k')",
    ),
    "a mapping of S3 options": (
        lambda file, value: bigupload.upload(file, to="s3://b/k", s3=value),
        {"secret_key": "hush"},
        "s3 must be S3Options, not dict",
    ),
    "a number of retries": (
        lambda file, value: bigupload.upload(file, to="s3://b/k", uploader=bigupload.Uploader(retry=value)),
        3,
        "retry must be RetryPolicy, not int",
    ),
    "a text that is true": (
        lambda file, value: bigupload.upload(file, to="s3://b/k", resume=value),
        "no",
        "resume must be True or False, not str",
    ),
    "a list of events": (
        lambda file, value: bigupload.upload(file, to="s3://b/k", on_event=value),
        [],
        "on_event must be a function, not list",
    ),
    "an API key in bytes": (
        lambda file, value: bigupload.upload(file, service="http://127.0.0.1:9", api_key=value),
        b"hush",
        "api_key must be a text, not bytes",
    ),
    "one owner": (
        lambda file, value: bigupload.abort_orphans("s3://b/", owners=value),
        "/var/lib/uploads",
        "owners must be a list of paths, not str",
    ),
    "no manifest": (
        lambda file, value: bigupload.resume(value),
        None,
        "manifest must be a path, not NoneType",
    ),
    "a number as the manifest": (
        lambda file, value: bigupload.upload(file, to="s3://b/k", manifest=value),
        5,
        "manifest must be a path, not int",
    ),
}  # fmt: skip


@each_case("mistake", MISTAKES)
async def test_a_value_of_a_wrong_type(mistake: str, tmp_path: Path) -> None:
    call, value, message = MISTAKES[mistake]
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError) as raised:
        await call(file, value)
    assert str(raised.value) == message


@each_case("given", [b"the file's content" * 1000, io.StringIO("a text"), None, 5])
async def test_what_is_no_file_is_not_shown(given: Any) -> None:
    """It may be a whole file."""
    with pytest.raises(UsageError) as raised:
        await bigupload.verify(given, "s3://b/k")
    assert len(str(raised.value)) < 100


@pytest.mark.parametrize(
    "options",
    [
        {"to": None, "s3": None, "manifest": None, "on_event": None, "api_key": None},
        {"part_size": None, "concurrency": None, "limit_rate": None},
        {"manifest": "m", "state_dir": Path("s"), "retry": bigupload.RetryPolicy(), "hedge": False},
    ],
)
async def test_a_value_of_a_right_type(options: Any, tmp_path: Path) -> None:
    """It goes on to what is wrong here, the file."""
    options = {"s3": S3Options(endpoint_url="http://127.0.0.1:9")} | {"state_dir": tmp_path} | options
    with pytest.raises(bigupload.BigUploadError, match=r"no such file|a target"):
        await bigupload.upload(tmp_path / "none", **(of_function({"to": "s3://b/k"} | options)))


@each_case(
    ("given", "message"),
    [
        ({"access_key": "hush"}, "access_key and secret_key go together"),
        ({"secret_key": "hush"}, "access_key and secret_key go together"),
        ({"session_token": "hush"}, "session_token goes with access_key"),
        ({"access_key": "", "secret_key": ""}, "must not be empty"),
        ({"metadata": None}, "`metadata` must be a mapping of texts to texts"),
        ({"tags": None}, "`tags` must be a mapping of texts to texts"),
        ({"local": None}, "`local` must be True or False"),
        ({"ca_bundle": 5}, "ca_bundle must be a path, not int"),
    ],
)
def test_s3_options_that_would_fail_late(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        S3Options(**given)
    assert "hush" not in str(raised.value)


def test_a_ca_bundle_may_be_a_text(tmp_path: Path) -> None:
    bundle: Any = str(tmp_path / "ca.pem")
    assert S3Options(ca_bundle=bundle) == S3Options(ca_bundle=tmp_path / "ca.pem")
