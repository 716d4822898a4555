"""Credentials from the caller's function: when it is called, and what becomes of its failures."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import logging
import pickle
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import boto3
import pytest

from bigupload import Credentials, S3Options, errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.stores.s3.bucket import URL_LIFETIME, S3Bucket
from bigupload.stores.s3.bucket_pool import BucketPool
from bigupload.stores.s3.renewal import Renewal

SECRETS = ("SK-hidden", "ST-hidden")
PART = {"Key": "key", "UploadId": "u", "PartNumber": 1}


class Giver:
    """A function that gives numbered credentials with a life of `seconds`, and the clock that both sides see."""

    def __init__(self, seconds: float | None = 3600.0) -> None:
        self.now = 1_800_000_000.0
        self.seconds = seconds
        self.calls = 0
        self.at_once = 0
        self.most_at_once = 0
        self.failure: Exception | None = None

    def clock(self) -> float:
        return self.now

    async def __call__(self) -> Credentials:
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await anyio.sleep(0)
        self.at_once -= 1
        if self.failure is not None:
            raise self.failure
        return self.give()

    def give(self) -> Credentials:
        ends = None if self.seconds is None else datetime.datetime.fromtimestamp(self.now + self.seconds, UTC)
        return Credentials(
            access_key=f"AK{self.calls}", secret_key="SK-hidden", session_token="ST-hidden", expires_at=ends
        )

    def renewal(self) -> Renewal:
        return Renewal(self, self.clock)


@pytest.mark.parametrize(
    ("life", "kept", "renewed"), [(3600, 3299, 3301), (1000, 799, 801), (60, 47, 49), (None, 10**9, None)]
)
async def test_others_are_asked_for_before_the_end(life: float | None, kept: float, renewed: float | None) -> None:
    giver = Giver(life)
    renewal, began = giver.renewal(), giver.now
    await renewal.ready()
    giver.now = began + kept
    await renewal.ready()
    assert giver.calls == 1
    if renewed is not None:
        giver.now = began + renewed
        await renewal.ready()
        assert giver.calls == 2
        assert renewal.current is not None
        assert renewal.current.access_key == "AK2"


async def test_never_twice_at_a_time() -> None:
    """Also from several connections to several buckets."""
    giver = Giver()
    renewals = [giver.renewal() for _ in range(5)]
    await asyncio.gather(*(renewal.ready() for renewal in renewals * 20))
    assert giver.calls == 1
    giver.now += 3500
    await asyncio.gather(*(renewal.ready() for renewal in renewals * 20))
    assert (giver.calls, giver.most_at_once) == (2, 1)


async def test_a_method_is_the_same_function_each_time() -> None:
    """Python makes another object at each access to `vault.issue`. Another vault's is another function."""
    vaults = Giver(), Giver()
    renewals = [Renewal(vault.__call__, vault.clock) for vault in vaults for _ in range(5)]
    await asyncio.gather(*(renewal.ready() for renewal in renewals))
    assert [vault.calls for vault in vaults] == [1, 1]
    pool = BucketPool()
    one, same, other = (
        pool.lease("bucket", S3Options(credentials=vault.__call__)) for vault in (vaults[0], vaults[0], vaults[1])
    )
    assert one is same is not other


async def test_a_cancelled_caller_leaves_the_others_alone() -> None:
    giver = Giver()
    renewal = giver.renewal()
    first, second = asyncio.create_task(renewal.ready()), asyncio.create_task(renewal.ready())
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert renewal.current is not None


async def test_what_the_store_refuses_is_renewed_once() -> None:
    giver = Giver()
    renewal = giver.renewal()
    await renewal.ready()
    refused = renewal.current
    renewal.refused(refused)
    renewal.refused(refused)
    await renewal.ready()
    renewal.refused(refused)  # by a request that took long: those were replaced meanwhile
    await renewal.ready()
    assert giver.calls == 2


async def test_a_function_that_is_not_async_runs_in_a_thread() -> None:
    giver, threads = Giver(), []

    def give() -> Credentials:
        threads.append(threading.current_thread())
        return giver.give()

    renewal = Renewal(give, giver.clock)
    await renewal.ready()
    assert renewal.current is not None
    assert threads != [threading.main_thread()]


@pytest.mark.parametrize("wrap", [functools.partial, lambda giver: lambda: giver()])
async def test_other_callables(wrap: Callable[[Giver], Callable[[], Awaitable[Credentials]]]) -> None:
    giver = Giver()
    renewal = Renewal(wrap(giver), giver.clock)
    await renewal.ready()
    assert renewal.current is not None


async def test_a_first_call_that_fails_is_named_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    giver = Giver()
    giver.failure = RuntimeError("SK-hidden")
    with pytest.raises(errors.CredentialsError, match=r"^the function `credentials` failed .RuntimeError.$"):
        await giver.renewal().ready()
    assert "SK-hidden" not in caplog.text


