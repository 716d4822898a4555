"""The hook of docs/how-to/media-facts.md, as it stands: ffprobe finds width, duration and codecs of each upload."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import textwrap
from pathlib import Path

import pytest

from bigupload.service.access.keys import KeyFile
from bigupload.stores.local_store import LocalStore
from tests.examples.test_thumbnails import DOCS, complete, completed
from tests.tools.buckets import fresh_name
from tests.tools.media import sample
from tests.tools.service import serving
from tests.tools.weed import weed_client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed"),
]

PAGE = DOCS / "how-to" / "media-facts.md"
PROGRAM = DOCS / "examples" / "media_facts.py"


def test_the_facts_of_each_upload_are_stored(weed: LocalStore, tmp_path: Path) -> None:
    """With the command of the page."""
    (command,) = re.findall(r"^\$ bigupload serve --bucket s3://my-media (.*)$", PAGE.read_text(), re.MULTILINE)
    facts, media = fresh_name(weed), fresh_name(weed)
    words = [word.replace("my-facts", facts) for word in shlex.split(command)]
    words = [word.replace("python media_facts.py", f"{sys.executable} {PROGRAM}") for word in words]
    client = weed_client(weed)
    client.create_bucket(Bucket=facts)
    client.create_bucket(Bucket=media)
    home = tmp_path / "service"
    home.mkdir()
    _, key = KeyFile(home / "keys.json").create("gallery")
    (home / "key").write_text(key)
    words += ["--bucket", f"s3://{media}", "--sweep-every", "0"]
    with serving(weed, home, *words, local=False) as service:
        film = completed(service, sample("mp4"), "film.mp4", "video/mp4")
        picture = completed(service, sample("png"), "a.png", "image/png")
        assert "X-Amz" not in service.log()
    found = json.loads(client.get_object(Bucket=facts, Key=f"{film}.json")["Body"].read())
    [stream] = [each for each in found["streams"] if each["codec_type"] == "video"]
    assert (stream["codec_name"], stream["width"] > 0, float(found["format"]["duration"]) > 0) == ("h264", True, True)
    whole = client.get_object(Bucket=facts, Key=f"{picture}.json")["Body"].read()
    assert b"X-Amz" not in whole
    assert json.loads(whole)["streams"][0]["codec_name"] == "png"
    client.close()


def test_a_film_beyond_the_limit_is_refused_with_the_reason(weed: LocalStore, tmp_path: Path) -> None:
    """With the lines that the page adds, and a limit that the sample exceeds."""
    (lines,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    place = "    options = "
    program = tmp_path / "media_facts.py"
    added = textwrap.indent(lines.replace("60", "0.001"), "    ")
    program.write_text(PROGRAM.read_text().replace(place, f"{added}{place}"))
    bucket = fresh_name(weed)
    with serving(weed, tmp_path, "--before-finish", f"{sys.executable} {program} s3://{bucket}/") as service:
        answer = complete(service, sample("mp4"), "film.mp4", "video/mp4")
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, "the film is longer than a minute")
