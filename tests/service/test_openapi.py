"""The OpenAPI document: sound, complete, and kept by the running service."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import httpx
import jsonschema

from bigupload.service.access import handles
from bigupload.service.http import endpoints
from bigupload.service.http.endpoints import ENDPOINTS, document
from bigupload.service.media import media_types
from bigupload.service.problems import Problem
from bigupload.service.uploads import posts, uploads
from bigupload.service.webhooks.hooks import Signer, new_secret
from bigupload.service.webhooks.telling import BODIES
from tests.tools.service import Service

DOCUMENT = document()
OPERATIONS = [
    (path, method, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]


def test_it_is_openapi_3_1() -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator

    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert DOCUMENT["openapi"].startswith("3.1.")


def test_the_service_shows_it_to_anyone(service: Service) -> None:
    response = httpx.get(f"{service.url}/openapi.json", trust_env=False)
    assert response.headers["Content-Type"].partition(";")[0] == "application/json"
    assert response.json() == DOCUMENT


def test_every_endpoint_is_in_it() -> None:
    listed = {(method.upper(), path) for path, method, _ in OPERATIONS}
    assert listed == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}


def test_every_webhook_is_in_it() -> None:
    """`tests/service/webhooks` compares each event that is sent with its schema."""
    assert list(DOCUMENT["webhooks"]) == list(BODIES)
    for kind, item in DOCUMENT["webhooks"].items():
        reference = item["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        body = DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]
        assert body["properties"]["type"]["const"] == kind
        signed = {parameter["name"] for parameter in item["post"]["parameters"]}
        sent = Signer([new_secret()]).headers("evt_1", b"", 0.0)
        assert signed == {name for name in sent if name.startswith("webhook-")}


def test_operations_have_names_that_read_well_in_a_client_and_a_group() -> None:
    ids = [operation["operationId"] for *_, operation in OPERATIONS]
    assert len(set(ids)) == len(ENDPOINTS)
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name) for name in ids), ids
    assert "createPresignedUpload" in ids
    described = {tag["name"] for tag in DOCUMENT["tags"]}
    assert {tag for *_, operation in OPERATIONS for tag in operation["tags"]} == described


def test_a_field_that_may_be_left_out_is_optional_in_clients() -> None:
    """Generators of clients, as openapi-typescript, take a field with a default as one that must be sent."""
    optional = 0
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert "default" not in described, (name, field)
            optional += field not in schema.get("required", [])
    assert optional > 10
    assert DOCUMENT["components"]["schemas"]["PresignRequest"]["required"] == ["filename", "contentType"]


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
    declared = {problem for endpoint in ENDPOINTS for problem in endpoint.problems}
    below_endpoints = {Problem.MALFORMED_REQUEST, Problem.TOO_MANY_CONNECTIONS}
    of_no_endpoint = {Problem.NOT_FOUND, Problem.METHOD_NOT_ALLOWED} | below_endpoints
    assert declared == set(Problem) - of_no_endpoint
    groups = {"every", "body", "keys", "judged", "upload", "user"}
    assert groups.union(endpoint.work.__name__ for endpoint in ENDPOINTS) >= {
        place for problem in Problem for place in problem.at
    }
    for module in (handles, media_types, posts, uploads, endpoints):
        named = set(re.findall(r"Problem\.([A-Z_]+)", inspect.getsource(module)))
        assert {Problem[name] for name in named} <= declared


def test_no_response_lists_a_code_twice_or_under_another_status() -> None:
    for endpoint in ENDPOINTS:
        problems = endpoint.problems
        assert len(problems) == len(set(problems)), endpoint.work.__name__
    for *_, operation in OPERATIONS:
        for status, response in operation["responses"].items():
            for code in response.get("content", {}).get("application/json", {}).get("examples", {}):
                assert Problem[code.upper()].status == int(status)


def test_every_meaning_fits_into_a_table() -> None:
    assert all("|" not in problem.meaning for problem in Problem)
