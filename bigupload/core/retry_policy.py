"""The failed requests that are retried, and their delays. Pure: clock and randomness are passed in.

An adapter reports a failed request as a `Fault`. `Attempts` decides for one request: a delay, or the public error.
https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from bigupload import errors
from bigupload.records import dataclass
from bigupload.units import format_seconds


class _FaultRow(NamedTuple):
    meaning: str
    public: type[errors.BigUploadError]
    """The error if the request is not retried."""
    of_source: type[errors.SourceError] = errors.SourceUnreadable
    """The same for a request to where the source is."""
    is_retried: bool = False
    """The same request may succeed later."""
    may_have_acted: bool = False
    """The store may have done what was requested all the same."""
    no_response: bool = False
    asks_to_slow_down: bool = False
    """The limit of what is in flight falls."""
    refuses_hedges: bool = False
    """A store may respond like this to two PUTs of one part because they are two."""


class FaultKind(_FaultRow, enum.Enum):
    """The kinds of failed requests: a row for each, with all that depends on it.

    Code asks for a column, and names a kind only where it handles that one alone.
    """

    UNREACHABLE = _FaultRow(
        "Nothing connects: refused, no route, no such name.",
        errors.StoreUnreachable,
        errors.SourceUnreachable,
        is_retried=True,
        no_response=True,
    )
    BROKEN = _FaultRow(
        "The connection broke, or the response was lost.",
        errors.StoreUnreachable,
        errors.SourceUnreachable,
        is_retried=True,
        may_have_acted=True,
        no_response=True,
    )
    STALLED = _FaultRow(
        "No progress, or no response, for too long.",
        errors.StoreUnreachable,
        errors.SourceUnreachable,
        is_retried=True,
        may_have_acted=True,
        no_response=True,
    )
    BUSY = _FaultRow(
        "The store asks to slow down: 429, 503, SlowDown and the like.",
        errors.StoreUnavailable,
        errors.SourceUnreachable,
        is_retried=True,
        may_have_acted=True,
        asks_to_slow_down=True,
    )
    SERVER = _FaultRow(
        "Any other passing error: 408, every other 5xx but 501, RequestTimeout, OperationAborted.",
        errors.StoreUnavailable,
        errors.SourceUnreachable,
        is_retried=True,
        may_have_acted=True,
    )
    CORRUPTED = _FaultRow(
        "Checksum mismatch: the store received other bytes than the request announced.",
        errors.PartCorrupted,
        refuses_hedges=True,
    )
    REFUSED = _FaultRow(
        "The signature, the credentials or the URL were refused, or have expired.",
        errors.AccessDenied,
    )
    SKEWED = _FaultRow(
        "The store and this machine disagree about the time.",
        errors.ClockSkewed,
    )
    GONE = _FaultRow(
        "The store does not know the upload id or the object.",
        errors.UploadGone,
        errors.SourceNotFound,
        refuses_hedges=True,
    )
    EXISTS = _FaultRow(
        "Precondition failed (412): there is an object under the key.",
        errors.TargetExists,
    )
    CONFLICT = _FaultRow(
        "Another write to the key won (409 ConditionalRequestConflict). At complete, S3 wants every part again.",
        errors.StoreUnavailable,
        is_retried=True,
        refuses_hedges=True,
    )
    INVALID_PART = _FaultRow(
        "Complete names a part that the store does not have, or has with another ETag.",
        errors.StoreRefused,
        refuses_hedges=True,
    )
    UNSUPPORTED = _FaultRow(
        "The store does not support the request: 405, 501, and some 400s.",
        errors.StoreRefused,
        errors.SourceUnsupported,
    )
    FINAL = _FaultRow(
        "Anything else: the same request would fail again.",
        errors.StoreRefused,
        refuses_hedges=True,
    )

    @property
    def breaks_connection(self) -> bool:
        """Whether the next attempt needs another connection."""
        return self.no_response and self.may_have_acted

    @property
    def leaves_unknown(self) -> bool:
        """Whether this attempt, or one before it, may have done what was requested."""
        return self.no_response or self.may_have_acted


class Fault(Exception):
    """A failed request. Internal: it leads to a retry or a public error. Its text holds nothing secret."""

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        error: type[errors.BigUploadError] | None = None,
        region: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.code = code
        self.retry_after = retry_after
        """Seconds to wait, from the response's Retry-After."""
        self.date: float | None = None
        """The store's time of a refusal, in seconds since the epoch; None: it is not known, or does not matter."""
        self.has_other_time = False
        """Whether the next signature is by another time than the one that was refused."""
        self.warning = ""
        """A warning for the user if the request is repeated."""
        self.named: frozenset[str] = frozenset()
        """The headers, codes and actions that the response names, in lower case."""
        self.options: tuple[str, ...] = ()
        """The caller's options that a refusal names: another form of the request, or another signature, does not
        help."""
        self.hint = ""
        """The likely cause of a refusal, for the error that is raised if a new signature does not help."""
        self.is_explained = False
        """Whether its text explains a refusal, so that it needs no hint."""
        self.is_lasting = False
        """Whether a refusal stays one, because nobody renews the credentials."""
        self.moved_at: float | None = None
        """When the peer last took bytes of the request, by the clock of its upload; None: never, or only what fits into
        buffers."""
        self.progressed = False
        """Whether enough of what was requested has come, and is not requested again: then attempts count from zero."""
        self.region = region
        """The bucket's region, if the store names it because the request was signed for another one."""
        self.it: str | None = None
        """The source that its text names."""
        self._error = error

    @property
    def is_decided(self) -> bool:
        """Whether the response names the public error: another form of the request does not help."""
        return bool(self.options) or (self._error is not None and self.kind is FaultKind.FINAL)

    @property
    def may_be_unsupported(self) -> bool:
        """Whether the store may not know a header or a parameter of the request, as one for a checksum."""
        if self.options:
            return False
        return self.kind is FaultKind.UNSUPPORTED or (self.kind is FaultKind.FINAL and self.status == 400)

    @property
    def names_checksum(self) -> bool:
        """Whether the response names a header of checksums, or all of them: x-amz-checksum-*."""
        return any(name.startswith(_CHECKSUM_HEADERS) for name in self.named)

    @property
    def is_absent(self) -> bool:
        """Whether there is no such upload or object. A response to HEAD has no body, and so no code."""
        return self.kind is FaultKind.GONE or self.status == 404

    def of_source(self, what: str | None = None) -> Fault:
        """The same fault of what is uploaded, not of the store: its error is a SourceError.

        Args:
            what: The source's name in messages; None: the fault's text has it.
        """
        error = self._error if self._error is not None and issubclass(self._error, errors.SourceError) else None
        error = error or self.kind.of_source
        text = str(self) if what is None else f"{what}: {self}"
        made = Fault(self.kind, text, status=self.status, code=self.code, retry_after=self.retry_after, error=error)
        made.hint, made.is_lasting, made.it = self.hint, self.is_lasting, what or self.it
        return made

    def public(self) -> errors.BigUploadError:
        """Make the error to raise if the request is not retried."""
        if self.code in EXPIRED:
            return errors.CredentialsError(f"{self}: {_EXPIRED}")
        if self.code in _BAD_SESSION:
            return errors.CredentialsError(f"{self}: {_OTHER_SESSION}")
        bad = errors.CredentialsError if self.code in _BAD_CREDENTIALS else None
        error = self._error or bad or self.kind.public
        is_hinted = self.hint and (self.options or self.kind in (FaultKind.REFUSED, FaultKind.UNSUPPORTED))
        made = error(f"{self}: {self.hint}" if is_hinted else str(self), it=self.it)
        if isinstance(made, errors.WrongRegion):
            made.region = self.region
        return made


