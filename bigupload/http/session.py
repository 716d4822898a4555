"""What the adapters share about HTTP: the connection pool, and foreign exceptions and answers made into `Fault`s.

aiohttp's own texts can hold the URL, and a presigned URL is a bearer secret: nothing of theirs is passed on but the
kind of error and the operating system's reason.
"""

from __future__ import annotations

import socket
import ssl
import urllib.request
from pathlib import Path
from typing import Any, Literal, TypeAlias

import aiohttp
import yarl
from aiohttp.abc import ResolveResult
from aiohttp.connector import Connection

from bigupload import errors
from bigupload.http.socket_tuning import new_socket

CONNECT_TIMEOUT = 10.0
"""Seconds for one try at the addresses of a name, all of them, until TLS stands."""
CONNECT_WITHIN = 20.0
"""Seconds for all such tries and the look-up of the name. aiohttp tries as often as there are addresses, so that eight
of them behind a dead path would take longer than the watch over a request's bytes does, and be taken for a stall."""
_NAMES_LAST = 10
"""Seconds for which a name's addresses are believed: a store that has moved, or a failed front end that its name leaves
out by now, is found within them."""


CaBundle: TypeAlias = Path | Literal[False] | None
"""Which certificates to trust: those of a file, those of the system (None), or any at all (False)."""


def ssl_context(ca_bundle: Path) -> ssl.SSLContext:
    """Verifying, by the given certificates. Raises UsageError for a file that can't be read."""
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as e:
        raise errors.UsageError(f"can't use the CA bundle {ca_bundle}: {e.strerror or e}") from e


class Names(aiohttp.ThreadedResolver):
    """The system's look-up of names, each of which begins its list of addresses one further than the last did.

    aiohttp hands a list out in turn for as long as it keeps it; but each new list would begin with the same address,
    and where connections are few and far between they would all go there, retries of what failed there included.
    The system's, also where aiodns is installed: that reads once which name servers there are, and another network has
    others.
    """

    def __init__(self) -> None:
        super().__init__()
        self._turn = -1

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        self._turn += 1
        first = self._turn % len(found) if found else 0
        return found[first:] + found[:first]


class _Connector(aiohttp.TCPConnector):
    """Asks a name again as soon as nothing connects to the addresses that it had."""

    async def connect(self, *arguments: Any, **more: Any) -> Connection:
        try:
            return await super().connect(*arguments, **more)
        except (aiohttp.ClientError, OSError):
            self.clear_dns_cache()
            raise


def new_session(ca_bundle: CaBundle, *, reuse: bool = True, names: Names | None = None) -> aiohttp.ClientSession:
    """A pool without a limit of its own (the engine bounds it), without a total timeout (a part may take hours).

    New connections go round all addresses that the store's name has; sessions that share `names` do so together.
    `reuse=False`: each request gets a connection of its own.
    """
    # Less than `RetryPolicy.stall_after`: who has waited so long finds no idle connection of the same dead path.
    keep: dict[str, Any] = {"keepalive_timeout": 15} if reuse else {"force_close": True}
    connector = _Connector(
        limit=0,
        # aiohttp has a context with the system's certificates; each further one would take as long to read them.
        ssl=ssl_context(ca_bundle) if isinstance(ca_bundle, Path) else ca_bundle is None,
        socket_factory=new_socket,
        resolver=names or Names(),
        ttl_dns_cache=_NAMES_LAST,
        **keep,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeouts(),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type", "Accept"),
    )


def timeouts(*, total: float | None = None, sock_read: float | None = None) -> aiohttp.ClientTimeout:
    """Of one request, in seconds: those of connecting are everywhere the same."""
    return aiohttp.ClientTimeout(total=total, connect=CONNECT_WITHIN, sock_connect=CONNECT_TIMEOUT, sock_read=sock_read)


Proxy: TypeAlias = tuple[yarl.URL, aiohttp.BasicAuth | None] | tuple[None, None]


def proxy_of(url: yarl.URL) -> Proxy:
    """The proxy that the environment names for a URL, as aiohttp takes it.

    Not by `trust_env`, which would send a password of ~/.netrc along with the presigned URL.
    """
    found = urllib.request.getproxies().get(url.scheme)
    if not found or url.host is None or urllib.request.proxy_bypass(url.host):
        return None, None
    proxy = yarl.URL(found if "://" in found else f"http://{found}")
    auth = aiohttp.BasicAuth(proxy.user, proxy.password or "") if proxy.user else None
    return proxy.with_user(None), auth
