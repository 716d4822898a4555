"""The same response of a store means the same, whichever request it answers: the contract of `http/http_errors`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import bigupload
from bigupload import errors
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault
from bigupload.http.put_transport import HttpTransport
from bigupload.ports import SignedRequest
from bigupload.sources.file import FileSource
from tests.tools.scripted import Script, response

from .support import asking

REGION = {"x-amz-bucket-region": "eu-central-1"}
OURS = {"x-amz-bucket-region": "us-east-1"}
ELSEWHERE = {"location": "https://user:secret@Other.example:9000/bucket/key?uploadId=secret"}
PAGE = b"<html><head><title>%b</title></head><body><p>from the\r\ngateway</p></body></html>"
HTML = {"content-type": "text/html"}
MOVED = (
    "the endpoint redirects to https://other.example:9000: use that with `endpoint_url`. "
    "If you use it already, it is not an S3 store"
)


class Answer(NamedTuple):
    """A response, and what it means."""

    status: int
    code: str
    error: type[errors.BigUploadError]
    says: str
    """A part of the message."""
    of_head: type[errors.BigUploadError]
    """What it means in response to HEAD, which has no body: status and headers alone say it."""
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    """None: S3's document for the code."""

    @property
    def content(self) -> bytes:
        fields = "<BucketName>bucket</BucketName><Region>eu-central-1</Region>" if "Illegal" not in self.code else ""
        text = f"<Code>{self.code}</Code><Message>a\nreason &amp; more</Message>{fields}<RequestId>1</RequestId>"
        return f'<?xml version="1.0"?>\n<Error>{text}</Error>'.encode() if self.body is None else self.body


Refused, Unavailable, Region, Redirects = (
    errors.StoreRefused, errors.StoreUnavailable, errors.WrongRegion, errors.EndpointRedirects,
)  # fmt: skip
Denied, Credentials, Gone, NoBucket = (
    errors.AccessDenied, errors.CredentialsError, errors.UploadGone, errors.BucketNotFound,
)  # fmt: skip
REASON, THERE = "{} {} (a reason & more)", "the bucket is in region eu-central-1: use `region='eu-central-1'`"
ANSWERS = [
    Answer(404, "NoSuchBucket", NoBucket, "there is no bucket 'bucket' at this store: create it", Unavailable),
    Answer(400, "InvalidBucketName", NoBucket, "there is no bucket 'bucket' at this store", Refused),
    Answer(404, "NoSuchUpload", Gone, REASON, Unavailable),
    Answer(404, "NoSuchKey", Gone, REASON, Unavailable),
    Answer(403, "AccessDenied", Denied, REASON, Denied),
    Answer(403, "AccessDenied", Denied, "403 AccessDenied", Denied, {}, b"<Error><Code>AccessDenied</Code></Error>"),
    Answer(401, "", Denied, "401", Denied, {}, b""),
    Answer(403, "InvalidAccessKeyId", Credentials, REASON, Denied),
    Answer(403, "SignatureDoesNotMatch", Denied, REASON, Denied),
    Answer(400, "ExpiredToken", Credentials, "the credentials have expired. Renew them", Refused),
    Answer(403, "RequestTimeTooSkewed", errors.ClockSkewed, "this machine's clock is off: set it", Denied),
    Answer(301, "PermanentRedirect", Region, THERE, Region, REGION),
    Answer(301, "PermanentRedirect", Region, THERE, Redirects),
    Answer(301, "", Region, THERE, Region, REGION, b""),
    Answer(307, "TemporaryRedirect", Region, THERE, Region, {**REGION, **ELSEWHERE}),
    Answer(307, "TemporaryRedirect", Redirects, MOVED, Redirects, {**OURS, **ELSEWHERE}),
    Answer(307, "TemporaryRedirect", Redirects, MOVED, Redirects, ELSEWHERE),
    *(Answer(n, "", Redirects, MOVED, Redirects, ELSEWHERE, PAGE % b"moved") for n in (301, 302, 303, 307, 308)),
    Answer(302, "", Redirects, "the endpoint redirects elsewhere: check", Redirects, {"location": "/?a"}, b""),
    Answer(400, "AuthorizationHeaderMalformed", Region, THERE, Refused),
    Answer(400, "", Region, THERE, Region, REGION, b""),
    Answer(400, "IllegalLocationConstraintException", Region, "is in another region: name it as", Refused),
    Answer(503, "SlowDown", Unavailable, REASON, Unavailable),
    Answer(503, "ServiceUnavailable", Unavailable, REASON, Unavailable, {"retry-after": "1"}),
    Answer(500, "InternalError", Unavailable, REASON, Unavailable),
    Answer(400, "RequestTimeout", Unavailable, REASON, Refused),
    Answer(400, "BadDigest", errors.PartCorrupted, REASON, Refused),
    Answer(400, "InvalidPart", Refused, REASON, Refused),
    Answer(400, "EntityTooLarge", Refused, REASON, Refused),
    Answer(400, "EntityTooSmall", Refused, REASON, Refused),
    Answer(405, "MethodNotAllowed", Refused, REASON, Refused),
    Answer(501, "NotImplemented", Refused, REASON, Refused),
    Answer(412, "PreconditionFailed", errors.TargetExists, REASON, errors.TargetExists),
    Answer(409, "ConditionalRequestConflict", Unavailable, REASON, Unavailable),
    Answer(409, "OperationAborted", Unavailable, REASON, Unavailable),
    Answer(400, "InvalidRequest", Refused, REASON, Refused),
    Answer(400, "InvalidArgument", Refused, REASON, Refused),
    Answer(400, "XMinioAdminBucketQuotaExceeded", Refused, REASON, Refused),
    Answer(403, "QuotaExceeded", Denied, REASON, Denied),
    Answer(413, "", Refused, "something in front of the store limits request bodies: ", Refused, HTML, PAGE % b"large"),
    Answer(502, "", Unavailable, '502 (text/html: "Bad")', Unavailable, HTML, PAGE % b"Bad"),
    Answer(404, "", Unavailable, "404", Unavailable, HTML, PAGE % b"Not Found"),
    Answer(407, "", Refused, "the proxy asks for a user name and password", Refused, {}, b""),
    Answer(429, "", Unavailable, "429", Unavailable, {"retry-after": "1"}, b""),
]  # fmt: skip


