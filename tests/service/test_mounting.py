"""The service as a part of an application: at any prefix, twice in one process, with the application's own users."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import prometheus_client
import pytest
from aiohttp import web

from bigupload import errors
from bigupload.service import ServiceConfig, create_app
from bigupload.service.access.keys import KeyFile
from bigupload.service.media.policy import ANY_TYPES
from bigupload.service.uploads.bucket_rules import set_up
from bigupload.stores.local_store import LocalStore
from tests.service.test_attacks import PHOTO, refusal
from tests.tools.buckets import Meddled, fresh_name, options_for
from tests.tools.media import sample

SECRETS = ("0123456789abcdef" * 2,)
MKV = {"filename": "a.mkv", "contentType": "video/x-matroska"}


async def user_of(request: web.Request) -> str | None:
    return request.headers.get("X-User")


async def fresh_bucket(weed: LocalStore, **named: Any) -> str:
    bucket = Meddled(fresh_name(weed), options_for(weed))
    await set_up(bucket, named=named)
    await bucket.aclose()
    return bucket.name


@contextlib.asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[httpx.AsyncClient]:
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False, timeout=60) as client:
            yield client
    finally:
        await runner.cleanup()


async def test_the_environment_may_name_the_endpoint(weed: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", weed.endpoint_url)
    s3 = dataclasses.replace(options_for(weed), endpoint_url=None)
    config = ServiceConfig(
        bucket=await fresh_bucket(weed), s3=s3, authorize=user_of, secrets=SECRETS, log=lambda _: None
    )
    async with running(create_app(config)) as client:
        made = await client.post("/v1/media/presign", json=PHOTO, headers={"X-User": "ada"})
        assert made.json()["uploadUrl"].startswith(weed.endpoint_url)


async def test_two_of_them_in_one_application(weed: LocalStore, tmp_path: Path) -> None:
    """Of one bucket each, with a policy, a log and callers of its own."""
    lines: list[str] = []
    handlers = list(logging.getLogger("asyncio").handlers)
    collectors = set(prometheus_client.REGISTRY._names_to_collectors)
    _, key = KeyFile(tmp_path / "keys.json").create("press")
    s3 = options_for(weed)
    photos = create_app(
        ServiceConfig(bucket=await fresh_bucket(weed), s3=s3, authorize=user_of, secrets=SECRETS, log=lines.append)
    )
    films = create_app(
        ServiceConfig(
            bucket=await fresh_bucket(weed, types=ANY_TYPES), s3=s3, keys=tmp_path / "keys.json", secrets=SECRETS,
            cors_origins=("https://app.example.com",), log=lambda _: None,
        )
    )  # fmt: skip
    app = web.Application()
    app.add_subapp("/photos/", photos)
    app.add_subapp("/a/b/films/", films)
    async with running(app) as client:
        ada, press = {"X-User": "ada"}, {"Authorization": f"Bearer {key}"}
        made = await client.post("/photos/v1/media/presign", json=PHOTO, headers=ada)
        assert made.json()["key"].startswith("media/ada/")
        put = {"Content-Type": "image/jpeg"}
        sent = httpx.put(made.json()["uploadUrl"], content=sample("jpg"), headers=put, trust_env=False)
        assert sent.status_code == 200
        assert httpx.get(made.json()["publicUrl"], trust_env=False).content == sample("jpg")
        for headers, code in (({}, "missing_key"), (press, "invalid_key")):
            assert refusal(await client.post("/photos/v1/media/presign", json=PHOTO, headers=headers)) == (401, code)
        other = await client.post("/photos/v1/media/presign", json=MKV, headers=ada)
        assert refusal(other) == (422, "unsupported_media")
        assert refusal(await client.get("/photos/nothing")) == (404, "not_found")

        asked = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
        for prefix, status in (("/photos", 405), ("/a/b/films", 204)):
            assert (await client.options(f"{prefix}/v1/media/presign", headers=asked)).status_code == status
        film = await client.post("/a/b/films/v1/media/presign", json=MKV, headers=press | asked)
        assert film.json()["key"].startswith("media/press/")
        assert film.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert refusal(await client.post("/a/b/films/v1/media/presign", json=MKV, headers=ada)) == (401, "missing_key")

        for prefix in ("/photos", "/a/b/films"):
            document = (await client.get(f"{prefix}/openapi.json")).json()
            assert document["servers"] == [{"url": prefix}]
            assert (await client.get(f"{prefix}/readyz")).json() == {"status": "ok"}
            page = (await client.get(f"{prefix}/")).text
            assert 'src="page/app.js"' in page
            assert (await client.get(f"{prefix}/page/app.js")).status_code == 200
        metrics = (await client.get("/a/b/films/metrics")).text
        assert 'route="/a/b/films/v1/media/presign"' in metrics
        assert "photos" not in metrics
    routes = {json.loads(line)["route"] for line in lines}
    assert "/photos/v1/media/presign" in routes
    assert not any("films" in route for route in routes)
    assert logging.getLogger("asyncio").handlers == handlers
    assert set(prometheus_client.REGISTRY._names_to_collectors) == collectors


async def test_no_response_names_the_versions_of_the_server(weed: LocalStore) -> None:
    config = ServiceConfig(
        bucket=await fresh_bucket(weed), s3=options_for(weed), authorize=user_of, secrets=SECRETS, log=lambda _: None
    )
    app = web.Application()
    app.add_subapp("/photos/", create_app(config))
    async with running(app) as client:
        for path in ("", "healthz", "v1/me", "nothing", "v1/media?usr=x"):
            response = await client.get(f"/photos/{path}", headers={"X-User": "ada"})
            assert response.headers["Server"] == "bigupload"


async def test_tokens_of_an_application_s_users(weed: LocalStore) -> None:
    """They end by themselves: there is no API key that could be revoked."""

    def user(request: web.Request) -> str | None:  # not async
        return request.headers.get("X-User")

    config = ServiceConfig(
        bucket=await fresh_bucket(weed), s3=options_for(weed), authorize=user, secrets=SECRETS, log=lambda _: None
    )
    async with running(create_app(config)) as client:
        made = await client.post("/v1/media/tokens", json={"uploads": 1, "singlePut": True}, headers={"X-User": "ada"})
        bearer = {"Authorization": f"Bearer {made.json()['token']}"}
        first = await client.post("/v1/media/presign", json=PHOTO, headers=bearer)
        assert first.json()["key"].startswith("media/ada/")
        assert refusal(await client.post("/v1/media/presign", json=PHOTO, headers=bearer)) == (403, "token_used_up")


async def test_an_application_s_users_name_no_tags_of_files_or_tokens(weed: LocalStore) -> None:
    """The bucket's rules act by them: a person must not choose how long a file is kept."""
    config = ServiceConfig(
        bucket=await fresh_bucket(weed), s3=options_for(weed), authorize=user_of, secrets=SECRETS, log=lambda _: None
    )
    async with running(create_app(config)) as client:
        for path, body in (("presign", PHOTO), ("multipart", PHOTO | {"size": 9}), ("tokens", {"singlePut": True})):
            tagged = body | {"tags": {"plan": "paid"}}
            response = await client.post(f"/v1/media/{path}", json=tagged, headers={"X-User": "ada"})
            assert refusal(response) == (422, "invalid_field"), path


