"""May a URL be used as a media item: public, media's bytes with the right Content-Type, and no page behind it?

The service fetches what its users name, so it is a target: whoever can make it connect to a private address reads
what only it can reach. Hence: the addresses are resolved here, all of them must be public, and exactly those are
connected to, at every hop. Nothing of the environment is used (proxies, cookies, ~/.netrc), little is read, and all
of it has one time limit. Needs no pydantic: `bigupload check-url` runs without the service's extra.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from bigupload import __version__
from bigupload.service import media
from bigupload.service.media import HEAD_BYTES, MAX_FILE_SIZE, MediaType
from bigupload.service.public_addresses import is_host, is_public, is_public_host, sharing_service
from bigupload.units import one_line

MOST_REDIRECTS = 3
TIME_LIMIT = 10.0
"""Seconds, for everything: resolving, every hop, reading."""
_RECEIVE_BUFFER = 32 * 1024
"""Bytes that the kernel is to take in ahead (Linux doubles it): a host that pours is not read beyond 64 KiB."""
_LOOKUPS = 8
"""Threads of its own: a name server that never answers must not hold up what else resolves names in this process."""


class Rule(enum.Enum):
    """A rule that a URL can break. The value is its meaning; the name in lower case is `error.code` of the response."""

    NOT_A_URL = "It is not an absolute http or https URL, or it contains a user name or password."
    NOT_PUBLIC = "Its host, or a host that it redirects to, is not on the public internet."
    SHARING_LINK = "It is a sharing link of Google, Dropbox, OneDrive or iCloud. Those return pages, not media."
    NEEDS_AUTHENTICATION = "The host answers 401, 403 or 407. The URL must need no authentication."
    BAD_STATUS = "The host answers something other than 200."
    HTML = "It returns a web page, or redirects to one."
    WRONG_CONTENT_TYPE = "The Content-Type is not on the list, or does not match the first bytes."
    NOT_MEDIA = "The first bytes match no type on the list."
    TOO_MANY_REDIRECTS = f"It redirects more than {MOST_REDIRECTS} times."
    TOO_LARGE = "The file is over the limit."
    UNREACHABLE = "The name does not resolve, the connection or TLS failed, or the response is unreadable."
    TOO_SLOW = f"The first bytes did not arrive within {TIME_LIMIT:.0f} seconds."

    @property
    def code(self) -> str:
        """The stable code, on which programs match."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlCheck:
    """What a check found. Nothing in it is secret: the URL is without user name, query and fragment."""

    url: str
    """Where the redirects ended."""
    media: MediaType | None = None
    """What it is, where it is usable."""
    size: int | None = None
    """Bytes, where it is usable and the host says."""
    rule: Rule | None = None
    """The one that is broken, where it is not usable."""
    message: str | None = None
    """One line for people, where it is not usable."""

    @property
    def usable(self) -> bool:
        return self.rule is None

    def to_json(self) -> dict[str, Any]:
        """As `contract.CheckAnswer` has it."""
        return {
            "usable": self.usable,
            "url": self.url,
            "contentType": self.media and self.media.content_type,
            "type": self.media and self.media.kind,
            "size": self.size,
            "error": self.rule and {"code": self.rule.code, "message": self.message},
        }


