"""The endpoints over HTTP: authenticate, limit, validate, respond with JSON. `uploads` and `posts` do the work."""

from __future__ import annotations

import asyncio
import codecs
import functools
import gzip
import hashlib
import importlib.resources
import json
import mimetypes
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from datetime import UTC, datetime
from importlib.resources.abc import Traversable
from typing import Any
from urllib.parse import unquote_to_bytes

import aiohttp
import pydantic
from aiohttp import web

from bigupload.service import contract as c
from bigupload.service.access.callers import Caller, authenticate
from bigupload.service.access.cors import CrossOrigin
from bigupload.service.access.upload_tokens import (
    MeRequest,
    MeResponse,
    RevokedResponse,
    RevokeRequest,
    TokenRequest,
    TokenResponse,
)
from bigupload.service.access_log import AccessLog, TrustedProxies
from bigupload.service.http.endpoints import ENDPOINTS, Endpoint, document
from bigupload.service.http.middleware import IN_FLIGHT, LOGGED, RequestMiddleware, RequestsInFlight
from bigupload.service.http.monitoring import Metrics, Tracing
from bigupload.service.http.opening import OpenService, opened
from bigupload.service.http.settings import ServiceConfig
from bigupload.service.media.direct_url import DirectUrls
from bigupload.service.media.policy import Policy
from bigupload.service.problems import Problem, Refused, words_for
from bigupload.service.uploads.posts import PostResponse, Posts
from bigupload.service.webhooks import sending

_BODY_WITHIN = 60.0
"""Seconds that a request's body may take. Bodies are small: a slow one only occupies a connection."""

_LONGEST_SHOWN = 100
"""Characters of a parameter's name that a refusal repeats."""

LOG = web.AppKey("log", AccessLog)
ROOT_PATH = "bigupload.root_path"
"""The name by which a request's `get_extra_info` has the prefix of a host that is not an application of aiohttp."""


def create_app(config: ServiceConfig) -> web.Application:
    """Make the service as an application of aiohttp.

    Run it by itself, or mount it with `add_subapp` at any prefix. It reaches the store when it starts, and its
    connections end at its cleanup. Nothing outside it is changed, so several may be in one process.

    Raises:
        UsageError: The configuration makes no sense. At the start, the errors of the store, too.
    """
    log = AccessLog(write=config.log, proxies=TrustedProxies(config.trusted_proxies))
    metrics, cors, in_flight = Metrics(log.seconds), CrossOrigin(config.cors_origins), RequestsInFlight()
    tracing = Tracing(config.bucket)
    middleware = RequestMiddleware(log, metrics, in_flight, cors, tracing)
    app = web.Application(middlewares=[middleware.middleware])
    app[IN_FLIGHT], app[LOG] = in_flight, log
    service = _Service(config, log, in_flight, metrics, tracing)
    app.cleanup_ctx.append(service.connections)
    for endpoint in ENDPOINTS:
        app.router.add_route(endpoint.method, _route(endpoint.path), service.handler(endpoint))
    if cors:
        _add_preflights(app, cors)
    middleware.root = app.router.add_get("/healthz", _healthz).resource
    app.router.add_get("/readyz", service.readyz)
    app.router.add_get("/metrics", metrics.handler)
    app.router.add_get("/openapi.json", _described)
    app.router.add_get("/", service.page)
    app.router.add_get("/page/{name}", service.page)
    for path in ("/client/{name}", "/v1/client/{name}", "/v1/client.js"):
        app.router.add_get(path, service.client)
    return app


def _route(path: str) -> str:
    """The path for aiohttp. A key has slashes, as they are or quoted; other paths, and declared ones, are not keys."""
    before, _, after = path.partition("{key}")
    if after:  # else it would be taken for a key that ends so
        return path.replace("{key}", "{key:.+}")
    declared = "|".join(re.escape(e.path.removeprefix(before)) for e in ENDPOINTS if "{" not in e.path)
    return path.replace("{key}", f"{{key:(?!(?:{declared})$).+(?:/|%2F).+}}")


