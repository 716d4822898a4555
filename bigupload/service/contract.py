"""The requests and responses of the service, each declared once: requests are validated by it, OpenAPI is made of it.
`webhooks/telling` has the events.

Field names are the published API's (camelCase); docstrings become the document's descriptions. Sizes are in bytes,
times in seconds. Unknown fields are ignored, so that a newer client can use an older service.
"""

from __future__ import annotations

import datetime
import enum
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic.alias_generators import to_camel

from bigupload.core.checksums import UploadChecksum
from bigupload.service.media.media_types import HEAD_BYTES as HEAD_BYTES
from bigupload.service.media.object_keys import is_user, why_not

URL_LIFETIME = 3600
"""Seconds: 1 hour."""
MAX_PARTS_PER_CALL = 100
MAX_HANDLE_LENGTH = 4096
"""Characters."""
MAX_SIZE = 2**63 - 1
"""The largest number that every program can hold."""


class Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, strict=True, frozen=True, use_attribute_docstrings=True
    )


def _check_user(name: str) -> str:
    if not is_user(name):
        raise ValueError("the name is too long, or has characters that can't be shown")
    return name


User = Annotated[str, Field(min_length=1, max_length=128, examples=["u-17"]), AfterValidator(_check_user)]
"""The name of an end user of an owner: an application's own id of a person. It is a part of keys and public URLs."""


def _time(given: object) -> object:
    """pydantic would take a number for seconds since 1970, and a date for its midnight."""
    if not isinstance(given, str):
        return given
    if not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", given):
        raise ValueError("give the time as 2026-11-29T00:00:00Z")
    return datetime.datetime.fromisoformat(given)


Time = Annotated[AwareDatetime, BeforeValidator(_time)]
"""A moment with its time zone, as `2026-11-29T00:00:00Z`: https://www.rfc-editor.org/rfc/rfc3339"""
Filename = Annotated[str, Field(min_length=1, max_length=1024, examples=["photo.jpg"])]
ContentType = Annotated[str, Field(min_length=1, max_length=100, examples=["image/jpeg"])]
FileSize = Annotated[int, Field(ge=1, le=MAX_SIZE, examples=[1_073_741_824])]
MediaKey = Annotated[str, Field(min_length=1, max_length=1024, examples=["media/owner123/abc123.jpg"])]
Handle = Annotated[str, Field(min_length=1, max_length=MAX_HANDLE_LENGTH, examples=["WzEsIm93bmVyMTIzIi…"])]
PartNumber = Annotated[int, Field(ge=1, le=10_000, examples=[1])]
Base64 = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9+/]+={0,2}$", examples=["mDmyBmPrBjU="])]


def _check_metadata(metadata: dict[str, str]) -> dict[str, str]:
    if (why := why_not(metadata)) is not None:
        raise ValueError(why)
    return metadata


MetadataName = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
MetadataValue = Annotated[str, Field(min_length=1, max_length=256)]
Metadata = Annotated[dict[MetadataName, MetadataValue], Field(max_length=16), AfterValidator(_check_metadata)]
"""Any text, without control characters. Whoever can read an object can read its metadata."""


def _check_tags(tags: dict[str, str]) -> dict[str, str]:
    if not all(re.fullmatch(r"[\w .:/=+@-]*", text) for row in tags.items() for text in row):
        raise ValueError("tags have letters, digits, spaces and . : / = + - _ @ alone")
    if any(name.lower().startswith("aws:") or name != name.strip() for name in tags):
        raise ValueError("names of tags do not begin with aws:, and have no spaces at their ends")
    return tags


TagName = Annotated[str, Field(min_length=1, max_length=128)]
TagValue = Annotated[str, Field(max_length=256)]
Tags = Annotated[dict[TagName, TagValue], Field(max_length=10), AfterValidator(_check_tags)]
"""Tags of S3, for the bucket's rules: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html"""


class UploadQuery(Model):
    """An upload of one's own."""

    upload: Handle
    """The upload's handle."""


class PresignRequest(Model):
    """Sign one PUT of a whole file."""

    filename: Filename
    """Original filename with extension."""
    content_type: ContentType
    """MIME type. It must match the extension and the file's first bytes. The PUT must carry it as its Content-Type."""
    size: FileSize | None = None
    """Bytes. If given, it is part of the signature: the store refuses a PUT of another size."""
    user: User | None = None
    """The end user whose file it will be. An API key may name any; an upload token names its own."""
    metadata: Metadata | None = None
    """Metadata of the object (`x-amz-meta-…`), beside that of the upload token. If it is given, even empty, the file's
    name is kept, too, and the response has `headers`, which the PUT must carry."""
    tags: Tags | None = None
    """Tags of the object. Only an API key may name them. The response has `headers` then, which the PUT must carry."""


