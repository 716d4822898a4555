"""What a setting names as a hook: a command, a URL or a function."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import field

from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.service.hooks.questions import BeforeCreate, BeforeFinish

_URL = re.compile(r"https?://", re.IGNORECASE)


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
    """The URLs that are told what became of files."""
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
