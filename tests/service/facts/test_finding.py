"""Facts of files, found by the process that has nothing to lose."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import S3Options
from bigupload.service import fact_finder, fact_process
from bigupload.service.fact_finder import check_installed, sound
from bigupload.service.fact_process import LENGTH, MOST_PIECES, PIECE, REQUEST, ObjectReader
from bigupload.service.media import HEAD_BYTES
from bigupload.service.settings import ServiceConfig
from tests.service.facts.support import PATIENT, PROGRAM, ReadObject, finding, found, program
from tests.tools.cases import each_case, examples
from tests.tools.media import sample

FILM = {"width": 64, "height": 64, "orientation": 1, "duration": 0.4, "frameRate": 25.0, "videoCodec": "AVC"}
GIB = 1024**3


def picture(kind: str, orientation: int | None = None) -> bytes:
    made = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", (30, 20), "red").save(made, kind, exif=exif)
    return made.getvalue()


async def test_a_film_and_each_orientation_of_a_picture() -> None:
    async with finding() as finder:
        assert await found(finder, sample("mp4")) == FILM
        for orientation in range(1, 9):
            told = await found(finder, picture("JPEG", orientation))
            assert told == {"width": 30, "height": 20, "orientation": orientation}
        assert await found(finder, b"just a text " * 1000) is None


async def test_a_film_of_10_gb_is_read_by_its_ends() -> None:
    """It has its index behind 10 GB of pictures, of which all but the first are zeros here."""
    film, size = sample("mp4"), 10 * GIB
    at = film.index(b"mdat") - 4
    end = at + int.from_bytes(film[at : at + 4])
    start = film[:at] + struct.pack(">I4sQ", 1, b"mdat", size - at - (len(film) - end)) + film[at + 8 : end]
    index = film[end:]
    reads = []

    async def read(at: int, length: int) -> bytes:
        reads.append(length)
        piece = bytearray(length)
        for place, data in ((0, start), (size - len(index), index)):
            first, last = max(at, place), min(at + length, place + len(data))
            if first < last:
                piece[first - at : last - at] = data[first - place : last - place]
        return bytes(piece)

    async with finding() as finder:
        told = await finder.find(start[:HEAD_BYTES], size, read)
    assert told is not None
    assert (told["width"], told["duration"], told["videoCodec"]) == (64, 0.4, "AVC")
    assert len(reads) <= MOST_PIECES
    assert max(reads) <= PIECE


# -- files of attackers


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


@pytest.mark.slow
async def test_pictures_that_would_burst_are_not_decoded() -> None:
    """A gigabyte of pixels in some kilobytes; zeros as a text, as a colour profile; Exif behind the pixels."""
    squeezed = zlib.compressobj()
    mebibyte = bytes(1 << 20)
    bomb = b"".join(squeezed.compress(mebibyte) for _ in range(64)) + squeezed.flush()
    async with finding() as finder:
        for data in (
            png(20_000, 13_000, chunk(b"IDAT", bomb)),
            png(20_000, 13_000, chunk(b"IDAT", bomb), chunk(b"eXIf", picture("JPEG", 6)[30:])),
            png(20_000, 13_000, chunk(b"IDAT", zlib.compress(bytes(100)))),
            gif(20_000, 13_000),
        ):
            assert await found(finder, data) == {"width": 20_000, "height": 13_000, "orientation": 1}
        for name in (b"zTXt", b"iCCP"):
            told = await found(finder, png(20, 13, chunk(name, b"a\0\0" + bomb), chunk(b"IDAT", zlib.compress(b"x"))))
            assert told in (None, {"width": 20, "height": 13, "orientation": 1})
        assert await found(finder, png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", b"x"))) == {
            "width": 2**31 - 1, "height": 2**31 - 1, "orientation": 1,
        }  # fmt: skip


@pytest.mark.slow
async def test_lengths_that_lie() -> None:
    """Boxes, elements and chunks that claim more than there is; what is found must make sense, and the next works."""
    film, matroska, wave = sample("mp4"), sample("mkv"), b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + bytes(range(200))
    hostile = [
        *(
            film[:at] + b"\xff\xff\xff\xff" + film[at + 4 :]
            for at in found_at(film, b"moov", b"trak", b"stsz", b"avcC")
        ),
        *(film[: at + 12] + b"\x7f" * 8 + film[at + 20 :] for at in found_at(film, b"stsz", b"stts", b"mvhd", b"tkhd")),
        *(matroska[:at] + b"\x01" + b"\xff" * 6 + b"\xfe" + matroska[at + 8 :] for at in range(4, 60, 7)),
        wave,
        b"\x1a\x45\xdf\xa3" + b"\x01" + b"\xff" * 7,
        struct.pack(">I4s", 8, b"moov") * 5000,
        b"\xff\xd8\xff\xe1\xff\xffExif\0\0" + b"MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\3\0\0\0\1" * 5000,
        b"RIFF\xff\xff\xff\xffWEBPVP8X\xff\xff\xff\xff" + b"\xff" * 100,
        b"RIFF\xff\xff\xff\xffWEBP" + b"EXIF\0\0\0\0" * 5000,
    ]
    async with finding() as finder:
        for data in hostile:
            told = await found(finder, data)
            assert told is None or sound(told) is not None
        assert await found(finder, film) == FILM


def found_at(data: bytes, *names: bytes) -> list[int]:
    return [data.index(name) - 4 for name in names]


@pytest.mark.slow
async def test_damaged_and_truncated_files() -> None:
    """A seeded sample: some bytes changed, some cut off. Nothing but sense is found, and the process lives."""
    chance = random.Random(29)
    log: list[str] = []
    whole = [sample(kind) for kind in ("mp4", "mov", "mkv", "webm", "gif", "png", "lossless.webp", "avi")]
    whole += [picture("JPEG", 6), picture("WEBP", 3)]
    async with finding(log) as finder:

        async def try_one(data: bytes) -> None:
            told = await found(finder, data)
            assert told is None or sound(told) is not None

        async with asyncio.TaskGroup() as group:
            for _ in range(examples(200)):
                data = bytearray(chance.choice(whole))
                for _ in range(chance.choice((0, 1, 4, 64))):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                if chance.random() < 0.5:
                    del data[chance.randrange(1, len(data)) :]
                group.create_task(try_one(bytes(data)))
        assert await found(finder, whole[0]) == FILM
    assert log == []


# -- children that fail


FAILING = {
    "crashes": "os.kill(os.getpid(), signal.SIGSEGV)",
    "raises": "raise ValueError",
    "needs too much memory": "return {'width': len(bytes(1 << 30)) >> 20}",
    "talks nonsense": "return 'nonsense'",
    "talks more nonsense": "return [[[]]]",
    "lies": "return {'width': -1, 'height': 1.5, 'duration': float('nan'), 'videoCodec': '<script>' * 100}",
    "says too much": "return {'width': 1, 'else': 'x' * 10_000}",
    "reads for ever": "[file._ask(0, 10) for _ in range(100)]; return {'width': 1}",
    "ends": "os._exit(0)",
    "opens a file": "open('/etc/passwd'); return {'width': 1}",
    "opens a socket": "socket.socket(); return {'width': 1}",
    "hangs": "signal.pause()",
    "spins": "while True: pass",
}
NUMBERS = {why: number for number, why in enumerate(FAILING)}


def failing(limits: str = PATIENT) -> str:
    """A process whose children fail so, for a file that begins with `bad` and the number of how."""
    return program(
        "import os, signal, socket",
        *(f"def fail_{NUMBERS[why]}(file):\n    {action}" for why, action in FAILING.items()),
        "real = p.facts_of",
        "p.facts_of = lambda file, head: (",
        "    globals()[f'fail_{head[3]}'](file) if head.startswith(b'bad') else real(file, head)",
        ")",
        limits,
    )


def bad(why: str) -> bytes:
    return b"bad" + bytes([NUMBERS[why]])


async def test_a_child_that_fails_has_no_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_finder, "_PROGRAM", failing())
    log: list[str] = []
    async with finding(log) as finder:
        for why in FAILING:
            if why not in ("hangs", "spins"):
                assert await found(finder, bad(why)) is None, why
                assert await found(finder, picture("GIF")) == {"width": 30, "height": 20, "orientation": 1}, why
    assert log == []


@pytest.mark.slow
@each_case(("why", "limits"), [("hangs", "p._SECONDS = 1"), ("spins", "p._SECONDS, p._CPU_SECONDS = 600, 1")])
async def test_a_child_that_goes_on_for_ever_is_killed(why: str, limits: str) -> None:
    """Its end is the kernel's: this waits for the child, and not for the limit of the service."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fact_finder, "_PROGRAM", failing(limits))
        async with finding() as finder:
            assert await found(finder, bad(why)) is None
            assert await found(finder, picture("GIF")) is not None


