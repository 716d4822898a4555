"""What the bytes of a file must be: the media types by name, content type and first bytes, and the structure of a whole
file, by a few short reads.

Pure. Knows neither uploads nor HTTP. Needs no pydantic, so that `bigupload check-url` runs without the extra `service`.

The `is_…` functions check whether a file's first bytes follow its type's specification. Libraries of magic numbers
accept six bytes ("GIF89a" and then a script); these read the next few structures, as far as `head` reaches. A structure
that is cut off by the end of `head` is accepted. They do not know which types are allowed.

The walks check a whole file: whether a film has its index and its end, a PNG its picture, and whether a picture could
be decoded in a sane amount of memory. Each is a generator that yields where it wants to read and how many bytes, gets
them (fewer at the end of the file), and raises Refused if the file is not sound. It reads up to MOST_READS times PIECE
bytes beyond the file's head, and of a JPEG up to MOST_BLOCKS times BLOCK bytes more. What it has not decided by then
is taken for sound, but for a JPEG. The checks are not decoders: docs/service-policy.md lists what they do not see.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Awaitable, Callable, Generator
from typing import Literal

from bigupload.records import dataclass
from bigupload.service.problems import Problem, Refused

MAX_FILE_SIZE = 5_000_000_000
"""Bytes: 5 GB."""
HEAD_BYTES = 4096
"""Bytes at a file's beginning, which show its type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaType:
    """A supported type."""

    name: str
    """For people: "JPEG"."""
    content_type: str
    """The canonical one."""
    extension: str
    """The canonical one, without its dot: what keys end in."""
    kind: Literal["image", "video", "other"]
    other_extensions: tuple[str, ...] = ()
    other_content_types: tuple[str, ...] = ()
    """Unregistered, but what clients really send. The canonical one is what an object is to be given.

    A presigned PUT must be signed with the spelling that its client declared, as the client will send that again.
    """

    as_attachment: bool = False
    """Whether its objects are served as downloads alone (`Content-Disposition: attachment`)."""

    @property
    def extensions(self) -> tuple[str, ...]:
        """All that are accepted, in lower case, the canonical one first."""
        return (self.extension, *self.other_extensions)

    @property
    def content_types(self) -> tuple[str, ...]:
        """All that are accepted, in lower case, the canonical one first."""
        return (self.content_type, *self.other_content_types)


JPEG = MediaType(
    name="JPEG",
    content_type="image/jpeg",
    extension="jpg",
    kind="image",
    other_extensions=("jpeg", "jpe", "jfif"),  # Windows saves pictures from the web as .jfif
    # The commonest mistake in clients written by hand; the type of older Windows.
    other_content_types=("image/jpg", "image/pjpeg"),
)
PNG = MediaType(name="PNG", content_type="image/png", extension="png", kind="image")
GIF = MediaType(name="GIF", content_type="image/gif", extension="gif", kind="image")
WEBP = MediaType(name="WebP", content_type="image/webp", extension="webp", kind="image")
MP4 = MediaType(
    name="MP4",
    content_type="video/mp4",
    extension="mp4",
    kind="video",
    other_extensions=("m4v",),
    other_content_types=("video/x-m4v",),  # the type that browsers give a .m4v
)
MOV = MediaType(
    name="MOV",
    content_type="video/quicktime",
    extension="mov",
    kind="video",
    other_extensions=("qt",),
    other_content_types=("video/mov",),  # made of the extension, by hand
)
WEBM = MediaType(name="WebM", content_type="video/webm", extension="webm", kind="video")

MEDIA_TYPES: tuple[MediaType, ...] = (JPEG, PNG, GIF, WEBP, MP4, MOV, WEBM)
NAMES = ", ".join(media.name for media in MEDIA_TYPES)
"""For messages."""

_BY_CONTENT_TYPE = {content_type: media for media in MEDIA_TYPES for content_type in media.content_types}
_CONTENT_TYPE = re.compile(
    r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*(?:;(?![^,]*,[^/]*/)[\t -~]*)?"
)
"""RFC 9110, 8.3.1, parameters unread. Nothing that could end a header's line gets through, and no slash after a comma:
of `image/jpeg;a=b,text/html`, browsers take the last type. https://fetch.spec.whatwg.org/#concept-header-extract-mime-type
"""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202d\u202e\ud800-\udfff]")
"""In file names: control characters, line separators, overrides of the writing direction, halves of characters."""


