"""The address of a request's client behind load balancers, for the log.

A client can write any `X-Forwarded-For`, so a header counts only as far as trusted proxies wrote it: the addresses are
read from the right, where each proxy has added whom it got the request from, and the first that is no trusted proxy is
the client: https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/X-Forwarded-For#selecting_an_ip_address
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator

from aiohttp import web

from bigupload import errors

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]+)?")
"""An address as proxies write it: IPv6 in brackets, each with or without a port. RFC 7239, 6."""
_MOST_HOPS = 50
"""More proxies than any path has. A header may be long, and the rest of it is not read."""


class TrustedProxies:
    """The load balancers whose word on their clients counts."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """`networks`: addresses, or networks like "10.0.0.0/8". Raises UsageError for anything else."""
        self._networks = [_network(text) for text in networks]

    def client(self, request: web.BaseRequest) -> str | None:
        """Return the client's address; the peer's, unless the peer is a trusted proxy and says more."""
        found = request.remote
        peer = None if found is None else _address(found)
        if peer is None or not self._trusts(peer):
            return found
        for _, hop in zip(range(_MOST_HOPS), reversed(_hops(request)), strict=False):
            address = _address(hop)
            if address is None:  # "unknown", or no address at all: whoever is nearer is the last who is known
                break
            found = str(address)
            if not self._trusts(address):
                break
        return found

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _hops(request: web.BaseRequest) -> list[str]:
    """Return the addresses that proxies have written, the client's first.

    `Forwarded` counts only where there is no `X-Forwarded-For`: common balancers write the latter, and pass on a
    `Forwarded` that their client made up.
    """
    listed = ",".join(request.headers.getall("X-Forwarded-For", ()))
    if listed.strip():
        return [hop.strip() for hop in listed.split(",")]
    return list(_forwarded(request))


def _forwarded(request: web.BaseRequest) -> Iterator[str]:
    for element in request.forwarded:
        yield element.get("for", "")


def _address(text: str) -> _Address | None:
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address(text if match is None else match[1] or match[2])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise errors.UsageError(f"not a network: {text!r} (write it like 10.0.0.0/8 or 192.0.2.1)") from None
