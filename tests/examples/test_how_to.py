"""The commands of `docs/how-to`, run as they stand: each page's ```sh blocks in order, by one shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest

from bigupload.stores.local_store import LocalStore
from tests.tools.weed import weed_client

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
MADE = {
    "cluster": {"films/film.mov"},
    "film": {"films/film.mov"},
    "nightly": {"photos/one.jpg", "photos/album/two.jpg"},
    "pipe": {"photos.tar", "film.mov"},
    "recording": {"raw/live.mp4", "raw/monday.mp4"},
    "stores": {"films/film.mov"},
    "web-app": set(),  # it is run by test_web_app.py
}
"""The objects that a page's commands make in `my-bucket`."""


def commands(page: Path) -> str:
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))


def test_every_page_is_run() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == set(MADE)


@pytest.fixture
def place(tmp_path: Path, weed: LocalStore) -> Path:
    """A directory with the files that the pages name, and an empty `my-bucket`."""
    for name, size in {
        "film.mov": 12_000_000, "photos/one.jpg": 1000, "photos/album/two.jpg": 2000, "recordings/monday.mp4": 3000
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(os.urandom(size))
    client = weed_client(weed)
    if "my-bucket" in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        for row in client.list_objects_v2(Bucket="my-bucket").get("Contents", ()):
            client.delete_object(Bucket="my-bucket", Key=row["Key"])
    else:
        client.create_bucket(Bucket="my-bucket")
    client.close()
    return tmp_path


@pytest.mark.parametrize(
    "page", [pytest.param(name, marks=() if name == "film" else pytest.mark.slow) for name in sorted(MADE)]
)
def test_the_commands_of_a_page(page: str, place: Path, weed: LocalStore) -> None:
    tools = place / "tools"
    tools.mkdir()
    (tools / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    (tools / "bigupload").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bigupload "$@"\n')
    (tools / "bigupload").chmod(0o755)
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands(PAGES / f"{page}.md")],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(PAGES.parents[1]),
            "HOME": str(place / "home"),
            "AWS_ENDPOINT_URL": weed.endpoint_url,
            "AWS_ACCESS_KEY_ID": weed.access_key,
            "AWS_SECRET_ACCESS_KEY": weed.secret_key,
            "AWS_REGION": weed.region,
        },
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    client = weed_client(weed)
    assert {row["Key"] for row in client.list_objects_v2(Bucket="my-bucket").get("Contents", ())} == MADE[page]
    client.close()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_the_units_of_the_nightly_sync(tmp_path: Path) -> None:
    text = (PAGES / "nightly.md").read_text()
    names = re.findall(r"`/etc/systemd/system/(\S+)`:", text)
    units = []
    for name, content in zip(names, re.findall(r"^```ini\n(.*?)^```$", text, re.MULTILINE | re.DOTALL), strict=True):
        unit = tmp_path / name
        unit.write_text(content.replace("/usr/local/bin/bigupload", shutil.which("true") or "/bin/true"))
        units.append(str(unit))
    ended = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
