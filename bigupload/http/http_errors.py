"""Translates aiohttp's exceptions, TLS failures and HTTP error responses into `Fault`s, in one place.

aiohttp's own messages can contain the URL, and a presigned URL is a bearer secret. So a message here holds only the
kind of error, the host and port, and the operating system's reason.
"""

from __future__ import annotations

import contextlib
import email.utils
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping

from bigupload.core.retry_policy import Fault, FaultKind, classify
from bigupload.support.descriptors import OUT_OF_DESCRIPTORS, is_out_of_descriptors
from bigupload.units import one_line

MAX_ERROR_BODY = 64 * 1024
"""Bytes of an error response that are read."""
_CLOCK_TOLERANCE = 600.0
"""Seconds. With a clock that is further off, a store refuses presigned URLs as expired or not yet valid."""
_OF_ASYNCIO = ("Connect call failed", "Multiple exceptions")
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,100})\s*</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{0,1000})</Message>")
PROXY_AUTH_REQUIRED = 407


def fault_of_exception(e: Exception, where: str) -> Fault:
    """Translate a failed exchange.

    Args:
        e: What aiohttp, ssl or the operating system raised.
        where: The store's "host:port", for the message.

    Returns:
        The fault. Its message contains no URL.
    """
    import aiohttp

    if (fault := _fault_of_any(e, where)) is not None:
        return fault
    if isinstance(e, aiohttp.ClientHttpProxyError):
        return fault_of_proxy(e.status, where)
    if isinstance(e, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLCertVerificationError):
        reason = getattr(e, "certificate_error", None) or getattr(e, "os_error", None) or type(e).__name__
        return _untrusted(where, reason)
    if isinstance(e, aiohttp.ClientProxyConnectionError):
        return Fault(FaultKind.UNREACHABLE, f"can't connect to the proxy {e.host}:{e.port}: {_os_reason(e)}")
    if isinstance(e, aiohttp.ClientConnectorDNSError):
        return Fault(FaultKind.UNREACHABLE, f"no such host: {e.host}:{e.port}")
    if isinstance(e, aiohttp.ClientConnectorError):
        return Fault(FaultKind.UNREACHABLE, f"can't connect to {where}: {_os_reason(e)}")
    if isinstance(e, aiohttp.ConnectionTimeoutError):
        return Fault(FaultKind.UNREACHABLE, f"can't connect to {where}: timed out")
    return _fault_of_exchange(e, where, _os_reason(e))


def fault_of_socket(e: Exception, where: str) -> Fault:
    """Translate a failed exchange over one of Python's own sockets. Without aiohttp, which may not be imported.

    Args:
        e: What ssl, http.client or the operating system raised.
        where: The store's "host:port", for the message.
    """
    reason = getattr(e, "strerror", None) or type(e).__name__
    return _fault_of_any(e, where) or _fault_of_exchange(e, where, reason)


def fault_of_connecting(e: OSError, where: str) -> Fault:
    """Translate the failure of one of Python's own sockets to connect.

    Args:
        e: What ssl or the operating system raised.
        where: The store's "host:port", for the message.
    """
    if (fault := _fault_of_any(e, where)) is not None:
        return fault
    if isinstance(e, ssl.SSLError):
        return _untrusted(where, e)
    if isinstance(e, socket.gaierror):
        return Fault(FaultKind.UNREACHABLE, f"no such host: {where}")
    reason = "timed out" if isinstance(e, TimeoutError) else _words(e)
    return Fault(FaultKind.UNREACHABLE, f"can't connect to {where}: {reason}")


def why_unreachable(e: BaseException, where: str) -> str:
    """Say why no connection to a store can be made, and what to do. Its address may be wrong.

    Args:
        e: What the operating system raised, or a library because of it.
        where: The store's "host:port".
    """
    inner = next((each for each in _chain(e) if isinstance(each, OSError) and each.errno), None)
    if isinstance(inner, socket.gaierror):
        return f"{where} has no address: check the endpoint, the region and the network"
    if isinstance(inner, ConnectionRefusedError):
        return f"{where} refuses the connection: start the store, or check the endpoint and its port"
    if inner is None or isinstance(inner, TimeoutError):
        return f"{where} does not answer: check the endpoint and the network"
    return f"can't connect to {where} ({_words(inner)}): check the endpoint and the network"


def _fault_of_any(e: Exception, where: str) -> Fault | None:
    """What means the same whoever raised it, and whatever was being done."""
    if tls_connection_lost(e):
        return Fault(FaultKind.BROKEN, f"the TLS connection to {where} was closed")
    return Fault(FaultKind.BROKEN, OUT_OF_DESCRIPTORS) if out_of_descriptors(e) else None


def _fault_of_exchange(e: Exception, where: str, reason: str) -> Fault:
    """A connection that was there."""
    if isinstance(e, TimeoutError):
        return Fault(FaultKind.STALLED, f"no response from {where} in time")
    return Fault(FaultKind.BROKEN, f"the connection to {where} broke ({reason})")


