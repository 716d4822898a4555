"""The programs of docs/how-to/web-app.md, as they stand: a token of the application begins an upload."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bigupload.service.uploads.bucket_rules import set_up
from bigupload.service.webhooks.hooks import new_secret
from bigupload.stores.local_store import LocalStore
from tests.tools.buckets import Meddled, fresh_name, options_for

pytestmark = pytest.mark.slow  # guards a page of the documentation

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "web-app.md"


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[number]


async def test_the_application_with_the_local_store(
    weed: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command and the one change that the page names."""
    pytest.importorskip("fastapi")
    for variable, value in {
        "BIGUPLOAD_LOCAL_STORE_DIR": str(weed.data_dir),
        "UPLOAD_SECRET": "s" * 32,
        "WEBHOOK_SECRET": new_secret(),
    }.items():
        monkeypatch.setenv(variable, value)
    name = fresh_name(weed)
    (command,) = re.findall(r"^\$ bigupload (bucket setup .* --local)$", PAGE.read_text(), re.MULTILINE)
    ended = await anyio.run_process([sys.executable, "-m", "bigupload", *command.replace("my-media", name).split()])
    assert ended.returncode == 0
    instead = "write `S3Options(local=True)` in place of `S3Options()`"
    assert instead in PAGE.read_text()
    program = block("python").replace("my-media", name).replace("S3Options()", "S3Options(local=True)")
    module: dict[str, Any] = {}
    exec(compile(program, PAGE, "exec"), module)
    await begin_an_upload(module["app"])


async def begin_an_upload(app: Any) -> None:
    """As the page does."""
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as browser,
    ):
        assert (await browser.get("/media/v1/client.js")).status_code == 200
        token = (await browser.post("/upload-token")).json()["token"]
        asked = {"filename": "dot.gif", "contentType": "image/gif", "size": 35}
        with_token = {"Authorization": f"Bearer {token}"}
        begun = await browser.post("/media/v1/media/multipart", json=asked, headers=with_token)
        assert begun.is_success, begun.text
        assert (await browser.post("/media-events", json={"type": "media.completed"})).status_code == 401


async def test_the_application(weed: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    name = fresh_name(weed)
    bucket = Meddled(name, options_for(weed))
    await set_up(bucket)
    await bucket.aclose()
    for variable, value in {
        "AWS_ENDPOINT_URL": weed.endpoint_url,
        "AWS_ACCESS_KEY_ID": weed.access_key,
        "AWS_SECRET_ACCESS_KEY": weed.secret_key,
        "AWS_REGION": weed.region,
        "AWS_DEFAULT_REGION": weed.region,
        "UPLOAD_SECRET": "s" * 32,
        "WEBHOOK_SECRET": new_secret(),
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "index.html").write_text(block("html"))
    module: dict[str, Any] = {}
    for number in range(2):  # what a reader copies
        exec(compile(block("python", number).replace("my-media", name), PAGE, "exec"), module)
    await begin_an_upload(module["app"])
    transport = httpx.ASGITransport(app=module["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as browser:
        assert 'from "/media/v1/client.js"' in (await browser.get("/")).text
    assert module["read_url"]("media/ada/1.gif").startswith(f"{weed.endpoint_url}/{name}/media/ada/1.gif?")
