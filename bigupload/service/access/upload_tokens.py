"""Upload tokens: what an end user's browser or app uploads with, in place of an API key.

A token is a JWT (RFC 7519) signed by HMAC-SHA-256. Its claims name an owner, an end and limits. The service mints one
for whoever has the owner's API key. An app's backend may mint tokens itself, with the owner's signing key: it is
derived from the service's secret and the owner's name, so that it makes tokens of this owner alone, and no handles.

A token is a bearer secret. Nothing here logs one, and no error repeats one.

How many uploads were begun with a token is counted in the store, for all replicas. Each upload takes a place, which is
an empty object. It is written on the condition that it does not exist, so that of two replicas one gets it. A create
that is repeated, because its response was lost, finds the upload that it made, and takes no second place. The notes lie
beside those of refused uploads, and are swept like them: a token ends sooner.

A token is verified without asking anybody, so a replica must learn that it was revoked. Revocations are notes in the
bucket, too. Each replica lists them when a token is presented and its list is older than `FRESH_FOR`: by then a
revocation holds everywhere. A note's key says all, so that a list is enough. It is of no use when the longest token
that it can concern has ended; the sweep and the bucket's rules delete it later.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import json
import math
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import jwt
import pydantic
from pydantic import AfterValidator, ConfigDict, Field

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.errors import BigUploadError, UsageError
from bigupload.records import dataclass
from bigupload.service import contract as c
from bigupload.service.access.keys import OWNER, check_origin, check_owner, token_signing_key
from bigupload.service.media.media_types import MediaType, is_of
from bigupload.service.media.object_keys import REVOKED_PREFIX, TOKENS_PREFIX
from bigupload.service.media_objects import MediaBucket, quietly, store_faults_as_refusals
from bigupload.service.problems import Problem, Refused, words_for

if TYPE_CHECKING:
    from bigupload.service.access.handles import Handle
    from bigupload.service.call import WebCall

MAX_TOKEN_LENGTH = 4096
"""Characters: a header has room for it."""
LONGEST_TOKEN = 24 * 3600
"""Seconds: 24 hours. Whoever needs longer fetches another one."""
MAX_COUNTED_UPLOADS = 1000
AUDIENCE = "bigupload"
_ALGORITHM = "HS256"
_JWS = jwt.PyJWS()
"""The signature alone. For claims, the library would read the clock itself; they are checked with all others."""
_HEADER_FIELDS = frozenset({"alg", "typ", "kid"})
"""All that a token's header may have. Others change how it is read (`crit`, `b64`) or name keys (`jwk`, `jku`)."""
CLOCK_SKEW = 60.0
"""Seconds that the clock of a backend may be ahead of the service's. A token's end is never stretched."""
_IGNORED = frozenset({"iss"})


def _check_origin(origin: str) -> str:
    try:
        return check_origin(origin)
    except UsageError:
        raise ValueError("write an origin as https://app.example.com") from None


Origin = Annotated[str, Field(max_length=256, pattern="^https?://"), AfterValidator(_check_origin)]


class _ShownLimits(c.Model):
    """The limits that whoever holds the token may know."""

    max_size: Annotated[int, Field(ge=1, le=c.MAX_SIZE, examples=[100_000_000])] | None = None
    """Bytes of the largest file. Every upload must then name its size."""
    content_types: Annotated[list[c.TypePattern], Field(min_length=1, max_length=32)] | None = None
    """The accepted content types, in lower case, also as `image/*`."""
    uploads: Annotated[int, Field(ge=1, le=MAX_COUNTED_UPLOADS, examples=[1])] | None = None
    """The number of uploads that may be begun with it, in all replicas."""
    single_put: bool | None = None
    """Whether it may presign single PUTs. If not, it uploads in parts: a file can't be written again after complete."""
    user: c.User | None = None
    """The end user for whom alone it acts. One user's uploads can't be continued or aborted by another one's token."""


