"""The OpenAPI document: sound, complete, and kept by the running service, also towards requests made up at random."""

from __future__ import annotations

import inspect
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi import checks

from bigupload.service import client_parts, endpoints, handles, media, posts, uploads
from bigupload.service.contract import ErrorAnswer
from bigupload.service.endpoints import ENDPOINTS
from bigupload.service.openapi import document
from bigupload.service.problems import Problem
from tests.service.test_multipart import PART
from tests.tools.errors_page import page
from tests.tools.http_stub import Answer, HttpStub
from tests.tools.media import sample
from tests.tools.service import Service

DOCUMENT = document()
OPERATIONS = [
    (path, method, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]


def test_it_is_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert DOCUMENT["openapi"].startswith("3.1.")


def test_the_service_shows_it_to_anyone(service: Service) -> None:
    answer = httpx.get(f"{service.url}/openapi.json", trust_env=False)
    assert answer.headers["Content-Type"].partition(";")[0] == "application/json"
    assert answer.json() == DOCUMENT


def test_every_endpoint_is_in_it() -> None:
    listed = {(method.upper(), path) for path, method, _ in OPERATIONS}
    assert listed == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    assert len({operation["operationId"] for *_, operation in OPERATIONS}) == len(ENDPOINTS)


def test_the_examples_are_valid() -> None:
    """By the schemas that they stand beside."""
    validated = 0
    for *_, operation in OPERATIONS:
        if "requestBody" in operation:
            validated += _validate(operation["requestBody"]["content"]["application/json"])
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                validated += _validate(content)
    assert validated > len(OPERATIONS)


def _validate(content: Mapping[str, Any]) -> int:
    """How many there were. Raises for one that is not as its schema says."""
    schema = dict(content.get("schema", {})) | {"components": DOCUMENT["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    given = [content["example"]] if "example" in content else []
    examples = [*given, *(shown["value"] for shown in content.get("examples", {}).values())]
    for example in examples:
        validator.validate(example)
    return len(examples)


def test_every_field_is_documented_in_the_published_spelling() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema.get("description"), name
        for field in schema.get("properties", {}):
            assert re.fullmatch(r"[a-z][A-Za-z0-9]*", field), (name, field)


def test_every_code_is_declared_where_it_can_come_from() -> None:
    """All that the modules name; `what_is_wrong` holds the log of each service that tests run against the same."""
    declared = {problem for endpoint in ENDPOINTS for problem in (*endpoint.common_problems, *endpoint.problems)}
    of_no_endpoint = {Problem.NOT_FOUND, Problem.METHOD_NOT_ALLOWED}
    assert declared == set(Problem) - of_no_endpoint
    for module in (handles, media, client_parts, posts, uploads, endpoints):
        named = set(re.findall(r"Problem\.([A-Z_]+)", inspect.getsource(module)))
        assert {Problem[name] for name in named} <= declared


def test_no_response_lists_a_code_twice_or_under_another_status() -> None:
    for endpoint in ENDPOINTS:
        problems = [*endpoint.common_problems, *endpoint.problems]
        assert len(problems) == len(set(problems)), endpoint.name
    for *_, operation in OPERATIONS:
        for status, response in operation["responses"].items():
            for code in response.get("content", {}).get("application/json", {}).get("examples", {}):
                assert Problem[code.upper()].status == int(status)


def test_the_docs_have_every_code() -> None:
    """If not: python -m tests.tools.errors_page > docs/errors.md"""
    committed = Path(__file__).parents[2].joinpath("docs", "errors.md").read_text()
    assert committed == page()
    assert all(f"| `{problem.code}` | {problem.status} | " in committed for problem in Problem)
    assert all("|" not in problem.meaning for problem in Problem)


# -- requests at random

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]
# By default 413 is no rejection; but a list of one item too many may come as a body of one byte too many.
REJECTIONS = sorted({problem.status for problem in Problem if problem.status < 500})
_schema = schemathesis.openapi.from_dict(
    DOCUMENT,
    config=schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": REJECTIONS}}}),
)


@pytest.fixture
def welcoming(posts_api: HttpStub) -> HttpStub:
    """A posts API that is always content, and a picture beside it."""
    posts_api.answers["/v1/posts"] = Answer(status=201, headers={"Content-Type": "application/json"}, body=b"{}")
    posts_api.answers["/a.jpg"] = Answer(headers={"Content-Type": "image/jpeg"}, body=sample("jpg"))
    return posts_api


@_schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_requests_at_random(case: schemathesis.Case, posting: Service, welcoming: HttpStub) -> None:
    """Valid and invalid ones. Into some is put what no generator could guess."""
    welcoming.received.clear()
    dice = zlib.crc32(repr((case.body, case.query)).encode("utf-8", "surrogatepass"))
    known = {word for bit, word in enumerate(("upload", "media", "part")) if dice >> bit & 1}
    if "upload" in known and isinstance(case.query, dict) and "upload" in case.query:
        case.query["upload"] = _fresh_upload(posting)
    if isinstance(case.body, dict):
        case.body = _with_known(case.body, known, posting)
    case.body = _at_home(case.body, f"{welcoming.url}/a.jpg")
    answer = case.call(base_url=posting.url, headers={"Authorization": f"Bearer {posting.key}"}, timeout=60)
    case.validate_response(answer, checks=CHECKS if known else [*CHECKS, checks.negative_data_rejection])
    if answer.status_code >= 400:
        error = ErrorAnswer.model_validate_json(answer.content).error
        assert Problem[error.code.upper()].status == answer.status_code
        assert not any(word in error.message for word in ("Traceback", "pydantic", "botocore", "Input tag"))


def _fresh_upload(service: Service) -> str:
    body = {"filename": "a.mp4", "contentType": "video/mp4", "size": 2 * PART, "partSize": PART}
    return str(service.call("POST", "/v1/media/multipart", json=body).json()["upload"])


def _with_known(body: dict[str, Any], known: set[str], service: Service) -> dict[str, Any]:
    body = dict(body)
    if "upload" in known and "upload" in body:
        body["upload"] = _fresh_upload(service)
    if "media" in known and isinstance(body.get("filename"), str) and isinstance(body.get("contentType"), str):
        body |= {"filename": "a.mp4", "contentType": "video/mp4"}
    if "part" in known:
        for field in ("parts", "firstParts"):
            if isinstance(body.get(field), list):
                good = {"partNumber": 1, "size": PART, "checksum": "AAAAAAAAAAA=", "etag": '"x"'}
                body[field] = [part | good if isinstance(part, dict) else part for part in body[field]]
    return body


def _at_home(value: Any, url: str) -> Any:
    """No test looks up a name, or connects to anything but this machine."""
    if isinstance(value, dict):
        return {name: _at_home(each, url) for name, each in value.items()}
    if isinstance(value, list):
        return [_at_home(each, url) for each in value]
    return url if isinstance(value, str) and re.match(r"\s*https?:", value, re.IGNORECASE) else value
