"""Address, region, credentials and certificates of a bucket are those that boto3 gives for the same configuration."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn
from urllib.parse import parse_qs

import boto3
import botocore.exceptions
import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config

import bigupload
from bigupload import Credentials, errors
from bigupload.core.retry_policy import Fault
from bigupload.options import S3Options
from bigupload.s3_parameters import ADDRESS, parameters
from bigupload.stores.s3 import access
from bigupload.stores.s3.access import configured_endpoint, error_of_aws, find_access
from bigupload.stores.s3.aws_files import configured_ca_bundle, endpoint_in_files
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.targets import connect
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.cases import each_case
from tests.tools.http_stub import HttpStub, Response, http_stub

KEYS: dict[str, Any] = {"access_key": "AK-given", "secret_key": "SK-given"}
ENV = {"AWS_ACCESS_KEY_ID": "AK-env", "AWS_SECRET_ACCESS_KEY": "SK-env"}
STORE: dict[str, Any] = {"endpoint_url": "http://127.0.0.1:9000"}
OF_DEFAULT = "[default]\naws_access_key_id = AK-default\naws_secret_access_key = SK-default\n"
OF_WORK = "[work]\naws_access_key_id = AK-work\naws_secret_access_key = SK-work\naws_session_token = ST-work\n"
IN_WORK: dict[str, Any] = {**STORE, "profile": "work"}
WORK = "[profile work]\nregion = r-1\n"
ARN = "arn:aws:s3:eu-west-1:123456789012:accesspoint/the-point"
BY_PROCESS = "credential_process = {dir}/process\n"
IN_ROLE: dict[str, Any] = {**STORE, "profile": "role", "region": "r-1"}
ROLE = "[profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = work\n"
STS, IMDS = {"AWS_ENDPOINT_URL_STS": "{url}/role"}, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "{url}/imds/"}
OF_SSO = "sso_session = s\nsso_account_id = 1\nsso_role_name = r\n[sso-session s]\nsso_region = r-1\nsso_start_url = http://h\n"
WEB = {"AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": "{dir}/token",
       "AWS_ENDPOINT_URL_STS": "{url}/web"}  # fmt: skip
DEFAULT, NESTED = "[default]\n", "[default]\ns3 =\n  "


class Row(NamedTuple):
    """One configuration. In its texts, {url} is where services of AWS are, and {dir} a directory."""

    options: Mapping[str, Any] = MappingProxyType({})
    environment: Mapping[str, str] = MappingProxyType({})
    config: str | None = None
    credentials: str | None = None
    bucket: str = "a-bucket"


def at(bucket: str = "a-bucket", **options: Any) -> Row:
    return Row(options, ENV, bucket=bucket)


def aws(variable: str = "AWS_PAGER", value: str = "", region: str | None = "eu-west-1", **more: Any) -> Row:
    return Row({"region": region}, {**ENV, variable: value}, **more)


PLAIN = {
    "environment": Row(STORE, ENV),
    "given": Row({**STORE, **KEYS}, {**ENV, "AWS_REGION": "us-west-1"}),
    "given with a token": at(**STORE, **KEYS, session_token="ST"),
    "given beside a profile": Row({**STORE, **KEYS}, {"AWS_PROFILE": "work"}, WORK),
    "given beside a role": Row({**STORE, **KEYS}, {"AWS_PROFILE": "role"}, ROLE, OF_WORK),
    "the environment beside a role": Row(STORE, {**ENV, "AWS_PROFILE": "role"}, ROLE, OF_WORK),
    "a token in the environment": Row(STORE, {**ENV, "AWS_SESSION_TOKEN": "ST"}),
    "an empty token": Row(STORE, {**ENV, "AWS_SESSION_TOKEN": ""}),
    "region of the environment": Row(STORE, {**ENV, "AWS_DEFAULT_REGION": "eu-west-1"}),
    "region of the options": Row({**STORE, "region": "ap-south-1"}, {**ENV, "AWS_DEFAULT_REGION": "eu-west-1"}),
    "region of another store": at(**STORE, region="auto"),
    "https": at(endpoint_url="https://s3.example.com"),
    "a slash at the end": at(endpoint_url="https://s3.example.com:9000/"),
    "a path in the endpoint": at(endpoint_url="https://s3.example.com/below/it"),
    "default ports": at(endpoint_url="https://s3.example.com:443"),
    "capitals": at(endpoint_url="https://S3.Example.com:9000"),
    "odd characters in the endpoint": at(endpoint_url="https://s3.example.com/a b/ü~//"),
    "IPv6": at(endpoint_url="http://[::1]:9000"),
    "path style": at(**STORE, addressing="path"),
    "virtual style": at(endpoint_url="https://s3.example.com:9000/below", addressing="virtual"),
    "virtual style, at an address": at(**STORE, addressing="virtual"),
    "virtual style, at an address of IPv6": at(endpoint_url="http://[::1]:9000", addressing="virtual"),
    "virtual style, at a name without dots": at(endpoint_url="http://localhost:9000", addressing="virtual"),
    "virtual style, with a name that is none": at("A_Bucket", endpoint_url="http://example.com", addressing="virtual"),
    "virtual style, with dots": at("a.bucket", endpoint_url="http://example.com", addressing="virtual"),
    "virtual style, with dots, https": at("a.bucket", endpoint_url="https://example.com", addressing="virtual"),
    "dots in the name, at another store": at("a.bucket.with.dots", **STORE),
    "a name that is none at AWS": at("A_Bucket", **STORE),
    "AWS": at(region="eu-west-1"),
    "AWS, by the environment": aws("AWS_DEFAULT_REGION", "eu-central-1", None),
    "AWS, the oldest region": at(),
    "AWS, a global region": at(region="aws-global"),
    "unsigned": at(**STORE, no_sign_request=True),
    "unsigned, at AWS": Row({"no_sign_request": True, "region": "eu-west-1"}),
    "a function": at(**STORE, credentials=lambda: Credentials("a", "b")),
    "credentials file": Row(STORE, {}, None, OF_DEFAULT),
    "config file": Row(STORE, {}, OF_DEFAULT + "region = eu-north-1\n"),
    "both files": Row(STORE, {}, DEFAULT + "region = eu-north-1\noutput = json\n", OF_DEFAULT),
    "keys in both files": Row(STORE, {}, OF_DEFAULT.replace("AK", "OTHER"), OF_DEFAULT + "region = eu-north-1\n"),
    "profile of the environment": Row(STORE, {"AWS_PROFILE": "work"}, WORK, OF_WORK),
    "the other variable for it": Row(STORE, {"AWS_DEFAULT_PROFILE": "work"}, WORK, OF_WORK),
    "both variables, that agree": Row(STORE, {"AWS_PROFILE": "work", "AWS_DEFAULT_PROFILE": "work"}, WORK, OF_WORK),
    "profile and keys of the environment": Row(STORE, {**ENV, "AWS_PROFILE": "work"}, None, OF_WORK),
    "profile of the options": Row(IN_WORK, ENV, WORK.replace("work", '"work"'), OF_WORK),
    "profile default": Row({**STORE, "profile": "default"}, ENV, None, OF_DEFAULT),
    "its section with the word": Row(STORE, {}, "[profile default]\nregion = a\n" + OF_DEFAULT[10:]),
    "others' profiles": Row(STORE, {}, ROLE, OF_DEFAULT),
    "an endpoint that was resolved": Row(STORE, {}, DEFAULT + "endpoint_url = http://127.0.0.1:1\n", OF_DEFAULT),
    "a services section": Row(STORE, {}, DEFAULT + "services = x\n[services x]\ns3 =\n  endpoint_url = http://h\n",
                              OF_DEFAULT),
    "defaults of a file": Row(STORE, {}, "[DEFAULT]\nregion = eu-north-1\n[default]\noutput = text\n", OF_DEFAULT),
    "settings of other tools": Row(STORE, {}, NESTED + "io_chunksize = 2\n  addressing_style = path\n", OF_DEFAULT),
}  # fmt: skip
"""These are known without boto3."""

OTHERS = {
    "an access point": at(ARN, region="eu-west-1"),
    "an access point, FIPS and dual stack": at(ARN, region="eu-west-1", fips=True, dual_stack=True),
    "an access point's alias": at("point-1234-s3alias", region="eu-west-1"),
    "two hyphens in the name": at("my--bucket", **STORE),
    "dots in the name": at("a.bucket", region="eu-west-1"),
    "accelerate": at(region="eu-west-1", accelerate=True),
    "accelerate and dual stack": at(region="eu-west-1", accelerate=True, dual_stack=True),
    "accelerate of a file": aws(config=NESTED + "use_accelerate_endpoint = true\n"),
    "dual stack": at(region="eu-west-1", dual_stack=True),
    "dual stack of the environment": aws("AWS_USE_DUALSTACK_ENDPOINT", "true", None),
    "dual stack of a file": aws(config=DEFAULT + "use_dualstack_endpoint = true\n"),
    "dual stack of a file, for S3": aws(config=NESTED + "use_dualstack_endpoint = true\n"),
    "FIPS": at(region="us-east-1", fips=True),
    "FIPS in a Gov region": at(region="us-gov-west-1", fips=True),
    "FIPS of the environment": aws("AWS_USE_FIPS_ENDPOINT", "true"),
    "path style at AWS": at(addressing="path", region="eu-west-1"),
    "virtual style at AWS": at(addressing="virtual", region="eu-west-1"),
    "China": at(region="cn-north-1"),
    "a region nobody knows": at(region="eu-isoe-west-1"),
    "the regional address of the oldest region": aws("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "regional", "us-east-1"),
    "an endpoint of AWS": at(endpoint_url="https://s3.eu-west-1.amazonaws.com", region="eu-west-1"),
    "another variable": aws("AWS_SOMETHING_NEW", "1"),
    "a setting nobody knows": Row(STORE, {}, DEFAULT + "something_new = 1\n", OF_DEFAULT),
    "keys that expire": Row(STORE, {**ENV, "AWS_CREDENTIAL_EXPIRATION": "2100-01-01T00:00:00Z"}),
    "an old name of a token": Row(STORE, {**ENV, "AWS_SECURITY_TOKEN": "ST"}),
    "both names of a token": Row(STORE, {**ENV, "AWS_SECURITY_TOKEN": "OLD", "AWS_SESSION_TOKEN": "ST"}),
    "an old name of a token in a file": Row(STORE, {}, None, OF_DEFAULT + "aws_security_token = ST\n"),
    "two variables that differ": Row(STORE, {"AWS_PROFILE": "none", "AWS_DEFAULT_PROFILE": "work"}, None, OF_WORK),
    "a profile with spaces": Row({**STORE, "profile": "my work"}, {}, "[profile 'my work']\nregion=a\n" + OF_WORK[7:]),
    "a profile twice": Row(IN_WORK, {}, WORK + '[profile "work"]\nregion = b\n', OF_WORK),
    "a process": Row(STORE, {}, DEFAULT + BY_PROCESS),
    "a process of a profile": Row({**STORE, "profile": "p"}, ENV, "[profile p]\nregion = a\n" + BY_PROCESS, OF_DEFAULT),
    "a process beside keys": Row(STORE, {}, DEFAULT + BY_PROCESS, OF_DEFAULT),
    "a role": Row(IN_ROLE, STS, ROLE, OF_WORK),
    "a role with more spaces before its name": Row(IN_ROLE, STS, ROLE.replace("profile ", "profile   "), OF_WORK),
    "a role at AWS": Row({"region": "eu-west-1"}, {"AWS_PROFILE": "role", **STS}, ROLE, OF_WORK),
    "a role by the environment's keys": Row(
        IN_ROLE, {**ENV, **STS}, ROLE.replace("source_profile = work", "credential_source = Environment")
    ),
    "a web identity": Row({**STORE, "region": "eu-west-1"}, WEB),
    "a web identity beside a file": Row({**STORE, "region": "eu-west-1"}, WEB, None, OF_DEFAULT),
    "a web identity at AWS": Row({"region": "eu-west-1"}, WEB),
    "a machine's role": Row(STORE, IMDS),
    "a machine's role at AWS": Row({"region": "eu-west-1"}, IMDS),
    "a container's role": Row(STORE, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/container"}),
}  # fmt: skip
"""These need boto3 for the address or for the keys."""
FIRST = [
    "an access point, FIPS and dual stack", "two hyphens in the name", "accelerate and dual stack",
    "dual stack of a file", "FIPS of the environment", "path style at AWS", "virtual style at AWS",
    "a region nobody knows", "keys that expire", "both names of a token", "two variables that differ",
    "a process of a profile", "a role", "a web identity at AWS", "a machine's role",
]  # fmt: skip
"""Of `OTHERS`, what the fast suite compares."""


def of_sts(action: str) -> bytes:
    keys = f"<AccessKeyId>AK-{action}</AccessKeyId><SecretAccessKey>SK</SecretAccessKey><SessionToken>ST</SessionToken>"
    found = f"<Credentials>{keys}<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>"
    return f"<{action}Response><{action}Result>{found}</{action}Result></{action}Response>".encode()


@pytest.fixture(scope="module")
def services() -> Iterator[HttpStub]:
    """STS, a machine's metadata, and a container's credentials."""
    keys = {"Code": "Success", "SecretAccessKey": "SK", "Token": "ST", "Expiration": "2100-01-01T00:00:00Z"}
    machine, container = (json.dumps({**keys, "AccessKeyId": f"AK-{of}"}).encode() for of in ("machine", "container"))
    role = "/imds/latest/meta-data/iam/security-credentials/"
    error = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no\nrole</Message></Error></ErrorResponse>"
    with http_stub() as stub:
        stub.responses |= {path: Response(body=body) for path, body in (
            ("/role", of_sts("AssumeRole")), ("/web", of_sts("AssumeRoleWithWebIdentity")), ("/container", container),
            ("/imds/latest/api/token", b"a-token"), (role, b"the-role"), (f"{role}the-role", machine),
        )}  # fmt: skip
        stub.responses["/refused"] = Response(status=403, body=error)
        yield stub


@pytest.fixture
def place(aws_files: Path) -> Path:
    """A directory with no configuration, a token and a process that gives credentials."""
    (aws_files / "token").write_text("a-token")
    given = {"Version": 1, "AccessKeyId": "AK-process", "SecretAccessKey": "SK", "Expiration": "2100-01-01T00:00:00Z"}
    (aws_files / "process").write_text(f"#!/bin/sh\necho '{json.dumps(given)}'\n")
    (aws_files / "process").chmod(0o700)
    return aws_files


@pytest.fixture
def configure(place: Path, services: HttpStub) -> Iterator[Callable[[Row], S3Options]]:
    """Returns what sets the environment and writes the files of a row, in place of those of the row before."""
    patch = pytest.MonkeyPatch()

    def configure(row: Row) -> S3Options:
        patch.undo()
        for name in ("config", "credentials"):
            (place / name).unlink(missing_ok=True)

        def filled(text: str) -> str:
            return text.replace("{url}", services.url).replace("{dir}", str(place))

        if row.environment is IMDS:
            patch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "60")
        for name, value in row.environment.items():
            patch.setenv(name, filled(value))
        for name, content in [("config", row.config), ("credentials", row.credentials)]:
            if content is not None:
                (place / name).write_text(filled(content))
        return S3Options(**row.options)

    yield configure
    patch.undo()


class Found(NamedTuple):
    """How a bucket is reached."""

    base: str
    region: str
    keys: tuple[str, str, str | None, str] | None = None


def ours(bucket: str, options: S3Options, **more: Any) -> Found:
    found = find_access(bucket, options, **{"region": options.region, "signing_endpoint": None, **more})
    assert found.signed_base == found.base
    return Found(found.base, found.region, keys_of(found.credentials))


def keys_of(credentials: Any) -> tuple[str, str, str | None, str] | None:
    if credentials is None:
        return None
    frozen = credentials.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key, frozen.token or None, credentials.method


def boto3s(bucket: str, options: S3Options) -> Found:
    """The same of a client of boto3: its presigned URL has it all."""
    o, address = options, parameters(ADDRESS, options)
    session = o.session or boto3.Session(o.access_key, o.secret_key, o.session_token, o.region, profile_name=o.profile)
    signs = not o.no_sign_request and o.credentials is None
    style = "virtual" if o.addressing == "auto" and o.endpoint_url is None else o.addressing
    config = Config(
        signature_version="s3v4" if signs else UNSIGNED, s3={"addressing_style": style, **address.pop("s3", {})},
        ignore_configured_endpoint_urls=True, **address,
    )  # fmt: skip
    client = session.client("s3", endpoint_url=o.endpoint_url, region_name=o.region, config=config)
    url, _, query = client.generate_presigned_url("head_object", Params={"Bucket": bucket, "Key": "k"}).partition("?")
    client.close()
    if not signs:
        region = client.meta.region_name
        return Found(url.removesuffix("/k"), "us-east-1" if region == "aws-global" else region)
    access_key, _, region, *_ = parse_qs(query)["X-Amz-Credential"][0].split("/")
    keys = keys_of(session.get_credentials())
    assert (keys and keys[0]) == access_key
    return Found(url.removesuffix("/k"), region, keys)


# -- the three answers


def assert_as_boto3(row: Row, configure: Any) -> None:
    options = configure(row)
    assert ours(row.bucket, options) == boto3s(row.bucket, options)


@each_case("name", [*PLAIN, *FIRST])
def test_it_is_what_boto3_finds(name: str, configure: Any) -> None:
    assert_as_boto3({**PLAIN, **OTHERS}[name], configure)


@pytest.mark.slow
@each_case("name", [name for name in OTHERS if name not in FIRST])
def test_so_are_the_others(name: str, configure: Any) -> None:
    assert_as_boto3(OTHERS[name], configure)


@each_case("name", [*PLAIN, *OTHERS])
def test_boto3_is_asked_for_the_others_alone(name: str, configure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would compare the rules here with boto3, by luck."""
    row = {**PLAIN, **OTHERS}[name]
    options = configure(row)
    with monkeypatch.context() as without:
        for module in ("boto3", "botocore", "botocore.config", "botocore.session"):
            without.setitem(sys.modules, module, None)
        with contextlib.nullcontext() if name in PLAIN else pytest.raises(ImportError):
            ours(row.bucket, options)


