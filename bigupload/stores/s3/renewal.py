"""Credentials that the caller's function gives: asked for again before they expire, and when the store refuses them.

The function runs in the caller's event loop, or in a thread if it is not async.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
import weakref
from collections.abc import Callable
from dataclasses import field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import Credentials, CredentialsSource, identity_of
from bigupload.records import dataclass
from bigupload.stores.s3.access import PlainKeys
from bigupload.stores.s3.aws_files import CONFIG, CREDENTIALS, path_setting
from bigupload.stores.s3.signer import SigningKeys
from bigupload.support.daemon_threads import run_in_daemon_thread

LOG = logging.getLogger("bigupload")

CREDENTIALS_EXPIRING = "CredentialsExpiring"
"""The code of the Fault that presigning raises if the credentials expire too soon."""
_RENEW_BEFORE = 300.0
"""Seconds before the end at which others are asked for; or at the last fifth of their life, if that is shorter."""
ANSWER_WITHIN = 300.0
"""Seconds that the function may take: a person may have to type a code. All uploads of the function wait meanwhile."""
METHOD = "bigupload"
"""The source of these credentials, beside botocore's names for other sources."""
_SHOWN = 4
"""Characters of a key's id that a message shows."""
_ASK_AGAIN = 30.0
"""Seconds between two attempts while the present credentials are still valid."""


def is_refusal(fault: Fault) -> bool:
    """Whether a store's response may mean that the credentials have expired. HEAD has no body that could say so."""
    return fault.kind is FaultKind.REFUSED or (fault.status == 400 and not fault.code)


def explain_refusal(fault: Fault, keys: SigningKeys | None, method: str, profile: str | None, *, renewed: bool) -> None:
    """Add to a refusal the credentials in use, and whether another attempt is of use. The text holds no secret.

    Args:
        fault: The refusal.
        keys: What signed the request; None: nothing did.
        method: Where they come from, by botocore's names.
        profile: The profile that was chosen.
        renewed: Whether they are renewed while they are used. Otherwise the hint has the end of their key's id, which
            is not a secret. Some stores answer 403 to a session token that has expired, and do not say why.
    """
    fault.is_lasting |= fault.code == "InvalidAccessKeyId" and not renewed
    if fault.is_explained:
        return
    if keys is None:
        fault.hint = "no credentials were used"
        return
    key = "" if renewed else f" (key ...{keys.access_key[-_SHOWN:]})"
    advice = "check that they belong to this store, and what they may do"
    if not renewed and keys.token:
        advice = "if the session token has expired, renew the credentials, then resume; "
        advice += "`credentials` renews them while an upload runs"
    fault.hint = f"the credentials {_origin(method, profile)}{key} were used: {advice}"


def _origin(method: str, profile: str | None) -> str:
    of_profile = f"of the profile {profile or 'default'}"
    known = {
        METHOD: "that `credentials` returned",
        "env": "from AWS_ACCESS_KEY_ID",
        "explicit": "that were given",
        "shared-credentials-file": f"{of_profile} in {path_setting(CREDENTIALS)}",
        "config-file": f"{of_profile} in {path_setting(CONFIG)}",
        "iam-role": "of this machine's role",
        "container-role": "of this machine's role",
    }
    return known.get(method, f"{of_profile} ({method})")


@dataclass(slots=True, weakref_slot=True)
class _Given:
    """The latest result of one function in one event loop. All buckets share it, so it is never called twice at a
    time."""

    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    credentials: Credentials | None = None
    renew_at: float = 0.0
    """The time at which others are asked for, in seconds since the epoch."""
    refused: bool = False
    """Whether the store refused the credentials."""


_all: weakref.WeakValueDictionary[tuple[tuple[int, ...], int], _Given] = weakref.WeakValueDictionary()


