"""The worker of docs/how-to/import-url.md, as it stands: what is queued becomes uploads of a user."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

from bigupload.stores.local_store import LocalStore
from tests.tools.media import sample
from tests.tools.service import serving
from tests.tools.web_server import web_server

pytestmark = pytest.mark.slow  # guards a page of the documentation

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "import-url.md"


async def test_a_queued_url_becomes_an_upload_of_its_user(
    weed: LocalStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one before it, which the web server does not have, ends neither the worker nor the queue."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    with serving(weed, tmp_path) as service:
        module: dict[str, Any] = {}
        exec(compile(program.replace("https://media.example.com", service.url.rstrip("/")), PAGE, "exec"), module)
        claims = {"user": "ada", "uploads": 1, "maxSize": 5_000_000}
        tokens = [service.call("POST", "/v1/media/tokens", json=claims).json()["token"] for _ in range(2)]
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        with web_server() as web:
            web.serve("/film.mp4", sample("mp4"))
            queue.put_nowait((f"{web.url}/none.mp4?secret=1", tokens[0]))
            queue.put_nowait((f"{web.url}/film.mp4?secret=1", tokens[1]))
            worker = asyncio.create_task(module["work"](queue))
            await queue.join()
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
        listed = await asyncio.to_thread(service.call, "GET", "/v1/media?user=ada")
    [media] = listed.json()["media"]
    said = capsys.readouterr().out
    assert (media["size"], said.splitlines()[1]) == (len(sample("mp4")), media["publicUrl"])
    assert said.startswith("not imported: ")
    assert "secret" not in said
