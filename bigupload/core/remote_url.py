"""URLs as sources: which there are, how they are named without their secrets, and where a redirect may lead. Pure.

A presigned URL is a bearer secret. What a message, a log or a manifest holds of a URL is `RemoteUrl.shown`: its scheme,
host and path.
"""

from __future__ import annotations

import re
from dataclasses import field
from pathlib import Path
from typing import TypeGuard
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from bigupload.errors import IT, SourceUnsupported, UsageError
from bigupload.records import dataclass

_WEB_FILE = "bigupload.http.web_file:WebFile"


@dataclass(frozen=True, slots=True)
class Scheme:
    """A URL scheme of sources, with all that is particular to it."""

    names: str
    """The source that such a URL names, for the table in docs/remote.md."""
    port: int | None = None
    """The usual one."""
    reader: str | None = None
    """The module and the class of its files, a `sources/remote.ServedFile`: by name, because few uploads need one.
    None: an object of a store."""


SCHEMES = {
    "https": Scheme("a file on a web server", 443, _WEB_FILE),
    "http": Scheme("the same, not encrypted on its way to this machine", 80, _WEB_FILE),
    "s3": Scheme("an object of a store, read with your credentials"),
}
"""All that are read. `python -m tests.tools.generated` writes the table of docs/remote.md."""
_SCHEME = r"([a-zA-Z][a-zA-Z0-9+.-]+)://"
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_RANGE = r"bytes (?:(\d{1,20})-(\d{1,20})|\*)/(\d{1,20})"
_UNUSABLE = "a URL that can't be used"
_NO_HOST = r"[\s\\<>\"|^`{}]"
_STRONG = r'"[\x21\x23-\x7e]*"'


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """A URL that can be read."""

    scheme: str
    """One of `SCHEMES`."""
    url: str = field(repr=False)
    """The URL to request, without a fragment. A bearer secret, if it is presigned."""
    shown: str
    """Scheme, host and path alone: what it is called, and known by."""

    @property
    def name(self) -> str:
        """The last segment of the path, decoded; "" if it has none."""
        return name_of(self.shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFacts:
    """A file's facts from its server."""

    size: int | None
    """In bytes; None: unknown."""
    pin: str | None
    """The version, if ranges of it can be read (an ETag, from web servers); None: the file is read as one stream."""
    head: bytes
    """The first bytes, if there is a pin."""
    file_name: str | None
    """The file name in Content-Disposition."""
    content_type: str | None


def is_remote(source: object) -> TypeGuard[str]:
    """Whether a source is a text that begins with one of `SCHEMES`."""
    return isinstance(source, str) and "://" in source and source.partition("://")[0].lower() in SCHEMES


def foreign_scheme(source: str) -> str | None:
    """The scheme of a URL that can't be read, such as "ftp"; None: it is not a URL. A file may have such a name."""
    match = re.match(_SCHEME, source) if "://" in source else None
    return None if match is None or is_remote(source) else match[1].lower()


def name_of(shown: str) -> str:
    """The name of a source that is known by its URL without a query: the last segment of its path, decoded."""
    path = shown.partition("://")[2].partition("/")[2]
    last = path.rpartition("/")[2]
    return last if shown.startswith("s3:") else unquote(last, errors="surrogateescape")


def path_of(source: str) -> Path:
    """A source's path, as the manifest has it; of a URL, its name, because a path would lose one of its slashes."""
    return Path(name_of(source) or source) if is_remote(source) else Path(source)


def parse_remote(url: str) -> RemoteUrl:
    """Check a URL that `is_remote`.

    Raises:
        UsageError: It can't be used. The message holds nothing of it that could be secret.
    """
    if url[:5].lower() == "s3://":
        return RemoteUrl("s3", url, "s3" + url[2:])
    if any(character < " " or character == "\x7f" for character in url):
        raise UsageError("the URL holds a control character, such as a line break: leave it out")
    try:
        parts, port = _split(url)
    except ValueError:
        raise UsageError("the URL can't be read: write it like https://host/path/film.mov") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"the URL of {parts.hostname} holds a user name or a password, which would be recorded and shown: use a "
            "presigned URL, or let another program read it (curl -u NAME URL | bigupload upload -)"
        )
    if not parts.hostname or re.search(_NO_HOST, parts.hostname) or port == 0:
        raise UsageError("the URL names no host: write it like https://host/path/film.mov")
    scheme = parts.scheme
    origin = f"{scheme}://{_host(parts)}{f':{port}' if port not in (None, SCHEMES[scheme].port) else ''}"
    path = _quoted(parts.path) or "/"
    query = f"?{_quoted(parts.query)}" if parts.query else ""
    return RemoteUrl(scheme, f"{origin}{path}{query}", f"{origin}{path}")


