"""Run the media service as a child, call it, and measure CPU times. Linux only (/proc)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from .versions import Version

_TICKS = os.sysconf("SC_CLK_TCK")
PART, PARTS = 5 << 20, 900
"""Of the upload that `CREATE` creates."""
CREATE = json.dumps({"filename": "movie.mp4", "contentType": "video/mp4", "size": PARTS * PART, "partSize": PART})
PRESIGN = json.dumps({"filename": "photo.jpg", "contentType": "image/jpeg", "size": 4_000_000})


def cpu_of(pid: int) -> float:
    """Return the CPU seconds (user and system) of a process and of the processes that its first thread started:
    proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / _TICKS + sum(cpu_of(int(child)) for child in below)


def memory_of(pid: int) -> int:
    """The resident bytes of a process and of those that it started; what they share counts once: proc(5)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    proportional = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return proportional * 1024 + sum(memory_of(int(child)) for child in below)


# -- the service


@dataclass(frozen=True, kw_only=True)
class Service:
    """A running service."""

    url: str
    key: str = field(repr=False)
    pid: int


@contextlib.contextmanager
def serving(store: Path, home: Path, workers: int, *more: str, version: Version | None = None) -> Iterator[Service]:
    """Run the real command with the store in the directory `store`, and with `more` options. Its own files are under
    `home`, where an earlier call may have left some. `version`: another one than this checkout's."""
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BIGUPLOAD_"))}
    environment = kept | {
        "BIGUPLOAD_LOCAL_STORE_DIR": str(store),
        "BIGUPLOAD_KEYS": str(home / "keys.json"),
        "BIGUPLOAD_SECRET_FILE": str(home / "secret"),
        "BIGUPLOAD_STATE_DIR": str(home / "state"),
    }
    if version is not None:
        environment["PYTHONPATH"] = str(version.tree)
    limits = ["--requests", "100000", "--open-uploads", "1000", "--sweep-every", "0", *more]
    python = sys.executable if version is None else version.python
    command = [python, "-m", "bigupload", "serve", "--local", "--port", "0", "--workers", str(workers), *limits]
    log_path = home / "log"
    with (
        log_path.open("w") as log,
        subprocess.Popen(command, env=environment, cwd=home, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().partition("serving")[2].strip().rstrip("/")
            if not url:
                raise SystemExit(f"the service did not start: {log_path.read_text()}")
            key = process.stdout.readline().split()[2]  # "API key  KEY   (shown this once…"
            yield Service(url=url, key=key, pid=process.pid)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


# -- calls


class WrongAnswerError(Exception):
    """The service gave a wrong response."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Calls a service, with its API key unless a call has a token."""

    service: Service
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: str | None = None, token: str = "", **params: str) -> Any:
        """Return the JSON of a 200; None of a 204. Raises WrongAnswerError for another response."""
        headers = {"Authorization": f"Bearer {token or self.service.key}", "Content-Type": "application/json"}
        url = self.service.url + path
        async with self.http.request(method, url, data=body, params=params, headers=headers) as answer:
            content = await answer.read()
        if answer.status not in (200, 204):
            raise WrongAnswerError(f"{path} was answered {answer.status}: {content[:200].decode(errors='replace')}")
        return json.loads(content or b"null")


def sign_request(upload: str) -> str:
    """The body for POST /v1/media/multipart/parts, for one part in the middle."""
    part = {"partNumber": PARTS // 2, "size": PART, "checksum": "AAAAAAAAAAA="}
    return json.dumps({"upload": upload, "parts": [part]})


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the percentile: the least value that is not less than that share of them."""
    return ordered[math.ceil(share * len(ordered)) - 1]
