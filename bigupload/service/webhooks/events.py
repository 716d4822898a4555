"""The bodies that webhooks send: one for each type of event, declared once. The OpenAPI document is made of them.

`telling` writes the events without it, because the sweep does without pydantic.
"""

from __future__ import annotations

import datetime
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from bigupload.service.contract import ErrorDetail, FoundFacts, WithFacts


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True)


class _EventBody(_Body):
    timestamp: datetime.datetime
    """The time of the event. Attempts and duplicates repeat it."""


class CompletedMedia(WithFacts, _Body):
    """A file that counts."""

    key: str
    public_url: str
    owner: str
    user: str | None
    """The end user whose file it is; null: it was uploaded for nobody in particular."""
    size: int
    """Bytes."""
    content_type: str
    etag: str
    checksum: str | None
    """The store's checksum of the whole object, in base64; null: the store has none."""
    checksum_algorithm: str | None
    metadata: dict[str, str]
    """From the upload token and the request."""
    tags: dict[str, str]
    """The tags of the object, as its API key or upload token named them."""
    filename: str | None
    """The file's own name; null: it was not kept, as of a single PUT without `metadata`."""
    way: Literal["put", "multipart"]
    """Whether the file was sent by one PUT or in parts."""
    presigned_key: str | None
    """The key that presign returned, whose object can be written again for an hour. `key` is that of the copy that was
    judged, which nobody can write. null: the file was sent in parts, and is at `key` alone."""
    facts: FoundFacts = None


class _GoneMedia(_Body):
    key: str
    owner: str | None
    """null: the key is of another shape than the policy's."""
    user: str | None
    """The end user whose file it was; null: of nobody in particular."""
    size: int
    """Bytes."""


class RefusedMedia(_GoneMedia):
    """A file that was refused."""

    error: ErrorDetail


class ExpiredMedia(_GoneMedia):
    """A file that was deleted because of its age."""


class DeletedMedia(_GoneMedia):
    """A file that was deleted through the API."""


class BegunUpload(_Body):
    """An upload in parts that has begun. Its fields about the file come from the client, unchecked."""

    key: str
    """The key that the file will have."""
    owner: str
    user: str | None
    """The end user whose file it will be; null: nobody in particular."""
    size: int
    """Bytes."""
    content_type: str
    metadata: dict[str, str]
    """From the upload token and the request."""
    filename: str


class AbortedUpload(_Body):
    """An upload in parts that leaves no file."""

    key: str
    owner: str | None
    """null: the key is of another shape than the policy's."""
    user: str | None
    """The end user whose file it would have been; null: nobody in particular."""
    reason: Literal["aborted", "expired", "failed"]
    """Whether somebody aborted it, or the sweep because of its age; or it was an import, and failed."""
    error: ErrorDetail | None
    """The reason why an import failed."""


class TrialMessage(_Body):
    """The message of a test."""

    message: str


class MediaCompletedEvent(_EventBody):
    """A file counts: it was checked, and the hook, if there is one, accepted it."""

    type: Literal["media.completed"]
    data: CompletedMedia


class MediaRefusedEvent(_EventBody):
    """A file in the store was refused, and is deleted."""

    type: Literal["media.refused"]
    data: RefusedMedia


class MediaExpiredEvent(_EventBody):
    """The sweep deleted a file because of its age."""

    type: Literal["media.expired"]
    data: ExpiredMedia


class MediaDeletedEvent(_EventBody):
    """A file was deleted through the API, and is gone."""

    type: Literal["media.deleted"]
    data: DeletedMedia


class UploadCreatedEvent(_EventBody):
    """An upload in parts has begun. Sent with `--webhook-uploads` alone."""

    type: Literal["upload.created"]
    data: BegunUpload


class UploadAbortedEvent(_EventBody):
    """An upload in parts was aborted. Sent with `--webhook-uploads`, and always for an import that failed."""

    type: Literal["upload.aborted"]
    data: AbortedUpload


class WebhookTest(_EventBody):
    """`bigupload webhooks test`: nothing happened."""

    type: Literal["webhook.test"]
    data: TrialMessage


BODIES: dict[str, type[BaseModel]] = {
    get_args(body.model_fields["type"].annotation)[0]: body for body in _EventBody.__subclasses__()
}
"""The body of each type of event."""
