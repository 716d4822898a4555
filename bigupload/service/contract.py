"""The requests and responses of the service, each declared once: requests are validated by it, OpenAPI is made of it.

Field names are the published API's (camelCase); docstrings become the document's descriptions. Sizes are in bytes,
times in seconds. Unknown fields are ignored, so that a newer client can use an older service.
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
"""Seconds: 7 days. A handle is valid as long: so long may an upload take."""
MAX_PARTS_PER_CALL = 100
MAX_HANDLE_LENGTH = 4096
"""Characters."""
_MAX_SIZE = 2**63 - 1
"""The largest number that every program can hold."""


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, strict=True, frozen=True, use_attribute_docstrings=True
    )


Filename = Annotated[str, Field(min_length=1, max_length=1024, examples=["photo.jpg"])]
ContentType = Annotated[str, Field(min_length=1, max_length=100, examples=["image/jpeg"])]
FileSize = Annotated[int, Field(ge=1, le=_MAX_SIZE, examples=[1_073_741_824])]
Handle = Annotated[str, Field(min_length=1, max_length=MAX_HANDLE_LENGTH, examples=["WzEsIm93bmVyMTIzIi…"])]
PartNumber = Annotated[int, Field(ge=1, le=10_000, examples=[1])]
Base64 = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9+/]+={0,2}$", examples=["mDmyBmPrBjU="])]
UploadChecksum = Literal["crc64nvme", "crc32c", "sha256", "md5", "none"]


class PresignRequest(_Model):
    """Sign one PUT of a whole file."""

    filename: Filename
    """Original filename with extension."""
    content_type: ContentType
    """MIME type. It must match the extension and the file's first bytes. The PUT must carry it as its Content-Type."""
    size: FileSize | None = None
    """Bytes. If given, it is part of the signature: the store refuses a PUT of another size."""


class PresignResponse(_Model):
    """PUT the file's bytes to `uploadUrl` with the same Content-Type. Then the file is at `publicUrl`."""

    upload_url: str
    public_url: str
    key: Annotated[str, Field(examples=["media/owner123/abc123.jpg"])]
    expires_in: Annotated[int, Field(examples=[URL_LIFETIME])]
    """Seconds for which `uploadUrl` is valid."""


class PartToSign(_Model):
    """A part to be sent."""

    part_number: PartNumber
    size: Annotated[int, Field(ge=0, le=_MAX_SIZE)]
    """Bytes. It must match the upload's part size, or the rest of the file for the last part."""
    checksum: Base64 | None = None
    """The part's checksum by the upload's `checksumAlgorithm`, base64. It is part of the signature."""
    md5: Base64 | None = None
    """The part's Content-MD5, base64, for stores that ignore checksums. It is part of the signature."""


class SignedPart(_Model):
    """PUT the part's bytes to `url`, with exactly these headers. The URL is a secret until it expires."""

    part_number: PartNumber
    url: str
    headers: dict[str, str]


class CreateRequest(_Model):
    """Create a multipart upload. The client divides the file into parts, and names their size."""

    filename: Filename
    content_type: ContentType
    size: FileSize
    """Bytes of the whole file."""
    checksum_algorithm: UploadChecksum = "crc64nvme"
    """`crc64nvme` and `crc32c` prove the whole object, `sha256` the parts' hashes; `md5` and `none` declare nothing."""
    part_size: Annotated[int, Field(ge=1, le=_MAX_SIZE)] | None = None
    """Bytes of every part but the last. If left out, the service chooses."""
    first_parts: Annotated[list[PartToSign], Field(max_length=MAX_PARTS_PER_CALL)] = []
    """Parts to sign with this call, so that a small upload needs no other call before its bytes."""
    head: Annotated[str, Field(max_length=8192, pattern=r"^[A-Za-z0-9+/]*={0,2}$")] | None = None
    """The file's first bytes (up to 4,096), base64. A file that is not of the declared type is then refused at once."""
    token: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    """A random token of the client, kept in the object's metadata, by which the client recognises its object."""


