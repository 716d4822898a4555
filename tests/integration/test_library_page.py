"""The programs on docs/library.md do what the page says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import bigupload

from .stopped import SIZE
from .support import World

pytestmark = pytest.mark.slow  # guards a page of the documentation

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


class Outside:
    """What the programs on the page have around them: a web socket, and a vault with credentials."""

    def __init__(self, world: World) -> None:
        self.sent: list[Any] = []
        self._world = world

    async def send_json(self, data: Any) -> None:
        self.sent.append(data)

    async def issue(self, _: str) -> Any:
        s3 = self._world.s3
        later = datetime.now(UTC) + timedelta(hours=1)
        return types.SimpleNamespace(key=s3.access_key, secret=s3.secret_key, token=None, expires_at=later)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
async def test_a_program(world: World, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = world.file(SIZE, "movie.mov")
    world.s3.knobs.region = "eu-west-1"  # as the page has it
    world.s3.create_bucket("my-bucket")
    monkeypatch.chdir(world.directory)
    monkeypatch.setenv("AWS_ENDPOINT_URL", world.s3.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", world.s3.region)
    outside = Outside(world)
    names: dict[str, Any] = {
        "asyncio": asyncio, "bigupload": bigupload, "paths": [path], "websocket": outside, "vault": outside,
    }  # fmt: skip
    program = compile(PROGRAMS[number], PAGE, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if program.co_flags & inspect.CO_COROUTINE:
        await eval(program, names)
    else:
        await asyncio.to_thread(exec, program, names)
    assert world.s3.objects["my-bucket"]["raw/movie.mov"].sha256() is not None
    if "handle" in names:
        assert names["result"] == await names["handle"]
        assert names["handle"].progress.bytes_uploaded == SIZE
    if "websocket" in PROGRAMS[number]:
        assert [each["done"] for each in outside.sent] == [f"{world.s3.url}/my-bucket/raw/movie.mov"]
        assert list(names["progress"].values()) == [SIZE]
