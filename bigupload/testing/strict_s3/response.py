"""A success at StrictS3, and how it is sent."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from aiohttp import web

from bigupload.testing.faults import CutResponse

from .exchange import Dropped, Exchange
from .wire import Content, document

_QUOTED = re.compile(rb'<ETag>(?:&quot;|")([^<&"]*)(?:&quot;|")</ETag>')


@dataclass(frozen=True)
class StoreResponse:
    """A success. `stream` instead of `body` where the object's bytes are sent."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: Callable[[], Iterator[bytes]] | None = None

    def with_etag(self, etag: str) -> StoreResponse:
        headers, body = dict(self.headers), self.body
        if "ETag" in headers:
            headers["ETag"] = etag
        start, end = body.find(b"<ETag>"), body.find(b"</ETag>")
        if start >= 0:
            body = body[: start + 6] + etag.replace('"', "&quot;").encode() + body[end:]
        return replace(self, headers=headers, body=body)

    def without_quotes(self) -> StoreResponse:
        headers = {name: value.strip('"') if name == "ETag" else value for name, value in self.headers.items()}
        return replace(self, headers=headers, body=_QUOTED.sub(rb"<ETag>\1</ETag>", self.body))

    async def send(self, exchange: Exchange) -> web.StreamResponse:
        if self.stream is None:
            return web.Response(status=self.status, headers=self.headers, body=self.body or None)
        response = web.StreamResponse(status=self.status, headers=self.headers)
        await response.prepare(exchange.request)
        if exchange.request.method != "HEAD":
            left = exchange.fault.after_bytes if isinstance(exchange.fault, CutResponse) else None
            for chunk in self.stream():
                await response.write(chunk if left is None else chunk[:left])
                if left is not None and (left := max(0, left - len(chunk))) == 0:
                    exchange.hang_up()
                    raise Dropped
        await response.write_eof()
        return response


def timestamp(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def xml(name: str, content: Content, headers: Mapping[str, str] | None = None) -> StoreResponse:
    return StoreResponse(200, {"Content-Type": "application/xml", **(headers or {})}, document(name, content))
