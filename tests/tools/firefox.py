"""A Firefox that is driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/), which it speaks itself: without a
driver, and without a browser of Playwright's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
_LISTENING = "WebDriver BiDi listening on "
_WITHIN = 180.0
"""Seconds that a command may take: a script may await an upload."""
_PREFERENCES = {
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "remote.active-protocols": 1,
}

_T = TypeVar("_T")


class Firefox:
    """One tab of it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, loop: asyncio.AbstractEventLoop) -> None:
        self._socket, self._loop = socket, loop
        self._last = 0
        self._context = ""

    def start(self) -> None:
        """Begin a session in its first tab."""
        self._call("session.new", {"capabilities": {}})
        self._context = self._call("browsingContext.getTree", {})["contexts"][0]["context"]

    def goto(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""
        self._call("browsingContext.navigate", {"context": self._context, "url": url, "wait": "complete"})

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, which is awaited: what JSON can say."""
        result = self._evaluate(f"Promise.resolve({expression}).then((value) => JSON.stringify(value ?? null))")
        return json.loads(result["value"])

    def until(self, expression: str) -> None:
        """Wait in the page until an expression is true."""
        look = f"const timer = setInterval(() => {{ if ({expression}) {{ clearInterval(timer); resolve(); }} }}, 20)"
        self.evaluate(f"new Promise((resolve) => {{ {look}; }})")

    def choose(self, input_: str, *files: Path) -> None:
        """Choose files in the file input that is the value of an expression."""
        element = {"sharedId": self._evaluate(input_)["sharedId"]}
        paths = [str(file) for file in files]
        self._call("input.setFiles", {"context": self._context, "element": element, "files": paths})

    def _evaluate(self, expression: str) -> Any:
        target = {"context": self._context}
        told = self._call("script.evaluate", {"expression": expression, "target": target, "awaitPromise": True})
        assert told["type"] == "success", told["exceptionDetails"]["text"]
        return told["result"]

    def _call(self, method: str, parameters: dict[str, Any]) -> Any:
        self._last += 1
        return _run(self._exchange(self._last, method, parameters), self._loop)

    async def _exchange(self, id_: int, method: str, parameters: dict[str, Any]) -> Any:
        await self._socket.send_json({"id": id_, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=_WITHIN)
            if answer.get("id") == id_:
                assert answer["type"] == "success", answer
                return answer["result"]


def _run(coroutine: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop) -> _T:
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(_WITHIN)


@contextlib.contextmanager
def firefox(profile: Path) -> Iterator[Firefox]:
    """One that runs, with this directory as its profile. Skips the test if there is none."""
    if FIREFOX is None:
        pytest.skip("no Firefox: install one that is called `firefox-esr` or `firefox`")
    profile.mkdir(exist_ok=True)
    lines = [f'user_pref("{name}", {json.dumps(value)});' for name, value in _PREFERENCES.items()]
    (profile / "user.js").write_text("\n".join(lines))
    command = [FIREFOX, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen([*command, "about:blank"], stderr=subprocess.PIPE, text=True))
        stack.callback(process.terminate)
        assert process.stderr is not None
        address = next(line for line in process.stderr if _LISTENING in line).partition(_LISTENING)[2].strip()
        reader = threading.Thread(target=process.stderr.read, daemon=True)  # so that it is never full
        reader.start()
        loop = asyncio.new_event_loop()  # of another thread: Playwright has one in this
        stack.callback(loop.close)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(loop.call_soon_threadsafe, loop.stop)
        session = _run(_session(), loop)
        stack.callback(lambda: _run(session.close(), loop))
        socket = _run(_connect(session, f"{address}/session"), loop)
        running = Firefox(socket, loop)
        running.start()
        yield running


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


async def _connect(session: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
    return await session.ws_connect(url, max_msg_size=0)
