"""One bucket over real sockets: regions, connections, cancelled calls, and credentials that end or do not come."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import boto3
import botocore.session
import pytest
from botocore.credentials import RefreshableCredentials

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.client import HttpClient
from bigupload.options import S3Options
from bigupload.stores.s3 import bucket as bucket_module
from bigupload.stores.s3.bucket import URL_LIFETIME, S3Bucket
from bigupload.stores.s3.signer import validity
from bigupload.support import daemon_threads
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.buckets import options_for
from tests.tools.leaks import no_leaks, own_threads
from tests.tools.scripted import refusal, response, serving
from tests.tools.waiting import until

from .support import asking, signer_of

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
ABORT: dict[str, Any] = {"what": "to abort", "operation": "AbortMultipartUpload", "Key": "key", "UploadId": "u"}
LOOK = ("to look", "HeadBucket")
NOWHERE: dict[str, Any] = {"endpoint_url": "http://127.0.0.1:1"}
NO_KEYS: dict[str, Any] = {"access_key": None, "secret_key": None}


# -- regions


@pytest.mark.parametrize("how", ["redirect", "malformed"])
async def test_the_buckets_region_is_found_if_nobody_names_it(
    s3: StrictS3, how: Literal["redirect", "malformed"]
) -> None:
    """Also from the refusal of a HEAD, which has no body that could name it."""
    s3.knobs.wrong_region, s3.buckets["bucket"] = how, "eu-central-1"
    async with contextlib.aclosing(S3Bucket("bucket", dataclasses.replace(options_for(s3), region=None))) as bucket:
        assert (bucket.region, bucket.url("key")) == (None, "s3://bucket/key")
        for count in (2, 3):
            await bucket.call(*LOOK)
            assert (bucket.region, bucket.url("a b")) == ("eu-central-1", f"{s3.url}/bucket/a%20b")
            assert s3.count("HeadBucket") == count


@pytest.mark.parametrize(
    ("region", "options", "requests"), [("other-{}", {}, 3), ("us-east-1", {}, 1), ("other-{}", {"region": "mine"}, 1)]
)
async def test_a_store_that_names_regions_without_end(region: str, options: dict[str, str], requests: int) -> None:
    """One that was named stays."""
    answers = [response(301, x_amz_bucket_region=region.format(n)) for n in range(9)]
    async with asking(*answers, **options) as (bucket, script):
        with pytest.raises((errors.WrongRegion, errors.StoreRefused)):
            await bucket.call(*LOOK)
        assert len(script.requests) == requests
        assert not options or bucket.region == "mine"
        script.responses.clear()
        await bucket.aclose()


# -- calls


async def test_a_connection_carries_one_call_after_another() -> None:
    async with asking(*[NO_CONTENT] * 6) as (bucket, script):
        for connections in (1, 2):  # a new one once it was closed
            for _ in range(2):
                await bucket.call(**ABORT)
                assert script.connections == connections
            await bucket.aclose()
            await bucket.aclose()


async def test_a_given_client_is_its_owners() -> None:
    async with asking(*[NO_CONTENT] * 3, no_verify_ssl=True) as (own, script):
        client, asked = HttpClient(None), []
        given = S3Bucket("bucket", own.options, client=lambda ca_bundle: asked.append(ca_bundle) or client)
        for _ in range(2):
            await given.call(*LOOK)
            await given.aclose()
        assert (script.connections, asked, given.client is client) == (1, [False], True)
        await client.aclose()


async def test_a_parameter_that_does_not_exist_sends_nothing() -> None:
    async with asking() as (bucket, script):
        with pytest.raises(TypeError, match="AbortMultipartUpload has no parameter Wrong"):
            await bucket.call(**ABORT, Wrong=1)
        assert script.connections == 0


async def test_only_the_first_bytes_are_read() -> None:
    """A store that ignores Range would send everything. What refuses is read all the same."""
    read: dict[str, Any] = {"what": "to read", "operation": "GetObject", "Key": "key", "first": 3}
    async with asking(response(200, b"abcdefgh"), refusal(404, "NoSuchKey"), response(200, b"ab")) as (bucket, script):
        assert (await bucket.call(**read))["Body"] == b"abc"
        with pytest.raises(Fault) as caught:
            await bucket.call(**read)
        assert (caught.value.kind, caught.value.code) == (FaultKind.GONE, "NoSuchKey")
        assert (await bucket.call(**read))["Body"] == b"ab"
        assert script.connections == 2


async def test_a_call_that_is_cancelled_closes_its_socket_at_once_and_leaves_no_thread() -> None:
    heard, closed = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        heard.set()
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
        closed.set()

    others = own_threads()  # which earlier tests have left
    async with serving(serve) as url, asking(endpoint_url=url) as (bucket, _):
        calling = asyncio.create_task(bucket.call(*LOOK))
        await heard.wait()
        await until(lambda: own_threads() <= others)  # the one that found the credentials
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await closed.wait()


# -- credentials that end


class Role:
    """Numbered credentials, as botocore's recipes for roles make them, and the threads that fetched them."""

    def __init__(self, *seconds: float) -> None:
        self.threads: list[threading.Thread] = []
        self._seconds = iter(seconds)
        inner = botocore.session.get_session()
        inner._credentials = RefreshableCredentials.create_from_metadata(self.fetch(), self.fetch, "assume-role")
        session = boto3.Session(botocore_session=inner, region_name="us-east-1")
        self.bucket = S3Bucket("bucket", S3Options(**NOWHERE, session=session))

    def fetch(self) -> dict[str, str]:
        self.threads.append(threading.current_thread())
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=next(self._seconds))
        keys = {"access_key": f"AK-{len(self.threads)}", "secret_key": "SK-hidden", "token": "ST-hidden"}
        return {**keys, "expiry_time": end.isoformat()}


