"""List and delete one's own files."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from bigupload.service import contract as c
from bigupload.service.access.handles import Handles
from bigupload.service.media.policy import Policy
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.uploads import MediaUploads
from tests.service.posts.support import refusal
from tests.tools.buckets import Meddled
from tests.tools.cases import each_case
from tests.tools.media import sample
from tests.tools.service import Service

PHOTO = {"filename": "a.jpg", "contentType": "image/jpeg"}


def uploaded(service: Service, key: str, size: int = 0, **more: str) -> str:
    """The key of a picture, sent with an API key."""
    made = service.call("POST", "/v1/media/presign", json=PHOTO | more, key=key).json()
    content = sample("jpg").ljust(size, b"\0")
    put = httpx.put(made["uploadUrl"], headers={"Content-Type": "image/jpeg"}, content=content, trust_env=False)
    assert put.status_code == 200
    return str(made["key"])


def listed(service: Service, key: str, **parameters: str) -> list[str]:
    """All pages."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        response = service.call("GET", "/v1/media", params=parameters | cursor, key=key)
        assert response.status_code == 200, response.text
        page = response.json()
        found += [file["key"] for file in page["media"]]
        if page["nextCursor"] is None:
            return found
        cursor = {"cursor": page["nextCursor"]}


def test_an_owner_lists_and_deletes_its_files(service: Service) -> None:
    mine, other = service.new_key("lister"), service.new_key("lister2")  # one name begins with the other
    assert listed(service, mine) == []
    keys = sorted(uploaded(service, mine) for _ in range(5))
    foreign = uploaded(service, other)
    for limit in ("1", "2", "5", "1000"):
        assert listed(service, mine, limit=limit) == keys
    (file,) = service.call("GET", "/v1/media", params={"limit": "1"}, key=mine).json()["media"]
    assert file["size"] == len(sample("jpg"))
    assert httpx.get(file["publicUrl"], trust_env=False).content == sample("jpg")
    stored, expires = (datetime.fromisoformat(file[name]) for name in ("storedAt", "expiresAt"))
    assert expires - stored == timedelta(days=7)
    assert abs(datetime.now(UTC) - stored) < timedelta(hours=1)

    for _ in range(2):
        response = service.call("DELETE", f"/v1/media/{keys[0]}", key=mine)
        assert (response.status_code, response.content) == (204, b"")
    assert service.call("DELETE", f"/v1/media/{quote(keys[1], safe='')}", key=mine).status_code == 204
    assert httpx.get(file["publicUrl"], trust_env=False).status_code == 404
    assert listed(service, mine) == keys[2:]

    refused = service.call("DELETE", f"/v1/media/{foreign}", key=mine)
    assert refusal(refused) == (404, "no_such_media", "key")
    assert listed(service, other) == [foreign]


def test_a_list_in_another_order_and_of_a_prefix(service: Service) -> None:
    mine = service.new_key("sorter")
    keys = [uploaded(service, mine, size) for size in (50_000, 90_000, 70_000, 90_000)]
    by_size = sorted(zip((50_000, 90_000, 70_000, 90_000), keys, strict=True))
    ups = [key for _, key in by_size]
    downs = [key for _, key in sorted(by_size, key=lambda row: (-row[0], row[1]))]
    for limit in ("1", "3", "1000"):
        assert listed(service, mine, limit=limit, sort="size") == ups
        assert listed(service, mine, limit=limit, sort="-size") == downs
        assert listed(service, mine, limit=limit, sort="key") == sorted(keys)
    times = [file["storedAt"] for file in service.call("GET", "/v1/media?sort=-storedAt", key=mine).json()["media"]]
    assert times == sorted(times, reverse=True)
    assert sorted(listed(service, mine, limit="2", sort="storedAt", contentType="image/*")) == sorted(keys)
    assert listed(service, mine, sort="size", contentType="video/*") == []

    one = keys[0]
    assert listed(service, mine, prefix=one[:-10]) == [one]
    assert listed(service, mine, prefix=one[:-10], sort="size", limit="1") == [one]
    for wrong in ("media/", "media/sorte", "media/other/", "refused/", one[1:]):
        response = service.call("GET", "/v1/media", params={"prefix": wrong}, key=mine)
        assert refusal(response) == (422, "invalid_field", "prefix"), wrong
    first = service.call("GET", "/v1/media?sort=size&limit=1", key=mine).json()["nextCursor"]
    for order, cursor in (("-size", first), ("key", first), ("size", one), ("size", "é"), ("size", "WyJzaXplIl0=")):
        response = service.call("GET", "/v1/media", params={"sort": order, "cursor": cursor}, key=mine)
        assert refusal(response) == (422, "invalid_field", "cursor"), (order, cursor)
    assert refusal(service.call("GET", "/v1/media?sort=name", key=mine)) == (422, "invalid_field", "sort")