class PresignResponse(Model):
    """PUT the file's bytes to `uploadUrl` with the same Content-Type. Then the file is at `publicUrl`."""

    upload_url: str
    public_url: str
    key: Annotated[str, Field(examples=["media/owner123/abc123.jpg"])]
    expires_in: Annotated[int, Field(examples=[URL_LIFETIME])]
    """Seconds for which `uploadUrl` is valid."""
    headers: dict[str, str] | None = None
    """Headers that the PUT must carry exactly. Left out if that is `contentType` alone, spelled as usual."""

    @model_serializer(mode="wrap")
    def _without_headers(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out empty `headers`: the published response has no such field."""
        return {name: value for name, value in serialize(self).items() if value is not None}


class PartToSign(Model):
    """A part to be sent."""

    part_number: PartNumber
    size: Annotated[int, Field(ge=0, le=MAX_SIZE)]
    """Bytes. It must match the upload's part size, or the rest of the file for the last part."""
    checksum: Base64 | None = None
    """The part's checksum by the upload's `checksumAlgorithm`, base64. It is part of the signature."""
    md5: Base64 | None = None
    """The part's Content-MD5, base64, for stores that ignore checksums. It is part of the signature."""


class SignedPart(Model):
    """PUT the part's bytes to `url`, with exactly these headers. The URL is a secret until it expires."""

    part_number: PartNumber
    url: str
    headers: dict[str, str]


class CreateRequest(Model):
    """Create a multipart upload. The client divides the file into parts, and names their size."""

    filename: Filename
    content_type: ContentType
    size: FileSize
    """Bytes of the whole file."""
    checksum_algorithm: UploadChecksum = "crc64nvme"
    """`crc64nvme` and `crc32c` prove the whole object, `sha256` the parts' hashes; `md5` and `none` declare nothing.
    Default: `crc64nvme`."""
    part_size: Annotated[int, Field(ge=1, le=MAX_SIZE)] | None = None
    """Bytes of every part but the last. If left out, the service chooses."""
    first_parts: Annotated[list[PartToSign], Field(max_length=MAX_PARTS_PER_CALL)] = []
    """Parts to sign with this call, so that a small upload needs no other call before its bytes."""
    head: Annotated[str, Field(max_length=8192, pattern=r"^[A-Za-z0-9+/]*={0,2}$")] | None = None
    """The file's first bytes (up to 4,096), base64. A file that is not of the declared type is then refused at once."""
    token: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    """A random token of the client, kept in the object's metadata, by which the client recognises its object."""
    user: User | None = None
    """The end user whose file it will be. An API key may name any; an upload token names its own."""
    metadata: Metadata | None = None
    """Metadata of the object (`x-amz-meta-…`), beside that of the upload token, which prevails."""
    tags: Tags | None = None
    """Tags of the object. Only an API key may name them."""


class CreateResponse(Model):
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


class SignRequest(Model):
    """Sign parts of an upload."""

    upload: Handle
    parts: Annotated[list[PartToSign], Field(min_length=1, max_length=MAX_PARTS_PER_CALL)]


class SignResponse(Model):
    """The signed parts, in the order of the request."""

    signed: list[SignedPart]
    expires_in: int


class StoredPart(Model):
    """A part that the store has. A store may list a part number twice."""

    part_number: int
    size: int
    etag: str
    checksum: str | None = None


class PartsResponse(Model):
    """The parts that the store has of an upload."""

    parts: list[StoredPart]


class CompletedPart(Model):
    """A part that was sent, and the ETag of the response to its PUT."""

    part_number: PartNumber
    etag: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[ -~]+$")]
    checksum: Base64 | None = None


class CompleteRequest(Model):
    """Make the object of the parts that were sent."""

    upload: Handle
    parts: Annotated[list[CompletedPart], Field(min_length=1, max_length=10_000)]
    checksum: Annotated[str, Field(max_length=80)] | None = None
    """The object's checksum, base64 (a composite one with its "-N"). If left out, the parts' checksums make it."""


class CompleteResponse(Model):
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
    receipt: str | None = None
    """The signed receipt, a JWT of `ReceiptClaims`: what an application trusts without asking. It expires."""


class ReceiptClaims(Model):
    """The claims of a receipt. Verify it with the keys of `/.well-known/jwks.json`: the algorithm is ES256, and the
    audience is your owner's name. Claims may be added."""

    aud: str
    """The owner."""
    iat: int
    """The time at which it was signed, in seconds since 1970."""
    exp: int
    """The time at which it expires: after 7 days, or when the file is deleted because of its age."""
    jti: str
    """The same in each receipt of the same object; of a file that was sent in parts, it is the `webhook-id` of its
    `media.completed`. Who must use a receipt only once remembers it."""
    key: str
    public_url: str
    user: str | None
    """The end user whose file it is; null: it was uploaded for nobody in particular."""
    version_id: str | None
    """The store's version of the object; null: the bucket keeps none."""
    etag: str
    size: int
    """Bytes."""
    content_type: str
    checksum: str | None
    """The store's checksum of the whole object, in base64; null: the store has none."""
    checksum_algorithm: str | None
    proof: str | None
    """`full-object` or `composite-checksum`: the store has compared `checksum` with the one that the client computed of
    the file. `size`: only the size was compared. null: the receipt is of a check or a post, which compare nothing."""
    metadata: dict[str, str]
    """From the upload token and the request."""
    tags: dict[str, str]
    """The tags of the object, as its API key or upload token named them."""
    filename: str | None
    """The file's own name; null: it was not kept."""


class JsonWebKey(Model):
    """A public key that verifies receipts: https://www.rfc-editor.org/rfc/rfc7517"""

    kty: Literal["EC"]
    crv: Literal["P-256"]
    x: str
    y: str
    kid: str
    """The receipts that it signed name it in their header."""
    use: Literal["sig"]
    alg: Literal["ES256"]


class JsonWebKeys(Model):
    """The keys that verify receipts, the one that signs first. They may be kept for 5 minutes; who meets an unknown
    `kid` asks again."""

    keys: list[JsonWebKey]


TypePattern = Annotated[
    str, Field(max_length=100, pattern=r"^[A-Za-z0-9!#$&^_.+-]+/(\*|[A-Za-z0-9!#$&^_.+-]+)$"), AfterValidator(str.lower)
]


class UploadStatus(enum.StrEnum):
    """The state of an upload."""

    OPEN = "open"
    COMPLETED = "completed"
    GONE = "gone"


class ErrorDetail(Model):
    """The error."""

    code: str
    """For programs. It never changes."""
    message: str
    """One line for people."""
    field: str | None = None
    """The field of the request that is wrong, like `parts[0].size`."""


class ErrorResponse(Model):
    """The body of every refusal."""

    error: ErrorDetail


class StatusResponse(Model):
    """The state of an upload: with the response of complete if it completed, with the error if complete refused it."""

    status: UploadStatus
    completed: CompleteResponse | None = None
    error: ErrorDetail | None = None
    """The reason why it is gone, if the file was refused."""


class ListRequest(Model):
    """The page of your own files to list."""

    limit: Annotated[int, Field(ge=1, le=1000, examples=[100])] = 100
    """The most files of the page. Default: 100."""
    cursor: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    """`nextCursor` of the page before; left out for the first page."""
    user: User | None = None
    """The end user whose files to list; left out: those of all."""
    details: bool = False
    """Whether to ask the store for each file's content type, name and metadata."""
    content_type: TypePattern | None = None
    """Only files of this content type, also as `image/*`. Asks the store for each file."""
    metadata: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*(=.*)?$", max_length=512)] | None = None
    """Only files with this name in their metadata, as `album`, or with this value, as `album=a-3`. As above."""
    stored_after: Time | None = None
    """Only files that the store got at this time or later, as `2026-11-29T00:00:00Z`."""
    stored_before: Time | None = None
    """Only files that the store got before this time."""
    prefix: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Only files whose keys begin so, as `media/owner123/2026/11/`."""
    sort: Literal["key", "storedAt", "-storedAt", "size", "-size"] = "key"
    """The order: by key (the default), by time, the newest first, by size, the largest first. Other orders than that of
    the keys read the whole list for each page, and are refused above 10,000 files: name a user or a prefix."""


class DeleteManyRequest(Model):
    """Your own files to delete: those of some keys, or all of an end user."""

    keys: Annotated[list[MediaKey], Field(min_length=1, max_length=1000)] | None = None
    """The files' `key`s. If one of them can't be yours, nothing is deleted."""
    user: User | None = None
    """The end user whose files to delete, a thousand at a time. With `keys`: whose files they must be."""


class DeletedResponse(Model):
    """The files are deleted, or were gone already."""

    deleted: int
    more: bool
    """Whether the end user has more files: then repeat the request."""


class DeleteRequest(Model):
    """The file of yours to delete."""

    key: Annotated[str, Field(min_length=1, max_length=1024, examples=["media/owner123/abc123.jpg"])]
    """The file's `key`. Its slashes may be sent as they are."""
    user: User | None = None
    """The end user whose file it must be; left out: any of the owner's."""


class ReadUrlRequest(Model):
    """The file of yours to read."""

    key: Annotated[str, Field(min_length=1, max_length=1024, examples=["media/owner123/abc123.jpg"])]
    """The file's `key`. Its slashes may be sent as they are."""
    expires_in: Annotated[int, Field(ge=1, le=URL_LIFETIME, examples=[300])] = 300
    """Seconds for which the URL is valid. Default: 300."""
    download: bool = False
    """Whether browsers save the file, by its own name if it was kept, instead of showing it."""
    user: User | None = None
    """The end user whose file it must be; left out: any of the owner's."""


class ReadUrlResponse(Model):
    """GET the file from `url`, in ranges if you like. The URL is a secret until it expires."""

    url: str
    expires_in: int
    """Seconds."""


class StoredMedia(Model):
    """A file that the store has. It may not have been checked yet."""

    key: Annotated[str, Field(examples=["media/owner123/abc123.jpg"])]
    public_url: str
    user: str | None
    """The end user whose file it is; null: it was uploaded for nobody in particular."""
    size: int
    """Bytes."""
    stored_at: datetime.datetime
    """The time at which the store got it; for a multipart upload, some stores report the time at which it began."""
    expires_at: datetime.datetime | None
    """The time at which it will be deleted; null: never."""
    content_type: str | None = None
    """With `details`: as the store serves it."""
    filename: str | None = None
    """With `details`: the file's own name, if it was kept."""
    metadata: dict[str, str] | None = None
    """With `details`: that of the upload token and the request."""
    tags: dict[str, str] | None = None
    """With `details`: those of the object."""


class ListResponse(Model):
    """A page of files, in the order of `sort`."""

    media: list[StoredMedia]
    """There may be fewer than `limit`, even none, before the last page."""
    next_cursor: str | None
    """The `cursor` of the next page; null on the last one."""


class OpenUploadsRequest(Model):
    """The page of open uploads to list."""

    limit: Annotated[int, Field(ge=1, le=1000, examples=[100])] = 100
    """The most uploads of the page. Default: 100."""
    cursor: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """`nextCursor` of the page before; left out for the first page."""
    user: User | None = None
    """The end user whose uploads to list; left out: those of all."""


class ListedUpload(Model):
    """A multipart upload that was begun, and is neither complete nor aborted."""

    key: str
    """The key that its file will have."""
    user: str | None
    """The end user whose file it is; null: it is for nobody in particular."""
    started_at: datetime.datetime
    expires_at: datetime.datetime
    """The time at which the sweep aborts it."""


class OpenUploadsResponse(Model):
    """A page of open uploads."""

    uploads: list[ListedUpload]
    next_cursor: str | None
    """The `cursor` of the next page; null on the last one."""


class AbortRequest(Model):
    """The open uploads to abort: the one of a key, or all of an end user."""

    key: Annotated[str, Field(min_length=1, max_length=1024, examples=["media/owner123/abc123.mp4"])] | None = None
    """The `key` of an open upload."""
    user: User | None = None
    """The end user whose uploads to abort. With `key`: whose upload it must be."""


class AbortedResponse(Model):
    """The uploads were aborted, and their parts deleted. Uploads that have completed stay."""

    aborted: int
    more: bool
    """Whether there are more to abort: then repeat the request."""


class CheckRequest(Model):
    """Check whether a URL can be used as a media item: an upload's publicUrl, or a direct URL."""

    url: Annotated[str, Field(min_length=1, max_length=4096, examples=["https://cdn.example.com/movie.mp4"])]


class CheckResponse(Model):
    """Whether the URL can be used, and which rule it breaks if not."""

    usable: bool
    url: str
    """The URL after all redirects, without its query."""
    key: str | None = None
    """The key of one's own upload that passed all checks, and that nobody can replace."""
    content_type: str | None = None
    type: Literal["image", "video"] | None = None
    size: int | None = None
    """Bytes, if the host reports the size."""
    receipt: str | None = None
    """With `key`, the signed receipt of the upload, as complete returns it."""
    error: ErrorDetail | None = None


class MediaItem(Model):
    """A media item of a post: an upload's publicUrl, or a direct URL."""

    type: Literal["image", "video", "gif"]
    url: Annotated[str, Field(min_length=1, max_length=4096)]


class PostRequest(BaseModel):
    """A post. Only `mediaItems` is checked. The posts API gets the body, with immutable URLs of the uploads."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", populate_by_name=True, alias_generator=to_camel)

    media_items: Annotated[list[MediaItem], Field(max_length=35)] = []
    """Eight are checked at a time. With 35 of the slowest hosts, that takes less than a minute."""
