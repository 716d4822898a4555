"""Directory buckets (S3 Express): a session's keys sign, and are renewed before they end. Compared with botocore."""

from __future__ import annotations

import datetime as dt
import re
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.stores.s3 import bucket as module
from bigupload.stores.s3.signer import S3Signer
from tests.tools.scripted import refusal, response

from .support import asking

NAME = "data--use1-az4--x-s3"


LIST = ("to list", "ListObjectsV2")
EMPTY = response(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")


def session(number: int, lasts: float = 300.0) -> bytes:
    """The response to CreateSession: keys that have a number, and so many seconds to live."""
    until = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=lasts)).strftime("%Y-%m-%dT%H:%M:%SZ")
    keys = f"<SessionToken>token-{number}</SessionToken><SecretAccessKey>secret</SecretAccessKey>"
    keys += f"<AccessKeyId>AK{number}</AccessKeyId><Expiration>{until}</Expiration>"
    return response(200, f"<CreateSessionResult><Credentials>{keys}</Credentials></CreateSessionResult>".encode())


@pytest.mark.parametrize("sessions", [1, 3])
async def test_a_sessions_keys_sign_all_other_requests(sessions: int) -> None:
    """It is begun again before its last minute. The responses are in the order of the requests."""
    lasts = 300 if sessions == 1 else 60
    begins = [session(number, lasts) for number in (1, 2, 3)]
    answers = [begins[0], EMPTY, EMPTY] if sessions == 1 else [begins[0], EMPTY, begins[1], EMPTY, begins[2]]
    async with asking(*answers, name=NAME, session_token="of-the-role") as (bucket, script):
        for _ in range(2):
            await bucket.call(*LIST, Prefix="a")
        (url,) = await bucket.presign("GetObject", [{"Key": "a"}])
        assert bucket.urls_last() <= lasts
        assert script.responses == []
    first, second = (each.decode() for each in script.requests[:2])
    assert re.match(r"GET [^ ]*\?session= HTTP/1.1\r\n", first)
    assert "x-amz-create-session-mode: ReadWrite\r\n" in first
    assert "x-amz-security-token: of-the-role\r\n" in first
    assert "Credential=AK/" in first
    assert "x-amz-s3session-token: token-1\r\n" in second
    assert "x-amz-security-token" not in second
    assert re.search(r"Credential=AK1/\d{8}/us-east-1/s3express/aws4_request", second)
    assert parse_qs(urlsplit(url).query)["X-Amz-S3session-Token"] == [f"token-{sessions}"]


def test_its_signatures_are_botocores(monkeypatch: pytest.MonkeyPatch) -> None:
    noon = dt.datetime(2026, 5, 17, 12, tzinfo=dt.UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: noon.replace(tzinfo=None))
    base = f"https://{NAME}.s3express-use1-az4.us-east-1.amazonaws.com"
    keys = module.PlainKeys("AK1", "secret", "to/ken+=", "s3express")
    signer = S3Signer(base, "us-east-1", lifetime=300, clock=noon.timestamp, **module._OF_DIRECTORY)
    theirs = AWSRequest("PUT", f"{base}/key", headers={"content-length": "7"})
    found = Credentials("AK1", "secret", "to/ken+=")
    botocore.auth.S3ExpressQueryAuth(found, "s3express", "us-east-1", expires=300, identity_cache=None).add_auth(theirs)
    ours = signer.presign("PUT", "key", {}, {"content-length": "7"}, keys)
    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(str(theirs.url)).query)


async def test_a_session_that_the_store_refuses_is_not_used_again() -> None:
    refused = refusal(400, "ExpiredToken")
    async with asking(session(1), EMPTY, refused, session(2), EMPTY, name=NAME) as (bucket, script):
        await bucket.call(*LIST)
        with pytest.raises(Fault, match="refused to list: 400 ExpiredToken"):
            await bucket.call(*LIST)
        await bucket.call(*LIST)
        assert script.responses == []


async def test_a_session_that_does_not_begin() -> None:
    async with asking(refusal(400, "ExpiredToken"), refusal(404, "NoSuchBucket"), name=NAME) as (bucket, _):
        with pytest.raises(Fault, match="the store refused to begin a session: 400 ExpiredToken") as caught:
            await bucket.call(*LIST)
        assert caught.value.kind is FaultKind.REFUSED
        with pytest.raises((Fault, errors.BucketNotFound), match=f"there is no bucket '{NAME}'"):
            await bucket.call(*LIST)
