"""Make and recognise the keys of uploads, by a template. All other keys in the bucket belong to the operator.

There are two kinds of keys. For a *writable* key, the service signs a PUT: whoever has the URL can replace the object
for an hour. For a *final* key, the service never signs a PUT, so the object stays as it was checked. A final key
belongs to a multipart upload, whose part URLs do not work after complete, or to the copy whose URL a post is forwarded
with. The length of a key's random name distinguishes the two.

Below are the metadata of objects: any text. S3 takes ASCII in headers. A text that is not, or that looks encoded, is
written as one encoded word of RFC 2047, which is how S3 itself returns such texts:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from urllib.parse import quote, unquote

from bigupload.errors import UsageError
from bigupload.service.media import media_types
from bigupload.service.media.media_types import MediaType, is_unsafe
from bigupload.service.media_objects import ObjectHead

REFUSED_PREFIX = "refused/"
"""The prefix of the notes that say why an upload was refused."""
TOKENS_PREFIX = f"{REFUSED_PREFIX}tokens/"
"""The prefix of the notes that count a token's uploads."""
PASSED_PREFIX = f"{REFUSED_PREFIX}passed/"
"""The prefix of the notes of files that the operator's hook accepted."""
EVENTS_PREFIX = f"{REFUSED_PREFIX}events/"
"""The prefix of the notes of events for webhooks."""
REVOKED_PREFIX = f"{REFUSED_PREFIX}revoked/"
"""The prefix of the notes of revoked tokens."""
COUNTS_PREFIX = f"{REFUSED_PREFIX}counts/"
"""The prefix of the notes of what was counted of an owner, or of an end user."""
_OTHER_NOTE = re.compile(
    rf"{TOKENS_PREFIX}[0-9a-f]{{40}}/(?:[0-9]{{5}}|by-[0-9a-f]{{32}})|{PASSED_PREFIX}[0-9a-f]{{40}}"
    rf"|{EVENTS_PREFIX}(?:waiting|done)/[0-9A-Za-z_-]+|{REVOKED_PREFIX}[0-9a-z-]+"
    rf"|{COUNTS_PREFIX}[0-9a-f]{{40}}|{REFUSED_PREFIX}imports/[0-9A-Za-z_./~-]+"  # the last: of releases that imported
)
DEFAULT_TEMPLATE = "media/{owner}/{random}.{extension}"

_WRITABLE_DIGITS = 32
_FINAL_DIGITS = 40
"""Hexadecimal digits of a random name. The lengths differ, so that the key alone shows its kind."""
_PLACES = {
    "owner": r"(?P<owner>[a-z0-9][a-z0-9_-]*)",
    "random": rf"(?P<random>[0-9a-f]{{{_WRITABLE_DIGITS}}}|[0-9a-f]{{{_FINAL_DIGITS}}})",
    "extension": r"(?P<extension>[a-z0-9]+)",
    "year": r"\d{4}",
    "month": r"\d{2}",
    "day": r"\d{2}",
}
_PLACE = re.compile(r"\{([^{}]*)\}")
_USER_MARK = "~"
"""The beginning of the folder of an end user. No template has the character, so it is never taken for a part of one."""
_PLAIN_IN_USER = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_USER_FOLDER = rf"(?:{_USER_MARK}(?P<user>(?:[A-Za-z0-9._-]|{_USER_MARK}[0-9a-f]{{2}})+)/)?"
_LONGEST_USER_FOLDER = 200
"""Characters. Some stores keep a key as a path of files, and a name in it has at most 255 bytes."""
_DATED = r"(?:[A-Za-z0-9._-]|\{year\}|\{month\}|\{day\})"
_SHAPE = re.compile(rf"(?:[A-Za-z0-9._-]+/)+\{{owner\}}/(?:{_DATED}+/)*{_DATED}*\{{random\}}\.\{{extension\}}")
_NAMELIKE = re.compile(r"(?:[0-9a-f]|\{(?:year|month|day)\})\{random\}")
"""Text that would make the random name longer: a writable key would look like a final one of another template."""
_LONGEST = 256
"""Characters of a template. A key has at most 1,024 bytes."""


