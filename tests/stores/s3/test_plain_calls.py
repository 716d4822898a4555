"""Calls without botocore: its requests to the letter, its answers, connections that are used again."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import io
import resource
import socket
import threading
from pathlib import Path
from typing import Any, Literal, NoReturn

import botocore.auth
import botocore.awsrequest
import pytest

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.errors import UsageError
from bigupload.http.socket_tuning import readable
from bigupload.options import S3Options
from bigupload.s3_parameters import OBJECT, REQUEST, parameters
from bigupload.stores.s3 import plain_calls
from bigupload.stores.s3.client import URL_LIFETIME, S3Bucket
from bigupload.stores.s3.plain_access import plain_access
from bigupload.stores.s3.plain_calls import PLAIN_METHODS, PlainCalls
from bigupload.stores.s3.plain_signing import PlainSigner
from bigupload.stores.s3.response_guard import is_no_document
from bigupload.testing.faults import Call
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.buckets import options_for
from tests.tools.leaks import no_leaks, open_descriptors

from .support import NOON
from .test_presign import KEYS, TOKENS
from .test_presign_put import EVERY_OPTION, OTHER_OPTIONS

CREATE, COMPLETE, HEAD, LIST = PLAIN_METHODS
OF_TIME = ("Expires", "ObjectLockRetainUntilDate")
STORE: dict[str, Any] = {"endpoint_url": "http://127.0.0.1:9", "region": "eu-west-1"}
ROWS = [{"PartNumber": n, "ETag": f'"{n}&<>"', "ChecksumCRC64NVME": "rosUhgp5mIg="} for n in (1, 2)]
"""Of a complete: characters that XML has to escape."""


def arguments_of(method: str, key: str, options: S3Options) -> dict[str, Any]:
    if method == CREATE:
        common = {name: value for name, value in parameters(OBJECT, options).items() if name not in OF_TIME}
        return {**common, "Key": key, "ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
    if method == HEAD:
        return {"Key": key, "ChecksumMode": "ENABLED"} | ({"PartNumber": 3} if len(key) > 1 else {})
    if method == LIST:
        return {"Prefix": key, "StartAfter": key} if len(key) > 1 else {"Prefix": "", "ContinuationToken": "a+/= &"}
    return {
        "Key": key,
        "UploadId": "an~upload.id/+=",
        "MultipartUpload": {"Parts": ROWS},
        "MpuObjectSize": 12,
        "ChecksumType": "FULL_OBJECT",
        "ChecksumCRC64NVME": "rosUhgp5mIg=",
        "IfNoneMatch": "*",
    }


class _Nothing(io.BytesIO):
    """A body of urllib3."""

    def stream(self, *_: Any, **__: Any) -> list[bytes]:
        return [b"<Nothing/>"]


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("method", PLAIN_METHODS)
def test_the_requests_are_botocore_s(method: str, token: str | None) -> None:
    """All that is signed. Its User-Agent and tracing headers are its own."""
    for wanted in (S3Options(), EVERY_OPTION, OTHER_OPTIONS):
        requests = {name: getattr(wanted, name) for name in REQUEST if name != "sse_customer_key"}  # not over http
        options = S3Options(**STORE, **requests, access_key="AKID/+", secret_key="s", session_token=token)
        access = plain_access("the-bucket", options, options.region)
        assert access is not None
        signer = PlainSigner(access, parameters(REQUEST, options), URL_LIFETIME, NOON.timestamp)
        bucket = S3Bucket("the-bucket", options)
        client: Any = bucket._make_client(1.0)
        theirs: list[Any] = []

        def keep(request: Any, theirs: list[Any] = theirs, **_: Any) -> Any:
            theirs.append(request)
            return botocore.awsrequest.AWSResponse(request.url, 200, {}, _Nothing())

        client.meta.events.register("before-send.s3", keep)
        for key in KEYS:
            arguments = arguments_of(method, key, dataclasses.replace(wanted, sse_customer_key=None))
            getattr(client, method)(**bucket._parameters(client, method, arguments))
            request = PlainCalls("the-bucket", signer, None).request(method, arguments)
            assert request is not None
            verb = {HEAD: "HEAD", LIST: "GET"}.get(method, "POST")
            target, headers = signer.authorize(verb, request.key, request.query, request.headers, request.body)
            sent = {name.lower(): as_text(value) for name, value in theirs[-1].headers.items()}
            assert in_order(f"{STORE['endpoint_url']}{target}") == in_order(theirs[-1].url)
            assert theirs[-1].method == verb
            assert headers.pop("host") == "127.0.0.1:9"  # which urllib3 adds
            assert headers.items() <= sent.items()
            assert request.body == (theirs[-1].body or b"")
        client.close()


def in_order(url: str) -> tuple[str, list[str]]:
    """A URL, and the pairs of its query; those of a signature are in order."""
    address, _, query = url.partition("?")
    return address, sorted(pair.removesuffix("=") for pair in query.split("&"))


def as_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def test_other_calls_and_times_need_botocore() -> None:
    calls = calls_to(S3Options(**STORE, access_key="a", secret_key="b"))
    assert calls.request(CREATE, {"Key": "key"}) is not None
    assert calls.request("list_parts", {"Key": "key", "UploadId": "id"}) is None
    assert calls.request(CREATE, {"Key": "key", "Expires": NOON}) is None
    assert calls.request(HEAD, {"Key": "key", "VersionId": "v"}) is None
    assert calls.request(LIST, {"Prefix": "key", "Delimiter": "/"}) is None


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:8", "::no proxy::"])
def test_so_does_a_proxy(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    assert calls_to(S3Options(**STORE, access_key="a", secret_key="b")).request(CREATE, {"Key": "key"}) is None


def test_so_does_a_store_whose_certificate_nobody_checks() -> None:
    options = S3Options(**STORE, access_key="a", secret_key="b", no_verify_ssl=True)
    assert calls_to(options).request(CREATE, {"Key": "key"}) is None


def calls_to(options: S3Options, ca_bundle: Path | None = None) -> PlainCalls:
    access = plain_access("bucket", options, options.region)
    assert access is not None
    return PlainCalls("bucket", PlainSigner(access, {}, URL_LIFETIME), False if options.no_verify_ssl else ca_bundle)


@pytest.fixture
def without_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a client was made")

    monkeypatch.setattr(S3Bucket, "_make_client", refuse)


@pytest.mark.usefixtures("without_botocore")
async def test_a_connection_is_used_again_and_closed_with_its_bucket(s3: StrictS3) -> None:
    bucket = S3Bucket("bucket", options_for(s3))
    async with no_leaks():
        before = open_descriptors()
        await bucket.call("to start the upload", CREATE, Key="key")
        opened = open_descriptors()
        for _ in range(5):
            await bucket.call("to start the upload", CREATE, Key="key")
        assert open_descriptors() == opened > before
        await bucket.aclose()


@pytest.mark.usefixtures("without_botocore")
async def test_a_connection_that_the_store_has_closed_is_not_used(s3: StrictS3) -> None:
    options = options_for(s3)
    calls = calls_to(options)
    for _ in range(3):
        request = calls.request(CREATE, {"Key": "key"})
        assert request is not None
        found = calls.call("to start the upload", request, 5.0)
        assert found is not None
        assert found["UploadId"]
        ((connection, _since),) = calls._connections._idle
        connection.sock.shutdown(2)  # reads as closed by the store
    calls.close()
    assert s3.count("CreateMultipartUpload") == 3


async def test_calls_at_once_have_connections_of_their_own(s3: StrictS3) -> None:
    calls = calls_to(options_for(s3))
    found: list[Any] = []

    def create() -> None:
        request = calls.request(CREATE, {"Key": "key"})
        assert request is not None
        found.append(calls.call("to start the upload", request, 5.0))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({each["UploadId"] for each in found}) == 8
    calls.close()
    assert not calls._connections._idle


async def test_a_call_that_ends_after_the_close_leaves_no_connection(s3: StrictS3) -> None:
    async with no_leaks():
        calls = calls_to(options_for(s3))
        s3.script("CreateMultipartUpload", Call(lambda _: calls.close()))
        request = calls.request(CREATE, {"Key": "key"})
        assert request is not None
        assert calls.call("to start the upload", request, 5.0) is not None
        assert not calls._connections._idle


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 1100, reason="descriptors are limited")
def test_an_idle_connection_may_have_a_high_descriptor() -> None:
    """In a process with a thousand files open: select() knows descriptors up to 1023."""
    ours, stores = socket.socketpair()
    with ours:
        high = socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD, 1100))
    with high, stores:
        assert not readable(high)
        stores.close()
        assert readable(high)


def test_a_store_that_refuses_the_connection() -> None:
    calls = calls_to(S3Options(**STORE, access_key="a", secret_key="b"))
    request = calls.request(CREATE, {"Key": "key"})
    assert request is not None
    with pytest.raises(Fault, match=r"127\.0\.0\.1:9 refuses the connection") as caught:
        calls.call("to start the upload", request, 5.0)
    assert caught.value.kind is FaultKind.UNREACHABLE
    assert calls.request(CREATE, {"Key": "key"}) is not None, "the next attempt is made in the same way"


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.com"])
async def test_a_host_that_can_t_be_one_is_named_by_botocore(host: str) -> None:
    options = S3Options(endpoint_url=f"http://{host}", region="eu-west-1", access_key="a", secret_key="b")
    bucket = S3Bucket("bucket", options)
    with pytest.raises(UsageError, match="not an endpoint"):
        await bucket.call("to look at the object", HEAD, Key="key")
    await bucket.aclose()


@pytest.mark.parametrize("refusal", ["redirect", "malformed"])
async def test_the_bucket_s_region_is_found_by_a_head(s3: StrictS3, refusal: Literal["redirect", "malformed"]) -> None:
    """Its refusal is a 400 without a body that could name the region."""
    s3.knobs.wrong_region = refusal
    s3.buckets["bucket"] = "eu-central-1"
    bucket = S3Bucket("bucket", dataclasses.replace(options_for(s3), region=None))
    with pytest.raises(Fault) as caught:
        await bucket.call("to look at the object", HEAD, Key="key")
    assert (caught.value.status, bucket.region) == (404, "eu-central-1")
    await bucket.aclose()


def test_no_connection_is_kept_for_calls_that_botocore_makes(s3: StrictS3) -> None:
    s3.knobs.wrong_region = "redirect"
    s3.buckets["bucket"] = "eu-central-1"
    calls = calls_to(options_for(s3))
    request = calls.request(HEAD, {"Key": "key"})
    assert request is not None
    assert calls.call("to look at the object", request, 5.0) is None
    assert not calls._connections._idle


async def test_nothing_follows_an_interim_response_on_its_connection() -> None:
    """The next call would take the final response, which may still come, for its own."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        calls = calls_to(S3Options(endpoint_url=address, region="eu-west-1", access_key="a", secret_key="b"))
        request = calls.request(HEAD, {"Key": "key"})
        assert request is not None
        with pytest.raises(Fault, match="response was lost") as caught:
            await asyncio.to_thread(calls.call, "to look at the object", request, 5.0)
        kept = list(calls._connections._idle)
        calls.close()
        assert (caught.value.kind, kept) == (FaultKind.BROKEN, [])


def test_a_request_shows_no_key() -> None:
    calls = calls_to(S3Options(**STORE, access_key="a", secret_key="b"))
    request = calls.request(HEAD, {"Key": "key", "SSECustomerKey": "a secret"})
    assert request is not None
    assert "a secret" in request.headers.values()
    assert "a secret" not in repr(request)


BOMB = '<?xml version="1.0" encoding="{0}"?><!DOCTYPE r [<!ENTITY e "text">]><r><UploadId>&e;</UploadId></r>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-7", "cp037"])
def test_no_document_type_hides_in_another_encoding(encoding: str) -> None:
    body = BOMB.format(encoding).encode(encoding)
    assert is_no_document(body) or plain_calls._document(body) is None
