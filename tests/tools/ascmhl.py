"""The reference implementation of ASC MHL, in an environment of its own: it needs another click than the tests do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "ascmhl==1.2"


class Ascmhl:
    """Its commands."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs

    def run(self, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        program = self._programs / ("ascmhl-debug" if command == "verify" else "ascmhl")
        return subprocess.run([program, command, *arguments], capture_output=True, text=True)


def install(directory: Path) -> Ascmhl:
    """Install it. Skips the test if no package registry can be reached."""
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True, capture_output=True)
    pip = [directory / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]
    installed = subprocess.run(pip, capture_output=True, text=True)
    if "No matching distribution found" in installed.stderr:
        pytest.skip("no package registry can be reached")
    assert installed.returncode == 0, installed.stderr
    return Ascmhl(directory / "bin")