class TokenLimits(_ShownLimits):
    """The limits of an upload token. Unnamed limits are those of an API key."""

    model_config = ConfigDict(extra="forbid")

    metadata: c.Metadata | None = None
    """Metadata of the objects (`x-amz-meta-…`). Whoever can read an object can read it."""
    tags: c.Tags | None = None
    """Tags of the objects, for the bucket's rules."""
    origins: Annotated[list[Origin], Field(min_length=1, max_length=16)] | None = None
    """The origins whose pages may use it, as `https://app.example.com`. Then programs, which send no origin, can't."""

    def check_sender(self, call: WebCall) -> None:
        """Raise Refused unless the token allows the sender of a request: its page is of one of the origins.

        A page can't choose these headers. To its own origin a browser sends no `Origin` with a GET, but says that it
        is: https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header
        """
        if self.origins is None or call.headers.getall("Origin", []) in [[origin] for origin in self.origins]:
            return
        is_same = "Origin" not in call.headers and call.headers.get("Sec-Fetch-Site") == "same-origin"
        if not is_same or call.host not in {urlsplit(origin).netloc for origin in self.origins}:
            raise Refused(Problem.TOKEN_ORIGIN_REFUSED)

    def check(self, kind: MediaType, upload: c.PresignRequest | c.CreateRequest | Handle) -> None:
        """Raise Refused unless the token allows to begin an upload, or to continue the one of a handle."""
        if isinstance(upload, c.PresignRequest) and not self.single_put:
            raise Refused(Problem.TOKEN_PUT_REFUSED)
        if self.max_size is not None:
            if (size := upload.size) is None:
                message = "this upload token limits the size: name it, in bytes"
                raise Refused(Problem.INVALID_FIELD, message, field="size")
            if size > self.max_size:
                message = f"the file has {size:,} bytes, and this upload token allows {self.max_size:,}"
                raise Refused(Problem.TOKEN_SIZE_EXCEEDED, message, field="size")
        allowed = self.content_types
        if allowed is not None and not any(is_of(each, one) for each in kind.content_types for one in allowed):
            message = f"this upload token does not allow {kind.name}, but {', '.join(allowed)}"
            raise Refused(Problem.TOKEN_TYPE_REFUSED, message, field="contentType")


class TokenRequest(TokenLimits):
    """Make an upload token for an end user. Unknown fields are refused: a misspelled limit would be none."""

    expires_in: Annotated[int, Field(ge=1, le=LONGEST_TOKEN, examples=[3600])] = 3600
    """Seconds for which it is valid. Uploads that it began can be continued with another token of the same owner."""


class TokenResponse(c.Model):
    """Send the token like an API key: `Authorization: Bearer …`. It is a secret."""

    token: str = Field(repr=False)
    expires_in: int
    """Seconds for which it is valid."""
    id: str
    """By it the token can be revoked; the service's log names it."""


class RevokeRequest(c.Model):
    """The upload tokens to revoke: the one of an id, those of an end user, or all that were issued before a time."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    """The token's `id`, in its claims `jti`."""
    user: c.User | None = None
    """The end user whose tokens to revoke."""
    issued_before: c.Time | None = None
    """Only tokens that were issued until then, as `2026-11-29T00:00:00Z`; with `user`, now if it is left out."""


class RevokedResponse(c.Model):
    """The tokens are revoked. URLs that they had signed before are good until they expire, for up to an hour."""

    holds_within: int
    """Seconds until it holds in every replica."""


class MeRequest(c.Model):
    """Ask whose the API key or upload token is. There are no parameters."""


class MeResponse(_ShownLimits):
    """The API key or upload token is valid. A limit that is null is as for an API key."""

    owner: str
    """Whose uploads requests with it make and continue."""
    expires_at: datetime.datetime | None = None
    """The time at which the upload token ends; null for an API key."""


