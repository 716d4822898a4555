"""What a boto3 client says about its store: the adapter reaches it as boto3 does."""

from __future__ import annotations

import contextlib
import datetime
import io
import warnings
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError

from bigupload.adapters.boto3 import NotTakenOver, install, uninstall
from bigupload.adapters.boto3.arguments import CannotTakeOver, ClientSession, proxies_of, retry_policy, s3_options
from bigupload.core.retry_policy import RetryPolicy
from bigupload.stores.s3.access import find_access
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.cases import each_case

KEYS = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}


@pytest.fixture(autouse=True)
def surroundings(bigupload_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


def client_of(**arguments: Any) -> Any:
    return boto3.client("s3", **{**KEYS, "region_name": "eu-west-1", **arguments})


def reached(client: Any, bucket: str = "bucket") -> tuple[str, str]:
    """The URL and the region by which bigupload reaches a bucket."""
    options = s3_options(client, ClientSession(client))
    access = find_access(bucket, options, region=options.region, signing_endpoint=None)
    return access.base, access.region


def address(client: Any, bucket: str = "bucket") -> str:
    """The same of boto3, which presigns for AWS's global host if nobody names a style."""
    return str(client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "key"})).partition("/key?")[0]


V4 = {"signature_version": "s3v4"}
VIRTUAL = {"addressing_style": "virtual"}


@each_case(
    "arguments, config, bucket",
    [
        ({}, {**V4, "s3": VIRTUAL}, "bucket"),
        ({"region_name": "us-east-1"}, {**V4, "s3": VIRTUAL}, "bucket"),
        ({"region_name": "cn-north-1"}, {**V4, "s3": VIRTUAL}, "bucket"),
        ({}, {**V4, "s3": {"addressing_style": "path"}}, "bucket"),
        ({}, {**V4, "s3": VIRTUAL}, "with.dots"),
        ({}, {**V4, "s3": VIRTUAL, "use_dualstack_endpoint": True}, "bucket"),
        ({}, {**V4, "s3": VIRTUAL, "use_fips_endpoint": True}, "bucket"),
        ({}, {**V4, "s3": {"use_accelerate_endpoint": True}}, "bucket"),
        ({}, {**V4, "s3": VIRTUAL}, "arn:aws:s3:eu-west-1:123456789012:accesspoint/point"),
        ({"endpoint_url": "http://127.0.0.1:9000"}, V4, "bucket"),
        ({"endpoint_url": "https://minio.example:9000/base"}, V4, "bucket"),
        ({"endpoint_url": "https://minio.example"}, {**V4, "s3": VIRTUAL}, "bucket"),
        ({"endpoint_url": "https://minio.example"}, {**V4, "s3": {"addressing_style": "path"}}, "bucket"),
        ({"endpoint_url": "https://bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com"}, V4, "bucket"),
    ],
)
def test_an_address(arguments: dict[str, Any], config: dict[str, Any], bucket: str) -> None:
    client = client_of(config=Config(**config), **arguments)
    assert reached(client, bucket) == (address(client, bucket), arguments.get("region_name", "eu-west-1"))
    client.close()


def test_the_environment_of_the_client_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the upload: the client may have been made before, or may ignore it."""
    client = client_of()
    ignoring = client_of(config=Config(ignore_configured_endpoint_urls=True))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_PROFILE", "missing")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    for each in (client, ignoring):
        assert reached(each) == ("https://bucket.s3.eu-west-1.amazonaws.com", "eu-west-1")
        assert ClientSession(each).get_credentials().access_key == "a"
        each.close()


@each_case(
    "config",
    [{"client_cert": "/cert.pem"}, {"signature_version": "s3"}, {"proxies_config": {"proxy_ca_bundle": "/ca"}}],
)
def test_a_client_that_bigupload_can_not_be(config: dict[str, Any]) -> None:
    client = client_of(config=Config(**config))
    with pytest.raises(CannotTakeOver):
        s3_options(client, ClientSession(client))


@each_case("proxies", [None, {}, {"https": "http://proxy.example:3128"}, {"http": "a:1", "https": "b:2", "ftp": "c:3"}])
def test_proxies(proxies: dict[str, str] | None) -> None:
    given = proxies and {scheme: url for scheme, url in proxies.items() if scheme != "ftp"}
    assert proxies_of(client_of(config=Config(proxies=proxies))) == given


def test_a_proxy_of_the_client_is_used(s3: StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else knows where the store is: its name resolves nowhere."""
    port = s3.url.rpartition(":")[2]
    client = install(
        boto3.client(
            "s3", endpoint_url="http://store.invalid", config=Config(proxies={"http": f"http://127.0.0.1:{port}"})
        )
    )
    with contextlib.suppress(ClientError):  # the fake is no proxy
        client.upload_fileobj(io.BytesIO(b"data"), "bucket", "key")
    assert len(s3.requests) > 0
    client.close()


@each_case(
    "config, policy",
    [
        ({}, None),
        ({"retries": {"total_max_attempts": 3}}, RetryPolicy(attempts=3)),
        ({"retries": {"max_attempts": 3}}, RetryPolicy(attempts=4)),
        ({"retries": {"max_attempts": 0, "mode": "standard"}}, RetryPolicy(attempts=1)),
    ],
)
def test_retries(config: dict[str, Any], policy: RetryPolicy | None) -> None:
    assert retry_policy(client_of(config=Config(**config))) == policy


def test_certificates(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    found = {
        verify: s3_options(c := client_of(verify=verify), ClientSession(c)) for verify in (str(bundle), False, None)
    }
    assert found[str(bundle)].ca_bundle == bundle
    assert found[False].no_verify_ssl
    default = found[None].ca_bundle
    assert default is not None, "those of botocore: a container may have no others"
    assert default.is_file()
    plain = client_of(endpoint_url="http://127.0.0.1:9")
    assert s3_options(plain, ClientSession(plain)).ca_bundle is None


def test_an_unsigned_client(s3: StrictS3) -> None:
    client = boto3.client("s3", config=Config(signature_version=UNSIGNED))
    assert s3_options(client, ClientSession(client)).no_sign_request
    client.close()


def test_credentials_that_renew_themselves(s3: StrictS3) -> None:
    """As those of a role: the client's own object is asked for each upload."""
    calls: list[str] = []

    def refresh() -> dict[str, str]:
        calls.append("")
        given = s3.issue_session()
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)  # so soon that each use renews
        return {
            "access_key": given.access_key, "secret_key": given.secret_key, "token": given.session_token,
            "expiry_time": ends.isoformat(),
        }  # fmt: skip

    session = botocore.session.get_session()
    session._credentials = RefreshableCredentials.create_from_metadata(refresh(), refresh, "test")
    client = install(boto3.Session(botocore_session=session, region_name=s3.region).client("s3"))
    for number in range(2):
        client.upload_fileobj(io.BytesIO(b"data"), "bucket", f"key-{number}")
    assert len(calls) >= 3
    assert len(s3.objects["bucket"]) == 2
    uninstall(client)
    client.close()


def test_another_region_than_the_buckets(s3: StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 follows the store to the bucket's region, and so does the adapter."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    client = install(boto3.client("s3"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotTakenOver)
        client.upload_fileobj(io.BytesIO(b"data"), "bucket", "key")
    assert s3.objects["bucket"]["key"].body == b"data"
    client.close()
