"""Checksums against published vectors, against hashlib, and against themselves: parts combined are the whole."""

from __future__ import annotations

import base64
import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, ChecksumType, strong_etag
from bigupload.errors import UsageError
from tests.tools.cases import each_case, examples

QUICK = settings(deadline=None, max_examples=examples(60))
CRCS = [Algorithm.CRC64NVME, Algorithm.CRC32C, Algorithm.CRC32]
CHUNKS = st.lists(st.binary(max_size=40), max_size=8)


@each_case(
    ("algorithm", "data", "digest"),
    [
        # https://reveng.sourceforge.io/crc-catalogue/all.htm: "check" of CRC-64/NVME and CRC-32/ISCSI
        (Algorithm.CRC64NVME, b"123456789", "ae8b14860a799888"),
        (Algorithm.CRC64NVME, b"", "0000000000000000"),
        (Algorithm.CRC32C, b"123456789", "e3069283"),
        (Algorithm.CRC32C, b"", "00000000"),
        (Algorithm.CRC32C, bytes(32), "8a9136aa"),  # RFC 3720, B.4
        (Algorithm.CRC32C, b"\xff" * 32, "62a8ab43"),
        # RFC 1321, A.5; FIPS 180-2
        # https://reveng.sourceforge.io/crc-catalogue/all.htm: "check" of CRC-32/ISO-HDLC
        (Algorithm.CRC32, b"123456789", "cbf43926"),
        (Algorithm.SHA1, b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (Algorithm.MD5, b"abc", "900150983cd24fb0d6963f7d28e17f72"),
        (Algorithm.MD5, b"", "d41d8cd98f00b204e9800998ecf8427e"),
        (Algorithm.SHA256, b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (Algorithm.NONE, b"abc", ""),
    ],
)
def test_published_vectors(algorithm: Algorithm, data: bytes, digest: str) -> None:
    assert checksums.digest_of(algorithm, data).hex() == digest


@pytest.mark.parametrize("algorithm", Algorithm)
@QUICK
@given(chunks=CHUNKS)
def test_hashing_in_pieces_is_hashing_the_whole(algorithm: Algorithm, chunks: list[bytes]) -> None:
    hasher = checksums.new_hasher(algorithm)
    for chunk in chunks:
        hasher.update(memoryview(bytearray(chunk)))
    assert hasher.digest() == checksums.digest_of(algorithm, b"".join(chunks))
    assert len(hasher.digest()) == algorithm.digest_size


@pytest.mark.parametrize("algorithm", CRCS)
@QUICK
@given(chunks=CHUNKS)
def test_combined_crcs_are_the_whole(algorithm: Algorithm, chunks: list[bytes]) -> None:
    parts = [(checksums.digest_of(algorithm, chunk), len(chunk)) for chunk in chunks]
    assert checksums.combine(algorithm, parts) == checksums.encode(checksums.digest_of(algorithm, b"".join(chunks)))


@pytest.mark.parametrize("algorithm", CRCS)
@QUICK
@given(chunks=st.lists(st.binary(min_size=1, max_size=9), min_size=2, max_size=4, unique=True))
def test_the_order_of_the_parts_matters(algorithm: Algorithm, chunks: list[bytes]) -> None:
    wholes = {b"".join(order) for order in itertools.permutations(chunks)}
    combined = {
        checksums.combine(algorithm, [(checksums.digest_of(algorithm, chunk), len(chunk)) for chunk in order])
        for order in itertools.permutations(chunks)
    }
    assert len(combined) == len(wholes)


def test_combining_far_sizes() -> None:
    """A part of 5 GiB of zeros costs nothing to combine: only its size counts."""
    algorithm = Algorithm.CRC32C
    million = checksums.digest_of(algorithm, bytes(10**6))
    parts = [(million, 10**6)] * 3
    assert checksums.combine(algorithm, parts) == checksums.encode(checksums.digest_of(algorithm, bytes(3 * 10**6)))


@QUICK
@given(chunks=CHUNKS)
def test_sha256_is_composite(chunks: list[bytes]) -> None:
    digests = [hashlib.sha256(chunk).digest() for chunk in chunks]
    expected = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode() + f"-{len(chunks)}"
    found = checksums.combine(Algorithm.SHA256, list(zip(digests, map(len, chunks), strict=True)))
    assert found == expected


def test_composite_etag_as_aws_makes_it() -> None:
    """Two parts, 5 MiB of zeros and one of "a": the ETag that S3 shows, made here by hashlib alone."""
    first, second = hashlib.md5(bytes(5 * 2**20)).digest(), hashlib.md5(b"a").digest()
    assert first.hex() == "5f363e0e58a95f06cbe9bbc662c5dfb6"
    assert checksums.composite_etag([first, second]) == f'"{hashlib.md5(first + second).hexdigest()}-2"'
    assert checksums.composite_etag([first]) == f'"{hashlib.md5(first).hexdigest()}-1"'


@pytest.mark.parametrize("algorithm", Algorithm)
@QUICK
@given(data=st.data())
def test_encode_decode_round_trip(algorithm: Algorithm, data: st.DataObject) -> None:
    digest = data.draw(st.binary(min_size=algorithm.digest_size, max_size=algorithm.digest_size))
    assert checksums.decode(algorithm, checksums.encode(digest)) == digest


@each_case(
    "checksum",
    ["", "AAAA", "AAAAAAAAAAAAAAAA", "not base64!", "AAAAAAAAAAA", "AAAAAAAAAAA=-2", "ÄAAAAAAAAAA=", "AAAAAA\nAAAAA="],
)
def test_bad_checksums(checksum: str) -> None:
    with pytest.raises(ValueError):
        checksums.decode(Algorithm.CRC64NVME, checksum)


@QUICK
@given(text=st.text(max_size=100), algorithm=st.sampled_from(Algorithm))
def test_decode_raises_nothing_but_value_error(text: str, algorithm: Algorithm) -> None:
    try:
        digest = checksums.decode(algorithm, text)
    except ValueError:
        return
    assert len(digest) == algorithm.digest_size


def test_what_s3_calls_them() -> None:
    assert {a: a.header for a in Algorithm if a is not Algorithm.NONE} == {
        Algorithm.CRC64NVME: "x-amz-checksum-crc64nvme",
        Algorithm.CRC32C: "x-amz-checksum-crc32c",
        Algorithm.CRC32: "x-amz-checksum-crc32",
        Algorithm.SHA256: "x-amz-checksum-sha256",
        Algorithm.SHA1: "x-amz-checksum-sha1",
        Algorithm.MD5: "content-md5",
    }
    assert {a.s3_name for a in Algorithm if a.is_s3_checksum} == {
        "CRC64NVME", "CRC32C", "CRC32", "SHA256", "SHA1",
    }  # fmt: skip
    full = {a for a in Algorithm if a.type is ChecksumType.FULL_OBJECT}
    assert full == {Algorithm.CRC64NVME, Algorithm.CRC32C, Algorithm.CRC32}


@each_case("name", checksums.UPLOAD_ALGORITHMS)
def test_names_are_parsed(name: str) -> None:
    assert checksums.parse_algorithm(name) is Algorithm(name)


def test_auto_is_crc64nvme() -> None:
    assert checksums.parse_algorithm("auto") is Algorithm.CRC64NVME


@each_case("name", ["", "crc32", "CRC64NVME", "sha1"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UsageError, match="choose one of auto, crc64nvme, crc32c, sha256, md5, none"):
        checksums.parse_algorithm(name)


@QUICK
@given(md5=st.binary(min_size=16, max_size=16))
def test_an_etag_of_an_md5(md5: bytes) -> None:
    etag = checksums.etag_of_md5(md5)
    assert etag == f'"{md5.hex()}"'
    assert checksums.md5_of_etag(etag) == md5
    assert checksums.md5_of_etag(etag.strip('"')) == md5


@each_case(
    "etag",
    ["", '""', '"abc"', '"' + "0" * 31 + '"', '"' + "0" * 33 + '"', '"' + "g" * 32 + '"', '"' + "0" * 32 + '-2"',
     "ab " * 10 + "ab"],
)  # fmt: skip
def test_etags_that_are_no_md5(etag: str) -> None:
    assert checksums.md5_of_etag(etag) is None


@each_case(("etag", "known"), [('"a"', '"a"'), ("a", '"a"'), ('W/"a"', '"a"'), ("", "")])
def test_an_etag_is_as_the_store_knows_it(etag: str, known: str) -> None:
    assert strong_etag(etag) == known
