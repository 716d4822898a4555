"""What becomes of every request, whichever edge it came by: log, limits, who asks, what for, and the answer.

No framework of the web is known here. `uploads` does the work.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import functools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

import pydantic
from multidict import CIMultiDict

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
from bigupload.service.call import JSON, Answer, ClientLeftError, WebCall, as_json, refusal
from bigupload.service.http.endpoints import ENDPOINTS, Endpoint, document
from bigupload.service.http.monitoring import Metrics, Tracing
from bigupload.service.http.opening import OpenService, opened
from bigupload.service.http.page_files import PageFiles
from bigupload.service.http.settings import ServiceConfig
from bigupload.service.problems import Problem, Refused, words_for
from bigupload.service.uploads.posts import PostResponse

_BODY_WITHIN = 60.0
"""Seconds that a request's body may take. Bodies are small: a slow one only occupies a connection."""
_LONGEST_SHOWN = 100
"""Characters of a parameter's name that a refusal repeats."""
_LONGEST_LENGTH = 18
"""Digits of a body's length. Of more than 4,300, Python makes no number."""
_KEEP_PUBLIC = "public, max-age=300"
SAFE_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_API = re.compile(r"/v[0-9]+/")
"""The paths that pages of other origins may read: the API, not the page, the metrics or the document."""

Handler = Callable[[WebCall], Awaitable[Answer]]


