"""Part URLs are botocore's own, to the letter; where they can't be, botocore makes them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import botocore.auth
import botocore.crt.auth
import pytest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials

from bigupload.stores.s3.presign import PartSigner

from .support import NOON, Botocore

KEYS = ["key", "a folder/ein Ü~film's (1)+&=.mp4", "//twice//../dots", "%41%2F", "日本"]
TOKENS = [None, "a/token+with=signs=="]
ENDPOINTS: list[dict[str, Any]] = [
    {"endpoint_url": "http://127.0.0.1:8333", "region_name": "us-east-1"},
    {"endpoint_url": "https://s3.example.com:9000/below", "region_name": "eu-west-3"},
    {"region_name": "us-east-1"},
    {"region_name": "cn-north-1", "config": Config(s3={"addressing_style": "virtual"}, signature_version="s3v4")},
    {"region_name": "eu-central-1", "config": Config(s3={"use_accelerate_endpoint": True}, signature_version="s3v4")},
]
HEADERS: list[dict[str, str]] = [
    {},
    {"ChecksumCRC64NVME": "rosUhgp5mIg="},
    {"ChecksumSHA256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg=="},
    {"ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg=="},
]
pytestmark = pytest.mark.usefixtures("now")


class BotocoreOfParts(Botocore):
    def presign(self, parameters: Mapping[str, Any]) -> str:
        return self.url("upload_part", parameters)


def part(number: int, key: str = "key", **more: Any) -> dict[str, Any]:
    return {"Key": key, "UploadId": "an~upload.id/+=", "PartNumber": number, "ContentLength": 5 + number, **more}


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("where", ENDPOINTS, ids=lambda where: where.get("endpoint_url") or where["region_name"])
@pytest.mark.parametrize("headers", HEADERS, ids=lambda headers: "+".join(headers) or "none")
def test_every_url_is_botocore_s(where: dict[str, Any], token: str | None, headers: dict[str, str]) -> None:
    for bucket in ("the-bucket", "a.bucket"):
        botocore = BotocoreOfParts(token, bucket, **where)
        if bucket == "a.bucket" and "use_accelerate_endpoint" in str(getattr(where.get("config"), "s3", "")):
            continue  # AWS refuses dots there
        for key in KEYS:
            signer = PartSigner(botocore.presign, NOON.timestamp)
            before = botocore.asked
            made = [signer.sign(part(number, key, **headers), botocore.credentials) for number in (1, 2, 10_000)]
            assert botocore.asked == before + 1, "it was not recognised, and botocore signed all of them"
            assert made == [botocore.presign(part(number, key, **headers)) for number in (1, 2, 10_000)]


@pytest.mark.parametrize("token", TOKENS)
def test_botocore_s_other_signer(token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes the same in another order."""
    monkeypatch.setitem(botocore.auth.AUTH_TYPE_MAPS, "s3v4-query", botocore.crt.auth.CrtS3SigV4QueryAuth)
    botocore_s = BotocoreOfParts(token, **ENDPOINTS[0])
    signer = PartSigner(botocore_s.presign, lambda: date_of(theirs).timestamp())
    theirs = signer.sign(part(1, **HEADERS[1]), botocore_s.credentials)
    theirs = botocore_s.presign(part(2, **HEADERS[1]))
    assert signer.sign(part(2, **HEADERS[1]), botocore_s.credentials) == theirs
    assert botocore_s.asked == 2


def date_of(url: str) -> datetime.datetime:
    (date,) = parse_qs(url)["X-Amz-Date"]
    return datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)


def test_a_new_day(now: list[datetime.datetime]) -> None:
    botocore = BotocoreOfParts()
    clock = NOON.timestamp()
    signer = PartSigner(botocore.presign, lambda: clock)
    signer.sign(part(1), botocore.credentials)
    clock += 1
    now.append(NOON + datetime.timedelta(seconds=1))
    assert "20260518T000000Z" in signer.sign(part(2), botocore.credentials)
    assert signer.sign(part(2), botocore.credentials) == botocore.presign(part(2))


def test_credentials_that_were_refreshed() -> None:
    """The new ones sign, and their token goes along."""
    first, second = BotocoreOfParts("token-1"), BotocoreOfParts("token-2")
    second.credentials = ReadOnlyCredentials("AKID/+", "secret", "token-2")
    signer = PartSigner(first.presign, NOON.timestamp)
    signer.sign(part(1), first.credentials)
    assert signer.sign(part(2), second.credentials) == second.presign(part(2))
    assert first.asked == 1


def test_credentials_that_lose_their_token() -> None:
    first, second = BotocoreOfParts("token-1"), BotocoreOfParts()
    current = first
    signer = PartSigner(lambda parameters: current.presign(parameters), NOON.timestamp)
    signer.sign(part(1), first.credentials)
    current = second
    for number in (2, 3):
        assert signer.sign(part(number), second.credentials) == second.presign(part(number))


def test_another_upload_is_asked_for_anew() -> None:
    botocore = BotocoreOfParts()
    signer = PartSigner(botocore.presign, NOON.timestamp)
    for upload_id in ("first", "second"):
        for number in (1, 2):
            url = signer.sign(part(number) | {"UploadId": upload_id}, botocore.credentials)
            assert f"uploadId={upload_id}&" in url
    assert botocore.asked == 2


@pytest.mark.parametrize(
    "foreign",
    [
        "https://host/key?AWSAccessKeyId=a&Signature=b&Expires=1",
        "https://host/key?X-Amz-Date=20260517T235959Z&X-Amz-Credential=a%2F20260517%2Fr%2Fs3%2Faws4_request"
        "&X-Amz-SignedHeaders=host%3Bx-amz-new&X-Amz-Signature=00",
        "https://host/key",
    ],
)
def test_what_is_signed_some_other_way_is_left_to_botocore(foreign: str) -> None:
    asked = []
    signer = PartSigner(lambda parameters: asked.append(parameters) or foreign, NOON.timestamp)
    for number in (1, 2, 3):
        assert signer.sign(part(number), ReadOnlyCredentials("a", "b", None)) == foreign
    assert len(asked) == 3
    assert not signer.knows(part(1))


def test_many_uploads_do_not_pile_up() -> None:
    botocore = BotocoreOfParts()
    signer = PartSigner(botocore.presign, NOON.timestamp)
    for number in range(600):
        signer.sign(part(1) | {"UploadId": str(number)}, botocore.credentials)
    assert len(signer._patterns) <= 256
