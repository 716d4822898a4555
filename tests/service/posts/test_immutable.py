"""What a post was accepted for stays what was judged, though the presigned PUT is valid for an hour."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from bigupload.service import contract as c
from bigupload.service.access.handles import Handles
from bigupload.service.media.object_keys import KeyTemplate
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.posts import _with_copies
from bigupload.service.uploads.uploads import MediaUploads
from tests.service.posts.support import CREATED, post, refusal, sent
from tests.service.test_multipart import PART, film, upload
from tests.tools.buckets import Meddled, Next
from tests.tools.cases import each_case
from tests.tools.http_stub import HttpStub
from tests.tools.media import sample
from tests.tools.service import Service

JPEG = {"Content-Type": "image/jpeg"}
EXE = b"MZ\x90\x00" + bytes(4096)


def put(url: str, content: bytes) -> int:
    return httpx.put(url, headers=JPEG, content=content, trust_env=False).status_code


def posted_url(posts_api: HttpStub) -> str:
    (item,) = json.loads(posts_api.received[-1].body)["mediaItems"]
    return str(item["url"])


@pytest.mark.parametrize("sized", [False, True], ids=["any size", "size bound"])
def test_a_put_after_the_post_does_not_change_what_was_posted(
    posting: Service, posts_api: HttpStub, sized: bool
) -> None:
    posts_api.responses["/v1/posts"] = CREATED
    picture = sample("jpg")
    other = picture[:-2] + b"\0\0" if sized else EXE  # with a size bound, one of the same length is what is possible
    body = {"filename": "photo.jpg", "contentType": "image/jpeg"} | ({"size": len(picture)} if sized else {})
    made = posting.call("POST", "/v1/media/presign", json=body).json()
    assert put(made["uploadUrl"], picture) == 200
    assert post(posting, ("image", made["publicUrl"])).status_code == 201
    url = posted_url(posts_api)
    assert put(made["uploadUrl"], other) == 200
    got = httpx.get(url, trust_env=False)
    assert (got.content, got.headers["Content-Type"]) == (picture, "image/jpeg")
    for method, headers in (("PUT", JPEG), ("DELETE", {})):  # and nobody has a URL that writes there
        target = url + "?" + made["uploadUrl"].partition("?")[2]
        assert httpx.request(method, target, headers=headers, content=EXE, trust_env=False).status_code == 403
    assert httpx.get(url, trust_env=False).content == picture


def test_a_post_that_is_sent_again_names_the_same_copy(posting: Service, posts_api: HttpStub) -> None:
    posts_api.responses["/v1/posts"] = CREATED
    url = sent(posting, sample("jpg"))
    urls = set()
    for _ in range(2):
        assert post(posting, ("image", url)).status_code == 201
        urls.add(posted_url(posts_api))
    (copy,) = urls
    assert copy != url
    assert post(posting, ("image", copy)).status_code == 201  # the copy may be posted itself, and is not copied again
    assert posted_url(posts_api) == copy
    assert refusal(post(posting, ("image", copy), key=posting.new_key("eve"))) == (
        422, "media_not_found", "mediaItems[0].url",
    )  # fmt: skip


def test_a_multipart_upload_is_posted_as_it_is(posting: Service, posts_api: HttpStub) -> None:
    """Its part URLs are worthless after complete: no copy is needed."""
    posts_api.responses["/v1/posts"] = CREATED
    _, body = upload(posting, film(PART))
    url = posting.call("POST", "/v1/media/multipart/complete", json=body).json()["publicUrl"]
    assert post(posting, ("video", url)).status_code == 201
    assert posted_url(posts_api) == url


def test_parts_that_are_sent_after_complete_change_nothing(service: Service) -> None:
    from bigupload.core.checksums import Algorithm
    from tests.service.test_multipart import create, described, send

    data = film(PART)
    parts = described([data], Algorithm.CRC64NVME)
    made = create(service, PART, firstParts=parts).json()
    (etag,) = send(made["signed"], [data])
    rows = [{"partNumber": 1, "etag": etag, "checksum": parts[0]["checksum"]}]
    done = service.call("POST", "/v1/media/multipart/complete", json={"upload": made["upload"], "parts": rows})
    assert done.status_code == 200
    (signed,) = made["signed"]
    assert httpx.put(signed["url"], headers=signed["headers"], content=data, trust_env=False).status_code == 404
    again = service.call("POST", "/v1/media/multipart/complete", json={"upload": made["upload"], "parts": rows})
    assert again.json() | {"receipt": ""} == done.json() | {"receipt": ""}  # which says when it was signed
    assert httpx.get(made["publicUrl"], trust_env=False).content == data


@pytest.fixture
def uploads(bucket: Meddled) -> MediaUploads:
    return MediaUploads(bucket, Handles(["secret"], clock=lambda: 0))


async def test_an_object_that_is_replaced_before_it_is_copied(bucket: Meddled, uploads: MediaUploads) -> None:
    """With the condition the copy is refused; without, as on a store that ignores it, the copy itself is judged."""
    key = (await uploads.presign("me", c.PresignRequest(filename="a.jpg", content_type="image/jpeg"))).key
    conditional = True

    async def replaced(proceed: Next, arguments: Mapping[str, Any]) -> Any:
        await bucket.call("", "PutObject", Key=key, Body=EXE, headers={"content-type": "image/jpeg"})
        if conditional:
            return await proceed()
        del bucket.meddle["CopyObject"]
        within = {name: value for name, value in arguments.items() if name != "CopySourceIfMatch"}
        return await bucket.call("", "CopyObject", **within)

    bucket.meddle["CopyObject"] = replaced
    for expected in (Problem.MEDIA_NOT_FOUND, Problem.NOT_MEDIA):
        await bucket.call("", "PutObject", Key=key, Body=sample("jpg"), headers={"content-type": "image/jpeg"})
        with pytest.raises(Refused) as refused:
            await uploads.finishing.postable("me", key)
        assert refused.value.problem is expected
        conditional = False
    rows = (await bucket.call("", "ListObjectsV2", Prefix="media/")).get("Contents", ())
    assert [row["Key"] for row in rows if KeyTemplate().is_final(row["Key"])] == []


@each_case(
    ("body", "expected"),
    [
        ('{"url": "old"}', '{"url": "new"}'),
        ('{"url" :\n"old", "n": 1.10e400, "a": "old"}', '{"url" :\n"new", "n": 1.10e400, "a": "old"}'),
        (r'{"url": "\u006fld", "u\u0072l": "old"}', '{"url": "new", "u\\u0072l": "new"}'),
        (r'{"a": "\"url\": \"old\"", "b": ["url", "old"]}', r'{"a": "\"url\": \"old\"", "b": ["url", "old"]}'),
        ('{"url": "ol", "x": {"url": "ö", "url2": "old"}}', '{"url": "ol", "x": {"url": "ö", "url2": "old"}}'),
    ],
)
def test_only_the_url_is_replaced_in_a_post(body: str, expected: str) -> None:
    assert _with_copies(body.encode(), {"old": "new"}).decode() == expected
    assert _with_copies(body.encode(), {}) == body.encode()
