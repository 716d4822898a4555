"""POST /v1/media/check of uploads: what an application asks before it trusts a URL that a form sends."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.posts.support import sent
from tests.service.test_multipart import PART, create, film, upload
from tests.tools.cases import each_case
from tests.tools.media import sample
from tests.tools.service import Service


def check(service: Service, url: str, key: str | None = None) -> dict[str, Any]:
    response = service.call("POST", "/v1/media/check", json={"url": url}, key=key)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def completed(service: Service, size: int = PART) -> tuple[str, str]:
    """Upload a film in parts. Returns its URL and its key."""
    _, body = upload(service, film(size))
    done = service.call("POST", "/v1/media/multipart/complete", json=body).json()
    return done["publicUrl"], done["key"]


def test_an_upload_that_nobody_can_replace_has_its_key(service: Service) -> None:
    url, key = completed(service)
    checked = {"url": url, "key": key, "contentType": "video/mp4", "type": "video", "size": PART, "error": None}
    assert check(service, url) | {"receipt": ""} == {"usable": True, "receipt": ""} | checked
    token = service.call("POST", "/v1/media/tokens", json={"expiresIn": 60}).json()["token"]
    assert check(service, url, key=token)["key"] == key


def test_an_upload_by_one_put_has_no_key_yet(service: Service) -> None:
    """Whoever has its URL can write another file there for an hour."""
    checked = check(service, sent(service, sample("jpg")))
    assert (checked["usable"], checked["contentType"], checked["key"]) == (True, "image/jpeg", None)


def test_a_file_that_is_not_what_it_claims_is_no_good_and_deleted(service: Service) -> None:
    url = sent(service, b"MZ" + bytes(100))
    assert (check(service, url)["error"]["code"], check(service, url)["error"]["code"]) == (
        "not_media",
        "media_not_found",
    )


def test_an_upload_of_another_owner_is_not_found(service: Service) -> None:
    url, _ = completed(service)
    checked = check(service, url, key=service.new_key("mallory"))
    assert (checked["usable"], checked["key"], checked["error"]["code"]) == (False, None, "media_not_found")
    assert check(service, url)["usable"] is True


def test_an_upload_of_another_end_user_is_not_found(service: Service) -> None:
    url, key = completed(service)
    of = {
        user: service.call("POST", "/v1/media/tokens", json={"user": user}).json()["token"] for user in ("ann", "bob")
    }
    film_of_ann = create(service, PART, key=of["ann"]).json()["publicUrl"]
    for user, credential in of.items():
        for other in (url, film_of_ann):
            checked = check(service, other, key=credential)
            assert (checked["usable"], checked["error"]["code"]) == (False, "media_not_found"), (user, other)
    assert check(service, url)["key"] == key


@each_case(
    "change",
    [
        lambda url: url[:-5] + "0.mp4" if url[-5] != "0" else url[:-5] + "1.mp4",
        lambda url: url + "?X-Amz-Signature=secret",
        lambda url: url.replace("/local/", "/other/"),
        lambda url: url.replace("/local/", "/local/../local/"),
        lambda url: url.replace("/media/", "//media/"),
        lambda url: url.replace("http://", "http://somebody@"),
    ],
)
def test_what_only_looks_like_the_url_of_an_upload(service: Service, change: Any) -> None:
    url = change(completed(service)[0])
    checked = check(service, url)
    assert (checked["usable"], checked["key"]) == (False, None)
    assert "secret" not in str(checked)
    assert "somebody" not in str(checked)


@pytest.mark.parametrize("url", ["https://[", "no url", "http://user:pass@", "//x"])
def test_what_is_no_url(service: Service, url: str) -> None:
    assert check(service, url)["error"]["code"] == "not_a_url"
