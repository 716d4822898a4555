"""A site whose every path is what a test says, and a check of a URL of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from bigupload.service.contract import CheckResponse
from bigupload.service.media.direct_url import DirectUrls, UrlCheck

SITE = "127.0.0.2"
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Resolve = Callable[[str, int], Awaitable[list[str]]]


class Site:
    """A server whose every path is what a test says, and which keeps what was asked of it."""

    def __init__(self, port: int) -> None:
        self.paths: dict[str, Handler] = {}
        self.requests: list[web.BaseRequest] = []
        self.port = port

    def serve(self, path: str, body: bytes, *, status: int = 200, **headers: str) -> None:
        async def handler(_: web.BaseRequest) -> web.Response:
            return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

        self.paths[path] = handler

    def redirect(self, path: str, location: str, status: int = 302) -> None:
        self.serve(path, b"", status=status, Location=location)

    def url(self, path: str, host: str = SITE) -> str:
        return f"http://{host}:{self.port}{path}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        handler = self.paths.get(request.path)
        return await handler(request) if handler else web.Response(status=404)


@asynccontextmanager
async def raw_server(response: bytes, *, again: bytes = b"") -> AsyncIterator[str]:
    """Responds with bytes that no HTTP library would send, then `again` for ever. Its URL."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response)
            await writer.drain()
            while again:
                writer.write(again)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.png"


def resolving(**hosts: list[str]) -> Resolve:
    async def resolve(host: str, port: int) -> list[str]:
        try:
            return hosts[host.replace(".", "_")]
        except KeyError:
            raise socket.gaierror(socket.EAI_NONAME, "no such name") from None

    return resolve


async def check(url: str, **how: Any) -> UrlCheck:
    how.setdefault("allow_private", True)
    async with DirectUrls(**how) as urls:
        found = await urls.check(url)
    assert CheckResponse.model_validate(found.to_json()).usable == found.usable
    assert (found.message is None) == found.usable
    assert found.message is None or found.message.isprintable()
    return found
