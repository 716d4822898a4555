"""The form field whose files a browser sends to a media service: what a form may say, and what Django believes."""

from __future__ import annotations

import asyncio
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django import forms
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, QueryDict
from django.middleware.csrf import get_token
from django.test import Client, override_settings
from django.urls import path

import bigupload
import tests.adapters.django_settings
from bigupload.adapters.django import MediaService, UploadedKey, UploadField, UploadInput
from bigupload.core.checksums import Algorithm
from bigupload.stores.local_store import LocalStore
from tests.service.posts.support import sent
from tests.service.test_multipart import PART, create, digest, film, send
from tests.tools.directories import session_directory
from tests.tools.http_stub import Response, http_stub
from tests.tools.media import sample
from tests.tools.service import Service, serving

assert tests.adapters.django_settings


@pytest.fixture(scope="module")
def service(weed: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with session_directory(tmp_path_factory, "django") as home, serving(weed, home, "--requests", "1000") as running:
        yield running


@pytest.fixture
def media(service: Service) -> MediaService:
    return MediaService(url=service.url, api_key=service.key)


@pytest.fixture
def by_secret(service: Service) -> MediaService:
    return MediaService(url=service.url, secret=(service.home / "secret").read_text().split()[-1], owner="local")


def completed(service: Service, user: str | None = "ada", size: int = PART) -> tuple[str, str]:
    """Upload a film in parts, of the owner `local`. Returns its URL and its key."""
    data = film(size)
    part = {"partNumber": 1, "size": size, "checksum": digest(Algorithm.CRC64NVME, data)}
    made = create(service, size, user=user, firstParts=[part]).json()
    (etag,) = send(made["signed"], [data])
    parts = [{"partNumber": 1, "checksum": part["checksum"], "etag": etag}]
    body = {"upload": made["upload"], "parts": parts}
    done = service.call("POST", "/v1/media/multipart/complete", json=body).json()
    return done["publicUrl"], done["key"]


def form_of(field: forms.Field, *urls: str, **more: Any) -> forms.Form:
    """A form with one field, that was sent with these URLs."""
    data = QueryDict(mutable=True)
    data.setlist("film", list(urls))
    made: forms.Form = type("FilmForm", (forms.Form,), {"film": field})(data, **more)
    return made


def code_of(form: forms.Form) -> str:
    [error] = form.errors.as_data()["film"]
    return str(error.code)


def test_a_form_gets_the_key_of_an_upload(service: Service, media: MediaService) -> None:
    url, key = completed(service)
    form = form_of(UploadField(user="ada", service=media), url)
    assert form.is_valid(), form.errors
    found = form.cleaned_data["film"]
    assert (found, found.url, found.size, found.content_type) == (key, url, PART, "video/mp4")
    again = pickle.loads(pickle.dumps(found))
    assert (type(again), again, again.size) == (UploadedKey, key, PART)


def test_several_files(service: Service, media: MediaService) -> None:
    (one, key), (two, other) = completed(service), completed(service)
    form = form_of(UploadField(user="ada", service=media, multiple=True), one, two, one)
    assert form.is_valid(), form.errors
    assert form.cleaned_data["film"] == [key, other]
    last = form_of(UploadField(user="ada", service=media), one, two)
    assert last.is_valid()
    assert last.cleaned_data["film"] == other


def test_urls_that_are_not_the_users_own_uploads(service: Service, by_secret: MediaService) -> None:
    own, key = completed(service)
    one_put = sent(service, sample("jpg"))
    for url in (
        own[:-5] + ("0" if own[-5] != "0" else "1") + own[-4:],
        own + "?x",
        own.replace("/local", "/x/../local"),
        one_put,
        key,
        "javascript:alert(1)",
        "http://127.0.0.1:1/film.mp4",
        "https://" + "a" * 5000,
        "\x00",
    ):
        assert code_of(form_of(UploadField(service=by_secret, user="ada"), url)) == "foreign", url
    for of_nobody, _ in (completed(service, user=None), completed(service, user="bob")):
        assert code_of(form_of(UploadField(service=by_secret, user="ada"), of_nobody)) == "foreign"
    assert code_of(form_of(UploadField(service=by_secret, user="mallory"), own)) == "foreign"
    assert form_of(UploadField(service=by_secret, user="ada"), own).is_valid()


def test_what_the_field_does_not_accept(service: Service, media: MediaService) -> None:
    """The token's limits hold for the uploads that it begins; a form can name an earlier one."""
    url, _ = completed(service)
    assert code_of(form_of(UploadField(user="ada", service=media, accept=["image/*", "audio/mp4"]), url)) == "type"
    assert code_of(form_of(UploadField(user="ada", service=media, max_size=PART - 1), url)) == "size"
    assert form_of(
        UploadField(user="ada", service=media, accept=["image/png", "Video/*"], max_size=PART), url
    ).is_valid()


def test_nothing_was_sent(media: MediaService) -> None:
    assert code_of(form_of(UploadField(user="ada", service=media))) == "required"
    assert code_of(form_of(UploadField(user="ada", service=media), "", "")) == "required"
    optional = form_of(UploadField(user="ada", service=media, required=False))
    assert optional.is_valid()
    assert optional.cleaned_data["film"] is None
    kept = form_of(UploadField(user="ada", service=media), initial={"film": "media/local/before.mp4"})
    assert kept.is_valid()
    assert (kept.cleaned_data["film"], kept.has_changed()) == ("media/local/before.mp4", False)


def test_a_service_that_can_not_be_asked(caplog: pytest.LogCaptureFixture) -> None:
    gone = MediaService(url="http://127.0.0.1:1", api_key="sk_secret", timeout=5)
    form = form_of(UploadField(service=gone, user="ada"), "http://127.0.0.1:1/a.mp4")
    assert code_of(form) == "unchecked"
    html = str(form["film"])
    assert "be uploaded now" in html
    assert "<big-upload" not in html
    assert [record.name for record in caplog.records].count("bigupload.django") == 2
    assert "sk_secret" not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [b"{}", b'{"usable": true}', b'{"usable": true, "url": "http://x/a.mp4", "key": null}', b"<html>", b"[]"],
)
def test_a_server_that_is_no_media_service(answer: bytes) -> None:
    with http_stub() as stub:
        kind = {"Content-Type": "application/json"}
        stub.responses["/v1/media/check"] = Response(headers=kind, body=answer)
        media = MediaService(url=stub.url, secret="x" * 32, owner="local")
        assert code_of(form_of(UploadField(user="ada", service=media), "http://x/a.mp4")) in ("foreign", "unchecked")


