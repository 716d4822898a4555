"""Declare every endpoint once: its request, its response and its errors. Requests are validated with these
declarations, and the OpenAPI 3.1 document is generated from them, `contract` and `problems`."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from dataclasses import field
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from bigupload import __version__
from bigupload.records import dataclass
from bigupload.service import contract as c
from bigupload.service.access.upload_tokens import (
    MeRequest,
    MeResponse,
    RevokedResponse,
    RevokeRequest,
    TokenRequest,
    TokenResponse,
)
from bigupload.service.problems import Problem
from bigupload.service.webhooks.telling import BODIES

_KIB = 1024
_EXAMPLE_HANDLE = "WzEsIm93bmVyMTIzIi…"
_EXAMPLE_POST = {
    "content": "Check out this photo!",
    "mediaItems": [{"type": "image", "url": "https://media.example.com/media/owner123/abc123.jpg"}],
    "platforms": [{"platform": "instagram", "accountId": "ig_123"}],
    "publishNow": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path of the API."""

    name: str
    """The name of the handler."""
    operation_id: str
    """The operation's name in the OpenAPI document, and of the function in clients that are made of it."""
    tag: str
    """One of `TAGS`."""
    method: str
    path: str
    summary: str
    takes: type[BaseModel] | None = None
    """The model of the body; None: no body."""
    parameters: type[BaseModel] | None = None
    """The model of the path's and the query's parameters; None: there are none."""
    max_bytes: int = 64 * _KIB
    """The longest body, in bytes."""
    returns: type[BaseModel] | None = None
    """The model of the response; None: 204, or for posts the response of the posts API."""
    groups: tuple[str, ...] = ("store",)
    """The groups of `Problem` to which it belongs, besides `every`, `body` and `keys`."""
    tokens: bool = False
    """Whether an upload token is accepted in place of an API key."""
    public: bool = False
    """Whether it needs neither an API key nor a token, and its response may be kept for 5 minutes."""
    waits_for_store: bool = True
    """Whether the whole request may be given up when the store stops responding."""
    example: dict[str, Any] = field(default_factory=dict)

    @property
    def query(self) -> tuple[str, ...]:
        """The names that the query may have."""
        fields = {} if self.parameters is None else self.parameters.model_fields
        names = (described.alias or name for name, described in fields.items())
        return tuple(name for name in names if f"{{{name}}}" not in self.path)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The errors that it may give."""
        if self.public:
            return (Problem.INVALID_QUERY, Problem.INTERNAL)
        body = () if self.takes is None else ("body",)
        keys = () if self.tokens else ("keys",)
        return tuple(p for p in Problem if not p.at.isdisjoint((self.name, "every", *body, *keys, *self.groups)))


_SINGLE = "uploads"
_TOKENS = "upload tokens"
_MULTIPART = "multipart uploads"
_FILES = "files"
_POSTING = "posts"
_RECEIPTS = "receipts"
_CREDENTIALS = "credentials"
TAGS = {
    _SINGLE: "Upload a file by one PUT.",
    _MULTIPART: "Upload a large file in parts, and resume it.",
    _FILES: "List and delete what was uploaded.",
    _POSTING: "Use media in a post.",
    _TOKENS: "Let end users upload without an API key.",
    _RECEIPTS: "Trust what a client says that it has uploaded.",
    _CREDENTIALS: "Find out whose a key or token is.",
}
"""The groups of endpoints in the OpenAPI document, each with its description."""

ENDPOINTS = (
    Endpoint(
        name="presign",
        operation_id="createPresignedUpload",
        tag=_SINGLE,
        method="POST",
        path="/v1/media/presign",
        summary="Sign one PUT of a whole file",
        tokens=True,
        takes=c.PresignRequest,
        returns=c.PresignResponse,
        example={"filename": "photo.jpg", "contentType": "image/jpeg"},
    ),
    Endpoint(
        name="create",
        operation_id="createMultipartUpload",
        tag=_MULTIPART,
        method="POST",
        path="/v1/media/multipart",
        summary="Create a multipart upload",
        tokens=True,
        takes=c.CreateRequest,
        returns=c.CreateResponse,
        example={
            "filename": "movie.mp4",
            "contentType": "video/mp4",
            "size": 20_000_000,
            "firstParts": [{"partNumber": 1, "size": 16_777_216, "checksum": "mDmyBmPrBjU="}],
        },
    ),
    Endpoint(
        name="sign",
        operation_id="signParts",
        tag=_MULTIPART,
        method="POST",
        path="/v1/media/multipart/parts",
        summary="Sign parts of a multipart upload",
        groups=("handle", "store"),
        tokens=True,
        takes=c.SignRequest,
        returns=c.SignResponse,
        example={
            "upload": _EXAMPLE_HANDLE,
            "parts": [{"partNumber": 2, "size": 3_222_784, "checksum": "mDmyBmPrBjU="}],
        },
    ),
    Endpoint(
        name="list",
        operation_id="listParts",
        tag=_MULTIPART,
        method="GET",
        path="/v1/media/multipart/parts",
        summary="List the parts that the store has",
        groups=("handle", "store"),
        tokens=True,
        parameters=c.UploadQuery,
        returns=c.PartsResponse,
    ),
    Endpoint(
        name="status",
        operation_id="getMultipartUpload",
        tag=_MULTIPART,
        method="GET",
        path="/v1/media/multipart",
        summary="Get the state of an upload: open, completed or gone",
        groups=("handle", "store"),
        tokens=True,
        parameters=c.UploadQuery,
        returns=c.StatusResponse,
    ),
    Endpoint(
        name="complete",
        operation_id="completeMultipartUpload",
        tag=_MULTIPART,
        method="POST",
        path="/v1/media/multipart/complete",
        summary="Complete the upload: make the object of its parts",
        groups=("handle", "judged", "store"),
        tokens=True,
        takes=c.CompleteRequest,
        max_bytes=4096 * _KIB,  # ten thousand parts
        returns=c.CompleteResponse,
        example={
            "upload": _EXAMPLE_HANDLE,
            "parts": [{"partNumber": 1, "etag": '"9e107d9d372bb6826bd81d3542a419d6"', "checksum": "mDmyBmPrBjU="}],
        },
    ),
    Endpoint(
        name="abort",
        operation_id="abortMultipartUpload",
        tag=_MULTIPART,
        method="DELETE",
        path="/v1/media/multipart",
        summary="Abort a multipart upload",
        groups=("handle", "store"),
        tokens=True,
        parameters=c.UploadQuery,
    ),
    Endpoint(
        name="files",
        operation_id="listMedia",
        tag=_FILES,
        method="GET",
        path="/v1/media",
        summary="List one's own files",
        parameters=c.ListRequest,
        returns=c.ListResponse,
    ),
    Endpoint(
        name="delete",
        operation_id="deleteMedia",
        tag=_FILES,
        method="DELETE",
        path="/v1/media/{key}",
        summary="Delete one of one's own files; deleting a missing file succeeds",
        parameters=c.DeleteRequest,
    ),
    Endpoint(
        name="delete_many",
        operation_id="deleteManyMedia",
        tag=_FILES,
        method="POST",
        path="/v1/media/delete",
        summary="Delete many of one's own files, or all of an end user",
        takes=c.DeleteManyRequest,
        max_bytes=1280 * _KIB,  # a thousand of the longest keys
        returns=c.DeletedResponse,
        example={"keys": ["media/owner123/abc123.jpg", "media/owner123/def456.mp4"]},
    ),
    Endpoint(
        name="read_url",
        operation_id="signReadUrl",
        tag=_FILES,
        method="GET",
        path="/v1/media/{key}/url",
        summary="Sign a URL by which one of one's own files can be read",
        parameters=c.ReadUrlRequest,
        returns=c.ReadUrlResponse,
    ),
    Endpoint(
        name="open_uploads",
        operation_id="listOpenUploads",
        tag=_FILES,
        method="GET",
        path="/v1/media/uploads",
        summary="List the owner's open uploads",
        parameters=c.OpenUploadsRequest,
        returns=c.OpenUploadsResponse,
    ),
    Endpoint(
        name="abort_all",
        operation_id="abortOpenUploads",
        tag=_FILES,
        method="DELETE",
        path="/v1/media/uploads",
        summary="Abort the open upload of a key, or all of an end user",
        parameters=c.AbortRequest,
        returns=c.AbortedResponse,
    ),
    Endpoint(
        name="check",
        operation_id="checkMediaUrl",
        tag=_POSTING,
        method="POST",
        path="/v1/media/check",
        summary="Check whether a URL can be used: that of an upload, or of another host",
        tokens=True,
        takes=c.CheckRequest,
        returns=c.CheckResponse,
        waits_for_store=False,
        example={"url": "https://cdn.example.com/movie.mp4"},
    ),
    Endpoint(
        name="mint",
        operation_id="createUploadToken",
        tag=_TOKENS,
        method="POST",
        path="/v1/media/tokens",
        summary="Make an upload token for an end user",
        takes=TokenRequest,
        returns=TokenResponse,
        example={"maxSize": 100_000_000, "contentTypes": ["image/*", "video/mp4"], "uploads": 1, "expiresIn": 3600},
    ),
    Endpoint(
        name="revoke",
        operation_id="revokeUploadTokens",
        tag=_TOKENS,
        method="DELETE",
        path="/v1/media/tokens",
        summary="Revoke upload tokens: by id, by end user, or by the time of issue",
        parameters=RevokeRequest,
        returns=RevokedResponse,
    ),
    Endpoint(
        name="me",
        operation_id="checkCredentials",
        tag=_CREDENTIALS,
        method="GET",
        path="/v1/me",
        summary="Say for whom requests with this API key or upload token act",
        tokens=True,
        parameters=MeRequest,
        returns=MeResponse,
        waits_for_store=False,
    ),
    Endpoint(
        name="jwks",
        operation_id="getReceiptKeys",
        tag=_RECEIPTS,
        method="GET",
        path="/.well-known/jwks.json",
        summary="Get the public keys that verify receipts",
        groups=(),
        public=True,
        returns=c.JsonWebKeys,
        waits_for_store=False,
    ),
    Endpoint(
        name="post",
        operation_id="createPost",
        tag=_POSTING,
        method="POST",
        path="/v1/posts",
        summary="Check a post's media, forward the post to the posts API and return its response",
        groups=("judged", "store"),
        takes=c.PostRequest,
        max_bytes=1024 * _KIB,
        waits_for_store=False,  # once the post is forwarded, only the posts API's response has its outcome
        example=_EXAMPLE_POST,
    ),
)


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
    if endpoint.parameters is not None:
        operation["parameters"] = _parameters(endpoint.parameters, endpoint.query)
    operation["responses"] = _success(endpoint) | _refusals(endpoint.problems)
    return operation


def _webhook(kind: str, body: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI operation of the event that a receiver of `--webhook-url` gets."""
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


def _parameters(model: type[BaseModel], query: Collection[str]) -> list[dict[str, Any]]:
    """Return the parameters that a model declares. Those that the query does not have are the path's."""
    schema = model.model_json_schema(schema_generator=_Schemas)
    parameters = []
    for name, described in schema["properties"].items():
        text = described.pop("description", "")
        # A parameter that is left out is not null.
        [only] = [each for each in described.pop("anyOf", [{}]) if each.get("type") != "null"]
        parameters.append(
            {
                "name": name,
                "in": "query" if name in query else "path",
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