_CHECKSUM_HEADERS = ("x-amz-checksum", "x-amz-sdk-checksum")
EXPIRED = frozenset({"ExpiredToken", "TokenRefreshRequired"})
"""S3's codes for temporary credentials that have ended."""
_BAD_SESSION = frozenset({"InvalidToken", "InvalidTokenId"})
_BAD_CREDENTIALS = frozenset({"InvalidAccessKeyId"})
_OTHER_SESSION = (
    "the session token (AWS_SESSION_TOKEN, or that of the profile) is not of these keys, or not of this store: renew "
    "both, or leave the token out"
)
_EXPIRED = "the credentials have expired. Renew them, then resume; `credentials` renews them while an upload runs"

_LEAST_WAIT = 60.0
"""Seconds that a store may take to respond to a body, however short the time for an outage is."""
_CLOCK_STEPS = 2
"""Steps of a clock within the attempts of one request: one of the store's servers may be ahead, and the next is not."""
ATTEMPTS_BEFORE_RESPONSE = 4
"""Attempts while the store has not responded once in this run: a mistyped endpoint is reported within seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The number, delays and limits of retries. All times are in seconds.

    Raises:
        UsageError: A time is not a number from 0 on, or one of the last two is 0, or `attempts` is not a whole number.
    """

    attempts: int = 8
    """Attempts of one request, including the first, which is always made. Attempts during an outage (nothing connects)
    do not count."""
    base_delay: float = 0.5
    """The longest delay before the first retry. It doubles with each retry; the delay is random between 0 and that."""
    max_delay: float = 20.0
    """The longest delay before any retry."""
    give_up_after: float = 900.0
    """The time that an outage may last. Then the upload stops, resumable. Also the longest wait for a Retry-After, and
    the longest silence of a store that takes connections, as far as an attempt has failed by then.
    An outage is one of a store that has responded in this run, or of a media service through which an upload was begun
    before. Else four attempts are made at most."""
    stall_after: float = 30.0
    """A PUT whose body makes no progress for so long is sent again."""
    response_timeout: float = 300.0
    """The time that the store may take to respond after the whole body of a part was sent. It does not count while the
    store responds to parts that were sent before, or while earlier bytes can't have arrived yet. A shorter
    `give_up_after` shortens it, to a minute at least."""

    def __post_init__(self) -> None:
        attempts: Any = self.attempts  # no caller is bound by the annotation
        if not isinstance(attempts, int) or isinstance(attempts, bool):
            raise errors.UsageError(f"attempts must be a whole number, not {attempts!r}")
        for name in ("base_delay", "max_delay", "give_up_after", "stall_after", "response_timeout"):
            seconds = getattr(self, name)
            if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds >= 0:  # also nan
                raise errors.UsageError(f"{name} must be a number of seconds from 0 on, not {seconds!r}")
        for name in ("stall_after", "response_timeout"):  # 0 would send each part again and again
            if not getattr(self, name) > 0:
                raise errors.UsageError(f"`{name}` must be above 0")

    @property
    def response_within(self) -> float:
        """The time to wait for a response to a whole body: no longer than a silence may last."""
        return min(self.response_timeout, max(self.give_up_after, _LEAST_WAIT))

    def delay(self, retry: int, random: Callable[[], float]) -> float:
        """Choose the delay before retry number `retry` (from 1), with full jitter. `random` gives numbers in [0, 1)."""
        return random() * min(self.max_delay, self.base_delay * 2.0 ** min(retry - 1, 30))


