"""Every refusal of the service: its stable code, its HTTP status and what it means, in one block.

The docs' table and the OpenAPI document are made from this. An answer is `{"error": {"code", "message", "field"?}}`;
`code` is for programs and never changes, `message` is one line for a person and says what to do.
"""

from __future__ import annotations

import enum
from typing import Any


class Problem(enum.Enum):
    """(HTTP status, what it means). The name in lower case is the code."""

    MALFORMED_REQUEST = 400, "This is not valid HTTP, or its first line or its headers are too long."
    INVALID_JSON = 400, "The body is not JSON, or not an object."
    INVALID_FIELD = 422, "A field is missing, of the wrong type or out of range; `field` names it."
    BODY_TOO_LARGE = 413, "The request's body is longer than the service reads."
    UNSUPPORTED_CONTENT_TYPE = 415, "The request's body must be application/json."
    NOT_FOUND = 404, "There is no such path."
    METHOD_NOT_ALLOWED = 405, "This path knows other methods; `Allow` names them."

    MISSING_KEY = 401, "No `Authorization: Bearer sk_…` header."
    INVALID_KEY = 401, "The API key is not known, or was revoked."
    RATE_LIMITED = 429, "Too many requests with this key; `Retry-After` says when to go on."
    TOO_MANY_UPLOADS = 429, "Too many uploads of this key's owner are open: complete or abort one."

    UNSUPPORTED_MEDIA = 422, "Neither this extension nor this content type is on the list, or the two disagree."
    NOT_MEDIA = 422, "The first bytes are not what the content type says; an object that was made is deleted."
    FILE_TOO_LARGE = 422, "The file is over the limit; an object that was made is deleted."
    SIZE_MISMATCH = 422, "The object has another size than was declared; it is deleted."
    UNSUPPORTED_HEADERS = 422, "The file was sent with a header that changes how it is served; the object is deleted."
    UNSUPPORTED_PART_SIZE = 422, "The store's limits do not allow this part size for this file."
    UNSUPPORTED_CHECKSUM = 422, "The store takes no checksums of this algorithm: use md5."
    WRONG_PART = 422, "A part's number or size is not the plan's, or it appears twice or not at all."
    MISSING_CHECKSUM = 422, "The upload's checksum algorithm wants a checksum with every part."

    INVALID_UPLOAD = 400, "The upload handle is none of this service's: forged, cut short or altered."
    NOT_YOUR_UPLOAD = 403, "The upload handle belongs to another owner."
    UPLOAD_EXPIRED = 410, "The upload handle has expired, and so has the upload: start a new one."
    UPLOAD_GONE = 404, "The store does not know the upload (any more): it was aborted, or its object deleted."
    PART_NOT_STORED = 409, "A part that complete names is not in the store like that: list the parts, send it again."
    CHECKSUM_MISMATCH = 409, "The parts do not make the checksum that complete names: hash the file again."

    MEDIA_NOT_FOUND = 422, "A media item is no upload of yours: never sent, deleted after 7 days, or another's."
    MEDIA_UNUSABLE = 422, "A media item's URL can't be used; the message says which rule it breaks."
    POSTS_NOT_CONFIGURED = 501, "This service was started without a posts API."
    POSTS_UNREACHABLE = 502, "The posts API did not answer."

    STORE_REFUSED = 502, "The store refused the service's request: its operator has to look."
    STORE_UNAVAILABLE = 503, "The store does not answer or asks to slow down; `Retry-After` says when to go on."
    CREDENTIALS_EXPIRING = 503, "The service's own credentials end before a URL would: try again soon."
    TOO_MANY_CONNECTIONS = 503, "The service has no room for another connection: try again soon."
    INTERNAL = 500, "A bug in the service."

    def __init__(self, status: int, meaning: str) -> None:
        self.status = status
        self.meaning = meaning

    @property
    def code(self) -> str:
        """What programs match on."""
        return self.name.lower()


class Refused(Exception):
    """A request is answered with a problem. `message` is one line that holds nothing secret."""

    def __init__(
        self,
        problem: Problem,
        message: str | None = None,
        *,
        field: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message or problem.meaning)
        self.problem = problem
        self.field = field
        self.retry_after = retry_after
        """Seconds."""

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        error = {"code": self.problem.code, "message": str(self)}
        if self.field is not None:
            error["field"] = self.field
        return {"error": error}
