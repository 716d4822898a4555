"""POST /v1/posts: the media are checked."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from bigupload.service import contract as c
from bigupload.service.media.direct_url import UrlCheck
from bigupload.service.media.media_types import JPEG
from bigupload.service.media.policy import PUBLISHED_POLICY
from bigupload.service.problems import Refused
from bigupload.service.uploads.posts import Posts, PostsApi
from tests.service.posts.support import CREATED, post, refusal, sent
from tests.tools.cases import each_case
from tests.tools.http_stub import HttpStub, Response
from tests.tools.media import sample
from tests.tools.service import Service


def exists(url: str) -> bool:
    return httpx.get(url, trust_env=False).status_code == 200


def not_found(index: int = 0) -> tuple[int, str, str]:
    return 422, "media_not_found", f"mediaItems[{index}].url"


# -- several at once


class Meeting:
    """Direct URLs whose checks end once eight of them are under way."""

    def __init__(self) -> None:
        self.eight = asyncio.Barrier(8)
        self.under_way = self.most = 0

    async def check(self, url: str) -> UrlCheck:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        async with asyncio.timeout(20):
            await self.eight.wait()
        self.under_way -= 1
        bad = url.endswith(("/3", "/9"))
        return UrlCheck(url=url, media=None if bad else JPEG, message=url)


def posts_with(urls: Any) -> Posts:
    """Of an owner without uploads; there is no posts API to reach."""
    finishing: Any = SimpleNamespace(policy=PUBLISHED_POLICY)
    http: Any = None
    health: Any = None
    return Posts(
        finishing,
        "https://uploads.example/".__add__,
        urls,
        http=http,
        api=PostsApi(url="http://127.0.0.1:1"),
        health=health,
    )


async def test_eight_media_are_checked_at_a_time_and_the_first_bad_one_is_told() -> None:
    urls = Meeting()
    posts = posts_with(urls)
    items = [c.MediaItem(type="image", url=f"https://cdn.example/{n}") for n in range(16)]
    with pytest.raises(Refused, match=r"/3$") as refused:
        await posts.post("me", c.PostRequest(media_items=items), b"{}")
    assert (refused.value.field, urls.most) == ("mediaItems[3].url", 8)


async def test_after_a_bug_in_one_check_none_is_left_running() -> None:
    """And it is told as itself."""
    ended: list[str] = []

    class Urls:
        async def check(self, url: str) -> UrlCheck:
            if url.endswith("/1"):
                raise ZeroDivisionError
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(url)
            raise AssertionError

    posts = posts_with(Urls())
    items = [c.MediaItem(type="image", url=f"https://cdn.example/{n}") for n in range(2)]
    with pytest.raises(ZeroDivisionError):
        await posts.post("me", c.PostRequest(media_items=items), b"{}")
    assert ended == ["https://cdn.example/0"]


# -- own uploads


def test_without_a_posts_api(service: Service) -> None:
    assert refusal(post(service)) == (501, "posts_not_configured", None)


def test_a_key_is_needed(posting: Service, posts_api: HttpStub) -> None:
    response = httpx.post(f"{posting.url}/v1/posts", json={}, trust_env=False)
    assert refusal(response) == (401, "missing_key", None)
    assert posts_api.received == []


def test_what_was_never_sent(posting: Service, posts_api: HttpStub) -> None:
    body = {"filename": "photo.jpg", "contentType": "image/jpeg"}
    made = posting.call("POST", "/v1/media/presign", json=body).json()
    assert refusal(post(posting, ("image", made["publicUrl"]))) == not_found()
    assert posts_api.received == []


@pytest.mark.parametrize("content", [sample("jpg"), b"MZ" + bytes(100)], ids=["a picture", "no media"])
def test_another_owner_s_upload_is_neither_posted_nor_deleted(
    posting: Service, posts_api: HttpStub, content: bytes
) -> None:
    url = sent(posting, content, key=posting.new_key("eve"))
    assert "/media/eve/" in url
    assert refusal(post(posting, ("image", url))) == not_found()
    assert exists(url)
    assert posts_api.received == []


@each_case(
    "change",
    [
        lambda url: url.replace("media/local/", "media/local/../eve/"),
        lambda url: url.replace("media/local/", "media/local%2F..%2Feve%2F"),
        lambda url: url.replace("media/local/", "media/eve/"),
        lambda url: url.replace("media/local/", "media//"),
        lambda url: url.replace("media/local/", "media/local//"),
        lambda url: url.replace("media/local/", "refused/media/local/"),
        lambda url: url.replace("media/local/", "MEDIA/LOCAL/"),
        lambda url: url + "%00",
        lambda url: url + "%0a",
        lambda url: url + "/",
        lambda url: url.rpartition("/")[0] + "/",
        lambda url: url.rpartition("/")[0] + "/..",
        lambda url: url.rpartition("/")[0] + "/%2e%2e",
        lambda url: url.rpartition("/")[0] + "/.",
        lambda url: url.partition("media/local/")[0],
    ],
)
def test_a_key_that_is_spelled_to_deceive(posting: Service, posts_api: HttpStub, change: Any) -> None:
    url = sent(posting, sample("jpg"))
    assert refusal(post(posting, ("image", change(url)))) == not_found()
    assert exists(url)
    assert posts_api.received == []


def test_an_upload_in_another_spelling_is_refused(posting: Service, posts_api: HttpStub) -> None:
    """One's own, as the posts API may read it otherwise; another's, as it would else pass for a direct URL."""
    url, other = sent(posting, sample("jpg")), sent(posting, sample("jpg"), key=posting.new_key("eve"))
    for change in (
        ("http:", "HTTP:"),
        (".jpg", ".jpg?a=b"),
        (".jpg", ".jpg#a"),
        ("big", "b%69g"),
        ("/media/", "/%6dedia/"),
        ("/media/", "%2fmedia%2f"),
        ("/media/", "//media/"),
        ("/media/", "/./x/../media/"),
        ("/media/", "/x/%2e%2e/media/"),
    ):
        for upload in (url, other):
            assert refusal(post(posting, ("image", upload.replace(*change, 1)))) == not_found(), change
    assert posts_api.received == []
    assert exists(url)


@each_case(
    "change",
    [
        ("//", "//user:word@"),
        ("//", "//169.254.169.254\\@"),
        ("//", "//169.254.169.254\x00@"),
        ("//", "//169.254.169.254#@"),
        ("//", "//169.254.169.254%2f@"),
        ("//127.0.0.1", "//127\uff0e0\uff0e0\uff0e1"),
        ("//127.0.0.1", "//127.1"),
        ("//", "/\\"),
        ("http:", " http:"),
        ("http:", "\thttp:"),
        ("http:", "ht\ntp:"),
        (".jpg", ".jpg "),
        (".jpg", ".jpg\n"),
        ("/media/", "\\media/"),
        ("/media/", "/me\tdia/"),
    ],
)
def test_an_upload_s_url_that_two_parsers_read_in_two_ways(
    posting: Service, posts_api: HttpStub, change: tuple[str, str]
) -> None:
    """It would be handed on as it came: to a posts API that may fetch from another host."""
    posts_api.forget()
    posts_api.responses["/v1/posts"] = CREATED
    url = sent(posting, sample("jpg"))
    response = post(posting, ("image", url.replace(*change, 1)))
    assert refusal(response) in (not_found(), (422, "media_unusable", "mediaItems[0].url"))
    assert posts_api.received == []
    assert exists(url)
    assert post(posting, ("image", url)).status_code == 201


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"MZ\x90\x00" + bytes(1000), "none of"), (sample("png"), "PNG"), (b"", "none of"), (b"<html></html>", "none of")],
)
def test_an_own_upload_that_is_not_what_it_claims_is_deleted(
    posting: Service, posts_api: HttpStub, content: bytes, said: str
) -> None:
    url = sent(posting, content)
    response = post(posting, ("image", url))
    assert refusal(response) == (422, "not_media", "mediaItems[0].url")
    assert said in response.json()["error"]["message"]
    assert not exists(url)
    assert refusal(post(posting, ("image", url))) == not_found()
    assert posts_api.received == []


@pytest.mark.parametrize(("kind", "name"), [("video", "jpg"), ("gif", "jpg"), ("image", "mp4"), ("video", "gif")])
def test_a_type_that_is_not_the_upload_s(posting: Service, posts_api: HttpStub, kind: str, name: str) -> None:
    content_type = {"jpg": "image/jpeg", "mp4": "video/mp4", "gif": "image/gif"}[name]
    url = sent(posting, sample(name), f"x.{name}", content_type)
    assert refusal(post(posting, (kind, url))) == (422, "media_unusable", "mediaItems[0].type")
    assert exists(url)
    assert posts_api.received == []


# -- direct URLs


def test_direct_urls(posting: Service, posts_api: HttpStub) -> None:
    posts_api.responses |= {
        "/v1/posts": CREATED,
        "/a.jpg": Response(headers={"Content-Type": "image/jpeg"}, body=sample("jpg")),
        "/a.mp4?x=1": Response(headers={"Content-Type": "video/mp4"}, body=sample("mp4")),
    }
    items = ("image", f"{posts_api.url}/a.jpg"), ("video", f"{posts_api.url}/a.mp4?x=1")
    assert post(posting, *items).status_code == 201
    *fetched, handed_on = [received.path for received in posts_api.received]
    assert (set(fetched), handed_on) == ({"/a.jpg", "/a.mp4?x=1"}, "/v1/posts")
    assert not any(received.has("sk_") for received in posts_api.received)


@pytest.mark.parametrize(
    "response",
    [
        Response(headers={"Content-Type": "text/html"}, body=b"<html>"),
        Response(headers={"Content-Type": "image/jpeg"}, body=b"<html>"),
        Response(headers={"Content-Type": "image/png"}, body=sample("jpg")),
        Response(status=401, headers={"Content-Type": "image/jpeg"}, body=sample("jpg")),
        Response(status=302, headers={"Location": "/b.html"}),
        None,
    ],
)
def test_a_direct_url_that_is_no_good(posting: Service, posts_api: HttpStub, response: Response | None) -> None:
    posts_api.responses["/a.jpg"] = response
    posts_api.responses["/b.html"] = Response(headers={"Content-Type": "text/html"}, body=b"<html>")
    assert refusal(post(posting, ("image", f"{posts_api.url}/a.jpg"))) == (422, "media_unusable", "mediaItems[0].url")
    assert "/v1/posts" not in [received.path for received in posts_api.received]


@each_case(
    "url", ["x", "http://[", "http://a:b/", "http://:80/", "ftp://a/b.jpg", "file:///etc/passwd", "//a/b", "http://\0/"]
)
def test_what_is_no_url(posting: Service, posts_api: HttpStub, url: str) -> None:
    assert refusal(post(posting, ("image", url))) == (422, "media_unusable", "mediaItems[0].url")
    assert posts_api.received == []


def test_private_addresses_are_not_allowed_by_default(service: Service, posting: Service, posts_api: HttpStub) -> None:
    """Only `posting` was started with --allow-private-media-hosts."""
    posts_api.responses["/a.jpg"] = Response(headers={"Content-Type": "image/jpeg"}, body=sample("jpg"))
    url = f"{posts_api.url}/a.jpg"
    assert posting.call("POST", "/v1/media/check", json={"url": url}).json()["usable"]
    assert not service.call("POST", "/v1/media/check", json={"url": url}).json()["usable"]


def test_the_index_is_the_bad_item_s(posting: Service, posts_api: HttpStub) -> None:
    good = sent(posting, sample("jpg"))
    assert refusal(post(posting, ("image", good), ("image", good), ("image", "x")))[2] == "mediaItems[2].url"
    assert refusal(post(posting, ("image", good), ("video", good)))[2] == "mediaItems[1].type"
    assert refusal(post(posting, ("image", good), ("film", good)))[1:] == ("invalid_field", "mediaItems[1].type")
    assert posts_api.received == []
