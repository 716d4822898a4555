"""The keys of uploads: how they are made, and known again. What else lies in the bucket is the operator's."""

from __future__ import annotations

import re
import secrets

from bigupload.service.bucket_rules import MEDIA_PREFIX, REFUSED_PREFIX
from bigupload.service.media import MediaType

_KEY = re.compile(rf"{MEDIA_PREFIX}([a-z0-9][a-z0-9_-]*)/[0-9a-f]{{32}}\.[a-z0-9]+")


def new_key(owner: str, kind: MediaType) -> str:
    """One that nobody can guess."""
    return f"{MEDIA_PREFIX}{owner}/{secrets.token_hex(16)}.{kind.extension}"


def owner_of(key: str) -> str | None:
    """Whose upload a key is; None for one that `new_key` can't have made."""
    match = _KEY.fullmatch(key)
    return match and match[1]


def note_key(key: str) -> str:
    """Under which it is kept why an upload was refused."""
    return REFUSED_PREFIX + key


def is_made_here(key: str) -> bool:
    """Whether it is an upload's, or a note's of one."""
    return owner_of(key.removeprefix(REFUSED_PREFIX)) is not None
