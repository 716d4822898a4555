"""What the service takes and answers: one declaration each, by which requests are validated and OpenAPI is written.

Field names are the published API's (camelCase); docstrings and descriptions are what the document shows. Sizes are
bytes, times seconds. Unknown fields are ignored, so that a newer client can speak to an older service.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from bigupload.service.media import HEAD_BYTES as HEAD_BYTES
from bigupload.service.media import MAX_FILE_SIZE as MAX_FILE_SIZE

URL_LIFETIME = 3600
"""Seconds: 1 hour."""
STORED_FOR = 7 * 24 * 3600
"""Seconds: 7 days. A handle lives as long: so long may an upload be under way."""
MOST_PARTS_A_CALL = 100
MOST_HANDLE = 4096
"""Characters."""
_MOST = 2**63 - 1
"""What no size passes, and what every program can hold."""


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, strict=True, frozen=True, use_attribute_docstrings=True
    )


Filename = Annotated[str, Field(min_length=1, max_length=1024, examples=["photo.jpg"])]
ContentType = Annotated[str, Field(min_length=1, max_length=100, examples=["image/jpeg"])]
FileSize = Annotated[int, Field(ge=1, le=_MOST, examples=[1_073_741_824])]
Handle = Annotated[str, Field(min_length=1, max_length=MOST_HANDLE, examples=["WzEsIm93bmVyMTIzIi…"])]
PartNumber = Annotated[int, Field(ge=1, le=10_000, examples=[1])]
Base64 = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9+/]+={0,2}$", examples=["mDmyBmPrBjU="])]
UploadChecksum = Literal["crc64nvme", "crc32c", "sha256", "md5", "none"]


class PresignRequest(_Model):
    """A single PUT is to be signed."""

    filename: Filename
    """Original filename with extension."""
    content_type: ContentType
    """MIME type, as the extension and the file's first bytes say it. The PUT must carry it."""
    size: FileSize | None = None
    """Bytes. Where given, it is bound into the URL: a PUT of any other size is refused by the store."""


class PresignAnswer(_Model):
    """PUT the file's bytes to `uploadUrl` with the same Content-Type; then it is at `publicUrl`."""

    upload_url: str
    public_url: str
    key: Annotated[str, Field(examples=["media/owner123/abc123.jpg"])]
    expires_in: Annotated[int, Field(examples=[URL_LIFETIME])]
    """Seconds that `uploadUrl` is valid."""


class PartToSign(_Model):
    """One part, as it will be sent."""

    part_number: PartNumber
    size: Annotated[int, Field(ge=0, le=_MOST)]
    """Bytes; must be the plan's."""
    checksum: Base64 | None = None
    """Of the upload's `checksumAlgorithm`, base64. Bound into the URL."""
    md5: Base64 | None = None
    """Content-MD5 beside the checksum, for stores that ignore checksums. Bound into the URL."""


class SignedPart(_Model):
    """PUT the part's bytes to `url`, with exactly these headers. The URL is a secret until it expires."""

    part_number: PartNumber
    url: str
    headers: dict[str, str]


class CreateRequest(_Model):
    """A multipart upload is to begin. The client cuts the file, and says how."""

    filename: Filename
    content_type: ContentType
    size: FileSize
    """Bytes of the whole file."""
    checksum_algorithm: UploadChecksum = "crc64nvme"
    """`crc64nvme` and `crc32c` prove the whole object, `sha256` the parts' hashes; `md5` and `none` declare nothing."""
    part_size: Annotated[int, Field(ge=1, le=_MOST)] | None = None
    """Bytes of every part but the last. Left out: the service's choice."""
    first_parts: Annotated[list[PartToSign], Field(max_length=MOST_PARTS_A_CALL)] = []
    """Parts to be signed at once, so that a small upload needs no further call before its bytes."""
    head: Annotated[str, Field(max_length=8192, pattern=r"^[A-Za-z0-9+/]*={0,2}$")] | None = None
    """The file's first bytes (up to 4,096), base64: what is not the declared media is refused before it is sent."""
    token: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    """The client's own random mark, kept in the object's metadata: by that it recognises its object again."""


