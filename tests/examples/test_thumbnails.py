"""The hook of docs/how-to/thumbnails.md, as it stands: ffmpeg makes a thumbnail of each upload."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import imageio_ffmpeg
import pytest
from PIL import Image

from bigupload.service.access.keys import KeyFile
from bigupload.stores.local_store import LocalStore
from tests.tools.buckets import fresh_name
from tests.tools.http_stub import Response, http_stub
from tests.tools.media import sample
from tests.tools.service import Service, serving
from tests.tools.weed import weed_client

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "how-to" / "thumbnails.md"
PROGRAM = DOCS / "examples" / "thumbnail.py"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with ffmpeg."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    return tools


def photo() -> bytes:
    """One that was taken with the phone upright: red above and blue below when it is shown."""
    lying = Image.new("RGB", (800, 600), "red")
    lying.paste("blue", (400, 0, 800, 600))
    exif, made = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    lying.save(made, "JPEG", exif=exif)
    return made.getvalue()


def complete(service: Service, data: bytes, filename: str, content_type: str) -> httpx.Response:
    """Upload a file, and return what complete answers."""
    row = {"filename": filename, "contentType": content_type, "size": len(data), "checksumAlgorithm": "none"}
    asked = {**row, "partSize": 5 << 20, "firstParts": [{"partNumber": 1, "size": len(data)}]}
    made = service.call("POST", "/v1/media/multipart", json=asked).json()
    [part] = made["signed"]
    sent = httpx.put(part["url"], headers=part["headers"], content=data, trust_env=False)
    body = {"upload": made["upload"], "parts": [{"partNumber": 1, "etag": sent.headers["ETag"]}]}
    return service.call("POST", "/v1/media/multipart/complete", json=body)


def completed(service: Service, data: bytes, filename: str, content_type: str) -> str:
    """Upload a file, and return its key."""
    done = complete(service, data, filename, content_type)
    assert done.status_code == 200, done.text
    return str(done.json()["key"])


def test_each_upload_gets_a_thumbnail(weed: LocalStore, tmp_path: Path, tools: Path) -> None:
    """By the command of the page."""
    (command,) = re.findall(r"^\$ bigupload serve --bucket s3://my-media (.*)$", PAGE.read_text(), re.MULTILINE)
    thumbs = fresh_name(weed)
    words = [word.replace("my-thumbs", thumbs) for word in shlex.split(command)]
    words = [word.replace("python thumbnail.py", f"{sys.executable} {PROGRAM}") for word in words]
    client = weed_client(weed)
    client.create_bucket(Bucket=thumbs)

    def thumbnail(key: str) -> tuple[Image.Image, str]:
        got = client.get_object(Bucket=thumbs, Key=f"{key}.jpg")
        assert got["ContentType"] == "image/jpeg"
        return Image.open(io.BytesIO(got["Body"].read())).convert("RGB"), got["Metadata"]["blurhash"]

    words += ["--bucket", f"s3://{fresh_name(weed)}", "--sweep-every", "0"]
    client.create_bucket(Bucket=words[-3].removeprefix("s3://"))
    home = tmp_path / "service"
    home.mkdir()
    _, key = KeyFile(home / "keys.json").create("gallery")
    (home / "key").write_text(key)
    with serving(weed, home, *words, local=False) as service:
        picture, blurred = thumbnail(completed(service, photo(), "photo.jpg", "image/jpeg"))
        assert picture.size == (240, 320)
        assert is_like(picture.getpixel((120, 40)), (255, 0, 0))
        assert is_like(picture.getpixel((120, 280)), (0, 0, 255))
        assert len(blurred) == 28
        for kind, content_type in (
            ("mp4", "video/mp4"), ("mov", "video/quicktime"), ("webm", "video/webm"), ("png", "image/png"),
            ("gif", "image/gif"), ("webp", "image/webp"),
        ):  # fmt: skip
            picture, _ = thumbnail(completed(service, sample(kind), f"a.{kind}", content_type))
            assert picture.size == (320, 320), kind
        damaged = sample("png").partition(b"IDAT")[0] + b"IDAT" + bytes(100)
        broken = completed(service, damaged, "broken.png", "image/png")
        assert f"{broken}.jpg" not in {row["Key"] for row in client.list_objects_v2(Bucket=thumbs)["Contents"]}
        assert "X-Amz" not in service.log()
    client.close()


def is_like(color: Any, other: tuple[int, int, int]) -> bool:
    return all(abs(one - two) < 40 for one, two in zip(color, other, strict=True))


@pytest.mark.parametrize("program", [PROGRAM, DOCS / "examples" / "media_facts.py"])
def test_a_playlist_opens_no_other_url(tools: Path, program: Path) -> None:
    """It calls itself a film; ffmpeg and ffprobe would fetch what it names, if the program did not name the format."""
    if program != PROGRAM and shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    with http_stub() as stub:
        inside = f"{stub.url}/inside.ts"
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{inside}\n#EXT-X-ENDLIST\n".encode()
        stub.responses["/film"] = Response(body=playlist, headers={"Content-Type": "application/x-mpegurl"})
        question = {"key": "media/shop/a.mp4", "contentType": "video/mp4", "url": f"{stub.url}/film"}
        command = [sys.executable, str(program), "s3://nowhere/"]
        done = subprocess.run(command, input=json.dumps(question), capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert {each.path for each in stub.received} == {"/film"}


def test_the_average_of_a_blurhash() -> None:
    """The first six characters are the number of waves, their strength, and the average color."""
    module: dict[str, Any] = {"__name__": "thumbnail"}
    exec(compile(PROGRAM.read_text(), PROGRAM, "exec"), module)
    side, digits = module["SIDE"], module["DIGITS"]
    assert module["blurhash"](bytes((255, 128, 0)) * side**2)[2:6] == "".join(
        digits[0xFF8000 // 83**place % 83] for place in (3, 2, 1, 0)
    )
