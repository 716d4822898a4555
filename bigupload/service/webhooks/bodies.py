"""The bodies of events, for the OpenAPI document and those who read it. `telling` writes them, without pydantic, which
the sweep does without. Fields may be added."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from bigupload.service.contract import ErrorDetail


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True)


class _EventBody(_Body):
    timestamp: datetime.datetime
    """When it happened. Attempts and duplicates repeat it."""


class CompletedMedia(_Body):
    """A file that counts."""

    key: str
    public_url: str
    owner: str
    size: int
    """Bytes."""
    content_type: str
    etag: str
    checksum: str | None
    """Of the whole object, in base64, as the store tells it; null: the store has none."""
    checksum_algorithm: str | None
    metadata: dict[str, str]
    """From the upload token."""
    way: Literal["put", "multipart"]
    """Whether the file was sent by one PUT or in parts."""


class RefusedMedia(_Body):
    """A file that was refused."""

    key: str
    owner: str | None
    """null: the key is of another shape than the policy's."""
    size: int
    """Bytes."""
    error: ErrorDetail


class ExpiredMedia(_Body):
    """A file that was deleted because of its age."""

    key: str
    owner: str | None
    """null: the key is of another shape than the policy's."""
    size: int
    """Bytes."""


class TrialMessage(_Body):
    """What a test says."""

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


class WebhookTest(_EventBody):
    """The answer to `bigupload webhooks test`: nothing happened."""

    type: Literal["webhook.test"]
    data: TrialMessage


BODIES: dict[str, type[BaseModel]] = {
    "media.completed": MediaCompletedEvent,
    "media.refused": MediaRefusedEvent,
    "media.expired": MediaExpiredEvent,
    "webhook.test": WebhookTest,
}
"""The body of each type of event."""
