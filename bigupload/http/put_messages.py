"""The head of a PUT as it is sent, and what the response means."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.http_errors import fault_of_response
from bigupload.ports import PutResponse


def split_url(url: str) -> tuple[str, str]:
    """Return the origin of a URL, and the rest of it.

    Raises:
        ValueError: It has no path.
    """
    at = url.find("/", url.find("://") + 3)
    if at < 0:
        raise ValueError("not a URL of an object")
    return url[:at], url[at:]


def head_of_put(target: str, host: str, headers: Mapping[str, str], size: int) -> bytes:
    """Return the head of a PUT.

    Args:
        target: The URL without its origin, sent as it is.
        host: The header Host.
        headers: All others but Content-Length.
        size: The body's bytes.

    Raises:
        ValueError: The URL or a header can't be sent.
    """
    lines = [f"PUT {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join([*lines, f"Content-Length: {size}", "", ""])
    if head.count("\n") != len(lines) + 2 or head.count("\r") != len(lines) + 2 or " " in target:
        raise ValueError("a line break in a header")
    return head.encode()


def judge(status: int, headers: Mapping[str, str], body: bytes, what: str, *, complete: bool) -> PutResponse:
    """Return a response as a `PutResponse`, if it is a 2xx to the whole body.

    Args:
        status: Its status.
        headers: Its headers, looked up case-insensitively.
        body: The first bytes of its body, if it is no 2xx.
        what: What was sent, for messages: "part 3".
        complete: Whether all of that was sent.

    Raises:
        Fault: It is any other response.
    """
    if status // 100 == 3:
        location = _host(headers.get("Location", "")) or "elsewhere"
        raise Fault(FaultKind.FINAL, f"the store redirects {what} to {location}: use its own endpoint or region")
    if status // 100 != 2:
        raise fault_of_response(status, headers, body, what)
    if not complete:
        raise Fault(FaultKind.BROKEN, f"the store responded {status} to {what} before it had received all of it")
    checksums = {k.lower(): v for k, v in headers.items() if k.lower().startswith("x-amz-checksum-")}
    etag = headers.get("ETag")
    if not etag:
        raise Fault(FaultKind.BROKEN, f"the store's response to {what} has no ETag")
    return PutResponse(etag, checksums, headers.get("x-amz-version-id"))


def unusable(e: Exception) -> errors.StoreRefused:
    """Return the error for a URL, or a header, that can't be sent."""
    return errors.StoreRefused(f"the store gave a URL that can't be used ({type(e).__name__})")


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
