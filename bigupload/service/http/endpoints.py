"""Every endpoint once: its request, its response, its errors and its work. Requests are validated with these
declarations, and the OpenAPI 3.1 document is generated from them, `contract` and `problems`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, get_type_hints

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from bigupload import __version__
from bigupload.records import dataclass
from bigupload.service import contract as c
from bigupload.service.access.callers import Caller
from bigupload.service.access.upload_tokens import (
    MeRequest,
    MeResponse,
    RevokedResponse,
    RevokeRequest,
    TokenRequest,
    TokenResponse,
)
from bigupload.service.http.opening import OpenService
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.posts import PostResponse
from bigupload.service.webhooks.telling import BODIES

_KIB = 1024
_EXAMPLE_HANDLE = "WzEsIm93bmVyMTIzIi…"
_EXAMPLE_POST = {
    "content": "Check out this photo!",
    "mediaItems": [{"type": "image", "url": "https://media.example.com/media/owner123/abc123.jpg"}],
    "platforms": [{"platform": "instagram", "accountId": "ig_123"}],
    "publishNow": True,
}
TAGS = {
    "uploads": "Upload a file by one PUT.",
    "multipart uploads": "Upload a large file in parts, and resume it.",
    "files": "List and delete what was uploaded.",
    "posts": "Use media in a post.",
    "upload tokens": "Let end users upload without an API key.",
    "receipts": "Trust what a client says that it has uploaded.",
    "credentials": "Find out whose a key or token is.",
}
"""The groups of endpoints in the OpenAPI document, each with its description."""

Work = Callable[..., Coroutine[Any, Any, Any]]
"""Gets the service; unless the endpoint is public, the caller and the request; for a post, its body as it was sent.
Returns the response."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path of the API."""

    work: Work
    """Its name is the endpoint's in `problems`."""
    method: str
    path: str
    operation_id: str
    """The operation's name in the OpenAPI document, and of the function in clients that are made of it."""
    tag: str
    """One of `TAGS`."""
    takes: type[BaseModel] | None
    """The model of a POST's body, or of the path's and the query's parameters; None: there are none."""
    returns: type
    """The model of the response; of None, 204; for posts, the response of the posts API."""
    max_bytes: int = 64 * _KIB
    """The longest body, in bytes."""
    tokens: bool = False
    """Whether an upload token is accepted in place of an API key."""
    public: bool = False
    """Whether it needs neither an API key nor a token, and its response may be kept for 5 minutes."""
    judges: bool = False
    """Whether a stored file may be refused by it, and is deleted then."""
    waits_for_store: bool = True
    """Whether the whole request may be given up when the store stops responding."""
    example: dict[str, Any] = field(default_factory=dict)

    @property
    def has_body(self) -> bool:
        """Whether the request is its body."""
        return self.method == "POST"

    @property
    def query(self) -> tuple[str, ...]:
        """The names that the query may have."""
        if self.takes is None or self.has_body:
            return ()
        names = (described.alias or name for name, described in self.takes.model_fields.items())
        return tuple(name for name in names if f"{{{name}}}" not in self.path)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The errors that it may give."""
        if self.public:
            return (Problem.INVALID_QUERY, Problem.INTERNAL)
        fields = {} if self.takes is None else self.takes.model_fields
        groups = {
            "body": self.has_body,
            "keys": not self.tokens,
            "judged": self.judges,
            "upload": "upload" in fields,
            "user": "user" in fields,
        }
        places = {self.work.__name__, "every", *(name for name, belongs in groups.items() if belongs)}
        return tuple(problem for problem in Problem if problem.at & places)


ENDPOINTS: list[Endpoint] = []


def endpoint(at: str, operation_id: str, tag: str, **more: Any) -> Callable[[Work], Work]:
    """Declare a function as the work of an endpoint.

    Its annotations are the models of the request and the response, and its docstring is the summary in the document.

    Args:
        at: The method and the path. Parameters of the path are in braces.
        operation_id: As in `Endpoint`, like the tag.
        more: The other fields of `Endpoint`.
    """
    method, path = at.split()

    def declared(work: Work) -> Work:
        hints = get_type_hints(work)
        models = {"takes": hints.get("request"), "returns": hints["return"]}
        ENDPOINTS.append(Endpoint(work, method, path, operation_id, tag, **models, **more))
        return work

    return declared


@endpoint(
    "POST /v1/media/presign",
    "createPresignedUpload",
    "uploads",
    tokens=True,
    example={"filename": "photo.jpg", "contentType": "image/jpeg"},
)
async def presign(service: OpenService, caller: Caller, request: c.PresignRequest) -> c.PresignResponse:
    """Sign one PUT of a whole file."""
    return await service.uploads.presign(caller.owner, request, caller.token)


@endpoint(
    "POST /v1/media/multipart",
    "createMultipartUpload",
    "multipart uploads",
    tokens=True,
    example={
        "filename": "movie.mp4",
        "contentType": "video/mp4",
        "size": 20_000_000,
        "firstParts": [{"partNumber": 1, "size": 16_777_216, "checksum": "mDmyBmPrBjU="}],
    },
)
async def create(service: OpenService, caller: Caller, request: c.CreateRequest) -> c.CreateResponse:
    """Create a multipart upload."""
    return await service.uploads.create(caller.owner, request, caller.token)


@endpoint(
    "POST /v1/media/multipart/parts",
    "signParts",
    "multipart uploads",
    tokens=True,
    example={"upload": _EXAMPLE_HANDLE, "parts": [{"partNumber": 2, "size": 3_222_784, "checksum": "mDmyBmPrBjU="}]},
)
async def sign(service: OpenService, caller: Caller, request: c.SignRequest) -> c.SignResponse:
    """Sign parts of a multipart upload."""
    return await service.uploads.sign(caller.owner, request, caller.token, caller.bound)


@endpoint("GET /v1/media/multipart/parts", "listParts", "multipart uploads", tokens=True)
async def parts(service: OpenService, caller: Caller, request: c.UploadQuery) -> c.PartsResponse:
    """List the parts that the store has."""
    return await service.uploads.parts(caller.owner, request.upload, caller.bound)


@endpoint("GET /v1/media/multipart", "getMultipartUpload", "multipart uploads", tokens=True)
async def status(service: OpenService, caller: Caller, request: c.UploadQuery) -> c.StatusResponse:
    """Get the state of an upload: open, completed or gone."""
    return await service.uploads.status(caller.owner, request.upload, caller.bound)


@endpoint(
    "POST /v1/media/multipart/complete",
    "completeMultipartUpload",
    "multipart uploads",
    tokens=True,
    judges=True,
    max_bytes=4096 * _KIB,  # ten thousand parts
    example={
        "upload": _EXAMPLE_HANDLE,
        "parts": [{"partNumber": 1, "etag": '"9e107d9d372bb6826bd81d3542a419d6"', "checksum": "mDmyBmPrBjU="}],
    },
)
async def complete(service: OpenService, caller: Caller, request: c.CompleteRequest) -> c.CompleteResponse:
    """Complete the upload: make the object of its parts."""
    return await service.uploads.complete(caller.owner, request, caller.token, caller.bound)


@endpoint("DELETE /v1/media/multipart", "abortMultipartUpload", "multipart uploads", tokens=True)
async def abort(service: OpenService, caller: Caller, request: c.UploadQuery) -> None:
    """Abort a multipart upload."""
    await service.uploads.abort(caller.owner, request.upload, caller.bound)


@endpoint("GET /v1/media", "listMedia", "files")
async def files(service: OpenService, caller: Caller, request: c.ListRequest) -> c.ListResponse:
    """List one's own files."""
    return await service.uploads.files.list(caller.owner, request)


