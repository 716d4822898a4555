"""The endpoints over HTTP: authenticate, limit, validate, respond with JSON. `uploads` and `posts` do the work."""

from __future__ import annotations

import asyncio
import importlib.resources
import json
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pydantic
from aiohttp import web

from bigupload.service import contract as c
from bigupload.service.access_log import AccessLog
from bigupload.service.direct_url import DirectUrls
from bigupload.service.draining import IN_FLIGHT, RequestsInFlight
from bigupload.service.endpoints import ENDPOINTS, Endpoint
from bigupload.service.keys import ApiKey, KeyFile
from bigupload.service.metrics import Metrics
from bigupload.service.middleware import LOGGED, RequestMiddleware
from bigupload.service.openapi import document
from bigupload.service.posts import PostResponse, Posts
from bigupload.service.problems import Problem, Refused
from bigupload.service.request_rate import RequestRateLimit
from bigupload.service.settings import PostsApi
from bigupload.service.uploads import MediaUploads

_BODY_WITHIN = 60.0
"""Seconds that a request's body may take. Bodies are small: a slow one only occupies a connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDependencies:
    """What the application needs."""

    uploads: MediaUploads
    keys: KeyFile
    rate: RequestRateLimit
    log: AccessLog
    metrics: Metrics
    posts_api: PostsApi | None = None
    allow_private_media_hosts: bool = False
    store_origin: str = ""
    """Scheme, host and port of the signed URLs: the page may send requests there."""


def new_app(dependencies: ServiceDependencies) -> web.Application:
    """The application, to be run by aiohttp's runner."""
    in_flight = RequestsInFlight()
    app = web.Application(middlewares=[RequestMiddleware(dependencies.log, dependencies.metrics, in_flight).middleware])
    app[IN_FLIGHT] = in_flight
    service = _Service(dependencies)
    app.cleanup_ctx.append(service.connections)
    for endpoint in ENDPOINTS:
        app.router.add_route(endpoint.method, endpoint.path, service.handler(endpoint))
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/metrics", dependencies.metrics.handler)
    openapi = json.dumps(document()).encode()

    async def described(_: web.Request) -> web.Response:
        return web.Response(body=openapi, content_type="application/json", charset="utf-8")

    app.router.add_get("/openapi.json", described)
    page = _Page(dependencies.store_origin)
    app.router.add_get("/", page.handler)
    app.router.add_get("/page/{name}", page.handler)
    return app


