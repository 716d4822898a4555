"""The sender of a request: a holder of an API key, of an upload token, or a user of the application around the service.

How many requests a second each may send: a moving window of the library `limits`, in this process or in all replicas.

Which pages of other origins may call the API. A browser asks before it sends a request with `Authorization` (a
preflight), and shows a response to the page only if its headers name the page's origin. No cookie is ever read or
allowed (`Access-Control-Allow-Credentials` is never sent): a page can act only with a key or token that it holds. The
rules: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.service.access.keys import ANY_ORIGIN, KeyFile, check_origin, check_owner
from bigupload.service.access.shared import EngineAwayError, SharedEngine
from bigupload.service.access.upload_tokens import Revocations, UploadToken, UploadTokens
from bigupload.service.call import WebCall
from bigupload.service.media.object_keys import is_user
from bigupload.service.problems import Problem, Refused

_log = logging.getLogger(__name__)
_OF_THE_HOST = {401: Problem.MISSING_KEY, 403: Problem.NOT_ALLOWED, 404: Problem.NOT_FOUND, 429: Problem.RATE_LIMITED}
"""The problem for each HTTPException that `authorize` may raise, by its status. Any other status is a bug."""


Authorize = Callable[[Any], Awaitable[str | tuple[str, str] | None] | str | tuple[str, str] | None]
"""Gets aiohttp's request, or under ASGI a `WebCall`.

Returns the owner for whom it acts, or the owner and one of its end users, or None for nobody. It may be async, and may
raise an HTTPException of the status 401, 403, 404 or 429, of aiohttp or of Starlette: then the request is refused."""


@dataclass(frozen=True, slots=True)
class BoundUser:
    """The one end user for whom somebody may act."""

    user: str | None
    """None: for uploads of nobody in particular."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request."""

    owner: str
    user: str | None = None
    """The end user of the owner, if the application or an upload token names one."""
    key_id: str | None
    """The id of the API key, also where an upload token was made for it; None: no key."""
    token: UploadToken | None = None

    @property
    def bound(self) -> BoundUser | None:
        """The one end user for whom it may act; None: for all of the owner's, as a backend with an API key."""
        return BoundUser(self.user) if self.token is not None or self.user is not None else None

    def user_of(self, named: str | None) -> str | None:
        """Return for which end user a request is that names `named`. Raises Refused: USER_NOT_ALLOWED."""
        if self.bound is None:
            return named
        if named not in (None, self.user):
            raise Refused(Problem.USER_NOT_ALLOWED, field="user")
        return self.user

    @property
    def is_of_the_host(self) -> bool:
        """Whether the application knows it, perhaps by a cookie, which browsers also send for pages of other sites."""
        return self.key_id is None and self.token is None

    @property
    def id(self) -> str:
        """Whose requests are limited together: an app's users, who share an owner, do not share a limit."""
        if self.user is not None:
            return f"user {self.owner} {self.user}"
        if self.token is not None:
            return f"token {self.owner} {self.token.id}"
        return self.key_id if self.key_id is not None else f"owner {self.owner}"


async def authenticate(
    call: WebCall, authorize: Authorize | None, keys: KeyFile | None, tokens: UploadTokens, revocations: Revocations
) -> Caller:
    """Return who sent a request.

    Args:
        call: The request.
        authorize: The application's, if it knows its users by other means: asked first.
        keys: The API keys; None: no keys.
        tokens: Verifies upload tokens.
        revocations: Those that were revoked.

    Raises:
        Refused: Nobody who is known; or a token, and the store does not say which ones were revoked.
    """
    if authorize is not None:
        found = await _authorized(authorize, call)
        if found is not None:
            owner, user = found if isinstance(found, tuple) else (found, None)
            return Caller(owner=_checked_owner(owner), user=_checked_user(user), key_id=None)
    sent = call.headers.getall("Authorization", [""])
    if len(sent) > 1:  # a proxy may have read the other one
        raise Refused(Problem.INVALID_KEY, "the request has more than one Authorization header")
    scheme, _, rest = sent[0].partition(" ")
    presented = rest.strip()
    if scheme.lower() != "bearer" or not presented:
        raise Refused(Problem.MISSING_KEY)
    if presented.count(".") == 2:  # no API key has a dot
        token = tokens.verify(presented)
        if token.key_id is not None and (keys is None or not keys.holds(token.key_id, token.owner)):
            raise Refused(Problem.INVALID_TOKEN, "the API key for which this upload token was made was revoked")
        await revocations.check(token)
        token.check_sender(call)
        return Caller(owner=token.owner, user=token.user, key_id=token.key_id, token=token)
    key = None if keys is None else keys.find(presented)
    if key is None:
        raise Refused(Problem.INVALID_KEY)
    return Caller(owner=key.owner, key_id=key.id)


def _checked_owner(name: object) -> str:
    """Return the owner from `authorize`, if it can be one. Another value is logged: the caller can't mend it."""
    try:
        if not isinstance(name, str):
            raise UsageError(f"not an owner's name: a {type(name).__name__}")
        check_owner(name)
    except UsageError as e:
        _log.error("authorize returned a name that can't be an owner, and the request was refused: %s", e)
        raise Refused(Problem.NOT_ALLOWED, "the application's name for this user can't be an owner's") from None
    return name


def _checked_user(name: object) -> str | None:
    """Return the second of what `authorize` returned, if it can be an end user."""
    if name is None or (isinstance(name, str) and is_user(name)):
        return name
    _log.error("authorize returned a name that can't be an end user, and the request was refused")
    raise Refused(Problem.NOT_ALLOWED, "the application's name for this user can't be an end user's")


