"""The wheel and the source archive: what people install has all that the checkout has, and no more."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bigupload import __version__
from bigupload.testing.strict_s3 import StrictS3
from tests.crash.running import REPOSITORY, Place

DATA = (".pyi", ".json", ".js", ".ts", ".html", ".css", ".svg", ".md", ".typed")
"""How the names of files end that are no Python and that programs read."""

pytestmark = pytest.mark.slow


def run(*command: str | Path, path: Path, cwd: Path = REPOSITORY, **environment: str) -> str:
    """Run a module of Python with a directory before its own packages. Returns what it printed."""
    environment = {**os.environ, **environment, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], capture_output=True, text=True, cwd=cwd, env=environment
    )
    if "No matching distribution found for hatchling" in done.stderr:
        pytest.skip("no package registry can be reached")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def hatchling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build backend, in a directory of its own."""
    there = tmp_path_factory.mktemp("hatchling")
    run("pip", "install", "--quiet", "--no-compile", "--target", there, "hatchling", path=there)
    return there


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, hatchling: Path) -> dict[str, bytes]:
    """The content of the checkout's wheel."""
    where = tmp_path_factory.mktemp("wheel")
    run("hatchling", "build", "-t", "wheel", "-d", where, path=hatchling)
    return contents(where)


def contents(directory: Path) -> dict[str, bytes]:
    """The files of the one wheel in a directory."""
    (path,) = directory.glob(f"bigupload-{__version__}-py3-none-any.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_what_is_in_the_wheel(wheel: dict[str, bytes]) -> None:
    names = set(wheel)
    package = REPOSITORY / "bigupload"
    wanted = {path.relative_to(REPOSITORY).as_posix() for path in package.rglob("*") if path.suffix in (".py", *DATA)}
    assert {name for name in names if name.startswith("bigupload/")} - wanted == {
        "bigupload/service/browser/client/LICENSE"
    }
    assert wanted <= names
    assert {"bigupload/py.typed", "bigupload/schema/manifest.schema.json"} <= wanted
    assert f"bigupload-{__version__}.data/data/share/man/man1/bigupload.1" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"bigupload"}


def test_the_source_archive_installs_as_the_checkout_does(
    tmp_path: Path, hatchling: Path, wheel: dict[str, bytes]
) -> None:
    """Its wheel is the same, and what pip installs of it uploads a file."""
    run("hatchling", "build", "-t", "sdist", "-d", tmp_path, path=hatchling)
    (archive,) = tmp_path.glob(f"bigupload-{__version__}.tar.gz")
    build = ("pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, archive)
    run(*build, path=hatchling)
    assert contents(tmp_path) == wheel

    installed, film = tmp_path / "installed", tmp_path / "film.mov"
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as packed:
        packed.extractall(installed)
    film.write_bytes(bytes(9 << 20))  # more than one PUT sends
    with StrictS3() as s3:
        s3.create_bucket("bucket")
        target = ("s3://bucket/film.mov", "--endpoint-url", s3.url)
        environment = Place(tmp_path).environment()
        run("bigupload", "upload", film, *target, path=installed, cwd=tmp_path, **environment)
        assert s3.objects["bucket"]["film.mov"].body == film.read_bytes()