@endpoint("DELETE /v1/media/{key}", "deleteMedia", "files")
async def delete(service: OpenService, caller: Caller, request: c.DeleteRequest) -> None:
    """Delete one of one's own files; deleting a missing file succeeds."""
    await service.uploads.delete_file(caller.owner, request.key, request.user)


@endpoint(
    "POST /v1/media/delete",
    "deleteManyMedia",
    "files",
    max_bytes=1280 * _KIB,  # a thousand of the longest keys
    example={"keys": ["media/owner123/abc123.jpg", "media/owner123/def456.mp4"]},
)
async def delete_many(service: OpenService, caller: Caller, request: c.DeleteManyRequest) -> c.DeletedResponse:
    """Delete many of one's own files, or all of an end user."""
    return await service.uploads.delete_files(caller.owner, request)


@endpoint("GET /v1/media/{key}/url", "signReadUrl", "files")
async def read_url(service: OpenService, caller: Caller, request: c.ReadUrlRequest) -> c.ReadUrlResponse:
    """Sign a URL by which one of one's own files can be read."""
    return await service.uploads.files.read_url(caller.owner, request)


@endpoint("GET /v1/media/uploads", "listOpenUploads", "files")
async def open_uploads(service: OpenService, caller: Caller, request: c.OpenUploadsRequest) -> c.OpenUploadsResponse:
    """List the owner's open uploads."""
    return await service.uploads.files.open_uploads(caller.owner, request)


