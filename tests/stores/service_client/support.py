"""A media service that says whatever a test wants, and what a client of it asks for and is told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bigupload import errors
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import ObjectFacts, PartProof
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import MIB, Plan
from bigupload.core.retry_policy import Fault
from bigupload.ports import UnsignedPart
from bigupload.stores.service_client import ServiceStore
from tests.integration.support import whole_text

KEY = "sk_the-key-that-nobody-may-see"
HANDLE = "WzEsIm93bmVyIl0.signed"
CRC = "mDmyBmPrBjU="
PLAN = Plan(12 * MIB, 5 * MIB)
PUBLIC = "https://cdn.example/media/o/k.mp4"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Fake:
    """Responds to each request with the next of `responses`, the last for ever."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.responses: list[Handler] = []

    def says(self, body: Any = None, status: int = 200, **headers: str) -> None:
        """JSON, or as it is where it is text."""
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        data = text.encode() if isinstance(text, str) else text
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def respond(_: web.Request) -> web.Response:
            return web.Response(body=data, status=status, headers=named)

        self.responses.append(respond)

    def refuses(self, code: str, status: int = 422, message: str = "the words of the service", **headers: str) -> None:
        self.says({"error": {"code": code, "message": message}}, status, **headers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        body = json.loads(data) if data else None
        self.asked.append(Asked(request.method, request.path, dict(request.query), dict(request.headers), body))
        return await (self.responses.pop(0) if len(self.responses) > 1 else self.responses[0])(request)


@asynccontextmanager
async def listening(fake: Fake, **arguments: Any) -> AsyncIterator[str]:
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    server = TestServer(app, scheme="https" if arguments else "http")
    await server.start_server(**arguments)
    async with server:
        yield str(server.make_url("")).rstrip("/")


def part(number: int, checksum: str = CRC) -> UnsignedPart:
    return UnsignedPart(number, PLAN.part(number).size, {Algorithm.CRC64NVME.header: checksum})


def row(part: UnsignedPart, **more: Any) -> dict[str, Any]:
    url = f"https://store.example/{part.number}?X-Amz-Signature=secret"
    return {"partNumber": part.number, "url": url, "headers": dict(part.headers)} | more


def begun(first: list[UnsignedPart] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "upload": HANDLE,
        "key": "media/o/k.mp4",
        "publicUrl": PUBLIC,
        "partSize": PLAN.part_size,
        "parts": PLAN.count,
        "checksumAlgorithm": "crc64nvme",
        "signed": [row(part) for part in first or ()],
        "expiresIn": 3600,
    } | more


def made(**more: Any) -> dict[str, Any]:
    return {
        "publicUrl": PUBLIC,
        "key": "media/o/k.mp4",
        "size": PLAN.size,
        "checksum": CRC,
        "checksumAlgorithm": "crc64nvme",
        "checksumType": "FULL_OBJECT",
        "etag": '"e-3"',
        "token": "t" * 32,
    } | more


PARTS = [
    PartRecord(number=p.number, size=p.size, etag=f'"{p.number}"', checksum=CRC, proof=PartProof.CHECKSUM) for p in PLAN
]


async def create(store: ServiceStore, first: list[UnsignedPart] | None = None) -> Any:
    return await store.create(PLAN, Algorithm.CRC64NVME, declare=True, token="t" * 32, first=first or [])


async def complete(store: ServiceStore) -> ObjectFacts:
    return await store.complete(HANDLE, PARTS, size=PLAN.size, algorithm=Algorithm.CRC64NVME, checksum="whole")


CALLS: dict[str, Callable[[ServiceStore], Awaitable[Any]]] = {
    "create": create,
    "sign": lambda store: store.sign(HANDLE, [part(1), part(3)]),
    "list": lambda store: store.list_parts(HANDLE, Algorithm.CRC64NVME),
    "stat": lambda store: store.stat(HANDLE, Algorithm.CRC64NVME),
    "complete": complete,
    "abort": lambda store: store.abort(HANDLE),
}


async def refusal_of(awaitable: Awaitable[Any]) -> Exception:
    """What a call raised, and nothing secret in it."""
    with pytest.raises((Fault, errors.BigUploadError)) as caught:
        await awaitable
    text = whole_text(caught.value)
    assert KEY not in text
    assert "Signature" not in text
    assert "\n" not in str(caught.value)
    return caught.value