def extension_of(filename: str) -> str:
    """A file name's extension in lower case, without its dot; empty where there is none.

    Nothing else of the name is used, so that a path does no harm.
    """
    base = re.split(r"[/\\]", filename)[-1]
    stem, _, extension = base.rpartition(".")
    return extension.lower() if stem and extension.isascii() else ""


def content_type_of(content_type: str) -> str:
    """A Content-Type in lower case, without its parameters (`; charset=binary`); empty if it is malformed."""
    match = _CONTENT_TYPE.fullmatch(content_type)
    return match[1].lower() if match else ""


def is_of(content_type: str, pattern: str) -> bool:
    """Return whether a content type, in lower case, is `pattern`, or of a family like `image/*`."""
    return content_type.startswith(pattern[:-1]) if pattern.endswith("/*") else content_type == pattern


def by_content_type(content_type: str) -> MediaType | None:
    """The published type that a Content-Type names."""
    return _BY_CONTENT_TYPE.get(content_type_of(content_type))


def is_unsafe(name: str) -> bool:
    """Return whether a name has characters that break lines, hide its ending, or are halves of one."""
    return _UNSAFE.search(name) is not None


def check_filename(filename: str) -> None:
    """Raise `Refused` for a name that hides what it is."""
    if is_unsafe(filename):
        message = "the file name contains control characters, or characters that hide its ending: rename the file"
        raise Refused(Problem.UNSUPPORTED_MEDIA, message, field="filename")


def identify(head: bytes) -> MediaType | None:
    """Return the media type of a file by its first bytes (up to HEAD_BYTES of them are looked at). Never raises.

    None for anything that is not on the list, or could be two things at once.
    """
    built = [media for media in MEDIA_TYPES if _FORMATS[media.name][0](bytes(head[:HEAD_BYTES]))]
    return built[0] if len(built) == 1 else None


def check_head(head: bytes, declared: MediaType) -> None:
    """Raise `Refused` where the first bytes are not those of the declared type, if that is one of the published.

    MP4 and MOV count as one: players go by the content, and not by the name.
    """
    if declared.name not in _FORMATS:  # an operator's own type: nothing is known of its bytes
        return
    found = identify(head)
    if found is None:
        raise Refused(Problem.NOT_MEDIA, f"the file is not {declared.name}: its first bytes match none of {NAMES}")
    if found.name != declared.name and not {found.name, declared.name} <= {MP4.name, MOV.name}:
        raise Refused(Problem.NOT_MEDIA, f"the file is not {declared.name}: its first bytes are of {found.name}")


Walk = Generator[tuple[int, int], bytes, None]
Read = Callable[[int, int], Awaitable[bytes | None]]
"""`read(at, length)` returns bytes of the file from `at` on; None: the store can't read ranges."""

PIECE = 32
"""Bytes of a read: a box's or a chunk's header."""
MOST_READS = 4
"""Reads beyond the head. Films have their index at the beginning or the end, with one or two boxes on the way."""
BLOCK = 1 << 20
"""Bytes of a longer read, for the few JPEGs with many segments before the picture: profiles, a map of depths."""
MOST_BLOCKS = 16
"""Longer reads. A map of depths has some megabytes; a file with more than this before its picture is refused."""
MAX_PIXELS = 1 << 28
"""Pixels of a picture: 16,384 x 16,384, which needs 1 GiB to decode. Phones make 200 million. A GIF of a few bytes can
claim 65,535 x 65,535."""

_BOX_NAME = re.compile(rb"[\x20-\x7e\xa9]{4}")
"""The four characters of a box's type. QuickTime's may begin with a copyright sign."""
_CONTENT = frozenset({b"moov", b"moof", b"mdat"})
_AROUND = frozenset({b"ftyp", b"free", b"skip", b"wide", b"uuid", b"meta", b"udta", b"styp", b"sidx", b"pnot", b"PICT"})
"""Boxes whose length may be believed. Of other names, more bytes than the file has are noise."""
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
"""A JPEG marker that begins a segment. ITU-T T.81, table B.1. After stray bytes, 0xFF may stand before 0 or itself."""
_FRAME = 9
"""Bytes of a frame's header up to its width."""
_MOST_SEGMENTS = 4096
"""More than any picture has. Those of two bytes each would occupy the processor for seconds."""
_START_OF_SCAN = 0xDA


