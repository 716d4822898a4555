"""Checks whether a URL can be used as a media item: public, with a media file's bytes and the right Content-Type.

The service fetches what its users name, so it is a target: a user who makes it connect to a private address reads what
only the service can reach. So host names are resolved here, all addresses must be public, and the connection goes to
exactly these, at every redirect. Nothing of the environment is used (proxies, cookies, ~/.netrc), little is read, and
the whole check has one time limit. Needs no pydantic: `bigupload check-url` runs without the extra `service`.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import ipaddress
import re
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from bigupload import __version__
from bigupload.records import dataclass
from bigupload.service.media import media_types
from bigupload.service.media.media_types import HEAD_BYTES, MAX_FILE_SIZE, MediaType, check_start
from bigupload.service.problems import Problem, Refused
from bigupload.units import format_two_sizes, one_line

# `ipaddress.is_global` changed its mind between Python's versions (3.12.4 moved several blocks), so the blocks are
# named here. An address that is not known to be public is not public.
# https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",  # "this host": reaches 127.0.0.1 on Linux
            "10.0.0.0/8",
            "100.64.0.0/10",  # carriers' NAT; some clouds keep their metadata here
            "127.0.0.0/8",
            "168.63.129.16/32",  # a public number that is Azure's host to every machine in it
            "169.254.0.0/16",  # link-local: most clouds' metadata
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # 6to4's relays
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
            "2001::/23",  # Teredo, ORCHID, benchmarks: protocols, not hosts
            "2001:db8::/32",
            "2002::/16",  # 6to4: leads to the IPv4 address within
            "3fff::/20",
        ),
    )
)
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
"""All that was ever given out."""
_HOLDS_4 = (ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96"))
"""Mapped, and NAT64 (what an IPv6-only host's DNS makes of every IPv4 host): as public as the address within."""
MOST_REDIRECTS = 3
TIME_LIMIT = 10.0
"""Seconds, for everything: resolving, every hop, reading."""
_RECEIVE_BUFFER = 32 * 1024
"""Bytes that the kernel is to take in ahead (Linux doubles it): a host that pours is not read beyond 64 KiB."""
_LOOKUPS = 8
"""Threads of its own: a name server that never responds must not delay other look-ups of this process."""


class Rule(enum.Enum):
    """A rule that a URL can break. The value is its meaning; the name in lower case is `error.code` of the response."""

    NOT_A_URL = "It is not an absolute http or https URL, or it contains a user name or password."
    NOT_PUBLIC = "Its host, or a host that it redirects to, is not on the public internet."
    SHARING_LINK = "It is a sharing link of Google, Dropbox, OneDrive or iCloud. Those return pages, not media."
    NEEDS_AUTHENTICATION = "The host responds with 401, 403 or 407. The URL must need no authentication."
    BAD_STATUS = "The host responds with another status than 200."
    HTML = "It returns a web page, or redirects to one."
    WRONG_CONTENT_TYPE = "The Content-Type is not on the list, or does not match the first bytes."
    NOT_MEDIA = "The first bytes match no type on the list, or the file is cut off."
    TOO_MANY_REDIRECTS = f"It redirects more than {MOST_REDIRECTS} times."
    TOO_LARGE = "The file is larger than the limit, or the picture has more than 268 million pixels."
    UNREACHABLE = "The name does not resolve, the connection or TLS failed, or the response is unreadable."
    TOO_SLOW = f"The first bytes did not arrive within {TIME_LIMIT:.0f} seconds."

    @property
    def code(self) -> str:
        """The stable code, on which programs match."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlCheck:
    """The result of a check. Nothing in it is secret: the URL is without user name, query and fragment."""

    url: str
    """The URL at which the redirects ended."""
    media: MediaType | None = None
    """The medium's type, if it is usable."""
    size: int | None = None
    """Bytes, if it is usable and the host reports them."""
    rule: Rule | None = None
    """The one that is broken, where it is not usable."""
    message: str | None = None
    """One line for people, where it is not usable."""

    @property
    def usable(self) -> bool:
        return self.rule is None

    def to_json(self) -> dict[str, Any]:
        """As `contract.CheckResponse` has it."""
        return {
            "usable": self.usable,
            "url": self.url,
            "contentType": self.media and self.media.content_type,
            "type": self.media and self.media.kind,
            "size": self.size,
            "error": self.rule and {"code": self.rule.code, "message": self.message},
        }


class _RuleBroken(Exception):
    """A URL breaks a rule. The exception's text is the message."""

    def __init__(self, rule: Rule, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def _not_public() -> _RuleBroken:
    """Return one message for all cases: it must not reveal what is at an address, or whether anything responded."""
    return _RuleBroken(Rule.NOT_PUBLIC, "the URL's host is not on the public internet")


Resolve = Callable[[str, int], Awaitable[list[str]]]
"""From host and port to addresses. Raises OSError without an address."""


class _Resolver(AbstractResolver):
    """Gives aiohttp the addresses that were checked, of a host without a private address."""

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
        shown, redirects = _without_secrets(url), 0
        try:
            async with asyncio.timeout(self._time_limit):
                at = _parse(url)
                while True:
                    shown = _without_secrets(str(at))
                    self._admit(_host(at))
                    response, size, head = await self._fetch(at)
                    location = response.headers.get("Location") if response.status in _REDIRECTS else None
                    if location is None:
                        media = _judge(response, size, head, _host(at) if redirects else None)
                        return UrlCheck(url=shown, media=media, size=size)
                    redirects += 1
                    if redirects > MOST_REDIRECTS:
                        message = f"the URL redirects more than {MOST_REDIRECTS} times"
                        raise _RuleBroken(Rule.TOO_MANY_REDIRECTS, message)
                    at = _parse(location, base=at)
        except TimeoutError:
            message = f"the host did not send the first bytes of the file within {self._time_limit:g} s"
            return UrlCheck(url=shown, rule=Rule.TOO_SLOW, message=message)
        except _RuleBroken as e:
            return UrlCheck(url=shown, rule=e.rule, message=str(e))

    def _admit(self, host: str) -> None:
        """Raise where no connection must be made. The resolver is not asked for an address in a URL."""
        if (service := sharing_service(host)) is not None:
            raise _RuleBroken(
                Rule.SHARING_LINK,
                f"{service} sharing links return HTML pages, not media files: upload the file instead",
            )
        if not self._allow_private and not is_public_host(host):
            raise _not_public()

    async def _fetch(self, url: yarl.URL) -> tuple[aiohttp.ClientResponse, int | None, bytes]:
        """Return a response, its size in bytes, and the first bytes of one with the status 200. Raises _RuleBroken."""
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                try:
                    head = b""
                    if response.status == 200:
                        while len(head) < HEAD_BYTES and (more := await response.content.read(HEAD_BYTES - len(head))):
                            head += more
                    return response, response.content_length, head
                finally:
                    response.close()  # there may be gigabytes more
        except aiohttp.InvalidURL as e:  # 127.1, where private hosts are allowed
            raise _RuleBroken(Rule.NOT_A_URL, "the URL's host is not a host name or a complete IP address") from e
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise _RuleBroken(Rule.UNREACHABLE, _why_unreachable(e)) from e


_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def _host(url: yarl.URL) -> str:
    return (url.raw_host or "").lower()


def _parse(text: str, base: yarl.URL | None = None) -> yarl.URL:
    """An absolute http URL with a host, its path and query as they were written. Raises `_RuleBroken`.

    A user's URL is read strictly: what two parsers could read in two ways is refused. A redirect (`base`) may be
    relative, and hold spaces.
    """
    what = "the URL" if base is None else "the target of the URL's redirect"
    try:
        if base is None and not re.fullmatch(r"https?://[^\s\\]+", text, re.IGNORECASE):
            raise ValueError
        text.encode()  # halves of characters, which would be dropped
        # Signatures are made of the very bytes of a query, so plain characters are left alone.
        url = yarl.URL(text, encoded=re.fullmatch(r"[!-~]+", text) is not None)
        url = (base.join(url) if base is not None else url).with_fragment(None)
        if url.scheme not in ("http", "https") or not is_host(_host(url)) or not url.port:
            raise ValueError
        if "@" in url.raw_authority:
            raise _RuleBroken(Rule.NOT_A_URL, f"{what} contains a user name or password")
    except ValueError:
        raise _RuleBroken(Rule.NOT_A_URL, f"{what} is not an absolute http or https URL") from None
    return url


def _without_secrets(url: str) -> str:
    """A URL, or what was meant to be one, as it may be shown: one line, whole, no user name, query or fragment."""
    plain = re.sub(r"^([^/]*:)?//[^/]*@", r"\1//", re.split(r"[?#]", url, maxsplit=1)[0])
    return "".join(c if c.isprintable() else " " for c in plain)


def _judge(response: aiohttp.ClientResponse, size: int | None, head: bytes, redirected_to: str | None) -> MediaType:
    """Judge the last response. Raises `_RuleBroken`.

    Args:
        response: The response.
        size: Its size in bytes; None: the host does not report it.
        head: The first bytes of the file.
        redirected_to: The last host, if it is not the URL's own.
    """
    if response.status in (401, 403, 407):
        raise _RuleBroken(
            Rule.NEEDS_AUTHENTICATION, f"the host responds with {response.status}: the file must be public"
        )
    if response.status != 200:
        raise _RuleBroken(Rule.BAD_STATUS, f"the host responds with {response.status} instead of 200")
    said = response.headers.get("Content-Type", "")
    declared = media_types.by_content_type(said)
    is_page = said.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")
    if is_page or _PAGE.match(head) is not None:
        where = "returns" if redirected_to is None else f"redirects to {one_line(redirected_to)}, which returns"
        raise _RuleBroken(Rule.HTML, f"the URL {where} an HTML page, not a media file")
    if size is not None and size > MAX_FILE_SIZE:
        has, limit = format_two_sizes(size, MAX_FILE_SIZE)
        raise _RuleBroken(Rule.TOO_LARGE, f"the file has {has}, and the limit is {limit}")
    found = media_types.identify(head)
    said = one_line(said) or "missing"
    if declared is None:
        wanted = f"the file is {found.name} ({found.content_type})" if found else f"supported are {media_types.NAMES}"
        raise _RuleBroken(Rule.WRONG_CONTENT_TYPE, f"the host's Content-Type is {said}: {wanted}")
    if response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        raise _RuleBroken(Rule.NOT_MEDIA, "the host sends the file compressed (Content-Encoding): serve it as it is")
    if found is None:
        raise _RuleBroken(Rule.NOT_MEDIA, f"the first bytes match none of {media_types.NAMES}")
    if found is not declared:
        raise _RuleBroken(
            Rule.WRONG_CONTENT_TYPE,
            f"the host's Content-Type is {said}, but the first bytes are of {found.name} ({found.content_type})",
        )
    try:
        check_start(found.name, head, sys.maxsize if size is None else size)
    except Refused as refused:
        rule = Rule.TOO_LARGE if refused.problem is Problem.FILE_TOO_LARGE else Rule.NOT_MEDIA
        raise _RuleBroken(rule, str(refused)) from None
    return found


_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html|head|body|script)\b", re.I | re.S
)


