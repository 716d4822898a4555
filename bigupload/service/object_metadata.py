"""The metadata of objects: any text, as S3 carries it. Pure.

S3 takes ASCII in headers. A text that is not, or that looks encoded, is written as one encoded word of RFC 2047, which
is how S3 itself returns such texts: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from bigupload.service.media import is_unsafe

FILENAME = "bigupload-filename"
"""The name under which the file's own name is kept."""
MOST_BYTES = 2000
"""Bytes of the names and values. S3 takes 2 KB, of which the service's own token takes 47."""
_OURS = "bigupload"
"""How the names of bigupload's own metadata begin."""
_START, _END = "=?UTF-8?B?", "?="
_LONGEST_FILENAME = 255
"""Bytes that are kept of a file's name: what file systems allow. Of a longer one, the end is kept."""


def encoded(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata as headers carry it."""
    return {name: _encoded(text) for name, text in metadata.items()}


def length_of(metadata: Mapping[str, str]) -> int:
    """Return the bytes that S3 counts: of the names and of the encoded values."""
    return sum(len(name) + len(text) for name, text in encoded(metadata).items())


def with_filename(metadata: Mapping[str, str], filename: str) -> dict[str, str]:
    """Return metadata with the file's name, if there is room for it."""
    kept = filename.encode()[-_LONGEST_FILENAME:].decode(errors="ignore").strip()
    whole = {**metadata, FILENAME: kept}
    return whole if kept and length_of(whole) <= MOST_BYTES else dict(metadata)


def decoded(carried: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
    """Return the metadata of an object without bigupload's own, and the file's name, if it is known."""
    own = {name: _decoded(text) for name, text in carried.items() if not name.startswith(_OURS)}
    filename = carried.get(FILENAME)
    return own, None if filename is None else _decoded(filename)


def why_not(metadata: Mapping[str, str]) -> str | None:
    """Return why metadata can't be kept; None: it can."""
    if any(name.startswith(_OURS) for name in metadata):
        return "names that begin with bigupload are the service's own"
    if any(is_unsafe(text) or text != text.strip() for text in metadata.values()):
        return "values have no control characters, and no spaces at their ends"
    length = length_of(metadata)
    return (
        f"the names and values have {length:,} bytes, and the store takes {MOST_BYTES:,}"
        if length > MOST_BYTES
        else None
    )


def _encoded(text: str) -> str:
    if text.isascii() and not text.startswith("=?") and "  " not in text:  # signatures count spaces in a row as one
        return text
    return f"{_START}{base64.b64encode(text.encode()).decode()}{_END}"


def _decoded(text: str) -> str:
    if not (text.startswith(_START) and text.endswith(_END)):
        return text
    try:
        return base64.b64decode(text[len(_START) : -len(_END)], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):  # not written here
        return text
