"""The environment of tests that upload to a strict store from their own process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bigupload.testing.strict_s3 import StrictS3


def only_strict_s3(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Set StrictS3's credentials and a state directory in `directory`, and nothing of this user's."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(directory / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(directory / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", StrictS3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", StrictS3.secret_key)
    monkeypatch.setenv("BIGUPLOAD_STATE_DIR", str(directory / "state"))
