"""The commands of `docs/how-to`, run as they stand: each page's ```sh blocks in order, by one shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import imageio_ffmpeg
import pytest

from bigupload.stores.local_store import LocalStore
from tests.tools.weed import weed_client

pytestmark = pytest.mark.slow  # guards pages of the documentation

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
NIGHTLY = PAGES.parent / "examples" / "nightly"
MADE = {
    "browser": set(),  # its code is that of examples which test_client_examples.py runs
    "cluster": {"films/film.mov"},
    "deliver": {"delivery/film.mov"},
    "django": set(),  # it is built by test_products.py
    "film": {"films/film.mov"},
    "import-url": set(),  # it is run by test_import_url.py
    "media-facts": set(),  # it is run by test_media_facts.py
    "nightly": {"photos/one.jpg", "photos/album/two.jpg"},
    "offload": {"A001/monday.mp4", "A001/ascmhl/0001_A001_DATE.mhl", "A001/ascmhl/ascmhl_chain.xml"},
    "other-origin": set(),  # it is built by test_products.py
    "pipe": {"photos.tar", "film.mov"},
    "recording": {"raw/live.mp4", "raw/monday.mp4"},
    "restore": {"photos/one.jpg", "photos/album/two.jpg"},
    "stores": {"films/film.mov"},
    "table": {f"tables/{name}" for name in ("orders.parquet", "orders.csv", "rows.parquet", "named.parquet")},
    "thumbnails": set(),  # it is run by test_thumbnails.py
    "web-app": set(),  # it is run by test_web_app.py
}
"""The objects that a page's commands make in `my-bucket`."""


def commands(page: Path) -> str:
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))


def test_every_page_is_run() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {*MADE, "README"}


def test_the_overview_names_each_page_and_a_command_of_it() -> None:
    rows = re.findall(r"^\| .*\]\(([\w-]+)\.md\).* \| `(.*)` \|$", (PAGES / "README.md").read_text(), re.MULTILINE)
    assert {page for page, _ in rows} == set(MADE)
    for page, command in rows:
        assert command in (PAGES / f"{page}.md").read_text()


class Place:
    """A directory with the files that the pages name, and `my-bucket`."""

    def __init__(self, directory: Path, weed: LocalStore) -> None:
        self._directory = directory
        self._weed = weed
        self._tools = directory / "tools"
        self._tools.mkdir()
        (self._tools / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
        (self._tools / "bigupload").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bigupload "$@"\n')
        (self._tools / "bigupload").chmod(0o755)

    def run(self, commands: str) -> None:
        """Run commands by one shell, which ends at the first that fails."""
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self._directory,
            capture_output=True,
            text=True,
            timeout=120,
            env={
                "PATH": f"{self._tools}:{os.environ['PATH']}",
                "PYTHONPATH": str(PAGES.parents[1]),
                "HOME": str(self._directory / "home"),
                "AWS_ENDPOINT_URL": self._weed.endpoint_url,
                "AWS_ACCESS_KEY_ID": self._weed.access_key,
                "AWS_SECRET_ACCESS_KEY": self._weed.secret_key,
                "AWS_REGION": self._weed.region,
            },
        )
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr

    def objects(self) -> set[str]:
        """The keys in `my-bucket`."""
        client = weed_client(self._weed)
        try:
            return {row["Key"] for row in client.list_objects_v2(Bucket="my-bucket").get("Contents", ())}
        finally:
            client.close()


@pytest.fixture
def place(tmp_path: Path, weed: LocalStore) -> Place:
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
    return Place(tmp_path, weed)


@pytest.mark.parametrize("page", sorted(MADE))
def test_the_commands_of_a_page(page: str, place: Place) -> None:
    if page == "restore" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    if page == "table":
        pytest.importorskip("s3fs")
    place.run(commands(PAGES / f"{page}.md"))
    made = {re.sub(r"\d{4}-\d\d-\d\d_\d{6}Z", "DATE", key) for key in place.objects()}
    assert made == MADE[page]


def test_the_code_of_the_page_for_browsers_is_that_of_the_examples() -> None:
    page = (PAGES / "browser.md").read_text()
    code = re.findall(r"^```(?:js|html)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    browser = PAGES.parent / "examples" / "browser"
    client = PAGES.parents[1] / "bigupload" / "service" / "browser" / "client" / "README.md"
    in_script = textwrap.indent(code[0], "  ", lambda line: bool(line.strip()))
    assert in_script in (browser / "plain.html").read_text()
    assert code[1] in client.read_text()
    assert code[2] == (browser / "uppy.js").read_text()


def test_the_page_of_the_nightly_sync_shows_its_units() -> None:
    page = (PAGES / "nightly.md").read_text()
    shown = dict(re.findall(r"`/etc/systemd/system/(\S+)`:\n\n```ini\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    assert shown == {unit.name: unit.read_text() for unit in NIGHTLY.iterdir()}


def test_what_the_unit_of_the_nightly_sync_starts(place: Place) -> None:
    [start] = re.findall(r"^ExecStart=/usr/local/bin/(.*)$", (NIGHTLY / "photos.service").read_text(), re.MULTILINE)
    place.run(start.replace("/srv/photos", "photos"))
    assert place.objects() == MADE["nightly"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_the_units_of_the_nightly_sync(tmp_path: Path) -> None:
    units = []
    for name in ("photos.service", "photos-alert.service", "photos.timer"):
        unit = tmp_path / name
        text = (NIGHTLY / name).read_text()
        unit.write_text(text.replace("/usr/local/bin/bigupload", shutil.which("true") or "/bin/true"))
        units.append(str(unit))
    ended = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
