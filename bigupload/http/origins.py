"""Where a URL leads, its two halves, and the proxy that the environment names on the way.

No password is taken from ~/.netrc, for a proxy or for a store: a request carries only what its caller gave it.
"""

from __future__ import annotations

import base64
import functools
import urllib.request
from dataclasses import field
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from bigupload import errors
from bigupload.records import dataclass

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
        return _host_and_port(self.host, self.port)


def _host_and_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the user's credentials for it."""

    url: str | None = None
    """Its origin, without credentials. None: there is no proxy."""
    authorization: str | None = field(default=None, repr=False)
    """The header Proxy-Authorization, if the user has a name there."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers for the proxy alone."""
        return {} if self.authorization is None else {"Proxy-Authorization": self.authorization}


def proxy_for(place: WebOrigin) -> Proxy:
    """Return the proxy that the environment (or the system) names for an origin.

    Raises:
        ValueError: The environment's value is not the URL of a proxy for HTTP.
    """
    found = urllib.request.getproxies().get(place.scheme)
    bypass = urllib.request.proxy_bypass  # no_proxy may name a host with or without its port
    if not found or bypass(place.host) or bypass(place.where):
        return Proxy()
    parts = urlsplit(found if "://" in found else f"http://{found}")
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("no proxy for HTTP")
    where = _host_and_port(parts.hostname, parts.port or _PORTS[parts.scheme])
    authorization = None
    if parts.username:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(user.encode()).decode()}"
    return Proxy(f"{parts.scheme}://{where}", authorization)