def _untrusted(where: str, reason: object) -> Fault:
    return Fault(FaultKind.FINAL, f"no trusted TLS connection to {where} ({one_line(str(reason))}): see `ca_bundle`")


def fault_of_response(status: int, headers: Mapping[str, str], body: bytes, what: str) -> Fault:
    """Translate an error response of a store.

    S3's errors are three flat XML elements, which regular expressions find: no XML parser reads untrusted bytes here.

    Args:
        status: The HTTP status, not 2xx.
        headers: The response's headers, looked up case-insensitively or in their canonical spelling.
        body: The first bytes of the response's body.
        what: What was refused, for the message: "part 3".
    """
    if status == PROXY_AUTH_REQUIRED:
        return fault_of_proxy(status, "the store")
    code = _group(_CODE, body)
    kind = classify(status, code)
    message = f"the store refused {what}: {status} {code or ''}".rstrip()
    if kind is FaultKind.SKEWED:
        message = skew_message(headers.get("Date"))
    elif (text := _group(_MESSAGE, body)) and text != code:
        import html  # its table of entities is large

        message += f" ({one_line(html.unescape(text))})"
    if kind is FaultKind.REFUSED and abs(_clock_offset(headers.get("Date")) or 0.0) > _CLOCK_TOLERANCE:
        message += f": {skew_message(headers.get('Date'))}"
    return Fault(kind, message, status=status, code=code, retry_after=retry_after(headers.get("Retry-After")))


def fault_of_proxy(status: int, where: str) -> Fault:
    """Translate a proxy's own error response: one that does not come from the store `where`."""
    if status == PROXY_AUTH_REQUIRED:
        return Fault(
            FaultKind.FINAL,
            "the proxy asks for a user name and password (407 Proxy Authentication Required): "
            "set https_proxy (and http_proxy) to http://USER:PASSWORD@HOST:PORT",
        )
    message = f"the proxy does not connect to {where}: {status}"
    if status >= 500 or status in (408, 429):
        return Fault(FaultKind.UNREACHABLE, message)
    return Fault(FaultKind.FINAL, f"{message}: allow it there, or add the host to no_proxy")


def tls_connection_lost(e: BaseException | None) -> bool:
    """Whether a TLS connection merely ended, during the handshake or later. That says nothing about certificates."""
    return any(
        isinstance(each, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError)
        or (isinstance(each, ssl.SSLError) and getattr(each, "library", None) == "SYS")  # a reset, as OpenSSL 3 says it
        for each in _chain(e)
    )


def out_of_descriptors(e: BaseException | None) -> bool:
    """Whether an exception, or one inside it, comes from this machine's limit on open files."""
    return any(map(is_out_of_descriptors, _chain(e)))


def skew_message(date: str | None) -> str:
    """Say by how much this machine's clock is wrong, judged by the Date header of a response."""
    offset = _clock_offset(date)
    if offset is None:
        return "this machine's clock is off: set it, then run again"
    direction = "fast" if offset > 0 else "slow"
    return f"this machine's clock is {abs(offset):.0f} s {direction}: set it, then run again"


def retry_after(value: str | None) -> float | None:
    """Read a Retry-After header.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after

    Args:
        value: Seconds or a date; None if there is no such header.

    Returns:
        Seconds to wait, or None if the header says nothing that can be understood.
    """
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:12])  # a bound, because float() of more digits can be infinite
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


def _chain(e: BaseException | None) -> Iterator[BaseException]:
    """An exception and those inside it: aiohttp's `os_error`, urllib3's arguments, causes and contexts."""
    seen: set[int] = set()
    while e is not None and id(e) not in seen:
        seen.add(id(e))
        yield e
        inner = getattr(e, "os_error", None) or next((each for each in e.args if isinstance(each, BaseException)), None)
        e = inner or e.__cause__ or e.__context__


def _os_reason(e: Exception) -> str:
    """The operating system's words, which contain no URL."""
    import aiohttp

    inner = getattr(e, "os_error", e)
    reason = getattr(inner, "strerror", None)
    if isinstance(inner, OSError) and str(reason).startswith(_OF_ASYNCIO):
        return _words(inner)
    if not isinstance(inner, aiohttp.ClientOSError) and reason:
        return str(reason)
    return type(e).__name__


def _words(e: OSError) -> str:
    """The operating system's words, also in place of asyncio's, which repeat the address."""
    if e.errno and (e.strerror or "").startswith(_OF_ASYNCIO):
        return os.strerror(e.errno)
    return e.strerror or type(e).__name__


def _group(pattern: re.Pattern[bytes], body: bytes) -> str | None:
    match = pattern.search(body)
    return match[1].decode(errors="replace") if match else None


def _clock_offset(date: str | None) -> float | None:
    """Seconds by which this machine's clock is ahead of the store's."""
    try:
        return time.time() - email.utils.parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return None
