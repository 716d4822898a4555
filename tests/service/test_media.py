"""Which media the service takes, tried with real files, with hostile names, and with files that are two things."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigupload.service.media import media_types
from bigupload.service.media.media_types import GIF, HEAD_BYTES, JPEG, MEDIA_TYPES, MOV, MP4, PNG, WEBM, WEBP, MediaType
from bigupload.service.media.policy import PUBLISHED_TYPES
from bigupload.service.problems import Problem, Refused
from tests.tools import cases
from tests.tools.cases import each_case
from tests.tools.media import sample

REAL = {
    "jpg": JPEG,
    "png": PNG,
    "apng": PNG,
    "gif": GIF,
    "animated.gif": GIF,
    "webp": WEBP,
    "lossless.webp": WEBP,
    "animated.webp": WEBP,
    "mp4": MP4,
    "faststart.mp4": MP4,
    "fragmented.mp4": MP4,
    "dash.mp4": MP4,
    "m4v": MP4,
    "mov": MOV,
    "mjpeg.mov": MOV,
    "webm": WEBM,
    "vp9.webm": WEBM,
}
ELSE = ["mkv", "avif", "3gp", "3g2", "avi", "flv", "bmp", "tiff", "ogv"]
BRANDS = ["isom", "iso2", "iso4", "iso5", "iso6", "mp41", "mp42", "M4V ", "avc1", "MSNV", "dash", "cmfc", "XAVC"]
NOT_MP4 = ["heic", "heix", "mif1", "msf1", "avif", "avis", "3gp4", "3g2a", "M4A ", "jp2 ", "crx ", "f4v "]
BOX = b"\0\0\1\0moov" + bytes(256)


def ftyp(major: bytes, *compatible: bytes, then: bytes = BOX) -> bytes:
    return struct.pack(">I", 16 + 4 * len(compatible)) + b"ftyp" + major + bytes(4) + b"".join(compatible) + then


def png(
    header: bytes = b"\0\0\0\1\0\0\0\1\x08\2\0\0\0", crc: int | None = None, then: bytes = b"\0\0\0\0IEND"
) -> bytes:
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + chunk + struct.pack(">I", zlib.crc32(chunk) if crc is None else crc) + then


# -- first bytes


@each_case(("recipe", "expected"), REAL.items())
def test_real_files(recipe: str, expected: MediaType) -> None:
    assert media_types.identify(sample(recipe)) is expected
    media_types.check_head(sample(recipe)[:HEAD_BYTES], expected)


@each_case("recipe", ELSE)
def test_real_files_that_are_not_on_the_list(recipe: str) -> None:
    assert media_types.identify(sample(recipe)) is None


@each_case("brand", ["iso5", "iso6", "mp41", "mp42", "M4V ", "avc1", "MSNV", "dash"])
def test_mp4_of_every_brand(brand: str) -> None:
    assert media_types.identify(sample("mp4", brand)) is MP4


@each_case("brand", BRANDS)
def test_a_brand_alone_is_enough(brand: str) -> None:
    assert media_types.identify(ftyp(brand.encode(), b"abcd", b"efgh", b"ijkl", b"mnop")) is MP4


@each_case("brand", NOT_MP4)
def test_relatives_of_mp4_that_name_it_beside_themselves(brand: str) -> None:
    assert media_types.identify(ftyp(brand.encode(), b"isom", b"mp41", b"mp42")) is None


def test_a_brand_that_nobody_knows() -> None:
    assert media_types.identify(ftyp(b"zzzz", b"isom")) is MP4
    assert media_types.identify(ftyp(b"zzzz", b"yyyy")) is None


def test_the_major_brand_decides_between_mp4_and_mov() -> None:
    assert media_types.identify(ftyp(b"qt  ", b"isom", b"mp42")) is MOV
    assert media_types.identify(ftyp(b"mp42", b"isom", b"qt  ")) is MP4


@each_case(
    "head",
    [
        b"\0\0\1\0moov\0\0\0\x6cmvhd",
        b"\0\0\1\0mdat" + bytes(64),
        b"\0\0\0\1mdat\0\0\0\1\0\0\0\0" + bytes(64),
        b"\0\0\0\x08wide\0\0\1\0mdat" + bytes(64),
        b"\0\0\0\x0cfree\0\0\0\0\0\0\1\0moov" + bytes(64),
        b"\0\0\x20\0skip" + bytes(HEAD_BYTES),
        b"\0\0\0\x14pnot" + bytes(12) + b"\0\0\0\x20PICT" + bytes(64),
    ],
)
def test_quicktime_from_before_file_types(head: bytes) -> None:
    assert media_types.identify(head) is MOV


@each_case(
    "head",
    [
        b"\0\0\1\0moov\0\0\0\x6chtml",
        b"\0\0\0\0mdat" + bytes(64),
        b"\0\0\0\2mdat" + bytes(64),
        b"\0\0\0\x08wide<html><body>",
        b"\0\0\0\x08free" + bytes(64),
        b"\0\0\x20\0free" + bytes(64),  # the file ends before the atom does
    ],
)
def test_not_quite_quicktime(head: bytes) -> None:
    assert media_types.identify(head) is None


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "a")
    return buffer.getvalue()


JFIF = b"\xff\xe0\0\x10JFIF\0\1\2\0\0\1\0\1\0\0"


@each_case(
    "head",
    [
        b"\xff\xd8\xff\xdb\0\x43" + bytes(65) + b"\xff\xc0\0\x0b" + bytes(9),  # as sensors write it: tables at once
        b"\xff\xd8\xff\xe1\x7f\xf0Exif\0\0MM\0*" + bytes(HEAD_BYTES),  # a preview that is longer than the head
        b"\xff\xd8\xff\xe1\0\x0aExif\0\0MM" + b"\xff\xff\xff\xdb\0\x43" + bytes(65),  # filled up
        b"\xff\xd8" + JFIF + b"\xff\xfe\0\x05abc" + b"\0stray" + bytes(64),
    ],
)
def test_jpegs_as_cameras_write_them(head: bytes) -> None:
    assert media_types.identify(head) is JPEG


@each_case("blocks", [b"", b"!\xfe\x03abc\x02de\0", b"!\xff\x0bNETSCAPE2.0\x03\1\0\0\0!\xf9\x04\0\0\0\0\0"])
@each_case("table", [0, 1, 7])
def test_gifs_with_and_without_tables_and_extensions(blocks: bytes, table: int) -> None:
    picture = b"," + bytes(8)
    local = bytes([0x80 | table]) + bytes(3 << (table + 1))
    own = b"GIF89a\1\0\1\0\0\0\0" + blocks + picture + local + b"\x08\1\0\0;"
    common = b"GIF87a\1\0\1\0" + local[:1] + b"\0\0" + local[1:] + blocks + picture + b"\0\2\1\0\0;"
    assert media_types.identify(own) is GIF
    assert media_types.identify(common) is GIF


POLYGLOTS = {
    "gif and script": b"GIF89a/*<script>alert(1)</script>*/=1;" + bytes(100),
    "gif and html": b"GIF89a<html><body onload=alert(1)>" + b" " * 100,
    "gif without a picture": b"GIF89a\1\0\1\0\0\0\0;<script>",
    "gif and an extension of the wrong size": b"GIF89a\1\0\1\0\0\0\0!\xf9\x09" + bytes(100),
    "gif and a code size that none has": b"GIF89a\1\0\1\0\0\0\0," + bytes(9) + b"\x3c" + bytes(100),
    "jpeg and mp4": b"\xff\xd8\xff\xe0ftypisom" + bytes(100),
    "jpeg of another application and mp4": b"\xff\xd8\xff\xe1ftypisom" + bytes(100),
    "jpeg and html": b"\xff\xd8\xff<html><body>" + b" " * 100,
    "jpeg whose second marker is none": b"\xff\xd8\xff\xfe\0\x04ab<script>/" + bytes(100),
    "jpeg of a length that can't be": b"\xff\xd8\xff\xfe\0\1ab" + bytes(100),
    "png and html": b"\x89PNG\r\n\x1a\n<html>" + b" " * 100,
    "png of a wrong crc": png(crc=1),
    "png of no width": png(b"\0\0\0\0\0\0\0\1\x08\2\0\0\0"),
    "png and no chunk": png(then=b"<html><body>"),
    "webp and html": b"RIFF\xff\xff\0\0WEBP<html><body>" + b" " * 100,
    "webp whose chunk is longer than itself": b"RIFF\x10\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(100),
    "webp without a start code": b"RIFF\xff\0\0\0WEBPVP8 \x20\0\0\0" + bytes(100),
    "webm and html": b"\x1a\x45\xdf\xa3<html>webm" + b" " * 100,
    "webm without a segment": b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm<html>" + bytes(100),
    "ftyp of a size that can't be": b"<!--ftypisom" + bytes(100),
    "ftyp of an odd size": b"\0\0\0\x13ftypisom" + bytes(7) + BOX,
    "ftyp and html": ftyp(b"isom", b"mp41", then=b"<html><body><script>"),
    "ftyp and nothing": ftyp(b"isom", b"mp41", then=b""),
    "exe": b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff\0\0" + bytes(100),
    "elf": b"\x7fELF\2\1\1" + bytes(100),
    "zip": archive(),
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(100),
    "html": b"<!DOCTYPE html><html><head>",
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "text": b"hello\n",
}


@each_case("head", POLYGLOTS.values())
def test_what_only_begins_like_media(head: bytes) -> None:
    assert media_types.identify(head) is None


@each_case("recipe", REAL)
def test_every_shorter_head_is_the_same_type_or_none(recipe: str) -> None:
    whole = sample(recipe)[:200]
    lengths = range(len(whole)) if cases.thorough else [*range(64), *range(64, len(whole), 7)]
    found = {length: media_types.identify(whole[:length]) for length in lengths}
    assert set(found.values()) <= {None, REAL[recipe]}
    assert all(found[length] is None for length in range(12))


@given(
    st.sampled_from(["jpg", "png", "gif", "webp", "mp4", "mov", "webm"]), st.integers(0, 60), st.binary(max_size=300)
)
def test_identify_never_raises(recipe: str, length: int, rest: bytes) -> None:
    found = media_types.identify(sample(recipe)[:length] + rest)
    assert found is None or found in MEDIA_TYPES


def test_only_the_head_is_looked_at() -> None:
    head = sample("animated.gif")[:HEAD_BYTES]
    assert len(head) == HEAD_BYTES
    assert media_types.identify(head + b"<html>" * 1000) is GIF


def test_check_head_says_what_it_is_instead() -> None:
    with pytest.raises(Refused, match="not MP4: its first bytes are of PNG") as refused:
        media_types.check_head(sample("png"), MP4)
    assert refused.value.problem is Problem.NOT_MEDIA
    with pytest.raises(Refused, match="not GIF: its first bytes match none of JPEG, PNG") as refused:
        media_types.check_head(b"MZ", GIF)
    assert refused.value.problem is Problem.NOT_MEDIA


# -- names and content types


def test_the_published_list() -> None:
    assert [m.name for m in MEDIA_TYPES] == ["JPEG", "PNG", "GIF", "WebP", "MP4", "MOV", "WebM"]
    extensions = [extension for m in MEDIA_TYPES for extension in m.extensions]
    content_types = [content_type for m in MEDIA_TYPES for content_type in m.content_types]
    for values in (extensions, content_types):
        assert len(set(values)) == len(values)
        assert values == [value.lower() for value in values]
    assert all(m.content_type.startswith(f"{m.kind}/") for m in MEDIA_TYPES)


@each_case(
    ("filename", "content_type", "expected"),
    [
        ("photo.jpg", "image/jpeg", JPEG),
        ("photo.JPEG", "IMAGE/JPEG", JPEG),
        ("photo.jfif", "image/jpg", JPEG),
        ("a.png", "image/png; charset=binary", PNG),
        ("a.webm", "video/webm;codecs=vp8,opus", WEBM),  # what a browser's MediaRecorder says
        ("a.png", 'image/png; name="a/b.png"', PNG),
        ("a.gif", " image/gif ;x=y", GIF),
        ("a.webp", "image/webp", WEBP),
        ("a.mp4", "video/mp4", MP4),
        ("a.m4v", "video/x-m4v", MP4),
        ("a.m4v", "video/mp4", MP4),
        ("a.mov", "video/quicktime", MOV),
        ("a.qt", "video/quicktime", MOV),
        ("a.webm", 'video/webm; codecs="vp8, vorbis"', WEBM),
        # Only the extension is used.
        ("../../x.jpg", "image/jpeg", JPEG),
        ("C:\\dir.png\\x.jpg", "image/jpeg", JPEG),
        ("a.exe.jpg", "image/jpeg", JPEG),
        ("Bildschirmfoto 3.04.05\u202fPM.png", "image/png", PNG),
        ("\u200eWhatsApp 図.jpg", "image/jpeg", JPEG),
        ("' OR 1=1; --.jpg", "image/jpeg", JPEG),
    ],
)
def test_declared(filename: str, content_type: str, expected: MediaType) -> None:
    assert PUBLISHED_TYPES.declared(filename, content_type) is expected


@each_case(
    "filename",
    [
        "", "jpg", ".jpg", "dir/.jpg", "x.jpg/", "x", "x.", "x.jpg.", "x.jpg ", "x.jpg. .", "a.jpg.exe", "a.heic",
        "x.jpg::$DATA", "x.jpg?", "x.jpg;y", "x.jpg%00.exe", "photo\u202egpj.exe", "x.mp\uff14", "a.jpg\u200b",
        "x.exe", "x.svg", "x.html", "x.jp\u0261", "/.jpg", "..",
    ],
)  # fmt: skip
def test_names_that_say_nothing_on_the_list(filename: str) -> None:
    with pytest.raises(Refused) as refused:
        PUBLISHED_TYPES.declared(filename, "image/jpeg")
    assert (refused.value.problem, refused.value.field) == (Problem.UNSUPPORTED_MEDIA, "filename")


@each_case("bad", ["\0", "\r\nX-Evil: 1\r\n", "\n", "\t", "\x1b[2J", "\x7f", "\x85", "\u202e", "\u2028", "\ud800"])
@each_case("place", ["{}a.jpg", "a{}.jpg", "dir{}/a.jpg", "a.jpg{}"])
def test_names_with_characters_that_do_harm(bad: str, place: str) -> None:
    with pytest.raises(Refused, match="control characters") as refused:
        PUBLISHED_TYPES.declared(place.format(bad), "image/jpeg")
    assert refused.value.field == "filename"
    assert str(refused.value).isprintable()


@each_case(
    "content_type",
    [
        "", "image", "image/", "jpg", "text/html", "application/octet-stream", "image/heic", "video/x-matroska",
        "image/jpeg\r\nX-Evil: 1", "image/jpeg;\r\nX: 1", "image/jpeg\0", "image/jpeg\n", "image/jpeg, text/html",
        "image/jpeg;a=b,text/html", 'image/jpeg;a="b,c" , text/html;x', "image/jpeg text/html", "image/svg+xml",
        "image/*", "*/*", "/", " ",
        "image/jpeg; é", "image / jpeg",
    ],
)  # fmt: skip
def test_content_types_that_are_not_on_the_list(content_type: str) -> None:
    with pytest.raises(Refused, match="image/jpeg, image/png") as refused:
        PUBLISHED_TYPES.declared("a.jpg", content_type)
    assert (refused.value.problem, refused.value.field) == (Problem.UNSUPPORTED_MEDIA, "contentType")


def test_a_name_and_a_content_type_that_disagree() -> None:
    with pytest.raises(Refused, match=r"means JPEG and .* means MP4: JPEG goes with image/jpeg") as refused:
        PUBLISHED_TYPES.declared("a.jpg", "video/mp4")
    assert (refused.value.problem, refused.value.field) == (Problem.UNSUPPORTED_MEDIA, "contentType")
    with pytest.raises(Refused):
        PUBLISHED_TYPES.declared("a.mov", "video/mp4")


@given(st.text(max_size=40), st.text(max_size=40))
def test_declared_refuses_or_responds(filename: str, content_type: str) -> None:
    try:
        found, problem = PUBLISHED_TYPES.declared(filename, content_type), ""
    except Refused as e:
        found, problem = JPEG, str(e)
    assert found in MEDIA_TYPES
    assert problem.isprintable()