@dataclass(frozen=True, slots=True)
class Retry:
    """Retry after `delay` seconds; `resign`: with a new signature; `rehash`: hash the part again before."""

    delay: float
    resign: bool = False
    rehash: bool = False


class Attempts:
    """The attempts of one request."""

    def __init__(self, policy: RetryPolicy, random: Callable[[], float]) -> None:
        self._policy = policy
        self._random = random
        self._resigned = False
        self._clock_steps = 0
        self._rehashed = False
        self._outages = 0
        self.made = 1
        """The number of the present attempt, from 1, as it counts against the policy."""

    def after(self, fault: Fault, *, silence: float | None, unanswered: float = 0.0) -> Retry:
        """Decide what follows a failed attempt.

        Args:
            fault: Why the attempt failed.
            silence: Seconds without any response of the store, if there was none during this attempt. 0 if the store
                responded to another request meanwhile. None if it has not responded once in this run.
            unanswered: Seconds since the first of the attempts that got no response, of any request, if none has got
                one since: whether or not the store has responded in this run.

        Raises:
            BigUploadError: This attempt was the last.
        """
        if fault.kind is FaultKind.UNREACHABLE and silence:
            return self._outage(fault, silence)
        # With a shorter time, one broken connection would be an outage.
        if fault.kind.breaks_connection and unanswered >= max(self._policy.give_up_after, self._policy.stall_after):
            raise self._given_up(fault, "no response of", unanswered) from fault
        if fault.kind.is_retried:
            return self._counted(fault, self._policy.attempts if silence is not None else ATTEMPTS_BEFORE_RESPONSE)
        if fault.has_other_time and self._clock_steps < _CLOCK_STEPS:
            self._clock_steps += 1
            self._resigned = True
            return Retry(0.0, resign=True)
        # SKEWED: this machine may have slept between the signature and the request.
        if fault.kind in (FaultKind.REFUSED, FaultKind.SKEWED) and not self._resigned and not fault.is_lasting:
            self._resigned = True
            return Retry(0.0, resign=True)
        if fault.kind is FaultKind.CORRUPTED and not self._rehashed:
            self._rehashed = True
            return Retry(0.0, rehash=True)
        raise fault.public() from fault

    def _outage(self, fault: Fault, silence: float) -> Retry:
        if silence >= self._policy.give_up_after:
            raise self._given_up(fault, "no connection to", silence) from fault
        self._outages += 1
        return Retry(self._policy.delay(self._outages, self._random))

    def _given_up(self, fault: Fault, lacks: str, seconds: float) -> errors.BigUploadError:
        error = type(fault.public())
        peer = "the source" if issubclass(error, errors.SourceError) else "the store"
        # One attempt may take longer than the limit: see `response_within`.
        limit = f"the limit is {format_seconds(self._policy.give_up_after)}, checked when an attempt fails"
        why = f"{lacks} {peer} for {format_seconds(seconds)} ({fault}); {limit}"
        return error(f"{why}: run again later, or allow a longer `give_up_after`", it=fault.it)

    def _counted(self, fault: Fault, limit: int) -> Retry:
        if self.made >= min(limit, self._policy.attempts):
            error = type(fault.public())
            raise error(f"{fault} ({self.made} attempts): try again later", it=fault.it) from fault
        delay = self._policy.delay(self.made, self._random)
        self.made += 1
        # The next attempt may fail hours later (a large part, a laptop that slept), with a signature that has expired.
        self._resigned = False
        # Bounded: a wait of hours would look like a hang.
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
    **dict.fromkeys(range(500, 600), FaultKind.SERVER),
    401: FaultKind.REFUSED,
    403: FaultKind.REFUSED,
    405: FaultKind.UNSUPPORTED,
    408: FaultKind.SERVER,
    412: FaultKind.EXISTS,
    425: FaultKind.SERVER,
    429: FaultKind.BUSY,
    501: FaultKind.UNSUPPORTED,
    503: FaultKind.BUSY,
}
_WITHOUT_CODE = {404: FaultKind.SERVER, 409: FaultKind.SERVER}
"""A store names what it does not have. A 404 without a code comes from a gateway that has lost its store."""


def classify(status: int, code: str | None) -> FaultKind:
    """Classify an error response by its meaning for the next request.

    Every adapter asks here, and `service/browser/client/problem.js` has tables that are made of these.

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
