"""Where the path of a URL begins."""

from __future__ import annotations

import functools
from typing import NamedTuple
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


class WebOrigin(NamedTuple):
    """A store, a service or a proxy, as connections are made to it."""

    scheme: str
    host: str
    port: int
    header: str
    """The header Host: the host as it is written and, if it is not the default, the port."""

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
    header = parts.netloc.rpartition("@")[2].removesuffix(f":{_PORTS[parts.scheme]}")
    if not host.isascii():
        name = host.encode("idna").decode()
        host, header = name, header.lower().replace(host, name)
    return WebOrigin(parts.scheme, host, parts.port or _PORTS[parts.scheme], header)
