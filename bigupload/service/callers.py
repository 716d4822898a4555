"""The sender of a request: a holder of an API key, of an upload token, or a user of the application around the
service."""

from __future__ import annotations

import inspect
import logging

from aiohttp import web

from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.service.keys import KeyFile, check_owner
from bigupload.service.object_keys import is_user
from bigupload.service.problems import Problem, Refused
from bigupload.service.settings import Authorize
from bigupload.service.upload_tokens import Revocations, UploadToken, UploadTokens

_log = logging.getLogger(__name__)
_OF_THE_HOST = {
    401: Problem.MISSING_KEY,
    403: Problem.NOT_ALLOWED,
    404: Problem.NOT_FOUND,
    429: Problem.RATE_LIMITED,
}
"""The problem for each HTTPException that `authorize` may raise, by its status. Any other status is a bug."""


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
    request: web.Request,
    authorize: Authorize | None,
    keys: KeyFile | None,
    tokens: UploadTokens,
    revocations: Revocations,
) -> Caller:
    """Return who sent a request.

    Args:
        request: The request.
        authorize: The application's, if it knows its users by other means: asked first.
        keys: The API keys; None: no keys.
        tokens: Verifies upload tokens.
        revocations: Those that were revoked.

    Raises:
        Refused: Nobody who is known; or a token, and the store does not say which ones were revoked.
    """
    if authorize is not None:
        found = await _authorized(authorize, request)
        if found is not None:
            owner, user = found if isinstance(found, tuple) else (found, None)
            return Caller(owner=_checked_owner(owner), user=_checked_user(user), key_id=None)
    sent = request.headers.getall("Authorization", [""])
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
        token.check_sender(request)
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


async def _authorized(authorize: Authorize, request: web.Request) -> str | tuple[str, str] | None:
    """Return whom the application knows. It may raise an HTTPException, of aiohttp or of its own framework."""
    try:
        found = authorize(request)
        return await found if inspect.isawaitable(found) else found
    except Exception as e:
        status = getattr(e, "status", None) or getattr(e, "status_code", None)
        named = any(each.__name__ == "HTTPException" for each in type(e).__mro__)  # Starlette is not imported for this
        if not named or status not in _OF_THE_HOST:
            raise
        raise Refused(_OF_THE_HOST[status]) from None