async def test_a_hang_ends_with_the_time_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_finder, "_PROGRAM", failing())  # the child is killed with its parent
    async with finding() as finder:
        monkeypatch.setattr(fact_finder, "_WITHIN", 0.01)
        assert await found(finder, bad("hangs")) is None
        monkeypatch.setattr(fact_finder, "_WITHIN", 600)
        assert await found(finder, picture("GIF")) is not None


async def test_a_process_that_was_killed_is_started_again() -> None:
    log: list[str] = []
    async with finding(log) as finder:
        first = finder._process
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert await found(finder, sample("mp4")) == FILM
    assert [json.loads(line)["error"] for line in log] == ["the process that finds facts has ended"]


async def test_the_process_has_no_secrets_and_ends_with_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with finding() as finder:
        assert finder._process is not None
        place = Path(f"/proc/{finder._process.pid}")
        variables = (place / "environ").read_bytes()
        assert b"secret" not in variables
        assert {each.partition(b"=")[0] for each in variables.split(b"\0")} <= {b"", b"LD_LIBRARY_PATH"}
        opened = {os.readlink(each) for each in (place / "fd").iterdir()}
        assert {each.partition(":")[0] for each in opened} == {"/dev/null", "socket"}
        process = finder._process
    assert process.poll() is not None


