"""What may be tried again, and how long to wait before. Pure: clock and randomness are passed in.

Adapters say what happened as a `Fault`; `Attempts` decides for one request, and raises the public error when it is
over. https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from bigupload import errors
from bigupload.units import format_seconds


class FaultKind(enum.Enum):
    """What a failed request means for the next one."""

    UNREACHABLE = enum.auto()
    """Nothing connects: refused, no route, no such name."""
    BROKEN = enum.auto()
    """The connection broke or the answer was lost: the store may have acted."""
    STALLED = enum.auto()
    """No progress, or no answer, for too long."""
    BUSY = enum.auto()
    """The store asks to slow down: 429, 503, SlowDown and the like."""
    SERVER = enum.auto()
    """Any other passing error: 408, every other 5xx but 501, RequestTimeout, OperationAborted."""
    CORRUPTED = enum.auto()
    """The store received other bytes than were signed for."""
    REFUSED = enum.auto()
    """The signature, the credentials or the URL are refused, or have expired."""
    SKEWED = enum.auto()
    """The store and this machine disagree about the time."""
    GONE = enum.auto()
    """The upload id, or the object, is not there."""
    EXISTS = enum.auto()
    """A condition on the key failed: 412."""
    CONFLICT = enum.auto()
    """Another write to the key won (409 ConditionalRequestConflict). At complete, S3 wants every part again."""
    INVALID_PART = enum.auto()
    """Complete names a part that the store has not, or not like that."""
    UNSUPPORTED = enum.auto()
    """The store does not know what was asked for: 405, 501, and some 400s."""
    FINAL = enum.auto()
    """Anything else: the same request would fail again."""


class Fault(Exception):
    """One request failed. Internal: it becomes a public error, or a retry. Its text holds nothing secret."""

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        error: type[errors.BigUploadError] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.code = code
        self.retry_after = retry_after
        """Seconds that the store asks to wait."""
        self._error = error

    def public(self) -> errors.BigUploadError:
        """The error to raise when this is the end."""
        error = self._error or _PUBLIC[self.kind]
        return error(str(self))


_PUBLIC: dict[FaultKind, type[errors.BigUploadError]] = {
    FaultKind.UNREACHABLE: errors.StoreUnreachable,
    FaultKind.BROKEN: errors.StoreUnreachable,
    FaultKind.STALLED: errors.StoreUnreachable,
    FaultKind.BUSY: errors.StoreUnavailable,
    FaultKind.SERVER: errors.StoreUnavailable,
    FaultKind.CORRUPTED: errors.PartCorrupted,
    FaultKind.REFUSED: errors.AccessDenied,
    FaultKind.SKEWED: errors.ClockSkewed,
    FaultKind.GONE: errors.UploadGone,
    FaultKind.EXISTS: errors.TargetExists,
    FaultKind.CONFLICT: errors.StoreUnavailable,
    FaultKind.INVALID_PART: errors.StoreRefused,
    FaultKind.UNSUPPORTED: errors.StoreRefused,
    FaultKind.FINAL: errors.StoreRefused,
}

_COUNTED = frozenset(
    {
        FaultKind.BROKEN,
        FaultKind.STALLED,
        FaultKind.BUSY,
        FaultKind.SERVER,
        FaultKind.UNREACHABLE,
        FaultKind.CONFLICT,
    }
)
PASSING = frozenset({FaultKind.BUSY, FaultKind.SERVER})
"""The server responded, and the same request may succeed later."""
FIRST_CONTACT_ATTEMPTS = 4
"""A mistyped endpoint is noticed in seconds: patience is for a store that has answered before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient an upload is. All times in seconds."""

    attempts: int = 8
    """Of one request, the first included. Those made while nothing connects at all do not count."""
    base_delay: float = 0.5
    max_delay: float = 20.0
    give_up_after: float = 900.0
    """How long nothing may connect before the run stops, resumable."""
    stall_after: float = 30.0
    """A request whose bytes do not move for so long is sent again."""
    answer_within: float = 300.0
    """How long the store may take to answer once it has the whole body."""

    def delay(self, retry: int, random: Callable[[], float]) -> float:
        """Full jitter before retry number `retry` (from 1); `random` gives [0, 1)."""
        return random() * min(self.max_delay, self.base_delay * 2.0 ** min(retry - 1, 30))


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay` seconds, with a new signature or a new hash of the part where asked."""

    delay: float
    resign: bool = False
    rehash: bool = False


