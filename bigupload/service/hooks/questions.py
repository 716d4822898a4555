"""Hooks as settings name them (a command, a URL or a function), and the questions to them.

A hook answers with nothing to accept, and with a reason to refuse.

Knows neither how a hook is reached nor what is done with its answer.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from bigupload.errors import UsageError
from bigupload.records import dataclass

_URL = re.compile(r"https?://", re.IGNORECASE)


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
    """The object's checksum from its store, in base64; None: the store has none."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSettings:
    """The hooks of a service, or of a sweep."""

    before_create: BeforeCreate | str | None = None
    """Asked before an upload begins: a function, a command, or the URL of an HTTP endpoint. It may refuse."""
    before_finish: BeforeFinish | str | None = None
    """Asked before a file that is in the store counts, as by a virus scanner. A file that it refuses is deleted."""
    hook_timeout: float = 60.0
    """Seconds that a hook may take. After that, the client gets 503 and tries again."""
    webhook_urls: tuple[str, ...] = field(default=(), repr=False)
    """The URLs that get an event for each file."""
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    """The secrets that sign requests to the operator's URLs, as `whsec_…`: each request has a signature by each."""


def is_url(hook: str) -> bool:
    """Return whether a hook that is text is a URL. If not, it is a command."""
    return _URL.match(hook) is not None


def check_hook(name: str, hook: object, secrets: Sequence[str]) -> None:
    """Raise UsageError for a setting that is no hook.

    Args:
        name: The setting, for the message.
        hook: What it was set to; None: there is no hook.
        secrets: The webhook secrets, by which requests to a URL are signed.
    """
    if hook is None or callable(hook):
        return
    if not isinstance(hook, str):
        raise UsageError(f"`{name}` is a command, a URL or a function, not {type(hook).__name__}")
    if not is_url(hook):
        words_of(hook)
    elif not secrets:
        raise UsageError(f"`{name}` is a URL, and requests to it are signed: name `webhook_secrets`")


def words_of(command: str) -> list[str]:
    """Return the program of a command, and its arguments. Raises UsageError if there is no such program."""
    try:
        words = shlex.split(command)
    except ValueError as e:
        raise UsageError(f"the hook's command can't be read: {e}") from None
    if not words:
        raise UsageError("a hook is a command or a URL, and this one is empty")
    if shutil.which(words[0]) is None:
        raise UsageError(f"there is no program {words[0]!r} to run as a hook: write its whole path")
    return words
