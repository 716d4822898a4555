"""Real media, made by the ffmpeg that a wheel ships. Each is made once a process and is a few kilobytes."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

_H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
_ONE = ("-frames:v", "1")
_RECIPES: dict[str, tuple[str, ...]] = {
    "jpg": _ONE,
    "png": _ONE,
    "apng": ("-f", "apng"),
    "gif": _ONE,
    "animated.gif": (),
    "webp": (*_ONE, "-c:v", "libwebp"),
    "lossless.webp": (*_ONE, "-c:v", "libwebp", "-lossless", "1"),
    "animated.webp": ("-c:v", "libwebp_anim"),
    "mp4": _H264,
    "faststart.mp4": (*_H264, "-movflags", "faststart"),
    "fragmented.mp4": (*_H264, "-movflags", "frag_keyframe+empty_moov"),
    "dash.mp4": (*_H264, "-movflags", "dash+frag_keyframe+empty_moov"),
    "m4v": (*_H264, "-f", "ipod"),
    "mov": _H264,
    "mjpeg.mov": ("-c:v", "mjpeg"),
    "webm": ("-c:v", "libvpx"),
    "vp9.webm": ("-c:v", "libvpx-vp9"),
    "mkv": _H264,
    "avif": (*_ONE, "-c:v", "libaom-av1"),
    "3gp": ("-s", "176x144", "-c:v", "h263"),
    "3g2": _H264,
    "avi": (),
    "flv": (),
    "bmp": _ONE,
    "tiff": _ONE,
    "ogv": (),
}


@functools.cache
def sample(recipe: str, brand: str | None = None) -> bytes:
    """The bytes of a moving test picture, 64 x 64, as `recipe` says; `brand`: the major brand of an MP4."""
    import imageio_ffmpeg

    how = (*_RECIPES[recipe], *(("-brand", brand) if brand else ()))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, f"sample.{recipe.rpartition('.')[2]}")
        source = ("-f", "lavfi", "-i", "testsrc=s=64x64:d=0.4")
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, *how, str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return path.read_bytes()
