"""A page of another origin uploads with the browser's own fetch: to the service and to the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from bigupload.stores.local_store import LocalStore
from tests.tools.browser import window
from tests.tools.directories import session_directory
from tests.tools.http_stub import HttpStub, Response, http_stub
from tests.tools.media import sample
from tests.tools.service import Service, serving

pytestmark = pytest.mark.slow

UPLOAD = """async ([service, key, bytes]) => {
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
  const told = { filename: "photo.jpg", contentType: "image/jpeg", size: bytes.length };
  try {
    const asked = await fetch(`${service}/v1/media/presign`, { method: "POST", headers, body: JSON.stringify(told) });
    const answer = await asked.json();
    const seen = { status: asked.status, id: asked.headers.get("X-Request-Id"), code: answer.error?.code };
    if (!asked.ok) return seen;
    const body = new Uint8Array(bytes);
    const put = await fetch(answer.uploadUrl, { method: "PUT", headers: { "Content-Type": "image/jpeg" }, body });
    return { ...seen, put: put.status, url: answer.publicUrl };
  } catch (error) {
    return { error: String(error) };
  }
}"""


@pytest.fixture(scope="module")
def app() -> Iterator[HttpStub]:
    """An app's own site: another port is another origin."""
    with http_stub() as running:
        page = b"<!doctype html><title>App</title><link rel=icon href=data:,>"
        running.responses["/"] = Response(headers={"Content-Type": "text/html"}, body=page)
        yield running


@pytest.fixture(scope="module")
def open_to_app(weed: LocalStore, app: HttpStub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = ("--cors-origin", app.url, "--sweep-every", "0")
    with session_directory(tmp_path_factory, "cross-origin") as home, serving(weed, home, *options) as running:
        yield running


def upload(browser: Browser, page: str, service: Service, key: str) -> Any:
    with window(browser) as tab:
        tab.page.goto(page)
        return tab.page.evaluate(UPLOAD, [service.url, key, list(sample("jpg"))])


def test_an_upload_from_another_origin(browser: Browser, app: HttpStub, open_to_app: Service) -> None:
    done = upload(browser, app.url, open_to_app, open_to_app.key)
    assert (done.get("status"), done.get("put")) == (200, 200), done
    assert done["id"]
    assert httpx.get(done["url"], trust_env=False).content == sample("jpg")


def test_an_upload_with_a_token(browser: Browser, app: HttpStub, open_to_app: Service) -> None:
    """The page never sees an API key."""
    limits = {"maxSize": len(sample("jpg")), "contentTypes": ["image/*"], "uploads": 1, "singlePut": True}
    token = open_to_app.call("POST", "/v1/media/tokens", json=limits).json()["token"]
    done = upload(browser, app.url, open_to_app, token)
    assert (done.get("status"), done.get("put")) == (200, 200), done
    with window(browser) as tab:
        tab.page.goto(app.url)
        again = tab.page.evaluate(UPLOAD, [open_to_app.url, token, list(sample("jpg"))])
    assert (again.get("status"), again.get("code")) == (403, "token_used_up")


def test_the_page_reads_what_was_refused(browser: Browser, app: HttpStub, open_to_app: Service) -> None:
    refused = upload(browser, app.url, open_to_app, "sk_nobody")
    assert (refused.get("status"), refused.get("code")) == (401, "invalid_key")


def test_a_page_of_an_origin_that_is_not_named_reads_nothing(
    browser: Browser, app: HttpStub, open_to_app: Service
) -> None:
    stranger = app.url.replace("127.0.0.1", "localhost")
    assert "Failed to fetch" in upload(browser, stranger, open_to_app, open_to_app.key)["error"]