class KeyTemplate:
    """The shape of the keys of uploads, as in `media/{owner}/{random}.{extension}`."""

    def __init__(self, text: str = DEFAULT_TEMPLATE) -> None:
        """Read it.

        Args:
            text: A folder, then `{owner}`, and at the end `{random}.{extension}`. In between, folders and `{year}`,
                `{month}` and `{day}` (of the upload's start, UTC).

        Raises:
            UsageError: It has another shape. The folder comes first because the bucket's rules are for it. The owner
                comes next because an owner's uploads are listed by it.
        """
        _check(text)
        self.text = text
        self.prefix = text.partition("{owner}")[0]
        """The prefix of all keys. Nothing else is publicly readable."""
        pieces = _PLACE.split(text)  # literal, name, literal, name, …
        shape = "".join(_PLACES[p] if i % 2 else re.escape(p) for i, p in enumerate(pieces))
        self._key = re.compile(shape.replace(_PLACES["owner"] + "/", _PLACES["owner"] + "/" + _USER_FOLDER, 1))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyTemplate) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def prefix_of(self, account: str) -> str:
        """Return the prefix of the keys of an account (see `account_of`)."""
        return f"{self.prefix}{account}/"

    def users_of(self, owner: str) -> str:
        """Return the beginning of the keys of an owner's end users. The owner's own keys are less, in S3's order."""
        return f"{self.prefix_of(owner)}{_USER_MARK}"

    def new_key(self, account: str, kind: MediaType, now: datetime, *, final: bool) -> str:
        """Return an unguessable key: a final one for a multipart upload, or a writable one for a presigned PUT."""
        values = {
            "owner": account,
            "random": secrets.token_hex((_FINAL_DIGITS if final else _WRITABLE_DIGITS) // 2),
            "extension": kind.extension,
            "year": f"{now.year:04}",
            "month": f"{now.month:02}",
            "day": f"{now.day:02}",
        }
        return _PLACE.sub(lambda place: values[place[1]], self.text)

    def copy_key(self, key: str, head: ObjectHead, kind: MediaType) -> str:
        """Return the final key for a copy of the object `head` at the writable `key`.

        The same object gives the same key, so a repeated post needs no second copy.
        """
        match = self._key.fullmatch(key)
        assert match is not None, "the caller found the key's owner"
        version = "\n".join((key, head.etag, str(head.size), head.modified.isoformat()))
        name = hashlib.sha256(version.encode()).hexdigest()[:_FINAL_DIGITS]
        return f"{key[: match.start('random')]}{name}.{kind.extension}"

    def owner_of(self, key: str) -> str | None:
        """Return the owner of an upload's key; None for a key that the service cannot have made."""
        match = self._key.fullmatch(key)
        return match and match["owner"]

    def user_of(self, key: str) -> str | None:
        """Return the end user of an upload's key; None for an upload of nobody in particular, and for another key."""
        match = self._key.fullmatch(key)
        return None if match is None or match["user"] is None else _user_in(match["user"])

    def account_of(self, key: str) -> str | None:
        """Return the account of an upload's key, as `account_of`; None for a key that the service cannot have made."""
        match = self._key.fullmatch(key)
        if match is None:
            return None
        return match["owner"] if match["user"] is None else f"{match['owner']}/{_USER_MARK}{match['user']}"

    def is_final(self, key: str) -> bool:
        """Return whether no presigned PUT can replace the object at `key`."""
        match = self._key.fullmatch(key)
        return match is not None and len(match["random"]) == _FINAL_DIGITS

    def is_made_here(self, key: str) -> bool:
        """Return whether `key` belongs to an upload, or to a note of the service's own."""
        return _OTHER_NOTE.fullmatch(key) is not None or self.owner_of(key.removeprefix(REFUSED_PREFIX)) is not None


def account_of(owner: str, user: str | None) -> str:
    """Return the name of whose files are listed and limited together: an owner's, or those of one of its end users.

    It is the part of a key behind the template's first folder: `shop`, or `shop/~u-17`.
    """
    return owner if user is None else f"{owner}/{_USER_MARK}{_user_folder(user)}"


def is_user(name: str) -> bool:
    """Return whether `name` can be an end user's: it becomes a folder of keys, so it may not be too long."""
    sound = bool(name) and not media_types.is_unsafe(name) and len(name) <= _LONGEST_USER_FOLDER
    return sound and len(_user_folder(name)) <= _LONGEST_USER_FOLDER


def _user_folder(user: str) -> str:
    """Write a name with characters that need no quoting in a key and in a URL. `_user_in` reads it back."""
    return "".join(chr(b) if b in _PLAIN_IN_USER else f"{_USER_MARK}{b:02x}" for b in user.encode())


def _user_in(folder: str) -> str:
    return unquote(folder.replace(_USER_MARK, "%"), errors="replace")


def public_urls(of_bucket: Callable[[str], str], base: str | None) -> Callable[[str], str]:
    """Return a function that makes the URL at which everyone finds the object of a key.

    Args:
        of_bucket: Makes the URL at the bucket itself.
        base: The bucket's public URL, as of a CDN; None: the bucket's own.
    """
    if base is None:
        return of_bucket
    start = base.rstrip("/") + "/"
    return lambda key: start + quote(key)


def note_key(key: str) -> str:
    """Return the key of the note that says why the upload at `key` was refused."""
    return REFUSED_PREFIX + key


def _check(text: str) -> None:
    """Raise UsageError for a template whose keys could look like others', or be invalid in S3."""
    unknown = [name for name in _PLACE.findall(text) if name not in _PLACES]
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in _PLACES)
        raise UsageError(f"the key template has {{{unknown[0]}}}, which stands for nothing (there are {known})")
    if not _SHAPE.fullmatch(text) or any(set(each) <= {"."} for each in text.split("/")) or len(text) > _LONGEST:
        raise UsageError(
            f"not a key template: {text!r} (write it like {DEFAULT_TEMPLATE}: a folder, the owner, and at the end "
            "{random}.{extension}; letters, digits, '.', '-' and '_')"
        )
    if _NAMELIKE.search(text):
        raise UsageError(
            f"the key template {text!r} has a digit or a letter from a to f just before {{random}}, which would look "
            "like a part of it: write '-' or '/' between"
        )
    if text.startswith(REFUSED_PREFIX):
        raise UsageError(f"the key template begins with {text.partition('/')[0]}/, where the service keeps its notes")


HEADER = "x-amz-meta-"
"""The beginning of the names of headers with metadata."""
FILENAME = "bigupload-filename"
"""The name under which the file's own name is kept."""
MOST_BYTES = 2000
"""Bytes of the names and values. S3 takes 2 KB, of which the service's own token takes 47."""
_OURS = "bigupload"
"""The beginning of the names of bigupload's own metadata."""
_START, _END = "=?UTF-8?B?", "?="
_LONGEST_FILENAME = 255
"""Bytes that are kept of a file's name: what file systems allow. Of a longer one, the end is kept."""


def carried_by(headers: Mapping[str, str]) -> dict[str, str]:
    """Return an object's metadata as its headers carry it."""
    return {name.removeprefix(HEADER): text for name, text in headers.items() if name.startswith(HEADER)}


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
