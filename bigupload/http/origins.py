"""Where a URL leads, and its two halves: the origin and what is sent to it."""

from __future__ import annotations

import functools
from typing import NamedTuple
from urllib.parse import urlsplit

from bigupload import errors

_PORTS = {"http": 80, "https": 443}


class WebOrigin(NamedTuple):
    """A store, a service or a proxy, as connections are made to it."""

    scheme: str
    host: str
    port: int
    header: str
    """The header Host: the host and, if it is not the default, the port. In lower case, as it is signed."""

    @property
    def where(self) -> str:
        """For messages, and for a proxy."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@functools.lru_cache(maxsize=64)
def origin_of(url: str) -> WebOrigin:
    """Read the origin of a URL.

    Args:
        url: The URL. Its path does not count.

    Raises:
        ValueError: It is no URL of http or https.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in _PORTS or not host:
        raise ValueError("no URL of http or https")
    header = parts.netloc.rpartition("@")[2].removesuffix(f":{_PORTS[parts.scheme]}").lower()
    if not host.isascii():
        name = host.encode("idna").decode()
        host, header = name, header.replace(host, name)
    return WebOrigin(parts.scheme, host, parts.port or _PORTS[parts.scheme], header)


def split_url(url: str) -> tuple[str, str]:
    """Return the origin of a URL, and the rest of it.

    Raises:
        ValueError: It has no path.
    """
    at = url.find("/", url.find("://") + 3)
    if at < 0 or "?" in url[:at]:
        raise ValueError("not a URL of an object")
    return url[:at], url[at:]


def unusable(e: Exception) -> errors.StoreRefused:
    """Return the error for a URL, or a header, that can't be sent."""
    return errors.StoreRefused(f"a URL, or a header beside it, can't be sent ({type(e).__name__})")
