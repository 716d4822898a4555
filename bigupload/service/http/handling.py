"""What becomes of every request, whichever edge it came by: log, limits, who asks, what for, and the answer.

No framework of the web is known here. `uploads` does the work.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import functools
import gzip
import hashlib
import importlib.resources
import json
import mimetypes
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import pydantic
from multidict import CIMultiDict

from bigupload.service.access.callers import Caller, CrossOrigin, authenticate
from bigupload.service.call import JSON, AccessLog, Answer, ClientLeftError, TrustedProxies, WebCall, as_json, refusal
from bigupload.service.http.endpoints import ENDPOINTS, Endpoint, document
from bigupload.service.http.monitoring import Metrics, Tracing
from bigupload.service.http.opening import OpenService, ServiceConfig, opened
from bigupload.service.media.policy import Policy
from bigupload.service.problems import Problem, Refused, words_for
from bigupload.service.uploads.posts import PostResponse

_BODY_WITHIN = 60.0
"""Seconds that a request's body may take. Bodies are small: a slow one only occupies a connection."""
_LONGEST_SHOWN = 100
"""Characters of a parameter's name that a refusal repeats."""
_LONGEST_LENGTH = 18
"""Digits of a body's length. Of more than 4,300, Python makes no number."""
_KEEP_PUBLIC = "public, max-age=300"
SAFE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_API = re.compile(r"/v[0-9]+/")
"""The paths that pages of other origins may read: the API, not the page, the metrics or the document."""

_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", re.IGNORECASE)
"""In `Accept-Encoding`: RFC 9110, 12.5.3. With `q=0`, the client refuses it."""
_ENTRY = b'export * from "./client/index.js";\n'
"""`/v1/client.js`: the address that pages of other origins import."""
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {}; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy, with the store's origin to be filled in."""
_POLICY_COMMENT = "// What the service accepts: bytes, seconds, types."

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
        self._rows: dict[str, tuple[re.Pattern[str], dict[str, Handler]]] = {}

    def add(self, path: str, method: str, handler: Handler) -> None:
        """Add a handler. `{name}` in the path is one step; `{key}` may have slashes, and has one at the path's end.

        A `{key}` at the end is never another declared path.
        """
        pattern = re.escape(path).replace(r"\{name\}", r"(?P<name>[^/]+)").replace(r"\{key\}/", r"(?P<key>.+)/")
        pattern = pattern.replace(r"\{key\}", r"(?P<key>.+/.+)")
        self._rows.setdefault(path, (re.compile(pattern, re.DOTALL), {}))[1][method] = handler

    def find(self, method: str, path: str) -> tuple[str | None, Mapping[str, str], Handler | Refused]:
        """Return the declared path, what its names stand for, and the handler.

        Without a handler, the path is None, and the last is NOT_FOUND or METHOD_NOT_ALLOWED.
        """
        is_declared = "{" not in path and path in self._rows
        allowed: set[str] = set()
        for declared, (pattern, handlers) in self._rows.items():
            match = pattern.fullmatch(path)
            if match is None or (is_declared and declared.endswith("{key}")):
                continue
            if method in handlers:
                return declared, match.groupdict(), handlers[method]
            allowed.update(handlers)
        problem = Problem.METHOD_NOT_ALLOWED if allowed else Problem.NOT_FOUND
        return None, {}, Refused(problem, allow=allowed)


