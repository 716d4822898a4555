"""Which proxy the environment names, and what it is told. Without aiohttp: see `trust`.

aiohttp's `trust_env` is not used: it would send a password from ~/.netrc along with the presigned URL.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import yarl

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the user's credentials for it."""

    url: yarl.URL | None = None
    """Without credentials. None: there is no proxy."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Proxy-Authorization, if the user has a name there."""

    def arguments(self, url: yarl.URL, headers: Mapping[str, str]) -> dict[str, Any]:
        """Return aiohttp's arguments for a request through the proxy: `headers`, `proxy` and `proxy_headers`.

        Over https, the proxy gets its headers with CONNECT, and the store must not see them. Over http, there is only
        one request, and the proxy takes its header out.

        Args:
            url: What is requested.
            headers: The request's own headers.
        """
        own = headers if url.scheme == "https" else {**headers, **self.headers}
        return {"headers": own, "proxy": self.url, "proxy_headers": self.headers or None}


def proxy_for(url: yarl.URL) -> Proxy:
    """The proxy that the environment (or the system) names for a URL.

    Raises:
        ValueError: The environment's value is not a URL.
    """
    found = _named(url.scheme, url.host, url.port)
    if found is None:
        return Proxy()
    import aiohttp
    import yarl

    proxy = yarl.URL(found if "://" in found else f"http://{found}")
    headers = {}
    if proxy.user:
        headers["Proxy-Authorization"] = aiohttp.encode_basic_auth(proxy.user, proxy.password or "")
    return Proxy(proxy.with_user(None), headers)


def is_direct(url: str) -> bool:
    """Whether no proxy is named for a URL, be it a proxy's address or not. False also of what is no URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
        return bool(parts.hostname) and _named(parts.scheme, parts.hostname, port) is None
    except ValueError:
        return False


def _named(scheme: str, host: str | None, port: int | None) -> str | None:
    """What the environment names for an origin."""
    found = urllib.request.getproxies().get(scheme)
    return None if not found or host is None or _goes_direct(host, port) else found


def _goes_direct(host: str, port: int | None) -> bool:
    """Whether no_proxy names a host, with or without its port."""
    bracketed = f"[{host}]" if ":" in host else host
    return bool(urllib.request.proxy_bypass(host) or urllib.request.proxy_bypass(f"{bracketed}:{port}"))