def check_start(name: str, head: bytes, size: int) -> None:
    """Check a file of which only the head is known.

    Args:
        name: The name of a media type, as in `media`.
        head: The file's first bytes.
        size: The file's size in bytes.

    Raises:
        Refused: NOT_MEDIA or FILE_TOO_LARGE.
    """
    next(_walk(name, head, size), None)


async def check_file(name: str, head: bytes, size: int, read: Read) -> None:
    """Check a file that can be read. As `check_start`; also raises what `read` raises."""
    walk = _walk(name, head, size)
    try:
        at, length = next(walk)
        while (piece := await read(at, length)) is not None:
            at, length = walk.send(piece)
    except StopIteration:
        return


def _walk(name: str, head: bytes, size: int) -> Walk:
    if name in _FORMATS:
        yield from _FORMATS[name][1](_Reader(head, size)) or ()


class _Reader:
    """A file's head, and reads beyond it."""

    def __init__(self, head: bytes, size: int) -> None:
        self.head = head
        self.size = size
        self._reads = self._blocks = 0
        self._block_at, self._block = 0, b""

    def piece(self, at: int) -> Generator[tuple[int, int], bytes, bytes | None]:
        """Return up to PIECE bytes at `at`; None if there were enough reads."""
        known = yield from self.stretch(at, most_blocks=0)
        return None if known is None else known[0][known[1] :][:PIECE]

    def stretch(
        self, at: int, *, most_blocks: int = MOST_BLOCKS
    ) -> Generator[tuple[int, int], bytes, tuple[bytes, int] | None]:
        """Return bytes, and where among them `at` is: PIECE of them or more, or up to the end of the file.

        It reads as `piece`, and then blocks. None: there were enough of those, too.
        """
        if at >= self.size:
            return b"", 0
        for known_at, known in ((0, self.head), (self._block_at, self._block)):
            end = known_at + len(known)
            if known_at <= at and (at + PIECE <= end or end >= self.size):
                return known, at - known_at
        short = self._reads < MOST_READS
        if not short and self._blocks == most_blocks:
            return None
        self._reads += short
        self._blocks += not short
        self._block_at, self._block = at, (yield at, PIECE if short else BLOCK)
        return self._block, 0


# -- films


def _film(file: _Reader) -> Walk:
    """The boxes of an MP4 or MOV, one after another, up to the end. ISO/IEC 14496-12, 4.2.

    What follows a complete film is not judged: cameras and editors append their own data.
    """
    at, has_index = 0, False
    while at < file.size:
        piece = yield from file.piece(at)
        if piece is None:
            return
        name, length = _box(piece, file.size - at)
        if length < 8:  # no box
            break
        if at + length > file.size:
            if name in _CONTENT or (name in _AROUND and not has_index):
                raise _cut_off(at + length, file.size)
            break
        first = 20 if piece[:4] == b"\0\0\0\1" else 12  # behind a length of 64 bits; its own name has 4 bytes before
        has_index |= name == b"moov" and _BOX_NAME.fullmatch(piece[first : first + 4]) is not None
        at += length
    if not has_index:
        message = "the film has no index (moov), so nothing can play it: it was cut off, or its recording never ended"
        raise Refused(Problem.NOT_MEDIA, message)


def _box(piece: bytes, left: int) -> tuple[bytes, int]:
    """A box's type and its length in bytes, header included; 0 where it is not a box."""
    length, name = int.from_bytes(piece[:4]), piece[4:8]
    if len(piece) < 8 or not _BOX_NAME.fullmatch(name):
        return b"", 0
    if length == 1 and len(piece) >= 16:
        return name, int.from_bytes(piece[8:16])
    return name, left if length == 0 else length


