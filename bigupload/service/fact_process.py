"""The process that reads files which anyone may have sent, to find their facts: the size of a picture, the duration
of a film. `fact_finder` starts it.

Pictures are read by Pillow, headers alone, and all else by libmediainfo. Both are written in C and have had errors. So
this process has neither the service's secrets nor its connections, and forks for each file: a crash ends the child of
one file. Limits of memory, time and descriptors hold for the child. It is not a jail beyond that: code that an attacker
runs in it may do to other processes what the service's user may.

A child reads the object through a socket, from which it gets the pieces that it asks for. It sends its answer there.
Knows nothing of the service, and imports nothing of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import struct
import warnings
from collections.abc import Callable
from typing import Any

OPENING = struct.Struct("!QI")
"""The first message to a child: the object's size, and the number of bytes of its beginning that follow."""
REQUEST = struct.Struct("!QI")
"""A message from a child: offset and number of bytes to read; or the length of its answer and 0, then the answer."""
LENGTH = struct.Struct("!I")
"""The length of a piece, before each."""
PIECE = 512 * 1024
"""Bytes of a piece. A film's index is before or after its pictures, and a piece has most of an index."""
MOST_PIECES = 6
"""Pieces of one file, whatever its size. A child that needs more has to answer with what it knows."""
READY = b"\1"

_MEMORY = 512 * 1024 * 1024
"""Bytes of address space of a child. The process has some 60 MB of it before it reads anything."""
_CPU_SECONDS = 1
"""The CPU time of a child. Most files take a twentieth of it, and 12 of 2,000 files with damaged bytes ran into it."""
_SECONDS = 10
"""After this time a child is killed, even if it does nothing."""
_PARSE_SPEED = 0.01
"""MediaInfo's. At 0, it gives no frame rate of a Matroska with B-frames; at more, it reads more than the index."""
_CHUNK = 64 * 1024
"""Bytes that MediaInfo gets at once. It may know enough after any of them."""
_ORIENTATION = 0x0112
"""Exif's: https://www.cipa.jp/std/documents/download_e.html?DC-008-Translation-2023-E"""
_TURNED = {"0": 1, "90": 6, "180": 3, "270": 8}
"""The orientation of a film, by the degrees by which it is turned clockwise when it is shown."""


