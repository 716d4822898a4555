"""What libraries write into a file, written into an object: what is read from it, and what a failure leaves."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import shutil
import struct
import tarfile
import wave
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

import bigupload
from tests.tools.cases import each_case

from .streams import WHOLE
from .support import BUCKET, FAST, World, of_function

TO = f"s3://{BUCKET}/key"
Writer = bigupload.UploadWriter


def opened(world: World, **more: Any) -> Any:
    return bigupload.open_writer(TO, s3=world.options(), resume=False, **of_function({"retry": FAST} | more))


def stored(world: World) -> Any:
    found = world.s3.objects[BUCKET].get("key")
    return None if found is None else found.body


def save_zip(file: Any) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("whole", WHOLE)
        with archive.open("streamed", "w") as member:
            member.write(WHOLE)


def load_zip(data: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.testzip() is None and archive.read("whole") == archive.read("streamed") == WHOLE


def save_tar(mode: str) -> Callable[[Any], None]:
    def save(file: Any) -> None:
        with tarfile.open(mode=mode, fileobj=file) as archive:  # type: ignore[call-overload]  # a mode that is a variable
            member = tarfile.TarInfo("whole")
            member.size = len(WHOLE)
            archive.addfile(member, io.BytesIO(WHOLE))

    return save


def load_tar(data: bytes) -> bool:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        member = archive.extractfile("whole")
        return member is not None and member.read() == WHOLE


def save_gzip(file: Any) -> None:
    with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as compressed:
        compressed.write(WHOLE)


def save_csv(file: Any) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    csv.writer(text).writerows([number, "é"] for number in range(50_000))
    text.detach()


def load_csv(data: bytes) -> bool:
    return list(csv.reader(io.StringIO(data.decode(), newline=""))) == [[str(n), "é"] for n in range(50_000)]


def save_json(file: Any) -> None:
    text = io.TextIOWrapper(file, "utf-8")
    json.dump(list(range(100_000)), text)
    text.flush()
    text.detach()


def save_copy(file: Any) -> None:
    shutil.copyfileobj(io.BytesIO(WHOLE), file)


def save_tensors(file: Any) -> None:
    """As savers do that ask where they are, align what they write, and hand over buffers of other types."""
    for number in range(50):
        file.write(bytes(-file.tell() % 64))
        file.write(memoryview(bytearray(struct.pack("<1000I", *range(1000)))).cast("I"))
        assert file.tell() == (number + 1) * 4000 + number * 32
    file.flush()


SAVERS: list[tuple[Callable[[Any], object], Callable[[bytes], bool]]] = [
    (save_zip, load_zip),
    (save_tar("w|"), load_tar),
    (save_tar("w|gz"), load_tar),
    (save_tar("w"), load_tar),
    (save_gzip, lambda data: gzip.decompress(data) == WHOLE),
    (save_csv, load_csv),
    (save_json, lambda data: json.loads(data) == list(range(100_000))),
    (lambda file: pickle.dump([WHOLE] * 2, file), lambda data: pickle.loads(data) == [WHOLE] * 2),
    (save_copy, lambda data: data == WHOLE),
    (save_tensors, lambda data: len(data) == 50 * 4000 + 49 * 32),
]


@each_case("save, load", SAVERS)
def test_what_the_standard_library_writes(
    world: World, save: Callable[[Any], object], load: Callable[[bytes], bool]
) -> None:
    with opened(world) as writer:
        save(writer)
    assert load(stored(world))
    assert writer.result.verified is bigupload.Verified.FULL_OBJECT


class Failing:
    """A writer that fails when 100,000 bytes were written."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write(self, data: Any) -> int:
        if self._writer.tell() > 100_000:
            raise LookupError("enough")
        return self._writer.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


@each_case("save", [save_zip, save_tar("w|"), save_gzip, save_copy])
def test_a_library_that_fails_leaves_no_object(world: World, save: Callable[[Any], object]) -> None:
    """Most of them write their last bytes all the same, on the exception's way."""
    with pytest.raises(LookupError), opened(world) as writer:
        save(Failing(writer))
    assert stored(world) is None


