"""What the JavaScript examples need from npm, installed once for a session, with the client as npm packs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tools.node import BROWSER, node_folder

_PROGRAMS = ("@esbuild", "@typescript")
"""Of these scopes is one package, this platform's. npm leaves it out without an error where it can't be downloaded."""
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "browser"


def install(folder: Path) -> Path:
    """Install the examples with their dependencies into `folder`. Skips the test if npm's registry is out of reach."""
    for file in EXAMPLES.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    package = folder / "package.json"
    there, here = "file:../../../bigupload/service/browser/client", f"file:{BROWSER / 'client'}"
    assert there in package.read_text()
    package.write_text(package.read_text().replace(there, here))
    for _ in range(2):
        modules = install_package(folder=folder) / "node_modules"
        if all(any((modules / scope).glob("*")) for scope in _PROGRAMS):
            return folder
        shutil.rmtree(modules)
    pytest.skip("npm's registry did not give the programs of this platform")


def install_package(*packages: str, folder: Path) -> Path:
    """Install packages, and what `package.json` names. Skips the test if npm's registry is out of reach."""
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--fetch-retries=1"]
    done = _npm("install", *options, *packages, folder=folder)
    if done.returncode != 0:
        if any(code in done.stderr for code in ("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN", "E403")):
            pytest.skip("npm's registry can't be reached")
        pytest.fail(done.stderr)
    return folder


def run(*arguments: str, folder: Path) -> str:
    """Run npm; its output. Fails the test with all that it said if its status is not 0."""
    done = _npm(*arguments, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _npm(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    nodes = node_folder()
    path = os.pathsep.join((str(nodes), os.environ.get("PATH", "")))  # what npm runs finds the same node
    script = nodes.parent / "lib/node_modules/npm/bin/npm-cli.js"  # the package's `npm` is a link that pip has resolved
    command = [nodes / "node", script] if script.is_file() else [nodes / "npm"]
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
