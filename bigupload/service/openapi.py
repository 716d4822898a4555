"""Generate the OpenAPI 3.1 document from `endpoints`, `contract` and `problems`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from bigupload.service import contract as c
from bigupload.service.contract import BODIES
from bigupload.service.endpoints import ENDPOINTS, TAGS, Endpoint
from bigupload.service.problems import Problem
from bigupload.version import __version__

_REF = "#/components/schemas/{model}"
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_REQUEST_ID = {
    "X-Request-Id": {"description": "The id of the request's line in the service's log.", "schema": {"type": "string"}}
}

_SIGNED_HEADERS = {
    "webhook-id": "The event's id. It is the same in all attempts and duplicates.",
    "webhook-timestamp": "When this attempt was signed, in seconds since 1970.",
    "webhook-signature": "By each secret, as https://www.standardwebhooks.com says.",
}


class _Schemas(GenerateJsonSchema):
    """Pydantic's schemas without what spoils the clients that are made of them."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Leave out the default. Generators take a field that has one as always present, so that a caller must send it:
        https://openapi-ts.dev/cli#flags (`--default-non-nullable`)"""
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave out the titles that are made of fields' names ("Contenttype")."""
        return False


def document() -> dict[str, Any]:
    """Return the document. It names no server, because clients may reach the service through a proxy."""
    models = {model for e in ENDPOINTS for model in (e.takes, e.returns) if model is not None}
    models |= {c.ErrorResponse, c.ReceiptClaims, *BODIES.values()}
    ordered = sorted(models, key=lambda m: m.__name__)
    _, schemas = models_json_schema([(m, "validation") for m in ordered], ref_template=_REF, schema_generator=_Schemas)
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bigupload media service",
            "version": __version__,
            "description": "Upload media with an API key alone: the bytes go straight to the store.",
        },
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": paths,
        "webhooks": {kind: {"post": _webhook(kind, body)} for kind, body in BODIES.items()},
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "bearerFormat": "sk_…"},
                "uploadToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
        "security": [{"apiKey": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.operation_id,
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
    }
    if endpoint.public:
        operation["security"] = []
    elif endpoint.tokens:
        operation["security"] = [{"apiKey": []}, {"uploadToken": []}]
    if endpoint.takes is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(endpoint.takes), "example": endpoint.example}},
        }
    elif endpoint.parameters is not None:
        operation["parameters"] = _parameters(endpoint.parameters, endpoint.path)
    elif not endpoint.public:
        operation["parameters"] = [
            {
                "name": "upload",
                "in": "query",
                "required": True,
                "description": "The upload's handle.",
                "schema": {"type": "string", "minLength": 1, "maxLength": c.MAX_HANDLE_LENGTH},
            }
        ]
    operation["responses"] = _success(endpoint) | _refusals(endpoint.problems)
    return operation


def _webhook(kind: str, body: type[BaseModel]) -> dict[str, Any]:
    """Return what a receiver of `--webhook-url` is sent."""
    return {
        "operationId": "on" + "".join(word.title() for word in kind.split(".")),
        "summary": _line(body),
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in _SIGNED_HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(body)}}},
        "responses": {
            "204": {"description": "Received. Any 2xx says so; everything else is a failure, and tried again."},
            "410": {"description": "This receiver wants no more events."},
        },
    }


def _parameters(model: type[BaseModel], path: str) -> list[dict[str, Any]]:
    """Return the parameters that a model declares. Those that the path does not name are the query's."""
    schema = model.model_json_schema(schema_generator=_Schemas)
    parameters = []
    for name, described in schema["properties"].items():
        text = described.pop("description", "")
        # A parameter that is left out is no null.
        [only] = [each for each in described.pop("anyOf", [{}]) if each.get("type") != "null"]
        parameters.append(
            {
                "name": name,
                "in": "path" if f"{{{name}}}" in path else "query",
                "required": name in schema.get("required", ()),
                "description": text,
                "schema": only | described,
            }
        )
    return parameters


def _success(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.returns is not None:
        content = {"application/json": {"schema": _ref(endpoint.returns)}}
        return {"200": {"description": _line(endpoint.returns), "headers": _REQUEST_ID, "content": content}}
    if endpoint.name == "post":
        return {
            "default": {
                "description": "The response of the posts API.",
                "content": {"application/json": {"schema": {}}},
            }
        }
    return {"204": {"description": "Done.", "headers": _REQUEST_ID}}


def _refusals(problems: Iterable[Problem]) -> dict[str, Any]:
    """Return one response for each status, with an example for each of its codes."""
    ordered = sorted(problems, key=lambda problem: problem.status)
    responses: dict[str, Any] = {}
    for status, group in itertools.groupby(ordered, key=lambda problem: problem.status):
        examples = {p.code: {"value": {"error": {"code": p.code, "message": p.meaning}}} for p in group}
        responses[str(status)] = {
            "description": ", ".join(examples),
            "headers": _REQUEST_ID | (_RETRY_AFTER if status in (429, 503) else {}),
            "content": {"application/json": {"schema": _ref(c.ErrorResponse), "examples": examples}},
        }
    return responses


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip()