def _why_unreachable(e: Exception) -> str:
    """aiohttp's own texts can hold a URL, and its query may be a secret."""
    if isinstance(e, aiohttp.ClientConnectorDNSError):
        return "the host name does not exist"
    if isinstance(e, aiohttp.ClientSSLError | ssl.SSLError):
        return "the host's TLS certificate is not trusted"
    if isinstance(e, aiohttp.ClientConnectorError):
        return "the connection to the host failed"
    return "the host's response ended early, or can't be read"


def is_public(address: str) -> bool:
    """Whether an address, from a resolver or a URL, is on the public internet. False for other text."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return False
        if any(parsed in block for block in _HOLDS_4):
            parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)
        elif parsed not in _GLOBAL_6:
            return False
    return not any(parsed in block for block in _NOT_PUBLIC)


_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL_NAMES = frozenset(
    {"localhost", "local", "localdomain", "internal", "intranet", "private", "corp", "home", "lan"}
)
"""Last labels that no public host has: RFC 6761, RFC 6762 appendix G."""


def is_host(host: str) -> bool:
    """Whether `host` can be a host: a name in lower case, within DNS's lengths, or an address."""
    return ":" in host or (len(host) <= 253 and _NAME.fullmatch(host) is not None)


def is_public_host(host: str) -> bool:
    """Whether a URL's host, before it is resolved, can be public. A name still has to resolve to public addresses.

    An IPv4 address must be written as four decimal numbers: resolvers read 127.1, 0x7f.1, 0177.0.0.1 and 2130706433
    each in its own way, and no CDN is named like that.
    """
    name = host.removesuffix(".")
    labels = name.split(".")
    if ":" in name or _NUMBER.fullmatch(labels[-1]):
        return is_public(name)
    return len(labels) > 1 and labels[-1] not in _LOCAL_NAMES and labels[-2:] != ["home", "arpa"]


_SHARING = {
    "Google Drive": "drive.google.com drive.usercontent.google.com",
    "Google Docs": "docs.google.com",
    "Google Photos": "photos.google.com photos.app.goo.gl",
    "Dropbox": "dropbox.com db.tt",
    "OneDrive": "onedrive.live.com onedrive.com docs.live.net 1drv.ms 1drv.com sharepoint.com",
    "iCloud": "icloud.com icloud.com.cn",
}
_SHARED_BY = {host: service for service, hosts in _SHARING.items() for host in hosts.split()}


def sharing_service(host: str) -> str | None:
    """The name of the sharing service whose links are on this host or a domain above it; None for other hosts."""
    labels = host.removesuffix(".").split(".")
    return next((name for at in range(len(labels)) if (name := _SHARED_BY.get(".".join(labels[at:])))), None)