def shown_url(url: str) -> str:
    """Return a URL's name in messages, without its query. An invalid URL may hold a password."""
    try:
        return parse_remote(url).shown if is_remote(url) else _UNUSABLE
    except UsageError:
        return _UNUSABLE


def redirected(url: str, location: str | None, shown: str) -> str:
    """Return the URL that a response redirects to.

    Args:
        url: What was requested.
        location: The response's Location header.
        shown: What the source is called, for an error. The Location may be presigned, and is never shown.

    Raises:
        SourceUnsupported: Nothing is sent there: it is another scheme, or not encrypted, or holds credentials.
    """
    if not location:
        raise SourceUnsupported(f"{IT} redirects without a valid Location", it=shown)
    try:
        joined = urljoin(url, location)
        scheme = urlsplit(joined).scheme
        if scheme not in ("https", "http"):
            raise SourceUnsupported(
                f"{IT} redirects to a URL of another scheme ({scheme}:): it is not followed", it=shown
            )
        target = parse_remote(joined)
    except (UsageError, ValueError):
        raise SourceUnsupported(
            f"{IT} redirects to a URL that can't be used, or that holds credentials", it=shown
        ) from None
    if target.scheme == "http" and urlsplit(url).scheme == "https":
        raise SourceUnsupported(
            f"{IT} redirects to http://{urlsplit(target.url).netloc}, which is not encrypted: it is not followed. "
            "To read it without encryption, give the http:// URL itself",
            it=shown,
        )
    return target.url


def is_strong(etag: str | None) -> TypeGuard[str]:
    """Whether an ETag shows that two responses have the same bytes.

    https://www.rfc-editor.org/rfc/rfc9110#name-etag
    """
    return etag is not None and re.fullmatch(_STRONG, etag) is not None


def is_progress(came: int, asked: int) -> bool:
    """Whether a response brought enough of the bytes that were asked for: a 16th, or 64 KiB.

    A server that sends a few bytes for each request would get a request for each few bytes otherwise.
    """
    return came >= max(1, min(asked // 16, 64 * 1024))


@dataclass(frozen=True, slots=True)
class ContentRange:
    """The values of a Content-Range header, in bytes. `start` and `end` are None if the range can't be satisfied."""

    start: int | None
    end: int | None
    """The byte after the last one."""
    size: int


def content_range(header: str | None) -> ContentRange | None:
    """Read a Content-Range header; None without a size, or without a header."""
    match = re.fullmatch(_RANGE, header or "")
    if match is None:
        return None
    first, last = match[1], match[2]
    return ContentRange(int(first) if first else None, int(last) + 1 if last else None, int(match[3]))


def chosen_name(url: RemoteUrl, suggested: str | None) -> str:
    """The name of a remote file; "" if it has none.

    Args:
        url: Its URL. The last segment is its name, if that has an ending, as "film.mov" does and "download" does not.
        suggested: The file name of the response's Content-Disposition.
    """
    own = url.name.rpartition("/")[2]
    theirs = re.split(r"[/\\]", suggested or "")[-1].strip()
    if theirs in (".", "..") or not theirs.isprintable():
        theirs = ""
    return own if "." in own.strip(".") else theirs or own


def _split(url: str) -> tuple[SplitResult, int | None]:
    parts = urlsplit(url)
    return parts, parts.port


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        return f"[{host}]"
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise UsageError("the URL names a host that can't exist") from None


def _quoted(text: str) -> str:
    """Encode the characters that a URL must not hold; the rest stays byte for byte: a signature may cover it."""
    return quote(text, safe=_PRINTABLE, errors="surrogateescape")