class RequestsInFlight:
    """The requests in flight."""

    def __init__(self) -> None:
        self.stopping = False
        """Whether the service was asked to stop: `/readyz` fails, and each response ends its connection."""
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __enter__(self) -> None:
        self._count += 1
        self._none.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if self._count == 0:
            self._none.set()

    async def finished(self, *, within: float) -> None:
        """Wait until no request is in flight, for up to `within` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._none.wait()


class Routes:
    """Which handler a path and a method have."""

    def __init__(self) -> None:
        self._plain: dict[str, Mapping[str, Handler]] = {}
        self._patterns: list[tuple[str, re.Pattern[str], Mapping[str, Handler]]] = []

    def add(self, path: str, handlers: Mapping[str, Handler]) -> None:
        """Add the handlers of a path, by method. `{name}` in it is one step; `{key}` may have slashes, and has one.

        A `{key}` at the end is never another declared path.
        """
        if "{" not in path:
            self._plain[path] = handlers
            return
        pattern = re.escape(path).replace(r"\{name\}", r"(?P<name>[^/]+)").replace(r"\{key\}", r"(?P<key>.+)")
        self._patterns.append((path, re.compile(pattern, re.DOTALL), handlers))

    def find(self, method: str, path: str) -> tuple[str, Mapping[str, str], Handler]:
        """Return the declared path, what its names stand for, and the handler.

        Raises:
            Refused: NOT_FOUND, or METHOD_NOT_ALLOWED.
        """
        plain = self._plain.get(path, {})
        if method in plain:
            return path, {}, plain[method]
        allowed = set(plain)
        for declared, pattern, handlers in self._patterns:
            match = pattern.fullmatch(path)
            if match is None or (declared.endswith("{key}") and (plain or "/" not in match["key"][1:-1])):
                continue
            if method in handlers:
                return declared, match.groupdict(), handlers[method]
            allowed.update(handlers)
        if allowed:
            raise Refused(Problem.METHOD_NOT_ALLOWED, allow=allowed)
        raise Refused(Problem.NOT_FOUND)


class Service:
    """The service, for whatever edge brings its requests."""

    def __init__(self, config: ServiceConfig) -> None:
        """Make it. Raises UsageError, if the configuration makes no sense."""
        self._config = config
        self.log = AccessLog(write=config.log, proxies=TrustedProxies(config.trusted_proxies))
        self.in_flight = RequestsInFlight()
        self._metrics = Metrics(self.log.seconds)
        self._cors = CrossOrigin(config.cors_origins)
        self._tracing = Tracing(config.bucket)
        self._opened: OpenService | None = None
        self._page: PageFiles | None = None
        self._routes = Routes()
        for path in dict.fromkeys(endpoint.path for endpoint in ENDPOINTS):
            of_path = [endpoint for endpoint in ENDPOINTS if endpoint.path == path]
            handlers = {endpoint.method: self._handler(endpoint) for endpoint in of_path}
            if self._cors and not any(endpoint.public for endpoint in of_path):
                handlers["OPTIONS"] = functools.partial(self._preflight, tuple(handlers))
            self._routes.add(path, handlers)
        for path, handler in (
            ("/healthz", self._healthz),
            ("/readyz", self._readyz),
            ("/metrics", self._exposed),
            ("/openapi.json", self._described),
            ("/", self._page_file),
            ("/page/{name}", self._page_file),
            ("/client/{name}", self._client_file),
            ("/v1/client/{name}", self._client_file),
            ("/v1/client.js", self._client_file),
        ):
            self._routes.add(path, {"GET": handler, "HEAD": handler})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reach the store, and close the connections at the end. Raises BigUploadError."""
        self._tracing.start()
        async with opened(self._config, self.log, self._metrics, self._tracing) as self._opened:
            own_users = self._config.authorize is not None
            self._page = PageFiles(self._opened.store_origin, self._opened.policy, own_users=own_users)
            yield

    async def answer(self, call: WebCall, refused: Refused | None = None) -> Answer:
        """Answer a request; `refused`: the edge refuses it."""
        found: tuple[str, Mapping[str, str], Handler] | None = None
        if refused is None:
            try:
                found = self._routes.find(call.method, call.path)
            except Refused as e:
                refused = e
        route = "?" if found is None else call.prefix + found[0]
        call.logged = self.log.begin(call.remote, call.headers, method=call.method, route=route)
        try:
            with self.in_flight, self._tracing.of_request(call, call.logged) as ended:
                answer = await self._respond(call, found, refused)
                ended(answer.status)
        except asyncio.CancelledError:
            self.log.end(call.logged, status=499)
            raise
        answer.ends |= self.in_flight.stopping
        answer.headers["X-Request-Id"] = call.logged.id
        for name, value in SAFE_HEADERS.items():
            answer.headers.setdefault(name, value)
        if _API.match(call.path):
            of_origin = self._cors.headers(call.headers.get("Origin"))
            varies = [each["Vary"] for each in (of_origin, answer.headers) if "Vary" in each]
            answer.headers.update(of_origin)
            if varies:
                answer.headers["Vary"] = ", ".join(varies)
        self.log.end(call.logged, status=answer.status)
        self._metrics.observe(call.logged, answer.status)
        return answer

    async def _respond(
        self, call: WebCall, found: tuple[str, Mapping[str, str], Handler] | None, refused: Refused | None
    ) -> Answer:
        try:
            if refused is not None:
                raise refused
            assert found is not None
            _, call.parameters, handler = found
            return await handler(call)
        except Refused as e:
            call.logged.refused(e)
            return refusal(e)
        except Exception as e:  # a bug: the details go to the log, not to the client
            call.logged.failed(e)
            return refusal(Refused(Problem.INTERNAL, f"a bug in the service: its log has it as {call.logged.id}"))

    @property
    def _parts(self) -> OpenService:
        assert self._opened is not None, "the application was not started"
        return self._opened

    # -- what is not of the API

    async def _healthz(self, _: WebCall) -> Answer:
        return as_json({"status": "ok"})

    async def _readyz(self, _: WebCall) -> Answer:
        """Say whether a load balancer should send requests here."""
        if self.in_flight.stopping:
            return as_json({"status": "stopping"}, status=503)
        if await self._parts.health.problem() is not None:
            return as_json({"status": "the store does not respond"}, status=503)
        return as_json({"status": "ok"})

    async def _exposed(self, _: WebCall) -> Answer:
        return self._metrics.exposition()

    async def _described(self, call: WebCall) -> Answer:
        """The OpenAPI document. A mounted service names the prefix at which it is."""
        return Answer(body=_document_at(call.prefix), headers=CIMultiDict({"Content-Type": f"{JSON}; charset=utf-8"}))

    async def _page_file(self, call: WebCall) -> Answer:
        assert self._page is not None
        return self._page.page(call)

    async def _client_file(self, call: WebCall) -> Answer:
        assert self._page is not None
        return self._page.client(call)

    async def _preflight(self, methods: Collection[str], call: WebCall) -> Answer:
        """Answer the OPTIONS by which a browser asks whether a page of another origin may call an endpoint."""
        wanted = call.headers.get("Access-Control-Request-Method")
        headers = self._cors.preflight(call.headers.get("Origin"), wanted, methods)
        if headers is None:
            raise Refused(Problem.METHOD_NOT_ALLOWED, allow=methods)
        return Answer(status=204, headers=CIMultiDict(headers))

    # -- the API

    def _handler(self, endpoint: Endpoint) -> Handler:
        """The endpoint's handler: key, rate limit, body, work, response."""
        work: Callable[..., Any] = getattr(self, f"_{endpoint.name}")
        return functools.partial(self._public if endpoint.public else self._private, endpoint, work)

    @staticmethod
    async def _public(endpoint: Endpoint, work: Callable[[], pydantic.BaseModel], call: WebCall) -> Answer:
        _check_query(call, endpoint.query)
        answer = _answer(work())
        answer.headers["Cache-Control"] = _KEEP_PUBLIC
        return answer

    async def _private(
        self, endpoint: Endpoint, work: Callable[[Caller, Any, bytes], Coroutine[Any, Any, Any]], call: WebCall
    ) -> Answer:
        parts, logged = self._parts, call.logged
        caller = await authenticate(call, self._config.authorize, parts.keys, parts.tokens, parts.revocations)
        logged.key_id, logged.owner = caller.key_id, caller.owner
        if caller.user is not None:
            logged.more["user"] = caller.user
        if caller.token is not None:
            logged.more["token"] = caller.token.id
            if not endpoint.tokens:
                raise Refused(Problem.TOKEN_NOT_ALLOWED)
        wait = await parts.rate.take(caller.id)
        if wait > 0:
            raise Refused(Problem.RATE_LIMITED, retry_after=wait)
        _check_query(call, endpoint.query)
        body = b""
        if endpoint.parameters is not None:
            taken = _parameters(endpoint.parameters, call)
        else:
            assert endpoint.takes is not None
            body = await _body(call, endpoint.max_bytes, typed=caller.is_of_the_host)
            body = body.removeprefix(codecs.BOM_UTF8)  # RFC 8259, 8.1
            taken = _parse(endpoint.takes, body)
        fields = type(taken).model_fields  # declared: a post may have any other field
        if "user" in fields:
            taken = taken.model_copy(update={"user": caller.user_of(taken.user)})
        if "tags" in fields:
            _check_tags(caller, taken.tags)
        working = work(caller, taken, body)
        if endpoint.waits_for_store:
            working = parts.health.while_responding(working)
        result = await working
        self._metrics.worked(taken, result)
        return _answer(result)

    def _jwks(self) -> c.JsonWebKeys:
        return self._parts.receipts.published

    async def _me(self, caller: Caller, _: MeRequest, __: bytes) -> MeResponse:
        token = caller.token
        if token is None:
            return MeResponse(owner=caller.owner, user=caller.user)
        limits = token.model_dump(include=set(MeResponse.model_fields) - {"owner"})
        return MeResponse(owner=caller.owner, expires_at=datetime.fromtimestamp(token.expires, UTC), **limits)

    async def _mint(self, caller: Caller, request: TokenRequest, _: bytes) -> TokenResponse:
        for number, pattern in enumerate(request.content_types or ()):
            if not self._parts.policy.types.allows(pattern):
                message = f"this service accepts no file of the content type {pattern}"
                raise Refused(Problem.UNSUPPORTED_MEDIA, message, field=f"contentTypes[{number}]")
        await self._parts.uploads.counts.check_store(request)
        return self._parts.tokens.mint(caller.owner, request, key_id=caller.key_id)

    async def _revoke(self, caller: Caller, request: RevokeRequest, _: bytes) -> RevokedResponse:
        return await self._parts.revocations.revoke(caller.owner, request)

    async def _presign(self, caller: Caller, request: c.PresignRequest, _: bytes) -> c.PresignResponse:
        return await self._parts.uploads.presign(caller.owner, request, caller.token)

    async def _create(self, caller: Caller, request: c.CreateRequest, _: bytes) -> c.CreateResponse:
        return await self._parts.uploads.create(caller.owner, request, caller.token)

    async def _sign(self, caller: Caller, request: c.SignRequest, _: bytes) -> c.SignResponse:
        return await self._parts.uploads.sign(caller.owner, request, caller.token, caller.bound)

    async def _list(self, caller: Caller, query: c.UploadQuery, _: bytes) -> c.PartsResponse:
        return await self._parts.uploads.parts(caller.owner, query.upload, caller.bound)

    async def _status(self, caller: Caller, query: c.UploadQuery, _: bytes) -> c.StatusResponse:
        return await self._parts.uploads.status(caller.owner, query.upload, caller.bound)

    async def _complete(self, caller: Caller, request: c.CompleteRequest, _: bytes) -> c.CompleteResponse:
        return await self._parts.uploads.complete(caller.owner, request, caller.token, caller.bound)

    async def _abort(self, caller: Caller, query: c.UploadQuery, _: bytes) -> None:
        await self._parts.uploads.abort(caller.owner, query.upload, caller.bound)

    async def _files(self, caller: Caller, request: c.ListRequest, _: bytes) -> c.ListResponse:
        return await self._parts.uploads.files.list(caller.owner, request)

    async def _delete(self, caller: Caller, request: c.DeleteRequest, _: bytes) -> None:
        await self._parts.uploads.delete_file(caller.owner, request.key, request.user)

    async def _delete_many(self, caller: Caller, request: c.DeleteManyRequest, _: bytes) -> c.DeletedResponse:
        return await self._parts.uploads.delete_files(caller.owner, request)

    async def _read_url(self, caller: Caller, request: c.ReadUrlRequest, _: bytes) -> c.ReadUrlResponse:
        return await self._parts.uploads.files.read_url(caller.owner, request)

    async def _open_uploads(self, caller: Caller, request: c.OpenUploadsRequest, _: bytes) -> c.OpenUploadsResponse:
        return await self._parts.uploads.files.open_uploads(caller.owner, request)

    async def _abort_all(self, caller: Caller, request: c.AbortRequest, _: bytes) -> c.AbortedResponse:
        return await self._parts.uploads.abort_all(caller.owner, request)

    async def _check(self, caller: Caller, request: c.CheckRequest, _: bytes) -> c.CheckResponse:
        return await self._parts.posts.look(caller.owner, request.url, caller.bound)

    async def _post(self, caller: Caller, request: c.PostRequest, body: bytes) -> PostResponse:
        return await self._parts.posts.post(caller.owner, request, body, caller.bound)