OF_UPLOAD = {"Key": "key", "UploadId": "u"}
OF_PART = {**OF_UPLOAD, "PartNumber": 1}
CALLS: Mapping[str, Mapping[str, Any]] = {
    "CreateMultipartUpload": {"Key": "key"},
    "CompleteMultipartUpload": {**OF_UPLOAD, "MultipartUpload": {"Parts": []}},
    "ListParts": OF_UPLOAD,
    "ListObjectsV2": {"Prefix": "p"},
    "AbortMultipartUpload": OF_UPLOAD,
    "UploadPartCopy": {**OF_PART, "CopySource": "from/key"},
    "GetObject": {"Key": "key", "first": 5},
    "DeleteObjects": {"Delete": {"Objects": [{"Key": "key"}]}},
}
HEADS: Mapping[str, Mapping[str, Any]] = {"HeadObject": {"Key": "key"}, "HeadBucket": {}}
PUTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "a part": ("UploadPart", OF_PART), "the object": ("PutObject", {"Key": "key"}),
}  # fmt: skip
Attempt = Callable[[], Awaitable[object]]


class Stage(NamedTuple):
    """A server, and all the ways to send a request there."""

    script: Script
    requests: Mapping[str, Attempt]
    heads: Mapping[str, Attempt]


@contextlib.asynccontextmanager
async def staged(tmp_path: Path) -> AsyncIterator[Stage]:
    (tmp_path / "file").write_bytes(b"123456789")
    with FileSource(tmp_path / "file") as source:
        async with asking(region="us-east-1") as (bucket, script), HttpTransport() as transport:

            async def put(what: str) -> object:
                operation, arguments = PUTS[what]
                (url,) = await bucket.presign(operation, [{**arguments, "Headers": {"content-length": "9"}}])
                request = SignedRequest(url, {}, 60.0, what)
                return await transport.put(request, source, Part(1, 0, 9), on_start=lambda _: None)

            def call(operation: str) -> Attempt:
                arguments = {**CALLS, **HEADS}[operation]
                return lambda: bucket.call("to do it", operation, **arguments)

            puts = {what: functools.partial(put, what) for what in PUTS}
            yield Stage(script, {**puts, **{name: call(name) for name in CALLS}}, {name: call(name) for name in HEADS})


async def error_of(attempt: Attempt) -> errors.BigUploadError:
    try:
        found = await attempt()
    except Fault as fault:
        return fault.public()
    except errors.BigUploadError as error:
        return error
    raise AssertionError(f"it succeeded: {found}")


async def test_a_response_means_the_same_to_each_request(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        for answer in ANSWERS:
            await assert_meaning(answer, stage)


async def assert_meaning(answer: Answer, stage: Stage) -> None:
    of = f"{answer.status} {answer.code}".strip()
    for name, attempt in stage.requests.items():
        stage.script.responses[:] = [response(answer.status, answer.content, **answer.headers), b""]
        before = len(stage.script.requests)
        error = await error_of(attempt)
        assert type(error) is answer.error, (of, name, error)
        assert answer.says.format(answer.status, answer.code) in str(error), (of, name, error)
        assert re.search(r"\n|secret|hidden|X-Amz|uploadId|Signature=", str(error)) is None, (of, name, error)
        assert getattr(error, "region", "eu-central-1") in ("eu-central-1", None), (of, name, error)
        assert len(stage.script.requests) == before + 1, (of, name)
    head = response(answer.status, b"", **answer.headers).replace(b"h: 0", b"h: %d" % len(answer.content))
    for name, attempt in stage.heads.items():
        stage.script.responses[:] = [head, b""]
        error = await error_of(attempt)
        assert type(error) is answer.of_head, (of, name, error)
        assert "\n" not in str(error), (of, name, error)


async def test_a_page_in_place_of_a_successful_response_says_nothing_of_what_was_done(tmp_path: Path) -> None:
    """A login page, say. `GetObject` takes any bytes, and HEAD has none: its callers look for an ETag."""
    async with staged(tmp_path) as stage:
        for name in stage.requests.keys() - {"GetObject"}:
            stage.script.responses[:] = [response(200, PAGE % b"Log in", **HTML), b""]
            error = await error_of(stage.requests[name])
            assert type(error) is errors.StoreUnreachable, (name, error)


@pytest.mark.parametrize("size", [9, 6 << 20], ids=["in one request", "in parts"])
@pytest.mark.parametrize("region", [None, "eu-west-1"])
async def test_an_upload_to_an_endpoint_that_redirects_ends_at_once(
    size: int, region: str | None, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    async with asking(*[response(301, PAGE % b"moved", **ELSEWHERE)] * 50) as (bucket, script):
        options = dataclasses.replace(bucket.options, region=region)
        with pytest.raises(errors.StoreRefused, match=MOVED):
            await bigupload.upload(tmp_path / "file", to="s3://bucket/key", s3=options, manifest=tmp_path / "manifest")
        script.responses.clear()
    assert len(script.requests) <= 2
