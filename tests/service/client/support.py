"""The command on a machine of its own, and what it left in the store."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from unittest import mock

import httpx
import pytest

from bigupload.cli import main
from tests.crash.running import Ended, Place, Process, until

MIB = 1024 * 1024
PART = 5 * MIB
PARTS = 10
"""Of `movie`: more than are signed at create."""
AHEAD = 8


class Client:
    """The command on a machine of its own, which has an API key and nothing of AWS."""

    def __init__(self, directory: Path, url: str, key: str, printed: pytest.CaptureFixture[str]) -> None:
        self.place = Place(directory)
        self.url = url
        self.key = key
        self._printed = printed

    def environment(self, key: str | None = None) -> dict[str, str]:
        found = {n: v for n, v in self.place.environment().items() if not n.startswith("AWS_")}
        return found | {"BIGUPLOAD_API_KEY": self.key if key is None else key}

    def upload(self, path: Path, *more: str, key: str | None = None) -> Ended:
        return self("upload", path, "--service", self.url, "--part-size", "5MiB", *more, key=key)

    def start(self, path: Path, *more: str) -> Process:
        arguments = ("upload", path, "--service", self.url, "--part-size", "5MiB", "--progress", "none", *more)
        return self.place.start(*arguments, environment=self.environment())

    def __call__(self, *arguments: str | Path, key: str | None = None, **variables: str) -> Ended:
        """The command in this process. What is killed is a process of its own: see `start`."""
        with (
            mock.patch.dict(os.environ, self.environment(key) | variables, clear=True),
            pytest.raises(SystemExit) as ended,
        ):
            main([*map(str, arguments)])
        out, err = self._printed.readouterr()
        code = ended.value.code or 0
        assert isinstance(code, int)
        return Ended(code, out, err)

    def killed(self, path: Path, *, parts: int) -> None:
        """Upload, and kill -9 once so many parts are recorded."""
        with self.start(path) as process:
            until(lambda: self.recorded() >= parts, process)
            process.kill()

    def recorded(self) -> int:
        """Parts in the manifest, right now; 0 while there is none."""
        paths = list(self.place.state.glob("*.manifest.jsonl"))
        return paths[0].read_bytes().count(b'\n{"type":"part",') if paths else 0


def object_sha256(url: str) -> str:
    """Of what everyone gets under a publicUrl."""
    digest = hashlib.sha256()
    with httpx.stream("GET", url, trust_env=False, timeout=60) as response:
        assert response.status_code == 200
        for piece in response.iter_bytes(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stopped(ended: Ended, code: int, *says: str) -> None:
    assert ended.code == code, ended.err
    last = ended.err.splitlines()[-1]
    assert last.startswith("bigupload: ")
    for words in says:
        assert words in last
    assert "Traceback" not in ended.err