class UploadToken(TokenLimits):
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

    def mint(self, owner: str, request: TokenRequest, *, key_id: str | None) -> TokenResponse:
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
        if len(token) > MAX_TOKEN_LENGTH:
            message = f"the token would be longer than {MAX_TOKEN_LENGTH:,} characters: name less"
            raise Refused(Problem.INVALID_FIELD, message, field="metadata" if request.metadata else "contentTypes")
        return TokenResponse(token=token, expires_in=request.expires_in, id=claims["jti"])

    def verify(self, text: str) -> UploadToken:
        """Return the token that a client presents.

        Raises:
            Refused: INVALID_TOKEN or TOKEN_EXPIRED.
        """
        if len(text) > MAX_TOKEN_LENGTH:
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
            owner = json.loads(_JWS.decode(text, options={"verify_signature": False})).get("sub")
            if not isinstance(owner, str) or not OWNER.fullmatch(owner):
                raise Refused(Problem.INVALID_TOKEN)
            for secret in reversed(self._secrets):
                try:
                    signed = _JWS.decode(text, token_signing_key(secret, owner), algorithms=[_ALGORITHM])
                except jwt.InvalidSignatureError:
                    continue
                claims = json.loads(signed)
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
        if max(token.issued, token.not_before or 0.0) > now + CLOCK_SKEW:
            raise Refused(Problem.INVALID_TOKEN, "the upload token is not valid yet: set the clock of its issuer")
        if token.expires - token.issued > LONGEST_TOKEN:
            hours = LONGEST_TOKEN // 3600
            raise Refused(Problem.INVALID_TOKEN, f"the upload token is valid for more than {hours} hours")


def mint_token(secret: str, owner: str, *, expires_in: int = 3600, **limits: Any) -> str:
    """Return an upload token, for an application that mounts the service, and so has its secret.

    Args:
        secret: The last of the service's `secrets`.
        owner: Whose uploads it makes and continues.
        expires_in: Seconds for which it is valid, at most 24 hours.
        limits: Those of `POST /v1/media/tokens`, written as in Python: `max_size=50_000_000`, say.

    Raises:
        UsageError: A limit can't be, or there is none of that name; or `owner` is not an owner's name.
    """
    check_owner(owner)
    try:
        request = TokenRequest.model_validate({"expires_in": expires_in, **limits}, by_alias=False, by_name=True)
        return UploadTokens([secret], clock=time.time).mint(owner, request, key_id=None).token
    except pydantic.ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"not a limit of an upload token: `{where}`: {words_for(first)}") from e
    except Refused as refused:
        raise UsageError(str(refused)) from refused


_ATTEMPTS = 3
"""For one place, if the store asks to repeat a conditional PUT (409)."""
_WHAT_IS_MADE = {"filename", "content_type", "size", "checksum_algorithm", "part_size", "token", "user", "metadata"}
"""The fields of a create that make the upload; the others only save a call."""
_PROBE = f"{TOKENS_PREFIX}{0:040}/00001"


@dataclass(frozen=True, slots=True)
class MadeBefore:
    """The upload that an earlier request of the same client made."""

    key: str
    upload_id: str


