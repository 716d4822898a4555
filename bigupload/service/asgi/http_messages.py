"""ASGI's requests as bytes of HTTP/1.1, and bytes of HTTP/1.1 as ASGI's responses. Pure.

https://asgi.readthedocs.io/en/latest/specs/www.html, RFC 9112.
"""

from __future__ import annotations

import itertools
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from bigupload.records import dataclass

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE_END = re.compile(rb"[\r\n\0]")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
"""All that a target may have as it is. Spaces, control characters and bytes beyond ASCII are quoted."""
_OF_THE_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"}
)
"""Headers between the client and the server in front. RFC 9110, 7.6.1; that server also answers `Expect`."""
_OF_THE_SERVER = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server"})
"""Headers of responses that the server in front writes itself."""
_LONGEST_LENGTH = 18
"""Digits of a body's length. Of more than 4,300, Python makes no number."""
_WITHOUT_BODY = frozenset({204, 304})


class MalformedScope(ValueError):
    """The request can't be written as HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The first line and the headers of a request, and how its body follows."""

    data: bytes
    length: int | None
    """The declared length of the body in bytes; None: it follows in chunks."""


def path_in_app(scope: Mapping[str, Any]) -> str:
    """Return the path below the prefix at which the application is mounted; "" for the prefix itself.

    By the specification, `path` has the prefix (`root_path`). Some servers behind a proxy leave it out.
    """
    path: str = scope["path"]
    prefix = root_path(scope)
    rest = path[len(prefix) :]
    return rest if prefix and path.startswith(prefix) and rest[:1] in ("", "/") else path


def root_path(scope: Mapping[str, Any]) -> str:
    """Return the prefix at which the application is mounted, without a slash at its end."""
    return str(scope.get("root_path") or "").rstrip("/")


def request_head(scope: Mapping[str, Any]) -> RequestHead:
    """Return the head of the request of an ASGI scope. Raises MalformedScope."""
    method = scope["method"].encode()
    if not _TOKEN.fullmatch(method):
        raise MalformedScope("the method")
    lines, length, in_chunks = [], None, not scope.get("http_version", "1.1").startswith("1")
    for name, value in scope["headers"]:
        if not _TOKEN.fullmatch(name) or _LINE_END.search(value):
            raise MalformedScope("a header")
        lowered = name.lower()
        if lowered == b"transfer-encoding":
            in_chunks = True
        if lowered == b"content-length":
            if length is not None or not value.isdigit() or len(value) > _LONGEST_LENGTH:
                raise MalformedScope("content-length")
            length = int(value)
        if lowered not in _OF_THE_CONNECTION:
            lines.append(b"%b: %b\r\n" % (name, value))
    if not any(name.lower() == b"host" for name, _ in scope["headers"]):
        lines.append(b"Host: %b\r\n" % _host(scope.get("server")))  # HTTP/1.0 needs none, like many health checks
    if length is None and in_chunks:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif length is None:  # HTTP/1 without either header: there is no body
        length = 0
    first = b"%b %b HTTP/1.1\r\n" % (method, _target(scope))
    return RequestHead(b"".join((first, *lines, b"Connection: close\r\n\r\n")), length)


def _host(server: Sequence[Any] | None) -> bytes:
    name, port = server or ("localhost", None)
    return f"[{name}]:{port}".encode() if ":" in name else name.encode() if port is None else f"{name}:{port}".encode()


def _target(scope: Mapping[str, Any]) -> bytes:
    path, prefix = path_in_app(scope), root_path(scope)
    if not path.startswith("/"):
        raise MalformedScope("the path")
    raw = _raw_rest(scope.get("raw_path"), path, prefix)
    target = urllib.parse.quote(raw, safe=_PRINTABLE.replace("?", "").replace("#", ""))
    query = urllib.parse.quote(scope.get("query_string") or b"", safe=_PRINTABLE.replace("#", ""))
    return (f"{target}?{query}" if query else target).encode()


def _raw_rest(raw: bytes | None, path: str, prefix: str) -> bytes:
    """Return the path as the client quoted it: a key may have its slashes as %2F."""
    if raw is not None:
        slashes = itertools.islice(re.finditer(b"/", raw), prefix.count("/") + 1)  # no more: a path may have thousands
        for at in (found.start() for found in slashes):
            if prefix.endswith(urllib.parse.unquote(raw[:at])) and urllib.parse.unquote(raw[at:]) == path:
                return raw[at:]
    return urllib.parse.quote(path, safe="/!$&'()*+,;=:@~").encode()


class ResponseParser:
    """Reads one response: the head, then the body, in pieces as they come.

    It reads what the service's own server writes, and nothing else: a response that is not like that is a bug.
    """

    def __init__(self, method: str) -> None:
        """`method`: the request's. A response to HEAD has no body."""
        self._is_head = method == "HEAD"
        self._data = bytearray()
        self._rest: int | None = 0  # bytes of the body, or of the chunk, that are still to come; None: until the end
        self._in_chunks = False
        self.status: int | None = None
        """None: the head is not complete."""
        self.headers: list[tuple[bytes, bytes]] = []
        """For ASGI: the names in lower case."""
        self.complete = False
        """Whether the end of the response was read."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the response, and return those that belong to its body."""
        self._data += data
        if self.status is None:
            self._read_head()
        if self.status is None:
            return b""
        body = self._read_chunks() if self._in_chunks else self._read_plain()
        return bytes(body)

    def end(self) -> None:
        """Take the end of the connection, which is also the end of a body without a length."""
        if self.status is not None and self._rest is None:
            self.complete = True

    def _read_head(self) -> None:
        while self.status is None and (end := self._data.find(b"\r\n\r\n")) >= 0:
            first, *lines = bytes(self._data[:end]).split(b"\r\n")
            del self._data[: end + 4]
            status = int(first.split(b" ", 2)[1])
            if status >= 200:  # else it only says that the response will follow
                self._take_head(status, lines)

    def _take_head(self, status: int, lines: list[bytes]) -> None:
        length = None
        for line in lines:
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip()
            if name == b"content-length":
                length = int(value)
            if name == b"transfer-encoding":
                self._in_chunks = True
            if name not in _OF_THE_SERVER:
                self.headers.append((name, value))
        self.status = status
        if self._is_head or status in _WITHOUT_BODY:
            self._in_chunks, length = False, 0
        self._rest = 0 if self._in_chunks else length
        self.complete = self._rest == 0 and not self._in_chunks

    def _read_plain(self) -> bytearray:
        body = self._data if self._rest is None else self._data[: self._rest]
        self._data = bytearray()
        if self._rest is not None:
            self._rest -= len(body)
            self.complete = self._rest == 0
        return body

    def _read_chunks(self) -> bytearray:
        """RFC 9112, 7.1. Neither extensions nor trailers are written here, so none are read."""
        body = bytearray()
        while not self.complete:
            assert self._rest is not None
            if self._rest > 2:
                piece = self._data[: self._rest - 2]
                body += piece
                self._rest -= len(piece)
                del self._data[: len(piece)]
            if 0 < self._rest <= 2:  # the line's end after a chunk
                ended = self._data[: self._rest]
                self._rest -= len(ended)
                del self._data[: len(ended)]
            end = self._data.find(b"\r\n")
            if self._rest or end < 0:
                break
            size = int(self._data[:end], 16)
            if size == 0 and not self._data.endswith(b"\r\n\r\n"):
                break
            del self._data[: end + 2]
            self._rest, self.complete = size + 2, size == 0
        return body
