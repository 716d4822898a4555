"""Revoked upload tokens: noted in the bucket, where all replicas read them.

A token is verified without asking anybody, so a replica must learn that it was revoked. Each one lists the notes when a
token is presented and its list is older than `FRESH_FOR`: by then a revocation holds everywhere. A note's key says all,
so that a list is enough. It is of no use when the longest token that it can concern has ended; the sweep and the
bucket's rules delete it later.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import time
from collections.abc import Callable

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.records import dataclass
from bigupload.service import contract as c
from bigupload.service.media_objects import MediaBucket
from bigupload.service.object_keys import REVOKED_PREFIX
from bigupload.service.problems import Problem, Refused
from bigupload.service.store_health import store_faults_as_refusals
from bigupload.service.upload_tokens import CLOCK_SKEW, LONGEST_TOKEN, UploadToken

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
_WORDS = "the upload token was revoked"
_NOTE = re.compile(rf"{REVOKED_PREFIX}([0-9]{{10}})-([a-z]+)-([0-9a-f]{{40}})-([0-9]{{10}})-([0-9a-f]{{8}})")


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
        if _token(token.owner, token.id) in known.tokens:
            raise Refused(Problem.INVALID_TOKEN, _WORDS)
        places = [_all(token.owner)] + ([_user(token.owner, token.user)] if token.user is not None else [])
        if any(token.issued <= known.issued.get(place, -1) for place in places):
            raise Refused(Problem.INVALID_TOKEN, _WORDS)

    async def revoke(self, owner: str, request: c.RevokeRequest) -> c.RevokedResponse:
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
            kind, place = "token", _token(owner, request.id)
        elif request.user is not None:
            kind, place = "user", _user(owner, request.user)
        elif request.issued_before is not None:
            kind, place = "all", _all(owner)
        else:
            raise Refused(Problem.INVALID_FIELD, "name a token's id, an end user or a time", field="id")
        known = await self._current(FRESH_FOR)
        if known.of_owners.get(_owner(owner), 0) >= MOST_OF_OWNER:
            message = f"{MOST_OF_OWNER:,} revocations are in force: revoke by end user or by time instead of by id"
            raise Refused(Problem.RATE_LIMITED, message, retry_after=3600.0)
        note = f"{REVOKED_PREFIX}{int(now):010}-{kind}-{place}-{math.ceil(before):010}-{_owner(owner)}"
        with store_faults_as_refusals():
            await self._objects.put_note(note, {})
            await self._current(0.0)
        return c.RevokedResponse(holds_within=int(FRESH_FOR))

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
        except (TimeoutError, Fault, errors.BigUploadError) as e:
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
            match = _NOTE.fullmatch(key)
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


def _token(owner: str, name: str) -> str:
    return _digest("token", owner, name)


def _user(owner: str, user: str) -> str:
    return _digest("user", owner, user)


def _all(owner: str) -> str:
    return _digest("all", owner)


def _owner(owner: str) -> str:
    return _digest("owner", owner)[:8]