def save_wave(file: Any) -> None:
    """Writes the number of frames, which it was not told, into the header at its end."""
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(48_000)
        sound.writeframes(WHOLE[:100_000])
        sound.writeframes(WHOLE[:100_000])


def save_header_last(file: Any) -> None:
    file.write(bytes(8))
    file.write(WHOLE)
    file.seek(0)
    file.write(struct.pack("<Q", len(WHOLE)))


@each_case("save", [save_wave, save_header_last])
def test_what_has_to_seek_is_told_what_to_do(world: World, save: Callable[[Any], object]) -> None:
    told = "Write to a file on the disk, and upload that"
    with pytest.raises(io.UnsupportedOperation, match=told), opened(world) as writer:
        save(writer)
    assert stored(world) is None


@pytest.mark.slow
def test_text_of_the_standard_library(world: World) -> None:
    with opened(world, text=True, newline="") as writer:
        csv.writer(writer).writerows([number, "é"] for number in range(50_000))
    assert load_csv(stored(world))
    with opened(world, text=True) as writer:
        json.dump(list(range(100_000)), writer)
    assert json.loads(stored(world)) == list(range(100_000))


@pytest.mark.slow
def test_what_pandas_writes(world: World) -> None:
    import pandas

    frame = pandas.DataFrame({"number": range(100_000), "text": ["é"] * 100_000})
    for text in (False, True):
        with opened(world, text=text) as writer:
            frame.to_csv(writer, index=False)
        assert pandas.read_csv(io.BytesIO(stored(world))).equals(frame)
    with opened(world) as writer:
        frame.to_csv(writer, index=False, compression={"method": "gzip", "mtime": 1})
    assert pandas.read_csv(io.BytesIO(stored(world)), compression="gzip").equals(frame)
    with opened(world) as writer:
        frame.to_parquet(writer)
    assert pandas.read_parquet(io.BytesIO(stored(world))).equals(frame)
    with opened(world) as writer:
        frame.to_pickle(writer)
    assert pandas.read_pickle(io.BytesIO(stored(world))).equals(frame)


@pytest.mark.slow
def test_what_pyarrow_writes(world: World) -> None:
    import pyarrow
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    table = pyarrow.table({"number": range(100_000)})
    with opened(world) as writer, parquet.ParquetWriter(writer, table.schema) as file:
        for _ in range(3):
            file.write_table(table)
    assert parquet.read_table(io.BytesIO(stored(world))).num_rows == 300_000
    with opened(world) as writer, pyarrow.ipc.new_stream(writer, table.schema) as file:
        file.write_table(table)
    assert pyarrow.ipc.open_stream(stored(world)).read_all().equals(table)
    with opened(world) as writer:
        arrow_csv.write_csv(table, writer)
    assert arrow_csv.read_csv(io.BytesIO(stored(world))).equals(table)


@pytest.mark.slow
def test_what_pyarrow_does_not_finish(world: World) -> None:
    """It closes its own file, and what is below it, on an exception's way."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"number": range(100_000)})

    def fail(file: Any) -> None:
        with parquet.ParquetWriter(file, table.schema) as rows:
            rows.write_table(table)
            raise LookupError

    with pytest.raises(LookupError), opened(world) as writer:
        fail(writer)
    assert stored(world) is None
    with pytest.raises((LookupError, bigupload.UsageError)), pyarrow.PythonFile(opened(world), "w") as file:
        fail(file)
    assert stored(world) is None


@pytest.mark.slow
def test_what_numpy_writes(world: World) -> None:
    import numpy

    array = numpy.arange(1_000_000).reshape(1000, 1000)
    with opened(world) as writer:
        numpy.save(writer, array)
    assert (numpy.load(io.BytesIO(stored(world))) == array).all()
    with opened(world) as writer:
        numpy.savez_compressed(writer, array=array)
    assert (numpy.load(io.BytesIO(stored(world)))["array"] == array).all()
    with opened(world) as writer:
        numpy.savetxt(writer, array[:10])
    assert (numpy.loadtxt(io.BytesIO(stored(world))) == array[:10]).all()
    with opened(world) as writer:
        writer.write(array[:10])  # whose bytes are those of its memory
        with pytest.raises(ValueError, match="contiguous"):
            writer.write(array[:, :10])
    assert stored(world) == array[:10].tobytes()