class ObjectReader(io.RawIOBase):
    """An object as a file, by pieces. After MOST_PIECES it ends."""

    def __init__(self, ask: Callable[[int, int], bytes], size: int, head: bytes) -> None:
        """Make it.

        Args:
            ask: Returns bytes of the object.
            size: The object's size in bytes.
            head: Its first bytes.
        """
        self._ask = ask
        self._size = size
        self._at = 0
        self._pieces = [(0, head)]

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the beginning of a buffer, and return how many bytes that are."""
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def seek(self, at: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, and return it."""
        self._at = max(0, at + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return bytes, up to the end of a piece; none at the end."""
        found = self._piece() if self._at < self._size else None
        if found is None:
            return b""
        at, piece = found
        part = piece[self._at - at :]
        if size >= 0:
            part = part[:size]
        self._at += len(part)
        return part

    def _piece(self) -> tuple[int, bytes] | None:
        for at, piece in self._pieces:
            if at <= self._at < at + len(piece):
                return at, piece
        if len(self._pieces) > MOST_PIECES:  # the first one was not asked for
            return None
        piece = self._ask(self._at, min(PIECE, self._size - self._at))
        self._pieces.append((self._at, piece))
        return self._pieces[-1] if piece else None


def facts_of(file: ObjectReader, head: bytes) -> dict[str, Any]:
    """Return the facts of a file whose first bytes are `head`. Raises anything."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _of_webp(file)
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8")):
        return _of_picture(file)
    return _of_media(file)


def _of_picture(file: ObjectReader) -> dict[str, Any]:
    """By Pillow. `getexif` would decode a PNG that has none, and a PNG of a few kilobytes may take gigabytes."""
    from PIL import Image

    with Image.open(io.BufferedReader(file), formats=("JPEG", "PNG", "GIF")) as picture:
        return _shown(picture.width, picture.height, picture.info.get("exif"))


def _of_webp(file: ObjectReader) -> dict[str, Any]:
    """The canvas, and Exif among the chunks. RFC 9649, 2.7. Pillow would read the whole file, and decode it."""
    chunk, exif = 12, None
    size: tuple[int, int] | None = None
    for _ in range(64):
        file.seek(chunk)
        piece = file.read(18)
        name, length, data = piece[:4], int.from_bytes(piece[4:8], "little"), piece[8:]
        if len(piece) < 18:
            break
        if name == b"VP8X":
            size = int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
            if not data[0] & 0x08:  # it says that there is no Exif
                break
        elif name == b"VP8L" and size is None:
            bits = int.from_bytes(data[1:5], "little")
            size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif name == b"VP8 " and size is None:
            size = int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
        elif name == b"EXIF":
            file.seek(chunk + 8)
            exif = io.BufferedReader(file).read(min(length, PIECE))
            break
        chunk += 8 + length + length % 2
    return {} if size is None else _shown(*size, exif)


def _shown(width: int, height: int, exif: bytes | None) -> dict[str, Any]:
    from PIL import Image

    orientation = 1
    if exif:
        tags = Image.Exif()
        with contextlib.suppress(Exception):  # an error there does not change the size
            tags.load(exif)
            orientation = tags.get(_ORIENTATION, 1)
    return {"width": width, "height": height, "orientation": orientation if orientation in range(1, 9) else 1}


def _of_media(file: ObjectReader) -> dict[str, Any]:
    """By libmediainfo."""
    import pymediainfo

    told = pymediainfo.MediaInfo.parse(file, output="JSON", full=False, parse_speed=_PARSE_SPEED, buffer_size=_CHUNK)
    tracks = (json.loads(told)["media"] or {}).get("track", [])
    first: dict[str, dict[str, Any]] = {}
    for track in tracks:
        first.setdefault(track["@type"], track)
    film, sound = first.get("Video", {}), first.get("Audio", {})
    seen = film or first.get("Image", {})
    found = {
        "width": _number(seen.get("Width")),
        "height": _number(seen.get("Height")),
        "duration": _number(first.get("General", {}).get("Duration")),
        "frameRate": _number(film.get("FrameRate")),
        "videoCodec": film.get("Format"),
        "audioCodec": sound.get("Format"),
    }
    if found["width"] is not None:
        found["orientation"] = _TURNED.get(str(seen.get("Rotation", "0")).partition(".")[0], 1)
    return found


def _number(text: str | None) -> int | float | None:
    if text is None:
        return None
    return float(text) if "." in text else int(text)


# -- the process


def main(control: socket.socket) -> None:
    """Fork a child for each socket that comes. Ends when the service does."""
    try:
        _prepare()
    except Exception as e:
        control.sendall(f"{type(e).__name__}: {e}".encode(errors="replace")[:500])
        return
    control.sendall(READY)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not data:
            return
        for descriptor in descriptors:
            try:
                child = os.fork()
            except OSError:  # no process left: the service sees that the socket is closed
                child = -1
            if child == 0:
                control.close()
                _answer(descriptor)
            os.close(descriptor)


def _prepare() -> None:
    """Import and use everything once, because a child can open nothing."""
    from PIL import Image, MpoImagePlugin  # noqa: F401 - the second: JPEGs of phones

    Image.MAX_IMAGE_PIXELS = None  # the service has judged the size, and nothing is decoded
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    for kind in ("JPEG", "PNG", "GIF"):
        made = io.BytesIO()
        Image.new("RGB", (1, 1)).save(made, kind, exif=exif)
        _try_out(made.getvalue())
    sound = b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\x08\0\0\0" + bytes(8)
    _try_out(sound)


def _try_out(data: bytes) -> None:
    facts_of(ObjectReader(lambda *_: b"", len(data), data), data)


def _answer(descriptor: int) -> None:
    """In a child: read one object, answer and end."""
    try:
        _limit()
        with socket.socket(fileno=descriptor) as channel:
            size, length = OPENING.unpack(_received(channel, OPENING.size))
            head = _received(channel, length)

            def ask(at: int, length: int) -> bytes:
                channel.sendall(REQUEST.pack(at, length))
                return _received(channel, *LENGTH.unpack(_received(channel, LENGTH.size)))

            warnings.simplefilter("ignore")
            answer = json.dumps(facts_of(ObjectReader(ask, size, head), head)).encode()
            channel.sendall(REQUEST.pack(len(answer), 0) + answer)
    finally:
        os._exit(0)  # also after an exception: then there is no answer


def _limit() -> None:
    import resource  # which Windows lacks

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS)
    for what, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _received(channel: socket.socket, length: int) -> bytes:
    """Raises EOFError."""
    received = bytearray()
    while len(received) < length:
        piece = channel.recv(length - len(received))
        if not piece:
            raise EOFError
        received += piece
    return bytes(received)
