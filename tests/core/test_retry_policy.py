"""What may be tried again: every kind of fault, counted, timed and delayed by injected clock and chance."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload import errors
from bigupload.core.retry_policy import (
    ATTEMPTS_BEFORE_RESPONSE,
    Attempts,
    Fault,
    FaultKind,
    Retry,
    RetryPolicy,
    classify,
)
from tests.tools.cases import each_case, examples

POLICY = RetryPolicy()
COUNTED = {
    FaultKind.BROKEN, FaultKind.STALLED, FaultKind.BUSY, FaultKind.SERVER, FaultKind.UNREACHABLE, FaultKind.CONFLICT,
}  # fmt: skip
# kind: (the public error, exit code without a manifest, with one)
PUBLIC: dict[FaultKind, tuple[type[errors.BigUploadError], int, int]] = {
    FaultKind.UNREACHABLE: (errors.StoreUnreachable, 75, 75),
    FaultKind.BROKEN: (errors.StoreUnreachable, 75, 75),
    FaultKind.STALLED: (errors.StoreUnreachable, 75, 75),
    FaultKind.BUSY: (errors.StoreUnavailable, 75, 75),
    FaultKind.SERVER: (errors.StoreUnavailable, 75, 75),
    FaultKind.CORRUPTED: (errors.PartCorrupted, 75, 75),
    FaultKind.REFUSED: (errors.AccessDenied, 1, 75),
    FaultKind.SKEWED: (errors.ClockSkewed, 1, 75),
    FaultKind.GONE: (errors.UploadGone, 1, 1),
    FaultKind.EXISTS: (errors.TargetExists, 1, 1),
    FaultKind.CONFLICT: (errors.StoreUnavailable, 75, 75),
    FaultKind.INVALID_PART: (errors.StoreRefused, 1, 1),
    FaultKind.UNSUPPORTED: (errors.StoreRefused, 1, 1),
    FaultKind.FINAL: (errors.StoreRefused, 1, 1),
}


def most() -> float:
    """As much jitter as there can be."""
    return 1.0


def fault(kind: FaultKind, retry_after: float | None = None) -> Fault:
    return Fault(kind, "it failed", retry_after=retry_after)


def tries(attempts: Attempts, kind: FaultKind, silence: float | None) -> tuple[list[Retry], errors.BigUploadError]:
    """Fail the same way until it is over."""
    done: list[Retry] = []
    while len(done) < 1000:
        try:
            done.append(attempts.after(fault(kind), silence=silence))
        except errors.BigUploadError as e:
            return done, e
    raise AssertionError("it never gives up")


@each_case("kind", FaultKind)
def test_the_end_of_every_kind(kind: FaultKind) -> None:
    retries, error = tries(Attempts(POLICY, most), kind, silence=0.0)
    expected, bare, with_manifest = PUBLIC[kind]
    assert type(error) is expected
    assert isinstance(error.__cause__, Fault)
    assert "it failed" in str(error)
    assert "\n" not in str(error)
    assert error.exit_code == bare
    error.manifest = Path("m")
    assert error.exit_code == with_manifest
    if kind in COUNTED:
        assert len(retries) == 7
        assert "8 attempts" in str(error)
    elif kind in (FaultKind.REFUSED, FaultKind.SKEWED):
        assert retries == [Retry(0.0, resign=True)]
    elif kind is FaultKind.CORRUPTED:
        assert retries == [Retry(0.0, rehash=True)]
    else:
        assert retries == []


@each_case("kind", FaultKind)
def test_the_table_of_public_errors(kind: FaultKind) -> None:
    assert type(fault(kind).public()) is PUBLIC[kind][0]
    assert type(Fault(kind, "x", error=errors.WrongRegion).public()) is errors.WrongRegion
    assert str(Fault(kind, "x").public()) == "x"


def test_an_adapters_own_error_survives_the_counting() -> None:
    attempts = Attempts(RetryPolicy(attempts=1), most)
    with pytest.raises(errors.CredentialsError):
        attempts.after(Fault(FaultKind.SERVER, "x", error=errors.CredentialsError), silence=0.0)


@each_case("kind", sorted(COUNTED, key=lambda kind: kind.name))
def test_delays_double_up_to_the_cap(kind: FaultKind) -> None:
    retries, _ = tries(Attempts(POLICY, most), kind, silence=0.0)
    assert [again.delay for again in retries] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0]
    assert not any(again.resign or again.rehash for again in retries)


@settings(deadline=None, max_examples=examples(60))
@given(
    retry=st.integers(1, 10**6), chance=st.floats(0, 1, exclude_max=True), base=st.floats(0, 100), cap=st.floats(0, 100)
)
def test_jitter_stays_within_its_bounds(retry: int, chance: float, base: float, cap: float) -> None:
    policy = RetryPolicy(base_delay=base, max_delay=cap)
    delay = policy.delay(retry, lambda: chance)
    longest = policy.delay(retry, most)
    assert 0 <= delay <= longest <= cap
    assert math.isclose(delay, chance * longest)
    assert policy.delay(retry + 1, most) >= longest


def test_jitter_is_full() -> None:
    assert POLICY.delay(5, lambda: 0.0) == 0.0
    assert POLICY.delay(5, lambda: 0.5) == 4.0


def test_the_random_source_is_asked_for_each_delay() -> None:
    chances = iter([0.0, 0.5, 1.0])
    attempts = Attempts(POLICY, lambda: next(chances))
    delays = [attempts.after(fault(FaultKind.BUSY), silence=0.0).delay for _ in range(3)]
    assert delays == [0.0, 0.5, 2.0]


# -- counting


def test_what_counts_is_the_request_not_the_kind() -> None:
    attempts = Attempts(RetryPolicy(attempts=4), most)
    for made, kind in enumerate([FaultKind.BROKEN, FaultKind.BUSY, FaultKind.STALLED], 2):
        attempts.after(fault(kind), silence=0.0)
        assert attempts.made == made
    with pytest.raises(errors.StoreUnavailable, match="4 attempts"):
        attempts.after(fault(FaultKind.SERVER), silence=0.0)


def test_a_new_signature_and_a_new_hash_come_once_and_do_not_count() -> None:
    attempts = Attempts(POLICY, most)
    assert attempts.after(fault(FaultKind.REFUSED), silence=0.0) == Retry(0.0, resign=True)
    assert attempts.after(fault(FaultKind.CORRUPTED), silence=0.0) == Retry(0.0, rehash=True)
    assert attempts.made == 1
    assert attempts.after(fault(FaultKind.BUSY), silence=0.0) == Retry(0.5)
    with pytest.raises(errors.PartCorrupted):
        attempts.after(fault(FaultKind.CORRUPTED), silence=0.0)
    # The next attempt may be hours later, when the new signature is too old as well; but once for each attempt only.
    assert attempts.after(fault(FaultKind.REFUSED), silence=0.0) == Retry(0.0, resign=True)
    with pytest.raises(errors.AccessDenied):
        attempts.after(fault(FaultKind.REFUSED), silence=0.0)


@each_case("attempts", [-1, 0, 1])
@each_case("silence", [None, 0.0])
def test_a_policy_of_one_attempt(attempts: int, silence: float | None) -> None:
    with pytest.raises(errors.StoreUnavailable, match="1 attempts"):
        Attempts(RetryPolicy(attempts=attempts), most).after(fault(FaultKind.BUSY), silence=silence)


def test_a_policy_without_delays() -> None:
    retries, _ = tries(Attempts(RetryPolicy(base_delay=0.0), most), FaultKind.BUSY, silence=0.0)
    assert {again.delay for again in retries} == {0.0}
    retries, _ = tries(Attempts(RetryPolicy(max_delay=0.0), most), FaultKind.BUSY, silence=0.0)
    assert {again.delay for again in retries} == {0.0}


# -- first contact and outages


@each_case("kind", sorted(COUNTED, key=lambda kind: kind.name))
def test_before_the_first_response_few_attempts_are_made(kind: FaultKind) -> None:
    retries, error = tries(Attempts(POLICY, most), kind, silence=None)
    assert len(retries) == ATTEMPTS_BEFORE_RESPONSE - 1
    assert f"{ATTEMPTS_BEFORE_RESPONSE} attempts" in str(error)


def test_before_the_first_contact_a_shorter_policy_stays_shorter() -> None:
    retries, _ = tries(Attempts(RetryPolicy(attempts=2), most), FaultKind.UNREACHABLE, silence=None)
    assert len(retries) == 1


def test_an_outage_is_measured_in_time_not_in_attempts() -> None:
    attempts = Attempts(POLICY, most)
    delays = [attempts.after(fault(FaultKind.UNREACHABLE), silence=1.0 + n).delay for n in range(200)]
    assert attempts.made == 1
    assert delays[:6] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
    assert set(delays[6:]) == {20.0}
    assert attempts.after(fault(FaultKind.UNREACHABLE), silence=899.9)
    with pytest.raises(errors.StoreUnreachable, match="no connection to the store for 15:00 min"):
        attempts.after(fault(FaultKind.UNREACHABLE), silence=900.0)


def test_an_outage_of_a_source_is_its_own() -> None:
    with pytest.raises(errors.SourceUnreachable, match="no connection to the source for 15:00 min"):
        Attempts(POLICY, most).after(fault(FaultKind.UNREACHABLE).of_source(), silence=900.0)


@each_case("kind", list(FaultKind))
def test_a_fault_of_a_source_is_a_source_error(kind: FaultKind) -> None:
    """So that it can be resumed, and nobody looks for it at the store."""
    told = Fault(kind, "it failed", status=503, retry_after=7.0).of_source("a film")
    assert isinstance(told.public(), errors.SourceError)
    assert (str(told), told.kind, told.status, told.retry_after) == ("a film: it failed", kind, 503, 7.0)
    assert told.public().resumable is (kind is not FaultKind.UNSUPPORTED)  # which would fail again


@each_case("kind", sorted(COUNTED - {FaultKind.UNREACHABLE}, key=lambda kind: kind.name))
def test_only_what_does_not_connect_is_an_outage(kind: FaultKind) -> None:
    attempts = Attempts(POLICY, most)
    attempts.after(fault(kind), silence=10_000.0)
    assert attempts.made == 2


@each_case("given", [(900.0, 300.0, 300.0), (180.0, 300.0, 180.0), (0.0, 300.0, 60.0), (0.0, 5.0, 5.0)])
def test_a_response_is_waited_for_as_long_as_a_silence_may_last(given: tuple[float, float, float]) -> None:
    give_up_after, response_timeout, within = given
    assert RetryPolicy(give_up_after=give_up_after, response_timeout=response_timeout).response_within == within


def test_unreachable_while_others_get_responses_is_counted() -> None:
    attempts = Attempts(POLICY, most)
    attempts.after(fault(FaultKind.UNREACHABLE), silence=0.0)
    assert attempts.made == 2


def test_after_an_outage_the_attempts_are_all_there() -> None:
    attempts = Attempts(POLICY, most)
    for _ in range(50):
        attempts.after(fault(FaultKind.UNREACHABLE), silence=5.0)
    retries, _ = tries(attempts, FaultKind.SERVER, silence=0.0)
    assert [again.delay for again in retries] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0]


# -- Retry-After


@each_case(
    ("retry_after", "delay"), [(None, 0.5), (0.0, 0.5), (0.2, 0.5), (7.0, 7.0), (900.0, 900.0), (86_400.0, 900.0)]
)
def test_retry_after_is_obeyed_within_reason(retry_after: float | None, delay: float) -> None:
    assert Attempts(POLICY, most).after(fault(FaultKind.BUSY, retry_after), silence=0.0).delay == delay


@each_case("most_seconds", [30.0, 7200.0])
def test_retry_after_is_bounded_by_give_up_after(most_seconds: float) -> None:
    attempts = Attempts(dataclasses.replace(POLICY, give_up_after=most_seconds), most)
    assert attempts.after(fault(FaultKind.BUSY, 86_400.0), silence=0.0).delay == most_seconds


# -- classification


@each_case(
    ("status", "code", "kind"),
    [
        (400, "RequestTimeout", FaultKind.SERVER), (400, "BadDigest", FaultKind.CORRUPTED),
        (400, "InvalidDigest", FaultKind.CORRUPTED),
        (400, "XAmzContentChecksumMismatch", FaultKind.CORRUPTED), (400, "ExpiredToken", FaultKind.REFUSED),
        (400, "TokenRefreshRequired", FaultKind.REFUSED), (403, "RequestTimeTooSkewed", FaultKind.SKEWED),
        (404, "NoSuchUpload", FaultKind.GONE), (404, "NoSuchKey", FaultKind.GONE),
        (501, "NotImplemented", FaultKind.UNSUPPORTED),
        (400, "InvalidPart", FaultKind.INVALID_PART), (400, "InvalidPartOrder", FaultKind.INVALID_PART),
        (503, "SlowDown", FaultKind.BUSY), (200, "SlowDown", FaultKind.BUSY), (200, "InternalError", FaultKind.SERVER),
        (409, "OperationAborted", FaultKind.SERVER), (409, "ConditionalRequestConflict", FaultKind.CONFLICT),
        (412, "PreconditionFailed", FaultKind.EXISTS), (403, "AccessDenied", FaultKind.REFUSED),
        (403, "SignatureDoesNotMatch", FaultKind.REFUSED), (403, None, FaultKind.REFUSED), (403, "", FaultKind.REFUSED),
        (401, None, FaultKind.REFUSED), (404, None, FaultKind.SERVER), (404, "", FaultKind.SERVER),
        (409, None, FaultKind.SERVER),
        (409, "BucketAlreadyExists", FaultKind.FINAL), (400, "IncompleteBody", FaultKind.SERVER),
        (400, "ThrottlingException", FaultKind.BUSY), (425, None, FaultKind.SERVER),
        (404, "NoSuchBucket", FaultKind.FINAL),
        (408, None, FaultKind.SERVER), (429, None, FaultKind.BUSY), (500, None, FaultKind.SERVER),
        (502, None, FaultKind.SERVER),
        (503, None, FaultKind.BUSY), (504, None, FaultKind.SERVER), (400, None, FaultKind.FINAL),
        (400, "EntityTooSmall", FaultKind.FINAL), (301, None, FaultKind.FINAL), (418, "Teapot", FaultKind.FINAL),
        (505, None, FaultKind.SERVER), (507, "InsufficientStorage", FaultKind.SERVER), (520, None, FaultKind.SERVER),
        (524, None, FaultKind.SERVER), (599, None, FaultKind.SERVER), (501, None, FaultKind.UNSUPPORTED),
        (600, None, FaultKind.FINAL),
    ],
)  # fmt: skip
def test_classify(status: int, code: str | None, kind: FaultKind) -> None:
    assert classify(status, code) is kind


def test_everything_is_classified() -> None:
    for status, code in itertools.product(range(100, 600), [None, "", "Unheard-of"]):
        assert classify(status, code) in FaultKind


@each_case("value", ["2h", -1, math.nan, True, None])
@each_case("name", ["base_delay", "max_delay", "give_up_after", "stall_after", "response_timeout"])
def test_a_time_that_is_none(name: str, value: Any) -> None:
    with pytest.raises(errors.UsageError, match=f"^{name} must be a number of seconds"):
        RetryPolicy(**{name: value})


@each_case("name", ["stall_after", "response_timeout"])
def test_a_time_that_may_not_be_0(name: str) -> None:
    with pytest.raises(errors.UsageError, match=f"^`{name}` must be above 0$"):
        RetryPolicy(**{name: 0})


@each_case("value", ["8", 2.0, math.inf, True, None])
def test_attempts_that_are_none(value: Any) -> None:
    with pytest.raises(errors.UsageError, match=r"^attempts must be a whole number"):
        RetryPolicy(attempts=value)


def test_an_outage_may_be_waited_for_without_end() -> None:
    assert RetryPolicy(give_up_after=math.inf).give_up_after == math.inf