class Service:
    """The service, for whatever edge brings its requests."""

    def __init__(self, config: ServiceConfig) -> None:
        """Make it. Raises UsageError, if the configuration makes no sense."""
        self._config = config
        self.log = AccessLog(write=config.log, proxies=TrustedProxies(config.trusted_proxies))
        self.in_flight = RequestsInFlight()
        self._metrics = Metrics(self.log.seconds, shared=config.shared is not None)
        self._cors = CrossOrigin(config.cors_origins)
        self._tracing = Tracing(config.bucket)
        self._opened: OpenService | None = None
        self._files: Mapping[str, Answer] = {}
        self._routes = Routes()
        for endpoint in ENDPOINTS:
            self._routes.add(endpoint.path, endpoint.method, functools.partial(self._work, endpoint))
            if self._cors and not endpoint.public:
                self._routes.add(endpoint.path, "OPTIONS", functools.partial(self._preflight, endpoint.path))
        for path, handler in (
            ("/healthz", self._healthz),
            ("/readyz", self._readyz),
            ("/metrics", self._exposed),
            ("/openapi.json", self._described),
            ("/", self._file),
            ("/page/{name}", self._file),
            ("/client/{name}", self._file),
            ("/v1/client/{name}", self._file),
            ("/v1/client.js", self._file),
        ):
            self._routes.add(path, "GET", handler)
            self._routes.add(path, "HEAD", handler)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reach the store, and close the connections at the end. Raises BigUploadError."""
        self._tracing.start()
        async with opened(self._config, self.log, self._metrics, self._tracing) as self._opened:
            own_users = self._config.authorize is not None
            self._files = files_of(self._opened.store_origin, self._opened.policy, own_users=own_users)
            yield

    async def answer(self, call: WebCall, refused: Refused | None = None) -> Answer:
        """Answer a request; `refused`: the edge refuses it."""
        declared, call.parameters, handler = self._routes.find(call.method, call.path)
        route = "?" if declared is None or refused is not None else call.prefix + declared
        call.logged = self.log.begin(call.remote, call.headers, method=call.method, route=route)
        try:
            with self.in_flight, self._tracing.of_request(call, call.logged) as ended:
                answer = await self._respond(call, refused or handler)
                ended(answer.status)
        except asyncio.CancelledError:
            self.log.end(call.logged, status=499)
            raise
        answer.ends |= self.in_flight.stopping
        answer.headers["X-Request-Id"] = call.logged.id
        for name, value in SAFE_HEADERS.items():
            answer.headers.setdefault(name, value)
        if _API.match(call.path):
            answer.headers.extend(self._cors.headers(call.headers.get("Origin")))
        self.log.end(call.logged, status=answer.status)
        self._metrics.answered(call.logged, answer.status)
        return answer

    async def _respond(self, call: WebCall, handler: Handler | Refused) -> Answer:
        try:
            if isinstance(handler, Refused):
                raise handler
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

    async def _file(self, call: WebCall) -> Answer:
        """Answer with a file. A browser keeps it, and asks each time whether it is still the same."""
        found = self._files.get(call.path)
        if found is None:
            raise Refused(Problem.NOT_FOUND)
        answer = Answer(body=found.body, headers=found.headers.copy())
        known = [tag.strip().removeprefix("W/") for tag in call.headers.get("If-None-Match", "").split(",")]
        if answer.headers["ETag"].removeprefix("W/") in known or "*" in known:
            del answer.headers["Content-Type"]
            answer.status, answer.body = 304, b""
        elif _GZIP.search(call.headers.get("Accept-Encoding", "")):
            answer.body = _compressed(answer.body)
            answer.headers["Content-Encoding"] = "gzip"
        return answer

    async def _preflight(self, path: str, call: WebCall) -> Answer:
        """Answer the OPTIONS by which a browser asks whether a page of another origin may call an endpoint."""
        methods = [endpoint.method for endpoint in ENDPOINTS if endpoint.path == path]
        wanted = call.headers.get("Access-Control-Request-Method")
        headers = self._cors.preflight(call.headers.get("Origin"), wanted, methods)
        if headers is None:
            raise Refused(Problem.METHOD_NOT_ALLOWED, allow=methods)
        return Answer(status=204, headers=CIMultiDict(headers))

    # -- the API

    async def _work(self, endpoint: Endpoint, call: WebCall) -> Answer:
        """Key, rate limit, body, work, response."""
        parts, logged = self._parts, call.logged
        if endpoint.public:
            _check_query(call, endpoint.query)
            answer = _answer(await endpoint.work(parts))
            answer.headers["Cache-Control"] = _KEEP_PUBLIC
            return answer
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
        if endpoint.has_body:
            body = await _body(call, endpoint.max_bytes, typed=caller.is_of_the_host)
        taken = _validated(endpoint, call, body)
        fields = type(taken).model_fields  # declared: a post may have any other field
        if "user" in fields:
            taken = taken.model_copy(update={"user": caller.user_of(taken.user)})
        if "tags" in fields:
            _check_tags(caller, taken.tags)
        working = endpoint.work(parts, caller, taken, *([body] if endpoint.returns is PostResponse else []))
        if endpoint.waits_for_store:
            working = parts.health.while_responding(working)
        result = await working
        self._metrics.worked(taken, result)
        return _answer(result)


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
    return bytes(body).removeprefix(codecs.BOM_UTF8)  # RFC 8259, 8.1


def _validated(endpoint: Endpoint, call: WebCall, body: bytes) -> Any:
    """Return the request: its body, or the parameters of its path and its query. Raises Refused."""
    assert endpoint.takes is not None
    twice = next((name for name in call.query if len(call.query.getall(name)) > 1), None)
    if twice is not None:
        raise Refused(Problem.INVALID_FIELD, "the query must name it once", field=twice)
    # By the published names alone: `media_items` beside `mediaItems` would be checked, and another one posted.
    try:
        if endpoint.has_body:
            return endpoint.takes.model_validate_json(body, by_alias=True, by_name=False)
        return endpoint.takes.model_validate_strings({**call.query, **call.parameters}, by_alias=True, by_name=False)
    except pydantic.ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid" or not first["loc"]:
            raise Refused(Problem.INVALID_JSON) from None
        raise Refused(Problem.INVALID_FIELD, words_for(first), field=_path(first["loc"])) from None


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


# -- the files of the page and of the JavaScript client


def files_of(store_origin: str, policy: Policy, *, own_users: bool) -> dict[str, Answer]:
    """Return the files that browsers load, by their paths.

    Args:
        store_origin: Where the page may send parts to, like https://store.example.com.
        policy: What the service accepts.
        own_users: Whether an application knows its users by other means than keys and tokens.
    """
    folder = importlib.resources.files("bigupload.service").joinpath("browser")
    client = {f.name: f.read_bytes() for f in folder.joinpath("client").iterdir() if f.name.endswith(".js")}
    page = {f.name: f.read_bytes() for f in folder.joinpath("page").iterdir() if f.is_file()}
    page["policy.js"] = policy_module(policy, own_users=own_users).encode()
    files = {"/v1/client.js": _file_answer("client.js", _ENTRY)}
    for name, content in client.items():
        files[f"/client/{name}"] = files[f"/v1/client/{name}"] = _file_answer(name, content)
    for name, content in page.items():
        files[f"/page/{name}"] = answer = _file_answer(name, content)
        answer.headers["Content-Security-Policy"] = _PAGE_POLICY.format(store_origin)
    return files | {"/": files["/page/index.html"]}


def _file_answer(name: str, content: bytes) -> Answer:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers = {
        "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
        "Cache-Control": "no-cache",
        "ETag": f'W/"{hashlib.sha256(content).hexdigest()[:32]}"',
        "Vary": "Accept-Encoding",
    }
    return Answer(body=content, headers=CIMultiDict(headers))


@functools.lru_cache(maxsize=256)
def _compressed(content: bytes) -> bytes:
    """All files together are 95 kB then, and not 260."""
    return gzip.compress(content, mtime=0)


def policy_module(policy: Policy, *, own_users: bool = False) -> str:
    """Return the page's module `policy.js`: what the service accepts, and whether only a key or token says for whom."""
    told = {"maxSize": policy.max_file_size, "keep": policy.keep, **policy.types.for_page(), "ownUsers": own_users}
    return f"{_POLICY_COMMENT}\n\nexport const POLICY = {json.dumps(told, indent=2)};\n"
