"""URLs and headers of whole objects are botocore's own, to the letter; where they can't be, botocore makes them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.credentials import ReadOnlyCredentials

from bigupload.options import S3Options
from bigupload.s3_parameters import OBJECT, REQUEST, parameters
from bigupload.stores.s3 import _compat
from bigupload.stores.s3.presign_put import ObjectPut, PutSigner

from .support import NOON, Botocore
from .test_presign import ENDPOINTS, KEYS, TOKENS

EVERY_OPTION = S3Options(
    endpoint_url="https://store.example",
    content_type='video/mp4; codecs="avc1  {0}"',
    metadata={"Title": "two  spaces {and} braces", "n": "1"},
    tags={"a b": "c&d", "ü": "é"},
    storage_class="STANDARD_IA",
    sse_customer_key=b"k" * 32,
    cache_control="no-cache,  max-age=0",
    content_disposition="attachment; filename*=UTF-8''caf%C3%A9.mov",
    content_encoding="gzip",
    content_language="de-CH",
    expires="2027-01-31T00:00:00Z",
    website_redirect="/there",
    grant_full_control='id="a"',
    grant_read='uri="http://acs.amazonaws.com/groups/global/AllUsers"',
    grant_read_acp='emailAddress="a@b.example"',
    grant_write_acp='id="b"',
    object_lock_mode="GOVERNANCE",
    object_lock_retain_until="2027-01-31T00:00:00Z",
    object_lock_legal_hold=True,
    expected_bucket_owner="123456789012",
    request_payer=True,
)
OTHER_OPTIONS = S3Options(
    acl="public-read", sse="aws:kms", sse_kms_key_id="arn:aws:kms:eu-west-1:1:key/k", metadata={"x": ""}
)
PROOFS = [
    {},
    {"x-amz-checksum-crc64nvme": "rosUhgp5mIg="},
    {
        "x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg==",
    },
]


pytestmark = pytest.mark.usefixtures("now")


class BotocoreOfObjects(Botocore):
    def presign(self, put: ObjectPut) -> str:
        return self.url("put_object", put.parameters)

    def headers_of(self, put: ObjectPut) -> Mapping[str, str]:
        return _compat.headers_of_put(self.client, {"Bucket": "the-bucket", **put.parameters})

    def signer(self, clock: Any = NOON.timestamp) -> PutSigner:
        return PutSigner(self.presign, self.headers_of, clock)


def put(key: str, size: int = 5, headers: Mapping[str, str] | None = None, **common: Any) -> ObjectPut:
    return ObjectPut(key, size, headers or {}, common, "kind")


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("where", ENDPOINTS, ids=lambda where: where.get("endpoint_url") or where["region_name"])
@pytest.mark.parametrize("proof", PROOFS, ids=lambda proof: "+".join(proof) or "none")
@pytest.mark.parametrize("options", [S3Options(), EVERY_OPTION, OTHER_OPTIONS], ids=["plain", "every", "others"])
def test_every_url_is_botocore_s(
    where: dict[str, Any], token: str | None, proof: dict[str, str], options: S3Options
) -> None:
    common = {**parameters(OBJECT, options), **parameters(REQUEST, options), "IfNoneMatch": "*"}
    botocore_s = BotocoreOfObjects(token, **where)
    signer = botocore_s.signer()
    made = [signer.sign(put(key, size, proof, **common), botocore_s.credentials) for size, key in enumerate(KEYS)]
    assert botocore_s.asked == 1, "it was not recognised, and botocore signed all of them"
    for size, key in enumerate(KEYS):
        assert made[size][0] == botocore_s.presign(put(key, size, proof, **common))
        theirs = botocore_s.headers_of(put(key, size, proof, **common))
        assert made[size][1] == {n.lower(): v for n, v in theirs.items() if n.lower() != "content-length"}


def test_every_option_of_an_object_is_in_that_test() -> None:
    for name in [*OBJECT, *REQUEST]:
        assert any(getattr(options, name) for options in (EVERY_OPTION, OTHER_OPTIONS)), name


def test_the_next_second_and_other_credentials(now: list[datetime.datetime]) -> None:
    first, second = BotocoreOfObjects("token-1"), BotocoreOfObjects("token-2")
    second.credentials = ReadOnlyCredentials("AKID/+", "secret", "token-2")
    clock = NOON.timestamp()
    signer = first.signer(lambda: clock)
    signer.sign(put("a"), first.credentials)
    assert signer.sign(put("b"), second.credentials)[0] == second.presign(put("b"))
    clock += 1
    now.append(NOON + datetime.timedelta(seconds=1))
    assert "20260518T000000Z" in signer.sign(put("c"), first.credentials)[0]
    assert signer.sign(put("c"), first.credentials)[0] == first.presign(put("c"))


def test_what_is_signed_some_other_way_is_left_to_botocore() -> None:
    asked = []
    signer = PutSigner(lambda one: asked.append(one) or f"https://host/{one.key}?Signature=1", lambda _: {})
    for key in ("a", "b", "c"):
        url, headers = signer.sign(put(key), ReadOnlyCredentials("a", "b", None))
        assert (url, headers) == (f"https://host/{key}?Signature=1", {})
    assert len(asked) == 3
    assert not signer.knows(put("a"))


def test_another_kind_is_asked_for_anew_and_kinds_do_not_pile_up() -> None:
    botocore_s = BotocoreOfObjects()
    signer = botocore_s.signer()
    for number in range(300):
        one = ObjectPut("key", 1, {}, {"Metadata": {"n": str(number)}}, number)
        assert signer.sign(one, botocore_s.credentials)[1] == {"x-amz-meta-n": str(number)}
    assert len(signer._patterns) <= 256
