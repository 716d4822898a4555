"""aiohttp's exceptions, TLS failures and HTTP error responses, translated into `Fault`s in one place.

aiohttp's own texts can hold the URL, and a presigned URL is a bearer secret: only the kind of error and the operating
system's reason are passed on.
"""

from __future__ import annotations

import email.utils
import html
import re
import ssl
import time
from collections.abc import Mapping

import aiohttp

from bigupload.core.retry_policy import Fault, FaultKind, classify
from bigupload.units import one_line

MOST_ERROR_BYTES = 64 * 1024


_CLOCK_MAY_BE_OFF = 600.0
"""Seconds. A presigned URL of a wrong clock is refused as expired or not yet valid, and nobody says why."""


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
