"""Where bigupload reads the AWS configuration itself, it finds what botocore finds. All else is left to botocore."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

import boto3.session
import pytest

from bigupload import Credentials
from bigupload.options import S3Options
from bigupload.stores.s3.aws_session import configured_endpoint
from bigupload.stores.s3.client import S3Bucket
from bigupload.stores.s3.plain_access import _HARMLESS_SETTINGS, _HARMLESS_VARIABLES, plain_access

KEYS: dict[str, Any] = {"access_key": "AK-given", "secret_key": "SK-given"}
ENV = {"AWS_ACCESS_KEY_ID": "AK-env", "AWS_SECRET_ACCESS_KEY": "SK-env"}
STORE: dict[str, Any] = {"endpoint_url": "http://127.0.0.1:9000"}
OF_DEFAULT = "[default]\naws_access_key_id = AK-default\naws_secret_access_key = SK-default\n"
OF_WORK = "[work]\naws_access_key_id = AK-work\naws_secret_access_key = SK-work\naws_session_token = ST-work\n"


class Row(NamedTuple):
    """One configuration."""

    options: dict[str, Any]
    environment: Mapping[str, str] = MappingProxyType({})
    config: str | None = None
    credentials: str | None = None
    bucket: str = "a-bucket"


PLAIN = {
    "environment": Row(STORE, ENV),
    "given": Row({**STORE, **KEYS}, {**ENV, "AWS_REGION": "us-west-1"}),
    "given with a token": Row({**STORE, **KEYS, "session_token": "ST"}, ENV),
    "a token in the environment": Row(STORE, {**ENV, "AWS_SESSION_TOKEN": "ST"}),
    "an empty token": Row(STORE, {**ENV, "AWS_SESSION_TOKEN": ""}),
    "region of the environment": Row(STORE, {**ENV, "AWS_DEFAULT_REGION": "eu-west-1"}),
    "region of the options": Row({**STORE, "region": "ap-south-1"}, {**ENV, "AWS_DEFAULT_REGION": "eu-west-1"}),
    "region of another store": Row({**STORE, "region": "auto"}, ENV),
    "https": Row({"endpoint_url": "https://s3.example.com"}, ENV),
    "a slash at the end": Row({"endpoint_url": "https://s3.example.com:9000/"}, ENV),
    "path style": Row({**STORE, "addressing": "path"}, ENV),
    "dots in the name, at another store": Row(STORE, ENV, bucket="a.bucket.with.dots"),
    "AWS": Row({"region": "eu-west-1"}, ENV),
    "AWS, by the environment": Row({}, {**ENV, "AWS_DEFAULT_REGION": "eu-central-1"}),
    "AWS, the oldest region": Row({}, ENV),
    "credentials file": Row(STORE, {}, None, OF_DEFAULT),
    "config file": Row(STORE, {}, OF_DEFAULT + "region = eu-north-1\n"),
    "both files": Row(STORE, {}, "[default]\nregion = eu-north-1\noutput = json\n", OF_DEFAULT),
    "keys in both files": Row(STORE, {}, OF_DEFAULT.replace("AK", "OTHER"), OF_DEFAULT + "region = eu-north-1\n"),
    "profile of the environment": Row(STORE, {"AWS_PROFILE": "work"}, "[profile work]\nregion = r-1\n", OF_WORK),
    "profile and keys of the environment": Row(STORE, {**ENV, "AWS_PROFILE": "work"}, None, OF_WORK),
    "profile of the options": Row({**STORE, "profile": "work"}, ENV, '[profile "work"]\nregion = r-1\n', OF_WORK),
    "profile default": Row({**STORE, "profile": "default"}, ENV, None, OF_DEFAULT),
    "others' profiles": Row(STORE, {}, "[profile x]\nrole_arn = arn\nsource_profile = y\n", OF_DEFAULT),
    "an endpoint that was resolved": Row(STORE, {}, "[default]\nendpoint_url = http://127.0.0.1:1\n", OF_DEFAULT),
    "defaults of a file": Row(STORE, {}, "[DEFAULT]\nregion = eu-north-1\n[default]\noutput = text\n", OF_DEFAULT),
}

BOTOCORE_S = {
    "an access point": Row(
        {"region": "eu-west-1"}, ENV, bucket="arn:aws:s3:eu-west-1:123456789012:accesspoint/the-point"
    ),
    "an access point's alias": Row({"region": "eu-west-1"}, ENV, bucket="point-1234-s3alias"),
    "a directory bucket": Row({"region": "us-east-1"}, ENV, bucket="b--use1-az4--x-s3"),
    "a name that is none": Row(STORE, ENV, bucket="A_Bucket"),
    "dots in the name": Row({"region": "eu-west-1"}, ENV, bucket="a.bucket"),
    "accelerate": Row({"accelerate": True}, ENV),
    "dual stack": Row({"dual_stack": True}, ENV),
    "FIPS": Row({"fips": True, "region": "us-east-1"}, ENV),
    "dual stack of the environment": Row({}, {**ENV, "AWS_USE_DUALSTACK_ENDPOINT": "true"}),
    "FIPS of the environment": Row({"region": "us-east-1"}, {**ENV, "AWS_USE_FIPS_ENDPOINT": "true"}),
    "path style at AWS": Row({"addressing": "path"}, ENV),
    "virtual style": Row({**STORE, "addressing": "virtual"}, ENV),
    "another partition": Row({"region": "cn-north-1"}, ENV),
    "a region nobody knows": Row({"region": "eu-isoe-west-1"}, ENV),
    "a global region": Row({**STORE, "region": "aws-global"}, ENV),
    "the regional address of the oldest region": Row({}, {**ENV, "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional"}),
    "a path in the endpoint": Row({"endpoint_url": "https://s3.example.com/below"}, ENV),
    "a default port": Row({"endpoint_url": "https://s3.example.com:443"}, ENV),
    "IPv6": Row({"endpoint_url": "http://[::1]:9000"}, ENV),
    "an endpoint of AWS": Row({"endpoint_url": "https://s3.eu-west-1.amazonaws.com"}, ENV),
    "no secret": Row(STORE, {"AWS_ACCESS_KEY_ID": "AK"}),
    "no keys": Row(STORE),
    "unsigned": Row({**STORE, "no_sign_request": True}, ENV),
    "keys that expire": Row(STORE, {**ENV, "AWS_CREDENTIAL_EXPIRATION": "2030-01-01T00:00:00Z"}),
    "another token": Row(STORE, {**ENV, "AWS_SECURITY_TOKEN": "ST"}),
    "another variable": Row(STORE, {**ENV, "AWS_SOMETHING_NEW": "1"}),
    "two variables of a profile": Row(STORE, {"AWS_PROFILE": "work", "AWS_DEFAULT_PROFILE": "work"}, None, OF_WORK),
    "a role": Row(STORE, {}, "[default]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = work\n", OF_WORK),
    "a web identity": Row(STORE, {"AWS_ROLE_ARN": "arn", "AWS_WEB_IDENTITY_TOKEN_FILE": "/f"}, None, OF_DEFAULT),
    "SSO": Row(STORE, {}, "[default]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n", OF_DEFAULT),
    "a process": Row(STORE, {}, "[default]\ncredential_process = /bin/false\n"),
    "settings of S3": Row(STORE, {}, "[default]\ns3 =\n  addressing_style = virtual\n", OF_DEFAULT),
    "a services section": Row(STORE, {}, "[default]\nservices = x\n", OF_DEFAULT),
    "a setting nobody knows": Row(STORE, {}, "[default]\nsomething_new = 1\n", OF_DEFAULT),
    "a profile that is not there": Row({**STORE, "profile": "nobody"}, ENV, None, OF_DEFAULT),
    "an empty profile": Row(STORE, {**ENV, "AWS_PROFILE": ""}, None, OF_DEFAULT),
    "a role of a profile with more spaces in its name": Row(
        {**STORE, "profile": "work"}, {}, "[profile  work]\nrole_arn = arn\nsource_profile = x\n", OF_WORK
    ),
    "a profile twice": Row({**STORE, "profile": "w"}, {}, '[profile w]\nregion = a\n[profile "w"]\nregion = b\n'),
    "a file that is none": Row(STORE, ENV, "no section"),
    "half of the keys": Row(STORE, {}, None, "[default]\naws_access_key_id = AK\n"),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path


def configure(row: Row, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in row.environment.items():
        monkeypatch.setenv(name, value)
    for name, text in [("config", row.config), ("credentials", row.credentials)]:
        if text is not None:
            (place / name).write_text(text)


@pytest.mark.parametrize("name", PLAIN)
def test_it_is_what_botocore_finds(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = PLAIN[name]
    configure(row, place, monkeypatch)
    options = S3Options(**row.options)
    found = plain_access(row.bucket, options, options.region)
    assert found is not None
    bucket = S3Bucket(row.bucket, options)
    client = bucket._make_client(1.0)
    client.close()
    session = bucket._session
    assert session is not None
    theirs = session.get_credentials()
    assert (f"{found.base}/key", found.region) == (bucket.url("key"), client.meta.region_name)
    ours = found.get_credentials()
    assert (ours.access_key, ours.secret_key) == (theirs.access_key, theirs.secret_key)
    assert (ours.token or None, ours.method) == (theirs.token or None, theirs.method)
    assert (found.profile or None, found.signs) == (session.profile or None, session.signs)


@pytest.mark.parametrize("name", BOTOCORE_S)
def test_the_rest_is_left_to_botocore(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = BOTOCORE_S[name]
    configure(row, place, monkeypatch)
    options = S3Options(**row.options)
    assert plain_access(row.bucket, options, options.region) is None


def test_so_are_a_session_and_a_function(place: Path) -> None:
    session = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b")
    assert plain_access("a-bucket", S3Options(**STORE, session=session), None) is None
    options = S3Options(**STORE, credentials=lambda: Credentials("a", "b"))
    assert plain_access("a-bucket", options, None) is None


def test_so_are_descriptions_of_aws_by_the_user(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(Row(STORE, ENV), place, monkeypatch)
    monkeypatch.setenv("HOME", str(place))
    assert plain_access("a-bucket", S3Options(**STORE), None) is not None
    (place / ".aws" / "models").mkdir(parents=True)
    assert plain_access("a-bucket", S3Options(**STORE), None) is None


@pytest.mark.parametrize("is_there", [True, False])
def test_a_home_that_nobody_knows_or_may_look_into_has_no_configuration(
    is_there: bool, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs as any user: the keys of the environment count."""

    stat = os.stat

    def refuse(path: Any, *arguments: Any, **more: Any) -> os.stat_result:
        if ".aws" in str(path):
            raise PermissionError("Permission denied")
        return stat(path, *arguments, **more)

    def know_nobody(_: int) -> NoReturn:
        raise KeyError

    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    if is_there:
        monkeypatch.setattr(os, "stat", refuse)
    else:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", know_nobody)
    options = S3Options(**STORE)
    found = plain_access("a-bucket", options, None)
    assert found is not None
    assert found.keys.method == "env"
    assert (configured_endpoint(S3Options()), S3Bucket("a-bucket", options).ca_bundle) == (None, None)


