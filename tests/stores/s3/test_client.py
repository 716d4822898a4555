"""Credentials and region come from where boto3's `Session` would take them: from here to there, the same."""

from __future__ import annotations

import contextlib
import datetime
import urllib.parse
from pathlib import Path
from typing import Any

import boto3.session
import botocore.credentials
import botocore.session
import pytest

from bigupload import errors
from bigupload.options import S3Options
from bigupload.stores.s3.client import S3Bucket
from bigupload.stores.targets import connect

CREDENTIALS = """
[default]
aws_access_key_id = AK-default
aws_secret_access_key = SK-default

[work]
aws_access_key_id = AK-work
aws_secret_access_key = SK-work
aws_session_token = ST-work
"""
CONFIG = """
[default]
region = eu-north-1

[profile work]
region = ap-south-1
"""
KEYS = {"access_key": "AK-given", "secret_key": "SK-given"}
OF_THE_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AK-env", "AWS_SECRET_ACCESS_KEY": "SK-env"}


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", *OF_THE_ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)
    for name, variable, text in [
        ("credentials", "AWS_SHARED_CREDENTIALS_FILE", CREDENTIALS),
        ("config", "AWS_CONFIG_FILE", CONFIG),
    ]:
        (tmp_path / name).write_text(text)
        monkeypatch.setenv(variable, str(tmp_path / name))


def ours(options: S3Options) -> tuple[Any, ...]:
    bucket = S3Bucket("bucket", options)
    client = bucket._make_client(1.0)
    client.close()
    assert bucket._session is not None
    found = bucket._session.get_credentials()
    assert found is not None
    return client.meta.region_name, found.access_key, found.secret_key, found.token


def boto3s(options: S3Options) -> tuple[Any, ...]:
    session = boto3.session.Session(
        profile_name=options.profile,
        region_name=options.region,
        aws_access_key_id=options.access_key,
        aws_secret_access_key=options.secret_key,
        aws_session_token=options.session_token,
    )
    found = session.get_credentials()
    assert found is not None
    return session.region_name, found.access_key, found.secret_key, found.token


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        (S3Options(), {}, ("eu-north-1", "AK-default")),
        (S3Options(), OF_THE_ENVIRONMENT, ("eu-north-1", "AK-env")),
        (S3Options(), {"AWS_PROFILE": "work"}, ("ap-south-1", "AK-work")),
        (S3Options(), {"AWS_DEFAULT_REGION": "us-west-2"}, ("us-west-2", "AK-default")),
        (S3Options(profile="work"), {}, ("ap-south-1", "AK-work")),
        (S3Options(profile="work"), OF_THE_ENVIRONMENT, ("ap-south-1", "AK-work")),
        (S3Options(profile="work", region="us-west-2"), {}, ("us-west-2", "AK-work")),
        (S3Options(region="us-west-2"), {"AWS_DEFAULT_REGION": "eu-west-1"}, ("us-west-2", "AK-default")),
        (S3Options(**KEYS), {**OF_THE_ENVIRONMENT, "AWS_PROFILE": "work"}, ("ap-south-1", "AK-given")),
        (S3Options(**KEYS, session_token="ST-given"), {}, ("eu-north-1", "AK-given")),
    ],
)
def test_they_are_found_where_boto3_finds_them(
    monkeypatch: pytest.MonkeyPatch, options: S3Options, environment: dict[str, str], expected: tuple[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = ours(options)
    assert found == boto3s(options)
    assert found[:2] == expected


async def test_a_profile_that_is_not_there_is_named() -> None:
    with pytest.raises(errors.UsageError, match="nobody"):
        await S3Bucket("bucket", S3Options(profile="nobody")).call("to look", "head_bucket")


def test_the_callers_session_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its credentials, its region: also where the environment has others."""
    for name, value in {**OF_THE_ENVIRONMENT, "AWS_PROFILE": "work"}.items():
        monkeypatch.setenv(name, value)
    session = boto3.session.Session(
        aws_access_key_id="AK-session", aws_secret_access_key="SK-session", region_name="sa-east-1"
    )
    assert ours(S3Options(session=session)) == ("sa-east-1", "AK-session", "SK-session", None)
    assert ours(S3Options(session=session, region="us-west-2"))[0] == "us-west-2"
    assert ours(S3Options(session=boto3.session.Session(profile_name="default")))[1] == "AK-default"


class Refreshed(botocore.credentials.RefreshableCredentials):
    """What an assumed role has: keys that end, and a way to new ones."""


async def test_a_session_whose_credentials_are_refreshed() -> None:
    """Each part is signed by what is valid then: uploads of days outlive any role's keys."""
    count = 0

    def refresh() -> dict[str, str]:
        nonlocal count
        count += 1
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=5)
        return {"access_key": f"AK-{count}", "secret_key": "SK", "token": "ST", "expiry_time": end.isoformat()}

    inner = botocore.session.get_session()
    inner._credentials = Refreshed.create_from_metadata(refresh(), refresh, "assume-role")  # as boto3's recipes do
    bucket = S3Bucket("bucket", S3Options(session=boto3.session.Session(botocore_session=inner, region_name="r-1")))
    async with contextlib.aclosing(bucket):
        parameters = {"Key": "key", "UploadId": "u", "PartNumber": 1, "ContentLength": 1}
        (first,) = await bucket.presign_parts([parameters])
        (second,) = await bucket.presign_parts([{**parameters, "PartNumber": 2}])
    keys = [
        urllib.parse.parse_qs(url.partition("?")[2])["X-Amz-Credential"][0].split("/")[0] for url in (first, second)
    ]
    assert keys[0] != keys[1]


async def test_the_endpoint_of_a_sessions_profile(tmp_path: Path) -> None:
    with (tmp_path / "config").open("a") as config:
        config.write("\n[profile minio]\nendpoint_url = https://minio.example\n")
    store = await connect("bucket", "key", S3Options(session=boto3.session.Session(profile_name="minio")))
    assert store.target.endpoint == "https://minio.example"
    assert store.options() == {"endpoint_url": "https://minio.example"}