class CreateResponse(_Model):
    """The upload is open."""

    upload: Handle
    """The upload's handle for all further calls. Opaque, and useless without an API key of the same owner."""
    key: str
    public_url: str
    part_size: int
    parts: int
    checksum_algorithm: UploadChecksum
    signed: list[SignedPart]
    """One for each of `firstParts`, in their order."""
    expires_in: int
    """Seconds for which the signed URLs are valid."""


class SignRequest(_Model):
    """Sign parts of an upload."""

    upload: Handle
    parts: Annotated[list[PartToSign], Field(min_length=1, max_length=MAX_PARTS_PER_CALL)]


class SignResponse(_Model):
    """The signed parts, in the order of the request."""

    signed: list[SignedPart]
    expires_in: int


class StoredPart(_Model):
    """A part that the store has. A store may list a part number twice."""

    part_number: int
    size: int
    etag: str
    checksum: str | None = None


class PartsResponse(_Model):
    """The parts that the store has of an upload."""

    parts: list[StoredPart]


class CompletedPart(_Model):
    """A part that was sent, and the ETag of the response to its PUT."""

    part_number: PartNumber
    etag: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[ -~]+$")]
    checksum: Base64 | None = None


class CompleteRequest(_Model):
    """Make the object of the parts that were sent."""

    upload: Handle
    parts: Annotated[list[CompletedPart], Field(min_length=1, max_length=10_000)]
    checksum: Annotated[str, Field(max_length=80)] | None = None
    """The object's checksum, base64 (a composite one with its "-N"). If left out, the parts' checksums make it."""


class CompleteResponse(_Model):
    """The object exists and is of the declared media type. The fields are what the store holds."""

    public_url: str
    key: str
    size: int
    checksum: str | None
    """The object's checksum, as the store reports it; null if it reports none."""
    checksum_algorithm: UploadChecksum | None = None
    """The algorithm of `checksum`."""
    checksum_type: Literal["FULL_OBJECT", "COMPOSITE"] | None = None
    etag: str
    token: str | None = None


class UploadStatus(enum.StrEnum):
    """The state of an upload."""

    OPEN = "open"
    COMPLETED = "completed"
    GONE = "gone"


class ErrorDetail(_Model):
    """What went wrong."""

    code: str
    """For programs. It never changes."""
    message: str
    """One line for people."""
    field: str | None = None
    """The field of the request that is wrong, like `parts[0].size`."""


class ErrorResponse(_Model):
    """The body of every refusal."""

    error: ErrorDetail


class StatusResponse(_Model):
    """The state of an upload: with the response of complete if it completed, with the error if complete refused it."""

    status: UploadStatus
    completed: CompleteResponse | None = None
    error: ErrorDetail | None = None


class CheckRequest(_Model):
    """Check whether a URL can be used as a media item."""

    url: Annotated[str, Field(min_length=1, max_length=4096, examples=["https://cdn.example.com/movie.mp4"])]


class CheckResponse(_Model):
    """Whether the URL can be used directly, and which rule it breaks if not."""

    usable: bool
    url: str
    """The URL after all redirects, without its query."""
    content_type: str | None = None
    type: Literal["image", "video"] | None = None
    size: int | None = None
    """Bytes, if the host reports the size."""
    error: ErrorDetail | None = None


class MediaItem(_Model):
    """A media item of a post: an upload's publicUrl, or a direct URL."""

    type: Literal["image", "video", "gif"]
    url: Annotated[str, Field(min_length=1, max_length=4096)]


class PostRequest(BaseModel):
    """A post. Only `mediaItems` is checked. The posts API gets the body, with immutable URLs of the uploads."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", populate_by_name=True, alias_generator=to_camel)

    media_items: Annotated[list[MediaItem], Field(max_length=35)] = []
    """Eight are checked at a time. With 35 of the slowest hosts, that takes less than a minute."""
