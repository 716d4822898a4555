"""Receipts by themselves: what they say, whose key signs them, for how long."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest

from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import ObjectFacts
from bigupload.service import contract as c
from bigupload.service.access.handles import LIFETIME, TYPE, Receipts, key_id, published
from bigupload.service.media.object_keys import KeyTemplate
from bigupload.service.media.policy import PUBLISHED_POLICY, Policy
from bigupload.service.media_objects import ObjectHead, version_of
from bigupload.service.uploads.finishing import file_of
from bigupload.service.webhooks.telling import event, event_id
from tests.tools.cases import each_case

SECRET, OLD = "s" * 40, "o" * 40
NOW = 1_800_000_000
KEY = f"media/shop/~u-17/{'a' * 40}.mp4"
HEAD = ObjectHead(
    size=5,
    etag='"e-2"',
    content_type="video/mp4",
    head=b"",
    modified=datetime.fromtimestamp(NOW - 60, UTC),
    headers={"x-amz-version-id": "v1", "x-amz-meta-album": "a-3", "x-amz-meta-bigupload-filename": "=?UTF-8?B?w6Q=?="},
)
FACTS = ObjectFacts(
    etag='"e-2"', algorithm=Algorithm.CRC64NVME, checksum="mDmyBmPrBjU=", checksum_type=ChecksumType.FULL_OBJECT
)


def receipts(*secrets: str, now: float = NOW, policy: Policy = PUBLISHED_POLICY) -> Receipts:
    return Receipts(
        secrets or (OLD, SECRET), public_url=lambda key: f"https://cdn/{key}", policy=policy, clock=lambda: now
    )


def signed(
    by: Receipts, facts: ObjectFacts | None = None, *, proved: bool = False, tags: Mapping[str, str] | None = None
) -> str:
    jti = event_id("media.completed", version_of(KEY, HEAD))
    file = file_of(KeyTemplate(), KEY, HEAD, facts, tags=tags or {})
    return by.of(jti, file, HEAD, proved_by=facts if proved else None)


def read(receipt: str, keys: c.JsonWebKeys, owner: str = "shop") -> dict[str, Any]:
    """As an application does, at the time of the test's clock."""
    known = jwt.PyJWKSet.from_dict(keys.model_dump())
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims: dict[str, Any] = jwt.decode(
        receipt, known[jwt.get_unverified_header(receipt)["kid"]], algorithms=["ES256"], audience=owner, options=options
    )
    return claims


def test_what_a_receipt_says() -> None:
    receipt = signed(receipts(), FACTS, tags={"keep": "no"}, proved=True)
    assert jwt.get_unverified_header(receipt) == {"alg": "ES256", "kid": key_id(SECRET), "typ": TYPE}
    version = version_of(KEY, HEAD)
    assert read(receipt, published([SECRET])) == {
        "aud": "shop",
        "iat": NOW,
        "exp": NOW - 60 + 7 * 86_400,  # the file goes then
        "jti": event("media.completed", version, {}, 0.0).id,
        "key": KEY,
        "publicUrl": f"https://cdn/{KEY}",
        "user": "u-17",
        "versionId": "v1",
        "etag": '"e-2"',
        "size": 5,
        "contentType": "video/mp4",
        "checksum": "mDmyBmPrBjU=",
        "checksumAlgorithm": "crc64nvme",
        "proof": "full-object",
        "metadata": {"album": "a-3"},
        "tags": {"keep": "no"},
        "filename": "ä",
    }


def test_it_ends_with_the_file_or_after_a_week() -> None:
    for keep, ends in ((None, NOW + LIFETIME), (3600, NOW - 60 + 3600), (30 * 86_400, NOW + LIFETIME)):
        receipt = signed(receipts(policy=Policy(keep=keep)))
        assert read(receipt, published([SECRET]))["exp"] == ends


@each_case(
    ("facts", "proved", "proof"),
    [
        (FACTS, True, "full-object"),
        (FACTS, False, None),  # a store has a checksum of its own, whatever the client sent
        (ObjectFacts(etag="", algorithm=Algorithm.SHA256, checksum="x-2", checksum_type=ChecksumType.COMPOSITE), True,
         "composite-checksum"),
        (ObjectFacts(etag=""), True, "size"),
        (None, True, None),
    ],
)  # fmt: skip
def test_a_proof_is_what_was_compared(facts: ObjectFacts | None, proved: bool, proof: str | None) -> None:
    assert read(signed(receipts(), facts, proved=proved), published([SECRET]))["proof"] == proof


def test_the_last_secret_signs_and_the_keys_of_all_are_published() -> None:
    both = receipts(OLD, SECRET)
    assert [key.kid for key in both.published.keys] == [key_id(SECRET), key_id(OLD)]
    assert read(signed(receipts(OLD)), both.published)["key"] == KEY
    assert read(signed(receipts(SECRET, OLD)), both.published)["key"] == KEY
    with pytest.raises(KeyError):
        read(signed(receipts("x" * 40)), both.published)
    assert set(both.published.keys[0].model_dump()) == {"kty", "crv", "x", "y", "kid", "use", "alg"}  # no private one


def test_a_secret_s_key_never_changes() -> None:
    """Else receipts that an older release signed would be refused, and replicas of two releases disagree."""
    [key] = published(["bigupload's secret of 32 characters"]).keys
    assert key.model_dump() == {
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256",
        "x": "JXx1qqkK-d8-qk1rGcaQeDnvWnVgDBCIbdexN5lh9ac", "y": "a_fqDA7Mg1J9v5xzoKMO_XLMAzBXBXFyf0mszRlva3E",
        "kid": "271c02bd63ef08dc40a464484fa8610f",
    }  # fmt: skip


def test_another_owner_s_application_refuses_it() -> None:
    with pytest.raises(jwt.InvalidAudienceError):
        read(signed(receipts()), published([SECRET]), owner="bank")