def test_the_element(service: Service, by_secret: MediaService) -> None:
    field = UploadField(service=by_secret, user="ada", accept=["video/*"], max_size=7, multiple=True)
    html = str(form_of(field, use_required_attribute=True)["film"])
    attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', html))
    assert attributes["endpoint"] == f"{service.url}/"
    assert attributes["src"] == f"{service.url}/v1/client/element.js"
    assert (attributes["name"], attributes["id"], attributes["accept"]) == ("film", "id_film", "video/*")
    assert " multiple" in html
    assert " required" in html
    me = service.call("GET", "/v1/me", key=attributes["token"]).json()
    assert (me["owner"], me["user"], me["maxSize"]) == ("local", "ada", 7)
    assert (me["contentTypes"], me["uploads"], me["singlePut"]) == (["video/*"], 20, None)


def test_a_token_of_an_api_key(service: Service, media: MediaService) -> None:
    html = str(form_of(UploadField(user="ada", service=media, required=False))["film"])
    token = re.findall(r'token="([^"]*)"', html)[0]
    me = service.call("GET", "/v1/me", key=token).json()
    assert (me["owner"], me["user"]) == ("local", "ada")
    assert service.key not in html


def test_a_form_that_is_shown_again_keeps_the_upload(media: MediaService) -> None:
    html = str(form_of(UploadField(user="ada", service=media), 'https://x/a"><script>.mp4')["film"])
    assert '<input type="hidden" name="film" value="https://x/a&quot;&gt;&lt;script&gt;.mp4">' in html
    assert " required" not in html
    kept = form_of(UploadField(user="ada", service=media), initial={"film": "media/local/before.mp4"})
    assert "hidden" not in str(kept["film"])
    assert " required" not in str(kept["film"])


