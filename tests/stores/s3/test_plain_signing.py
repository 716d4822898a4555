"""What is signed without botocore is what botocore signs, to the letter."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest

from bigupload.options import S3Options
from bigupload.s3_parameters import OBJECT, REQUEST, parameters
from bigupload.stores.s3.client import URL_LIFETIME, S3Bucket
from bigupload.stores.s3.plain_access import plain_access
from bigupload.stores.s3.plain_signing import PlainSigner
from bigupload.stores.s3.presign_put import ObjectPut

from .support import NOON
from .test_presign import HEADERS, KEYS, TOKENS, part
from .test_presign_put import EVERY_OPTION, OTHER_OPTIONS, PROOFS

ADDRESSES: list[dict[str, Any]] = [
    {"endpoint_url": "http://127.0.0.1:8333", "region": "us-east-1"},
    {"endpoint_url": "https://s3.example.com", "region": "auto"},
    {"region": "us-east-1"},
    {"region": "eu-central-1"},
]
OF_TIME = ("Expires", "ObjectLockRetainUntilDate")


pytestmark = pytest.mark.usefixtures("now")


class Both:
    """The two signers of one bucket."""

    def __init__(self, address: dict[str, Any], token: str | None, requests: S3Options) -> None:
        of_requests = {name: getattr(requests, name) for name in REQUEST}
        options = S3Options(**address, **of_requests, access_key="AKID/+", secret_key="secret", session_token=token)
        access = plain_access("the-bucket", options, options.region)
        assert access is not None
        self.signer = PlainSigner(access, parameters(REQUEST, options), URL_LIFETIME, NOON.timestamp)
        self._bucket = S3Bucket("the-bucket", options)
        self.client = self._bucket._make_client(1.0)

    def botocores_part(self, part: dict[str, Any]) -> str:
        return self._bucket._presigned(self.client, "upload_part", part)

    def botocores(self, put: ObjectPut) -> str:
        return self._bucket._presigned(self.client, "put_object", put.parameters)


def common_of(options: S3Options) -> dict[str, Any]:
    return {**parameters(OBJECT, options), "IfNoneMatch": "*"}


@pytest.fixture(params=ADDRESSES, ids=lambda address: address.get("endpoint_url") or address["region"])
def address(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: "+".join(proof) or "none")
def test_every_url_is_botocore_s(address: dict[str, Any], token: str | None, proof: dict[str, str]) -> None:
    for options in (S3Options(), EVERY_OPTION, OTHER_OPTIONS):
        if options.sse_customer_key and address.get("endpoint_url", "").startswith("http:"):
            options = dataclasses.replace(options, sse_customer_key=None)  # is not sent over http
        both = Both(address, token, options)
        common = {name: value for name, value in common_of(options).items() if name not in OF_TIME}
        for size, key in enumerate(KEYS):
            put = ObjectPut(key, size, proof, common, repr(common))
            assert both.signer.takes(put)
            url, headers = both.signer.sign_put(put)
            assert url == both.botocores(put)
            signed = url.partition("X-Amz-SignedHeaders=")[2].partition("&")[0].split("%3B")
            assert {*headers, "host", "content-length"} == set(signed)
            assert both.signer.url(key) == url.partition("?")[0]
        both.client.close()


@pytest.mark.parametrize("token", TOKENS)
def test_every_url_of_a_part_is_botocore_s(address: dict[str, Any], token: str | None) -> None:
    requests = dataclasses.replace(EVERY_OPTION, sse_customer_key=None)  # is not sent over http
    for options in (S3Options(), requests):
        both = Both(address, token, options)
        for number, key in enumerate(KEYS, 1):
            for own in HEADERS:
                given = part(number, key, **own)
                assert both.signer.sign_part(given) == both.botocores_part(given)
        both.client.close()


@pytest.mark.parametrize("name", OF_TIME)
def test_times_are_left_to_botocore(name: str) -> None:
    put = ObjectPut("key", 1, {}, {name: datetime.datetime.now(datetime.UTC)}, name)
    assert not PlainSigner.takes(put)


def test_every_parameter_of_an_object_is_known_or_left_to_botocore() -> None:
    for options in (EVERY_OPTION, OTHER_OPTIONS):
        for name in {**parameters(OBJECT, options), **parameters(REQUEST, options)}:
            assert PlainSigner.takes(ObjectPut("key", 1, {}, {name: ""}, "")) == (name not in OF_TIME), name
