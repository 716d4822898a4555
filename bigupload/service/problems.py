"""Every error of the service in one block: its stable code, its HTTP status and what it means.

docs/errors.md and the OpenAPI document are generated from it. The body of an error response is
`{"error": {"code", "message", "field"?}}`. `code` is for programs and never changes. `message` is one line for people
and says what to do.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from typing import Any


class Problem(enum.Enum):
    """Each row has the HTTP status, the meaning, and the endpoints that give it. Its name in lower case is the code.

    Endpoints are named as in `endpoints`, or by group: `every` one; those with a request `body`; those that take `keys`
    alone, and no tokens; those whose request has the field `upload` or `user`; and those by which a stored file is
    `judged`, and deleted if it has the problem. A client that has no row for a code goes by its status: 401 asks for
    another key, 422 refuses the file, and 429, 500 and 503 are temporary.
    """

    MALFORMED_REQUEST = (
        400,
        "The request is not valid HTTP, its method does not exist, or its first line or its headers are too long.",
        "",
    )
    INVALID_JSON = 400, "The body is not JSON, or not a JSON object.", "body"
    INVALID_QUERY = 400, "The query has a parameter that the endpoint does not know, or is not valid UTF-8."
    INVALID_FIELD = 422, "A field is missing, of the wrong type or out of range; `field` names it."
    BODY_TOO_LARGE = 413, "The request's body is too long.", "body"
    UNSUPPORTED_CONTENT_TYPE = 415, "The request's body must be application/json.", "body"
    NOT_FOUND = 404, "There is no such path.", ""
    METHOD_NOT_ALLOWED = 405, "This path does not support the method; `Allow` names the methods that it supports.", ""

    MISSING_KEY = 401, "No `Authorization: Bearer sk_…` header."
    INVALID_KEY = 401, "The API key is unknown or was revoked."
    INVALID_TOKEN = 401, "The upload token is forged, malformed, not valid yet, or was revoked, as its API key may be."
    TOKEN_EXPIRED = 401, "The upload token has expired: continue with a new one of the same owner."
    TOKEN_NOT_ALLOWED = 403, "An upload token is not accepted here: use an API key.", "keys"
    TOKEN_SIZE_EXCEEDED = 403, "The file is larger than the upload token allows.", "presign create sign complete"
    TOKEN_TYPE_REFUSED = 403, "The upload token does not allow this type of file.", "presign create sign complete"
    TOKEN_ORIGIN_REFUSED = 403, "This upload token is for pages of other origins."
    TOKEN_USED_UP = 403, "As many uploads were begun with this upload token as it allows.", "presign create"
    TOKEN_PUT_REFUSED = 403, "This upload token does not allow single PUTs: create a multipart upload.", "presign"
    UPLOADS_NOT_COUNTED = (
        501,
        "The store has no conditional writes, so a token's uploads cannot be counted.",
        "presign create mint",
    )
    NOT_ALLOWED = 403, "The application around the service does not allow this request."
    RATE_LIMITED = 429, "Too many requests with this key; `Retry-After` says when to try again."
    USER_NOT_ALLOWED = 403, "This upload token acts for another end user.", "user"
    TOO_MANY_UPLOADS = 429, "The owner of this key, or its end user, has too many open uploads.", "create"

    QUOTA_EXCEEDED = (
        403,
        "The owner's or the end user's files would have more bytes than the quota, or there would be too many.",
        "presign create complete",
    )

    UPLOAD_REFUSED = 403, "The service's operator does not allow this upload. The message says why.", "presign create"
    UNSUPPORTED_MEDIA = (
        422,
        "The extension or the content type is not on the list, or the two disagree.",
        "presign create mint judged",
    )
    NOT_MEDIA = (
        422,
        "The bytes do not match the content type, or are cut off. If an object was made, it is deleted.",
        "create judged",
    )
    FILE_TOO_LARGE = (
        422,
        "The file, or its number of pixels, is over the limit. If an object was made, it is deleted.",
        "presign create judged",
    )
    SIZE_MISMATCH = 422, "The object's size is not the declared size. The object is deleted.", "judged"
    UNSUPPORTED_HEADERS = (
        422,
        "The file was sent with a header that changes how it is served. The object is deleted.",
        "judged",
    )
    FILE_REFUSED = 422, "A check of the operator, like a virus scan, refused the file. The object is deleted.", "judged"
    UNSUPPORTED_PART_SIZE = 422, "The store's limits do not allow this part size for this file.", "create"
    UNSUPPORTED_CHECKSUM = 422, "The store does not support this checksum algorithm: use md5.", "create"
    WRONG_PART = (
        422,
        "A part's number or size differs from the plan, or a part is missing or named twice.",
        "create sign complete",
    )
    MISSING_CHECKSUM = 422, "The upload's checksum algorithm needs a checksum for every part.", "create sign complete"

    INVALID_UPLOAD = 400, "This service did not issue the upload handle: it is forged, cut short or altered.", "upload"
    NOT_YOUR_UPLOAD = 403, "The upload handle belongs to another owner, or to another end user.", "upload"
    UPLOAD_EXPIRED = 410, "The upload handle has expired, and so has the upload: start a new one.", "upload"
    UPLOAD_GONE = 404, "The store has no such upload: it was aborted, or its object was deleted.", "parts complete"
    PART_NOT_STORED = (
        409,
        "The store does not have a part as complete names it: list the parts and send it again.",
        "complete",
    )
    CHECKSUM_MISMATCH = (
        409,
        "The checksum of the parts is not the one that complete names: hash the file again.",
        "complete",
    )

    NO_SUCH_MEDIA = 404, "The key is not one of your files.", "delete delete_many abort_all read_url"

    MEDIA_NOT_FOUND = (
        422,
        "A media item is not your upload, was never sent, or was deleted (by default after 7 days).",
        "post",
    )
    MEDIA_UNUSABLE = 422, "A media item's URL cannot be used. The message says which rule it breaks.", "post"
    POSTS_NOT_CONFIGURED = 501, "This service was started without a posts API.", "post"
    POSTS_UNREACHABLE = 502, "The posts API did not respond.", "post"

    STORE_REFUSED = 502, "The store refused the service's request: inform the service's operator."
    STORE_UNAVAILABLE = 503, "The store does not respond or asks to slow down; `Retry-After` says when to try again."
    CHECK_FAILED = (
        503,
        "A check of the operator did not work. Nothing is lost; `Retry-After` says when to try again.",
        "presign create status complete check post",
    )
    CREDENTIALS_EXPIRING = 503, "The service's credentials expire before a new URL would: try again soon."
    TOO_MANY_CONNECTIONS = 503, "The service has too many connections: try again soon.", ""
    INTERNAL = 500, "A bug in the service."

    def __init__(self, status: int, meaning: str, at: str = "every") -> None:
        self.status = status
        self.meaning = meaning
        self.at = frozenset(at.split())

    @property
    def code(self) -> str:
        """The stable code, on which programs match."""
        return self.name.lower()


class Refused(Exception):
    """The request is answered with `problem`. `message` is one line and contains no secret."""

    def __init__(
        self,
        problem: Problem,
        message: str | None = None,
        *,
        field: str | None = None,
        retry_after: float | None = None,
        allow: Collection[str] = (),
    ) -> None:
        super().__init__(message or problem.meaning)
        self.problem = problem
        self.field = field
        self.retry_after = retry_after
        """Seconds."""
        self.allow = allow
        """The methods of the path, if the request has another one."""

    def to_json(self) -> dict[str, Any]:
        """Return the body of the response."""
        error = {"code": self.problem.code, "message": str(self)}
        if self.field is not None:
            error["field"] = self.field
        return {"error": error}


_WORDS = {
    "missing": "the field is missing",
    "extra_forbidden": "there is no such field",
    "string_type": "the field must be a text",
    "bool_type": "the field must be true or false",
    "bool_parsing": "the field must be true or false",
    "int_type": "the field must be a whole number",
    "int_parsing": "the field must be a whole number",
    "list_type": "the field must be a list",
    "dict_type": "the field must be an object",
    "model_type": "the field must be an object",
    "string_too_short": "the field must have {min_length:,} characters or more",
    "string_too_long": "the field must have {max_length:,} characters at most",
    "too_short": "the list must have {min_length:,} entries or more",
    "too_long": "there must be {max_length:,} entries at most",
    "greater_than_equal": "the number must be {ge:,} or more",
    "less_than_equal": "the number must be {le:,} at most",
    "literal_error": "the field must be {expected}",
    "string_pattern_mismatch": "the field is not written as it must be: the API's description shows how",
}
"""By the validator's type of error: https://docs.pydantic.dev/latest/errors/validation_errors/"""
_EMPTY_FILE = "the file is empty"


def words_for(error: Mapping[str, Any]) -> str:
    """Return one line for one of pydantic's `errors()`, which must have its context.

    The validator's own texts are for programmers.
    """
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "value_error":  # of a function in `contract`
        return str(context["error"])
    if kind == "greater_than_equal" and error["loc"] == ("size",):
        return _EMPTY_FILE
    if kind in ("string_too_short", "too_short") and context["min_length"] == 1:
        return "the field is empty" if kind == "string_too_short" else "the list is empty"
    words = _WORDS.get(kind)
    return "the field is wrong" if words is None else words.format_map(context)
