"""The programs of docs/examples with which an app's backend makes tokens by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.test_attacks import refusal
from tests.service.test_multipart import create
from tests.tools.service import Service

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


def run(*command: str | Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.strip()


def signing_key(service: Service, owner: str) -> str:
    done = service.command("keys", "signing-key", "--owner", owner)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize("program", ["mint_token.py", "mint_token.mjs"])
@pytest.mark.exhaustive
def test_a_token_of_a_backend_s_own(service: Service, program: str) -> None:
    interpreter = sys.executable if program.endswith(".py") else shutil.which("node")
    if interpreter is None:
        pytest.skip("no Node")
    key = {"UPLOAD_SIGNING_KEY": signing_key(service, "shop")}
    token = run(interpreter, EXAMPLES / program, "shop", environment=key)
    assert refusal(create(service, 200_000_000, key=token)) == (403, "token_size_exceeded")
    made = create(service, 5, key=token)
    assert made.json()["key"].startswith("media/shop/~u-17/")
    assert refusal(create(service, 5, key=token)) == (403, "token_used_up")
    stranger = run(interpreter, EXAMPLES / program, "bank", environment=key)
    assert refusal(create(service, 5, key=stranger)) == (401, "invalid_token")