async def test_a_process_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_finder, "_PROGRAM", PROGRAM.replace("import main", "import nothing"))
    with pytest.raises(errors.ServiceError, match="could not start"):
        async with finding():
            pass
    broken = PROGRAM.replace("from bigupload", "sys.modules['PIL'] = None; from bigupload")
    monkeypatch.setattr(fact_finder, "_PROGRAM", broken)
    with pytest.raises(errors.ServiceError, match=r"could not start: .*PIL"):
        async with finding():
            pass


async def test_what_the_store_raises_is_raised() -> None:
    async def read(at: int, length: int) -> bytes:
        raise Fault(FaultKind.GONE, "the object was deleted", status=404)

    film = sample("mp4")
    async with finding() as finder:
        with pytest.raises(Fault, match="deleted"):
            await finder.find(film[:100], len(film), read)


async def test_a_store_without_ranges_shows_the_beginning() -> None:
    async def read(at: int, length: int) -> None:
        return None

    async with finding() as finder:
        assert await finder.find(sample("png")[:HEAD_BYTES], 10**6, read) is not None
        assert await finder.find(b"OggS" + bytes(100), 10**6, read) is None


def test_the_limits_of_a_child() -> None:
    """They hold in the process that sets them: memory, processor, descriptors, files."""
    program = """
import errno, resource, sys
sys.path[:] = %r
from bigupload.service import fact_process
fact_process._limit()
for what in ("AS", "CPU", "NOFILE", "NPROC", "FSIZE", "CORE"):
    print(what, *resource.getrlimit(getattr(resource, "RLIMIT_" + what)))
try:
    open("/etc/passwd")
except OSError as e:
    print(errno.errorcode[e.errno])
try:
    bytearray(1 << 30)
except MemoryError:
    print("no memory")
"""
    done = subprocess.run(
        [sys.executable, "-c", program % sys.path], capture_output=True, text=True, check=True, timeout=600
    )
    memory = fact_process._MEMORY
    assert done.stdout.splitlines() == [
        f"AS {memory} {memory}", "CPU 1 1", "NOFILE 0 0", "NPROC 0 0", "FSIZE 0 0", "CORE 0 0", "EMFILE", "no memory",
    ]  # fmt: skip


