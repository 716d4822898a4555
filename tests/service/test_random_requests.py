"""Requests made up at random from the OpenAPI document: the running service keeps to it, whatever it is asked.

Making them up takes seconds and happens when this file is imported, so that the fast suite leaves it out (conftest.py).
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi import checks

from bigupload.service.contract import ErrorResponse
from bigupload.service.http.endpoints import document
from bigupload.service.problems import Problem
from tests.service.test_multipart import PART
from tests.tools.http_stub import HttpStub, Response
from tests.tools.media import sample
from tests.tools.service import Service

pytestmark = pytest.mark.slow

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
    document(),
    config=schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": REJECTIONS}}}),
)


@pytest.fixture
def welcoming(posts_api: HttpStub) -> HttpStub:
    """A posts API that is always content, and a picture beside it."""
    posts_api.responses["/v1/posts"] = Response(status=201, headers={"Content-Type": "application/json"}, body=b"{}")
    posts_api.responses["/a.jpg"] = Response(headers={"Content-Type": "image/jpeg"}, body=sample("jpg"))
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
    # In the case itself: its check of a rejection would take a header added by `call` for one that is missing.
    case.headers["Authorization"] = f"Bearer {posting.key}"
    response = case.call(base_url=posting.url, timeout=60)
    wanted = CHECKS if known else [*CHECKS, checks.negative_data_rejection]
    if b"invalid_query" in response.content:  # DELETE of a key that ends in /url is another path's operation
        wanted = [check for check in wanted if check is not checks.unsupported_method]
    case.validate_response(response, checks=wanted)
    if response.status_code >= 400:
        error = ErrorResponse.model_validate_json(response.content).error
        assert Problem[error.code.upper()].status == response.status_code
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
