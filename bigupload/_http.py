"""What the adapters share about HTTP: the connection pool, and foreign exceptions and answers made into `Fault`s.

aiohttp's own texts can hold the URL, and a presigned URL is a bearer secret: nothing of theirs is passed on but the
kind of error and the operating system's reason.
"""

from __future__ import annotations

import email.utils
import html
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import yarl
from aiohttp.abc import ResolveResult
from aiohttp.connector import Connection

from bigupload import errors
from bigupload._sockets import new_socket
from bigupload.retry import Fault, FaultKind, classify
from bigupload.units import one_line

CONNECT_TIMEOUT = 10.0
"""Seconds for one try at the addresses of a name, all of them, until TLS stands."""
CONNECT_WITHIN = 20.0
"""Seconds for all such tries and the look-up of the name. aiohttp tries as often as there are addresses, so that eight
of them behind a dead path would take longer than the watch over a request's bytes does, and be taken for a stall."""
_NAMES_LAST = 10
"""Seconds for which a name's addresses are believed: a store that has moved, or a failed front end that its name leaves
out by now, is found within them."""
MOST_ERROR_BYTES = 64 * 1024
_CLOCK_MAY_BE_OFF = 600.0
"""Seconds. A presigned URL of a wrong clock is refused as expired or not yet valid, and nobody says why."""


def ssl_context(ca_bundle: Path) -> ssl.SSLContext:
    """Verifying, by the given certificates. Raises UsageError for a file that can't be read."""
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as e:
        raise errors.UsageError(f"can't use the CA bundle {ca_bundle}: {e.strerror or e}") from e


class Names(aiohttp.ThreadedResolver):
    """The system's look-up of names, each of which begins its list of addresses one further than the last did.

    aiohttp hands a list out in turn for as long as it keeps it; but each new list would begin with the same address,
    and where connections are few and far between they would all go there, retries of what failed there included.
    The system's, also where aiodns is installed: that reads once which name servers there are, and another network has
    others.
    """

    def __init__(self) -> None:
        super().__init__()
        self._turn = -1

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        self._turn += 1
        first = self._turn % len(found) if found else 0
        return found[first:] + found[:first]


class _Connector(aiohttp.TCPConnector):
    """Asks a name again as soon as nothing connects to the addresses that it had."""

    async def connect(self, *arguments: Any, **more: Any) -> Connection:
        try:
            return await super().connect(*arguments, **more)
        except (aiohttp.ClientError, OSError):
            self.clear_dns_cache()
            raise


def new_session(ca_bundle: Path | None, *, reuse: bool = True, names: Names | None = None) -> aiohttp.ClientSession:
    """A pool without a limit of its own (the engine bounds it), without a total timeout (a part may take hours).

    New connections go round all addresses that the store's name has; sessions that share `names` do so together.
    `reuse=False`: each request gets a connection of its own.
    """
    # Less than `RetryPolicy.stall_after`: who has waited so long finds no idle connection of the same dead path.
    keep: dict[str, Any] = {"keepalive_timeout": 15} if reuse else {"force_close": True}
    connector = _Connector(
        limit=0,
        # aiohttp has a context with the system's certificates; each further one would take as long to read them.
        ssl=True if ca_bundle is None else ssl_context(ca_bundle),
        socket_factory=new_socket,
        resolver=names or Names(),
        ttl_dns_cache=_NAMES_LAST,
        **keep,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeouts(),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type", "Accept"),
    )


def timeouts(*, total: float | None = None, sock_read: float | None = None) -> aiohttp.ClientTimeout:
    """Of one request, in seconds: those of connecting are everywhere the same."""
    return aiohttp.ClientTimeout(total=total, connect=CONNECT_WITHIN, sock_connect=CONNECT_TIMEOUT, sock_read=sock_read)


Proxy: TypeAlias = tuple[yarl.URL, aiohttp.BasicAuth | None] | tuple[None, None]


def proxy_of(url: yarl.URL) -> Proxy:
    """The proxy that the environment names for a URL, as aiohttp takes it.

    Not by `trust_env`, which would send a password of ~/.netrc along with the presigned URL.
    """
    found = urllib.request.getproxies().get(url.scheme)
    if not found or url.host is None or urllib.request.proxy_bypass(url.host):
        return None, None
    proxy = yarl.URL(found if "://" in found else f"http://{found}")
    auth = aiohttp.BasicAuth(proxy.user, proxy.password or "") if proxy.user else None
    return proxy.with_user(None), auth