def _webm(file: _Reader) -> None:
    """The segment's size, where the writer knew it. RFC 9559, 5.1."""
    end = webm_end(file.head)
    if end is not None and end > file.size:
        raise _cut_off(end, file.size)


def _cut_off(end: int, size: int) -> Refused:
    return Refused(Problem.NOT_MEDIA, f"the file is cut off: it has {size:,} bytes, of at least {end:,}")


# -- pictures


def _png(file: _Reader) -> Walk:
    """The chunks up to the first of the picture. https://www.w3.org/TR/png-3/#5DataRep"""
    _check_pixels(int.from_bytes(file.head[16:20]), int.from_bytes(file.head[20:24]))
    at = 8
    while True:
        piece = yield from file.piece(at)
        if piece is None:
            return
        length, name = int.from_bytes(piece[:4]), piece[4:8]
        if name == b"IDAT":
            return
        if len(name) < 4 or not name.isalpha() or name == b"IEND":
            raise Refused(Problem.NOT_MEDIA, "the PNG has no picture (IDAT)")
        at += 12 + length


def _gif(file: _Reader) -> None:
    head, at = file.head, gif_picture(file.head)
    _check_pixels(int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little"))
    if at is not None and at + 9 <= len(head):
        _check_pixels(int.from_bytes(head[at + 5 : at + 7], "little"), int.from_bytes(head[at + 7 : at + 9], "little"))


def _webp(file: _Reader) -> None:
    """The canvas of an extended file; a plain one can't be too large. RFC 9649, 2.7."""
    if file.head[12:16] == b"VP8X":
        width, height = (int.from_bytes(file.head[at : at + 3], "little") + 1 for at in (24, 27))
        _check_pixels(width, height)


def _jpeg(file: _Reader) -> Walk:
    """The segments up to the frame's header, past previews, profiles and stray bytes. ITU-T T.81, B.2.2.

    As libjpeg reads them (`next_marker`): whoever could hide the frame's header here would get a decoder to find it.
    """
    at = 2
    for _ in range(_MOST_SEGMENTS):
        known = yield from file.stretch(at)
        if known is None:
            break
        data, start = known
        found = _MARKER.search(data, start)
        place = found.start() if found is not None else max(start, len(data) - 1)  # a marker may begin with the last
        if len(data) - place < _FRAME:
            if at + len(data) - start >= file.size:
                return  # nothing that a decoder would show
            at += max(1, place - start)
            continue
        marker = data[place + 1]
        if marker in _START_OF_FRAME:
            _check_pixels(int.from_bytes(data[place + 7 : place + 9]), int.from_bytes(data[place + 5 : place + 7]))
            return
        if marker == _START_OF_SCAN:
            return
        at += place - start + 2 + int.from_bytes(data[place + 2 : place + 4])
    raise Refused(Problem.NOT_MEDIA, f"the JPEG has no picture among its first {at:,} bytes: send it without metadata")


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        message = f"the picture has {width:,} x {height:,} pixels, and the limit is {MAX_PIXELS:,}"
        raise Refused(Problem.FILE_TOO_LARGE, message)


def is_jpeg(head: bytes) -> bool:
    """SOI, then two segments with plausible markers and lengths. ITU-T T.81, B.1.

    No more than two: decoders skip stray bytes further on, and cameras leave some.
    """
    if not head.startswith(b"\xff\xd8\xff") or len(head) < 20 or head[4:8] == b"ftyp":  # a film's box, to some readers
        return False
    at, seen = 2, 0
    while seen < 2 and at + 4 <= len(head):
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4])
        if head[at] != 0xFF:
            return False
        if marker == 0xFF:  # a marker may have fill bytes before it
            at += 1
            continue
        if marker not in _JPEG_SEGMENTS or length < 2:
            return False
        if not seen and marker == 0xE0 and head[at + 4 : at + 8] not in (b"JFIF", b"JFXX", b"AVI1"):
            return False
        at, seen = at + 2 + length, seen + 1
    return seen > 0


_JPEG_SEGMENTS = frozenset({*range(0xC0, 0xD0), *range(0xDB, 0xF0), 0xFE} - {0xC8})


