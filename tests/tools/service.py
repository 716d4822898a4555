"""The media service as a process, as a person starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bigupload.stores.local_store import LocalStore
from tests.tools.signals import heard
from tests.tools.warm_starts import STARTS, Started


@dataclass
class Service:
    """One that runs. `key` is its first API key, of the owner `local`."""

    url: str
    key: str
    home: Path
    """Of its keys, its secret and its log."""
    process: Started | subprocess.Popen[str]
    environment: dict[str, str] = field(repr=False)
    asgi: bool = False

    @property
    def bucket(self) -> str:
        """The name of its bucket: each edge has its own, because tests name owners."""
        return f"bigupload-media{'-asgi' if self.asgi else ''}"

    def call(self, method: str, path: str, *, key: str | None = None, **arguments: Any) -> httpx.Response:
        """One request with an API key."""
        headers = {"Authorization": f"Bearer {key or self.key}"} | arguments.pop("headers", {})
        return httpx.request(method, self.url + path, headers=headers, timeout=60, trust_env=False, **arguments)

    def new_key(self, owner: str) -> str:
        """Another API key, made by the command."""
        done = self.command("keys", "create", "--owner", owner)
        done.check_returncode()
        return done.stdout.strip()

    def revoke(self, key: str) -> None:
        """End an API key, by the command."""
        self.command("keys", "revoke", key).check_returncode()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `bigupload ARGUMENTS` as a process with the service's environment."""
        return STARTS.run(arguments, self.environment)

    def log(self) -> str:
        """What it wrote to standard error so far."""
        return (self.home / "log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


@contextlib.contextmanager
def serving(
    store: LocalStore,
    home: Path,
    *arguments: str,
    local: bool = True,
    ignored: tuple[signal.Signals, ...] = (),
    cold: bool = False,
    asgi: bool = False,
) -> Iterator[Service]:
    """`bigupload serve --local` over a store that runs, on a free port, its files under `home`.

    Args:
        ignored: signals that it ignores from its start.
        asgi: whether uvicorn serves it, as an ASGI application.
        cold: whether it needs an interpreter of its own, for what that does at its start, or for the caller's limits.
    """
    home.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BIGUPLOAD_"))} | {
        "BIGUPLOAD_LOCAL_STORE_DIR": str(store.data_dir),
        "BIGUPLOAD_KEYS": str(home / "keys.json"),
        "BIGUPLOAD_SECRET_FILE": str(home / "secret"),
        "BIGUPLOAD_STATE_DIR": str(home / "state"),
    }
    command = ["serve", "--port", "0", *(["--local"] if local else []), *arguments]
    if not local:
        environment |= {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
        environment |= {"AWS_REGION": store.region, "AWS_ENDPOINT_URL": store.endpoint_url}
    process: Started | subprocess.Popen[str]
    with (home / "log").open("a") as log:
        if cold or asgi:
            with heard(*ignored):
                anew = [sys.executable, "-m", "tests.tools.asgi_service" if asgi else "bigupload", *command]
                process = subprocess.Popen(anew, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        else:
            process = STARTS.start(command, environment, error=log.fileno(), ignored=ignored)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().partition("serving")[2].strip().rstrip("/")
        assert url, (home / "log").read_text()
        key = process.stdout.readline().split()[2] if local and not (home / "key").exists() else ""
        if key:
            (home / "key").write_text(key)
        else:
            key = (home / "key").read_text() if (home / "key").exists() else ""
        yield Service(url, key, home, process, environment, asgi)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()
