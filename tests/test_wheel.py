"""The wheel: what people install has all that the checkout has, and no more."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bigupload import __version__
from tests.crash.running import REPOSITORY

DATA = (".pyi", ".json", ".js", ".ts", ".html", ".css", ".svg", ".md", ".typed")
"""How the names of files end that are no Python and that programs read."""


@pytest.mark.slow
def test_what_is_in_it(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(REPOSITORY),
    ]
    built = subprocess.run(build, capture_output=True, text=True)
    if "No matching distribution found for hatchling" in built.stderr:
        pytest.skip("no package registry can be reached")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob(f"bigupload-{__version__}-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = REPOSITORY / "bigupload"
    wanted = {path.relative_to(REPOSITORY).as_posix() for path in package.rglob("*") if path.suffix in (".py", *DATA)}
    assert {name for name in names if name.startswith("bigupload/")} - wanted == {
        "bigupload/service/browser/client/LICENSE"
    }
    assert wanted <= names
    assert {"bigupload/py.typed", "bigupload/schema/manifest.schema.json"} <= wanted
    assert f"bigupload-{__version__}.data/data/share/man/man1/bigupload.1" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"bigupload"}
