"""No secret is in a manifest, and none that is in one is believed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bigupload.core.manifest import Header, SourceIdentity, Target
from bigupload.core.manifest_lines import decode, encode
from bigupload.options import S3Options
from tests.core.samples import TYPES, header


def test_no_secret_reaches_a_manifest() -> None:
    options = S3Options(
        endpoint_url="https://minio.example:9000", access_key="AKIASECRET", secret_key="hunter2", region="r",
        session_token="FwoGZX", ca_bundle=Path("/ca.pem"), metadata={"a": "b"}, if_none_match=True,
    )  # fmt: skip
    line = encode(dataclasses.replace(header(), options=options.to_json()))
    for secret in (b"AKIASECRET", b"hunter2", b"FwoGZX", b"access_key", b"secret", b"session_token"):
        assert secret not in line
    read = decode(line)
    assert isinstance(read, Header)
    without = dataclasses.replace(options, access_key=None, secret_key=None, session_token=None)
    assert S3Options.from_json(read.options) == without
    assert S3Options.from_json(read.options, options) == options


def test_secrets_in_a_manifest_are_not_believed() -> None:
    given_back = S3Options.from_json({"access_key": "planted", "secret_key": "planted", "region": "r", "unknown": 1})
    assert given_back == S3Options(region="r")


def test_no_record_has_a_place_for_a_secret() -> None:
    names = {f.name for cls in (*TYPES, Target, SourceIdentity) for f in dataclasses.fields(cls)}
    assert not [
        name for name in names if any(word in name for word in ("secret", "access", "password", "api_key", "signed"))
    ]
