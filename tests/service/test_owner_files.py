"""List and delete one's own files."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest

from bigupload.service import contract as c
from bigupload.service.handles import Handles
from bigupload.service.policy import Policy
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads import MediaUploads
from tests.service.posts.support import refusal
from tests.tools.buckets import Meddled
from tests.tools.cases import each_case
from tests.tools.media import sample
from tests.tools.service import Service

PHOTO = {"filename": "a.jpg", "contentType": "image/jpeg"}


def uploaded(service: Service, key: str) -> str:
    """The key of a picture, sent with an API key."""
    made = service.call("POST", "/v1/media/presign", json=PHOTO, key=key).json()
    put = httpx.put(made["uploadUrl"], headers={"Content-Type": "image/jpeg"}, content=sample("jpg"), trust_env=False)
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
        await files_of(bucket, keep=None).files.delete("me", "media/me/the-operator-s.txt")
    assert refused.value.problem is Problem.NO_SUCH_MEDIA
    await bucket.call("", "HeadObject", Key="media/me/the-operator-s.txt")
