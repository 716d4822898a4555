"""Facts of real files: what programs write, of the published types and of others."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from PIL import Image

from bigupload.service.fact_process import MOST_PIECES, PIECE
from bigupload.service.media import HEAD_BYTES
from tests.service.facts.support import ReadObject, finding

pytestmark = pytest.mark.slow

PICTURE = ("-f", "lavfi", "-i", "testsrc=s=320x240:r=25:d=2")
NTSC = ("-f", "lavfi", "-i", "testsrc=s=320x240:r=30000/1001:d=2")
SOUND = ("-f", "lavfi", "-i", "sine=d=2:r=48000")
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "ultrafast")
AAC = ("-c:a", "aac")
FILES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "index behind.mp4": ((*PICTURE, *SOUND, *H264, *AAC), {"videoCodec": "AVC", "audioCodec": "AAC"}),
    "index before.mp4": (
        (*PICTURE, *SOUND, *H264, *AAC, "-movflags", "faststart"),
        {"videoCodec": "AVC", "audioCodec": "AAC"},
    ),
    "fragments.mp4": (
        (*PICTURE, *SOUND, *H264, *AAC, "-movflags", "frag_keyframe+empty_moov", "-g", "10"),
        {"videoCodec": "AVC", "audioCodec": "AAC", "frameRate": pytest.approx(25, abs=0.5)},  # by the longer sound
    ),
    "ntsc.mp4": ((*NTSC, *H264), {"videoCodec": "AVC", "frameRate": 29.97}),
    "hevc.mp4": ((*PICTURE, "-c:v", "libx265", "-x265-params", "log-level=none"), {"videoCodec": "HEVC"}),
    "prores.mov": (
        (*PICTURE, *SOUND, "-c:v", "prores_ks", "-c:a", "pcm_s16le"),
        {"videoCodec": "ProRes", "audioCodec": "PCM"},
    ),
    "h264.mkv": ((*PICTURE, *SOUND, *H264, *AAC), {"videoCodec": "AVC", "audioCodec": "AAC"}),
    "b-frames.mkv": ((*PICTURE, *H264, "-preset", "medium"), {"videoCodec": "AVC"}),
    "vp9.webm": (
        (*PICTURE, *SOUND, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"),
        {"videoCodec": "VP9", "audioCodec": "Opus"},
    ),
    "camera.mxf": (
        (*PICTURE, *SOUND, "-c:v", "mpeg2video", "-b:v", "10M", "-c:a", "pcm_s16le"),
        {"videoCodec": "MPEG Video", "audioCodec": "PCM"},
    ),
    "sound.wav": (SOUND, {"audioCodec": "PCM"}),
    "sound.mp3": (SOUND, {"audioCodec": "MPEG Audio"}),
    "sound.ogg": (SOUND, {"audioCodec": "Vorbis"}),
    "sound.flac": (SOUND, {"audioCodec": "FLAC"}),
    "sound.m4a": ((*SOUND, *AAC), {"audioCodec": "AAC"}),
}
TURNED = {0: 1, 90: 8, 180: 3, 270: 6}
"""The orientation of a film that players turn so many degrees counter-clockwise."""


def made(path: Path, *arguments: str) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments, str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path.read_bytes()


async def test_the_facts_of_films_and_sounds(tmp_path: Path) -> None:
    wrong = {}
    async with finding() as finder:
        for name, (arguments, expected) in FILES.items():
            data = made(tmp_path / name, *arguments)
            stored = ReadObject(data)
            told = await finder.find(data[:HEAD_BYTES], len(data), stored.read)
            film = {"width": 320, "height": 240, "orientation": 1, "frameRate": 25.0} if PICTURE[3] in arguments else {}
            film |= {"width": 320, "height": 240, "orientation": 1} if NTSC[3] in arguments else {}
            wanted = film | {"duration": pytest.approx(2, abs=0.1)} | expected
            found = {key: value for key, value in (told or {}).items() if value is not None}
            if found != wanted or len(stored.reads) > MOST_PIECES or max(n for _, n in stored.reads) > PIECE:
                wrong[name] = (found, stored.reads)
        turned = {}
        for degrees in TURNED:
            film_of = ("-display_rotation", str(degrees), "-i", str(tmp_path / "index behind.mp4"), "-c", "copy")
            data = made(tmp_path / "turned.mp4", *film_of)
            told = await finder.find(data[:HEAD_BYTES], len(data), ReadObject(data).read)
            turned[degrees] = None if told is None else told["orientation"]
    assert wrong == {}
    assert turned == TURNED


async def test_the_facts_of_pictures() -> None:
    """Of each orientation where the type has Exif; also with a large profile or two pictures in one file."""
    frames = [Image.effect_noise((300, 200), 50).convert("RGB") for _ in range(3)]
    wrong = {}
    async with finding() as finder:
        for kind, more in (
            ("JPEG", {}),
            ("JPEG", {"icc_profile": bytes(3_000_000)}),
            ("JPEG", {"progressive": True}),
            ("MPO", {"save_all": True, "append_images": frames[1:]}),
            ("PNG", {}),
            ("WEBP", {"lossless": True}),
            ("WEBP", {}),
            ("WEBP", {"save_all": True, "append_images": frames[1:]}),
        ):
            for orientation in range(1, 9):
                exif = Image.Exif()
                exif[0x0112] = orientation
                file = io.BytesIO()
                frames[0].save(file, kind, exif=exif, **more)
                data = file.getvalue()
                told = await finder.find(data[:HEAD_BYTES], len(data), ReadObject(data).read)
                if told is None or (told["width"], told["height"], told["orientation"]) != (300, 200, orientation):
                    wrong[kind, tuple(more), orientation] = told
        for kind, more in (
            ("GIF", {}),
            ("GIF", {"save_all": True, "append_images": frames[1:]}),
            ("PNG", {"save_all": True, "append_images": frames[1:]}),
            ("TIFF", {}),
        ):
            file = io.BytesIO()
            frames[0].save(file, kind, **more)
            data = file.getvalue()
            told = await finder.find(data[:HEAD_BYTES], len(data), ReadObject(data).read)
            if told is None or (told["width"], told["height"]) != (300, 200):
                wrong[kind, tuple(more), 0] = told
    assert wrong == {}
