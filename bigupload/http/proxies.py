"""Which proxy the environment names, and the headers that the proxy alone gets.

No password is taken from ~/.netrc, for a proxy or for a store: a request carries only what its caller gave it.
"""

from __future__ import annotations

import base64
import urllib.request
from dataclasses import field
from urllib.parse import unquote, urlsplit

from bigupload.http.origins import WebOrigin
from bigupload.records import dataclass

_PORTS = {"http": 80, "https": 443}


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
    found = _named(place.scheme, place.host, place.port)
    if found is None:
        return Proxy()
    parts = urlsplit(found if "://" in found else f"http://{found}")
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("no proxy for HTTP")
    port = parts.port or _PORTS[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    authorization = None
    if parts.username:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(user.encode()).decode()}"
    return Proxy(f"{parts.scheme}://{host}:{port}", authorization)


def _named(scheme: str, host: str | None, port: int | None) -> str | None:
    """What the environment names for an origin."""
    found = urllib.request.getproxies().get(scheme)
    return None if not found or host is None or _goes_direct(host, port) else found


def _goes_direct(host: str, port: int | None) -> bool:
    """Whether no_proxy names a host, with or without its port."""
    bracketed = f"[{host}]" if ":" in host else host
    return bool(urllib.request.proxy_bypass(host) or urllib.request.proxy_bypass(f"{bracketed}:{port}"))
