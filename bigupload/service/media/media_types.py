"""The media that the service accepts: by file name, content type and first bytes. Pure, but for a library of types.

Knows neither uploads nor HTTP. Needs no pydantic, so that `bigupload check-url` runs without the extra `service`.
"""

from __future__ import annotations

import re
from typing import Literal

from bigupload.records import dataclass
from bigupload.service.media.file_structure import is_gif, is_jpeg, is_mov, is_mp4, is_png, is_webm, is_webp
from bigupload.service.problems import Problem, Refused

MAX_FILE_SIZE = 5_000_000_000
"""Bytes: 5 GB."""
HEAD_BYTES = 4096
"""Bytes at a file's beginning, which show its type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaType:
    """A supported type."""

    name: str
    """For people: "JPEG"."""
    content_type: str
    """The canonical one."""
    extension: str
    """The canonical one, without its dot: what keys end in."""
    kind: Literal["image", "video", "other"]
    other_extensions: tuple[str, ...] = ()
    other_content_types: tuple[str, ...] = ()
    """Unregistered, but what clients really send. The canonical one is what an object is to be given.

    A presigned PUT must be signed with the spelling that its client declared, as the client will send that again.
    """

    as_attachment: bool = False
    """Whether its objects are served as downloads alone (`Content-Disposition: attachment`)."""

    @property
    def extensions(self) -> tuple[str, ...]:
        """All that are accepted, in lower case, the canonical one first."""
        return (self.extension, *self.other_extensions)

    @property
    def content_types(self) -> tuple[str, ...]:
        """All that are accepted, in lower case, the canonical one first."""
        return (self.content_type, *self.other_content_types)


JPEG = MediaType(
    name="JPEG",
    content_type="image/jpeg",
    extension="jpg",
    kind="image",
    other_extensions=("jpeg", "jpe", "jfif"),  # Windows saves pictures from the web as .jfif
    # The commonest mistake in clients written by hand; the type of older Windows.
    other_content_types=("image/jpg", "image/pjpeg"),
)
PNG = MediaType(name="PNG", content_type="image/png", extension="png", kind="image")
GIF = MediaType(name="GIF", content_type="image/gif", extension="gif", kind="image")
WEBP = MediaType(name="WebP", content_type="image/webp", extension="webp", kind="image")
MP4 = MediaType(
    name="MP4",
    content_type="video/mp4",
    extension="mp4",
    kind="video",
    other_extensions=("m4v",),
    other_content_types=("video/x-m4v",),  # the type that browsers give a .m4v
)
MOV = MediaType(
    name="MOV",
    content_type="video/quicktime",
    extension="mov",
    kind="video",
    other_extensions=("qt",),
    other_content_types=("video/mov",),  # made of the extension, by hand
)
WEBM = MediaType(name="WebM", content_type="video/webm", extension="webm", kind="video")

MEDIA_TYPES: tuple[MediaType, ...] = (JPEG, PNG, GIF, WEBP, MP4, MOV, WEBM)
NAMES = ", ".join(media.name for media in MEDIA_TYPES)
"""For messages."""

_NAMES = frozenset(media.name for media in MEDIA_TYPES)
_BY_CONTENT_TYPE = {content_type: media for media in MEDIA_TYPES for content_type in media.content_types}
_CONTENT_TYPE = re.compile(
    r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*(?:;(?![^,]*,[^/]*/)[\t -~]*)?"
)
"""RFC 9110, 8.3.1, parameters unread. Nothing that could end a header's line gets through, and no slash after a comma:
of `image/jpeg;a=b,text/html`, browsers take the last type. https://fetch.spec.whatwg.org/#concept-header-extract-mime-type
"""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202d\u202e\ud800-\udfff]")
"""In file names: control characters, line separators, overrides of the writing direction, halves of characters."""


def extension_of(filename: str) -> str:
    """A file name's extension in lower case, without its dot; empty where there is none.

    Nothing else of the name is used, so that a path does no harm.
    """
    base = re.split(r"[/\\]", filename)[-1]
    stem, _, extension = base.rpartition(".")
    return extension.lower() if stem and extension.isascii() else ""


def content_type_of(content_type: str) -> str:
    """A Content-Type in lower case, without its parameters (`; charset=binary`); empty if it is malformed."""
    match = _CONTENT_TYPE.fullmatch(content_type)
    return match[1].lower() if match else ""


def is_of(content_type: str, pattern: str) -> bool:
    """Return whether a content type, in lower case, is `pattern`, or of a family like `image/*`."""
    return content_type.startswith(pattern[:-1]) if pattern.endswith("/*") else content_type == pattern


def by_content_type(content_type: str) -> MediaType | None:
    """The published type that a Content-Type names."""
    return _BY_CONTENT_TYPE.get(content_type_of(content_type))


def is_unsafe(name: str) -> bool:
    """Return whether a name has characters that break lines, hide its ending, or are halves of one."""
    return _UNSAFE.search(name) is not None


def check_filename(filename: str) -> None:
    """Raise `Refused` for a name that hides what it is."""
    if is_unsafe(filename):
        raise Refused(
            Problem.UNSUPPORTED_MEDIA,
            "the file name contains control characters, or characters that hide its ending: rename the file",
            field="filename",
        )


_STRUCTURES = tuple(zip(MEDIA_TYPES, (is_jpeg, is_png, is_gif, is_webp, is_mp4, is_mov, is_webm), strict=True))
_FILMS = frozenset({MP4, MOV})
"""One family: the library takes some brands of one for the other's and does not know all; the structure decides."""


def identify(head: bytes) -> MediaType | None:
    """Return the media type of a file by its first bytes (up to HEAD_BYTES of them are looked at). Never raises.

    Both the library of magic numbers and the structure that follows them must say so. None for anything that is not
    on the list, or could be two things at once.
    """
    head = bytes(head[:HEAD_BYTES])
    built = [media for media, is_built in _STRUCTURES if is_built(head)]
    if len(built) != 1:
        return None
    [media] = built
    named = _by_magic(head)
    if media in _FILMS:
        return media if named <= _FILMS else None
    return media if named == {media} else None


def _by_magic(head: bytes) -> set[MediaType]:
    """Return the listed media types that the library finds. Its confidence means little: for a GIF it is 0.6."""
    import puremagic  # reads its tables: not on the way to --help

    try:
        matches = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):  # nothing like it is known, or it is empty
        return set()
    return {media for match in matches if (media := _BY_CONTENT_TYPE.get(match.mime_type)) is not None}


def check_head(head: bytes, declared: MediaType) -> None:
    """Raise `Refused` where the first bytes are not those of the declared type, if that is one of the published.

    MP4 and MOV count as one: players go by the content, and not by the name.
    """
    if declared.name not in _NAMES:  # an operator's own type: nothing is known of its bytes
        return
    found = identify(head)
    if found is None:
        raise Refused(
            Problem.NOT_MEDIA,
            f"the file is not {declared.name}: its first bytes match none of {NAMES}",
        )
    if found.name != declared.name and not {found.name, declared.name} <= {MP4.name, MOV.name}:
        raise Refused(Problem.NOT_MEDIA, f"the file is not {declared.name}: its first bytes are of {found.name}")
