"""What of a whole file is checked, with real media that were cut off, moved about or blown up."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import subprocess
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigupload.service import contract as c
from bigupload.service.access.handles import Handles
from bigupload.service.media import media_types
from bigupload.service.media.media_types import (
    BLOCK,
    GIF,
    HEAD_BYTES,
    JPEG,
    MAX_PIXELS,
    MEDIA_TYPES,
    MOST_BLOCKS,
    MOST_READS,
    MOV,
    MP4,
    PIECE,
    PNG,
    WEBM,
    WEBP,
    check_file,
    check_start,
)
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.sweep import Sweep
from bigupload.service.uploads.uploads import MediaUploads
from tests.service.test_media import REAL, ftyp
from tests.tools.buckets import Meddled, Next
from tests.tools.cases import each_case
from tests.tools.media import sample

PROFILE = b"\xff\xe1\xff\xf0" + bytes(0xFFEE)
"""One segment of a JPEG, nearly as long as it can be."""
FREE = b"\0\0\0\x10free" + bytes(8)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(*chunks: bytes, width: int = 1, height: int = 1) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


def jpeg(width: int, height: int, *, before: bytes = b"") -> bytes:
    frame = b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + b"\3\1\x22\0\2\x11\1\3\x11\1"
    return sample("jpg")[:20] + before + frame + b"\xff\xda" + bytes(64)


def gif(width: int, height: int, picture: int) -> bytes:
    place = struct.pack("<HHHHB", 0, 0, picture, picture, 0)
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0," + place + b"\2\1\0\0;"


def vp8x(width: int, height: int) -> bytes:
    canvas = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    content = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + bytes(64)
    return b"RIFF" + struct.pack("<I", len(content)) + content


async def checked(name: str, data: bytes, *, head: int = HEAD_BYTES) -> int:
    """How often it read beyond the head. Raises Refused."""
    reads: list[int] = []

    async def read(at: int, length: int) -> bytes:
        assert head - PIECE < at < len(data)
        reads.append(length)
        assert reads.count(PIECE) <= MOST_READS
        assert reads.count(BLOCK) <= (MOST_BLOCKS if name == "JPEG" else 0)
        return data[at : at + length]

    await check_file(name, data[:head], len(data), read)
    return len(reads)


# -- sound files


@each_case("recipe", REAL)
async def test_real_files_are_sound_however_short_the_head(recipe: str) -> None:
    for head in (64, 256, HEAD_BYTES):
        await checked(REAL[recipe].name, sample(recipe), head=head)


@each_case("recipe", ["mp4", "mov", "faststart.mp4", "fragmented.mp4", "dash.mp4"])
async def test_what_follows_a_complete_film_is_not_judged(recipe: str) -> None:
    for more in (b"Insta360" * 20, bytes(4), bytes(1000), box(b"free", bytes(100)), box(b"uuid", bytes(50))[:20]):
        await checked("MP4", sample(recipe) + more)


async def test_a_film_of_gigabytes_costs_one_read() -> None:
    """The index is at the end: the box of the pictures says where."""
    start, index = ftyp(b"isom", b"mp41", then=b""), box(b"moov", box(b"mvhd", bytes(100)))
    pictures = struct.pack(">I4sQ", 1, b"mdat", 4_000_000_000)
    size = len(start) + 4_000_000_000 + len(index)

    async def read(at: int, length: int) -> bytes:
        assert at == size - len(index)
        return index[:length]

    await check_file("MP4", (start + pictures).ljust(HEAD_BYTES, b"\0"), size, read)


async def test_a_film_of_many_fragments_is_not_read_to_its_end() -> None:
    data = sample("mp4") + box(b"moof", bytes(5000)) * 100
    assert await checked("MP4", data) == MOST_READS


async def test_pictures_behind_long_profiles_and_previews() -> None:
    large = chunk(b"iCCP", bytes(100_000))
    assert await checked("PNG", png(large, large, chunk(b"IDAT", b"x"), chunk(b"IEND"))) == 2
    assert await checked("JPEG", jpeg(4000, 3000, before=PROFILE * 2)) == 2
    assert await checked("JPEG", jpeg(4000, 3000, before=PROFILE * 20)) == MOST_READS + 1


async def test_the_largest_pictures_of_phones_and_one_more_pixel() -> None:
    for width, height in ((16_320, 12_240), (16_384, 16_384)):
        for name, data in (
            ("PNG", png(chunk(b"IDAT"), width=width, height=height)),
            ("JPEG", jpeg(width, height)),
            ("GIF", gif(width, height, 1)),
            ("WebP", vp8x(width, height)),
        ):
            await checked(name, data)
    assert MAX_PIXELS == 16_384 * 16_384


# -- files that are not


@each_case("recipe", ["mp4", "mov", "faststart.mp4", "mjpeg.mov"])
async def test_a_film_that_is_cut_off_anywhere(recipe: str) -> None:
    """At every byte: behind it the file type is complete, else the head is refused already."""
    whole = sample(recipe)
    begin = whole.index(b"mdat") + 4
    for length in range(begin, len(whole), 7):
        for head in (begin, HEAD_BYTES):
            with pytest.raises(Refused, match=r"cut off") as refused:
                await checked("MP4", whole[:length], head=min(head, length))
            assert refused.value.problem is Problem.NOT_MEDIA


@each_case("after", [bytes(5000), b"noise " * 1000, FREE + b"\xff" * 5000, box(b"mdat", bytes(9000)), FREE * 3, b""])
async def test_a_file_type_and_no_film(after: bytes) -> None:
    with pytest.raises(Refused, match=r"no index \(moov\)"):
        await checked("MP4", ftyp(b"isom", b"mp41", then=FREE + after))


async def test_an_index_that_holds_nothing() -> None:
    with pytest.raises(Refused, match=r"no index"):
        await checked("MP4", ftyp(b"isom", b"mp41", then=box(b"moov", bytes(600))))


async def test_a_film_whose_index_has_a_length_of_64_bits(tmp_path: Path) -> None:
    film = sample("faststart.mp4")
    at = film.index(b"moov") - 4
    size = int.from_bytes(film[at : at + 4])
    index = film[at + 8 : at + size]
    for last in (False, True):  # where the index moves, the places in it are wrong, but none is read here
        rest = film[at + size :]
        longer = b"\0\0\0\1moov" + (size + 8).to_bytes(8) + index
        await checked("MP4", film[:at] + (rest + longer if last else longer + rest))
    with pytest.raises(Refused, match="no index"):
        await checked("MP4", film[:at] + b"\0\0\0\1moov" + (600).to_bytes(8) + bytes(584))


async def test_a_jpeg_without_a_picture_for_too_long() -> None:
    for before in (PROFILE * 300, b"\xff\xe1\0\2" * 5000, bytes(20_000_000), b"\xff\0" * 10_000_000):
        with pytest.raises(Refused, match="no picture among its first"):
            await checked("JPEG", jpeg(1, 1, before=before))
    await checked("JPEG", jpeg(1, 1, before=PROFILE * 200))  # a map of depths


async def test_a_webm_that_is_cut_off() -> None:
    whole = sample("webm")
    with pytest.raises(Refused, match=rf"cut off: it has {len(whole) - 1:,} bytes, of at least {len(whole):,}"):
        await checked("WebM", whole[:-1])


@each_case(
    "chunks",
    [
        (chunk(b"IEND"),),
        (chunk(b"tEXt", b"a"), chunk(b"IEND")),
        (chunk(b"tEXt", b"a" * 9000), b"noise" * 100),
        (chunk(b"tEXt", b"a"),),
        (chunk(b"tEXt", b"a" * 9000)[:5000],),
    ],
)
async def test_a_png_without_a_picture(chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(Refused, match=r"no picture \(IDAT\)") as refused:
        await checked("PNG", png(*chunks))
    assert refused.value.problem is Problem.NOT_MEDIA


@each_case(
    ("name", "data"),
    [
        ("GIF", gif(65_535, 65_535, 1)),
        ("GIF", gif(1, 1, 65_535)),
        ("PNG", png(chunk(b"IDAT"), width=100_000, height=100_000)),
        ("JPEG", jpeg(65_535, 65_535)),
        ("JPEG", jpeg(65_535, 65_535, before=b"\xff\xe1\xff\xf0" + bytes(0xFFEE))),
        ("WebP", vp8x(1 << 24, 16_385)),
        ("JPEG", jpeg(65_535, 65_535, before=PROFILE * 100)),
        ("JPEG", jpeg(65_535, 65_535, before=b"\xff\xe1\0\2" * 4000)),
        ("JPEG", jpeg(65_535, 65_535, before=b"stray")),
        ("JPEG", jpeg(65_535, 65_535, before=b"\xff\0\xff\xd0\xff\xff\xff" + bytes(3_000_000))),
        ("JPEG", jpeg(65_535, 65_535, before=PROFILE * 5 + bytes(1_048_570) + b"\xff" * 40)),
    ],
)
async def test_a_picture_that_would_fill_the_memory(name: str, data: bytes) -> None:
    with pytest.raises(Refused, match=r"x .* pixels, and the limit is 268,435,456") as refused:
        await checked(name, data)
    assert refused.value.problem is Problem.FILE_TOO_LARGE


def test_of_a_head_alone_what_it_shows_is_checked() -> None:
    film = sample("mp4")
    check_start("MP4", film[:40], len(film))
    with pytest.raises(Refused, match="cut off"):
        check_start("MP4", film[:200], 300)
    with pytest.raises(Refused, match="pixels"):
        check_start("GIF", gif(65_535, 65_535, 1), 1000)


def test_every_type_is_checked_and_others_are_not() -> None:
    assert {kind.name for kind in MEDIA_TYPES} == {"JPEG", "PNG", "GIF", "WebP", "MP4", "MOV", "WebM"}
    check_start("MKV", b"anything", 8)


@given(
    st.sampled_from(sorted(REAL)),
    st.sampled_from([kind.name for kind in MEDIA_TYPES]),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=5),
    st.integers(0, 4000),
    st.sampled_from([16, 64, HEAD_BYTES]),
)
def test_no_file_does_harm_or_costs_more_than_four_reads(
    recipe: str, name: str, changes: list[tuple[int, int]], length: int, head: int
) -> None:
    data = bytearray(sample(recipe)[: length or None])
    for at, value in changes:
        data[at % len(data)] = value
    with contextlib.suppress(Refused):
        asyncio.run(checked(name, bytes(data), head=head))


# -- what users really have, and players play


def plays(data: bytes, tmp_path: Path) -> bool:
    """Whether ffmpeg decodes it without a complaint."""
    import imageio_ffmpeg

    path = tmp_path / "film"
    path.write_bytes(data)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    return (done.returncode, done.stderr) == (0, b"")


async def test_an_mp4_that_begins_with_an_empty_box(tmp_path: Path) -> None:
    film = sample("dash.mp4")  # its index holds no places in the file, which moves by the box
    for before in (FREE, FREE * 2, b"\0\0\0\x08wide", b"\0\0\0\x08skip"):
        assert plays(before + film, tmp_path)
        assert media_types.identify(before + film) is MP4
        await checked("MP4", before + film)
    assert media_types.identify(box(b"free", bytes(HEAD_BYTES)) + film) is MOV  # what is behind it is not seen
    media_types.check_head(box(b"free", bytes(HEAD_BYTES)) + film, MP4)


@each_case(("recipe", "declared"), [("mp4", MOV), ("mov", MP4), ("mjpeg.mov", MP4), ("m4v", MOV)])
def test_films_go_by_each_other_s_names(recipe: str, declared: media_types.MediaType) -> None:
    media_types.check_head(sample(recipe), declared)
    for other in (JPEG, PNG, GIF, WEBP, WEBM):
        with pytest.raises(Refused):
            media_types.check_head(sample(recipe), other)


async def test_films_of_phones(tmp_path: Path) -> None:
    film = sample("mp4", "3gp5")
    assert film[8:12] == b"3gp5"
    assert plays(film, tmp_path)
    assert media_types.identify(film) is MP4
    await checked("MP4", film)
    assert media_types.identify(ftyp(b"3gp5", b"isom", b"mp41")) is None  # H.263, say
    assert media_types.identify(ftyp(b"3g2a", b"avc1")) is None


# -- in the store


async def put(bucket: Meddled, filename: str, content_type: str, data: bytes) -> tuple[MediaUploads, str]:
    """The key of what was sent by one PUT."""
    uploads = MediaUploads(bucket, Handles(["secret"], clock=lambda: 0))
    made = await uploads.presign("me", c.PresignRequest(filename=filename, content_type=content_type))
    headers = made.headers or {"Content-Type": content_type}
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.put(made.upload_url, headers=headers, content=data)
    assert response.status_code == 200, response.text
    return uploads, made.key


@pytest.mark.parametrize(
    ("filename", "content_type", "made"),
    [
        ("a.mp4", "video/mp4", lambda: FREE + sample("dash.mp4")),
        ("a.mov", "video/quicktime", lambda: sample("mp4")),
        ("a.mov", "video/mov", lambda: sample("mov")),
        ("a.mp4", "video/mp4", lambda: sample("mov")),
        ("a.mp4", "video/mp4", lambda: sample("mp4", "3gp5")),
        ("a.jpg", "image/pjpeg", lambda: sample("jpg")),
        ("a.JPG", "IMAGE/Jpeg", lambda: sample("jpg")),
        ("a.png", "image/png; charset=binary", lambda: sample("png")),
    ],
    ids=["free", "mp4 as mov", "video/mov", "mov as mp4", "3gp5", "pjpeg", "other case", "parameter"],
)
async def test_what_users_have_is_accepted(
    bucket: Meddled, filename: str, content_type: str, made: Callable[[], bytes]
) -> None:
    data = made()
    uploads, key = await put(bucket, filename, content_type, data)
    posted = await uploads.finishing.postable("me", key)
    assert (await bucket.call("", "HeadObject", Key=posted.key))["ContentLength"] == len(data)
    assert (await Sweep(bucket, now=lambda: datetime.now(UTC)).run()).deleted == 0


async def test_the_content_type_that_was_signed_is_told_where_it_is_unusual(bucket: Meddled) -> None:
    uploads = MediaUploads(bucket, Handles(["secret"], clock=lambda: 0))
    made = await uploads.presign("me", c.PresignRequest(filename="a.jpg", content_type="Image/JPEG"))
    assert made.headers == {"Content-Type": "Image/JPEG"}
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.put(made.upload_url, headers={"Content-Type": "image/jpeg"}, content=b"a")).is_error
        assert (await http.put(made.upload_url, headers=made.headers, content=b"a")).is_success
    usual = await uploads.presign("me", c.PresignRequest(filename="a.jpg", content_type="image/jpeg"))
    assert list(json.loads(usual.model_dump_json(by_alias=True))) == ["uploadUrl", "publicUrl", "key", "expiresIn"]


@pytest.mark.parametrize(
    ("filename", "content_type", "made", "problem"),
    [
        ("a.mp4", "video/mp4", lambda: ftyp(b"isom", b"mp41", then=FREE + b"noise" * 2000), Problem.NOT_MEDIA),
        ("a.mp4", "video/mp4", lambda: sample("mp4")[:-1], Problem.NOT_MEDIA),
        ("a.mp4", "video/mp4", lambda: sample("faststart.mp4")[:-1], Problem.NOT_MEDIA),
        ("a.png", "image/png", lambda: png(chunk(b"IEND")), Problem.NOT_MEDIA),
        ("a.gif", "image/gif", lambda: gif(65_535, 65_535, 65_535), Problem.FILE_TOO_LARGE),
    ],
    ids=["noise", "cut off", "cut off, index first", "no IDAT", "pixels"],
)
async def test_what_only_begins_like_media_is_refused(
    bucket: Meddled, filename: str, content_type: str, made: Callable[[], bytes], problem: Problem
) -> None:
    data = made()
    uploads, key = await put(bucket, filename, content_type, data)
    with pytest.raises(Refused) as refused:
        await uploads.finishing.postable("me", key)
    assert refused.value.problem is problem
    await put(bucket, filename, content_type, data)
    assert (await Sweep(bucket, now=lambda: datetime.now(UTC)).run()).deleted == 1  # the first is gone already
    assert "Contents" not in await bucket.call("", "ListObjectsV2", Prefix="media/")


async def test_a_create_that_sends_the_head_of_a_file_that_is_none_is_refused(bucket: Meddled) -> None:
    uploads = MediaUploads(bucket, Handles(["secret"], clock=lambda: 0))
    head = base64.b64encode(gif(65_535, 65_535, 1)).decode()
    request = c.CreateRequest(filename="a.gif", content_type="image/gif", size=10_000_000, head=head)
    with pytest.raises(Refused) as refused:
        await uploads.create("me", request)
    assert refused.value.problem is Problem.FILE_TOO_LARGE
    assert "Uploads" not in await bucket.call("", "ListMultipartUploads")


async def test_a_store_that_ignores_ranges_is_not_asked_for_more(bucket: Meddled) -> None:
    """Its first bytes would be taken for those in the middle, and a sound film for a broken one."""
    uploads, key = await put(bucket, "a.mp4", "video/mp4", sample("mp4")[:40] + box(b"free", bytes(9000)) + b"\0" * 9)

    head, asked = f"bytes=0-{HEAD_BYTES - 1}", []

    async def whole(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        answer = await proceed()
        asked.append(arguments["Range"])
        if arguments["Range"] != head:
            del answer["ContentRange"]
        return answer

    bucket.meddle["GetObject"] = whole
    await uploads.finishing.postable("me", key)
    assert [each == head for each in asked] == [True, False] * 2, "one more in vain, also of the copy"