def test_a_short_command_imports_neither_botocore_nor_boto3(place: Path) -> None:
    """A new process: with keys in the environment, and with keys in a file."""
    (place / "credentials").write_text(OF_DEFAULT)
    script = (
        "import asyncio, sys\nfrom bigupload import S3Options\nfrom bigupload.stores.s3.bucket import S3Bucket\n"
        "async def main():\n"
        "    bucket = S3Bucket('a-bucket', S3Options(endpoint_url='http://127.0.0.1:9'))\n"
        "    await bucket.prepare()\n"
        "    print(len(await bucket.presign('GetObject', [{'Key': 'key'}])), bucket.ca_bundle)\n"
        "    await bucket.aclose()\n"
        "asyncio.run(main())\nprint(sorted({'botocore', 'boto3', 'aiohttp'} & set(sys.modules)))\n"
    )
    for environment in ({}, ENV):
        command, variables = [sys.executable, "-c", script], {**os.environ, **environment}
        assert subprocess.check_output(command, env=variables, text=True) == "1 None\n[]\n"


HARMLESS = [
    *((name, "{0}") for name in sorted(access._HARMLESS_VARIABLES)),
    *((name, DEFAULT + "{0} = {1}\n") for name in sorted(access._HARMLESS_SETTINGS | access._OF_CREDENTIALS)),
    *((name, NESTED + "{0} = {1}\n") for name in sorted(access._HARMLESS_OF_S3)),
]
VALUES = {
    "retry_mode": "adaptive", "defaults_mode": "legacy", "expiration": "2100-01-01T00:00:00Z", "endpoint": "http://h",
    "account_id_endpoint_mode": "required", "checksum_calculation": "when_supported", "endpoint_mode": "ipv4",
    "checksum_validation": "when_supported", "addressing_style": "virtual", "sts_regional_endpoints": "legacy",
}  # fmt: skip
"""Of names that end like this: others are a 7."""


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "how"), HARMLESS)
def test_nothing_that_is_called_harmless_changes_what_boto3_does(
    name: str, how: str, configure: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apart from what is read here: the keys, the region, the files and the profile, which the tables have."""
    options = configure(at(**STORE, region="us-east-1"))
    value = next((VALUES[each] for each in VALUES if name.lower().endswith(each)), "7")
    if how != "{0}":
        of_sso = "[sso-session 7]\nsso_region = r-1\nsso_start_url = http://127.0.0.1:1\n"
        (place / "config").write_text(of_sso + how.format(name, value))
    elif name not in (*ENV, "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, value)
    expected = Found("http://127.0.0.1:9000/a-bucket", "us-east-1", ("AK-env", "SK-env", None, "env"))
    assert ours("a-bucket", options) == boto3s("a-bucket", options) == expected


def test_a_session_has_the_last_word(configure: Any) -> None:
    """Its credentials, its region: also where the environment has others."""
    configure(Row({}, {**ENV, "AWS_PROFILE": "work"}, None, OF_WORK + OF_DEFAULT))
    given, of_profile = boto3.Session("AK", "SK", region_name="sa-east-1"), boto3.Session(profile_name="default")
    for more in ({}, {"region": "us-west-2"}, STORE, {"addressing": "path"}, {"session": of_profile}):
        options = S3Options(**{"session": given, **more})
        assert ours("a-bucket", options) == boto3s("a-bucket", options)
    assert ours("a-bucket", S3Options(session=given))[1:] == ("sa-east-1", ("AK", "SK", None, "explicit"))


def test_a_region_that_was_found_out_counts(configure: Any) -> None:
    options = configure(aws("AWS_DEFAULT_REGION", "us-west-2", None))
    for given, host in ((options, "s3"), (S3Options(dual_stack=True), "s3.dualstack")):
        found = ours("a-bucket", given, region="eu-west-1")
        assert found[:2] == (f"https://a-bucket.{host}.eu-west-1.amazonaws.com", "eu-west-1")


def test_clients_may_reach_the_store_at_another_address(configure: Any) -> None:
    found = find_access("a-bucket", configure(at(**STORE)), region=None, signing_endpoint="https://media.example/s3/")
    assert (found.base, found.signed_base) == ("http://127.0.0.1:9000/a-bucket", "https://media.example/s3/a-bucket")


def test_descriptions_of_aws_by_the_user_are_left_to_boto3(
    configure: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = configure(at(**STORE))
    monkeypatch.setenv("HOME", str(place))
    (place / ".aws" / "models" / "s3").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ImportError):
        ours("a-bucket", options)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_home_that_nobody_knows_or_may_look_into_has_no_configuration(
    is_there: bool, configure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs as any user: the keys of the environment count."""
    stat = os.stat

    def refuse(path: Any, *arguments: Any, **more: Any) -> os.stat_result:
        if ".aws" in str(path):
            raise PermissionError("Permission denied")
        return stat(path, *arguments, **more)

    def know_nobody(_: int) -> NoReturn:
        raise KeyError

    options = configure(at(**STORE))
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name)
    if is_there:
        monkeypatch.setattr(os, "stat", refuse)
    else:
        monkeypatch.delenv("HOME")
        if sys.platform == "win32":
            pytest.skip("no database of users")
        monkeypatch.setattr("pwd.getpwuid", know_nobody)
    assert ours("a-bucket", options).keys == ("AK-env", "SK-env", None, "env")
    assert (configured_endpoint(S3Options()), S3Bucket("a-bucket", options).ca_bundle) == (None, None)