class _Service:
    """The endpoints that need a key."""

    def __init__(self, dependencies: ServiceDependencies) -> None:
        self._dependencies = dependencies
        self._posts: Posts | None = None
        self._urls: DirectUrls | None = None

    async def connections(self, _: web.Application) -> AsyncIterator[None]:
        """For the application's life: a pool for the posts API, another for users' URLs."""
        dependencies = self._dependencies
        async with (
            DirectUrls(allow_private=dependencies.allow_private_media_hosts) as self._urls,
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as http,
        ):
            self._posts = Posts(dependencies.uploads.posted, self._urls, http, dependencies.posts_api)
            yield

    def handler(self, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The endpoint's handler: key, rate limit, body, work, response."""
        work: Callable[[str, Any, bytes], Awaitable[Any]] = getattr(self, f"_{endpoint.name}")

        async def handle(request: web.Request) -> web.StreamResponse:
            key = self._authenticate(request)
            logged = request[LOGGED]
            logged.key_id, logged.owner = key.id, key.owner
            wait = await self._dependencies.rate.take(key.id)
            if wait > 0:
                raise Refused(Problem.RATE_LIMITED, retry_after=wait)
            if endpoint.takes is None:
                body, taken = b"", _query(request)
            else:
                body = await _body(request, endpoint.max_bytes)
                taken = _parse(endpoint.takes, body)
            return _response(await work(key.owner, taken, body))

        return handle

    def _authenticate(self, request: web.Request) -> ApiKey:
        scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not presented.strip():
            raise Refused(Problem.MISSING_KEY)
        key = self._dependencies.keys.find(presented.strip())
        if key is None:
            raise Refused(Problem.INVALID_KEY)
        return key

    async def _presign(self, owner: str, request: c.PresignRequest, _: bytes) -> c.PresignResponse:
        return await self._dependencies.uploads.presign(owner, request)

    async def _create(self, owner: str, request: c.CreateRequest, _: bytes) -> c.CreateResponse:
        return await self._dependencies.uploads.create(owner, request)

    async def _sign(self, owner: str, request: c.SignRequest, _: bytes) -> c.SignResponse:
        return await self._dependencies.uploads.sign(owner, request)

    async def _list(self, owner: str, upload: str, _: bytes) -> c.PartsResponse:
        return await self._dependencies.uploads.parts(owner, upload)

    async def _status(self, owner: str, upload: str, _: bytes) -> c.StatusResponse:
        return await self._dependencies.uploads.status(owner, upload)

    async def _complete(self, owner: str, request: c.CompleteRequest, _: bytes) -> c.CompleteResponse:
        return await self._dependencies.uploads.complete(owner, request)

    async def _abort(self, owner: str, upload: str, _: bytes) -> None:
        await self._dependencies.uploads.abort(owner, upload)

    async def _check(self, _: str, request: c.CheckRequest, __: bytes) -> c.CheckResponse:
        assert self._urls is not None
        return c.CheckResponse.model_validate((await self._urls.check(request.url)).to_json())

    async def _post(self, owner: str, request: c.PostRequest, body: bytes) -> PostResponse:
        assert self._posts is not None
        return await self._posts.post(owner, request, body)


# -- requests


async def _body(request: web.Request, most: int) -> bytes:
    if request.content_type not in ("application/json", "application/octet-stream"):  # the second: none was named
        raise Refused(Problem.UNSUPPORTED_CONTENT_TYPE)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(Problem.UNSUPPORTED_CONTENT_TYPE, "the request's body must not be compressed")
    too_large = Refused(Problem.BODY_TOO_LARGE, f"the request's body is longer than {most:,} bytes")
    if (request.content_length or 0) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_WITHIN):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise Refused(Problem.INVALID_JSON, "the request's body did not arrive within 60 s") from None
    except (ConnectionError, aiohttp.ClientPayloadError, web.RequestPayloadError):  # nobody may be there to read this
        raise Refused(Problem.INVALID_JSON, "the connection closed before the end of the request's body") from None
    return bytes(body)


def _parse(model: type[pydantic.BaseModel], body: bytes) -> Any:
    try:
        # By the published names alone: `media_items` beside `mediaItems` would be checked, and another one posted.
        return model.model_validate_json(body, by_alias=True, by_name=False)
    except pydantic.ValidationError as e:
        first = e.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid" or not first["loc"]:
            raise Refused(Problem.INVALID_JSON) from None
        raise Refused(Problem.INVALID_FIELD, first["msg"], field=_path(first["loc"])) from None


def _path(loc: tuple[int | str, ...]) -> str:
    """`parts[0].size`"""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).removeprefix(".")


def _query(request: web.Request) -> str:
    given = request.query.getall("upload", [])
    if len(given) != 1 or not 1 <= len(given[0]) <= c.MAX_HANDLE_LENGTH:
        raise Refused(Problem.INVALID_FIELD, "the query must name one upload: ?upload=HANDLE", field="upload")
    return given[0]


# -- responses


def _response(result: Any) -> web.Response:
    if result is None:
        return web.Response(status=204)
    if isinstance(result, PostResponse):
        return web.Response(status=result.status, body=result.body, headers=result.headers)
    assert isinstance(result, pydantic.BaseModel)
    return web.Response(body=result.model_dump_json(by_alias=True).encode(), content_type="application/json")


async def _healthz(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


class _Page:
    """The upload page's files, read once."""

    def __init__(self, store_origin: str) -> None:
        folder = importlib.resources.files("bigupload.service").joinpath("browser")
        self._files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
        self._policy = "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "img-src 'self'",
                f"connect-src 'self' {store_origin}".strip(),
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            )
        )

    async def handler(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        content = self._files.get(name)
        if content is None:
            raise Refused(Problem.NOT_FOUND)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        charset = "utf-8" if kind.startswith("text/") else None
        headers = {"Content-Security-Policy": self._policy, "Cache-Control": "no-cache"}
        return web.Response(body=content, content_type=kind, charset=charset, headers=headers)


def origin_of(url: str) -> str:
    """Scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
