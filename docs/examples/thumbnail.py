"""A thumbnail and a BlurHash of each file: `bigupload serve --before-finish "python thumbnail.py s3://my-thumbs/"`.

ffmpeg reads the file by its signed URL, in ranges, so of a film it fetches a few seconds. The thumbnail of
`media/shop/abc.mp4` becomes `s3://my-thumbs/media/shop/abc.mp4.jpg`. The BlurHash is in its metadata.

ffmpeg may meet a file that was made to attack it. So it gets neither this program's environment nor its files: it reads
by HTTP alone, and is told the format. If it were to guess, a "film" that is a playlist could have it fetch other URLs.

Exit status: 0, also for a file that ffmpeg can't decode: it counts without a thumbnail. 2 if the thumbnail could not be
stored: then the service asks again.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import bigupload

FORMATS = {
    "image/jpeg": "jpeg_pipe",
    "image/png": "png_pipe",
    "image/gif": "gif",
    "image/webp": "webp_pipe",
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "video/webm": "matroska",
}
WIDE = 320
"""Pixels of the longer side."""
SIDE = 32
"""Pixels of the square of which the BlurHash is made."""
WITHIN = 30.0
"""Seconds: less than the service's --hook-timeout."""


def make_thumbnail(url: str, kind: str, jpeg: Path) -> bytes:
    """Make the thumbnail, and return SIDE x SIDE pixels of it, as RGB. Raises CalledProcessError or TimeoutExpired."""
    ffmpeg = shutil.which("ffmpeg") or "ffmpeg"
    limits = ["-protocol_whitelist", "http,https,tcp,tls", "-max_alloc", "400000000", "-threads", "1"]
    best = "thumbnail=25"  # of the first 25 frames the one that is most like the others: not a black one
    small = f"{best},scale={WIDE}:{WIDE}:force_original_aspect_ratio=decrease"
    done = subprocess.run(
        [
            *(ffmpeg, "-v", "error", "-nostdin", *limits, "-f", FORMATS[kind], "-i", url),
            *("-an", "-frames:v", "1", "-vf", small, "-q:v", "4", "-f", "mjpeg", str(jpeg)),
            *("-an", "-frames:v", "1", "-vf", f"{best},scale={SIDE}:{SIDE},format=rgb24", "-f", "rawvideo", "pipe:1"),
        ],
        env={},
        capture_output=True,
        check=True,
        timeout=WITHIN,
    )
    return done.stdout


DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"


def blurhash(pixels: bytes, across: int = 4, down: int = 3) -> str:
    """Return the BlurHash of SIDE x SIDE pixels: https://github.com/woltapp/blurhash/blob/master/Algorithm.md"""
    light = [linear(value) for value in pixels]
    waves: list[list[float]] = []
    for y in range(down):
        for x in range(across):
            wave = [0.0, 0.0, 0.0]
            for at in range(SIDE**2):
                basis = math.cos(math.pi * x * (at % SIDE) / SIDE) * math.cos(math.pi * y * (at // SIDE) / SIDE)
                for color in range(3):
                    wave[color] += basis * light[3 * at + color]
            waves.append([value * (2 if x or y else 1) / SIDE**2 for value in wave])
    most = max(abs(value) for wave in waves[1:] for value in wave)
    scale = max(0, min(82, math.floor(most * 166 - 0.5)))
    average = [srgb(value) for value in waves[0]]
    text = digits(across - 1 + (down - 1) * 9, 1) + digits(scale, 1)
    text += digits((average[0] << 16) + (average[1] << 8) + average[2], 4)
    for wave in waves[1:]:
        steps = [step(value / ((scale + 1) / 166)) for value in wave]
        text += digits(steps[0] * 19 * 19 + steps[1] * 19 + steps[2], 2)
    return text


def linear(value: int) -> float:
    part = value / 255
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def srgb(value: float) -> int:
    part = max(0.0, min(1.0, value))
    return int((part * 12.92 if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055) * 255 + 0.5)


def step(value: float) -> int:
    return max(0, min(18, math.floor(math.copysign(math.sqrt(abs(value)), value) * 9 + 9.5)))


def digits(value: int, length: int) -> str:
    return "".join(DIGITS[value // 83**place % 83] for place in reversed(range(length)))


def main() -> int:
    file, place = json.load(sys.stdin), sys.argv[1]
    if file["contentType"] not in FORMATS:
        return 0
    with tempfile.TemporaryDirectory() as directory:
        jpeg = Path(directory, "thumbnail.jpg")
        try:
            pixels = make_thumbnail(file["url"], file["contentType"], jpeg)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):  # they name the URL, which is a secret
            return 0
        if len(pixels) != 3 * SIDE**2:  # no frame could be decoded
            return 0
        options = bigupload.S3Options(content_type="image/jpeg", metadata={"blurhash": blurhash(pixels)})
        try:
            bigupload.upload_sync(jpeg, to=f"{place.rstrip('/')}/{file['key']}.jpg", s3=options)
        except bigupload.BigUploadError as e:
            print(f"the thumbnail could not be stored: {e}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
