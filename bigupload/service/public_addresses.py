"""Which hosts users may have the service fetch from: public hosts that are not sharing services. Pure.

`ipaddress.is_global` changed its mind between Python's versions (3.12.4 moved several blocks), so the blocks are
named here. An address that is not known to be public is not public.
https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-
"""

from __future__ import annotations

import ipaddress
import re

_NOT_PUBLIC_4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # "this host": reaches 127.0.0.1 on Linux
            "10.0.0.0/8",
            "100.64.0.0/10",  # carriers' NAT; some clouds keep their metadata here
            "127.0.0.0/8",
            "168.63.129.16/32",  # a public number that is Azure's host to every machine in it
            "169.254.0.0/16",  # link-local: most clouds' metadata
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # 6to4's relays
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
"""All that was ever given out."""
_NOT_PUBLIC_6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # Teredo, ORCHID, benchmarks: protocols, not hosts
            "2001:db8::/32",
            "2002::/16",  # 6to4: leads to the IPv4 address within
            "3fff::/20",
        ),
    )
)
_HOLDS_4 = (ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96"))
"""Mapped, and NAT64 (what an IPv6-only host's DNS makes of every IPv4 host): as public as the address within."""


def is_public(address: str) -> bool:
    """Whether an address, from a resolver or a URL, is on the public internet. False for other text."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return False
        if not any(parsed in block for block in _HOLDS_4):
            return parsed in _GLOBAL_6 and not any(parsed in block for block in _NOT_PUBLIC_6)
        parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)
    return not any(parsed in block for block in _NOT_PUBLIC_4)


_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL_NAMES = frozenset(
    {"localhost", "local", "localdomain", "internal", "intranet", "private", "corp", "home", "lan"}
)
"""Last labels that no public host has: RFC 6761, RFC 6762 appendix G."""


def is_host(host: str) -> bool:
    """Whether `host` can be a host: a name in lower case, within DNS's lengths, or an address."""
    return ":" in host or (len(host) <= 253 and _NAME.fullmatch(host) is not None)


def is_public_host(host: str) -> bool:
    """Whether a URL's host, before it is resolved, can be public. A name still has to resolve to public addresses.

    An IPv4 address must be written as four decimal numbers: resolvers read 127.1, 0x7f.1, 0177.0.0.1 and 2130706433
    each in its own way, and no CDN is named like that.
    """
    name = host.removesuffix(".")
    labels = name.split(".")
    if ":" in name or _NUMBER.fullmatch(labels[-1]):
        return is_public(name)
    return len(labels) > 1 and labels[-1] not in _LOCAL_NAMES and labels[-2:] != ["home", "arpa"]


_SHARING = {
    "drive.google.com": "Google Drive",
    "drive.usercontent.google.com": "Google Drive",
    "docs.google.com": "Google Docs",
    "photos.google.com": "Google Photos",
    "photos.app.goo.gl": "Google Photos",
    "dropbox.com": "Dropbox",
    "db.tt": "Dropbox",
    "onedrive.live.com": "OneDrive",
    "onedrive.com": "OneDrive",
    "docs.live.net": "OneDrive",
    "1drv.ms": "OneDrive",
    "1drv.com": "OneDrive",
    "sharepoint.com": "OneDrive",
    "icloud.com": "iCloud",
    "icloud.com.cn": "iCloud",
}


def sharing_service(host: str) -> str | None:
    """The name of the sharing service whose links are on this host or a domain above it; None for other hosts."""
    labels = host.removesuffix(".").split(".")
    return next((name for at in range(len(labels)) if (name := _SHARING.get(".".join(labels[at:])))), None)