def _check_tags(caller: Caller, tags: Mapping[str, str] | None) -> None:
    """Raise Refused for tags that the sender of a request may not name.

    The bucket's rules act by tags: a person must not choose how long a file is kept, or who may read it.
    """
    if tags is not None and (caller.token is not None or caller.is_of_the_host):
        raise Refused(Problem.INVALID_FIELD, "only an API key or an upload token names tags", field="tags")


# -- requests


async def _body(call: WebCall, most: int, *, typed: bool) -> bytes:
    """The body. `typed`: its type must be named, as a page of another origin can't do without being asked (CORS).

    Whoever presents a key or token need not: no browser sends those by itself.
    """
    if call.content_type not in (JSON, "application/octet-stream", *(() if typed else ("",))):
        raise Refused(Problem.UNSUPPORTED_CONTENT_TYPE)
    if call.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(Problem.UNSUPPORTED_CONTENT_TYPE, "the request's body must not be compressed")
    too_large = Refused(Problem.BODY_TOO_LARGE, f"the request's body is longer than {most:,} bytes")
    declared = call.headers.get("Content-Length", "0")
    if declared.isdecimal() and (len(declared) > _LONGEST_LENGTH or int(declared) > most):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_WITHIN):
            async for chunk in call.body:
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise Refused(Problem.INVALID_JSON, "the request's body did not arrive within 60 s") from None
    except ClientLeftError:  # nobody may be there to read this
        raise Refused(Problem.INVALID_JSON, "the connection closed before the end of the request's body") from None
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


