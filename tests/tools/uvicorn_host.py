"""Serves an application by uvicorn, in a process of its own that says when it listens."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn


def listen() -> socket.socket:
    """A socket on a free port of this machine, for `serve`."""
    # With the protocol named, asyncio switches Nagle's algorithm off. Else each response would wait for 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    return listener


async def serve(app: Any, listener: socket.socket) -> None:
    """Serve until a signal comes. Prints the port once the application has started, and nothing if it fails to."""
    await _Announced(uvicorn.Config(app, log_level="warning", lifespan="on")).serve(sockets=[listener])


class _Announced(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            print(sockets[0].getsockname()[1], flush=True)
