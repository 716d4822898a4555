"""Which types of files a service accepts: the published list, any, or those of a file. Pure.

The first bytes of the published types are checked, however they were listed. A type that is not among them is taken by
its name and its content type: nothing is known of its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from bigupload.errors import UsageError
from bigupload.records import dataclass
from bigupload.service import media
from bigupload.service.media import MEDIA_TYPES, MediaType
from bigupload.service.problems import Problem, Refused

PUBLISHED = "published"
ANY = "any"

_EXTENSION = re.compile(r"[a-z0-9]{1,16}")
_CONTENT_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,127}")
"""RFC 6838, 4.2; in lower case."""
_ACTIVE = frozenset(
    {
        "text/html", "text/xml", "text/xsl", "text/css", "text/cache-manifest", "text/x-component", "text/scriptlet",
        "application/xml", "application/hta", "application/wasm", "application/x-shockwave-flash",
        "application/xml-dtd", "application/xml-external-parsed-entity", "text/xml-external-parsed-entity",
        "message/rfc822", "application/x-mimearchive", "application/unknown", "unknown/unknown",
    }
)  # fmt: skip
"""Types that browsers run as part of a site, or guess to be HTML (https://mimesniff.spec.whatwg.org/#sniffing-algorithm)."""
_SCRIPT = re.compile(r"(?:text|application)/(?:x-)?(?:java|ecma|j|live|vb)script[0-9.]*|multipart/.*|.*\+xml")
"""The JavaScript types that browsers still know, and more by the same scheme (https://mimesniff.spec.whatwg.org/
#javascript-mime-type); and types with a page in them."""
_RUN_BY_NAME = frozenset(
    {
        "html", "htm", "shtml", "shtm", "xhtml", "xht", "xhtm", "mht", "mhtml", "eml", "hta", "htc", "sct", "php",
        "phtml", "xml", "xsl", "xslt", "xsd", "xbl", "xul", "dtd", "ent", "mod", "svg", "svgz", "mathml", "mml", "rdf",
        "rss", "atom", "js", "mjs", "cjs", "jsm", "es", "ecma", "jse", "ls", "vbs", "vbe", "css", "wasm", "swf",
        "appcache", "manifest", "ttml", "dfxp", "mpd", "xspf", "kml", "gpx", "gml", "smil", "smi", "wsdl", "wml", "xdp",
        "xfdf",
    }
)  # fmt: skip
"""Extensions for which stores that type by the key's name serve what browsers run, whatever type was declared."""
_NO_EXTENSION = "bin"


class MediaTypes:
    """The accepted types. A file's extension and content type must be of the same one."""

    def __init__(self, types: Sequence[MediaType], *, name: str = "") -> None:
        """`name`: what stands for this list; empty: the list itself."""
        self.types = tuple(types)
        self.name = name
        self._by_extension = {extension: kind for kind in types for extension in kind.extensions}
        self._by_content_type = {content: kind for kind in types for content in kind.content_types}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MediaTypes) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.name, self.types))

    def declared(self, filename: str, content_type: str) -> MediaType:
        """Return the type that a request declares.

        Raises:
            Refused: UNSUPPORTED_MEDIA: it is not accepted, or the two names disagree.
        """
        media.check_filename(filename)
        named = self._by_extension.get(media.extension_of(filename))
        if named is None:
            raise Refused(
                Problem.UNSUPPORTED_MEDIA,
                f"the file name must end in one of {_listed(f'.{end}' for end in self._by_extension)}",
                field="filename",
            )
        typed = self._by_content_type.get(media.content_type_of(content_type))
        if typed is None:
            allowed = _listed(kind.content_type for kind in self.types)
            raise Refused(Problem.UNSUPPORTED_MEDIA, f"the content type must be one of {allowed}", field="contentType")
        if named is not typed:
            raise Refused(
                Problem.UNSUPPORTED_MEDIA,
                f"the file name says {named.name} and the content type says {typed.name}: "
                f"{named.name} goes with {named.content_type}, {typed.name} with .{typed.extension}",
                field="contentType",
            )
        return named

    def allows(self, pattern: str) -> bool:
        """Return whether any accepted type is of the content type `pattern`, or of a family like `image/*`."""
        family = pattern.removesuffix("*") if pattern.endswith("/*") else None
        return any(each.startswith(family) if family else each == pattern for each in self._by_content_type)

    def to_json(self) -> str | list[dict[str, list[str]]]:
        """Return the name of the list, or its rows."""
        if self.name:
            return self.name
        return [{"contentTypes": [*kind.content_types], "extensions": [*kind.extensions]} for kind in self.types]

    def for_page(self) -> dict[str, Any]:
        """Return what the upload page must know: content types by extension, the one of all others, the names."""
        return {
            "types": {end: kind.content_type for kind in self.types for end in kind.extensions},
            "other": None,
            "names": [kind.name for kind in self.types],
        }


