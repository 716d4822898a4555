"""Signatures equal botocore's, in URLs and in headers, whatever the key, the address and the credentials are."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.errors import CredentialsError
from bigupload.options import S3Options
from bigupload.s3_parameters import OBJECT, REQUEST, parameters
from bigupload.stores.s3.access import PlainKeys
from bigupload.stores.s3.signer import S3Signer
from tests.tools.cases import each_case, examples

from .support import EVERY_OPTION, NOON, OTHER_OPTIONS, parameters_of_boto3

KEYS = [
    "key", "a folder/ein Ü~film's (1)+&=.mp4", "//twice//../dots", "./a/../b", "%41%2F", "日本", "a\tb", "~",
    "-_.!*'()", "ends/", "?uploads", "#", "\\", "\U0001f3ac",
]  # fmt: skip
TOKENS = [None, "a/token+with=signs=="]
STORE, AWS = "http://127.0.0.1:8333/bucket", "https://bucket.s3.eu-central-1.amazonaws.com"
BASES = [
    STORE, AWS, "http://store.example:80/bucket", "https://store.example:443/bucket", "https://store.example:80/bucket",
    "https://store.example:9000/below/it/bucket", "http://Store.Example/bucket", "http://[::1]:9000/bucket",
    "http://[fe80::1]/bucket",
]  # fmt: skip
HEADERS: list[dict[str, str]] = [
    {},
    {"x-amz-checksum-crc64nvme": "rosUhgp5mIg=", "content-length": "5"},
    {"x-amz-meta-a": "  two   runs \t of spaces ", "content-type": 'a/b; codecs="avc1,  mp4a"', "x-amz-meta-b": ""},
]
PART = {"partNumber": "7", "uploadId": "an~upload.id/+= &"}

pytestmark = pytest.mark.usefixtures("now")


def keys(token: str | None = None, access_key: str = "AKID/+", secret_key: str = "secret") -> PlainKeys:
    return PlainKeys(access_key, secret_key, token, "test")


def signer(base: str = STORE, region: str = "eu-west-1", clock: Callable[[], float] = NOON.timestamp) -> S3Signer:
    return S3Signer(base, region, lifetime=3600, clock=clock)


def pairs(url: str) -> tuple[str, list[tuple[str, str]]]:
    """A URL, and its decoded query. The order of that does not count: a signature is of the sorted pairs."""
    address, _, query = url.partition("?")
    return address, sorted(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))


def assert_signed_alike(
    base: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], by: PlainKeys, body: bytes = b"body"
) -> None:
    """Both ways to sign one request. An empty key is the bucket."""
    ours, theirs = signer(base), AWSRequest("PUT", signer(base).url(key), params=dict(query), headers=dict(headers))
    S3SigV4QueryAuth(by, "s3", "eu-west-1", 3600).add_auth(theirs)
    assert pairs(ours.presign("PUT", key, query, headers, by)) == pairs(str(theirs.prepare().url))
    url, sent = ours.authorize("PUT", key, query, headers, body, by)
    assert pairs(url)[1] == sorted(query.items())
    request = AWSRequest("PUT", url.partition("?")[0], params=dict(query), headers=dict(headers), data=body)
    S3SigV4Auth(by, "s3", "eu-west-1").add_auth(request)
    assert sent == {name.lower(): value for name, value in request.headers.items()}


@each_case("base", BASES)
def test_signatures_equal_botocores(base: str) -> None:
    for token, headers, key in itertools.product(TOKENS, HEADERS, KEYS):
        assert_signed_alike(base, key, PART, headers, keys(token))
    for key in ("key", ""):
        assert_signed_alike(base, key, {}, {}, keys(), b"")


@settings(deadline=None, max_examples=examples(100))
@given(
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    query=st.dictionaries(st.from_regex(r"[a-z]{1,4}-?[a-zA-Z]{0,3}", fullmatch=True), st.text("aZ9 /+=~%&é日")),
    headers=st.dictionaries(st.from_regex(r"x-amz-[a-z0-9-]{1,8}", fullmatch=True), st.text("aB,; \t=")),
    token=st.none() | st.text("aZ9/+=", min_size=1),
    access=st.text("aZ9/+", min_size=1),
)
def test_signatures_of_any_request_equal_botocores(
    key: str, query: dict[str, str], headers: dict[str, str], token: str | None, access: str
) -> None:
    assert_signed_alike(STORE, key, query, headers, keys(token, access))


def test_requests_for_the_bucket() -> None:
    """Path style has no slash behind the bucket's name; the host name's style has nothing else."""
    for base, path in ((STORE, "/bucket"), (AWS, "/")):
        url, _ = signer(base).authorize("GET", "", {"uploads": "", "prefix": "a b/"}, {}, b"", keys())
        assert urlsplit(url)[2:4] == (path, "prefix=a%20b%2F&uploads=")


def test_an_internationalized_host_is_signed_as_it_is_sent() -> None:
    """botocore signs the letters, which no client sends."""
    hosts = (f"https://{name}.example:9000/bucket" for name in ("bücher", "xn--bcher-kva"))
    made, expected = (pairs(signer(host).presign("GET", "key", {}, {}, keys())) for host in hosts)
    assert made == ("https://bücher.example:9000/bucket/key", expected[1])


@each_case("wrong", [keys(access_key=" AKID"), keys(secret_key="secret "), keys(token="token ")])
def test_a_space_at_the_end_of_a_key_is_named(wrong: PlainKeys) -> None:
    """As of a line that was copied. The store would only say that the signature does not match."""
    with pytest.raises(
        CredentialsError, match=r"the (access key|secret key|session token) begins or ends with a space"
    ):
        signer().presign("PUT", "key", {}, {}, wrong)


@each_case("wrong", [keys(access_key="AKID\n"), keys(secret_key="secret\r\n"), keys(token="token\n")])
def test_a_line_break_in_a_key_is_named(wrong: PlainKeys) -> None:
    """The store would refuse the signature, and the header with it can't be sent."""
    with pytest.raises(
        CredentialsError, match="holds a control character, such as a line break: leave it out"
    ) as caught:
        signer().presign("PUT", "key", {}, {}, wrong)
    assert "AKID" not in str(caught.value)