async def test_credentials_that_end_soon_are_fetched_again_in_a_thread() -> None:
    """Also if the new ones end soon as well: each signature is by what is valid, and the event loop never waits."""
    role = Role(*[120] * 8)
    signers = {await signer_of(role.bucket), await signer_of(role.bucket)}
    role.bucket.refused_url("url", Fault(FaultKind.REFUSED, "the store refused part 1", status=403))
    before = len(role.threads)
    with pytest.raises(Fault):
        await role.bucket.call(*LOOK)
    assert threading.main_thread() not in role.threads[1:]
    assert len(signers - {"AK-1"}) == 2
    assert before < len(role.threads)
    assert 0 < role.bucket.urls_last() <= 120
    await role.bucket.aclose()


async def test_credentials_that_last_are_fetched_once() -> None:
    role = Role(7200)
    assert {await signer_of(role.bucket) for _ in range(3)} == {"AK-1"}
    assert (len(role.threads), role.bucket.urls_last()) == (1, URL_LIFETIME)
    await role.bucket.aclose()


@pytest.mark.parametrize("refuses", ["a call", "a URL"])
async def test_files_are_read_again_once_their_credentials_have_ended(
    refuses: str, s3: StrictS3, aws_files: Path
) -> None:
    """Another program writes new ones there."""
    old, new = (s3.issue_session() for _ in range(2))

    def write(issued: Any) -> None:
        keys = f"aws_access_key_id = {issued.access_key}\naws_secret_access_key = {issued.secret_key}\n"
        (aws_files / "credentials").write_text(f"[default]\n{keys}aws_session_token = {issued.session_token}\n")

    write(old)
    async with contextlib.aclosing(S3Bucket("bucket", S3Options(endpoint_url=s3.url))) as bucket:
        await bucket.call("to list", "ListObjectsV2")
        assert await signer_of(bucket) == old.access_key
        object.__setattr__(old, "expires_at", 0.0)
        if refuses == "a URL":
            bucket.refused_url("url", Fault(FaultKind.REFUSED, "it refused part 1", status=400, code="ExpiredToken"))
        else:
            with pytest.raises(Fault) as caught:
                await bucket.call("to list", "ListObjectsV2")
            assert (caught.value.kind, caught.value.code) == (FaultKind.REFUSED, "ExpiredToken")
        write(new)
        await bucket.call("to list", "ListObjectsV2")
        assert await signer_of(bucket) == new.access_key


# -- credentials that do not come


@pytest.fixture
def process(aws_files: Path) -> Callable[[str], S3Options]:
    """Returns options for credentials that come from a script with some lines."""
    (aws_files / "config").write_text(f"[profile p]\nregion = r-1\ncredential_process = {aws_files}/process\n")

    def options(lines: str) -> S3Options:
        (aws_files / "process").write_text(f"#!/bin/sh\n{lines}\n")
        (aws_files / "process").chmod(0o700)
        return S3Options(**NOWHERE, profile="p")

    return options


