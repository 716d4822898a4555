"""Make and recognise the keys of uploads. All other keys in the bucket belong to the operator.

There are two kinds of keys. For a *writable* key, the service signs a PUT: whoever has the URL can replace the object
for an hour. For a *final* key, the service never signs a PUT, so the object stays as it was checked. A final key
belongs to a multipart upload, whose part URLs do not work after complete, or to the copy whose URL a post is forwarded
with.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from bigupload.service.bucket_rules import MEDIA_PREFIX, REFUSED_PREFIX
from bigupload.service.media import MediaType
from bigupload.stores.s3.media_objects import ObjectHead

_WRITABLE_DIGITS = 32
_FINAL_DIGITS = 40
"""Hexadecimal digits of a name. The lengths differ, so that the key alone shows its kind."""
_KEY = re.compile(
    rf"{MEDIA_PREFIX}([a-z0-9][a-z0-9_-]*)/([0-9a-f]{{{_WRITABLE_DIGITS}}}|[0-9a-f]{{{_FINAL_DIGITS}}})\.[a-z0-9]+"
)


def new_writable_key(owner: str, kind: MediaType) -> str:
    """Return an unguessable key for a presigned PUT."""
    return _key(owner, secrets.token_hex(_WRITABLE_DIGITS // 2), kind)


def new_final_key(owner: str, kind: MediaType) -> str:
    """Return an unguessable key for a multipart upload."""
    return _key(owner, secrets.token_hex(_FINAL_DIGITS // 2), kind)


def copy_key(key: str, head: ObjectHead, kind: MediaType) -> str:
    """Return the final key for a copy of the object `head` at the writable `key`.

    The same object gives the same key, so a repeated post needs no second copy.
    """
    version = "\n".join((key, head.etag, str(head.size), head.modified.isoformat()))
    return _key(owner_of(key) or "", hashlib.sha256(version.encode()).hexdigest()[:_FINAL_DIGITS], kind)


def _key(owner: str, name: str, kind: MediaType) -> str:
    return f"{MEDIA_PREFIX}{owner}/{name}.{kind.extension}"


def owner_of(key: str) -> str | None:
    """Return the owner of an upload's key; None for a key that the service cannot have made."""
    match = _KEY.fullmatch(key)
    return match and match[1]


def is_final(key: str) -> bool:
    """Return whether no presigned PUT can replace the object at `key`."""
    match = _KEY.fullmatch(key)
    return match is not None and len(match[2]) == _FINAL_DIGITS


def note_key(key: str) -> str:
    """Return the key of the note that says why the upload at `key` was refused."""
    return REFUSED_PREFIX + key


def is_made_here(key: str) -> bool:
    """Return whether `key` belongs to an upload or to an upload's note."""
    return owner_of(key.removeprefix(REFUSED_PREFIX)) is not None
