"""The real command and boto3, both as clients of one store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from .launching import Running

BUCKET = "trial"
WITHIN = 120.0
"""Seconds for one command."""
REGION = "us-east-1"


class Failed(Exception):
    """A step did not do what it should; the text is what the command said."""


@dataclass(frozen=True)
class Client:
    """Runs commands with a home of their own, so that manifests and settings are nobody else's."""

    running: Running
    home: Path
    arguments: tuple[str, ...] = ()
    """For every upload."""

    @property
    def environment(self) -> dict[str, str]:
        """The command's: the store's credentials, and nothing of the caller's AWS settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BIGUPLOAD_"))}
        return kept | {
            "HOME": str(self.home),
            "BIGUPLOAD_STATE_DIR": str(self.home / "state"),
            "AWS_ACCESS_KEY_ID": self.running.access_key,
            "AWS_SECRET_ACCESS_KEY": self.running.secret_key,
            "AWS_REGION": REGION,
        }

    def command(self, name: str, *arguments: str | Path, endpoint: str | None = None) -> list[str]:
        """`bigupload NAME …` for this store, or for `endpoint` in its place."""
        reach = ["--endpoint-url", endpoint or self.running.url] if name != "abort" else []
        return [sys.executable, "-m", "bigupload", name, *map(str, arguments), *reach]

    def run(self, name: str, *arguments: str | Path, endpoint: str | None = None) -> str:
        """Its result, or what it told where it has none. Raises Failed with the last line of its complaint."""
        command = self.command(name, *arguments, endpoint=endpoint)
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=WITHIN)
        except subprocess.TimeoutExpired:
            raise Failed(f"`bigupload {name}` did not end within {WITHIN:.0f} s") from None
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
            raise Failed(lines[-1])
        return done.stdout or done.stderr

    def upload(self, file: Path, key: str, *more: str | Path, endpoint: str | None = None) -> dict[str, Any]:
        """The result of an upload in parts of 5 MiB, as `--json` prints it."""
        arguments = [file, "--to", f"s3://{BUCKET}/{key}", "--part-size", "5MiB", "--json", *self.arguments, *more]
        result: dict[str, Any] = json.loads(self.run("upload", *arguments, endpoint=endpoint))
        return result

    def boto3(self) -> Any:
        """A plain client, which adds no checksums of its own and does not retry."""
        return boto3.client(
            "s3",
            endpoint_url=self.running.url,
            region_name=REGION,
            aws_access_key_id=self.running.access_key,
            aws_secret_access_key=self.running.secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"total_max_attempts": 1},
            ),
        )
