"""Pages of other origins: which may call the API, and what a browser is told of that."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from bigupload import errors
from bigupload.__main__ import main
from bigupload.service.access.callers import CrossOrigin
from bigupload.service.access.keys import check_origin
from bigupload.stores.local_store import LocalStore
from tests.tools.cases import each_case
from tests.tools.declared import what_is_wrong
from tests.tools.directories import session_directory
from tests.tools.service import Service, serving

APP, OTHER_APP = "https://app.example.com", "http://localhost:3000"
STRANGERS = (
    "https://evil.example",
    "null",
    "http://app.example.com",
    "https://app.example.com.evil.example",
    "https://evil-app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com/",
    "https://APP.example.com",
    f"{APP} {OTHER_APP}",
    f"{APP},{OTHER_APP}",
    "*",
    "",
)
PRESIGN = {"filename": "photo.jpg", "contentType": "image/jpeg"}


@pytest.fixture(scope="module")
def open_to_pages(weed: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = ("--cors-origin", APP, "--cors-origin", OTHER_APP, "--sweep-every", "0")
    with session_directory(tmp_path_factory, "cors") as home, serving(weed, home, *options) as running:
        yield running
        assert what_is_wrong(running.log()) == []


def preflight(service: Service, path: str, origin: str | None, method: str | None = "POST") -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization",
    }
    given = {name: value for name, value in headers.items() if value is not None}
    return httpx.options(service.url + path, headers=given, trust_env=False)


def cors_headers(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


def test_a_page_of_a_named_origin_asks_once_and_reads_every_response(open_to_pages: Service) -> None:
    asked = preflight(open_to_pages, "/v1/media/presign", APP)
    assert asked.status_code == 204
    assert cors_headers(asked) == {
        "access-control-allow-origin": APP,
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "Authorization, Content-Type",
        "access-control-max-age": "7200",
        "access-control-expose-headers": "Retry-After, X-Request-Id",
    }
    assert asked.headers["Vary"] == "Origin"
    methods = preflight(open_to_pages, "/v1/media/multipart", OTHER_APP, "DELETE").headers[
        "Access-Control-Allow-Methods"
    ]
    assert methods == "DELETE, GET, POST"
    answered = [
        open_to_pages.call("POST", "/v1/media/presign", json=PRESIGN, headers={"Origin": OTHER_APP}),
        open_to_pages.call("POST", "/v1/media/presign", json=PRESIGN, headers={"Origin": OTHER_APP}, key="sk_none"),
        open_to_pages.call("POST", "/v1/media/presign", json={}, headers={"Origin": OTHER_APP}),
        open_to_pages.call("PATCH", "/v1/media/presign", json=PRESIGN, headers={"Origin": OTHER_APP}),
        open_to_pages.call("GET", "/v1/nothing", headers={"Origin": OTHER_APP}),
    ]
    assert [response.status_code for response in answered] == [200, 401, 422, 405, 404]
    for response in answered:
        assert response.headers["Access-Control-Allow-Origin"] == OTHER_APP
        assert response.headers["Access-Control-Expose-Headers"] == "Retry-After, X-Request-Id"
        assert response.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize("origin", STRANGERS)
def test_of_other_origins_nothing_is_allowed(open_to_pages: Service, origin: str) -> None:
    asked = preflight(open_to_pages, "/v1/media/presign", origin)
    assert asked.status_code == 405
    answered = open_to_pages.call("POST", "/v1/media/presign", json=PRESIGN, headers={"Origin": origin})
    assert cors_headers(asked) == cors_headers(answered) == {}
    assert asked.headers["Vary"] == answered.headers["Vary"] == "Origin"  # a cache must not hand it to another page


def test_what_is_no_preflight_is_refused_as_before(open_to_pages: Service) -> None:
    tried = [
        preflight(open_to_pages, "/v1/media/presign", None),
        preflight(open_to_pages, "/v1/media/presign", APP, None),
        preflight(open_to_pages, "/v1/media/presign", APP, "DELETE"),
        preflight(open_to_pages, "/v1/media/presign", APP, "post"),
    ]
    assert {(response.status_code, response.json()["error"]["code"]) for response in tried} == {
        (405, "method_not_allowed")
    }
    assert {response.headers["Allow"] for response in tried} == {"POST"}
    assert preflight(open_to_pages, "/v1/nothing", APP).status_code == 404


def test_the_page_and_the_metrics_are_of_the_services_own_origin(open_to_pages: Service) -> None:
    for path in ("/", "/metrics", "/healthz", "/page/app.js"):
        response = httpx.get(open_to_pages.url + path, headers={"Origin": APP}, trust_env=False)
        assert (response.status_code, cors_headers(response)) == (200, {})


def test_the_client_is_for_pages_of_other_origins(open_to_pages: Service) -> None:
    for path in ("/v1/client.js", "/v1/client/index.js"):
        url, origin = open_to_pages.url + path, {"Origin": APP}
        response = httpx.get(url, headers=origin, trust_env=False)
        assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (200, APP)
        assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert {name.strip() for name in response.headers["Vary"].split(",")} == {"Accept-Encoding", "Origin"}
        known = httpx.get(url, headers={**origin, "If-None-Match": response.headers["ETag"]}, trust_env=False)
        assert (known.status_code, known.content) == (304, b"")
    assert httpx.get(f"{open_to_pages.url}/v1/client/app.js", trust_env=False).status_code == 404


def test_off_by_default(service: Service) -> None:
    asked = preflight(service, "/v1/media/presign", APP)
    answered = service.call("POST", "/v1/media/presign", json=PRESIGN, headers={"Origin": APP})
    assert (asked.status_code, answered.status_code) == (405, 200)
    for response in (asked, answered):
        assert cors_headers(response) == {}
        assert "Vary" not in response.headers


def test_every_origin_but_never_with_credentials() -> None:
    anyone = CrossOrigin(["*"])
    assert anyone.headers("https://any.example") == {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Expose-Headers": "Retry-After, X-Request-Id",
    }
    asked = anyone.preflight("null", "POST", ["POST"])
    assert asked is not None
    assert asked["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
    assert anyone.headers(None) == {}


@each_case(
    "origin",
    [
        "https://app.example.com/", "https://app.example.com/app", "https://app.example.com?x", "https://App.example.com",
        "HTTPS://app.example.com", "https://app.example.com:443", "http://app.example.com:80", "https://app.example.com:0",
        "https://app.example.com:", "https://app.example.com:70000", "https://me@app.example.com", "https://*.example.com",
        "app.example.com", "//app.example.com", "ftp://app.example.com", "null", "", "https://", "https://[", "https://é.fr",
        "https://a.example https://b.example", "https://a.example\r\nX: y", "https://a.example\n",
    ],
)  # fmt: skip
def test_origins_that_no_browser_sends_are_refused_at_the_start(origin: str) -> None:
    with pytest.raises(errors.UsageError, match="not an origin"):
        check_origin(origin)


def test_origins_as_browsers_send_them() -> None:
    for origin in (
        "https://app.example.com",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
        "https://xn--bcher-kva.example",
    ):
        assert check_origin(origin) == origin
    assert check_origin("https://*.example.com", patterns=True)
    with pytest.raises(errors.UsageError):
        check_origin("https://*.*.example.com", patterns=True)


@pytest.mark.parametrize("origins", [("https://app.example.com/",), ("*", "https://app.example.com")])
def test_the_command_refuses_them(origins: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    given = [word for origin in origins for word in ("--cors-origin", origin)]
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--bucket", "s3://b", "--endpoint-url", "http://127.0.0.1:1", *given])
    assert ended.value.code == errors.EXIT_USAGE
    assert "origin" in capsys.readouterr().err
