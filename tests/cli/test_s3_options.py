"""The command line has each option of S3, refuses what makes no sense in one line, and shows no customer key."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from pathlib import Path

import click
import pytest

from bigupload.cli import _cli
from bigupload.cli.options import spelled
from bigupload.options import S3Options
from bigupload.s3_parameters import PARAMETERS
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.tools import s3_tables
from tests.tools.cases import each_case

from .support import IN_PARTS, Command, assert_refused, to

DOCS = Path(__file__).parents[2] / "docs"
KEY = b"a customer key, which is hidden."
IN_BASE64 = base64.b64encode(KEY).decode()
OF_THE_LIBRARY_ALONE = {"access_key", "secret_key", "session_token", "session", "credentials"}
SERVICE = "http://127.0.0.1:1"


def test_each_field_is_an_option() -> None:
    upload = _cli.get_command(click.Context(_cli), "upload")
    assert upload is not None
    options = {option for param in upload.params for option in param.opts}
    for field in dataclasses.fields(S3Options):
        if field.name not in OF_THE_LIBRARY_ALONE:
            assert spelled(field.name) in options, field.name


def test_each_option_has_its_row() -> None:
    text = s3_tables.PAGE.read_text()
    for name in PARAMETERS:
        assert len(re.findall(rf"^\| `{spelled(name)}[ `]", text, re.MULTILINE)) == 1, name


@pytest.mark.parametrize("command", ["abort", "gc", "share"])
def test_the_help_of_the_key_is_true_of_commands_that_encrypt_nothing(bigupload: Command, command: str) -> None:
    shown = [bigupload(command, option).out for option in ("--help", "--help-all")]
    text = " ".join("".join(shown).split())
    assert "An upload sets it; resume, verify, abort and gc need the same one" in text
    assert "A link can't have one" in text


VALUES = {
    "accelerate": [], "request_payer": [], "fips": [], "dual_stack": [], "object_lock_legal_hold": [],
    "acl": ["private"], "sse": ["AES256"], "object_lock_mode": ["GOVERNANCE"], "metadata": ["a=b"], "tags": ["a=b"],
    "sse_customer_key": ["key"],
}  # fmt: skip


@each_case("name", [name for name in PARAMETERS if name != "content_type"])
def test_a_media_service_decides(bigupload: Command, file: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    given = [tmp_path / "key"] if name == "sse_customer_key" else VALUES.get(name, ["value"])
    ended = bigupload("upload", file, "--service", SERVICE, spelled(name), *given)
    assert_refused(ended, 2, f"the media service decides these: leave out {spelled(name)}")


@each_case(
    ("options", "says"),
    [
        (["--acl", "everyone"], "'everyone' is not one of 'private'"),
        (["--acl", "private", "--grant-read", "id=a"], "S3 takes an --acl or grants, not both"),
        (["--object-lock-retain-until", "2027-01-31T00:00:00Z"], "a lock needs both --object-lock-mode and"),
        (["--object-lock-mode", "GOVERNANCE", "--object-lock-retain-until", "2020-01-01T00:00:00Z"],
         "--object-lock-retain-until is in the past: 2020-01-01T00:00:00Z"),
        (["--expires", "tomorrow"], "--expires is a time with its time zone: write it like 2027-01-31T00:00:00Z"),
        (["--expected-bucket-owner", "me"], "--expected-bucket-owner is the 12 digits of an AWS account"),
        (["--cache-control", "a\nb"], "--cache-control holds a control character"),
        (["--accelerate"], "--accelerate chooses one of AWS's own addresses, and an endpoint is set"),
        (["--accelerate", "--addressing", "path"], "--accelerate needs the bucket in the host name, not the path"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(bigupload: Command, s3: StrictS3, file: Path, options: list[str], says: str) -> None:
    assert_refused(bigupload("upload", file, *to(s3), *options), 2, says)
    assert s3.requests == []


def test_an_access_point_is_no_folder(bigupload: Command, file: Path) -> None:
    ended = bigupload("upload", file, "s3://arn:aws:s3:eu-west-1:12:accesspoint/films/key")
    assert_refused(ended, 2, "not an access point", "arn:aws:s3:eu-west-1:123456789012:accesspoint/NAME/KEY")


# -- the customer key


@pytest.mark.parametrize(
    "content", [KEY, IN_BASE64.encode(), IN_BASE64.encode() + b"\n"], ids=["raw", "base64", "line"]
)
def test_a_key_is_read_from_a_file(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, content: bytes
) -> None:
    """It is refused for the endpoint, and not for the key."""
    (tmp_path / "key").write_bytes(content)
    ended = bigupload("upload", file, *to(s3), "--sse-customer-key", tmp_path / "key")
    assert_refused(ended, 2, "--sse-customer-key would be sent unencrypted over http: use an https endpoint")


def test_a_key_may_be_in_the_environment(
    bigupload: Command, s3: StrictS3, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGUPLOAD_SSE_CUSTOMER_KEY", IN_BASE64)
    ended = bigupload("upload", file, *to(s3))
    assert_refused(ended, 2, "--sse-customer-key would be sent unencrypted over http")
    shown = bigupload("config", "show", "upload", "--json")
    assert IN_BASE64 not in shown.out + shown.err + bigupload("config", "show").out
    row = next(each for each in map(json.loads, shown.out.splitlines()) if each["option"] == "--sse-customer-key")
    assert (row["value"], row["where"]) == ("(set)", "BIGUPLOAD_SSE_CUSTOMER_KEY")


def test_a_key_from_upload_to_verification(bigupload: Command, file: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    with StrictS3(tls=True) as s3:
        s3.create_bucket("bucket")
        s3.script("UploadPart", Status(403, "AccessDenied"), part_number=2, repeat=True)
        reach = ["--endpoint-url", s3.url, "--ca-bundle", s3.ca_bundle]
        key = ["--sse-customer-key", tmp_path / "key"]
        assert bigupload("upload", file, "s3://bucket/key", *reach, *key, *IN_PARTS).code == 75
        s3.clear()
        says = "of your own (SSE-C), which no manifest records: give it again as --sse-customer-key"
        assert_refused(bigupload("resume"), 2, says)
        resumed = bigupload("resume", *key, "--json")
        assert (resumed.code, json.loads(resumed.out)["version_id"]) == (0, None)
        says = "the object is encrypted with its owner's key (SSE-C): name it as --sse-customer-key"
        assert_refused(bigupload("verify", file, "s3://bucket/key", *reach), 1, says)
        assert bigupload("verify", file, "s3://bucket/key", *reach, *key).out == "full-object\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no such file"),
        (b"", "the file has no key: 32 bytes, or those in base64, are needed"),
        (b"hidden", "the file has no key"),
        (KEY * 2, "the file has no key"),
    ],
)
def test_a_file_that_has_no_key(
    bigupload: Command, s3: StrictS3, file: Path, tmp_path: Path, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    ended = bigupload("upload", file, *to(s3), "--sse-customer-key", tmp_path / "key")
    assert_refused(ended, 2, "'--sse-customer-key'", says)
    assert "hidden" not in ended.err


@pytest.mark.parametrize("value", [IN_BASE64, IN_BASE64[:-5]])
def test_a_key_on_the_command_line_is_refused_and_not_repeated(
    bigupload: Command, s3: StrictS3, file: Path, value: str
) -> None:
    ended = bigupload("upload", file, *to(s3), "--sse-customer-key", value)
    says = "other users can read command lines" if value == IN_BASE64 else "there is no such file"
    assert_refused(ended, 2, says)
    assert value not in ended.err
