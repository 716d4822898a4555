"""Check a whole file by a few short reads: whether a film has its index and its end, a PNG its picture, and whether a
picture could be decoded in a sane amount of memory.

Pure: each check is a generator that yields where it wants to read and how many bytes, gets them (fewer at the end of
the file), and raises Refused if the file is not sound. It reads up to MOST_READS times PIECE bytes beyond the file's
head, and of a JPEG up to MOST_BLOCKS times BLOCK bytes more. What it has not decided by then is taken for sound, but
for a JPEG. The checks are no decoders: docs/service-policy.md lists what they do not see.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator

from bigupload.service import media_structure
from bigupload.service.problems import Problem, Refused

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
    walk = _WALKS.get(name)
    if walk is not None:
        yield from walk(_Reader(head, size))


class _Reader:
    """A file's head, and reads beyond it."""

    def __init__(self, head: bytes, size: int) -> None:
        self.head = head
        self.size = size
        self._reads = self._blocks = 0
        self._block_at, self._block = 0, b""

    def piece(self, at: int) -> Generator[tuple[int, int], bytes, bytes | None]:
        """Return up to PIECE bytes at `at`; None if there were enough reads."""
        if at >= self.size:
            return b""
        if at + PIECE <= len(self.head) or len(self.head) >= self.size:
            return self.head[at : at + PIECE]
        if self._reads == MOST_READS:
            return None
        self._reads += 1
        return (yield at, PIECE)

    def stretch(self, at: int) -> Generator[tuple[int, int], bytes, tuple[bytes, int] | None]:
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
        if not short and self._blocks == MOST_BLOCKS:
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
        raise Refused(
            Problem.NOT_MEDIA,
            "the film has no index (moov), so nothing can play it: it was cut off, or its recording never ended",
        )


def _box(piece: bytes, left: int) -> tuple[bytes, int]:
    """A box's type and its length in bytes, header included; 0 where it is no box."""
    length, name = int.from_bytes(piece[:4]), piece[4:8]
    if len(piece) < 8 or not _BOX_NAME.fullmatch(name):
        return b"", 0
    if length == 1 and len(piece) >= 16:
        return name, int.from_bytes(piece[8:16])
    return name, left if length == 0 else length


def _webm(file: _Reader) -> Walk:
    """The segment's size, where the writer knew it. RFC 9559, 5.1."""
    yield from ()
    end = media_structure.webm_end(file.head)
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


def _gif(file: _Reader) -> Walk:
    yield from ()
    head, at = file.head, media_structure.gif_picture(file.head)
    _check_pixels(int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little"))
    if at is not None and at + 9 <= len(head):
        _check_pixels(int.from_bytes(head[at + 5 : at + 7], "little"), int.from_bytes(head[at + 7 : at + 9], "little"))


def _webp(file: _Reader) -> Walk:
    """The canvas of an extended file; a plain one can't be too large. RFC 9649, 2.7."""
    yield from ()
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
        raise Refused(
            Problem.FILE_TOO_LARGE,
            f"the picture has {width:,} x {height:,} pixels, and the limit is {MAX_PIXELS:,}",
        )


_WALKS: dict[str, Callable[[_Reader], Walk]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "WebP": _webp,
    "MP4": _film,
    "MOV": _film,
    "WebM": _webm,
}
"""By the names of the media types."""
