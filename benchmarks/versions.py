"""Other versions of bigupload, from this checkout's git, each in an environment of its own, as contestants."""

from __future__ import annotations

import compileall
import io
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version's interpreter, and the directory that has its package."""

    python: str
    tree: Path


def installed(reference: str, directory: Path, extras: str = "local") -> Version:
    """Return the version of a git reference. It is installed under `directory` unless it is there already.

    Its dependencies, with those of `extras`, are the newest that it allows. Raises SystemExit if git does not know the
    reference.
    """
    found = _git("rev-parse", "--verify", f"{reference}^{{commit}}")
    if found.returncode != 0:
        raise SystemExit(f"git knows no version {reference!r}: {found.stderr.decode().strip()}")
    home = directory / "versions" / found.stdout.decode().strip()[:12]
    tree, python = home / "tree", home / "environment" / "bin" / "python"
    done = home / ("installed" if extras == "local" else f"installed-{extras}")
    if not done.exists():
        print(f"installing bigupload of {reference} in {home}", flush=True)
        archive = io.BytesIO(_git("archive", "--format=tar", reference).stdout)
        with tarfile.open(fileobj=archive) as opened:
            opened.extractall(tree, filter="data")
        subprocess.run([sys.executable, "-m", "venv", home / "environment"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"{tree}[{extras}]"], check=True)
        done.touch()
    compileall.compile_dir(tree / "bigupload", quiet=2)
    return Version(python=str(python), tree=tree)


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, check=False)