async def test_too_many_files_are_not_sorted(bucket: Meddled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigupload.service.uploads.owner_files._MOST_SORTED", 1)
    uploads = files_of(bucket, keep=None)
    for _ in range(2):
        made = await uploads.presign("me", c.PresignRequest(filename="a.jpg", content_type="image/jpeg"))
        await bucket.call("to put", "PutObject", Key=made.key, Body=b"x", headers={})
    with pytest.raises(Refused) as caught:
        await uploads.files.list("me", c.ListRequest(sort="size"))
    assert (caught.value.problem, caught.value.field) == (Problem.INVALID_FIELD, "sort")
    assert len((await uploads.files.list("me", c.ListRequest())).media) == 2
    assert len((await uploads.files.list("me", c.ListRequest(sort="size", prefix=made.key))).media) == 1


def test_many_files_are_deleted_at_once(service: Service) -> None:
    mine, other = service.new_key("bulk"), service.new_key("bulk2")
    keys, foreign = [uploaded(service, mine) for _ in range(3)], uploaded(service, other)
    of_ann = [uploaded(service, mine, user="ann") for _ in range(2)]
    of_bob = uploaded(service, mine, user="bob")

    def delete(key: str = mine, **named: Any) -> httpx.Response:
        return service.call("POST", "/v1/media/delete", key=key, json=named)

    for wrong in (foreign, "media/bulk/../x", "refused/x", f"media/bulk/~ann/{'0' * 40}.exe/"):
        assert refusal(delete(keys=[keys[0], wrong])) == (404, "no_such_media", "keys[1]"), wrong
    assert refusal(delete(keys=[of_ann[0], keys[0]], user="ann")) == (404, "no_such_media", "keys[1]")
    assert refusal(delete(keys=[of_bob], user="ann")) == (404, "no_such_media", "keys[0]")
    for named in ({}, {"keys": []}, {"keys": keys[:1] * 1001}):
        assert refusal(delete(**named)) == (422, "invalid_field", "keys"), named
    token = service.call("POST", "/v1/media/tokens", key=mine, json={"user": "ann"}).json()["token"]
    assert refusal(delete(token, user="ann"))[:2] == (403, "token_not_allowed")
    assert sorted(listed(service, mine)) == sorted([*keys, *of_ann, of_bob]), "nothing was deleted"

    for _ in range(2):
        assert delete(keys=[keys[0], keys[1], keys[0]]).json() == {"deleted": 2, "more": False}
    assert delete(user="ann").json() == {"deleted": 2, "more": False}
    assert delete(user="ann").json() == {"deleted": 0, "more": False}
    assert sorted(listed(service, mine)) == sorted([keys[2], of_bob])
    assert listed(service, other) == [foreign]


async def test_a_user_s_files_are_deleted_a_page_at_a_time(bucket: Meddled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bigupload.service.uploads.owner_files._PAGE", 2)
    uploads = files_of(bucket, keep=None)
    for _ in range(3):
        request = c.PresignRequest(filename="a.jpg", content_type="image/jpeg", user="ann")
        made = await uploads.presign("me", request)
        await bucket.call("to put", "PutObject", Key=made.key, Body=b"x", headers={})
    answers = [await uploads.delete_files("me", c.DeleteManyRequest(user="ann")) for _ in range(2)]
    assert [(each.deleted, each.more) for each in answers] == [(2, True), (1, False)]


@pytest.mark.parametrize(
    "key", ["media/other/x.jpg", "refused/media/local/x", "media/local/../a/b.jpg", "a/b", "media/local/mine.jpg"]
)
def test_a_key_that_no_file_of_one_s_own_has(service: Service, key: str) -> None:
    response = service.call("DELETE", f"/v1/media/{quote(key, safe='')}")
    assert refusal(response) == (404, "no_such_media", "key")


@each_case(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=", "cursor"),
        ("cursor=media/other/", "cursor"),
        ("cursor=" + "a" * 1025, "cursor"),
    ],
)
def test_what_can_not_be_listed(service: Service, query: str, field: str) -> None:
    assert refusal(service.call("GET", f"/v1/media?{query}")) == (422, "invalid_field", field)


def test_other_paths_are_still_none(service: Service) -> None:
    assert service.call("GET", "/v1/media/nothing").status_code == 404
    assert service.call("DELETE", "/v1/media/nothing").status_code == 404
    assert service.call("DELETE", "/v1/media/multipart").json()["error"]["field"] == "upload"
    assert service.call("DELETE", "/v1/media/multipart/complete").status_code == 405
    response = service.call("GET", "/v1/media/media/local/x.jpg")
    assert (response.status_code, response.headers["Allow"]) == (405, "DELETE")


def files_of(bucket: Meddled, *, keep: int | None, clock: Callable[[], float] = time.time) -> MediaUploads:
    return MediaUploads(bucket, Handles(["secret"], clock=clock), policy=Policy(keep=keep), clock=clock)


async def test_a_file_that_is_due_to_be_deleted_is_not_listed(bucket: Meddled) -> None:
    now = time.time()
    uploads = files_of(bucket, keep=3600, clock=lambda: now)
    made = await uploads.presign("me", c.PresignRequest(filename="a.jpg", content_type="image/jpeg"))
    await bucket.call("", "PutObject", Key=made.key, Body=b"x")
    await bucket.call("", "PutObject", Key="media/me/the-operator-s.txt", Body=b"x")
    assert [file.key for file in (await uploads.files.list("me", c.ListRequest())).media] == [made.key]
    now += 3700
    assert (await uploads.files.list("me", c.ListRequest())).media == []
    (kept,) = (await files_of(bucket, keep=None).files.list("me", c.ListRequest())).media
    assert kept.expires_at is None


async def test_the_operator_s_files_are_not_deleted(bucket: Meddled) -> None:
    await bucket.call("", "PutObject", Key="media/me/the-operator-s.txt", Body=b"x")
    with pytest.raises(Refused) as refused:
        await files_of(bucket, keep=None).delete_file("me", "media/me/the-operator-s.txt")
    assert refused.value.problem is Problem.NO_SUCH_MEDIA
    await bucket.call("", "HeadObject", Key="media/me/the-operator-s.txt")
