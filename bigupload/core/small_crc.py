"""CRC64NVME of few bytes, in Python.

To load awscrt takes 26 ms, most of them to gather randomness that nobody here needs: a tenth of the CPU time of a small
upload, and as long as 400 KB take here.
"""

from __future__ import annotations

import functools

_REVERSED_POLYNOMIAL = 0x9A6C9329AC4BC9B5
"""https://github.com/awslabs/aws-checksums: the polynomial 0xAD93D23594C93659, its bits in reverse order."""
_ALL = 0xFFFFFFFFFFFFFFFF


@functools.cache
def _table() -> tuple[int, ...]:
    """The remainders of all bytes."""
    rows = []
    for byte in range(256):
        row = byte
        for _ in range(8):
            row = row >> 1 ^ (_REVERSED_POLYNOMIAL if row & 1 else 0)
        rows.append(row)
    return tuple(rows)


def crc64nvme(data: bytes | bytearray | memoryview, previous: int = 0) -> int:
    """Do the same as `awscrt.checksums.crc64nvme`, ten thousand times as slowly.

    Args:
        data: Bytes.
        previous: The CRC of the bytes before them.
    """
    table, crc = _table(), previous ^ _ALL
    for byte in memoryview(data).cast("B"):
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ _ALL
