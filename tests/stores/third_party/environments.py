"""An environment for each store, made with the ordinary clients of pip and npm, and kept for the next run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import platformdirs

INSTALL_WITHIN = 600.0
"""Seconds."""
_DONE = "installed.txt"


class Unavailable(Exception):
    """The store cannot be installed or started on this machine. The text has the reason."""


def cache_directory() -> Path:
    """Where environments are kept unless the caller names a directory."""
    return platformdirs.user_cache_path("bigupload") / "test-stores"


def pip_environment(root: Path, name: str, packages: Sequence[str]) -> Path:
    """The directory of a virtual environment with these packages. Raises Unavailable."""
    home = root / name
    if not _is_made(home, packages):
        _run([sys.executable, "-m", "venv", str(home)], name)
        _run([str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages], name)
        _note(home, packages)
    return home


def npm_environment(root: Path, name: str, packages: Sequence[str]) -> Path:
    """A directory with these packages in `node_modules`. Raises Unavailable."""
    home = root / name
    if shutil.which("npm") is None:
        raise Unavailable("npm is not installed")
    if not _is_made(home, packages):
        home.mkdir(parents=True)
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(home), *packages], name)
        _note(home, packages)
    return home


def _is_made(home: Path, packages: Sequence[str]) -> bool:
    """Whether it is there and whole. What another list of packages made, or an install that failed, is removed."""
    done = home / _DONE
    if done.exists() and done.read_text() == "\n".join(packages):
        return True
    shutil.rmtree(home, ignore_errors=True)
    return False


def _note(home: Path, packages: Sequence[str]) -> None:
    (home / _DONE).write_text("\n".join(packages))


def _run(command: list[str], name: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"installing it took more than {INSTALL_WITHIN:.0f} s") from None
    if done.returncode != 0:
        raise Unavailable(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-300:]}")