class TokenCounts:
    """The places of all tokens of one bucket."""

    def __init__(self, objects: MediaBucket) -> None:
        self._objects = objects
        self._counts: bool | None = None
        """Whether the store refuses a conditional PUT of an object that exists; None: nobody asked yet."""

    async def check_store(self, limits: TokenLimits) -> None:
        """Raise Refused(UPLOADS_NOT_COUNTED) if uploads must be counted, and the store ignores the condition."""
        if limits.uploads is None:
            return
        if self._counts is None:
            await self._objects.put_new_note(_PROBE, {})
            self._counts = not await self._objects.put_new_note(_PROBE, {})
        if not self._counts:
            raise Refused(Problem.UPLOADS_NOT_COUNTED)

    async def take(self, token: UploadToken, undo: contextlib.AsyncExitStack) -> None:
        """Take a place for one upload, if the token has a number of them. `undo` gives it back.

        Raises:
            Refused: TOKEN_USED_UP or UPLOADS_NOT_COUNTED.
            Fault: The store failed.
        """
        if token.uploads is None:
            return
        await self.check_store(token)
        folder = _folder(token)
        taken = set(await self._objects.note_keys(folder, most=token.uploads * 2))
        for number in range(1, token.uploads + 1):
            place = f"{folder}{number:05}"
            if place not in taken and await self._write(place):
                undo.push_async_callback(quietly, self._objects.bucket.delete, place, etag="")
                return
        message = f"{token.uploads} uploads were begun with this upload token, and it allows no more"
        raise Refused(Problem.TOKEN_USED_UP, message if token.uploads > 1 else None)

    async def _write(self, place: str) -> bool:
        nonce = secrets.token_hex(16)
        for _ in range(_ATTEMPTS):
            try:
                return await self._objects.put_new_note(place, {"by": nonce})
            except Fault as fault:
                if fault.kind.may_have_acted and ((await self._objects.note(place)) or {}).get("by") == nonce:
                    return True
                if fault.kind is not FaultKind.CONFLICT:
                    raise
        return False

    async def made_before(self, token: UploadToken | None, request: c.CreateRequest) -> MadeBefore | None:
        """Return the upload that the same request made, if it counts and its response was lost. Raises Fault."""
        if token is None or token.uploads is None or request.token is None:
            return None
        note = await self._objects.note(_request_note(token, request))
        if note is None or not {"key", "upload"} <= note.keys():
            return None
        return MadeBefore(note["key"], note["upload"])

    async def remember(self, token: UploadToken | None, request: c.CreateRequest, made: MadeBefore) -> None:
        """Note which upload the request made. If that fails, a repeated request counts as another upload."""
        if token is not None and token.uploads is not None and request.token is not None:
            note = {"key": made.key, "upload": made.upload_id}
            await quietly(self._objects.put_note, _request_note(token, request), note)


def _folder(token: UploadToken) -> str:
    return f"{TOKENS_PREFIX}{_digest(token.owner, token.id)}/"


def _request_note(token: UploadToken, request: c.CreateRequest) -> str:
    """The key of the note of a request. A request for another upload has another note."""
    said = request.model_dump_json(include=_WHAT_IS_MADE)
    return f"{_folder(token)}by-{hashlib.sha256(said.encode()).hexdigest()[:32]}"


FRESH_FOR = 10.0
"""Seconds for which a list counts: after them a revocation holds in all replicas."""
STALE_AFTER = 60.0
"""Seconds after which tokens are refused if the store shows no newer list."""
_WITHIN = 3.0
"""Seconds that a request waits for a new list while there is one that counts."""
_KEPT_FOR = LONGEST_TOKEN + 3600
"""Seconds after which a note concerns no token that is still valid."""
MOST_OF_OWNER = 1000
"""Revocations of one owner that count at a time. Who needs more revokes by user or by time."""
_REVOCATION = re.compile(rf"{REVOKED_PREFIX}([0-9]{{10}})-([a-z]+)-([0-9a-f]{{40}})-([0-9]{{10}})-([0-9a-f]{{8}})")


@dataclass(frozen=True, slots=True)
class _Revoked:
    """The last list."""

    tokens: frozenset[str]
    """Digests of their ids."""
    issued: dict[str, int]
    """Until when tokens were issued that are revoked, in seconds since 1970, by a digest of whose they are."""
    of_owners: dict[str, int]
    """The number of them by owner."""