def tls_broke_off(e: BaseException | None) -> bool:
    """Whether a TLS connection just ended, in the handshake or later: no word about whom to trust."""
    while e is not None:
        if isinstance(e, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
            return True
        if isinstance(e, ssl.SSLError) and getattr(e, "library", None) == "SYS":  # a reset, as OpenSSL 3 has it
            return True
        inner = getattr(e, "os_error", None) or next((a for a in e.args if isinstance(a, BaseException)), None)
        e = inner or e.__cause__ or e.__context__
    return False


def fault_of_exception(e: Exception, where: str) -> Fault:
    """What a failed exchange with `where` (a host, for people) means. Its text holds no URL."""
    if tls_broke_off(e):
        return Fault(FaultKind.BROKEN, f"the TLS connection to {where} broke off")
    if isinstance(e, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLCertVerificationError):
        reason = getattr(e, "certificate_error", None) or getattr(e, "os_error", None) or type(e).__name__
        return Fault(
            FaultKind.FINAL, f"no trusted TLS connection to {where} ({one_line(str(reason))}): see --ca-bundle"
        )
    if isinstance(e, aiohttp.ClientConnectorDNSError):
        return Fault(FaultKind.UNREACHABLE, f"no such host: {where}")
    if isinstance(e, aiohttp.ClientConnectorError):
        return Fault(FaultKind.UNREACHABLE, f"can't connect to {where}: {_os_reason(e)}")
    if isinstance(e, aiohttp.ConnectionTimeoutError):
        return Fault(FaultKind.UNREACHABLE, f"can't connect to {where}: no answer in time")
    if isinstance(e, TimeoutError):
        return Fault(FaultKind.STALLED, f"no answer from {where}")
    return Fault(FaultKind.BROKEN, f"the connection to {where} broke ({_os_reason(e)})")


def _os_reason(e: Exception) -> str:
    """The operating system's words, which hold no URL."""
    inner = getattr(e, "os_error", e)
    reason = getattr(inner, "strerror", None)
    if not isinstance(inner, aiohttp.ClientOSError) and reason:
        return str(reason)
    return type(e).__name__


_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,100})\s*</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{0,1000})</Message>")


def fault_of_answer(status: int, headers: Mapping[str, str], body: bytes, what: str) -> Fault:
    """What a refusal of `what` means. S3's errors are three flat elements: no XML parser is let near them."""
    code = _group(_CODE, body)
    kind = classify(status, code)
    message = f"the store refused {what}: {status} {code or ''}".rstrip()
    if kind is FaultKind.SKEWED:
        message = skew_message(headers.get("Date"))
    elif text := _group(_MESSAGE, body):
        message += f" ({one_line(html.unescape(text))})"
    if (
        kind is FaultKind.REFUSED
        and (off := _clock_off(headers.get("Date"))) is not None
        and abs(off) > _CLOCK_MAY_BE_OFF
    ):
        message += f": {skew_message(headers.get('Date'))}"
    return Fault(kind, message, status=status, code=code, retry_after=retry_after(headers.get("Retry-After")))


def _group(pattern: re.Pattern[bytes], body: bytes) -> str | None:
    match = pattern.search(body)
    return match[1].decode(errors="replace") if match else None


def skew_message(date: str | None) -> str:
    """By how much this machine's clock is off, from the Date of the store's answer."""
    off = _clock_off(date)
    if off is None:
        return "this machine's clock is off: set it, then run again"
    way = "fast" if off > 0 else "slow"
    return f"this machine's clock is {abs(off):.0f} s {way}: set it, then run again"


def _clock_off(date: str | None) -> float | None:
    """Seconds that this machine's clock is ahead of the store's."""
    try:
        return time.time() - email.utils.parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return None


def retry_after(value: str | None) -> float | None:
    """Seconds, from either of the header's two forms. https://www.rfc-editor.org/rfc/rfc9110#name-retry-after"""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:12])  # thirty thousand years are enough
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