async def test_a_later_call_that_fails_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """While the present ones are valid they are used; afterwards the request is retried, as for a busy store."""
    giver = Giver()
    renewal, began = giver.renewal(), giver.now
    await renewal.ready()
    giver.failure = TimeoutError("SK-hidden")
    giver.now = began + 3400
    with caplog.at_level(logging.WARNING, "bigupload"):
        await renewal.ready()
        await renewal.ready()
    assert giver.calls == 2, "asked again only after a while"
    assert "TimeoutError" in caplog.text
    assert "hidden" not in caplog.text
    giver.now = began + 3600
    with pytest.raises(Fault, match="TimeoutError") as caught:
        await renewal.ready()
    assert caught.value.kind is FaultKind.SERVER
    assert isinstance(caught.value.public(), errors.CredentialsError)
    giver.failure = None
    await renewal.ready()
    assert renewal.current is not None
    assert renewal.current.access_key == "AK4"


async def test_a_function_that_hangs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigupload.stores.s3.renewal.ANSWER_WITHIN", 0.01)
    with pytest.raises(errors.CredentialsError, match="TimeoutError"):
        await Renewal(asyncio.Event().wait).ready()  # type: ignore[arg-type]  # it never returns


async def test_an_error_of_this_library_is_raised_as_it_is() -> None:
    giver = Giver()
    giver.failure = errors.CredentialsError("log in to the vault first")
    with pytest.raises(errors.CredentialsError, match=r"^log in to the vault first$"):
        await giver.renewal().ready()


@pytest.mark.parametrize("given", [None, ("AK", "SK"), {"access_key": "AK"}])
async def test_what_is_no_credentials(given: Any) -> None:
    with pytest.raises(errors.UsageError, match=r"must return bigupload.Credentials, not"):
        await Renewal(lambda: given).ready()


async def test_credentials_that_have_expired_already() -> None:
    giver = Giver(-1)
    with pytest.raises(errors.CredentialsError, match="that expired at 2027-01-15"):
        await giver.renewal().ready()


@pytest.mark.parametrize(
    "wrong",
    [{"access_key": ""}, {"secret_key": None}, {"session_token": ""}, {"expires_at": 5},
     {"expires_at": datetime.datetime(2026, 1, 1)}],
)  # fmt: skip
def test_values_that_no_credentials_have(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.UsageError, match=next(iter(wrong))):
        Credentials(**{"access_key": "AK", "secret_key": "SK-hidden", **wrong})


def test_no_secret_is_shown() -> None:
    credentials = Giver().give()
    options = S3Options(credentials=lambda: credentials)
    assert not any(secret in f"{credentials!r} {credentials} {options!r}" for secret in SECRETS)
    assert "credentials" not in options.to_json()


async def give() -> Credentials:
    return Giver().give()


def test_pickling() -> None:
    """A function of a module is named; another one cannot be."""
    options = S3Options(credentials=give, metadata={"a": "b"})
    assert pickle.loads(pickle.dumps(options)) == options
    with pytest.raises(pickle.PicklingError, match="because of its credentials: make the options in the process that"):
        pickle.dumps(S3Options(credentials=lambda: Giver().give()))


@pytest.mark.parametrize(
    "other",
    [{"access_key": "AK", "secret_key": "SK"}, {"profile": "p"}, {"session": boto3.Session()},
     {"no_sign_request": True}, {"local": True}],
)  # fmt: skip
def test_one_source_of_credentials_is_enough(other: dict[str, Any]) -> None:
    with pytest.raises(
        errors.UsageError, match=f"says which credentials to use: leave .*{next(iter(other))}|leave cred"
    ):
        S3Options(credentials=give, **other)


def test_what_is_no_function() -> None:
    with pytest.raises(errors.UsageError, match="credentials must be a function"):
        S3Options(credentials=Giver().give())  # type: ignore[arg-type]  # what is tested


async def test_part_urls_are_signed_with_them_and_end_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK-environment")
    giver = Giver(1800)
    bucket = S3Bucket("bucket", S3Options(endpoint_url="http://127.0.0.1:1", region="r", credentials=giver))
    bucket.renewal = giver.renewal()
    async with contextlib.aclosing(bucket):
        signers = []
        for number in (1, 2, 3):
            (url,) = await bucket.presign("UploadPart", [{**PART, "PartNumber": number}])
            query = parse_qs(urlsplit(url).query)
            signers.append(query["X-Amz-Credential"][0].partition("/")[0])
            assert query["X-Amz-Security-Token"] == ["ST-hidden"]
            assert bucket.urls_last() == pytest.approx(1800)
            if number == 1:
                bucket.renewal.refused_url(url.replace("AK1", "AK0"))  # an older one's
            else:
                bucket.renewal.refused_url(url)
    assert signers == ["AK1", "AK1", "AK2"]


async def test_urls_of_keys_that_do_not_end() -> None:
    bucket = S3Bucket(
        "bucket", S3Options(endpoint_url="http://127.0.0.1:1", region="r", access_key="AK", secret_key="SK")
    )
    async with contextlib.aclosing(bucket):
        await bucket.presign("UploadPart", [PART])
        assert bucket.urls_last() == URL_LIFETIME