# -- the pieces


def test_pieces_are_read_once_and_there_is_an_end_to_them() -> None:
    data = random.Random(1).randbytes(20 * PIECE)
    asked: list[tuple[int, int]] = []

    def ask(at: int, length: int) -> bytes:
        asked.append((at, length))
        return data[at : at + length]

    file = ObjectReader(ask, len(data), data[:100])
    assert file.read(40) == data[:40]
    assert file.read(100) == data[40:100]
    assert asked == []
    assert file.seek(-10, os.SEEK_END) == len(data) - 10
    assert file.read() == data[-10:]
    assert file.read() == b""
    for place in (100, 5000, 100 + PIECE - 1, 2 * PIECE, 4 * PIECE, 6 * PIECE, 8 * PIECE, 100):
        file.seek(place)
        assert file.read(10) == data[place : min(place + 10, 100 + PIECE if place == 100 + PIECE - 1 else place + 10)]
    assert asked == [(len(data) - 10, 10), *((place, PIECE) for place in (100, *(n * PIECE for n in (2, 4, 6, 8))))]
    file.seek(10 * PIECE)
    assert file.read(10) == b""
    assert len(asked) == MOST_PIECES


async def test_the_service_counts_the_pieces_too() -> None:
    """A child that an attacker has taken over may not read a whole film through the service."""
    stored = ReadObject(bytes(10 * PIECE))
    reader = asyncio.StreamReader()
    for at in range(MOST_PIECES + 1):
        reader.feed_data(REQUEST.pack(at, 2**31))
    writer: Any = Sink()
    with pytest.raises(ValueError, match="more than it may"):
        await fact_finder._serve(reader, writer, len(stored.data), stored.read)
    assert stored.reads == [(at, PIECE) for at in range(MOST_PIECES + 1)]
    assert [LENGTH.unpack(each[:4]) for each in writer.written] == [(PIECE,)] * (MOST_PIECES + 1)


class Sink:
    """A stream that goes nowhere."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written.append(data)

    async def drain(self) -> None:
        """Nothing waits."""


# -- sense


@each_case(
    ("said", "kept"),
    [
        ({}, None),
        ([], None),
        ("width", None),
        (None, None),
        ({"width": 1, "height": 2}, {"width": 1, "height": 2}),
        ({"width": True, "height": 2**31}, {"height": 2**31}),
        ({"width": 2**31 + 1, "height": 0}, None),
        ({"width": "1"}, None),
        ({"duration": 0.001, "frameRate": 24}, {"duration": 0.001, "frameRate": 24}),
        ({"duration": float("nan")}, None),
        ({"duration": float("inf"), "frameRate": -1}, None),
        ({"duration": 10**10}, None),
        ({"videoCodec": "MPEG-4 Visual"}, {"videoCodec": "MPEG-4 Visual"}),
        ({"videoCodec": "a\nb", "audioCodec": "é"}, None),
        ({"audioCodec": "x" * 65}, None),
        ({"audioCodec": ""}, None),
        ({"orientation": 8}, {"orientation": 8}),
        ({"orientation": 9}, None),
        ({"orientation": 1.0}, None),
        ({"else": 1}, None),
    ],
)
def test_what_makes_sense_is_kept(said: Any, kept: dict[str, Any] | None) -> None:
    told = sound(said)
    assert (None if told is None else {name: value for name, value in told.items() if value is not None}) == kept


def test_without_the_extra_a_service_says_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_finder.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.UsageError, match=r"what finds facts is not installed: pip install .*\[facts\]"):
        check_installed()
    settings: dict[str, Any] = {
        "bucket": "media",
        "s3": S3Options(),
        "secrets": ("s" * 40,),
        "authorize": lambda _: "a",
    }
    ServiceConfig(**settings)
    with pytest.raises(errors.UsageError, match="facts"):
        ServiceConfig(**settings, facts=True)