def test_a_region_that_was_found_out_counts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(Row({}, {**ENV, "AWS_DEFAULT_REGION": "us-west-2"}), place, monkeypatch)
    found = plain_access("a-bucket", S3Options(), "eu-west-1")
    assert found is not None
    assert (found.base, found.region) == ("https://a-bucket.s3.eu-west-1.amazonaws.com", "eu-west-1")


@pytest.mark.parametrize("name", sorted(_HARMLESS_VARIABLES))
def test_no_harmless_variable_changes_what_botocore_signs(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apart from those that are read here, which the table has."""
    configure(PLAIN["environment"], place, monkeypatch)
    if name not in (*ENV, "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, {"AWS_MAX_ATTEMPTS": "7", "AWS_RETRY_MODE": "adaptive"}.get(name, "when_supported"))
    assert url_of_botocore(S3Options(**STORE, region="us-east-1")) == "http://127.0.0.1:9000/a-bucket/key"


@pytest.mark.parametrize("name", sorted(_HARMLESS_SETTINGS))
def test_no_harmless_setting_changes_what_botocore_signs(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {"max_attempts": "7", "retry_mode": "adaptive"}.get(name, "when_supported")
    configure(Row(STORE, ENV, f"[default]\n{name} = {value}\n"), place, monkeypatch)
    assert url_of_botocore(S3Options(**STORE, region="us-east-1")) == "http://127.0.0.1:9000/a-bucket/key"


def url_of_botocore(options: S3Options) -> str:
    bucket = S3Bucket("a-bucket", options)
    client = bucket._make_client(1.0)
    client.close()
    return bucket.url("key")