class _AnyTypes(MediaTypes):
    """Every type but those that browsers run. The published ones are checked as ever."""

    def __init__(self) -> None:
        super().__init__(MEDIA_TYPES, name=ANY)

    def allows(self, pattern: str) -> bool:
        """As above: every type."""
        return True

    def declared(self, filename: str, content_type: str) -> MediaType:
        """As above. A name without a usable extension counts as .bin, and so does one that browsers run."""
        media.check_filename(filename)
        extension, content = media.extension_of(filename), media.content_type_of(content_type)
        if extension in self._by_extension or content in self._by_content_type:
            return super().declared(filename, content_type)
        if not _CONTENT_TYPE.fullmatch(content):
            raise Refused(
                Problem.UNSUPPORTED_MEDIA,
                "the content type must be like application/octet-stream",
                field="contentType",
            )
        if content in _ACTIVE or _SCRIPT.fullmatch(content):
            raise Refused(
                Problem.UNSUPPORTED_MEDIA,
                f"browsers run {content}: upload it as application/octet-stream, or ask the operator to list it",
                field="contentType",
            )
        if extension in _RUN_BY_NAME:
            return replace(_other((content,), (_NO_EXTENSION,)), as_attachment=True)
        extension = extension if _EXTENSION.fullmatch(extension) else _NO_EXTENSION
        return _other((content,), (extension,))

    def for_page(self) -> dict[str, Any]:
        return super().for_page() | {"other": "application/octet-stream", "names": []}


PUBLISHED_TYPES = MediaTypes(MEDIA_TYPES, name=PUBLISHED)
ANY_TYPES = _AnyTypes()


@dataclass(slots=True)
class _Row:
    """The lines of one type so far."""

    content_types: dict[str, None]
    extensions: dict[str, None]


def read_types(text: str, *, where: str) -> MediaTypes:
    """Read a list of types as in mime.types: a content type and its extensions on each line, `#` begins a comment.

    Lines with the same content type or extension are one type; the first names are the ones that objects get. A
    published type may stand without extensions: then it has those that it always has.

    Args:
        text: The list.
        where: Its name, for messages.

    Raises:
        UsageError: It is no such list, is empty, or says that one extension is of two types.
    """
    rows: list[_Row] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].lower().split()
        if not words:
            continue
        content, extensions = words[0], [word.removeprefix(".") for word in words[1:]]
        if not _CONTENT_TYPE.fullmatch(content):
            raise UsageError(f"line {number} of {where} does not begin with a content type: write video/x-matroska mkv")
        wrong = next((word for word in extensions if not _EXTENSION.fullmatch(word)), None)
        if wrong is not None:
            raise UsageError(
                f"line {number} of {where}: {wrong!r} is not an extension (use up to 16 letters and digits)"
            )
        _add(rows, content, extensions, f"line {number} of {where}")
    if not rows:
        raise UsageError(f"{where} lists no types: write one on each line, as in video/x-matroska mkv")
    return _types_of(rows, where)


def types_from_json(value: Any, *, where: str) -> MediaTypes:
    """Return the types that `MediaTypes.to_json` wrote. Raises UsageError."""
    for known in (PUBLISHED_TYPES, ANY_TYPES):
        if value == known.name:
            return known
    match value:
        case [*found] if found and all(_is_row(each) for each in found):
            rows = [_Row(dict.fromkeys(each["contentTypes"]), dict.fromkeys(each["extensions"])) for each in found]
            return _types_of(rows, where)
    raise UsageError(f"{where} has no list of types that this version of bigupload can read")


def _is_row(value: Any) -> bool:
    match value:
        case {"contentTypes": [str(), *contents], "extensions": [*extensions]}:
            contents = [value["contentTypes"][0], *contents]
            return all(isinstance(each, str) and _CONTENT_TYPE.fullmatch(each) for each in contents) and all(
                isinstance(each, str) and _EXTENSION.fullmatch(each) for each in extensions
            )
    return False


def _add(rows: list[_Row], content: str, extensions: Sequence[str], where: str) -> None:
    same = [row for row in rows if content in row.content_types or not row.extensions.keys().isdisjoint(extensions)]
    if len(same) > 1:
        raise UsageError(f"{where} joins {_first(same[0])} and {_first(same[1])}, which earlier lines keep apart")
    if not same:
        same = [_Row({}, {})]
        rows += same
    same[0].content_types[content] = None
    same[0].extensions.update(dict.fromkeys(extensions))


def _types_of(rows: Iterable[_Row], where: str) -> MediaTypes:
    return MediaTypes([_type_of(row, where) for row in rows])


def _type_of(row: _Row, where: str) -> MediaType:
    """A published type stays what it is, with the names that were listed: its first bytes are checked."""
    contents, extensions = tuple(row.content_types), tuple(row.extensions)
    found = [
        kind
        for kind in MEDIA_TYPES
        if not set(kind.content_types).isdisjoint(contents) or not set(kind.extensions).isdisjoint(extensions)
    ]
    if len(found) > 1:
        raise UsageError(f"{where} makes one type of {found[0].name} and {found[1].name}: list them on two lines")
    if not found:
        if not extensions:
            raise UsageError(f"{where} names no extension for {contents[0]}: write it after the content type")
        return _other(contents, extensions)
    [kind] = found
    aliases = tuple(dict.fromkeys((*kind.other_content_types, *contents)))
    ends = extensions or kind.extensions
    return replace(
        kind,
        extension=ends[0],
        other_extensions=ends[1:],
        other_content_types=tuple(alias for alias in aliases if alias != kind.content_type),
    )


def _other(contents: tuple[str, ...], extensions: tuple[str, ...]) -> MediaType:
    family = contents[0].partition("/")[0]
    return MediaType(
        name=extensions[0].upper(),
        content_type=contents[0],
        extension=extensions[0],
        kind="image" if family == "image" else "video" if family == "video" else "other",
        other_extensions=extensions[1:],
        other_content_types=contents[1:],
    )


def _first(row: _Row) -> str:
    return next(iter(row.content_types))


def _listed(names: Iterable[str], most: int = 40) -> str:
    """A list that may be long."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
