"""Buffers begin at a page, where every processor copies fast: those of hashing and of encryption too."""

import contextlib
import ctypes
import mmap
from pathlib import Path

import pytest

from bigupload.core.checksums import Algorithm, Digests
from bigupload.core.part_plan import MIB, Part
from bigupload.engine.part_hashing import hash_part
from bigupload.http.part_body import BodyResources
from bigupload.sources.file import FileSource
from bigupload.support.pages import page_buffer, thread_buffer


def is_at_page(buffer: memoryview) -> bool:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % mmap.PAGESIZE == 0


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 256 * 1024, MIB, 16 * MIB])
def test_a_buffer_begins_at_a_page_and_has_its_size(size: int) -> None:
    buffer = memoryview(page_buffer(size))

    assert len(buffer) == size
    assert is_at_page(buffer)


def test_a_buffer_for_nothing_holds_nothing() -> None:
    """The system makes no empty mapping, and an empty file is read as others are."""
    assert len(memoryview(page_buffer(0))[:0]) == 0


def test_a_buffer_that_does_not_fit_is_a_lack_of_memory() -> None:
    """mmap raises OSError, which the command would take for a fault of a file."""
    with pytest.raises(MemoryError):
        page_buffer(1 << 60)


def test_bodies_are_read_into_buffers_at_a_page() -> None:
    assert is_at_page(thread_buffer(256 * 1024))
    assert is_at_page(BodyResources(None, "system").take_buffer(MIB))


class _Watched(FileSource):
    """A file that notes the buffers it is read into."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.at_page: list[bool] = []

    def read_into(self, buffer: memoryview, offset: int) -> int:
        self.at_page.append(is_at_page(buffer))
        return super().read_into(buffer, offset)


def test_parts_are_hashed_in_buffers_at_a_page(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(3 * MIB))
    with contextlib.closing(_Watched(file)) as source:
        hash_part(source, Part(1, 0, 3 * MIB), Digests(Algorithm.CRC64NVME), check=lambda: None)

    assert source.at_page == [True] * 3
