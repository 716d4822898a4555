"""Credentials that the caller's function gives: asked for again before they expire, and when the store refuses them.

The function runs in the caller's event loop, or in a thread if it is not async.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import time
import weakref
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.credentials import Credentials, CredentialsSource, identity_of
from bigupload.stores.s3._compat import refresh_early
from bigupload.stores.s3.access import PlainKeys
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
"""Where these credentials come from, beside botocore's names for other sources."""
_MAY_HAVE_EXPIRED = (
    "if the session token has expired, renew the credentials, then resume; "
    "`credentials` renews them while an upload runs"
)
_SHOWN = 4
"""Characters of a key's id that a message shows."""
_ASK_AGAIN = 30.0
"""Seconds between two attempts while the present credentials are still valid."""


def is_refusal(fault: Fault) -> bool:
    """Whether a store's response may mean that the credentials have expired. HEAD has no body that could say so."""
    return fault.kind is FaultKind.REFUSED or (fault.status == 400 and not fault.code)


def explain_refusal(fault: Fault, keys: SigningKeys | None, method: str, profile: str | None, *, renewed: bool) -> None:
    """Say in a refusal which credentials were used, and whether another attempt is of use. The text holds no secret.

    Args:
        fault: The refusal.
        keys: What signed the request; None: nothing did.
        method: Where they come from, by botocore's names.
        profile: The profile that was chosen.
        renewed: Whether they are renewed while they are used. Otherwise the hint has the end of their key's id, which
            is no secret. Of temporary credentials, it has also what a refusal may mean: some stores answer 403 to
            expired ones, and do not say why.
    """
    fault.is_lasting = fault.code == "InvalidAccessKeyId" and not renewed
    if fault.is_explained:
        return
    if keys is None:
        fault.hint = "no credentials were used"
        return
    key = "" if renewed else f" (key ...{keys.access_key[-_SHOWN:]})"
    used = f"the credentials {_origin(method, profile)}{key} were used"
    if not renewed and keys.token:
        fault.hint = f"{used}: {_MAY_HAVE_EXPIRED}"
    else:
        fault.hint = f"{used}: check that they belong to this store, and what they may do"


def _origin(method: str, profile: str | None) -> str:
    of_profile = f"of the profile {profile or 'default'}"
    match method:
        case "bigupload":
            return "that `credentials` returned"
        case "env":
            return "from AWS_ACCESS_KEY_ID"
        case "explicit":
            return "that were given"
        case "shared-credentials-file":
            return f"{of_profile} in {os.environ.get('AWS_SHARED_CREDENTIALS_FILE', '~/.aws/credentials')}"
        case "config-file":
            return f"{of_profile} in {os.environ.get('AWS_CONFIG_FILE', '~/.aws/config')}"
        case "iam-role" | "container-role":
            return "of this machine's role"
    return f"{of_profile} ({method})"


