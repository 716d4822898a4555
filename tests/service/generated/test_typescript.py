"""The types that openapi-typescript makes of the OpenAPI document: made without a word, strict, and of use."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.tools.media import sample
from tests.tools.service import Service

PACKAGES = ["@types/node@20", "openapi-fetch@0.17", "openapi-typescript@7", "typescript@5"]
STRICT = {
    "strict": True, "noUncheckedIndexedAccess": True, "exactOptionalPropertyTypes": True, "skipLibCheck": False,
    "noEmitOnError": True, "target": "es2022", "module": "nodenext", "types": ["node"],
}  # fmt: skip


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm, which installs openapi-typescript")
@pytest.mark.parametrize("service", ["aiohttp"], indirect=True)  # both edges serve one document
def test_types_of_openapi_typescript(service: Service, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_bytes(httpx.get(f"{service.url}/openapi.json", trust_env=False).content)
    (tmp_path / "photo.jpg").write_bytes(sample("jpg"))
    (tmp_path / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
    (tmp_path / "tsconfig.json").write_text(
        json.dumps({"compilerOptions": STRICT, "files": ["program.ts", "api.d.ts"]})
    )
    shutil.copy(Path(__file__).parent / "program.ts", tmp_path)
    run(
        "npm",
        "install",
        "--no-package-lock",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        *PACKAGES,
        folder=tmp_path,
    )
    try:
        bin_ = tmp_path / "node_modules" / ".bin"
        run(str(bin_ / "openapi-typescript"), "openapi.json", "--output", "api.d.ts", folder=tmp_path)
        assert run(str(bin_ / "tsc"), folder=tmp_path) == ""
        key = service.new_key("typescript")
        told = run("node", "program.js", service.url, key, "photo.jpg", folder=tmp_path)
    finally:
        shutil.rmtree(tmp_path / "node_modules")  # 45 MB
    assert told.splitlines() == [
        f"200 true {len(sample('jpg'))} 3600",
        "2 open 204",
        "403 token_type_refused contentType",
        "0",
    ]