class HTTPException(Exception):
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


async def test_an_application_that_refuses(weed: LocalStore) -> None:
    raised: list[Exception] = []

    async def user(request: web.Request) -> str | None:
        raise raised[-1]

    config = ServiceConfig(
        bucket=await fresh_bucket(weed), s3=options_for(weed), authorize=user, secrets=SECRETS, log=lambda _: None
    )
    async with running(create_app(config)) as client:
        for error, status, code in (
            (web.HTTPUnauthorized(), 401, "missing_key"),
            (web.HTTPForbidden(text="secret"), 403, "not_allowed"),
            (HTTPException(403), 403, "not_allowed"),
            (HTTPException(401), 401, "missing_key"),
            (web.HTTPNotFound(), 404, "not_found"),
            (web.HTTPTooManyRequests(), 429, "rate_limited"),
            (web.HTTPFound("/login"), 500, "internal"),
            (PermissionError(), 500, "internal"),
        ):
            raised.append(error)
            response = await client.post("/v1/media/presign", json=PHOTO)
            assert refusal(response) == (status, code)
            assert "secret" not in response.text


@pytest.mark.parametrize("name", ["A@x", "", "a" * 64, "_a", "ä", "a/b", 7])
async def test_a_name_that_can_t_be_an_owner_s(weed: LocalStore, name: Any, caplog: pytest.LogCaptureFixture) -> None:
    config = ServiceConfig(
        bucket=await fresh_bucket(weed), s3=options_for(weed), authorize=lambda _: name, secrets=SECRETS,
        log=lambda _: None,
    )  # fmt: skip
    async with running(create_app(config)) as client:
        assert refusal(await client.post("/v1/media/presign", json=PHOTO)) == (403, "not_allowed")
    assert "can't be an owner" in caplog.text


