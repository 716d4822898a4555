"""What the caller gives, and which source that becomes."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import mmap
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors
from bigupload.core.manifest import SourceKind
from bigupload.ports import Source
from bigupload.sources.file import FileSource
from bigupload.sources.objects import FileObjectSource, MemorySource
from bigupload.sources.opening import checked_name, name_of, open_source, producer_of, skipped_bytes
from tests.integration.support import content
from tests.tools.cases import each_case

DATA = content(1000)


def opened(source: Any) -> Source:
    assert producer_of(source, "name") is None
    return open_source(source, "name")


def whole(source: Source) -> bytes:
    buffer = bytearray(source.fingerprint.size + 10)
    return bytes(buffer[: source.read_into(memoryview(buffer), 0)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


def of_numbers() -> memoryview:
    """Two-dimensional, and not of bytes."""
    return memoryview(DATA).cast("I", [25, 10])


@each_case("data", [DATA, bytearray(DATA), memoryview(DATA), of_numbers(), io.BytesIO(DATA), b""])
def test_bytes_are_viewed_where_they_are(data: Any) -> None:
    source = opened(data)
    expected = DATA if data else b""
    assert isinstance(source, MemorySource)
    assert (source.path, source.kind, source.fingerprint.size) == ("name", SourceKind.OBJECT, len(expected))
    assert whole(source) == expected
    assert source.view(10, 20) == expected[10:30]


def test_bytes_can_be_changed_when_the_source_is_closed() -> None:
    """While it is open, a bytearray refuses to change its size."""
    array = bytearray(DATA)
    source = opened(array)
    with pytest.raises(BufferError):
        array.clear()
    source.close()
    array.clear()


def test_what_is_written_to_a_bytesio_later_is_not_uploaded() -> None:
    """Nor does a view of it outlive it: the garbage collector would report that."""
    buffer = io.BytesIO(DATA)
    source = opened(buffer)
    view = source.view(0, 10)
    buffer.write(b"other")
    buffer.truncate(5)
    buffer.close()
    assert (view, whole(source)) == (DATA[:10], DATA)


@pytest.mark.parametrize("mode", ["rb", "r+b"])
@pytest.mark.parametrize("buffering", [-1, 0])
def test_an_opened_path_is_a_file(path: Path, mode: str, buffering: int) -> None:
    """It has a fingerprint and the speed of one, and it is resumed by its path."""
    # open is declared for literal modes only.
    with path.open(mode, buffering=buffering) as file:
        source = opened(file)
        assert isinstance(source, FileSource)
        assert source.path == str(path)
        source.close()
        assert file.read() == DATA


def test_what_was_written_and_not_flushed_is_uploaded(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"new")
        file.seek(0)
        file.write(b"newer")
        file.seek(0)
        source = opened(file)
        assert whole(source) == b"newer" + DATA[5:]
        source.close()


def test_a_file_object_at_another_position(path: Path) -> None:
    with path.open("rb") as file:
        file.seek(7)
        source = opened(file)
        assert isinstance(source, FileObjectSource)
        assert whole(source) == DATA[7:]
        assert skipped_bytes(source) == 7
    buffer = io.BytesIO(DATA)
    buffer.seek(1)
    assert (whole(opened(buffer)), skipped_bytes(opened(buffer))) == (DATA[1:], 1)


def test_a_position_behind_the_end() -> None:
    buffer = io.BytesIO(DATA)
    buffer.seek(5000)
    assert opened(buffer).fingerprint.size == 0


def test_a_file_whose_path_is_another_file_now(path: Path) -> None:
    with path.open("rb") as file:
        path.rename(path.with_name("old"))
        path.write_bytes(b"another")
        source = opened(file)
        assert isinstance(source, FileObjectSource)
        assert whole(source) == DATA


def test_what_decompresses_is_a_stream(tmp_path: Path) -> None:
    """It can seek, but reads everything again to do so. And its descriptor has the compressed bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/member.bin", DATA)
    for module in (gzip, bz2, lzma):
        with module.open(tmp_path / "file", "wb") as writing:
            writing.write(DATA)
        with module.open(tmp_path / "file", "rb") as file:
            assert producer_of(file, "name") is not None
    with zipfile.ZipFile(packed) as archive, archive.open("folder/member.bin") as member:
        assert name_of(member) == "member.bin"
        assert producer_of(member, "name") is not None


