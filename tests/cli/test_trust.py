"""A manifest from somebody else is a command: this file, to that place, with the credentials of whoever resumes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bigupload.core.manifest import Target, manifest_id
from bigupload.core.retry_policy import RetryPolicy
from bigupload.testing.faults import Status
from bigupload.testing.strict_s3 import StrictS3
from tests.cli.support import IN_PARTS, Command, assert_refused, to
from tests.crash.running import Place


@pytest.fixture
def received(tmp_path: Path, stopped: Path) -> Path:
    """The manifest of an upload as somebody else's program made it, in a file of ours."""
    path = tmp_path / "received.jsonl"
    path.write_bytes(changed(stopped, lambda header: header | {"token": "0" * 32}))
    return path


def changed(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    first, _, rest = path.read_bytes().partition(b"\n")
    return json.dumps(change(json.loads(first))).encode() + b"\n" + rest


def test_nothing_goes_anywhere_before_it_is_trusted(
    bigupload: Command, s3: StrictS3, received: Path, file: Path
) -> None:
    asked = len(s3.requests)
    for command in ("resume", "abort"):
        ended = bigupload(command, received)
        assert_refused(ended, 2, "you did not begin", str(file), "s3://bucket/key", s3.url, "--trust")
    assert len(s3.requests) == asked
    assert bigupload("resume", received, "--trust").code == 0
    assert "key" in s3.objects["bucket"]


def test_trust_is_given_on_the_command_line_alone(
    bigupload: Command, s3: StrictS3, received: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sets a variable once would trust every manifest that ever comes."""
    config = place.directory / "c.toml"
    config.write_text("[resume]\ntrust = true\n[abort]\ntrust = true\n")
    for name in ("BIGUPLOAD_TRUST", "BIGUPLOAD_RESUME_TRUST", "BIGUPLOAD_ABORT_TRUST"):
        monkeypatch.setenv(name, "1")
    asked = len(s3.requests)
    for command in ("resume", "abort"):
        name = f"BIGUPLOAD_{command.upper()}_TRUST"
        told = f"--trust on the command line. {name} has no effect: no variable sets it"
        assert_refused(bigupload(command, received), 2, "you did not begin", told)
        monkeypatch.delenv(name)
        assert_refused(bigupload(command, received), 2, "--trust on the command line. BIGUPLOAD_TRUST has no effect")
        assert_refused(
            bigupload(command, received, "--config", config), 2, f"[{command}] trust can't be set here", "command line"
        )
    monkeypatch.delenv("BIGUPLOAD_TRUST")
    assert "variable" not in bigupload("resume", received).err
    assert len(s3.requests) == asked


@pytest.mark.parametrize(("command", "does"), [("resume", "send"), ("abort", "abort the upload of")])
def test_what_is_trusted_is_shown(
    bigupload: Command, s3: StrictS3, received: Path, file: Path, command: str, does: str
) -> None:
    ended = bigupload(command, received, "--trust")
    assert ended.code == 0
    assert f"warning: you did not begin {received} on this machine, and trust it to {does} {file} to " in ended.err
    assert f"s3://bucket/key at {s3.url}, with your credentials" in ended.err


@pytest.mark.parametrize("trusts", [[], ["--trust"]])
def test_the_query_of_a_url_is_not_shown(
    bigupload: Command, received: Path, monkeypatch: pytest.MonkeyPatch, trusts: list[str]
) -> None:
    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: 0.0)
    source = "http://127.0.0.1:9/film.mov?X-Amz-Signature=SECRETSIG"
    ended = bigupload("resume", received, "--source", source, "--progress", "json", *trusts)
    assert ended.code != 0
    assert "film.mov" in ended.err
    assert "SECRETSIG" not in ended.err + ended.out


def test_a_certificate_that_would_not_be_checked_is_told(
    bigupload: Command, received: Path, stopped: Path, s3: StrictS3
) -> None:
    lax = changed(stopped, lambda h: h | {"token": "0" * 32, "options": h["options"] | {"no_verify_ssl": True}})
    received.write_bytes(lax)
    assert_refused(bigupload("resume", received), 2, f"at {s3.url}, whose certificate it would not check")


def test_an_abort_that_is_meant(bigupload: Command, s3: StrictS3, received: Path) -> None:
    assert bigupload("abort", received, "--trust").code == 0
    assert not s3.uploads


def test_one_that_was_begun_here_is_known_by_itself(
    bigupload: Command, s3: StrictS3, file: Path, place: Place, tmp_path: Path
) -> None:
    """Wherever it was put, and wherever it has gone since."""
    named = tmp_path / "elsewhere" / "m.jsonl"
    named.parent.mkdir()
    s3.script("CompleteMultipartUpload", Status(403, "AccessDenied"), repeat=True)
    assert bigupload("upload", file, *to(s3), "--manifest", named).code == 75
    s3.clear("CompleteMultipartUpload")
    assert bigupload("resume", named.rename(tmp_path / "moved.jsonl")).code == 0


def test_an_endpoint_in_the_options_that_is_not_the_target_s(
    bigupload: Command, s3: StrictS3, received: Path, stopped: Path
) -> None:
    """It would be shown as one store's and go to another."""
    received.write_bytes(changed(stopped, lambda h: h | {"target": {"bucket": "bucket", "key": "key"}}))
    ended = bigupload("resume", received, "--trust")
    assert (ended.code, ended.out) == (1, "")
    assert "different endpoints" in ended.err.splitlines()[-1]


def test_an_api_key_is_not_taken_to_the_service_that_a_manifest_names(
    bigupload: Command, s3: StrictS3, received: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGUPLOAD_API_KEY", "sk_of-another-service")
    asked = len(s3.requests)
    options = {"filename": "a.mp4", "content_type": "video/mp4"}
    received.write_bytes(changed(stopped, lambda h: h | {"target": {"service": s3.url, "key": ""}, "options": options}))
    assert_refused(bigupload("resume", received), 2, "you did not begin", s3.url)
    assert len(s3.requests) == asked


@pytest.fixture
def unnamed(stopped: Path, s3: StrictS3, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The manifest as a version wrote it that did not record the endpoint of the AWS configuration file."""
    config = tmp_path / "aws-config"
    config.write_text(f"[default]\nendpoint_url = {s3.url}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    path = stopped.with_name(f"{manifest_id(str(file), Target(bucket='bucket', key='key'))}.manifest.jsonl")

    def without_endpoint(header: dict[str, Any]) -> dict[str, Any]:
        del header["target"]["endpoint"], header["options"]["endpoint_url"]
        return header | {"id": path.name.partition(".")[0]}

    path.write_bytes(changed(stopped, without_endpoint))
    stopped.unlink()
    return path


@pytest.mark.parametrize("command", ["resume", "abort"])
def test_a_manifest_that_may_be_of_either_of_two_stores(
    command: str, bigupload: Command, s3: StrictS3, file: Path, unnamed: Path
) -> None:
    before, asked = unnamed.read_bytes(), len(s3.requests)
    assert_refused(bigupload(command, unnamed, "--trust"), 1, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "--adopt")
    assert (unnamed.read_bytes(), len(s3.requests)) == (before, asked)
    assert bigupload("resume", "--adopt", "s3://bucket/key", "--source", file).code == 0
    assert not s3.uploads


def test_an_upload_tells_of_a_manifest_that_may_be_of_its_store(bigupload: Command, file: Path, unnamed: Path) -> None:
    command = ("upload", file, "s3://bucket/key", *IN_PARTS, "--progress", "plain")
    ended = bigupload(*command)
    assert ended.code == 0
    assert f"{unnamed} is of an unfinished upload of this file" in ended.err
    assert "names no endpoint" not in bigupload(*command).err