def is_png(head: bytes) -> bool:
    """Signature, an IHDR of non-zero size with its right CRC, and a chunk after it. https://www.w3.org/TR/png-3/"""
    if not head.startswith(b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR") or len(head) < 41:
        return False
    header = head[12:29]
    sized = header[4:8] != bytes(4) and header[8:12] != bytes(4)
    return sized and zlib.crc32(header) == int.from_bytes(head[29:33]) and head[37:41].isalpha()


def is_gif(head: bytes) -> bool:
    """Header, colour table, then extensions in sub-blocks up to the first picture. GIF89a specification, 17-26."""
    at = gif_picture(head)
    if at is None:
        return False
    if at >= len(head):
        return True
    table = head[at + 9 : at + 10]  # the picture's descriptor, after whose table the code size must be one of LZW's
    size = at + 10 + (3 << ((table[0] & 7) + 1) if table and table[0] & 0x80 else 0)
    return size >= len(head) or 1 <= head[size] <= 11


def gif_picture(head: bytes) -> int | None:
    """Return the offset of the first picture's descriptor, which may be beyond `head`; None if this is not a GIF."""
    if not head.startswith((b"GIF87a", b"GIF89a")) or len(head) < 14:
        return None
    flags = head[10]
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while at < len(head):
        if head[at] == 0x2C:
            return at
        if head[at] != 0x21:  # also a trailer, 0x3B: a GIF without a picture shows nothing
            return None
        label = head[at + 1 : at + 3]
        # Graphic control is of 4 bytes, application of 11, plain text of 12; a comment of any.
        if len(label) == 2 and label[1] != {0xF9: 4, 0xFF: 11, 0x01: 12}.get(label[0], label[1]):
            return None
        at += 2
        while at < len(head) and head[at]:
            at += 1 + head[at]
        at += 1
    return at


def is_webp(head: bytes) -> bool:
    """Whether it is RIFF whose first chunk is an image's and fits into its size. RFC 9649."""
    if len(head) < 30 or not head.startswith(b"RIFF") or head[8:12] != b"WEBP":
        return False
    whole, name, size = int.from_bytes(head[4:8], "little"), head[12:16], int.from_bytes(head[16:20], "little")
    if size + 12 > whole:
        return False
    if name == b"VP8 ":
        return head[23:26] == b"\x9d\x01\x2a"
    if name == b"VP8L":
        return head[20] == 0x2F
    return name == b"VP8X" and size == 10


def is_webm(head: bytes) -> bool:
    """An EBML header whose DocType is "webm" (Matroska says "matroska"), then the segment. RFC 8794, RFC 9559."""
    header = _ebml_element(head, 0)
    if header is None or header[0] != b"\x1a\x45\xdf\xa3":
        return False
    at, end = header[1], header[2]
    if end + 4 > len(head):
        return False
    doc_type = b""
    while at < end:
        element = _ebml_element(head, at)
        if element is None or element[2] > end:
            return False
        if element[0] == b"\x42\x82":
            doc_type = head[element[1] : element[2]].rstrip(b"\0")
        at = element[2]
    return doc_type == b"webm" and (head[end : end + 4] == b"\x18\x53\x80\x67" or head[end] == 0xEC)  # 0xEC: padding


def webm_end(head: bytes) -> int | None:
    """Return the end of the segment of a WebM; None where its writer did not know it, or `head` does not reach it."""
    at = 0
    while (element := _ebml_element(head, at)) is not None:
        if element[0] == b"\x18\x53\x80\x67":
            return element[2]
        at = element[2]
    return None


def _ebml_element(head: bytes, at: int) -> tuple[bytes, int, int] | None:
    """Return the id of the element, and where its data begin and end. None: no element, or one of unknown size."""
    if at >= len(head) or head[at] < 0x10:
        return None
    size_at = at + 9 - head[at].bit_length()
    if size_at >= len(head) or not head[size_at]:
        return None
    width = 9 - head[size_at].bit_length()
    data = size_at + width
    size = int.from_bytes(head[size_at:data]) & ((1 << 7 * width) - 1)
    if data > len(head) or size == (1 << 7 * width) - 1:
        return None
    return head[at:size_at], data, data + size


# -- ISO base media (MP4) and QuickTime, which it was made from

_MP4_BRAND = re.compile(
    rb"iso[m1-9a-c]|mp4[12]|mp71|avc1|hvc1|hev1|av01|M4V[ HP]|MSNV|NDS[CHMPS]|dash|cmf[c2-9]|XAVC|CAEP|pana"
)
_PHONE_BRAND = re.compile(rb"3g[egprs][4-9a-h]")
"""3GPP: of audio, H.263 or, if the compatible brands name avc1, of the same film as in an MP4. 3GPP TS 26.244, 5.3."""
_OTHER_BRAND = re.compile(
    rb"3g|hei[cxms]|hev[cxms]|mif|msf1|avi[fs]|jp[2xm] |mjp2|mj2s|crx |M4[ABP] |F4|f4|aax|dv|qt  |miaf|MA1"
)
"""Still pictures, audio, phones' 3GPP, Flash: built alike, and something else."""
_TOP_BOX = re.compile(rb"[A-Za-z0-9 ]{4}")


def is_mp4(head: bytes) -> bool:
    """A file type box whose major brand is MP4's; one that nobody knows counts if it names a brand of MP4's beside.

    ISO/IEC 14496-12, 4.3. The compatible brands alone would not do: a HEIC picture may name mp41.
    """
    brands = _brands(head)
    if not brands:
        return False
    is_film_of_a_phone = _PHONE_BRAND.fullmatch(brands[0]) and b"avc1" in brands[1:]
    if _OTHER_BRAND.match(brands[0]) and not is_film_of_a_phone:
        return False
    return any(_MP4_BRAND.fullmatch(brand) for brand in brands)


def is_mov(head: bytes) -> bool:
    """A file type box of QuickTime's, or, before there were such boxes, one of its atoms. QuickTime File Format, 1."""
    brands = _brands(head)
    if brands:
        return brands[0] == b"qt  "
    size, name = int.from_bytes(head[:4]), head[4:8]
    if name == b"moov":
        return size >= 16 and head[12:16] in (b"mvhd", b"cmov", b"prfl", b"udta")
    if name == b"mdat":  # 1: its real size of 64 bits comes next
        return size >= 8 or (size == 1 and len(head) >= 16 and int.from_bytes(head[8:16]) >= 16)
    if name == b"pnot":
        return size == 20 and _goes_on(head, 20)
    return name in (b"wide", b"free", b"skip") and size >= 8 and _goes_on(head, size)


def _goes_on(head: bytes, at: int) -> bool:
    """Whether what follows an unassuming first atom is one that makes a film; unseen where the head ends before."""
    return at + 8 > len(head) >= 4096 or head[at + 4 : at + 8] in _FILM_ATOMS


_FILM_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"PICT")


