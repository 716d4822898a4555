"""Which characters the key of an object may have. Pure."""

from __future__ import annotations

import re

from bigupload.units import counted

MOST_KEY_BYTES = 1024
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""
RENAME = "rename it, or name its object, as s3://bucket/key"
"""What to do about a file whose name can't be a key."""
_NOT_UTF8 = "its name is not UTF-8, as a key must be"
_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def refused_character(key: str) -> str | None:
    """Return the first character of a key that XML 1.0 can't hold, as Python writes it; None: there is none.

    S3 names keys in XML, also in its response to a create, where it can't be asked to encode them. XML holds tabs,
    newlines and carriage returns as character references. https://www.w3.org/TR/xml/#charsets
    """
    found = _REFUSED.search(key)
    return None if found is None else repr(found[0])


def why_no_key(name: str) -> str | None:
    """Say why a file's name can't be a key, or a part of one, whatever its length; None: it can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return _NOT_UTF8
    character = refused_character(name)
    return None if character is None else f"its name has the character {character}, which a key can't have"


def why_too_long(key: str, most_bytes: int = MOST_KEY_BYTES) -> str | None:
    """Say by how much a key is too long; None: it is not. `most_bytes`: what is left of a key's bytes in UTF-8."""
    more = len(key.encode(errors="surrogateescape")) - most_bytes
    return None if more <= 0 else f"its key would be {counted(more, 'byte')} longer than the 1,024 bytes that S3 allows"