@pytest.mark.parametrize("waits", [True, False], ids=["too long", "until it is cancelled"])
async def test_a_process_that_hangs_is_left_behind(
    waits: bool, process: Callable[[str], S3Options], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_threads, "_free", {})  # those of earlier tests are not counted below
    begun, fifo, others = tmp_path / "begun", tmp_path / "fifo", own_threads()
    os.mkfifo(fifo)

    def has_ended() -> bool:
        with contextlib.suppress(OSError):  # nobody reads
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return own_threads() <= others

    bucket = S3Bucket("bucket", process(f"touch {begun}\nexec cat {fifo}"))
    async with no_leaks():
        asking = asyncio.create_task(bucket.call(*LOOK))
        await until(begun.exists)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        if waits:
            monkeypatch.setattr(bucket_module, "CREDENTIALS_WITHIN", 0.01)
            says = "^no AWS credentials within 0 s: check the credential_process.*, that the profile p names$"
            with pytest.raises(errors.CredentialsError, match=says):
                await bucket.call(*LOOK)
        assert len(own_threads() - others) == (2 if waits else 1)
        await until(has_ended)
    await bucket.aclose()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("echo 'a reason'; echo 'and\nmore' >&2; exit 3", "the credential_process of the profile failed: and more$"),
        ("echo SK-hidden", r"what their source gave can't be read \(JSONDecodeError\)"),
        ("echo '[]'", r"what their source gave can't be read \(AttributeError\)"),
        ("echo '{\"Version\": 1}'", "failed: Missing required key in response: 'AccessKeyId'"),
        ("echo '{\"Version\": 2, \"SecretAccessKey\": \"SK-hidden\"}'", "failed: Unsupported version '2'"),
        ("exit 0", "JSONDecodeError"),
    ],
)  # fmt: skip
async def test_a_process_that_fails_is_one_line(lines: str, says: str, process: Callable[[str], S3Options]) -> None:
    """It may work the next time."""
    bucket = S3Bucket("bucket", process(lines))
    for ask in (bucket.prepare, lambda: bucket.call(*LOOK), lambda: signer_of(bucket)):
        with pytest.raises(errors.CredentialsError, match=says) as caught:
            await ask()
        assert not re.search("\n|hidden", str(caught.value))
        assert (caught.value.__cause__, caught.value.__context__) == (None, None), "botocore's text may hold a secret"
    process('echo \'{"Version": 1, "AccessKeyId": "AK", "SecretAccessKey": "SK"}\'')
    assert await signer_of(bucket) == "AK"
    await bucket.aclose()


@pytest.mark.usefixtures("aws_files")
async def test_without_credentials_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with asking(**NO_KEYS) as (bucket, script):
        with pytest.raises(errors.CredentialsError, match="no AWS credentials: set AWS_ACCESS_KEY_ID"):
            await bucket.call(*LOOK)
        assert script.connections == 0
    async with asking(response(200), **NO_KEYS, no_sign_request=True) as (bucket, script):
        await bucket.call(*LOOK)
        assert b"authorization" not in script.requests[0].lower()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"the credentials that were given \(key \.\.\.AK\) were used: check that they belong to this store"),
        ({"session_token": "ST"}, r"\(key \.\.\.AK\) were used: if the session token has expired, renew"),
        ({**NO_KEYS, "no_sign_request": True}, "403 AccessDenied: no credentials were used"),
    ],
)  # fmt: skip
async def test_a_refusal_says_which_credentials_were_used(options: dict[str, Any], says: str) -> None:
    async with asking(refusal(403, "AccessDenied"), **options) as (bucket, _):
        with pytest.raises(Fault) as caught:
            await bucket.call("to look", "GetBucketCors")
        with pytest.raises(errors.AccessDenied, match=says):
            raise caught.value.public()
        of_url = Fault(FaultKind.REFUSED, "the store refused part 1", status=403)
        bucket.refused_url("url", of_url)
        assert of_url.hint == caught.value.hint


# -- the clock


@pytest.mark.parametrize("step", [3600.0, -86_400.0])
async def test_a_clock_that_steps_is_learnt_from_one_refusal(s3: StrictS3, step: float) -> None:
    """Of a call, and of a presigned URL. Those that were signed before keep their time, and one that is not refused
    for its time teaches nothing.
    """
    off = 0.0
    async with contextlib.aclosing(S3Bucket("bucket", options_for(s3), clock=lambda: time.time() + off)) as bucket:
        (early,) = await bucket.presign("GetObject", [{"Key": "key"}])
        off = step
        with pytest.raises(Fault, match="this machine's clock is") as caught:
            await bucket.call("to list the objects", "ListObjectsV2")
        assert "requests are signed with the store's time" in caught.value.warning
        await bucket.call("to list the objects", "ListObjectsV2")
        (late,) = await bucket.presign("GetObject", [{"Key": "key"}])
        at = validity(late)
        assert at is not None
        assert abs(at[0] - time.time()) < 60
        for url in (early, late):
            denied = refused_at(time.time())
            bucket.refused_url(url, denied)
            assert (denied.is_explained, denied.warning) == (False, "")
            assert "the credentials" in denied.hint
        off = 0.0  # the clock was set
        (wrong,) = await bucket.presign("GetObject", [{"Key": "key"}])
        bucket.refused_url(wrong, refused_at(time.time()))
        await bucket.call("to list the objects", "ListObjectsV2")


def refused_at(date: float) -> Fault:
    fault = Fault(FaultKind.REFUSED, "refused", status=403, code="AccessDenied")
    fault.date = date
    return fault
