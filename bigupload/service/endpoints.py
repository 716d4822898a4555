"""Declare every endpoint once: its request, its response and its errors. Requests are validated with these
declarations, and the OpenAPI document is generated from them."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from pydantic import BaseModel

from bigupload.records import dataclass
from bigupload.service import contract as c
from bigupload.service.problems import Problem

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
    """One method of one path that needs an API key."""

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
    """The model of the body; None: there is none."""
    parameters: type[BaseModel] | None = None
    """Without a body: the model of the path's and the query's parameters; None: the query names the upload."""
    max_bytes: int = 64 * _KIB
    """The longest body, in bytes."""
    returns: type[BaseModel] | None = None
    """The model of the response; None: 204, or for posts the response of the posts API."""
    problems: tuple[Problem, ...] = ()
    """The errors besides those of every endpoint."""
    tokens: bool = False
    """Whether an upload token is accepted in place of an API key."""
    waits_for_store: bool = True
    """Whether the whole request may be given up when the store stops responding."""
    example: dict[str, Any] = field(default_factory=dict)

    @property
    def common_problems(self) -> tuple[Problem, ...]:
        """The errors of any request of this shape."""
        key = (
            Problem.MISSING_KEY,
            Problem.INVALID_KEY,
            Problem.INVALID_TOKEN,
            Problem.TOKEN_EXPIRED,
            Problem.NOT_ALLOWED,
        )
        no_token = () if self.tokens else (Problem.TOKEN_NOT_ALLOWED,)
        always = (*key, *no_token, Problem.RATE_LIMITED, Problem.INTERNAL)
        with_body = (Problem.INVALID_JSON, Problem.BODY_TOO_LARGE, Problem.UNSUPPORTED_CONTENT_TYPE)
        return (*always, Problem.INVALID_FIELD, *(with_body if self.takes is not None else ()))


_SINGLE = "uploads"
_TOKENS = "upload tokens"
_MULTIPART = "multipart uploads"
_FILES = "files"
_POSTING = "posts"
_CREDENTIALS = "credentials"
TAGS = {
    _SINGLE: "Upload a file by one PUT.",
    _MULTIPART: "Upload a large file in parts, and resume it.",
    _FILES: "List and delete what was uploaded.",
    _POSTING: "Use media in a post.",
    _TOKENS: "Let end users upload without an API key.",
    _CREDENTIALS: "Find out whose a key or token is.",
}
"""The groups of endpoints in the OpenAPI document, each with its description."""

_STORE = (Problem.STORE_REFUSED, Problem.STORE_UNAVAILABLE, Problem.CREDENTIALS_EXPIRING)
_HANDLE = (Problem.INVALID_UPLOAD, Problem.NOT_YOUR_UPLOAD, Problem.UPLOAD_EXPIRED)
_LIMITS = (Problem.TOKEN_SIZE_EXCEEDED, Problem.TOKEN_TYPE_REFUSED)
_COUNTED = (Problem.TOKEN_USED_UP, Problem.UPLOADS_NOT_COUNTED)
_ASKED = (Problem.UPLOAD_REFUSED, Problem.CHECK_FAILED)
_CONTENT = (
    Problem.UNSUPPORTED_MEDIA,
    Problem.NOT_MEDIA,
    Problem.FILE_TOO_LARGE,
    Problem.SIZE_MISMATCH,
    Problem.UNSUPPORTED_HEADERS,
    Problem.FILE_REFUSED,
    Problem.CHECK_FAILED,
)

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
        problems=(
            Problem.UNSUPPORTED_MEDIA,
            Problem.FILE_TOO_LARGE,
            Problem.QUOTA_EXCEEDED,
            *_ASKED,
            *_LIMITS,
            *_COUNTED,
            *_STORE,
        ),
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
        problems=(
            Problem.UNSUPPORTED_MEDIA,
            Problem.NOT_MEDIA,
            Problem.FILE_TOO_LARGE,
            Problem.UNSUPPORTED_PART_SIZE,
            Problem.UNSUPPORTED_CHECKSUM,
            Problem.WRONG_PART,
            Problem.MISSING_CHECKSUM,
            Problem.TOO_MANY_UPLOADS,
            Problem.QUOTA_EXCEEDED,
            *_ASKED,
            *_LIMITS,
            *_COUNTED,
            *_STORE,
        ),
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
        tokens=True,
        takes=c.SignRequest,
        returns=c.SignResponse,
        problems=(Problem.WRONG_PART, Problem.MISSING_CHECKSUM, *_LIMITS, *_HANDLE, *_STORE),
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
        tokens=True,
        returns=c.PartsResponse,
        problems=(Problem.UPLOAD_GONE, *_HANDLE, *_STORE),
    ),
    Endpoint(
        name="status",
        operation_id="getMultipartUpload",
        tag=_MULTIPART,
        method="GET",
        path="/v1/media/multipart",
        summary="Get the state of an upload: open, completed or gone",
        tokens=True,
        returns=c.StatusResponse,
        problems=(Problem.CHECK_FAILED, *_HANDLE, *_STORE),
    ),
    Endpoint(
        name="complete",
        operation_id="completeMultipartUpload",
        tag=_MULTIPART,
        method="POST",
        path="/v1/media/multipart/complete",
        summary="Complete the upload: make the object of its parts",
        tokens=True,
        takes=c.CompleteRequest,
        max_bytes=4096 * _KIB,  # ten thousand parts
        returns=c.CompleteResponse,
        problems=(
            Problem.WRONG_PART,
            Problem.MISSING_CHECKSUM,
            Problem.PART_NOT_STORED,
            Problem.CHECKSUM_MISMATCH,
            Problem.UPLOAD_GONE,
            Problem.QUOTA_EXCEEDED,
            *_CONTENT,
            *_LIMITS,
            *_HANDLE,
            *_STORE,
        ),
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
        tokens=True,
        problems=(*_HANDLE, *_STORE),
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
        problems=_STORE,
    ),
    Endpoint(
        name="delete",
        operation_id="deleteMedia",
        tag=_FILES,
        method="DELETE",
        path="/v1/media/{key}",
        summary="Delete one of one's own files; one that is gone is no error",
        parameters=c.DeleteRequest,
        problems=(Problem.NO_SUCH_MEDIA, *_STORE),
    ),
    Endpoint(
        name="check",
        operation_id="checkMediaUrl",
        tag=_POSTING,
        method="POST",
        path="/v1/media/check",
        summary="Check whether a URL can be used directly",
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
        takes=c.TokenRequest,
        returns=c.TokenResponse,
        problems=(Problem.UNSUPPORTED_MEDIA, Problem.UPLOADS_NOT_COUNTED, *_STORE),
        example={"maxSize": 100_000_000, "contentTypes": ["image/*", "video/mp4"], "uploads": 1, "expiresIn": 3600},
    ),
    Endpoint(
        name="me",
        operation_id="checkCredentials",
        tag=_CREDENTIALS,
        method="GET",
        path="/v1/me",
        summary="Say for whom requests with this API key or upload token act",
        tokens=True,
        parameters=c.MeRequest,
        returns=c.MeResponse,
        waits_for_store=False,
    ),
    Endpoint(
        name="post",
        operation_id="createPost",
        tag=_POSTING,
        method="POST",
        path="/v1/posts",
        summary="Check a post's media, forward the post to the posts API and return its response",
        takes=c.PostRequest,
        max_bytes=1024 * _KIB,
        problems=(
            Problem.MEDIA_NOT_FOUND,
            Problem.MEDIA_UNUSABLE,
            Problem.POSTS_NOT_CONFIGURED,
            Problem.POSTS_UNREACHABLE,
            *_CONTENT,
            *_STORE,
        ),
        waits_for_store=False,  # once the post is forwarded, only the posts API's response says what became of it
        example=_EXAMPLE_POST,
    ),
)
