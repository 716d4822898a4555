"""A connection to the store that is begun while modules are still loaded: in a thread, as a round trip costs no CPU.

A command enters `connecting` as soon as it knows where it uploads to. The first connection that a pool then makes to
the same address takes the socket by `take`. What fails here is not reported: the pool connects again, to all addresses
in turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from bigupload.http.origins import origin_of, proxy_for, system_context
from bigupload.http.socket_tuning import CONNECT_TIMEOUT, new_socket

_WAIT = 0.25
"""Seconds from the beginning for which `take` waits: then another address may be faster, as RFC 8305 has it."""
_LASTS = 5.0
"""Seconds for which the socket is of use: stores and gateways close a connection that stays silent."""
_begun: dict[tuple[str, int], tuple[float, Future[socket.socket | None]]] = {}


@contextlib.contextmanager
def connecting(url: str, *, loads_certificates: bool = True) -> Iterator[None]:
    """Begin to connect to the origin of a URL, unless a proxy is on the way. What nobody took is closed in the end.

    Args:
        url: A URL of http or https.
        loads_certificates: Whether to read the certificates that the system trusts meanwhile, which takes 10 ms.
    """
    address, made = ("", 0), Future[socket.socket | None]()
    made.set_running_or_notify_cancel()  # so that nobody who waits for it can cancel it
    with contextlib.suppress(ValueError, RuntimeError):  # no thread is left; an unusable URL, which the pool reports
        origin = origin_of(url)
        if proxy_for(origin).url is None:
            address, loads = (origin.host, origin.port), loads_certificates and origin.scheme == "https"
            threading.Thread(target=_connect, args=(*address, made, loads), daemon=True).start()
            _begun[address] = time.monotonic(), made
    try:
        yield
    finally:
        if _begun.pop(address, None) is not None:
            made.add_done_callback(_close)


async def take(host: str, port: int) -> socket.socket | None:
    """Return the socket that was begun for this address, once; None if there is none, or it is of no use by now."""
    began, made = _begun.pop((host, port), (0.0, None))
    if made is None:
        return None
    try:
        await _wait(made, began + _WAIT - time.monotonic())
    except asyncio.CancelledError:
        made.add_done_callback(_close)
        raise
    if not made.done():
        made.add_done_callback(_close)
        return None
    sock = made.result()
    if sock is not None and not (time.monotonic() - began < _LASTS and _is_open(sock)):
        sock.close()
        return None
    return sock


async def _wait(made: Future[Any], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake(made: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed by now: nobody waits
            loop.call_soon_threadsafe(waiter.set_result, None)

    if seconds > 0 and not made.done():
        made.add_done_callback(wake)
        await asyncio.wait([waiter], timeout=seconds)


def _connect(host: str, port: int, made: Future[socket.socket | None], loads: bool) -> None:
    sock = None
    try:
        # Of a text, Python would load the codec for names in other scripts. `origin_of` has encoded those.
        row = socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)[0]
        sock = new_socket(row[:3])
        sock.settimeout(CONNECT_TIMEOUT)
        sock.connect(row[4])
        sock.setblocking(False)
    except (OSError, UnicodeError):
        if sock is not None:
            sock.close()
            sock = None
    made.set_result(sock)
    if loads:
        with contextlib.suppress(OSError):  # it is read again, and reported, where it is needed
            system_context()


def _is_open(sock: socket.socket) -> bool:
    """Whether the peer has not closed the connection."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False  # a server that speaks first is no store's


def _close(made: Future[socket.socket | None]) -> None:
    if (sock := made.result()) is not None:
        sock.close()
