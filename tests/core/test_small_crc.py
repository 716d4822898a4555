"""A few bytes are hashed without awscrt: the same CRC, and more than a few need it."""

from __future__ import annotations

import awscrt.checksums
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, combine_crc, crc64nvme, new_hasher


def test_the_check_value() -> None:
    assert crc64nvme(b"123456789") == 0xAE8B14860A799888


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1))
def test_it_is_awscrt_s(data: bytes, previous: int) -> None:
    for each in (data, bytearray(data), memoryview(data)):
        assert crc64nvme(each, previous) == awscrt.checksums.crc64nvme(data, previous)


def test_every_byte() -> None:
    data = bytes(range(256))
    assert crc64nvme(data) == awscrt.checksums.crc64nvme(data)


@pytest.mark.parametrize("left", [-1, 0, 1, 5, 6, 7, 100])
def test_a_hasher_may_change_over(left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums._Few, "left", left)
    hasher = new_hasher(Algorithm.CRC64NVME)
    for data in (b"", b"12345", b"6", b"789"):
        hasher.update(data)
    assert hasher.digest().hex() == "ae8b14860a799888"


@pytest.mark.parametrize("algorithm", [Algorithm.CRC64NVME, Algorithm.CRC32C, Algorithm.CRC32])
@given(parts=st.lists(st.binary(max_size=20), max_size=4))
def test_the_first_part_needs_no_combining(algorithm: Algorithm, parts: list[bytes]) -> None:
    rows = [(checksums.digest_of(algorithm, part), len(part)) for part in parts]
    assert combine_crc(algorithm, rows) == checksums.digest_of(algorithm, b"".join(parts))
