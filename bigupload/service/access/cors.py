"""Let pages of other origins call the API: which origins, and the headers that permit it to a browser.

A browser asks before it sends a request with `Authorization` (a preflight), and shows a response to the page only if
its headers name the page's origin. No cookie is ever read or allowed (`Access-Control-Allow-Credentials` is never
sent): a page can act only with a key or token that it holds. The rules: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from bigupload.errors import UsageError

ANY_ORIGIN = "*"
_MAX_AGE = 7200
"""Seconds for which a browser may keep the answer to a preflight: the most that Chromium takes."""
_ALLOWED_HEADERS = "Authorization, Content-Type"
"""Each in full: browsers do not count `Authorization` as part of `*`."""
_EXPOSED_HEADERS = "Retry-After, X-Request-Id"
"""Response headers that a page may read besides the headers that every page may read (Content-Type among them)."""
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


def check_origin(origin: str, *, patterns: bool = False) -> str:
    """Return `origin`, if a browser may send it as `Origin`, or "*".

    A browser compares and sends an origin as text: https://app.example.com, with neither a path nor the default port,
    in lower case. A rule for another spelling would never match.

    Args:
        origin: What was given.
        patterns: Whether one "*" may stand in it, as in https://*.example.com. S3's rules allow that.

    Raises:
        UsageError: It is not an origin.
    """
    if origin == ANY_ORIGIN:
        return origin
    try:
        parts = urlsplit(origin)
        port = parts.port
        host = parts.netloc if port is None else parts.netloc.removesuffix(f":{port}")
        sound = (
            parts.scheme in _DEFAULT_PORTS
            and origin == f"{parts.scheme}://{parts.netloc}"
            and parts.username is None
            and port not in (0, _DEFAULT_PORTS[parts.scheme])
            and _HOST.fullmatch(host.replace("*", "x", 1) if patterns else host) is not None
        )
    except ValueError:  # brackets, a port over 65535
        sound = False
    if not sound:
        raise UsageError(
            f"not an origin: {origin!r} (write it like https://app.example.com: in lower case, without a path or a "
            "default port)"
        )
    return origin


class CrossOrigin:
    """The origins whose pages may call the API. None by default."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        """`origins`: as browsers send them; "*" alone is every origin. Raises UsageError."""
        self._origins = frozenset(check_origin(origin) for origin in origins)
        if ANY_ORIGIN in self._origins and len(self._origins) > 1:
            raise UsageError('the origin "*" allows every page: name it alone, or leave it out')

    def __bool__(self) -> bool:
        """Return whether any other origin may call the API."""
        return bool(self._origins)

    def headers(self, origin: str | None) -> Mapping[str, str]:
        """Return the headers of a response to a request from `origin`, whether it is allowed or not."""
        if not self._origins:
            return {}
        vary = {} if ANY_ORIGIN in self._origins else {"Vary": "Origin"}
        allowed = self._allowed(origin)
        if allowed is None:
            return vary
        return vary | {"Access-Control-Allow-Origin": allowed, "Access-Control-Expose-Headers": _EXPOSED_HEADERS}

    def preflight(self, origin: str | None, wanted: str | None, methods: Collection[str]) -> Mapping[str, str] | None:
        """Return the headers of the answer to a preflight; None if it must be refused, or is not a preflight.

        Args:
            origin: The request's `Origin`.
            wanted: The request's `Access-Control-Request-Method`.
            methods: The methods of the path.
        """
        allowed = self._allowed(origin)
        if allowed is None or wanted not in methods:
            return None
        return {
            "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
            "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(_MAX_AGE),
        }

    def _allowed(self, origin: str | None) -> str | None:
        if origin is None:
            return None
        if ANY_ORIGIN in self._origins:
            return ANY_ORIGIN
        return origin if origin in self._origins else None
