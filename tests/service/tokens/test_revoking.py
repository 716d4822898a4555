"""Tokens that are revoked, in which replica and when; and tokens that only pages of some origins may use."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service.access.upload_tokens import (
    FRESH_FOR,
    MOST_OF_OWNER,
    STALE_AFTER,
    Revocations,
    RevokeRequest,
    UploadToken,
)
from bigupload.service.media.policy import LONGEST_UPLOAD
from bigupload.service.media_objects import MediaBucket
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.sweep import Sweep
from bigupload.stores.local_store import LocalStore
from tests.service.sweep.support import Clock, keys
from tests.service.test_attacks import refusal
from tests.service.test_multipart import PART, create
from tests.tools.buckets import Meddled
from tests.tools.cases import each_case
from tests.tools.service import Service, serving

NOW = 1_800_000_000.0


def token(name: str = "t1", *, owner: str = "me", user: str | None = None, issued: float = NOW - 60) -> UploadToken:
    return UploadToken.model_construct(owner=owner, id=name, user=user, issued=issued, expires=NOW + 3600)


class Replica:
    """One process's revocations, and its clock."""

    def __init__(self, bucket: Meddled) -> None:
        self.now = NOW
        self.revocations = Revocations(MediaBucket(bucket), clock=lambda: self.now, monotonic=lambda: self.now)

    async def takes(self, of: UploadToken) -> bool:
        try:
            await self.revocations.check(of)
        except Refused as refused:
            assert refused.problem is Problem.INVALID_TOKEN, refused  # noqa: PT017 - either way is fine
            return False
        return True

    async def revoke(self, owner: str = "me", **named: Any) -> int:
        return (await self.revocations.revoke(owner, RevokeRequest(**named))).holds_within


@pytest.fixture
def replica(bucket: Meddled) -> Replica:
    return Replica(bucket)


async def test_a_token_by_its_id(bucket: Meddled, replica: Replica) -> None:
    other = Replica(bucket)
    assert await replica.takes(token())
    assert await other.takes(token())
    assert await replica.revoke(id="t1") == FRESH_FOR
    assert not await replica.takes(token()), "it holds at once where it was revoked"
    assert await other.takes(token())
    other.now += FRESH_FOR
    assert not await other.takes(token())
    assert not await Replica(bucket).takes(token())
    for another in (token("t2"), token(owner="you")):
        assert await replica.takes(another)


async def test_the_tokens_of_an_end_user(replica: Replica) -> None:
    await replica.revoke(user="ann")
    assert not await replica.takes(token(user="ann"))
    assert not await replica.takes(token(user="ann", issued=NOW))
    assert await replica.takes(token(user="ann", issued=NOW + 1)), "the person signs in again"
    for another in (token(user="bob"), token(), token(owner="you", user="ann"), token(owner="me\nann")):
        assert await replica.takes(another)


async def test_all_tokens_that_were_issued_until_a_time(replica: Replica) -> None:
    await replica.revoke(issued_before=datetime.fromtimestamp(NOW - 100, UTC))
    assert not await replica.takes(token(issued=NOW - 100))
    assert await replica.takes(token(issued=NOW - 99))
    await replica.revoke(issued_before=datetime.fromtimestamp(NOW - 200, UTC))  # an earlier one takes nothing back
    assert not await replica.takes(token(user="ann", issued=NOW - 100))
    assert await replica.takes(token(owner="you", issued=NOW - 100))
    await replica.revoke(user="ann", issued_before=datetime.fromtimestamp(NOW - 80, UTC))
    assert not await replica.takes(token(user="ann", issued=NOW - 80))
    assert await replica.takes(token(user="bob", issued=NOW - 80))