async def test_a_page_of_another_site_can_t_use_a_user_s_cookie(weed: LocalStore) -> None:
    """A browser lets it send a body without a type, and the cookie with it, before it asks anybody."""

    def user(request: web.Request) -> str | None:
        return request.cookies.get("session")

    config = ServiceConfig(
        bucket=await fresh_bucket(weed), s3=options_for(weed), authorize=user, secrets=SECRETS, log=lambda _: None
    )
    async with running(create_app(config)) as client:
        cookie = {"Cookie": "session=ada"}
        for more in ({}, {"Content-Type": "text/plain"}, {"Content-Type": ""}):
            response = await client.post("/v1/media/presign", content=json.dumps(PHOTO), headers=cookie | more)
            assert refusal(response) == (415, "unsupported_content_type")
        made = await client.post("/v1/media/tokens", json={"singlePut": True}, headers=cookie)
        bearer = {"Authorization": f"Bearer {made.json()['token']}"}  # no browser sends that by itself
        assert (await client.post("/v1/media/presign", content=json.dumps(PHOTO), headers=bearer)).status_code == 200


async def test_other_origins_read_the_api_alone_under_any_prefix(weed: LocalStore) -> None:
    config = ServiceConfig(
        bucket=await fresh_bucket(weed), s3=options_for(weed), authorize=user_of, secrets=SECRETS, log=lambda _: None,
        cors_origins=("https://app.example.com",),
    )  # fmt: skip
    app = web.Application()
    app.add_subapp("/api/v1/x/", create_app(config))
    async with running(app) as client:
        for path, may in (
            ("v1/media", True), ("v1/nothing", True), ("metrics", False), ("", False), ("openapi.json", False),
            ("readyz", False), ("page/app.js", False),
        ):  # fmt: skip
            response = await client.get(f"/api/v1/x/{path}", headers={"Origin": "https://app.example.com"})
            assert ("Access-Control-Allow-Origin" in response.headers) == may, path


async def test_a_bucket_that_lets_no_page_upload_is_logged_at_the_start(weed: LocalStore) -> None:
    """As after `bucket setup --origin https://app.example.com`, which leaves out the service's own page."""
    lines: list[str] = []
    bucket = Meddled(await fresh_bucket(weed), options_for(weed))
    await set_up(bucket, origins=["https://app.example.com"])
    await bucket.aclose()
    config = ServiceConfig(
        bucket=bucket.name,
        s3=options_for(weed),
        authorize=user_of,
        secrets=SECRETS,
        cors_origins=("https://other.example.com",),
        log=lines.append,
    )
    async with running(create_app(config)):
        pass
    [said] = [row["message"] for row in map(json.loads, lines) if row["event"] == "cors"]
    assert "https://other.example.com" in said


async def test_a_start_that_fails_says_why(weed: LocalStore) -> None:
    config = ServiceConfig(bucket="no-such-bucket", s3=options_for(weed), authorize=user_of, secrets=SECRETS)
    with pytest.raises(errors.BucketNotFound):
        async with running(create_app(config)):
            pass


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"secrets": SECRETS}, "`keys`"),
        ({"authorize": user_of, "secrets": ()}, "`secrets`"),
        ({"authorize": user_of, "secrets": ("short",)}, "`secrets`"),
        (
            {"authorize": user_of, "secrets": SECRETS, "policy": {"max_size": 1}},
            "no `max_size`, only .*`max_file_size`",
        ),
        ({"authorize": user_of, "secrets": SECRETS, "policy": {"keep": 1}}, "can't be kept"),
    ],
)
def test_settings_that_can_t_be(weed: LocalStore, more: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.UsageError, match=says):
        ServiceConfig(bucket="b", s3=options_for(weed), **more)


def test_importing_it_costs_nothing() -> None:
    code = "import sys, bigupload.service; print({'aiohttp', 'pydantic', 'jwt', 'botocore'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
