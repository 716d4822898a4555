"""A Django project of one file: a storage whose files are proved, and a form whose big files go to the store.

The media service is mounted beside Django, and the browser sends to the store by the form's `<big-upload>` element.
`python django_media.py` serves it with the local store, does what a browser does, and ends. With a port
(`django_media.py 8000`), it serves until Ctrl-C.
"""

# mypy: disable-error-code="import-untyped,misc"
# Django has no types of its own.

from __future__ import annotations

import asyncio
import pathlib
import re
import secrets
import sys
import tempfile
from typing import Any

import django
import httpx
import uvicorn
from django import forms
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.files.storage import default_storage
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.urls import path
from serving import serving

import bigupload
from bigupload.adapters.django import UploadField
from bigupload.service import set_up
from bigupload.service.asgi import ServiceConfig, create_app, mount
from bigupload.stores import local_store
from bigupload.stores.s3.bucket import S3Bucket

BUCKET = "django-media"
SECRET = secrets.token_urlsafe(32)
"""In a real application, the same in all processes, and from one start to the next."""
PAGE = """<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>Films</title><h1>Films</h1>
<form method="post" enctype="multipart/form-data">{form}
<input type="hidden" name="csrfmiddlewaretoken" value="{token}"><button>Send</button></form>"""
MP4 = b"\0\0\0\x20ftypmp42\0\0\0\0mp42isomavc1mp41" + b"\0\0\0\x10moov\0\0\0\x08mvhd"
"""The beginning of a film."""


class FilmForm(forms.Form):
    """A large file, which the browser sends to the store, and a small one, which goes through Django."""

    title = forms.CharField()
    film = UploadField(accept=["video/*"], max_size=5_000_000_000)
    poster = forms.FileField(required=False)


def films(request: HttpRequest) -> HttpResponse:
    """Show the form, or take it: the service has proved the film, and the storage proves the poster."""
    form = FilmForm(request.POST or None, request.FILES or None)
    form.fields["film"].user = "ada"  # in your application: str(request.user.pk), behind login_required
    if form.is_valid():
        film, poster = form.cleaned_data["film"], form.cleaned_data["poster"]
        saved = default_storage.save(f"posters/{poster.name}", poster) if poster else None
        return HttpResponse(f"{film} has {film.size:,} bytes, and the poster is {saved}")
    page = PAGE.format(form=form.as_p(), token=get_token(request))
    return HttpResponse(page, status=422 if form.is_bound else 200)


def application(s3: bigupload.S3Options) -> Any:
    """Return the application, with the service at /media/."""
    options = {
        "endpoint_url": s3.endpoint_url,
        "region_name": s3.region,
        "access_key": s3.access_key,
        "secret_key": s3.secret_key,
        "bucket_name": BUCKET,
        "addressing_style": "path",
    }
    settings.configure(
        SECRET_KEY=secrets.token_urlsafe(32),
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=(path("", films),),
        MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
        STORAGES={"default": {"BACKEND": "bigupload.adapters.django.S3Storage", "OPTIONS": options}},
    )
    django.setup()
    service = create_app(
        ServiceConfig(
            bucket=BUCKET,
            s3=s3,
            authorize=lambda request: None,  # nobody but who has a token
            secrets=(SECRET,),
            log=lambda line: None,  # JSON lines, by default to standard error
        )
    )
    return mount(get_asgi_application(), service, at="/media")


def say_where(url: str) -> None:
    """Tell the form's field where the service is. In a real application, this is one line of the settings."""
    settings.BIGUPLOAD_MEDIA = {"url": f"{url}/media", "browser_url": "/media/", "secret": SECRET, "owner": "films"}


def send_a_film(url: str, folder: pathlib.Path) -> None:
    """Do what a browser does: load the form, upload by its token, send the form."""
    film = folder / "clip.mp4"
    film.write_bytes(MP4 + bytes(20_000_000))
    with httpx.Client(trust_env=False, base_url=url, timeout=60) as browser:
        page = browser.get("/").text
        found = {name: re.findall(rf'{name}="([^"]*)"', page)[-1] for name in ("token", "value")}
        uploaded = bigupload.upload_sync(film, service=f"{url}/media", api_key=found["token"])
        data = {"csrfmiddlewaretoken": found["value"], "title": "Clip", "film": uploaded.url}
        forged = browser.post("/", data=data | {"film": uploaded.url.replace("ada/", "bob/")})
        print(f"the URL of another user's file: {forged.status_code}")
        answer = browser.post("/", data=data, files={"poster": ("poster.jpg", b"a picture")})
        print(re.sub("[0-9a-f]{40}", "…", answer.text))


async def make_bucket(s3: bigupload.S3Options) -> None:
    """Make it, once: `bigupload bucket setup`."""
    bucket = S3Bucket(BUCKET, s3)
    await set_up(bucket)
    await bucket.aclose()


def main() -> None:
    store = local_store.start()
    s3 = bigupload.S3Options(
        endpoint_url=store.endpoint_url, region=store.region, access_key=store.access_key, secret_key=store.secret_key
    )
    asyncio.run(make_bucket(s3))
    if len(sys.argv) > 1:
        port = int(sys.argv[1])
        served = application(s3)
        say_where(f"http://127.0.0.1:{port}")
        uvicorn.run(served, port=port, log_level="error")
        return
    with serving(application(s3)) as url, tempfile.TemporaryDirectory() as folder:
        say_where(url)
        send_a_film(url, pathlib.Path(folder))


if __name__ == "__main__":
    main()