class _Broken(Exception):
    """A rule is. `str(broken)` is the message."""

    def __init__(self, rule: Rule, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def _not_public() -> _Broken:
    """One text for all of them: it must not tell what is behind an address, nor whether anything answered."""
    return _Broken(Rule.NOT_PUBLIC, "the URL's host is not on the public internet")


Resolve = Callable[[str, int], Awaitable[list[str]]]
"""From host and port to addresses. Raises OSError where there are none."""


class _Resolver(AbstractResolver):
    """What aiohttp connects to: the addresses that were checked, of a host none of whose addresses is private."""

    def __init__(self, resolve: Resolve, *, allow_private: bool) -> None:
        self._resolve = resolve
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await self._resolve(host, port)
        if not addresses:
            raise OSError("no address")
        if not self._allow_private and not all(map(is_public, addresses)):
            raise _not_public()
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class DirectUrls:
    """Checks URLs, any number at once. An async context manager."""

    def __init__(
        self, *, allow_private: bool = False, resolve: Resolve | None = None, time_limit: float = TIME_LIMIT
    ) -> None:
        """`allow_private`: for private nets and tests; the other rules stay. `resolve`: instead of the system's."""
        self._allow_private = allow_private
        self._resolve = resolve or self._look_up
        self._time_limit = time_limit

    async def __aenter__(self) -> DirectUrls:
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="direct-url")
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(self._resolve, allow_private=self._allow_private),
            use_dns_cache=False,  # each hop is resolved, checked and connected to as one
            force_close=True,
            socket_factory=self._new_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),  # there is one for all hops
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            read_bufsize=_RECEIVE_BUFFER // 2,
            headers={"User-Agent": f"bigupload/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _look_up(self, host: str, port: int) -> list[str]:
        look_up = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [str(address[0]) for *_, address in found]

    def _new_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """The last thing before a connection is made, whichever way its address came here: it is checked once more."""
        family, kind, protocol, _, address = info
        if not self._allow_private and not is_public(str(address[0])):
            raise OSError("not a public address")
        new = socket.socket(family, kind, protocol)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        return new

    # -- one check

    async def check(self, url: str) -> UrlCheck:
        """Whether `url` may be used. Never raises for anything that URL, name server or host do."""
        visit = _Visit(shown=_without_secrets(url))
        try:
            async with asyncio.timeout(self._time_limit):
                found, size = await self._follow(url, visit)
        except TimeoutError:
            message = f"the host did not deliver the beginning of the file within {self._time_limit:g} s"
            return UrlCheck(url=visit.shown, rule=Rule.TOO_SLOW, message=message)
        except _Broken as e:
            return UrlCheck(url=visit.shown, rule=e.rule, message=str(e))
        return UrlCheck(url=visit.shown, media=found, size=size)

    async def _follow(self, url: str, visit: _Visit) -> tuple[MediaType, int | None]:
        at = _parse(url)
        while True:
            visit.shown, visit.host = _without_secrets(str(at)), _host(at)
            self._admit(visit.host)
            try:
                answer = await self._ask(at)
            except aiohttp.InvalidURL as e:  # 127.1, where private hosts are allowed
                raise _Broken(Rule.NOT_A_URL, "the URL's host is neither a name nor a whole address") from e
            except (aiohttp.ClientError, OSError, ValueError) as e:
                raise _Broken(Rule.UNREACHABLE, _why_unreachable(e)) from e
            if answer.location is None:
                return _judge(answer, visit)
            visit.redirects += 1
            if visit.redirects > MOST_REDIRECTS:
                raise _Broken(Rule.TOO_MANY_REDIRECTS, f"the URL redirects more than {MOST_REDIRECTS} times")
            at = _parse(answer.location, base=at)

    def _admit(self, host: str) -> None:
        """Raise where no connection is to be made at all. An address in a URL never meets the resolver."""
        if (service := sharing_service(host)) is not None:
            raise _Broken(
                Rule.SHARING_LINK,
                f"{service} sharing links return HTML pages, not media files: upload the file instead",
            )
        if not self._allow_private and not is_public_host(host):
            raise _not_public()

    async def _ask(self, url: yarl.URL) -> _Answer:
        async with self._session.get(url, allow_redirects=False) as response:
            try:
                location = response.headers.get("Location") if response.status in _REDIRECTS else None
                head = b""
                if response.status == 200:
                    while len(head) < HEAD_BYTES and (more := await response.content.read(HEAD_BYTES - len(head))):
                        head += more
                return _Answer(
                    status=response.status,
                    location=location,
                    content_type=response.headers.get("Content-Type", ""),
                    encoding=response.headers.get("Content-Encoding", "identity").strip().lower(),
                    size=response.content_length,
                    head=head,
                )
            finally:
                response.close()  # there may be gigabytes more


_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(slots=True)
class _Visit:
    """Where a check is."""

    shown: str
    host: str = ""
    redirects: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What a host said."""

    status: int
    location: str | None
    """Where it redirects to."""
    content_type: str
    encoding: str
    size: int | None
    """Bytes."""
    head: bytes


def _host(url: yarl.URL) -> str:
    return (url.raw_host or "").lower()


def _parse(text: str, base: yarl.URL | None = None) -> yarl.URL:
    """An absolute http URL with a host, its path and query as they were written. Raises `_Broken`.

    A user's URL is read strictly: what two parsers could read in two ways is refused. A redirect (`base`) may be
    relative, and hold spaces.
    """
    what = "the URL" if base is None else "the URL redirects to what"
    try:
        if base is None and not re.fullmatch(r"https?://[^\s\\]+", text, re.IGNORECASE):
            raise ValueError
        text.encode()  # halves of characters, which would be dropped
        # Signatures are made of the very bytes of a query, so what is written in plain characters is left alone.
        url = yarl.URL(text, encoded=re.fullmatch(r"[!-~]+", text) is not None)
        url = (base.join(url) if base is not None else url).with_fragment(None)
        if url.scheme not in ("http", "https") or not is_host(_host(url)) or not url.port:
            raise ValueError
        if "@" in url.raw_authority:
            raise _Broken(Rule.NOT_A_URL, f"{what} holds a user name or password")
    except ValueError:
        raise _Broken(Rule.NOT_A_URL, f"{what} is no absolute http or https URL") from None
    return url


def _without_secrets(url: str) -> str:
    """A URL, or what was meant to be one, as it may be shown: one line, whole, no user name, query or fragment."""
    plain = re.sub(r"^([^/]*:)?//[^/]*@", r"\1//", re.split(r"[?#]", url, maxsplit=1)[0])
    return "".join(c if c.isprintable() else " " for c in plain)


def _judge(answer: _Answer, visit: _Visit) -> tuple[MediaType, int | None]:
    """What the last answer means. Raises `_Broken`."""
    if answer.status in (401, 403, 407):
        raise _Broken(
            Rule.NEEDS_AUTHENTICATION, f"the host answers {answer.status}: the file must be public, for anyone to fetch"
        )
    if answer.status != 200:
        raise _Broken(Rule.BAD_STATUS, f"the host answers {answer.status} instead of 200")
    declared = media.by_content_type(answer.content_type)
    if _is_page(answer, declared):
        where = "returns" if not visit.redirects else f"redirects to {one_line(visit.host)}, which returns"
        raise _Broken(Rule.HTML, f"the URL {where} an HTML page, not a media file")
    if answer.size is not None and answer.size > MAX_FILE_SIZE:
        raise _Broken(Rule.TOO_LARGE, f"the file is over {MAX_FILE_SIZE // 10**9} GB ({answer.size} bytes)")
    found = media.identify(answer.head)
    said = one_line(answer.content_type) or "none at all"
    if declared is None:
        wanted = f"the file is {found.name}, of {found.content_type}" if found else f"allowed are {media.NAMES}"
        raise _Broken(Rule.WRONG_CONTENT_TYPE, f"the host's Content-Type is {said}: {wanted}")
    if answer.encoding not in ("", "identity"):
        raise _Broken(Rule.NOT_MEDIA, "the host sends the file compressed (Content-Encoding), though unasked")
    if found is None:
        raise _Broken(Rule.NOT_MEDIA, f"the first bytes are those of none of {media.NAMES}")
    if found is not declared:
        raise _Broken(
            Rule.WRONG_CONTENT_TYPE,
            f"the host's Content-Type is {said}, but the first bytes are those of {found.name} ({found.content_type})",
        )
    return found, answer.size


_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html|head|body|script)\b", re.I | re.S
)


def _is_page(answer: _Answer, declared: MediaType | None) -> bool:
    said = answer.content_type.partition(";")[0].strip().lower()
    return said in ("text/html", "application/xhtml+xml") or _PAGE.match(answer.head) is not None


def _why_unreachable(e: Exception) -> str:
    """aiohttp's own texts can hold a URL, and its query may be a secret."""
    if isinstance(e, aiohttp.ClientConnectorDNSError):
        return "there is no host of that name"
    if isinstance(e, aiohttp.ClientSSLError | ssl.SSLError):
        return "the host has no TLS certificate that can be trusted"
    if isinstance(e, aiohttp.ClientConnectorError):
        return "the host can't be connected to"
    return "the host's answer broke off, or can't be read"
