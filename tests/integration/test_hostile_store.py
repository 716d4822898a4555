"""A store that answers calls made by credentials with whatever would hurt: bombs, no end, junk, other places."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bigupload import errors
from bigupload.checksums import Algorithm
from bigupload.options import S3Options
from bigupload.planning import Plan
from bigupload.retry import Fault, FaultKind
from bigupload.stores import _answers
from bigupload.stores._answers import read_bounded
from bigupload.stores.s3 import S3Store

BOMB = b'<!DOCTYPE l [<!ENTITY a "' + b"a" * 100_000 + b'">]><l>' + b"&a;" * 1000 + b"</l>"
XXE = (
    b'<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><ListPartsResult><UploadId>&x;</UploadId></ListPartsResult>'
)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def store_that(handler: Handler) -> AsyncIterator[S3Store]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        options = S3Options(endpoint_url=url, region="us-east-1", access_key="a", secret_key="hidden")
        async with contextlib.aclosing(S3Store("bucket", "key", options)) as store:
            yield store


def says(body: bytes, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, content_type="application/xml")

    return handler


CALLS: dict[str, Callable[[S3Store], Awaitable[Any]]] = {
    "create": lambda s: s.create(Plan(1, 1), Algorithm.CRC64NVME, declare=True, token="t"),
    "list": lambda s: s.list_parts("id", Algorithm.CRC64NVME),
    "find": lambda s: s.find_open(),
    "complete": lambda s: s.complete("id", [], size=1, algorithm=Algorithm.CRC64NVME, checksum=None),
}


async def refusal(store: S3Store, call: str) -> Exception:
    with pytest.raises((Fault, errors.BigUploadError)) as caught:
        await CALLS[call](store)
    assert "hidden" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("body", [BOMB, XXE, b"\n<!DOCTYPE html><html></html>", b"<a/>" * 500_000], ids=len)
async def test_documents_that_are_none_of_s3_s_are_not_parsed(call: str, body: bytes) -> None:
    async with store_that(says(body)) as store:
        found = await refusal(store, call)
    assert isinstance(found, Fault)
    assert found.kind is FaultKind.SERVER  # a portal, say: it may pass


@pytest.mark.parametrize("status", [400, 403, 500, 503])
async def test_a_refusal_with_such_a_document_is_its_status(status: int) -> None:
    async with store_that(says(BOMB, status)) as store:
        found = await refusal(store, "list")
    assert isinstance(found, Fault)
    assert found.status == status


JUNK = [
    b"", b"<", b"junk", b"<a/>", b"\xff\xfe<\0a\0/\0>\0", b"<ListPartsResult><Part>x</Part></ListPartsResult>",
    b"<ListPartsResult><Part><PartNumber>x</PartNumber></Part></ListPartsResult>",
    b"<ListPartsResult><Part><PartNumber>1</PartNumber><Size>1</Size></Part></ListPartsResult>",
    b"<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>x</NextPartNumberMarker></ListPartsResult>",
    b"<R><UploadId></UploadId></R>", b"<R><Upload><Key>key</Key></Upload></R>",
    b"<R><Upload><Key>key</Key><UploadId>u</UploadId><Initiated>never</Initiated></Upload></R>",
    b"<a>" * 100_000 + b"</a>" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
async def test_junk_is_an_answer_or_a_declared_error(call: str) -> None:
    for body in JUNK:
        async with store_that(says(body)) as store:
            answered = False
            with contextlib.suppress(Fault, errors.BigUploadError):
                await CALLS[call](store)
                answered = True
            assert not (answered and call == "create"), body  # an upload without an id is none


@pytest.mark.parametrize("status", [200, 403])
async def test_an_answer_without_end(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_answers, "MOST_BYTES", 1 << 20)
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(bytes(1 << 16))
                sent += 1 << 16
        return response

    async with store_that(handler) as store:
        found = await refusal(store, "list")
    assert "longer than any" in str(found)
    assert sent < 64 << 20  # what the sockets between hold


def test_an_answer_that_trickles_for_ever() -> None:
    now = [0.0]

    class Raw:
        closed = False

        def stream(self, _: int) -> Any:
            while True:
                now[0] += 59
                yield b" "

        def close(self) -> None:
            self.closed = True

    raw = Raw()
    with pytest.raises(Fault) as caught:
        read_bounded(raw, clock=lambda: now[0])
    assert caught.value.kind is FaultKind.STALLED
    assert raw.closed
    assert now[0] < 1000


async def test_pages_that_lead_ever_further() -> None:
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        marker = int(request.query.get("part-number-marker", 0)) + 1
        row = b"<Part><PartNumber>1</PartNumber><Size>1</Size><ETag>e</ETag></Part>"
        more = f"<IsTruncated>true</IsTruncated><NextPartNumberMarker>{marker * 1000}</NextPartNumberMarker>"
        body = b"<R><UploadId>id</UploadId>" + row + more.encode() + b"</R>"
        return web.Response(body=body, content_type="application/xml")

    async with store_that(handler) as store:
        await asyncio.wait_for(store.list_parts("id", Algorithm.NONE), 30)
    assert asked < 20


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", ["create", "list", "complete"])
async def test_a_redirect_takes_no_credentials_elsewhere(call: str, status: int) -> None:
    heard = 0

    async def listen(_: web.Request) -> web.Response:
        nonlocal heard
        heard += 1
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", listen)
    async with TestServer(app) as elsewhere:

        async def away(_: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": str(elsewhere.make_url("/bucket/key"))})

        async with store_that(away) as store:
            await refusal(store, call)
    assert heard == 0
