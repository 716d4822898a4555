"""Declare every endpoint once: its request, its response and its errors. Requests are validated with these
declarations, and the OpenAPI document is generated from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

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
    """The name of the handler, and of the operation in the OpenAPI document."""
    method: str
    path: str
    summary: str
    takes: type[BaseModel] | None = None
    """The model of the body; None: the query names the upload."""
    max_bytes: int = 64 * _KIB
    """The longest body, in bytes."""
    returns: type[BaseModel] | None = None
    """The model of the response; None: 204, or for posts the response of the posts API."""
    problems: tuple[Problem, ...] = ()
    """The errors besides those of every endpoint."""
    example: dict[str, Any] = field(default_factory=dict)

    @property
    def common_problems(self) -> tuple[Problem, ...]:
        """The errors of any request of this shape."""
        always = (Problem.MISSING_KEY, Problem.INVALID_KEY, Problem.RATE_LIMITED, Problem.INTERNAL)
        with_body = (Problem.INVALID_JSON, Problem.BODY_TOO_LARGE, Problem.UNSUPPORTED_CONTENT_TYPE)
        return (*always, Problem.INVALID_FIELD, *(with_body if self.takes is not None else ()))


_STORE = (Problem.STORE_REFUSED, Problem.STORE_UNAVAILABLE, Problem.CREDENTIALS_EXPIRING)
_HANDLE = (Problem.INVALID_UPLOAD, Problem.NOT_YOUR_UPLOAD, Problem.UPLOAD_EXPIRED)
_CONTENT = (
    Problem.UNSUPPORTED_MEDIA,
    Problem.NOT_MEDIA,
    Problem.FILE_TOO_LARGE,
    Problem.SIZE_MISMATCH,
    Problem.UNSUPPORTED_HEADERS,
)

ENDPOINTS = (
    Endpoint(
        name="presign",
        method="POST",
        path="/v1/media/presign",
        summary="Sign one PUT of a whole file",
        takes=c.PresignRequest,
        returns=c.PresignResponse,
        problems=(Problem.UNSUPPORTED_MEDIA, Problem.FILE_TOO_LARGE, *_STORE),
        example={"filename": "photo.jpg", "contentType": "image/jpeg"},
    ),
    Endpoint(
        name="create",
        method="POST",
        path="/v1/media/multipart",
        summary="Create a multipart upload",
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
        method="POST",
        path="/v1/media/multipart/parts",
        summary="Sign parts of a multipart upload",
        takes=c.SignRequest,
        returns=c.SignResponse,
        problems=(Problem.WRONG_PART, Problem.MISSING_CHECKSUM, *_HANDLE, *_STORE),
        example={
            "upload": _EXAMPLE_HANDLE,
            "parts": [{"partNumber": 2, "size": 3_222_784, "checksum": "mDmyBmPrBjU="}],
        },
    ),
    Endpoint(
        name="list",
        method="GET",
        path="/v1/media/multipart/parts",
        summary="List the parts that the store has",
        returns=c.PartsResponse,
        problems=(Problem.UPLOAD_GONE, *_HANDLE, *_STORE),
    ),
    Endpoint(
        name="status",
        method="GET",
        path="/v1/media/multipart",
        summary="Get the state of an upload: open, completed or gone",
        returns=c.StatusResponse,
        problems=(*_HANDLE, *_STORE),
    ),
    Endpoint(
        name="complete",
        method="POST",
        path="/v1/media/multipart/complete",
        summary="Complete the upload: make the object of its parts",
        takes=c.CompleteRequest,
        max_bytes=4096 * _KIB,  # ten thousand parts
        returns=c.CompleteResponse,
        problems=(
            Problem.WRONG_PART,
            Problem.MISSING_CHECKSUM,
            Problem.PART_NOT_STORED,
            Problem.CHECKSUM_MISMATCH,
            Problem.UPLOAD_GONE,
            *_CONTENT,
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
        method="DELETE",
        path="/v1/media/multipart",
        summary="Abort a multipart upload",
        problems=(*_HANDLE, *_STORE),
    ),
    Endpoint(
        name="check",
        method="POST",
        path="/v1/media/check",
        summary="Check whether a URL can be used directly",
        takes=c.CheckRequest,
        returns=c.CheckResponse,
        example={"url": "https://cdn.example.com/movie.mp4"},
    ),
    Endpoint(
        name="post",
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
        example=_EXAMPLE_POST,
    ),
)