def _check_query(call: WebCall, known: Collection[str]) -> None:
    """Raise Refused for a misspelt parameter. Without it, more would be listed or deleted than was meant."""
    try:
        unquote_to_bytes(call.query_string).decode()
    except UnicodeError:
        raise Refused(Problem.INVALID_QUERY, "the query is not valid UTF-8: percent-encode its text as UTF-8") from None
    unknown = next((name for name in call.query if name not in known), None)
    if unknown is not None:
        shown = unknown[:_LONGEST_SHOWN]
        message = f"there is no parameter {shown!r}: this endpoint takes "
        raise Refused(Problem.INVALID_QUERY, message + (f"only {', '.join(known)}" if known else "none"), field=shown)


def _parameters(model: type[pydantic.BaseModel], call: WebCall) -> Any:
    """The parameters of the path and the query."""
    twice = next((name for name in call.query if len(call.query.getall(name)) > 1), None)
    if twice is not None:
        raise Refused(Problem.INVALID_FIELD, "the query must name it once", field=twice)
    try:
        return model.model_validate_strings({**call.query, **call.parameters}, by_alias=True, by_name=False)
    except pydantic.ValidationError as e:
        raise _refusal(e) from None


# -- responses


def _answer(result: Any) -> Answer:
    if result is None:
        return Answer(status=204)
    if isinstance(result, PostResponse):
        return Answer(status=result.status, body=result.body, headers=CIMultiDict(result.headers))
    assert isinstance(result, pydantic.BaseModel)
    return Answer(body=result.model_dump_json(by_alias=True).encode(), headers=CIMultiDict({"Content-Type": JSON}))


@functools.lru_cache(maxsize=8)
def _document_at(prefix: str) -> bytes:
    return json.dumps(document() | ({"servers": [{"url": prefix}]} if prefix else {})).encode()