def test_each_form_has_its_own_user(by_secret: MediaService) -> None:
    class FilmForm(forms.Form):
        film = UploadField(service=by_secret)

    one, two = FilmForm(), FilmForm()
    one.fields["film"].user, two.fields["film"].user = "ada", "bob"
    assert (one.fields["film"].user, FilmForm.base_fields["film"].user) == ("ada", None)
    with pytest.raises(bigupload.UsageError, match="no user: set the field's `user`"):
        str(FilmForm()["film"])


def test_a_visitor_who_is_not_signed_in_is_no_user(by_secret: MediaService) -> None:
    """`str(None)` would be one user for all of them."""
    for use in (lambda user: by_secret.token(user, expires_in=60), lambda user: by_secret.check("https://x/a", user)):
        with pytest.raises(bigupload.UsageError, match=r"no user: .* let only those who are signed in"):
            use(str(None))  # the key of an AnonymousUser


def test_the_setting(service: Service) -> None:
    with override_settings(BIGUPLOAD_MEDIA={"url": service.url, "api_key": service.key, "browser_url": "/media"}):
        assert 'endpoint="/media/"' in UploadInput(user="ada").render("film", None)
    with override_settings(BIGUPLOAD_MEDIA={"url": service.url, "sekret": "x"}), pytest.raises(ImproperlyConfigured):
        UploadInput(user="ada").render("film", None)
    with pytest.raises(ImproperlyConfigured, match="BIGUPLOAD_MEDIA"):
        UploadInput(user="ada").render("film", None)


def test_a_media_service_needs_one_credential() -> None:
    for more in ({}, {"secret": "a"}, {"api_key": "b", "owner": "o"}, {"secret": "a", "owner": "o", "api_key": "b"}):
        with pytest.raises(bigupload.UsageError, match="give one"):
            MediaService(url="http://127.0.0.1", **more)
    assert "hidden" not in repr(MediaService(url="http://127.0.0.1", api_key="hidden"))


class FilmForm(forms.Form):
    title = forms.CharField()
    film = UploadField(accept=["video/*"])


def film_view(request: HttpRequest) -> HttpResponse:
    """What an application has: a form that is shown, and shown again until everything is right."""
    form = FilmForm(request.POST or None)
    form.fields["film"].user = "ada"
    if form.is_valid():
        return HttpResponse(form.cleaned_data["film"])
    token = f'<input type="hidden" name="csrfmiddlewaretoken" value="{get_token(request)}">'
    return HttpResponse(f'<form method="post">{token}{form.as_p()}</form>', status=422 if form.is_bound else 200)


async def async_view(request: HttpRequest) -> HttpResponse:
    return film_view(request)


@pytest.fixture
def browser(by_secret: MediaService) -> Iterator[Client]:
    urls = (path("", film_view), path("async", async_view))
    credential = {"url": by_secret.url, "secret": by_secret.secret, "owner": "local"}
    csrf = ["django.middleware.csrf.CsrfViewMiddleware"]
    with override_settings(ROOT_URLCONF=urls, BIGUPLOAD_MEDIA=credential, MIDDLEWARE=csrf):
        yield Client(enforce_csrf_checks=True)


def test_a_project_s_form_from_the_first_page_to_the_key(browser: Client, tmp_path: Path) -> None:
    """The token of the page uploads as the element does, and the form is sent twice: a field was forgotten."""
    page = browser.get("/").content.decode()
    found = dict(re.findall(r'(endpoint|token|value)="([^"]*)"', page))
    file = tmp_path / "clip.mp4"
    file.write_bytes(film(PART))
    uploaded = asyncio.run(bigupload.upload(file, service=found["endpoint"], api_key=found["token"], part_size="5MiB"))
    data = {"csrfmiddlewaretoken": found["value"], "film": uploaded.url}
    again = browser.post("/", data)
    assert again.status_code == 422
    kept = re.findall(r'name="film" value="([^"]*)"', again.content.decode())
    assert kept == [uploaded.url]
    for url in ("/", "/async"):
        done = browser.post(url, data | {"film": kept[0], "title": "Clip"})
        assert (done.status_code, uploaded.url.endswith(done.content.decode())) == (200, True)
