"""What a response proves: every combination, and that a contradiction is never a lower level."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, ChecksumType, Hashed
from bigupload.core.integrity import (
    ChecksumMismatch,
    ExpectedObject,
    ObjectFacts,
    PartProof,
    Verified,
    prove_object,
    prove_part,
    replaced_by,
)
from bigupload.errors import ObjectMismatch
from tests.tools.cases import each_case, examples

DATA = b"a part's bytes"
MD5 = checksums.digest_of(Algorithm.MD5, DATA)
ETAGS = {"md5": checksums.etag_of_md5(MD5), "other": '"' + "0" * 32 + '"', "opaque": '"opaque"'}
S3_CHECKSUMS = [algorithm for algorithm in Algorithm if algorithm.is_s3_checksum]

# -- one part


@each_case(
    ("algorithm", "echo", "etag", "md5_known", "enforced"),
    list(itertools.product(Algorithm, ["same", "other", None], ETAGS, [True, False], [True, False])),
)
def test_every_combination(algorithm: Algorithm, echo: str | None, etag: str, md5_known: bool, enforced: bool) -> None:
    """The rule of DESIGN 4.5, written as a ladder."""
    sent = checksums.encode(checksums.digest_of(algorithm, DATA))
    arguments: dict[str, Any] = {
        "algorithm": algorithm,
        "sent": Hashed(sent, md5=MD5 if md5_known else None),
        "echoed": {"same": {algorithm.header: sent}, "other": {algorithm.header: "b3RoZXI="}, None: {}}[echo],
        "etag": ETAGS[etag],
        "md5_enforced": enforced,
    }
    if algorithm in S3_CHECKSUMS and echo == "other":
        with pytest.raises(ChecksumMismatch):  # never a lower level, however good the rest looks
            prove_part(**arguments)
        return
    expected = None
    if algorithm in S3_CHECKSUMS and echo == "same":
        expected = PartProof.CHECKSUM
    elif md5_known and etag == "md5":
        expected = PartProof.ETAG
    elif md5_known and enforced:
        expected = PartProof.MD5
    elif algorithm is Algorithm.NONE:
        expected = PartProof.NONE
    assert prove_part(**arguments) is expected


def test_an_etag_of_the_right_shape_proves_nothing_without_an_md5() -> None:
    proof = prove_part(Algorithm.SHA256, Hashed("x"), echoed={}, etag=ETAGS["md5"], md5_enforced=True)
    assert proof is None


# -- the levels


def test_the_levels_are_totally_ordered() -> None:
    strongest_first = ["full-object", "composite-checksum", "composite-etag", "size"]
    for (i, a), (j, b) in itertools.product(enumerate(strongest_first), repeat=2):
        assert Verified(a).satisfies(Verified(b)) == (i <= j)
    assert set(strongest_first) == set(Verified)


# -- the object

PARTS = [b"first", b"second", b"3"]
SIZE = sum(map(len, PARTS))


def checksum(algorithm: Algorithm, parts: list[bytes] = PARTS) -> str:
    return checksums.combine(algorithm, [(checksums.digest_of(algorithm, part), len(part)) for part in parts])


def part_etags(parts: list[bytes] = PARTS) -> list[str]:
    return [checksums.etag_of_md5(checksums.digest_of(Algorithm.MD5, part)) for part in parts]


def composite_etag(parts: list[bytes] = PARTS) -> str:
    return checksums.composite_etag([checksums.digest_of(Algorithm.MD5, part) for part in parts])


def expected(algorithm: Algorithm = Algorithm.CRC64NVME, *, etags: list[str] | None = None) -> ExpectedObject:
    known = checksum(algorithm) if algorithm.is_s3_checksum else None
    return ExpectedObject(size=SIZE, algorithm=algorithm, checksum=known, part_etags=etags)


@each_case("algorithm", S3_CHECKSUMS)
@each_case("size", [SIZE, None])
@each_case("etag", [composite_etag(), '"opaque"'])
@each_case("said_type", [True, False])
def test_the_stores_checksum_is_the_best_proof(
    algorithm: Algorithm, size: int | None, etag: str, said_type: bool
) -> None:
    found = ObjectFacts(
        etag=etag, size=size, algorithm=algorithm, checksum=checksum(algorithm),
        checksum_type=algorithm.type if said_type else None,
    )  # fmt: skip
    best = Verified.FULL_OBJECT if algorithm.type is ChecksumType.FULL_OBJECT else Verified.COMPOSITE_CHECKSUM
    assert prove_object(found, expected(algorithm, etags=part_etags())) is best


@each_case("algorithm", S3_CHECKSUMS)
def test_another_checksum_is_a_contradiction_whatever_else_agrees(algorithm: Algorithm) -> None:
    other = checksum(algorithm, [b"First", *PARTS[1:]])
    found = ObjectFacts(etag=composite_etag(), size=SIZE, algorithm=algorithm, checksum=other)
    with pytest.raises(ObjectMismatch, match=str(algorithm)) as caught:
        prove_object(found, expected(algorithm, etags=part_etags()))
    other_algorithm = Algorithm.MD5 if algorithm is Algorithm.SHA256 else Algorithm.SHA256
    assert f"add `checksum='{other_algorithm}'`" in str(caught.value), "only that helps, if the store computes wrongly"


@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
def test_another_size_is_a_contradiction_whatever_else_agrees(size: int) -> None:
    algorithm = Algorithm.CRC64NVME
    found = ObjectFacts(etag=composite_etag(), size=size, algorithm=algorithm, checksum=checksum(algorithm))
    with pytest.raises(ObjectMismatch, match="bytes"):
        prove_object(found, expected(etags=part_etags()))


def test_a_composite_without_its_number_of_parts() -> None:
    algorithm = Algorithm.SHA256
    bare, _, _ = checksum(algorithm).partition("-")
    found = ObjectFacts(etag='"o"', algorithm=algorithm, checksum=bare, checksum_type=ChecksumType.COMPOSITE)
    assert prove_object(found, expected(algorithm)) is Verified.COMPOSITE_CHECKSUM


def test_a_composite_with_another_number_of_parts() -> None:
    algorithm = Algorithm.SHA256
    bare, _, _ = checksum(algorithm).partition("-")
    found = ObjectFacts(etag='"o"', algorithm=algorithm, checksum=f"{bare}-4")
    with pytest.raises(ObjectMismatch):
        prove_object(found, expected(algorithm))


@each_case("size", [SIZE, None])
@each_case("checksum_type", [ChecksumType.COMPOSITE, None])
def test_a_composite_crc_neither_proves_nor_contradicts(size: int | None, checksum_type: ChecksumType | None) -> None:
    found = ObjectFacts(
        etag='"o"', size=size, algorithm=Algorithm.CRC32C, checksum="AAAAAA==-3", checksum_type=checksum_type
    )
    assert prove_object(found, expected(Algorithm.CRC32C)) is (Verified.SIZE if size else None)


def test_a_checksum_of_another_algorithm_neither_proves_nor_contradicts() -> None:
    found = ObjectFacts(etag='"o"', size=SIZE, algorithm=Algorithm.SHA256, checksum=checksum(Algorithm.SHA256))
    assert prove_object(found, expected(Algorithm.CRC64NVME)) is Verified.SIZE
    unnamed = ObjectFacts(etag='"o"', size=SIZE, algorithm=None, checksum="AAAAAAAAAAA=")
    assert prove_object(unnamed, expected(Algorithm.CRC64NVME)) is Verified.SIZE


@each_case("algorithm", Algorithm)
@each_case("size", [SIZE, None])
def test_the_composite_etag(algorithm: Algorithm, size: int | None) -> None:
    found = ObjectFacts(etag=composite_etag(), size=size)
    assert prove_object(found, expected(algorithm, etags=part_etags())) is Verified.COMPOSITE_ETAG


@each_case(
    "etags",
    [None, part_etags()[:2], [*part_etags()[:2], '"opaque"'], list(reversed(part_etags())), []],
)
def test_an_etag_that_does_not_agree_is_only_silence(etags: list[str] | None) -> None:
    found = ObjectFacts(etag=composite_etag(), size=SIZE)
    assert prove_object(found, expected(etags=etags)) is Verified.SIZE
    assert prove_object(ObjectFacts(etag=composite_etag()), expected(etags=etags)) is None


def test_an_object_of_one_put() -> None:
    """It has no "-1": the ETag is the MD5 of the whole."""
    only = ExpectedObject(size=5, algorithm=Algorithm.MD5, checksum=None, part_etags=part_etags([b"first"]))
    assert prove_object(ObjectFacts(etag=part_etags([b"first"])[0]), only) is Verified.COMPOSITE_ETAG
    assert prove_object(ObjectFacts(etag=composite_etag([b"first"])), only) is Verified.COMPOSITE_ETAG
    assert prove_object(ObjectFacts(etag=part_etags()[0]), expected(etags=part_etags())) is None


def test_silence_is_no_proof() -> None:
    assert prove_object(ObjectFacts(etag='"o"'), expected()) is None
    assert prove_object(ObjectFacts(etag='"o"', size=SIZE), expected()) is Verified.SIZE


FACTS = st.builds(
    ObjectFacts,
    etag=st.sampled_from([composite_etag(), '"opaque"', composite_etag(PARTS[:2])]),
    size=st.sampled_from([None, SIZE, SIZE + 1]),
    algorithm=st.none() | st.sampled_from(Algorithm),
    checksum=st.none() | st.sampled_from([checksum(a) for a in S3_CHECKSUMS] + ["b3RoZXI=", "b3RoZXI=-3"]),
    checksum_type=st.none() | st.sampled_from(ChecksumType),
)


@settings(deadline=None, max_examples=examples(200))
@given(found=FACTS, algorithm=st.sampled_from(Algorithm), with_etags=st.booleans())
def test_no_level_without_its_evidence(found: ObjectFacts, algorithm: Algorithm, with_etags: bool) -> None:
    try:
        level = prove_object(found, expected(algorithm, etags=part_etags() if with_etags else None))
    except ObjectMismatch:
        assert found.size not in (None, SIZE) or (
            found.algorithm is algorithm and found.checksum not in (None, checksum(algorithm))
        )
        return
    assert found.size in (None, SIZE)
    if level in (Verified.FULL_OBJECT, Verified.COMPOSITE_CHECKSUM):
        assert found.algorithm is algorithm
        assert found.checksum == checksum(algorithm)
    elif level is Verified.COMPOSITE_ETAG:
        assert with_etags
        assert found.etag == composite_etag()
    elif level is Verified.SIZE:
        assert found.size == SIZE
    else:
        assert found.size is None


# -- the object that was proved, and what is there now

HEAD = ObjectFacts(etag='"e"', size=7, version_id="v1", checksums={"CRC64NVME": "AAAA", "SHA256": "BBBB-3"})


@each_case(
    ("proved", "shows"),
    [
        ({}, None),
        ({"checksum": None, "version_id": None}, None),
        ({"checksum": "crc64nvme:AAAA"}, None),
        ({"checksum": "sha256:BBBB-3"}, None),
        ({"checksum": "sha256:BBBB"}, None),  # some responses omit the "-N" of a composite
        ({"size": 8}, "it has 7 bytes and had 8"),
        ({"etag": '"f"'}, "it has another ETag"),
        ({"version_id": "v2"}, "it is another version"),
        ({"checksum": "crc64nvme:AAAB"}, "its crc64nvme is AAAA and was AAAB"),
        ({"checksum": "sha256:CCCC-3"}, "its sha256 is BBBB-3 and was CCCC-3"),
        ({"checksum": "crc99:AAAA"}, "it has a checksum by CRC64NVME, and had one by crc99"),
        ({"checksum": "crc32c:AAAA"}, "it has a checksum by CRC64NVME, and had one by crc32c"),
    ],
)
def test_each_fact_shows_that_an_object_was_replaced(proved: dict[str, Any], shows: str | None) -> None:
    known: dict[str, Any] = {"size": 7, "etag": "e", "checksum": None, "version_id": "v1"}
    assert replaced_by(HEAD, **known | proved) == shows


ZEROS = ("A" * 43 + "=", bytes(32).hex())
"""A SHA-256 in base64 and in hexadecimal."""


@each_case(
    ("etag", "type_", "is_compared"),
    [
        ('"e"', None, True), ('"e"', ChecksumType.FULL_OBJECT, True), ('"e-2"', ChecksumType.FULL_OBJECT, True),
        ('"e-2"', None, False), ('"e"', ChecksumType.COMPOSITE, False),
    ],
)  # fmt: skip
def test_a_sha256_of_the_whole_object_must_be_the_files(
    etag: str, type_: ChecksumType | None, is_compared: bool
) -> None:
    found = ObjectFacts(etag=etag, size=7, checksums={"SHA256": ZEROS[0]}, checksum_type=type_)
    known: dict[str, Any] = {"size": 7, "etag": etag, "checksum": None, "version_id": None}
    assert replaced_by(found, **known, sha256=ZEROS[1]) is None
    assert (replaced_by(found, **known, sha256="1" * 64) is not None) is is_compared


@each_case("found", [ObjectFacts(etag="e"), ObjectFacts(etag='"e"', size=7, checksums={})])
def test_what_a_response_lacks_shows_nothing(found: ObjectFacts) -> None:
    assert replaced_by(found, size=7, etag='"e"', checksum="crc64nvme:AAAA", version_id="v1") is None
