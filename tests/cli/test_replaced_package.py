"""The package is upgraded while a command of it runs: the next module to import would be another version's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bigupload as package
from bigupload.cli import REPLACED
from bigupload.stores.local_store import LocalStore
from bigupload.testing.faults import Call
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import LONG, Ended, Place
from tests.tools.media import sample
from tests.tools.service import serving

from .support import IN_PARTS, SIZE

_IGNORED = shutil.ignore_patterns("__pycache__", "adapters")
_BEFORE_PARTS = {
    "upload": ("HeadObject", ["--skip-existing"]),
    "sync": ("ListObjectsV2", []),
    "watch": ("PutObject", ["--idle", "1s"]),
}
"""Per command, the request during which the package is replaced, before anything of a file in parts is imported."""


class Installed:
    """A copy of the package, and a directory with a file of two parts."""

    def __init__(self, directory: Path, s3: StrictS3) -> None:
        self.place = Place(directory)
        self.packages = directory / "packages"
        self.files = directory / "files"
        self._s3 = s3
        self.files.mkdir()
        (self.files / "film.mov").write_bytes(bytes(SIZE))
        shutil.copytree(Path(package.__file__).parent, self.packages / "bigupload", ignore=_IGNORED)

    def upgrade(self) -> None:
        """Put another version in its place, as pip does: one that knows nothing of this one's modules."""
        old, new = self.packages / "bigupload", self.packages / "new"
        shutil.copytree(old, new)
        for module in new.rglob("*.py"):
            module.write_text("raise AssertionError('a module of the new version')\n")
        old.rename(self.packages / "old")
        new.rename(old)

    def remove(self) -> None:
        (self.packages / "bigupload").rename(self.packages / "old")

    def run(self, *command: str) -> Ended:
        environment = self.place.environment(PYTHONPATH=str(self.packages))
        line = [sys.executable, "-m", "bigupload", *command, "--endpoint-url", self._s3.url, "--progress", "none"]
        done = subprocess.run(
            line, cwd=self.packages, env=environment, capture_output=True, text=True, timeout=LONG, check=False
        )
        return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def installed(tmp_path: Path, s3: StrictS3) -> Installed:
    return Installed(tmp_path, s3)


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", _BEFORE_PARTS)
@pytest.mark.parametrize("how", ["upgrade", "remove"])
def test_a_command_that_uploads(installed: Installed, s3: StrictS3, command: str, how: str) -> None:
    operation, options = _BEFORE_PARTS[command]
    film = installed.files / "film.mov"
    if command == "watch":  # it comes while a small file is sent
        film.rename(installed.place.directory / "film.mov")
        (installed.files / "small").write_bytes(b"content")

    def replace(_: StrictS3) -> None:
        getattr(installed, how)()
        if command == "watch":
            (installed.place.directory / "film.mov").rename(film)

    s3.script(operation, Call(replace))
    ended = installed.run(command, str(installed.files), "s3://bucket/p/", *IN_PARTS, *options)
    assert (ended.code, ended.complaint) == (75, f"bigupload: {REPLACED}")
    assert "film.mov" not in ended.out


@pytest.mark.slow
def test_a_service_goes_on(
    installed: Installed, weed: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(installed.packages)
    with serving(weed, tmp_path / "service", "--sweep-every", "0", cold=True) as service:
        installed.remove()
        for name, size in (("small.png", 100), ("film.png", SIZE)):
            picture = tmp_path / name
            picture.write_bytes(sample("png") + bytes(size))
            package.upload_sync(picture, service=service.url, api_key=service.key, part_size="5MiB")
    assert "ImportError" not in (tmp_path / "service" / "log").read_text()