async def _authorized(authorize: Authorize, call: WebCall) -> str | tuple[str, str] | None:
    """Return whom the application knows. It may raise an HTTPException, of aiohttp or of its own framework."""
    try:
        found = authorize(call if call.request is None else call.request)
        return await found if inspect.isawaitable(found) else found
    except Exception as e:
        status = getattr(e, "status", None) or getattr(e, "status_code", None)
        named = any(each.__name__ == "HTTPException" for each in type(e).__mro__)  # Starlette is not imported for this
        if not named or status not in _OF_THE_HOST:
            raise
        raise Refused(_OF_THE_HOST[status]) from None


_MAX_AGE = 7200
"""Seconds for which a browser may keep the answer to a preflight: the most that Chromium takes."""
_ALLOWED_HEADERS = "Authorization, Content-Type"
"""Each in full: browsers do not count `Authorization` as part of `*`."""
_EXPOSED_HEADERS = "Retry-After, X-Request-Id"
"""Response headers that a page may read besides the headers that every page may read (Content-Type among them)."""


class CrossOrigin:
    """The origins whose pages may call the API. None by default."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        """`origins`: as browsers send them; "*" alone is every origin. Raises UsageError."""
        self._origins = frozenset(check_origin(origin) for origin in origins)
        if ANY_ORIGIN in self._origins and len(self._origins) > 1:
            raise UsageError('the origin "*" allows every page: name it alone, or leave it out')

    def __bool__(self) -> bool:
        """Return whether any other origin may call the API."""
        return bool(self._origins)

    def headers(self, origin: str | None) -> Mapping[str, str]:
        """Return the headers of a response to a request from `origin`, whether it is allowed or not."""
        if not self._origins:
            return {}
        vary = {} if ANY_ORIGIN in self._origins else {"Vary": "Origin"}
        allowed = self._allowed(origin)
        if allowed is None:
            return vary
        return vary | {"Access-Control-Allow-Origin": allowed, "Access-Control-Expose-Headers": _EXPOSED_HEADERS}

    def preflight(self, origin: str | None, wanted: str | None, methods: Collection[str]) -> Mapping[str, str] | None:
        """Return the headers of the answer to a preflight; None if it must be refused, or is not a preflight.

        Args:
            origin: The request's `Origin`.
            wanted: The request's `Access-Control-Request-Method`.
            methods: The methods of the path.
        """
        allowed = self._allowed(origin)
        if allowed is None or wanted not in methods:
            return None
        return {
            "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
            "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(_MAX_AGE),
        }

    def _allowed(self, origin: str | None) -> str | None:
        if origin is None:
            return None
        if ANY_ORIGIN in self._origins:
            return ANY_ORIGIN
        return origin if origin in self._origins else None


_SHORTEST_WINDOW = 2
_LONGEST_WINDOW = 60
"""Seconds. A short window allows few requests at once. A rate with decimals needs a longer window to be exact."""
_SOON = 0.001
"""The shortest wait in seconds, used if the window moved between two checks."""


class RequestRateLimit:
    """At most `requests` of each key in any `window` seconds: in this process, or in all that share an engine.

    While the engine is away, each process limits by itself.
    """

    def __init__(
        self, rate: float, engine: SharedEngine | None = None, *, on_alone: Callable[[], None] = lambda: None
    ) -> None:
        """Make it.

        Args:
            rate: Requests a second. Those of a whole window may come at once: usually those of two seconds.
            engine: Holds the windows of all replicas; None: they are in this process.
            on_alone: Called for each request that this process limited by itself, because the engine is away.
        """
        if not 0 < rate < math.inf:  # rejects NaN too
            raise UsageError(f"not a limit: {rate:g} requests a second (it must be above 0)")
        self.window = _window(rate)
        """Seconds."""
        self.requests = max(1, math.floor(rate * self.window + 1e-9))
        self._limit = RateLimitItemPerSecond(self.requests, self.window)
        self._storage = MemoryStorage()
        self._alone = MovingWindowRateLimiter(self._storage)
        self._latest = 0.0
        self._engine = engine
        self._on_alone = on_alone
        if engine is not None:
            shared = RedisStorage(
                "redis://",
                implementation="redispy",
                key_prefix=f"{engine.prefix}:rate",
                connection_pool=engine.pool,  # type: ignore[arg-type]  # its types say less than its documentation
            )
            self._together = MovingWindowRateLimiter(shared)

    async def take(self, key_id: str) -> float:
        """Return the seconds until a request is allowed; 0.0: now. A refused request does not count."""
        if self._engine is not None:
            try:
                return await self._engine.ask(lambda: self._take(self._together, key_id))
            except EngineAwayError:
                self._on_alone()
        await self._forget_a_future()
        return await self._take(self._alone, key_id)

    async def _take(self, limiter: MovingWindowRateLimiter, key_id: str) -> float:
        if await limiter.hit(self._limit, key_id):
            return 0.0
        window = await limiter.get_window_stats(self._limit, key_id)
        return max(_SOON, window.reset_time - time.time())

    async def _forget_a_future(self) -> None:
        """Use a monotonic clock. With the library's wall clock, setting the time back would block keys until it catches
        up. A shared window is forgotten by the engine's own clock, once it was not used for that long."""
        now = time.time()
        if now < self._latest - self.window:
            await self._storage.reset()
            self._latest = now
        self._latest = max(self._latest, now)


def _window(rate: float) -> int:
    """Return the shortest window in which the rate gives a whole number of requests."""
    for window in range(_SHORTEST_WINDOW, _LONGEST_WINDOW + 1):
        requests = rate * window
        if requests >= 1 and abs(requests - round(requests)) < 1e-6:
            return window
    return max(_LONGEST_WINDOW, math.ceil(1 / rate))
