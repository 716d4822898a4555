"""What a store's response to HEAD claims of an object's bytes."""

from __future__ import annotations

from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import ObjectAttributes, ObjectClaim, claims_of
from tests.tools.cases import each_case

MD5 = "b026324c6904b2a9cb4b88d6d61c81d1"


@each_case(
    ("etag", "parts"),
    [
        (f'"{MD5}"', [None]), (MD5, [None]), (f'"{MD5}-3"', [3]), (f'"{MD5}-x"', []), (f'"{MD5}-0"', []),
        (f'"{MD5}-123456"', []), ('"opaque"', []), ("", []),
    ],
)  # fmt: skip
def test_an_etag_is_a_claim_if_it_is_an_md5_with_no_count_or_a_sound_one(etag: str, parts: list[int | None]) -> None:
    found = claims_of(ObjectAttributes(etag=etag, size=1, checksums={}, checksum_type=None, modified=""))
    assert found == [ObjectClaim(Algorithm.MD5, bytes.fromhex(MD5), each, is_etag=True) for each in parts]


@each_case(
    ("value", "type_", "parts"),
    [("AAAAAA==", None, None), ("AAAAAA==", "COMPOSITE", 3), ("AAAAAA==-2", None, 2), ("AAAAAA==-2", "COMPOSITE", 2)],
)
def test_a_checksum_is_of_the_parts_if_its_type_or_its_count_says_so(
    value: str, type_: str | None, parts: int | None
) -> None:
    checksums = {Algorithm.CRC32C.s3_name: value}
    found = claims_of(ObjectAttributes(etag='"x-3"', size=1, checksums=checksums, checksum_type=type_, modified=""))
    assert found == [ObjectClaim(Algorithm.CRC32C, bytes(4), parts)]