def test_without_keys_nothing_is_signed() -> None:
    ours, url = signer(), f"{STORE}/a%20b?partNumber=7&uploadId=an~upload.id%2F%2B%3D%20%26"
    assert ours.presign("PUT", "a b", PART, {"x-amz-acl": "private"}, None) == url
    assert ours.presign("GET", "key", {}, {}, None) == f"{STORE}/key"
    assert ours.authorize("GET", "a b", PART, {"range": "bytes=0-1"}, b"", None) == (url, {"range": "bytes=0-1"})


# -- a client of boto3 quotes keys and writes headers by itself

CLIENTS = [
    (STORE, "us-east-1", None),
    ("https://store.example:9000/below/bucket", "eu-west-3", TOKENS[1]),
    ("https://bucket.s3.cn-north-1.amazonaws.com.cn", "cn-north-1", None),
]


@pytest.fixture(params=CLIENTS, ids=lambda client: client[1], scope="module")
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """Two functions that presign: ours, and a client's."""
    base, region, token = request.param
    style = "virtual" if "amazonaws" in base else "path"
    client = boto3.client(
        "s3", region_name=region, aws_access_key_id="AKID/+", aws_secret_access_key="secret", aws_session_token=token,
        endpoint_url=None if style == "virtual" else base.removesuffix("/bucket"),
        config=Config(signature_version="s3v4", s3={"addressing_style": style}),
    )  # fmt: skip

    def theirs(operation: str, **more: Any) -> Any:
        return pairs(client.generate_presigned_url(operation, Params={"Bucket": "bucket", **more}))

    yield lambda *of: pairs(signer(base, region).presign(*of, keys(token))), theirs
    client.close()


@each_case("key", KEYS)
def test_presigned_urls_equal_a_clients(both: Any, key: str) -> None:
    ours, theirs = both
    part = {"PartNumber": int(PART["partNumber"]), "UploadId": PART["uploadId"]}
    assert ours("PUT", key, PART, {}) == theirs("upload_part", Key=key, **part)
    assert ours("GET", key, {"versionId": "v+1"}, {}) == theirs("get_object", Key=key, VersionId="v+1")
    assert ours("DELETE", key, {}, {}) == theirs("delete_object", Key=key)


@each_case("options", [S3Options(), EVERY_OPTION, OTHER_OPTIONS])
def test_the_url_of_a_put_equals_a_clients(both: Any, options: S3Options) -> None:
    """It is signed for all headers of an object, as `s3_parameters` writes them."""
    ours, theirs = both
    headers = {**parameters({**OBJECT, **REQUEST}, options), "if-none-match": "*", "content-length": "5"}
    more = {**parameters_of_boto3(options), "IfNoneMatch": "*", "ContentLength": 5}
    assert ours("PUT", KEYS[1], {}, headers) == theirs("put_object", Key=KEYS[1], **more)


# -- what signatures of one second share


def test_a_new_second_of_a_new_day(now: list[datetime.datetime]) -> None:
    time = [NOON.timestamp() + 0.999]
    ours = signer(clock=lambda: time[0])
    assert "X-Amz-Date=20260517T235959Z" in ours.presign("GET", "key", {}, {}, keys())
    time[0] += 0.001
    now.append(NOON + datetime.timedelta(seconds=1))
    theirs = AWSRequest("GET", ours.url("key"))
    S3SigV4QueryAuth(keys(), "s3", "eu-west-1", 3600).add_auth(theirs)
    assert "%2F20260518%2Feu-west-1%2Fs3%2Faws4_request" in theirs.url
    assert pairs(ours.presign("GET", "key", {}, {}, keys())) == pairs(theirs.url)
    time[0] -= 1  # a clock that is set back
    assert "X-Amz-Date=20260517T235959Z" in ours.presign("GET", "key", {}, {}, keys())


def test_credentials_are_never_mixed() -> None:
    """One signer signs for keys that change in any of their three values, in the same second."""
    some = [keys(), keys("token-1"), keys("token-2"), keys(access_key="other"), keys(secret_key="other"), keys()]
    ours = signer()
    for by in itertools.chain(*itertools.product(some, some)):
        fresh = signer()
        assert ours.presign("GET", "k", {}, {}, by) == fresh.presign("GET", "k", {}, {}, by)
        assert ours.authorize("GET", "k", {}, {}, b"", by) == fresh.authorize("GET", "k", {}, {}, b"", by)
