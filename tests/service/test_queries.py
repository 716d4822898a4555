"""The queries of requests: a misspelt parameter must not widen what is listed or deleted."""

from __future__ import annotations

import httpx
import pytest

from bigupload.service.http.endpoints import ENDPOINTS, Endpoint, document
from tests.service.test_attacks import PHOTO
from tests.tools.cases import each_case
from tests.tools.service import Service

DOCUMENT = document()


def asked(service: Service, endpoint: Endpoint, query: str) -> httpx.Response:
    path = endpoint.path.replace("{key}", f"media/{'o' * 8}/a.jpg")
    body = {} if not endpoint.has_body else {"json": endpoint.example}
    return service.call(endpoint.method, f"{path}?{query}", **body)


@each_case("endpoint", ENDPOINTS)
def test_an_unknown_parameter_is_refused_with_those_that_are_known(service: Service, endpoint: Endpoint) -> None:
    operation = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]
    known = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    for query in ("usr=u-17", "usr=u-17&upload=x", "usr", "usr=1&usr=2"):
        response = asked(service, endpoint, query)
        assert response.status_code == 400
        error = response.json()["error"]
        assert (error["code"], error["field"]) == ("invalid_query", "usr")
        assert "usr" in error["message"]
        assert error["message"].endswith(f"only {', '.join(known)}" if known else "none")


@each_case("endpoint", ENDPOINTS)
def test_a_query_that_is_not_utf_8_is_refused(service: Service, endpoint: Endpoint) -> None:
    for query in ("user=%ff", "upload=%ED%A0%80", "%C3", "cursor=%c3%28"):
        response = asked(service, endpoint, query)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_query")
        assert "UTF-8" in response.json()["error"]["message"]


def test_names_of_the_path_are_not_of_the_query(service: Service) -> None:
    response = service.call("DELETE", "/v1/media/media/local/a.jpg?key=media/local/b.jpg")
    assert (response.status_code, response.json()["error"]["field"]) == (400, "key")


def test_who_has_no_key_learns_that_first(service: Service) -> None:
    assert httpx.get(f"{service.url}/v1/media?usr=x", trust_env=False).status_code == 401


def test_a_long_name_is_repeated_in_part(service: Service) -> None:
    error = service.call("POST", f"/v1/media/presign?{'x' * 5000}", json=PHOTO).json()["error"]
    assert error["field"] == "x" * 100
    assert len(error["message"]) < 300


@pytest.mark.parametrize(
    "path", ["/", "/page/app.js", "/client/index.js", "/v1/client.js", "/openapi.json", "/healthz"]
)
def test_files_take_any_query(service: Service, path: str) -> None:
    """Caches are passed by with one: `app.js?v=2`."""
    assert httpx.get(f"{service.url}{path}?v=2&utm=%ff", trust_env=False).status_code == 200
