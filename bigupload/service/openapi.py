"""Generate the OpenAPI 3.1 document from `endpoints`, `contract` and `problems`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bigupload import __version__
from bigupload.service import contract as c
from bigupload.service.endpoints import ENDPOINTS, Endpoint
from bigupload.service.problems import Problem

_REF = "#/components/schemas/{model}"
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_REQUEST_ID = {
    "X-Request-Id": {"description": "The id of the request's line in the service's log.", "schema": {"type": "string"}}
}


def document() -> dict[str, Any]:
    """Return the document. It names no server, because clients may reach the service through a proxy."""
    models = {e.takes for e in ENDPOINTS} | {e.returns for e in ENDPOINTS} | {c.ErrorResponse}
    ordered = sorted((m for m in models if m is not None), key=lambda m: m.__name__)
    _, schemas = models_json_schema([(m, "validation") for m in ordered], ref_template=_REF)
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
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "bearerFormat": "sk_…"}},
        },
        "security": [{"apiKey": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": endpoint.name, "summary": endpoint.summary}
    if endpoint.takes is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(endpoint.takes), "example": endpoint.example}},
        }
    else:
        operation["parameters"] = [
            {
                "name": "upload",
                "in": "query",
                "required": True,
                "description": "The upload's handle.",
                "schema": {"type": "string", "minLength": 1, "maxLength": c.MAX_HANDLE_LENGTH},
            }
        ]
    operation["responses"] = _success(endpoint) | _refusals((*endpoint.common_problems, *endpoint.problems))
    return operation


def _success(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.returns is not None:
        content = {"application/json": {"schema": _ref(endpoint.returns)}}
        return {"200": {"description": _line(endpoint.returns), "headers": _REQUEST_ID, "content": content}}
    if endpoint.name == "post":
        return {"default": {"description": "The response of the posts API.", "content": {"*/*": {}}}}
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