@endpoint("DELETE /v1/media/uploads", "abortOpenUploads", "files")
async def abort_all(service: OpenService, caller: Caller, request: c.AbortRequest) -> c.AbortedResponse:
    """Abort the open upload of a key, or all of an end user."""
    return await service.uploads.abort_all(caller.owner, request)


@endpoint(
    "POST /v1/media/check",
    "checkMediaUrl",
    "posts",
    tokens=True,
    waits_for_store=False,
    example={"url": "https://cdn.example.com/movie.mp4"},
)
async def check(service: OpenService, caller: Caller, request: c.CheckRequest) -> c.CheckResponse:
    """Check whether a URL can be used: that of an upload, or of another host."""
    return await service.posts.look(caller.owner, request.url, caller.bound)


@endpoint(
    "POST /v1/media/tokens",
    "createUploadToken",
    "upload tokens",
    example={"maxSize": 100_000_000, "contentTypes": ["image/*", "video/mp4"], "uploads": 1, "expiresIn": 3600},
)
async def mint(service: OpenService, caller: Caller, request: TokenRequest) -> TokenResponse:
    """Make an upload token for an end user."""
    for number, pattern in enumerate(request.content_types or ()):
        if not service.policy.types.allows(pattern):
            message = f"this service accepts no file of the content type {pattern}"
            raise Refused(Problem.UNSUPPORTED_MEDIA, message, field=f"contentTypes[{number}]")
    await service.uploads.counts.check_store(request)
    return service.tokens.mint(caller.owner, request, key_id=caller.key_id)


@endpoint("DELETE /v1/media/tokens", "revokeUploadTokens", "upload tokens")
async def revoke(service: OpenService, caller: Caller, request: RevokeRequest) -> RevokedResponse:
    """Revoke upload tokens: by id, by end user, or by the time of issue."""
    return await service.revocations.revoke(caller.owner, request)


@endpoint("GET /v1/me", "checkCredentials", "credentials", tokens=True, waits_for_store=False)
async def me(_: OpenService, caller: Caller, request: MeRequest) -> MeResponse:
    """Say for whom requests with this API key or upload token act."""
    token = caller.token
    if token is None:
        return MeResponse(owner=caller.owner, user=caller.user)
    limits = token.model_dump(include=set(MeResponse.model_fields) - {"owner"})
    return MeResponse(owner=caller.owner, expires_at=datetime.fromtimestamp(token.expires, UTC), **limits)


@endpoint("GET /.well-known/jwks.json", "getReceiptKeys", "receipts", public=True)
async def jwks(service: OpenService) -> c.JsonWebKeys:
    """Get the public keys that verify receipts."""
    return service.receipts.published


@endpoint(
    "POST /v1/posts",
    "createPost",
    "posts",
    judges=True,
    max_bytes=1024 * _KIB,
    waits_for_store=False,  # once the post is forwarded, only the posts API's response has its outcome
    example=_EXAMPLE_POST,
)
async def post(service: OpenService, caller: Caller, request: c.PostRequest, body: bytes) -> PostResponse:
    """Check a post's media, forward the post to the posts API and return its response."""
    return await service.posts.post(caller.owner, request, body, caller.bound)


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
    models = {endpoint.takes for endpoint in ENDPOINTS if endpoint.takes is not None and endpoint.has_body}
    models |= {endpoint.returns for endpoint in ENDPOINTS if issubclass(endpoint.returns, BaseModel)}
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
        "summary": (endpoint.work.__doc__ or "").rstrip("."),
        "tags": [endpoint.tag],
    }
    if endpoint.public:
        operation["security"] = []
    elif endpoint.tokens:
        operation["security"] = [{"apiKey": []}, {"uploadToken": []}]
    if endpoint.takes is not None and endpoint.has_body:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(endpoint.takes), "example": endpoint.example}},
        }
    elif endpoint.takes is not None:
        operation["parameters"] = _parameters(endpoint.takes, endpoint.query)
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
    if issubclass(endpoint.returns, BaseModel):
        content = {"application/json": {"schema": _ref(endpoint.returns)}}
        return {"200": {"description": _line(endpoint.returns), "headers": _REQUEST_ID, "content": content}}
    if endpoint.returns is PostResponse:
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