class Revocations:
    """The revocations of one bucket."""

    def __init__(
        self,
        objects: MediaBucket,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make it.

        Args:
            objects: The bucket.
            clock: The time, in seconds since 1970.
            monotonic: Seconds that only go up.
        """
        self._objects = objects
        self._clock = clock
        self._monotonic = monotonic
        self._known: _Revoked | None = None
        self._listed = -math.inf
        """The time at which the list was begun."""
        self._listing = asyncio.Lock()

    async def check(self, token: UploadToken) -> None:
        """Raise Refused, INVALID_TOKEN, if a token was revoked; or for the store, if nobody knows."""
        known = await self._current(FRESH_FOR)
        places = [_digest("all", token.owner)]
        if token.user is not None:
            places.append(_digest("user", token.owner, token.user))
        is_too_old = any(token.issued <= known.issued.get(place, -1) for place in places)
        if is_too_old or _digest("token", token.owner, token.id) in known.tokens:
            raise Refused(Problem.INVALID_TOKEN, "the upload token was revoked")

    async def revoke(self, owner: str, request: RevokeRequest) -> RevokedResponse:
        """Revoke tokens of an owner. It holds here when this returns, and elsewhere FRESH_FOR seconds later.

        Raises:
            Refused: INVALID_FIELD; RATE_LIMITED if there are too many; or the store failed.
        """
        now = self._clock()
        before = now if request.issued_before is None else request.issued_before.timestamp()
        if before > now + CLOCK_SKEW:
            raise Refused(Problem.INVALID_FIELD, "the time is in the future", field="issuedBefore")
        if request.id is not None and (request.user is not None or request.issued_before is not None):
            raise Refused(Problem.INVALID_FIELD, "a token's id needs nothing beside it", field="id")
        if request.id is not None:
            named: tuple[str, ...] = ("token", owner, request.id)
        elif request.user is not None:
            named = ("user", owner, request.user)
        elif request.issued_before is not None:
            named = ("all", owner)
        else:
            raise Refused(Problem.INVALID_FIELD, "name a token's id, an end user or a time", field="id")
        known, of_owner = await self._current(FRESH_FOR), _digest("owner", owner)[:8]
        if known.of_owners.get(of_owner, 0) >= MOST_OF_OWNER:
            message = f"{MOST_OF_OWNER:,} revocations are in force: revoke by end user or by time instead of by id"
            raise Refused(Problem.RATE_LIMITED, message, retry_after=3600.0)
        note = f"{REVOKED_PREFIX}{int(now):010}-{named[0]}-{_digest(*named)}-{math.ceil(before):010}-{of_owner}"
        await self._objects.put_note(note, {})
        await self._current(0.0)
        return RevokedResponse(holds_within=int(FRESH_FOR))

    async def _current(self, not_older: float) -> _Revoked:
        """Return the last list, or a new one if it is too old. Raises Refused."""
        asked = self._monotonic()
        if self._known is not None and asked - self._listed < not_older:
            return self._known
        within = None if self._known is None else _WITHIN
        try:
            async with asyncio.timeout(within), self._listing:  # one list for all that wait
                if self._known is None or self._listed <= asked - not_older:
                    began = self._monotonic()
                    self._known, self._listed = await self._list(), began
        except (TimeoutError, Fault, BigUploadError) as e:
            if self._known is not None and not_older and asked - self._listed < STALE_AFTER:
                return self._known
            with store_faults_as_refusals():
                if isinstance(e, TimeoutError):
                    raise Fault(FaultKind.STALLED, "the store did not respond") from e
                raise
        return self._known

    async def _list(self) -> _Revoked:
        """Raises Fault or BigUploadError."""
        oldest = f"{REVOKED_PREFIX}{max(0, int(self._clock()) - _KEPT_FOR):010}"
        tokens, issued, of_owners = set[str](), dict[str, int](), dict[str, int]()
        for key in await self._objects.note_keys(REVOKED_PREFIX, after=oldest):
            match = _REVOCATION.fullmatch(key)
            if match is None:
                continue
            _, kind, place, before, owner = match.groups()
            of_owners[owner] = of_owners.get(owner, 0) + 1
            if kind == "token":
                tokens.add(place)
            else:
                issued[place] = max(int(before), issued.get(place, 0))
        return _Revoked(frozenset(tokens), issued, of_owners)


def _digest(*of: str) -> str:
    return hashlib.sha256("\n".join(of).encode()).hexdigest()[:40]