class _Shared:
    """The credentials of one function in one event loop. All buckets share them: it is never called twice at a time."""

    def __init__(self, source: CredentialsSource, clock: Callable[[], float]) -> None:
        self.current: Credentials | None = None
        self._source = source
        self._clock = clock
        self._asking = anyio.Lock()
        self._renew_at = 0.0
        self._refused = False

    async def ready(self) -> None:
        if self._due():
            async with self._asking:
                if self._due():
                    await self._renew()

    def refused(self, credentials: Credentials | None) -> None:
        if credentials is not None and credentials is self.current:
            self._refused = True

    def _due(self) -> bool:
        return self.current is None or self._refused or self._clock() >= self._renew_at

    async def _renew(self) -> None:
        try:
            with anyio.fail_after(ANSWER_WITHIN):
                given = await self._ask()
        except errors.BigUploadError:  # the function says so on purpose
            raise
        except Exception as e:
            if not self._outlives(e):
                raise self._failure(e) from e
            return
        if not isinstance(given, Credentials):
            raise errors.UsageError(f"`credentials` must return bigupload.Credentials, not {type(given).__name__}")
        left = self._left(given)
        if left <= 0:
            raise errors.CredentialsError(f"`credentials` returned credentials that expired at {given.expires_at}")
        self.current, self._refused = given, False
        self._renew_at = self._clock() + left - min(_RENEW_BEFORE, left / 5)

    async def _ask(self) -> Any:
        source = self._source
        if any(map(inspect.iscoroutinefunction, (source, type(source).__call__))):
            given: Any = source()
        else:
            given = await run_in_daemon_thread(source, anyio.CapacityLimiter(1))
        return await given if inspect.isawaitable(given) else given

    def _outlives(self, e: Exception) -> bool:
        """Whether the present credentials can be used on, although asking for others failed."""
        if self.current is None or self._refused or self._left(self.current) <= 0:
            return False
        LOG.warning("the function `credentials` failed (%s): the present ones are used on", type(e).__name__)
        self._renew_at = self._clock() + _ASK_AGAIN
        return True

    def _failure(self, e: Exception) -> Exception:
        """Name the exception's type alone, because its text may hold a secret. The first call is not repeated."""
        message = f"the function `credentials` failed ({type(e).__name__})"
        if self.current is None:
            return errors.CredentialsError(message)
        return Fault(FaultKind.SERVER, message, error=errors.CredentialsError)

    def _left(self, credentials: Credentials) -> float:
        """The seconds for which credentials are valid."""
        return float("inf") if credentials.expires_at is None else credentials.expires_at.timestamp() - self._clock()

    def seconds_left(self) -> float | None:
        left = None if self.current is None else self._left(self.current)
        return None if left == float("inf") else left


_all: weakref.WeakValueDictionary[tuple[tuple[int, ...], int], _Shared] = weakref.WeakValueDictionary()


class Renewal:
    """The credentials of one bucket's connection. Without a function, it does nothing."""

    def __init__(self, source: CredentialsSource | None, clock: Callable[[], float] = time.time) -> None:
        """Remember the function; nothing is asked for yet.

        Args:
            source: The caller's function; None: the credentials come from elsewhere.
            clock: The time, in seconds since the epoch.
        """
        self._source = source
        self._clock = clock
        self._shared: _Shared | None = None

    async def ready(self) -> None:
        """Have credentials that are valid for a while.

        Raises:
            CredentialsError: The function failed in its first call, or returned credentials that have expired.
            UsageError: It returned something else.
            Fault: It failed later, and the credentials have expired. A repeated call calls it again.
        """
        if self._source is None:
            return
        if self._shared is None:
            key = identity_of(self._source), id(asyncio.get_running_loop())
            self._shared = _all.get(key) or _Shared(self._source, self._clock)
            _all[key] = self._shared
        await self._shared.ready()

    @property
    def current(self) -> Credentials | None:
        """What was given last."""
        return None if self._shared is None else self._shared.current

    @property
    def keys(self) -> PlainKeys | None:
        """What was given last, to sign with."""
        given = self.current
        return None if given is None else PlainKeys(given.access_key, given.secret_key, given.session_token, METHOD)

    def refused(self, credentials: Credentials | None) -> None:
        """The store refused these: if they are still the present ones, `ready` asks for others."""
        if self._shared is not None:
            self._shared.refused(credentials)

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
        return None if self._shared is None else self._shared.seconds_left()


def make_credentials_last(credentials: Any, seconds: float) -> None:
    """Refresh botocore's credentials if they expire within `seconds`. Blocking.

    botocore itself refreshes 15 minutes before the end, which is too late for a URL that is valid for an hour.

    Raises:
        Fault: REFUSED if the refreshed credentials expire too soon as well.
    """
    if not hasattr(credentials, "refresh_needed"):
        return  # they never expire
    if credentials.refresh_needed(refresh_in=seconds):
        refresh_early(credentials, seconds)
        if credentials.refresh_needed(refresh_in=seconds):
            raise Fault(FaultKind.REFUSED, "the credentials expire before the URLs", code=CREDENTIALS_EXPIRING)