class CreateAnswer(_Model):
    """The upload is open."""

    upload: Handle
    """Names the upload in all further calls. Opaque; worthless without an API key of the same owner."""
    key: str
    public_url: str
    part_size: int
    parts: int
    checksum_algorithm: UploadChecksum
    signed: list[SignedPart]
    """For each of `firstParts`, in order."""
    expires_in: int
    """Seconds that the signed URLs are valid."""


class SignRequest(_Model):
    """Parts are to be signed."""

    upload: Handle
    parts: Annotated[list[PartToSign], Field(min_length=1, max_length=MOST_PARTS_A_CALL)]


class SignAnswer(_Model):
    """Signed requests, in the order that was asked for."""

    signed: list[SignedPart]
    expires_in: int


class StoredPart(_Model):
    """A part that the store has. A store may list a number twice."""

    part_number: int
    size: int
    etag: str
    checksum: str | None = None


class PartsAnswer(_Model):
    """What the store has of an upload."""

    parts: list[StoredPart]


class CompletedPart(_Model):
    """A part that was sent, and the ETag that its PUT was answered with."""

    part_number: PartNumber
    etag: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[ -~]+$")]
    checksum: Base64 | None = None


class CompleteRequest(_Model):
    """All parts are there: make the object."""

    upload: Handle
    parts: Annotated[list[CompletedPart], Field(min_length=1, max_length=10_000)]
    checksum: Annotated[str, Field(max_length=80)] | None = None
    """The whole object's, base64 (a composite with its "-N"). Left out: the parts' make it."""


class CompleteAnswer(_Model):
    """The object is there, is the media that it claims to be, and this is what the store holds."""

    public_url: str
    key: str
    size: int
    checksum: str | None
    """The object's, as the store tells it; null where it tells none."""
    checksum_algorithm: UploadChecksum | None = None
    """Of `checksum`."""
    checksum_type: Literal["FULL_OBJECT", "COMPOSITE"] | None = None
    etag: str
    token: str | None = None


class UploadStatus(enum.StrEnum):
    """Where an upload is."""

    OPEN = "open"
    COMPLETED = "completed"
    GONE = "gone"


class ErrorDetail(_Model):
    """What went wrong."""

    code: str
    """Stable, for programs."""
    message: str
    """One line, for people."""
    field: str | None = None
    """The request's field that is meant."""


class ErrorAnswer(_Model):
    """Every refusal looks like this."""

    error: ErrorDetail


class StatusAnswer(_Model):
    """Where an upload is: the complete answer where it completed, the reason where it was refused at complete."""

    status: UploadStatus
    completed: CompleteAnswer | None = None
    error: ErrorDetail | None = None


class CheckRequest(_Model):
    """May this URL be used as a media item?"""

    url: Annotated[str, Field(min_length=1, max_length=4096, examples=["https://cdn.example.com/movie.mp4"])]


class CheckAnswer(_Model):
    """Whether the URL can be used directly, and which rule it breaks if not."""

    usable: bool
    url: str
    """Where the redirects ended, without its query."""
    content_type: str | None = None
    type: Literal["image", "video"] | None = None
    size: int | None = None
    """Bytes, where the host says."""
    error: ErrorDetail | None = None


class MediaItem(_Model):
    """One of a post's media: an upload's publicUrl, or a direct URL."""

    type: Literal["image", "video", "gif"]
    url: Annotated[str, Field(min_length=1, max_length=4096)]


class PostRequest(BaseModel):
    """A post. Only `mediaItems` is looked at; the body is handed on to the posts API as it came."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", populate_by_name=True, alias_generator=to_camel)

    media_items: Annotated[list[MediaItem], Field(max_length=35)] = []
    """Checked 8 at a time: so many that the slowest hosts take less than a minute."""
