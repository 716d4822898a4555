"""What a hook is asked. A hook answers with nothing to accept, and with a reason to refuse.

Knows neither how a hook is reached nor what is done with its answer.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import Any, Literal

from bigupload.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUpload:
    """An upload that is about to begin. What it says of the file is the client's word."""

    owner: str
    """The owner of the API key or upload token."""
    filename: str
    content_type: str
    """As the client declared it."""
    size: int | None
    """Bytes; None: the client of one PUT does not say."""
    way: Literal["put", "multipart"]
    """Whether one PUT or a multipart upload is to be signed."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """From the upload token."""
    token: str | None = None
    """The id (`jti`) of the upload token; None: an API key is used."""

    def to_json(self) -> dict[str, Any]:
        """Return what commands and URLs get."""
        return {
            "hook": "before-create",
            "owner": self.owner,
            "filename": self.filename,
            "contentType": self.content_type,
            "size": self.size,
            "way": self.way,
            "metadata": dict(self.metadata),
            "token": self.token,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedFile:
    """A file that is in the store, and was found to be what it claims to be. It does not count yet."""

    key: str
    owner: str
    size: int
    """Bytes."""
    content_type: str
    etag: str
    checksum: str | None
    """The object's checksum as the store tells it, in base64; None: there is none."""
    checksum_algorithm: str | None
    metadata: Mapping[str, str]
    """The object's metadata without bigupload's own."""
    url: str = field(repr=False)
    """A presigned URL to GET the bytes, valid for an hour. Whoever has it can read the file."""

    def to_json(self) -> dict[str, Any]:
        """Return what commands and URLs get."""
        return {
            "hook": "before-finish",
            "key": self.key,
            "owner": self.owner,
            "size": self.size,
            "contentType": self.content_type,
            "etag": self.etag,
            "checksum": self.checksum,
            "checksumAlgorithm": self.checksum_algorithm,
            "metadata": dict(self.metadata),
            "url": self.url,
        }


Question = NewUpload | FinishedFile

BeforeCreate = Callable[[NewUpload], Awaitable[str | None] | str | None]
"""Returns None to accept, or the reason to refuse: one line for the person who uploads. It may be async; a plain
function runs in a thread."""
BeforeFinish = Callable[[FinishedFile], Awaitable[str | None] | str | None]
"""The same, for a file that is in the store."""

Ask = Callable[[Question], Awaitable[str | None]]
"""Asks a hook, whatever it is. Returns None to accept, or the reason to refuse. Raises HookFailed."""


class HookFailed(Exception):
    """A hook neither accepted nor refused. The text holds no secret."""


def as_line(question: Question) -> bytes:
    """Return the question as one line of JSON."""
    return json.dumps(question.to_json(), separators=(",", ":")).encode() + b"\n"
