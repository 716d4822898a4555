"""A client behind a server of ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


class Client:
    """What it sends, and what it got."""

    def __init__(self, messages: Iterable[dict[str, Any]] = (), **scope: Any) -> None:
        self.scope = {
            "type": "http", "method": "POST", "path": "/x", "headers": [], "query_string": b"", "http_version": "2",
        } | scope  # fmt: skip
        self.messages = iter([*messages] or [{"type": "http.request"}])
        self.received = 0
        self.sent: list[dict[str, Any]] = []
        self.leaves = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        message = next(self.messages, None)
        if message is None:
            await self.leaves.wait()
            return {"type": "http.disconnect"}
        self.received += 1
        return message

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def asks(self, app: Any) -> tuple[int, bytes]:
        await app(self.scope, self.receive, self.send)
        assert [message["type"] for message in self.sent] == ["http.response.start", "http.response.body"]
        return self.sent[0]["status"], self.sent[1]["body"]


def body(*pieces: bytes) -> list[dict[str, Any]]:
    return [{"type": "http.request", "body": piece, "more_body": n < len(pieces)} for n, piece in enumerate(pieces, 1)]


def declared(length: int) -> list[Any]:
    return [(b"content-length", b"%d" % length)]


async def settled() -> None:
    """Until nothing happens any more."""
    for _ in range(200):
        await asyncio.sleep(0)
