"""A server of the test's own event loop that responds to each request with the bytes that a test says."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

from bigupload.http.client import HttpClient

from .leaks import no_leaks

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Script:
    """Responds to each request with the next of some bytes, and remembers the requests.

    Args:
        responses: What to respond. Empty: it closes; so does a connection that has carried the last one.
        holds: Whether connections stay open until the client closes them instead.
    """

    def __init__(self, *responses: bytes, holds: bool = False) -> None:
        self.responses = list(responses)
        self.holds = holds
        self.requests: list[bytes] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while self.responses:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            self.requests.append(head + await reader.readexactly(size))
            response = self.responses.pop(0)
            if not response and not self.holds:
                return
            writer.write(response)
            await writer.drain()
        if self.holds:
            await reader.read()


@contextlib.asynccontextmanager
async def serving(serve: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Where a server listens. A connection is closed when `serve` ends."""
    tasks: set[asyncio.Task[None] | None] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(run, "127.0.0.1", 0, ssl=tls) as server:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*(task for task in tasks if task is not None))


@contextlib.asynccontextmanager
async def asking(*responses: bytes, holds: bool = False) -> AsyncIterator[tuple[HttpClient, Script]]:
    """A client, and the script of the server that it can ask. They leave nothing behind."""
    script, client = Script(*responses, holds=holds), HttpClient(None)
    async with no_leaks(), serving(script.serve) as script.url, contextlib.aclosing(client):
        yield client, script


def response(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A response with some headers, whose names have underscores in place of dashes."""
    lines = [f"HTTP/1.1 {status} Words", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refusal(status: int, code: str) -> bytes:
    """One of S3's refusals."""
    return response(status, f"<Error><Code>{code}</Code></Error>".encode())