def _brands(head: bytes) -> list[bytes]:
    """The major brand and the compatible ones; empty where `head` has no sane file type box with a box after it.

    It should be the first box. Some writers leave an empty one before it.
    """
    head = head[_padding(head) :]
    size = int.from_bytes(head[:4])
    if head[4:8] != b"ftyp" or not 16 <= size <= 1024 or size % 4 or len(head) < size + 8:
        return []
    if not _TOP_BOX.fullmatch(head[size + 4 : size + 8]) or 2 <= int.from_bytes(head[size : size + 4]) < 8:
        return []
    return [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]


def _padding(head: bytes) -> int:
    """Return the number of bytes of empty boxes that `head` begins with."""
    at = 0
    while head[at + 4 : at + 8] in (b"free", b"skip", b"wide") and int.from_bytes(head[at : at + 4]) >= 8:
        at += int.from_bytes(head[at : at + 4])
    return at


_FORMATS: dict[str, tuple[Callable[[bytes], bool], Callable[[_Reader], Walk | None]]] = {
    "JPEG": (is_jpeg, _jpeg),
    "PNG": (is_png, _png),
    "GIF": (is_gif, _gif),
    "WebP": (is_webp, _webp),
    "MP4": (is_mp4, _film),
    "MOV": (is_mov, _film),
    "WebM": (is_webm, _webm),
}
"""By the names of the media types: whether a file begins like one, and the check of the whole file."""
