"""Which certificates a store's connections trust: botocore's and the parts' alike."""

from __future__ import annotations

from pathlib import Path

import botocore.session
import pytest

import bigupload
from bigupload import S3Options, errors
from bigupload.stores.s3.aws_files import configured_ca_bundle
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.testing.strict_s3 import StrictS3


@pytest.fixture(autouse=True)
def configured(aws_files: Path) -> None:
    for name in ("credentials", "config"):
        (aws_files / name).write_text("")


CONFIG = "[default]\nca_bundle = /default.pem\n[profile work]\nca_bundle = /work.pem\n[profile none]\nregion = x\n"


@pytest.mark.parametrize("config", ["", CONFIG])
@pytest.mark.parametrize("credentials", ["", "[work]\nca_bundle = /credentials.pem\n"])
@pytest.mark.parametrize("environment", [{}, {"AWS_CA_BUNDLE": "/env.pem"}, {"AWS_PROFILE": "work"}])
@pytest.mark.parametrize("profile", [None, "work", "none"])
def test_the_configuration_names_what_botocore_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, credentials: str, environment: dict[str, str],
    profile: str | None,
) -> None:  # fmt: skip
    (tmp_path / "config").write_text(config)
    (tmp_path / "credentials").write_text(credentials)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    session = botocore.session.Session(profile=profile)
    try:
        expected = session.get_config_variable("ca_bundle")
    except botocore.exceptions.ProfileNotFound:
        expected = environment.get("AWS_CA_BUNDLE")  # whoever asks for credentials says that there is no such profile
    found = configured_ca_bundle(S3Options(profile=profile))
    assert (None if found is None else str(found)) == expected


def test_a_broken_configuration_is_left_to_botocore(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("no section = here\n[")
    assert configured_ca_bundle(S3Options()) is None


@pytest.mark.parametrize("how", ["config", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
async def test_a_configured_bundle_holds_for_parts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", StrictS3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", StrictS3.secret_key)
    with StrictS3(tls=True) as s3:
        s3.create_bucket("bucket")
        if how == "config":
            (tmp_path / "config").write_text(f"[default]\nca_bundle = {s3.ca_bundle}\n")
        else:
            monkeypatch.setenv(how, str(s3.ca_bundle))
        monkeypatch.setenv("BIGUPLOAD_STATE_DIR", str(tmp_path / "state"))  # else other tests find the upload
        result = await bigupload.upload(
            tmp_path / "file", to="s3://bucket/key", s3=S3Options(endpoint_url=s3.url, region="us-east-1")
        )
    assert result.size == 7


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_bundle_that_can_not_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    with StrictS3(tls=True) as s3:
        options = S3Options(endpoint_url=s3.url, region="us-east-1", access_key="a", secret_key="s", ca_bundle=bundle)
        bucket = S3Bucket("bucket", options)
        with pytest.raises(errors.UsageError, match=f"can't use the CA bundle {bundle}: "):
            await bucket.call("to look at the bucket", "HeadBucket")
        await bucket.aclose()
