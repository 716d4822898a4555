"""Where a request goes: the origin in its URL, the proxy that the environment names on the way, and so its head.

No password is taken from ~/.netrc, for a proxy or for a store: a request carries only what its caller gave it.
"""

from __future__ import annotations

import base64
import functools
import os
import ssl
import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

from bigupload import errors
from bigupload.records import dataclass
from bigupload.support.files import OUT_OF_DESCRIPTORS, is_out_of_descriptors

_PORTS = {"http": 80, "https": 443}
_SYSTEMS_WITH_PROXIES = ("darwin", "win32")
"""Their settings name proxies, too. Elsewhere, the environment alone does."""


class WebOrigin(NamedTuple):
    """A store, a service or a proxy, as connections are made to it."""

    scheme: str
    host: str
    port: int
    header: str
    """The header Host: the host and, if it is not the default, the port. In lower case, as it is signed."""

    @property
    def url(self) -> str:
        """The scheme, the host and, if it is not the default, the port."""
        return f"{self.scheme}://{self.header}"

    @property
    def where(self) -> str:
        """The "host:port", for messages and for a proxy."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@functools.lru_cache(maxsize=64)
def origin_of(url: str) -> WebOrigin:
    """Read the origin of a URL; raise ValueError if it is not of http or https.

    The URL is remembered: give it without what is secret.
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
    """Return the origin of a URL, and the rest of it. Raises ValueError if it has no path."""
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


class Route(NamedTuple):
    """Where the requests to one origin go."""

    origin: WebOrigin
    proxy: Proxy

    @property
    def is_plain(self) -> bool:
        """Whether requests go to the origin itself, without TLS."""
        return self.origin.scheme == "http" and self.proxy.url is None

    def head(self, method: str, url: str, headers: Mapping[str, str], size: int | None) -> bytes:
        """Return the head of a request.

        Args:
            method: Its method.
            url: Its URL, sent as it is written: a signature may cover it.
            headers: All but Host and Content-Length.
            size: Bytes of its body; None: it has none.

        Raises:
            ValueError: The URL or a header can't be sent.
        """
        target = split_url(url)[1]
        if self.proxy.url is not None and self.origin.scheme == "http":  # the proxy takes its own header out
            target = f"http://{self.origin.header}{target}"
            headers = {**headers, **self.proxy.headers}
        # Some firewalls refuse requests without a User-Agent.
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.origin.header}", "User-Agent: bigupload"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if size is not None:
            lines.append(f"Content-Length: {size}")
        head = "\r\n".join([*lines, "", ""])
        if head.count("\n") != len(lines) + 1 or head.count("\r") != len(lines) + 1 or " " in target:
            raise ValueError("a line break in a header")
        return head.encode()


def proxy_for(origin: WebOrigin, proxies: Mapping[str, str] | None = None) -> Proxy:
    """Return the proxy for an origin: of `proxies`, by its scheme; None: the one that the environment or system names.

    Raises:
        ValueError: The value is not the URL of a proxy for HTTP. The text says why, without a password.
    """
    if proxies is not None:
        return _proxy_at(proxies[origin.scheme]) if proxies.get(origin.scheme) else Proxy()
    if sys.platform not in _SYSTEMS_WITH_PROXIES and not any(name.lower().endswith("_proxy") for name in os.environ):
        return Proxy()
    import urllib.request  # a tenth of the command's start

    found = urllib.request.getproxies().get(origin.scheme)
    bypass = urllib.request.proxy_bypass  # no_proxy may name a host with or without its port
    if not found or bypass(origin.host) or bypass(origin.where):
        return Proxy()
    return _proxy_at(found)


def _proxy_at(found: str) -> Proxy:
    parts = urlsplit(found if "://" in found else f"http://{found}")
    if parts.scheme not in _PORTS:
        raise ValueError(f"{parts.scheme}:// is not supported")
    try:
        at = origin_of(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    except ValueError:  # its own words may have a half of a password
        raise ValueError("its host or port is invalid; a / or @ in a password is %2F or %40") from None
    authorization = None
    if parts.username:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(user.encode()).decode()}"
    return Proxy(f"{at.scheme}://{at.where}", authorization)


CaBundle: TypeAlias = Path | Literal[False] | None
"""Which certificates to trust: those of a file, those of the system (None), or any at all (False)."""


def system_context() -> ssl.SSLContext:
    """Return the TLS context that trusts the system's certificates. They are read once, which takes 10 ms.

    Raises:
        OSError: Too many files are open.
    """
    return _system_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.lru_cache(maxsize=1)
def _system_context(*_where: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    file = ssl.get_default_verify_paths().cafile or ""  # None, if there is no such file
    if file and not context.cert_store_stats()["x509"]:  # OpenSSL does not say that it can't open the file
        try:
            context.load_verify_locations(cafile=file)
        except OSError as e:
            if is_out_of_descriptors(e):
                raise
    return context


def context_of(ca_bundle: CaBundle, *, with_system: bool = False) -> ssl.SSLContext:
    """Return the TLS context that trusts these certificates.

    Args:
        ca_bundle: The certificates.
        with_system: Whether to trust the system's, too, if there is a file of others.

    Raises:
        OSError: Too many files are open to read the system's.
        UsageError: The file can't be read, or holds no certificate.
        StoreUnreachable: Too many files are open to read it.
    """
    if ca_bundle is None:
        return system_context()
    if not ca_bundle:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    try:
        if not with_system:
            return ssl.create_default_context(cafile=ca_bundle)
        context = ssl.create_default_context()
        context.load_verify_locations(cafile=ca_bundle)
        return context
    except OSError as e:
        if is_out_of_descriptors(e):
            raise errors.StoreUnreachable(OUT_OF_DESCRIPTORS) from e
        raise errors.UsageError(f"can't use the CA bundle {ca_bundle}: {e.strerror or e}") from e