def test_no_secret_is_shown(configure: Any) -> None:
    options = configure(at(**STORE, **KEYS, session_token="SK-token"))
    found = find_access("a-bucket", options, region=None, signing_endpoint=None)
    assert found.credentials.secret_key == "SK-given"
    assert "SK-" not in f"{found} {found.credentials} {found!r} {found.credentials!r}"


# -- what can't be used


@each_case(
    ("row", "error", "says"),
    [
        (Row({**STORE, "profile": "nobody"}, ENV, None, OF_DEFAULT), errors.UsageError, "is no profile nobody in"),
        (Row(STORE, {"AWS_PROFILE": "nobody"}), errors.UsageError, "there is no profile nobody in .*config"),
        (Row({**STORE, **KEYS}, {"AWS_PROFILE": "nobody"}), errors.UsageError, "there is no profile nobody"),
        (Row({**STORE, "profile": "my work"}, ENV), errors.UsageError, "there is no profile my work"),
        (Row(STORE, ENV, "no section"), errors.UsageError, "Unable to parse config file"),
        (Row(STORE, {}, None, "[default\n"), errors.UsageError, "Unable to parse config file"),
        (Row(STORE, ENV, "[a]\nb=\xff\n[a]\n"), errors.UsageError, "Unable to parse config file"),
        (at(region="eu_west"), errors.UsageError, "not a region: 'eu_west'"),
        (at(region="eu/../west"), errors.UsageError, "not a region"),
        (Row(STORE, {"AWS_EC2_METADATA_DISABLED": "true"}), errors.CredentialsError, "no AWS credentials: set"),
        (Row(STORE, {"AWS_ACCESS_KEY_ID": "AK"}), errors.CredentialsError, "incomplete AWS .*AWS_SECRET_ACCESS_KEY"),
        (Row(STORE, {}, None, OF_DEFAULT.rpartition("aws_s")[0]), errors.CredentialsError, "incomplete AWS"),
        (Row(STORE, {}, DEFAULT + f"credential_process = {sys.executable} -c exit(1)\n"), errors.CredentialsError,
         "the credential_process of the profile failed"),
        (Row(STORE, {}, DEFAULT + OF_SSO), errors.CredentialsError, "can't be used: Error loading SSO Token"),
        (Row(STORE, {}, ROLE.replace("profile role", "default")), errors.CredentialsError, 'source_profile "work" ref'),
        (Row(IN_ROLE, {"AWS_ENDPOINT_URL_STS": "{url}/refused"}, ROLE, OF_WORK), errors.CredentialsError,
         r"can't be used: AssumeRole was refused: AccessDenied \(no role\)"),
        (Row(IN_ROLE, {"AWS_ENDPOINT_URL_STS": "{url}/none"}, ROLE, OF_WORK), errors.CredentialsError,
         "can't be fetched: .*, a proxy may have sent it"),
        (Row(IN_ROLE, {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}, ROLE, OF_WORK),
         errors.CredentialsError, "can't be fetched: 127.0.0.1:1 does not respond"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_in_one_line(row: Row, error: type[Exception], says: str, configure: Any) -> None:
    options = configure(row)
    found = error_of_aws(failure_of(ours, row.bucket, options))
    found = found.public() if isinstance(found, Fault) else found
    assert (type(found), re.search(says, str(found)) is not None, "\n" in str(found)) == (error, True, False), found
    failure_of(boto3s, row.bucket, options)  # boto3 does not take it either


def failure_of(call: Callable[..., object], *arguments: Any) -> Exception:
    try:
        found = call(*arguments)
    except Exception as e:
        return e
    raise AssertionError(f"it succeeded: {found}")


# -- the endpoint of the files

ENDPOINT = "[default]\nendpoint_url = http://plain.example\n[profile work]\nservices = of-work\n"
OF_OTHERS = "[services of-work]\ndynamodb =\n  endpoint_url = http://other.example\n"
SERVICES = OF_OTHERS + "s3 =\n  endpoint_url = http://s3.example:9000\n"
WITH_PLAIN = ENDPOINT.replace("\nservices", "\nendpoint_url = http://of.profile\nservices")


CONFIGS = [
    "[default]\nregion = r\n", ENDPOINT + SERVICES, WITH_PLAIN + SERVICES, WITH_PLAIN + OF_OTHERS,
    ENDPOINT + "ignore_configured_endpoint_urls = true\n" + SERVICES, ENDPOINT + OF_OTHERS + "s3 =\n  a = b\n",
    ENDPOINT.replace("[default]", "[default]\nservices = of-work") + SERVICES.replace("s3 =\n", "s3 = \n"),
]  # fmt: skip
BY_ENVIRONMENT: list[dict[str, str]] = [{"AWS_PROFILE": "work"}, {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}]


@each_case(("profile", "environment"), [(None, {}), ("work", {}), *((None, each) for each in BY_ENVIRONMENT)])
@each_case("config", CONFIGS)
def test_the_endpoint_is_what_boto3_finds_in_the_files(
    config: str, environment: dict[str, str], profile: str | None, configure: Any
) -> None:
    assert_endpoint_is_boto3s(config, environment, profile, configure)


@pytest.mark.slow
@each_case("profile", ["default", "work"])
@each_case("environment", [{}, *BY_ENVIRONMENT])
@each_case("config", CONFIGS)
def test_so_it_is_where_an_option_and_a_variable_choose(
    config: str, environment: dict[str, str], profile: str, configure: Any
) -> None:
    assert_endpoint_is_boto3s(config, environment, profile, configure)


def assert_endpoint_is_boto3s(config: str, environment: dict[str, str], profile: str | None, configure: Any) -> None:
    options = configure(Row({"profile": profile}, {**ENV, **environment}, config, OF_WORK + OF_DEFAULT))
    session = boto3.Session(profile_name=profile)
    client = session.client("s3", region_name="us-east-1")
    client.close()
    endpoint = str(client.meta.endpoint_url)
    expected = None if endpoint == "https://s3.amazonaws.com" else endpoint
    assert configured_endpoint(options) == configured_endpoint(S3Options(session=session)) == expected


@each_case("config", ["[default]\nregion = r\n[profile work]\nregion = r\n", ENDPOINT + SERVICES])
def test_where_two_variables_choose_the_profile_boto3_is_asked_for_the_endpoint(config: str, configure: Any) -> None:
    chosen = {"AWS_PROFILE": "default", "AWS_DEFAULT_PROFILE": "work"}
    options = configure(Row({}, {**ENV, **chosen}, config, OF_WORK + OF_DEFAULT))
    assert endpoint_in_files(options) == (False, None)
    assert configured_endpoint(options) == ("http://s3.example:9000" if config.endswith(SERVICES) else None)


def test_a_services_section_that_is_missing(configure: Any) -> None:
    options = configure(Row({"profile": "work"}, {}, ENDPOINT, OF_WORK))
    with pytest.raises(errors.UsageError, match="the services section 'of-work', which does not exist"):
        configured_endpoint(options)


async def test_the_manifest_records_the_endpoint_of_a_sessions_profile(configure: Any) -> None:
    configure(Row({}, {}, ENDPOINT + SERVICES, OF_WORK))
    store = await connect("bucket", "key", S3Options(session=boto3.Session(profile_name="work")))
    found = "http://s3.example:9000"
    assert (store.target.endpoint, store.options()) == (found, {"endpoint_url": found})


# -- the certificates to trust

BUNDLES = "[default]\nca_bundle = /default.pem\n[profile work]\nca_bundle = /work.pem\n[profile none]\nregion = x\n"
QUOTED = '[profile "of two words"]\nca_bundle = /quoted.pem\n'  # read by configparser


@each_case("config", ["", BUNDLES, BUNDLES + QUOTED])
@pytest.mark.exhaustive
@pytest.mark.parametrize("credentials", ["[work]\nca_bundle = /credentials.pem\n", ""], ids=["a file", "no file"])
@each_case("environment", [{}, {"AWS_CA_BUNDLE": "/env.pem"}, {"AWS_PROFILE": "work"}])
@each_case("profile", [None, "work", "none", "of two words"])
def test_the_ca_bundle_is_what_botocore_finds(
    profile: str | None, environment: dict[str, str], credentials: str, config: str, configure: Any
) -> None:
    options = configure(Row({"profile": profile}, environment, config, credentials))
    try:
        expected = botocore.session.Session(profile=profile).get_config_variable("ca_bundle")
    except botocore.exceptions.ProfileNotFound:
        expected = environment.get("AWS_CA_BUNDLE")  # whoever asks for credentials says that there is no such profile
    found = configured_ca_bundle(options)
    assert (None if found is None else str(found)) == expected


def test_a_broken_configuration_names_no_bundle(configure: Any) -> None:
    assert configured_ca_bundle(configure(Row({}, {}, "no section = here\n["))) is None


@pytest.mark.parametrize("how", ["config", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
async def test_a_configured_bundle_holds_for_parts_too(
    how: str, configure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", str(tmp_path / "state"))  # else other tests find the upload
    with StrictS3(tls=True) as s3:
        s3.create_bucket("bucket")
        keys = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
        if how != "config":
            keys[how] = str(s3.ca_bundle)
        config = f"{DEFAULT}ca_bundle = {s3.ca_bundle}\n" if how == "config" else None
        options = configure(Row({"endpoint_url": s3.url, "region": "us-east-1"}, keys, config))
        result = await bigupload.upload(tmp_path / "file", to="s3://bucket/key", s3=options)
    assert result.size == 7


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_bundle_that_can_not_be_used_is_named(content: str | None, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    options = S3Options(endpoint_url="https://127.0.0.1:1", region="us-east-1", ca_bundle=bundle, **KEYS)
    async with contextlib.aclosing(S3Bucket("bucket", options)) as bucket:
        with pytest.raises(errors.UsageError, match=f"can't use the CA bundle {bundle}: "):
            await bucket.call("to look at the bucket", "HeadBucket")
