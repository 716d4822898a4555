"""Upload tokens: what an end user's browser or app uploads with, in place of an API key.

A token is a JWT (RFC 7519) signed by HMAC-SHA-256. Its claims name an owner, an end and limits. The service mints one
for whoever has the owner's API key. An app's backend may mint tokens itself, with the owner's signing key: it is
derived from the service's secret and the owner's name, so that it makes tokens of this owner alone, and no handles.

A token is a bearer secret. Nothing here logs one, and no error repeats one. Counts of uploads are in `token_counts`.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import jwt
import pydantic
from pydantic import Field

from bigupload.errors import UsageError
from bigupload.service import contract as c
from bigupload.service.field_errors import words_for
from bigupload.service.keys import check_owner, token_signing_key
from bigupload.service.problems import Problem, Refused

if TYPE_CHECKING:
    from jwt.types import Options

AUDIENCE = "bigupload"
_ALGORITHM = "HS256"
_HEADER_FIELDS = frozenset({"alg", "typ", "kid"})
"""All that a token's header may have. Others change how it is read (`crit`, `b64`) or name keys (`jwk`, `jku`)."""
_CLOCK_SKEW = 60.0
"""Seconds that the clock of a backend may be ahead of the service's. A token's end is never stretched."""
_OWNER = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_IGNORED = frozenset({"iss"})


class UploadToken(c.TokenLimits):
    """A token that was verified: its claims. Unknown ones are refused: a limit that is misspelled would be none."""

    aud: str
    owner: Annotated[str, Field(alias="sub")]
    issued: Annotated[float, Field(alias="iat", ge=0, le=2**53)]
    expires: Annotated[float, Field(alias="exp", ge=0, le=2**53)]
    """Seconds since 1970."""
    not_before: Annotated[float | None, Field(alias="nbf", ge=0, le=2**53)] = None
    id: Annotated[str, Field(alias="jti", pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    key_id: Annotated[str | None, Field(alias="key", pattern=r"^[A-Za-z0-9_-]{1,64}$")] = None
    """The id of the API key for which the service made it: it ends with that key. None: a backend made it."""


class UploadTokens:
    """Mints and verifies tokens. The last of the secrets signs, all are accepted."""

    def __init__(self, secrets: Sequence[str], *, clock: Callable[[], float]) -> None:
        """`clock`: the time, in seconds since 1970."""
        self._secrets = tuple(secrets)
        self._clock = clock

    def mint(self, owner: str, request: c.TokenRequest, *, key_id: str | None) -> str:
        """Return a new token of `owner`, which ends with the API key `key_id` at the latest, if there is one.

        Raises:
            Refused: INVALID_FIELD: its limits make it too long.
        """
        now = int(self._clock())
        limits = request.model_dump(by_alias=True, exclude_none=True, exclude={"expires_in"})
        claims: dict[str, Any] = {
            "aud": AUDIENCE,
            "sub": owner,
            "iat": now,
            "exp": now + request.expires_in,
            "jti": secrets.token_urlsafe(16),
        }
        if key_id is not None:
            claims["key"] = key_id
        token = jwt.encode(claims | limits, token_signing_key(self._secrets[-1], owner), algorithm=_ALGORITHM)
        if len(token) > c.MAX_TOKEN_LENGTH:
            message = f"the token would be longer than {c.MAX_TOKEN_LENGTH:,} characters: name less"
            raise Refused(Problem.INVALID_FIELD, message, field="metadata" if request.metadata else "contentTypes")
        return token

    def verify(self, text: str) -> UploadToken:
        """Return the token that a client presents.

        Raises:
            Refused: INVALID_TOKEN or TOKEN_EXPIRED.
        """
        if len(text) > c.MAX_TOKEN_LENGTH:
            raise Refused(Problem.INVALID_TOKEN, "the upload token is too long")
        try:
            token = UploadToken.model_validate(self._signed_claims(text), by_alias=True, by_name=False)
        except pydantic.ValidationError as e:
            at = e.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]
            name = str(at[0]) if at and re.fullmatch(r"\w{1,30}", str(at[0]), re.ASCII) else "unknown"
            raise Refused(
                Problem.INVALID_TOKEN, f"the upload token's claim {name} is missing, wrong or unknown"
            ) from None
        self._check_times(token)
        return token

    def _signed_claims(self, text: str) -> dict[str, Any]:
        """The claims, if one of the secrets signed them. What is read before that only chooses the key."""
        try:
            header = jwt.get_unverified_header(text)
            if header.get("alg") != _ALGORITHM or not header.keys() <= _HEADER_FIELDS:
                raise Refused(
                    Problem.INVALID_TOKEN, f"an upload token is signed by {_ALGORITHM}, and its header says no more"
                )
            owner = jwt.decode(text, options={"verify_signature": False}).get("sub")
            if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
                raise Refused(Problem.INVALID_TOKEN)
            for secret in reversed(self._secrets):
                try:
                    claims = jwt.decode(
                        text, token_signing_key(secret, owner), algorithms=[_ALGORITHM], options=_SIGNATURE_ALONE
                    )
                except jwt.InvalidSignatureError:
                    continue
                if claims.get("aud") != AUDIENCE:
                    raise Refused(Problem.INVALID_TOKEN, "the upload token is for another audience")
                return {name: value for name, value in claims.items() if name not in _IGNORED}
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):
            pass
        raise Refused(Problem.INVALID_TOKEN)

    def _check_times(self, token: UploadToken) -> None:
        now = self._clock()
        if token.expires <= now:
            raise Refused(Problem.TOKEN_EXPIRED)
        if max(token.issued, token.not_before or 0.0) > now + _CLOCK_SKEW:
            raise Refused(Problem.INVALID_TOKEN, "the upload token is not valid yet: set the clock of its issuer")
        if token.expires - token.issued > c.LONGEST_TOKEN:
            hours = c.LONGEST_TOKEN // 3600
            raise Refused(Problem.INVALID_TOKEN, f"the upload token is valid for more than {hours} hours")


def mint_token(secret: str, owner: str, *, expires_in: int = 3600, **limits: Any) -> str:
    """Return an upload token, for an application that mounts the service, and so has its secret.

    Args:
        secret: The last of the service's `secrets`.
        owner: Whose uploads it makes and continues.
        expires_in: Seconds for which it is valid, at most 24 hours.
        limits: `max_size` in bytes, `content_types`, `uploads`, `user` and `metadata`, as in `POST /v1/media/tokens`.

    Raises:
        UsageError: A limit can't be, or there is none of that name; or `owner` is no owner's name.
    """
    check_owner(owner)
    try:
        request = c.TokenRequest.model_validate({"expires_in": expires_in, **limits}, by_alias=False, by_name=True)
        return UploadTokens([secret], clock=time.time).mint(owner, request, key_id=None)
    except pydantic.ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"not a limit of an upload token: `{where}`: {words_for(first)}") from e
    except Refused as refused:
        raise UsageError(str(refused)) from refused


_SIGNATURE_ALONE: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
"""The library would read the clock itself, and its claims are checked with all others."""