@each_case(
    ("named", "field"),
    [
        ({}, "id"),
        ({"id": "t1", "user": "ann"}, "id"),
        ({"id": "t1", "issued_before": datetime.fromtimestamp(NOW, UTC)}, "id"),
        ({"issued_before": datetime.fromtimestamp(NOW + 61, UTC)}, "issuedBefore"),  # tokens that are not made yet
    ],
)
async def test_what_names_no_tokens(bucket: Meddled, named: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as caught:
        await Replica(bucket).revoke(**named)
    assert (caught.value.problem, caught.value.field) == (Problem.INVALID_FIELD, field)


async def test_the_store_is_asked_once_in_a_while(bucket: Meddled, replica: Replica) -> None:
    bucket.calls.clear()
    for _ in range(5):
        assert await replica.takes(token())
    assert bucket.calls == ["ListObjectsV2"]
    replica.now += FRESH_FOR
    assert await replica.takes(token())
    assert bucket.calls == ["ListObjectsV2"] * 2


async def test_without_the_store_tokens_hold_for_a_minute(bucket: Meddled, replica: Replica) -> None:
    assert await replica.takes(token())

    async def fails(*_: Any, **__: Any) -> Any:
        raise Fault(FaultKind.UNREACHABLE, "gone")

    bucket.call = fails  # type: ignore[method-assign]  # a fake
    replica.now += STALE_AFTER - 1
    assert await replica.takes(token())
    replica.now += 1
    for asked in (replica, Replica(bucket)):
        with pytest.raises(Refused) as caught:
            await asked.revocations.check(token())
        assert caught.value.problem is Problem.STORE_UNAVAILABLE
    with pytest.raises(Refused):
        await replica.revoke(id="t1")


async def test_one_owner_s_revocations_are_bounded(
    bucket: Meddled, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_OF_OWNER == 1000
    monkeypatch.setattr("bigupload.service.access.upload_tokens.MOST_OF_OWNER", 2)
    for name in ("t1", "t2"):
        await replica.revoke(id=name)
    with pytest.raises(Refused) as caught:
        await replica.revoke(id="t3")
    assert caught.value.problem is Problem.RATE_LIMITED
    assert await replica.revoke("you", id="t3")
    replica.now += 26 * 3600  # the tokens have ended
    assert await replica.revoke(id="t3")


async def test_the_sweep_deletes_old_notes(bucket: Meddled) -> None:
    await Replica(bucket).revoke(id="t1")
    assert len(await keys(bucket, "")) == 1
    clock = Clock()
    clock.at += timedelta(seconds=LONGEST_UPLOAD)
    assert (await Sweep(bucket, now=clock).run()).expired == 1
    assert await keys(bucket, "") == set()


# -- of the running service


def minted(service: Service, key: str | None = None, **limits: Any) -> dict[str, str]:
    made = service.call("POST", "/v1/media/tokens", key=key, json=limits)
    assert made.status_code == 200, made.text
    return dict(made.json())


def revoke(service: Service, key: str | None = None, **named: str) -> httpx.Response:
    return service.call("DELETE", "/v1/media/tokens", key=key, params=named)


def test_a_revoked_token_goes_no_further(weed: LocalStore, service: Service) -> None:
    with serving(weed, service.home, "--sweep-every", "0") as other:
        first, second = minted(service, user="ann"), minted(service, user="bob")
        upload = create(service, PART, key=first["token"]).json()["upload"]
        assert revoke(service, key=service.new_key("bank"), id=first["id"]).status_code == 200  # of another owner
        assert service.call("GET", "/v1/me", key=first["token"]).status_code == 200
        assert refusal(revoke(service, key=second["token"], id=first["id"])) == (403, "token_not_allowed")

        assert revoke(service, id=first["id"]).json() == {"holdsWithin": 10}
        asked: dict[str, Any] = {"key": first["token"], "params": {"upload": upload}}
        for path in ("/v1/me", "/v1/media/multipart", "/v1/media/multipart/parts"):
            assert refusal(service.call("GET", path, **asked)) == (401, "invalid_token")
        assert refusal(create(service, PART, key=first["token"])) == (401, "invalid_token")
        assert refusal(create(other, PART, key=first["token"])) == (401, "invalid_token")  # which had no list before
        assert service.call("GET", "/v1/me", key=second["token"]).status_code == 200
        again = {"key": minted(service, user="ann")["token"], "params": {"upload": upload}}
        assert service.call("GET", "/v1/media/multipart", **again).json()["status"] == "open"
    for wrong in ({}, {"issuedBefore": "2026-11-29"}, {"id": "a b"}):
        assert refusal(revoke(service, **wrong)) == (422, "invalid_field")
    key = service.new_key("leaver")
    old = minted(service, key, user="ann")["token"]
    when = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    assert revoke(service, key, issuedBefore=when).status_code == 200
    assert refusal(service.call("GET", "/v1/me", key=old)) == (401, "invalid_token")


def test_a_token_of_some_origins(service: Service) -> None:
    app, mounted = "https://app.example.com", service.url
    key = minted(service, origins=[app, mounted])["token"]

    def asked(**headers: str) -> tuple[int, str]:
        response = service.call("GET", "/v1/me", key=key, headers={k.replace("_", "-"): v for k, v in headers.items()})
        return (200, "") if response.status_code == 200 else refusal(response)

    refused = (403, "token_origin_refused")
    assert asked(Origin=app) == (200, "")
    assert asked(Sec_Fetch_Site="same-origin") == (200, "")  # a page of the service's own origin, with a GET
    for other in ("https://evil.example", "null", app + ".evil.example", "http://app.example.com", ""):
        assert asked(Origin=other) == refused, other
        assert asked(Origin=other, Sec_Fetch_Site="same-origin") == refused, other
    assert asked() == refused
    assert asked(Sec_Fetch_Site="cross-site") == refused
    assert asked(Sec_Fetch_Site="same-origin", Host="evil.example") == refused
    assert refusal(create(service, PART, key=key)) == refused
    for wrong in ([], ["*/"], ["https://App.example.com"], ["app.example.com"], [app] * 17, ["*"]):
        response = service.call("POST", "/v1/media/tokens", json={"origins": wrong})
        assert refusal(response) == (422, "invalid_field"), wrong