class Renewal:
    """The credentials of one bucket's connection. Without a function, it does nothing."""

    def __init__(self, source: CredentialsSource | None, clock: Callable[[], float] = time.time) -> None:
        """Ask for nothing yet.

        Args:
            source: The caller's function; None: the credentials come from elsewhere.
            clock: The time, in seconds since the epoch.
        """
        self._source = source
        self._clock = clock
        self._given: _Given | None = None

    @property
    def current(self) -> Credentials | None:
        """Return the latest credentials."""
        return None if self._given is None else self._given.credentials

    @property
    def keys(self) -> PlainKeys | None:
        """Return the latest credentials, to sign with."""
        given = self.current
        return None if given is None else PlainKeys(given.access_key, given.secret_key, given.session_token, METHOD)

    async def ready(self) -> None:
        """Have credentials that are valid for a while.

        Raises:
            CredentialsError: The function failed in its first call, or returned credentials that have expired.
            UsageError: It returned something else.
            Fault: It failed later, and the credentials have expired. A repeated call calls it again.
        """
        if self._source is None:
            return
        if self._given is None:
            key = identity_of(self._source), id(asyncio.get_running_loop())
            self._given = _all.setdefault(key, _Given())
        if self._is_due(self._given):
            async with self._given.asking:
                if self._is_due(self._given):
                    await self._renew(self._source, self._given)

    def _is_due(self, given: _Given) -> bool:
        return given.credentials is None or given.refused or self._clock() >= given.renew_at

    async def _renew(self, source: CredentialsSource, given: _Given) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                returned = await _call(source)
        except errors.BigUploadError:  # the function says so on purpose
            raise
        except Exception as e:
            # The text may hold a secret, so the type alone is named.
            failure = f"the function `credentials` failed ({type(e).__name__})"
            if given.credentials is None:
                raise errors.CredentialsError(failure) from e
            if given.refused or self._left(given.credentials) <= 0:
                raise Fault(FaultKind.SERVER, failure, error=errors.CredentialsError) from e
            LOG.warning("%s: the present ones are used on", failure)
            given.renew_at = self._clock() + _ASK_AGAIN
            return
        if not isinstance(returned, Credentials):
            raise errors.UsageError(f"`credentials` must return bigupload.Credentials, not {type(returned).__name__}")
        left = self._left(returned)
        if left <= 0:
            raise errors.CredentialsError(f"`credentials` returned credentials that expired at {returned.expires_at}")
        given.credentials, given.refused = returned, False
        given.renew_at = self._clock() + left - min(_RENEW_BEFORE, left / 5)

    def _left(self, credentials: Credentials) -> float:
        """The seconds for which credentials are valid."""
        return math.inf if credentials.expires_at is None else credentials.expires_at.timestamp() - self._clock()

    def refused(self, credentials: Credentials | None) -> None:
        """The store refused these: if they are still the present ones, `ready` asks for others."""
        if self._given is not None and credentials is not None and credentials is self._given.credentials:
            self._given.refused = True

    def refused_url(self, url: str) -> None:
        """The store refused a URL that was signed with credentials of this function."""
        current = self.current
        if current is None:
            return
        query = parse_qs(urlsplit(url).query)
        signer = query.get("X-Amz-Credential", [""])[0].partition("/")[0]
        if (signer, query.get("X-Amz-Security-Token", [None])[0]) == (current.access_key, current.session_token):
            self.refused(current)

    def seconds_left(self) -> float | None:
        """For how many seconds the present credentials are valid; None: they do not expire, or nobody knows when."""
        current = self.current
        return None if current is None or current.expires_at is None else self._left(current)


async def _call(source: CredentialsSource) -> Any:
    if any(map(inspect.iscoroutinefunction, (source, type(source).__call__))):
        given: Any = source()
    else:
        given = await run_in_daemon_thread(source)
    return await given if inspect.isawaitable(given) else given


# -- botocore's credentials. It has no public way to do these things: `test_compat` fails if a private attribute changes


def fetch_keys(credentials: Any, lasting: float) -> SigningKeys:
    """Return the keys of botocore's credentials that end, fetched again if these end in `lasting` seconds. Blocking.

    botocore itself refreshes 15 minutes before the end, which is too late for a URL that is valid for an hour.

    Raises:
        Fault: REFUSED if the refreshed credentials expire too soon as well.
        Exception: What their source raised, if they have expired already.
    """
    if lasting and credentials.refresh_needed(refresh_in=lasting):
        refresh_early(credentials, lasting)
        if credentials.refresh_needed(refresh_in=lasting):
            raise Fault(FaultKind.REFUSED, "the credentials expire before the URLs", code=CREDENTIALS_EXPIRING)
    keys: SigningKeys = credentials.get_frozen_credentials()
    return keys


def refresh_early(credentials: Any, seconds: float) -> None:
    """Refresh botocore's credentials that expire within `seconds`. Blocking."""
    window = credentials._advisory_refresh_timeout
    credentials._advisory_refresh_timeout = seconds
    try:
        credentials.get_frozen_credentials()
    finally:
        credentials._advisory_refresh_timeout = window


def seconds_left(credentials: Any) -> float | None:
    """Return for how many seconds botocore's credentials are valid; None: for ever, or they are not fetched yet."""
    if getattr(credentials, "_expiry_time", None) is None:
        return None
    left: float = credentials._seconds_remaining()
    return left
