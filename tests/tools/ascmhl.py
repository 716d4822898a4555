"""The reference implementation of ASC MHL, in a directory of its own: it needs another click than the tests do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "ascmhl==1.2"


class Ascmhl:
    """Its commands."""

    def __init__(self, packages: Path) -> None:
        self._packages = packages

    def run(self, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        program = self._packages / "bin" / ("ascmhl-debug" if command == "verify" else "ascmhl")
        own = os.environ | {"PYTHONPATH": str(self._packages)}
        return subprocess.run([program, command, *arguments], capture_output=True, text=True, env=own)


def install(directory: Path) -> Ascmhl:
    """Install it. Skips the test if no package registry can be reached."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    installed = subprocess.run([*pip, "--target", directory, PACKAGE], capture_output=True, text=True)
    if "No matching distribution found" in installed.stderr:
        pytest.skip("no package registry can be reached")
    assert installed.returncode == 0, installed.stderr
    return Ascmhl(directory)
