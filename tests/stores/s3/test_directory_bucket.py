"""Directory buckets (S3 Express): a session's keys sign, and are renewed before they end. Compared with botocore."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import re
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bigupload.core.retry_policy import Fault
from bigupload.options import S3Options
from bigupload.stores.s3 import bucket as module
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.s3.signer import S3Signer
from tests.tools.scripted import refusal

NAME = "data--use1-az4--x-s3"


class Zone:
    """Answers CreateSession with keys that are numbered, and any other request with an empty list."""

    def __init__(self, lasts: float) -> None:
        self.lasts = lasts
        self.requests: list[str] = []
        self.sessions = 0
        self.refuses = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append(head)
                body = self.answer(head).encode()
                if self.refuses:
                    writer.write(refusal(400, "ExpiredToken"))
                    continue
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def answer(self, head: str) -> str:
        if "?session=" not in head:
            return "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
        self.sessions += 1
        until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.lasts)
        keys = {
            "SessionToken": f"token-{self.sessions}", "SecretAccessKey": "secret",
            "AccessKeyId": f"AK{self.sessions}", "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }  # fmt: skip
        inner = "".join(f"<{name}>{value}</{name}>" for name, value in keys.items())
        return f"<CreateSessionResult><Credentials>{inner}</Credentials></CreateSessionResult>"


@contextlib.asynccontextmanager
async def reached(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3Bucket]:
    server = await asyncio.start_server(zone.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    access = module.Access(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}", "us-east-1", None, KEYS)
    monkeypatch.setattr(module, "find_access", lambda *_, **__: access)
    bucket = S3Bucket(NAME, S3Options(access_key="AK", secret_key="SK"))
    try:
        yield bucket
    finally:
        await bucket.aclose()
        server.close()
        await server.wait_closed()


KEYS = module.PlainKeys("AK", "SK", "of-the-role", "explicit")


@pytest.mark.parametrize(("lasts", "sessions"), [(300.0, 1), (60.0, 3)])
async def test_a_sessions_keys_sign_all_other_requests(
    lasts: float, sessions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone(lasts)
    async with reached(zone, monkeypatch) as bucket:
        for _ in range(2):
            await bucket.call("to list", "ListObjectsV2", Prefix="a")
        (url,) = await bucket.presign("GetObject", [{"Key": "a"}])
        assert bucket.urls_last() <= lasts
    assert zone.sessions == sessions
    first, second = zone.requests[0], zone.requests[1]
    assert first.startswith("GET /?session= HTTP/1.1\r\n")
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


async def test_a_session_that_the_store_refuses_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    zone = Zone(300.0)
    async with reached(zone, monkeypatch) as bucket:
        await bucket.call("to list", "ListObjectsV2")
        zone.refuses = True
        with pytest.raises(Fault, match="ExpiredToken"):
            await bucket.call("to list", "ListObjectsV2")
        zone.refuses = False
        await bucket.call("to list", "ListObjectsV2")
    assert zone.sessions == 2