class Attempts:
    """The tries of one request."""

    def __init__(self, policy: RetryPolicy, random: Callable[[], float]) -> None:
        self._policy = policy
        self._random = random
        self._resigned = False
        self._rehashed = False
        self._outages = 0
        self.made = 1
        """The number of the attempt under way, from 1; it is what counts against the policy."""

    def after(self, fault: Fault, *, silence: float | None) -> Retry:
        """What to do after a failed attempt. Raises the public error where it was the last.

        `silence`: seconds since the store last answered anything at all, if it has been silent throughout this
        attempt; 0 if it answered someone meanwhile; None if it has not answered once in this run.
        """
        if fault.kind is FaultKind.UNREACHABLE and silence:
            return self._outage(fault, silence)
        if fault.kind in _COUNTED:
            return self._counted(fault, self._policy.attempts if silence is not None else FIRST_CONTACT_ATTEMPTS)
        if fault.kind is FaultKind.REFUSED and not self._resigned:
            self._resigned = True
            return Retry(0.0, resign=True)
        if fault.kind is FaultKind.CORRUPTED and not self._rehashed:
            self._rehashed = True
            return Retry(0.0, rehash=True)
        raise fault.public() from fault

    def _outage(self, fault: Fault, silence: float) -> Retry:
        if silence >= self._policy.give_up_after:
            raise errors.StoreUnreachable(
                f"no connection to the store for {format_seconds(silence)} ({fault}): run again later, or wait longer "
                "with --give-up-after"
            ) from fault
        self._outages += 1
        return Retry(self._policy.delay(self._outages, self._random))

    def _counted(self, fault: Fault, limit: int) -> Retry:
        if self.made >= min(limit, self._policy.attempts):
            error = fault.public()
            raise type(error)(f"{fault} ({self.made} attempts): run again to go on") from fault
        delay = self._policy.delay(self.made, self._random)
        self.made += 1
        # Another attempt may come hours later (a long part, a laptop that slept): its signature may be too old again.
        self._resigned = False
        # Retry-After is the store's word, but one that asks for hours would look like a hang.
        return Retry(max(delay, min(fault.retry_after or 0.0, self._policy.give_up_after)))


_BY_CODE = {
    "BadDigest": FaultKind.CORRUPTED,
    "InvalidDigest": FaultKind.CORRUPTED,
    "XAmzContentChecksumMismatch": FaultKind.CORRUPTED,
    "ExpiredToken": FaultKind.REFUSED,
    "TokenRefreshRequired": FaultKind.REFUSED,
    "RequestTimeTooSkewed": FaultKind.SKEWED,
    "NoSuchUpload": FaultKind.GONE,
    "NoSuchKey": FaultKind.GONE,
    "NotImplemented": FaultKind.UNSUPPORTED,
    "InvalidPart": FaultKind.INVALID_PART,
    "InvalidPartOrder": FaultKind.INVALID_PART,
    "ConditionalRequestConflict": FaultKind.CONFLICT,
    # Passing, whichever status they come with: 400 is usual for the first two, 409 for the third.
    "RequestTimeout": FaultKind.SERVER,
    "IncompleteBody": FaultKind.SERVER,
    "OperationAborted": FaultKind.SERVER,
    "InternalError": FaultKind.SERVER,
    # The codes that botocore's standard retry mode takes for throttling, as far as they are not 503.
    "SlowDown": FaultKind.BUSY,
    "Throttling": FaultKind.BUSY,
    "ThrottlingException": FaultKind.BUSY,
    "ThrottledException": FaultKind.BUSY,
    "RequestThrottled": FaultKind.BUSY,
    "RequestThrottledException": FaultKind.BUSY,
    "RequestLimitExceeded": FaultKind.BUSY,
    "BandwidthLimitExceeded": FaultKind.BUSY,
    "TooManyRequestsException": FaultKind.BUSY,
}
_BY_STATUS = {
    401: FaultKind.REFUSED,
    403: FaultKind.REFUSED,
    405: FaultKind.UNSUPPORTED,
    408: FaultKind.SERVER,
    412: FaultKind.EXISTS,
    425: FaultKind.SERVER,
    429: FaultKind.BUSY,
    501: FaultKind.UNSUPPORTED,
    503: FaultKind.BUSY,
    **dict.fromkeys({*range(500, 600)} - {501, 503}, FaultKind.SERVER),
}
_WITHOUT_CODE = {404: FaultKind.SERVER, 409: FaultKind.SERVER}
"""A store names what it does not have. A 404 without a code comes from a gateway that has lost its store."""


def classify(status: int, code: str | None) -> FaultKind:
    """Say what an error response means for the next request.

    Every adapter asks here, and `service/browser/problem.js` has the same table; a test compares the two.

    Args:
        status: The HTTP status.
        code: S3's error code, or None or "" if the response has none. The code decides; the status decides for codes
            that are not in the table. The message never does: messages differ between stores, and some are empty.
    """
    if code in _BY_CODE:
        return _BY_CODE[code]
    if not code and status in _WITHOUT_CODE:
        return _WITHOUT_CODE[status]
    return _BY_STATUS.get(status, FaultKind.FINAL)