def test_a_temporary_file_and_a_map() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(DATA)
        file.seek(0)
        assert whole(opened(file)) == DATA
        with mmap.mmap(file.fileno(), 0) as mapped:
            assert whole(opened(mapped)) == DATA


# -- what is refused


class ReadsText:
    def read(self, size: int = -1) -> str:
        return ""

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def tell(self) -> int:
        return 0


def closed(file: Any) -> Any:
    file.close()
    return file


@each_case(
    ("source", "message"),
    [
        (io.StringIO("text"), "binary mode"),
        (ReadsText(), "binary mode"),
        (closed(io.BytesIO(b"")), "closed file object"),
        (closed(io.FileIO(__file__)), "closed file object"),
        (io.FileIO(os.devnull, "wb"), "opened for writing alone"),
        (None, "NoneType"),
        (7, "int"),
        ({"a": b""}, "dict"),
        (object(), "object"),
        (memoryview(DATA)[::2], "contiguous"),
        (asyncio.StreamReader, "type"),
    ],
)
def test_what_is_no_source(source: Any, message: str) -> None:
    with pytest.raises(errors.UsageError, match=message):
        opened(source)


def test_a_text_file(path: Path) -> None:
    with path.open(encoding="latin-1") as file, pytest.raises(errors.UsageError, match="binary mode"):
        opened(file)


def test_a_pipe_is_a_stream() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file, os.fdopen(writing, "wb"):
        assert producer_of(file, "name") is not None


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_device_that_can_seek_is_a_stream(buffering: int) -> None:
    """It says that its end is at 0, and would become an empty object."""
    with open("/dev/zero", "rb", buffering=buffering) as file:
        assert file.seekable()
        assert producer_of(file, "name") is not None


@each_case("name", ["", "a/b", "..", ".", "a\0b", 7, b"name"])
def test_a_name_that_is_none(name: Any) -> None:
    with pytest.raises(errors.UsageError):
        checked_name(name)


@each_case(
    ("source", "name"),
    [("a/b", "b"), (Path("a/../c"), "c"), (b"", None), (io.BytesIO(), None), (sys.stdin, None)],
)
def test_the_name_that_a_source_has_by_itself(source: Any, name: str | None) -> None:
    assert name_of(source) == name


# -- file objects that fail


class Failing(io.BytesIO):
    def __init__(self, error: Exception) -> None:
        super().__init__(DATA)
        self.error: Exception | None = None
        self._later = error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.error is not None:
            raise self.error
        return super().read(size)

    def fail(self) -> None:
        self.error = self._later


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(5, "Input/output error"), "Input/output error"),
        (RuntimeError("https://x/?X-Amz-Signature=s"), "Runtime"),
    ],
)
def test_an_error_of_a_file_object(error: Exception, reason: str) -> None:
    """Its text may hold a URL, which may be a secret."""
    file = Failing(error)
    source = FileObjectSource("name", file)
    file.fail()
    with pytest.raises(errors.SourceUnreadable, match=f"name at byte 3: {reason}") as caught:
        source.read_into(memoryview(bytearray(5)), 3)
    assert "Signature" not in str(caught.value)
    assert caught.value.resumable


def test_a_closed_source_does_not_move_the_position() -> None:
    file = io.BytesIO(DATA)
    source = FileObjectSource("name", file)
    source.close()
    source.close()
    file.seek(3)
    with pytest.raises(errors.SourceUnreadable):
        source.read_into(memoryview(bytearray(5)), 0)
    assert file.tell() == 3
    assert not file.closed
