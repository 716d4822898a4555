"""End users inside an owner: nobody takes another one's place, continues another one's upload, or sees their files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from bigupload.service import contract as c
from bigupload.service.access.callers import Caller
from bigupload.service.access.handles import Handles
from bigupload.service.media.media_types import JPEG
from bigupload.service.media.object_keys import KeyTemplate, account_of, is_user
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.quota import UploadLimits
from bigupload.service.uploads.uploads import MediaUploads
from bigupload.stores.local_store import LocalStore
from tests.service.test_attacks import refusal
from tests.service.test_multipart import PART, create
from tests.tools.buckets import Meddled
from tests.tools.cases import each_case
from tests.tools.media import sample
from tests.tools.service import Service, serving

PHOTO = {"filename": "a.jpg", "contentType": "image/jpeg"}
FILM = c.CreateRequest(filename="a.mp4", content_type="video/mp4", size=PART)


@each_case(
    "name", ["u-17", "42", "Ada.L", "auth0|65f", "ada@x.org", "Zoë/../..", "a~7eb", "~", ".", "李 四", "a" * 128]
)
def test_a_key_names_its_end_user(name: str) -> None:
    for text in ("media/{owner}/{random}.{extension}", "m/{owner}/{year}/x-{random}.{extension}"):
        shape, account = KeyTemplate(text), account_of("shop", name)
        key = shape.new_key(account, JPEG, datetime(2026, 11, 29, tzinfo=UTC), final=True)
        assert (shape.owner_of(key), shape.user_of(key), shape.account_of(key)) == ("shop", name, account)
        assert key.startswith(shape.prefix_of(account))
        assert shape.is_final(key)
        assert shape.is_made_here(f"refused/{key}")
        assert is_user(name)


@each_case("name", ["", "a" * 201, "ä" * 34, "a\nb", "a\x7f", "a\u202eb", "\ud800"])
def test_what_can_not_be_an_end_user(name: str) -> None:
    assert not is_user(name)


@pytest.fixture(scope="module")
def limited(weed: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    few = ("--open-uploads", "4", "--user-open-uploads", "3", "--user-files", "5", "--user-quota", "20MB")
    with serving(weed, tmp_path_factory.mktemp("users"), *few, "--requests", "10000", "--sweep-every", "0") as running:
        yield running


def token(service: Service, key: str | None = None, **limits: Any) -> str:
    made = service.call("POST", "/v1/media/tokens", key=key, json=limits)
    assert made.status_code == 200, made.text
    return str(made.json()["token"])


def test_one_end_user_locks_out_nobody_else(limited: Service) -> None:
    """Tokens limit uploads one by one, and whoever gets many of them begins many uploads."""
    key = limited.new_key("crowd")
    greedy = [token(limited, key, user="greedy", uploads=2) for _ in range(5)]
    assert [create(limited, PART, key=each).status_code for each in greedy] == [200, 200, 200, 429, 429]
    other = token(limited, key, user="other")
    assert create(limited, PART, key=other).status_code == 200
    assert create(limited, PART, key=key, user="third").status_code == 200  # by an API key
    assert [create(limited, PART, key=key).status_code for _ in range(5)] == [200, 200, 200, 200, 429]
    assert create(limited, PART, key=other).status_code == 200


def test_an_end_user_s_files_and_bytes_are_limited(limited: Service) -> None:
    body = PHOTO | {"size": 1000, "user": "collector"}
    made = [limited.call("POST", "/v1/media/presign", json=body) for _ in range(6)]
    assert [response.status_code for response in made] == [200] * 5 + [403]
    message = made[-1].json()["error"]["message"]
    assert message == "uploads that are not complete take 5 files of 5 files: complete or abort uploads"
    large = limited.call("POST", "/v1/media/presign", json=PHOTO | {"size": 20_000_001, "user": "large"})
    assert refusal(large) == (403, "quota_exceeded")
    assert limited.call("POST", "/v1/media/presign", json=PHOTO | {"size": 1000, "user": "small"}).status_code == 200


@pytest.fixture
def uploaded(service: Service) -> dict[str, str]:
    """Two users' pictures, and one of nobody in particular, by the user's name."""
    keys = {}
    for user in ("ann", "bob", ""):
        named = {"user": user} if user else {}
        made = service.call("POST", "/v1/media/presign", json=PHOTO | named).json()
        sent = httpx.put(made["uploadUrl"], headers={"Content-Type": "image/jpeg"}, content=sample("jpg"))
        assert sent.status_code == 200
        keys[user] = made["key"]
    return keys


def test_a_backend_lists_and_deletes_by_user(service: Service, uploaded: dict[str, str]) -> None:
    listed = service.call("GET", "/v1/media", params={"user": "ann"}).json()["media"]
    assert {row["user"] for row in listed} == {"ann"}
    assert uploaded["ann"] in {row["key"] for row in listed}
    everything = service.call("GET", "/v1/media", params={"limit": "1000"}).json()["media"]
    assert {row["key"]: row["user"] for row in everything}.items() >= {
        (uploaded["ann"], "ann"),
        (uploaded["bob"], "bob"),
        (uploaded[""], None),
    }
    path = f"/v1/media/{uploaded['ann']}"
    assert refusal(service.call("DELETE", path, params={"user": "bob"})) == (404, "no_such_media")
    assert service.call("DELETE", path, params={"user": "ann"}).status_code == 204
    assert service.call("DELETE", f"/v1/media/{uploaded['bob']}").status_code == 204


def test_a_backend_sees_and_aborts_open_uploads(limited: Service) -> None:
    key, path = limited.new_key("seer"), "/v1/media/uploads"
    made = {
        user: [create(limited, PART, key=key, user=user).json()["key"] for _ in range(3)] for user in ("ann", "bob")
    }
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = limited.call("GET", path, key=key, params={"limit": "2"} | cursor).json()
        found += page["uploads"]
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
    assert sorted((row["user"], row["key"]) for row in found) == sorted(
        (u, k) for u, keys in made.items() for k in keys
    )
    of_bob = limited.call("GET", path, key=key, params={"user": "bob"}).json()["uploads"]
    assert sorted(row["key"] for row in of_bob) == sorted(made["bob"])
    assert all(row["startedAt"] < row["expiresAt"] for row in of_bob)
    assert create(limited, PART, key=key, user="bob").status_code == 429

    wrong = {"key": made["ann"][0], "user": "bob"}
    assert refusal(limited.call("DELETE", path, key=key, params=wrong)) == (404, "no_such_media")
    assert refusal(limited.call("DELETE", path, params={"key": made["ann"][0]})) == (404, "no_such_media")
    assert refusal(limited.call("DELETE", path, key=key)) == (422, "invalid_field")
    assert refusal(limited.call("GET", path, key=key, params={"cursor": "x"})) == (422, "invalid_field")
    one = {"key": made["bob"][0]}
    assert [limited.call("DELETE", path, key=key, params=one).json()["aborted"] for _ in range(2)] == [1, 0]
    assert create(limited, PART, key=key, user="bob").status_code == 200
    aborted = limited.call("DELETE", path, key=key, params={"user": "bob"}).json()
    assert aborted == {"aborted": 3, "more": False}
    left = limited.call("GET", path, key=key).json()["uploads"]
    assert sorted(row["key"] for row in left) == sorted(made["ann"])


def test_an_upload_is_its_end_user_s(service: Service) -> None:
    ann, bob, nobody = token(service, user="ann"), token(service, user="bob"), token(service)
    made = create(service, PART, key=ann).json()
    assert made["key"].startswith("media/local/~ann/")
    asked = {"params": {"upload": made["upload"]}}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/v1/media/multipart", asked),
        ("GET", "/v1/media/multipart/parts", asked),
        ("DELETE", "/v1/media/multipart", asked),
        (
            "POST",
            "/v1/media/multipart/parts",
            {"json": {"upload": made["upload"], "parts": [{"partNumber": 1, "size": 1}]}},
        ),
        (
            "POST",
            "/v1/media/multipart/complete",
            {
                "json": {
                    "upload": made["upload"],
                    "parts": [{"partNumber": 1, "etag": '"x"', "checksum": "AAAAAAAAAAA="}],
                }
            },
        ),
    ]
    for method, path, more in calls:
        for other in (bob, nobody):
            assert refusal(service.call(method, path, key=other, **more))[:2] == (403, "not_your_upload"), path
    for key in (ann, service.key):  # of the user, and of the backend
        assert service.call("GET", "/v1/media/multipart", key=key, **asked).json()["status"] == "open"
    assert refusal(create(service, PART, key=ann, user="bob")) == (403, "user_not_allowed")
    assert refusal(create(service, PART, key=nobody, user="bob")) == (403, "user_not_allowed")
    assert service.call("GET", "/v1/me", key=ann).json()["user"] == "ann"
    assert service.call("DELETE", "/v1/media/multipart", key=ann, **asked).status_code == 204


def test_a_token_of_a_backend_s_own_names_its_user(service: Service) -> None:
    from tests.service.tokens.test_limits import Replicas

    signed = Replicas(service, service).signed
    assert service.call("GET", "/v1/me", key=signed(user="李 四")).json()["user"] == "李 四"
    assert refusal(service.call("GET", "/v1/me", key=signed(user="a\nb")))[:2] == (401, "invalid_token")


def test_requests_are_limited_by_user() -> None:
    """A second token of the same user is no second allowance."""
    assert Caller(owner="shop", user="ann", key_id="k").id == Caller(owner="shop", user="ann", key_id="k2").id
    assert Caller(owner="shop", user="ann", key_id="k").id != Caller(owner="shop", user="bob", key_id="k").id


async def test_users_take_no_place_of_the_owner(bucket: Meddled) -> None:
    uploads = MediaUploads(
        bucket,
        Handles(["secret"], clock=time.time),
        limits=UploadLimits(max_open_uploads=2, max_open_uploads_of_user=1),
    )
    for user in ("ann", "bob", None, "cid", None):
        await uploads.create("me", FILM.model_copy(update={"user": user}))
    for user in ("ann", None):
        with pytest.raises(Refused) as caught:
            await uploads.create("me", FILM.model_copy(update={"user": user}))
        assert caught.value.problem is Problem.TOO_MANY_UPLOADS
