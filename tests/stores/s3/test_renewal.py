"""Credentials from the caller's function: when it is called, and what becomes of its failures."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import logging
import pickle
import threading
from datetime import UTC
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import boto3
import pytest

from bigupload import Credentials, S3Options, errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.stores.s3.bucket import URL_LIFETIME, BucketPool, S3Bucket
from bigupload.stores.s3.renewal import Renewal
from tests.tools.cases import each_case

from .support import PART, asking, signer_of

SECRETS = ("SK-hidden", "ST-hidden")


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


@each_case(("life", "kept", "renewed"), [(3600, 3299, 3301), (1000, 799, 801), (60, 47, 49), (None, 10**9, 10**10)])
async def test_others_are_asked_for_before_the_end(life: float | None, kept: float, renewed: float) -> None:
    """Never, if they have no end."""
    giver = Giver(life)
    renewal, began = giver.renewal(), giver.now
    for seconds, calls in ((0, 1), (kept, 1), (renewed, 1 if life is None else 2)):
        giver.now = began + seconds
        await renewal.ready()
        assert giver.calls == calls
        assert renewal.current is not None
        assert renewal.current.access_key == f"AK{calls}"


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
    renewal = Giver().renewal()
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
    for _ in range(2):  # the second time, by a request that took long: they were replaced meanwhile
        renewal.refused(refused)
        renewal.refused(refused)
        await renewal.ready()
    assert giver.calls == 2


async def test_other_callables() -> None:
    """A function that is not async runs in a thread; one that returns an awaitable is awaited."""
    giver, threads = Giver(), list[threading.Thread]()

    def give_in_a_thread() -> Credentials:
        threads.append(threading.current_thread())
        return giver.give()

    for source in (give_in_a_thread, functools.partial(giver), lambda: giver()):
        renewal = Renewal(source, giver.clock)
        await renewal.ready()
        assert isinstance(renewal.current, Credentials)
    assert len(threads) == 1
    assert threads != [threading.main_thread()]


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (RuntimeError("SK-hidden"), r"the function `credentials` failed .RuntimeError."),
        (errors.CredentialsError("log in to the vault first"), "log in to the vault first"),
    ],
)
async def test_a_first_call_that_fails(failure: Exception, says: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is named without its text, unless it is an error of this library."""
    giver = Giver()
    giver.failure = failure
    with pytest.raises(errors.CredentialsError, match=f"^{says}$"):
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
    hangs: Any = asyncio.Event().wait
    with pytest.raises(errors.CredentialsError, match="TimeoutError"):
        await Renewal(hangs).ready()


@each_case("given", [None, ("AK", "SK"), {"access_key": "AK"}, Giver(-1).give()])
async def test_what_is_no_credentials(given: Any) -> None:
    """Or was, and has expired already."""
    is_some = isinstance(given, Credentials)
    says = "that expired at 2027-01-15" if is_some else r"must return bigupload.Credentials, not"
    with pytest.raises(errors.CredentialsError if is_some else errors.UsageError, match=says):
        await Renewal(lambda: given, Giver().clock).ready()


@each_case(
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


@each_case(
    "other",
    [{"access_key": "AK", "secret_key": "SK"}, {"profile": "p"}, {"session": boto3.Session()},
     {"no_sign_request": True}, {"local": True}],
)  # fmt: skip
def test_one_source_of_credentials_is_enough(other: dict[str, Any]) -> None:
    says = f"already names the credentials: leave .*{next(iter(other))}|leave cred"
    with pytest.raises(errors.UsageError, match=says):
        S3Options(credentials=give, **other)


def test_what_is_no_function() -> None:
    given: Any = Giver().give()
    with pytest.raises(errors.UsageError, match="credentials must be a function"):
        S3Options(credentials=given)


async def test_part_urls_are_signed_with_them_and_end_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK-environment")
    giver = Giver(1800)
    bucket = S3Bucket("bucket", S3Options(endpoint_url="http://127.0.0.1:1", region="r", credentials=giver))
    bucket.renewal = giver.renewal()
    async with contextlib.aclosing(bucket):
        for signer, refused in (("AK1", "AK0"), ("AK1", "AK1"), ("AK2", "AK2")):  # AK0: an older one's
            (url,) = await bucket.presign("UploadPart", [PART])
            query = parse_qs(urlsplit(url).query)
            assert query["X-Amz-Credential"][0].startswith(f"{signer}/")
            assert query["X-Amz-Security-Token"] == ["ST-hidden"]
            assert bucket.urls_last() == pytest.approx(1800)
            bucket.renewal.refused_url(url.replace(signer, refused))


async def test_urls_of_keys_that_do_not_end() -> None:
    async with asking() as (bucket, _):
        assert await signer_of(bucket) == "AK"
        assert bucket.urls_last() == URL_LIFETIME