def _add_preflights(app: web.Application, cors: CrossOrigin) -> None:
    """Answer the OPTIONS by which a browser asks whether a page of another origin may call an endpoint."""
    for path in dict.fromkeys(endpoint.path for endpoint in ENDPOINTS if not endpoint.public):
        app.router.add_route("OPTIONS", _route(path), _preflight(cors, {e.method for e in ENDPOINTS if e.path == path}))


def _preflight(cors: CrossOrigin, methods: Collection[str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        headers = cors.preflight(
            request.headers.get("Origin"), request.headers.get("Access-Control-Request-Method"), methods
        )
        if headers is None:
            raise web.HTTPMethodNotAllowed("OPTIONS", methods)
        return web.Response(status=204, headers=headers)

    return handle


_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", re.IGNORECASE)
"""In `Accept-Encoding`: RFC 9110, 12.5.3. With `q=0`, the client refuses it."""
_KEEP_PUBLIC = "public, max-age=300"


class _Service:
    """The endpoints of the API."""

    def __init__(
        self, config: ServiceConfig, log: AccessLog, in_flight: RequestsInFlight, metrics: Metrics, tracing: Tracing
    ) -> None:
        self._config = config
        self._tracing = tracing
        self._log = log
        self._metrics = metrics
        self._in_flight = in_flight
        self._opened: OpenService | None = None
        self._page: UploadPageFiles | None = None
        self._posts: Posts | None = None

    async def connections(self, _: web.Application) -> AsyncIterator[None]:
        """For the application's life: the store, connections to the posts API, others to users' URLs."""
        config = self._config
        self._tracing.start()
        async with (
            opened(config, self._log, self._metrics, self._tracing) as self._opened,
            DirectUrls(allow_private=config.allow_private_media_hosts) as urls,
            sending.connections() as http,
        ):
            self._page = UploadPageFiles(
                self._opened.store_origin, self._opened.policy, own_users=config.authorize is not None
            )
            uploads, health = self._opened.uploads, self._opened.health
            self._posts = Posts(uploads.posted, urls, http, config.posts_api, health)
            yield

    @property
    def _dependencies(self) -> OpenService:
        assert self._opened is not None, "the application was not started"
        return self._opened

    async def page(self, request: web.Request) -> web.Response:
        """Answer with a file of the upload page."""
        assert self._page is not None
        return await self._page.page(request)

    async def client(self, request: web.Request) -> web.Response:
        """Answer with a module of the JavaScript client."""
        assert self._page is not None
        return await self._page.client(request)

    async def readyz(self, _: web.Request) -> web.Response:
        """Say whether a load balancer should send requests here."""
        if self._in_flight.stopping:
            return web.json_response({"status": "stopping"}, status=503)
        if await self._dependencies.health.problem() is not None:
            return web.json_response({"status": "the store does not respond"}, status=503)
        return web.json_response({"status": "ok"})

    def handler(self, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The endpoint's handler: key, rate limit, body, work, response."""
        known = endpoint.query
        if endpoint.public:
            return self._public(getattr(self, f"_{endpoint.name}"), known)
        work: Callable[[Caller, Any, bytes], Coroutine[Any, Any, Any]] = getattr(self, f"_{endpoint.name}")

        async def handle(request: web.Request) -> web.StreamResponse:
            opened = self._dependencies
            caller = await authenticate(request, self._config.authorize, opened.keys, opened.tokens, opened.revocations)
            logged = request[LOGGED]
            logged.key_id, logged.owner = caller.key_id, caller.owner
            if caller.user is not None:
                logged.more["user"] = caller.user
            if caller.token is not None:
                logged.more["token"] = caller.token.id
                if not endpoint.tokens:
                    raise Refused(Problem.TOKEN_NOT_ALLOWED)
            wait = await self._dependencies.rate.take(caller.id)
            if wait > 0:
                raise Refused(Problem.RATE_LIMITED, retry_after=wait)
            _check_query(request, known)
            taken: Any
            if endpoint.parameters is not None:
                body = b""
                taken = _parameters(endpoint.parameters, request)
            else:
                assert endpoint.takes is not None
                body = await _body(request, endpoint.max_bytes, typed=caller.is_of_the_host)
                body = body.removeprefix(codecs.BOM_UTF8)  # RFC 8259, 8.1
                taken = _parse(endpoint.takes, body)
            model = endpoint.takes or endpoint.parameters
            if model is not None and "user" in model.model_fields:  # declared: a post may have any other field
                taken = taken.model_copy(update={"user": caller.user_of(taken.user)})
            if model is not None and "tags" in model.model_fields:
                _check_tags(caller, taken.tags)
            working = work(caller, taken, body)
            if endpoint.waits_for_store:
                working = self._dependencies.health.while_responding(working)
            result = await working
            self._metrics.worked(taken, result)
            return _response(result)

        return handle

    @staticmethod
    def _public(
        answer: Callable[[], pydantic.BaseModel], known: Collection[str]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            _check_query(request, known)
            response = _response(answer())
            response.headers["Cache-Control"] = _KEEP_PUBLIC
            return response

        return handle

    def _jwks(self) -> c.JsonWebKeys:
        return self._dependencies.receipts.published

    async def _me(self, caller: Caller, _: MeRequest, __: bytes) -> MeResponse:
        token = caller.token
        if token is None:
            return MeResponse(owner=caller.owner, user=caller.user)
        limits = token.model_dump(include=set(MeResponse.model_fields) - {"owner"})
        return MeResponse(owner=caller.owner, expires_at=datetime.fromtimestamp(token.expires, UTC), **limits)

    async def _mint(self, caller: Caller, request: TokenRequest, _: bytes) -> TokenResponse:
        for number, pattern in enumerate(request.content_types or ()):
            if not self._dependencies.policy.types.allows(pattern):
                message = f"this service accepts no file of the content type {pattern}"
                raise Refused(Problem.UNSUPPORTED_MEDIA, message, field=f"contentTypes[{number}]")
        await self._dependencies.uploads.counts.check_store(request)
        return self._dependencies.tokens.mint(caller.owner, request, key_id=caller.key_id)

    async def _revoke(self, caller: Caller, request: RevokeRequest, _: bytes) -> RevokedResponse:
        return await self._dependencies.revocations.revoke(caller.owner, request)

    async def _presign(self, caller: Caller, request: c.PresignRequest, _: bytes) -> c.PresignResponse:
        return await self._dependencies.uploads.presign(caller.owner, request, caller.token)

    async def _create(self, caller: Caller, request: c.CreateRequest, _: bytes) -> c.CreateResponse:
        return await self._dependencies.uploads.create(caller.owner, request, caller.token)

    async def _sign(self, caller: Caller, request: c.SignRequest, _: bytes) -> c.SignResponse:
        return await self._dependencies.uploads.sign(caller.owner, request, caller.token, caller.bound)

    async def _list(self, caller: Caller, query: c.UploadQuery, _: bytes) -> c.PartsResponse:
        return await self._dependencies.uploads.parts(caller.owner, query.upload, caller.bound)

    async def _status(self, caller: Caller, query: c.UploadQuery, _: bytes) -> c.StatusResponse:
        return await self._dependencies.uploads.status(caller.owner, query.upload, caller.bound)

    async def _complete(self, caller: Caller, request: c.CompleteRequest, _: bytes) -> c.CompleteResponse:
        return await self._dependencies.uploads.complete(caller.owner, request, caller.token, caller.bound)

    async def _abort(self, caller: Caller, query: c.UploadQuery, _: bytes) -> None:
        await self._dependencies.uploads.abort(caller.owner, query.upload, caller.bound)

    async def _files(self, caller: Caller, request: c.ListRequest, _: bytes) -> c.ListResponse:
        return await self._dependencies.uploads.files.list(caller.owner, request)

    async def _delete(self, caller: Caller, request: c.DeleteRequest, _: bytes) -> None:
        await self._dependencies.uploads.delete_file(caller.owner, request.key, request.user)

    async def _delete_many(self, caller: Caller, request: c.DeleteManyRequest, _: bytes) -> c.DeletedResponse:
        return await self._dependencies.uploads.delete_files(caller.owner, request)

    async def _read_url(self, caller: Caller, request: c.ReadUrlRequest, _: bytes) -> c.ReadUrlResponse:
        return await self._dependencies.uploads.files.read_url(caller.owner, request)

    async def _open_uploads(self, caller: Caller, request: c.OpenUploadsRequest, _: bytes) -> c.OpenUploadsResponse:
        return await self._dependencies.uploads.files.open_uploads(caller.owner, request)

    async def _abort_all(self, caller: Caller, request: c.AbortRequest, _: bytes) -> c.AbortedResponse:
        return await self._dependencies.uploads.abort_all(caller.owner, request)

    async def _check(self, caller: Caller, request: c.CheckRequest, _: bytes) -> c.CheckResponse:
        assert self._posts is not None
        return await self._posts.look(caller.owner, request.url, caller.bound)

    async def _post(self, caller: Caller, request: c.PostRequest, body: bytes) -> PostResponse:
        assert self._posts is not None
        return await self._posts.post(caller.owner, request, body, caller.bound)


def _check_tags(caller: Caller, tags: Mapping[str, str] | None) -> None:
    """Raise Refused for tags that the sender of a request may not name.

    The bucket's rules act by tags: a person must not choose how long a file is kept, or who may read it.
    """
    if tags is not None and (caller.token is not None or caller.is_of_the_host):
        raise Refused(Problem.INVALID_FIELD, "only an API key or an upload token names tags", field="tags")


# -- requests


async def _body(request: web.Request, most: int, *, typed: bool) -> bytes:
    """The body. `typed`: its type must be named, as a page of another origin can't do without being asked (CORS).

    Whoever presents a key or token need not: no browser sends those by itself.
    """
    if typed and not request.headers.get("Content-Type", "").strip():
        raise Refused(Problem.UNSUPPORTED_CONTENT_TYPE)
    if request.content_type not in ("application/json", "application/octet-stream"):  # the second: none was named
        raise Refused(Problem.UNSUPPORTED_CONTENT_TYPE)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(Problem.UNSUPPORTED_CONTENT_TYPE, "the request's body must not be compressed")
    too_large = Refused(Problem.BODY_TOO_LARGE, f"the request's body is longer than {most:,} bytes")
    closed = Refused(Problem.INVALID_JSON, "the connection closed before the end of the request's body")
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
        raise closed from None
    except RuntimeError:
        if request.transport is not None:  # else aiohttp says so that the client left before the first read
            raise
        raise closed from None
    return bytes(body)


def _parse(model: type[pydantic.BaseModel], body: bytes) -> Any:
    try:
        # By the published names alone: `media_items` beside `mediaItems` would be checked, and another one posted.
        return model.model_validate_json(body, by_alias=True, by_name=False)
    except pydantic.ValidationError as e:
        raise _refusal(e) from None


def _refusal(error: pydantic.ValidationError) -> Refused:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid" or not first["loc"]:
        return Refused(Problem.INVALID_JSON)
    return Refused(Problem.INVALID_FIELD, words_for(first), field=_path(first["loc"]))


def _path(loc: tuple[int | str, ...]) -> str:
    """`parts[0].size`"""
    loc = loc[:-1] if loc[-1] == "[key]" else loc  # pydantic's mark of a name that is wrong itself
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).removeprefix(".")


def _check_query(request: web.Request, known: Collection[str]) -> None:
    """Raise Refused for a misspelt parameter. Without it, more would be listed or deleted than was meant."""
    try:
        unquote_to_bytes(request.rel_url.raw_query_string).decode()
    except UnicodeError:
        raise Refused(Problem.INVALID_QUERY, "the query is not valid UTF-8: percent-encode its text as UTF-8") from None
    unknown = next((name for name in request.query if name not in known), None)
    if unknown is not None:
        shown = unknown[:_LONGEST_SHOWN]
        message = f"there is no parameter {shown!r}: this endpoint takes "
        raise Refused(Problem.INVALID_QUERY, message + (f"only {', '.join(known)}" if known else "none"), field=shown)


def _parameters(model: type[pydantic.BaseModel], request: web.Request) -> Any:
    """The parameters of the path and the query."""
    twice = next((name for name in request.query if len(request.query.getall(name)) > 1), None)
    if twice is not None:
        raise Refused(Problem.INVALID_FIELD, "the query must name it once", field=twice)
    try:
        return model.model_validate_strings({**request.query, **request.match_info}, by_alias=True, by_name=False)
    except pydantic.ValidationError as e:
        raise _refusal(e) from None


# -- responses


def _response(result: Any) -> web.Response:
    if result is None:
        return web.Response(status=204)
    if isinstance(result, PostResponse):
        return web.Response(status=result.status, body=result.body, headers=result.headers)
    assert isinstance(result, pydantic.BaseModel)
    return web.Response(body=result.model_dump_json(by_alias=True).encode(), content_type="application/json")


async def _described(request: web.Request) -> web.Response:
    """The OpenAPI document. A mounted service names the prefix at which it is."""
    resource = request.match_info.route.resource
    prefix = "" if resource is None else resource.canonical.removesuffix("/openapi.json")
    prefix = request.get_extra_info(ROOT_PATH, "") + prefix
    return web.Response(body=_document_at(prefix), content_type="application/json", charset="utf-8")


@functools.lru_cache(maxsize=8)
def _document_at(prefix: str) -> bytes:
    return json.dumps(document() | ({"servers": [{"url": prefix}]} if prefix else {})).encode()


async def _healthz(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


_ENTRY = b'export * from "./client/index.js";\n'
"""`/v1/client.js`: the address that pages of other origins import."""


class UploadPageFiles:
    """The upload page's files, with the service's policy, and the client's. They are read once."""

    def __init__(self, store_origin: str, policy: Policy, *, own_users: bool) -> None:
        """Read them.

        Args:
            store_origin: Where the page may send parts to, like https://store.example.com.
            policy: What the service accepts.
            own_users: Whether an application knows its users by other means than keys and tokens.
        """
        folder = importlib.resources.files("bigupload.service").joinpath("browser")
        self._page = _read(folder.joinpath("page"))
        self._page["policy.js"] = policy_module(policy, own_users=own_users).encode()
        self._client = _read(folder.joinpath("client"), ends=".js")
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

    async def page(self, request: web.Request) -> web.Response:
        """Answer with a file of the page."""
        name = request.match_info.get("name", "index.html")
        return _answer(request, name, self._page.get(name), {"Content-Security-Policy": self._policy})

    async def client(self, request: web.Request) -> web.Response:
        """Answer with a module of the client, or with the one that exports them all."""
        name = request.match_info.get("name")
        content = _ENTRY if name is None else self._client.get(name)
        return _answer(request, name or "client.js", content, {})


def _read(folder: Traversable, *, ends: str = "") -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file() and f.name.endswith(ends)}


def _answer(request: web.Request, name: str, content: bytes | None, headers: dict[str, str]) -> web.Response:
    """Answer with a file. A browser keeps it, and asks each time whether it is still the same."""
    if content is None:
        raise Refused(Problem.NOT_FOUND)
    etag = hashlib.sha256(content).hexdigest()[:32]
    headers = {**headers, "Cache-Control": "no-cache", "ETag": f'W/"{etag}"', "Vary": "Accept-Encoding"}
    if any(known.value in (etag, "*") for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    charset = "utf-8" if kind.startswith("text/") else None
    if _GZIP.search(request.headers.get("Accept-Encoding", "")):
        content = _compressed(content)
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=content, content_type=kind, charset=charset, headers=headers)


@functools.lru_cache(maxsize=256)
def _compressed(content: bytes) -> bytes:
    """All files together are 95 kB then, and not 260."""
    return gzip.compress(content, mtime=0)


def policy_module(policy: Policy, *, own_users: bool = False) -> str:
    """Return the page's module `policy.js`: what the service accepts, and whether only a key or token says for whom."""
    told = {
        "maxSize": policy.max_file_size,
        "keep": policy.keep,
        **policy.types.for_page(),
        "ownUsers": own_users,
    }
    return f"{_POLICY_COMMENT}\n\nexport const POLICY = {json.dumps(told, indent=2)};\n"


_POLICY_COMMENT = "// What the service accepts: bytes, seconds, types. A service serves its own in place of this file."
