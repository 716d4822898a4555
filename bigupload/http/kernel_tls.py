"""TLS that the kernel encrypts, where it can: `os.sendfile` then sends a file over https as it does over http.

OpenSSL does the handshake on the socket itself, and hands the keys to the kernel (`ssl.OP_ENABLE_KTLS`). From then on,
what is written to the socket leaves encrypted, by whatever call. asyncio gets it as a plain socket whose `recv` reads
by OpenSSL: a record without data, as a new session ticket, is an error to a plain `recv`.

A KeyUpdate of the peer, which is rare, ends the connection, and the part is sent again: Linux 6.12 takes no second key,
and OpenSSL 3.5 then reports "no suitable record layer". That kernel also goes on to take bytes, in vain, after the
sending side was shut down here: how a connection ends is what the reading side finds.

https://docs.kernel.org/networking/tls.html
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import socket
import ssl
import sys
from typing import Any

from bigupload.http.socket_tuning import new_socket

_OP_ENABLE_KTLS = getattr(ssl, "OP_ENABLE_KTLS", 0)
_TCP_ULP, _SOL_TLS, _TLS_TX = 31, 282, 1
"""linux/tcp.h, linux/socket.h, linux/tls.h."""
_VARIABLE = "BIGUPLOAD_KERNEL_TLS"
"""With the value 0, TLS stays in this process."""
_FLIGHTS = 10
"""More messages than one side of a handshake sends."""
_INFO = 4
"""Bytes of struct tls_crypto_info: a version and a cipher. With more, the kernel would hand out the key."""


@functools.cache
def is_offered() -> bool:
    """Whether the kernel with its module `tls`, Python (3.13) and its OpenSSL have it. It may still refuse a cipher.

    Blocking: it takes a tenth of a millisecond without the module, and some milliseconds with it.
    """
    if sys.platform != "linux" or not _OP_ENABLE_KTLS or os.environ.get(_VARIABLE) == "0":
        return False
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
        except OSError as e:  # ENOENT: there is no such module
            if e.errno == errno.ENOTCONN:
                with contextlib.suppress(OSError):
                    return _hands_over_keys()
    return False


def _hands_over_keys() -> bool:
    """Whether OpenSSL was built to hand keys to the kernel. Otherwise each server would be connected to twice.

    Two ends within this process shake hands, with a key that both know in place of a certificate.
    """
    if not hasattr(ssl.SSLContext, "set_psk_client_callback"):  # Python 3.12
        return False
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        near = opened.enter_context(socket.create_connection(listener.getsockname(), timeout=1))
        far = opened.enter_context(listener.accept()[0])
        ends = []
        for sock, protocol in ((near, ssl.PROTOCOL_TLS_CLIENT), (far, ssl.PROTOCOL_TLS_SERVER)):
            context: Any = ssl.SSLContext(protocol)  # mypy goes by Python 3.11
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.options |= _OP_ENABLE_KTLS
            if sock is near:
                context.set_psk_client_callback(lambda _: ("probe", bytes(32)))
            else:
                context.set_psk_server_callback(lambda _: bytes(32))
            sock.setblocking(False)
            tls = context.wrap_socket(sock, server_side=sock is far, do_handshake_on_connect=False)
            ends.append(opened.enter_context(tls))
        for _ in range(_FLIGHTS):
            for end in ends:
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        return _kernel_encrypts(ends[0])


def can_drive(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether an event loop reads by the socket's `recv`. uvloop does not."""
    return isinstance(loop, asyncio.SelectorEventLoop)


async def connect(sock: socket.socket, context: ssl.SSLContext, name: str) -> tuple[socket.socket, bool]:
    """Begin TLS on a connected socket.

    Args:
        sock: The socket. It is used up.
        context: What is trusted.
        name: The server's name.

    Returns:
        A socket for asyncio, and whether the kernel encrypts. If not, it is a new connection to the same address, on
        which TLS has not begun: OpenSSL can't continue a session elsewhere.

    Raises:
        OSError: The handshake failed, or the second connection. As with asyncio's TLS, it is a ConnectionError if the
            peer has closed.
    """
    tls, has_closed = None, False
    try:
        peer = sock.getpeername()
        context.options |= _OP_ENABLE_KTLS
        tls = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
        await _shake_hands(tls)
        if _kernel_encrypts(tls):
            return _ReadByOpenSsl(tls), True
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        has_closed = True
    except BaseException:
        (tls or sock).close()
        raise
    (tls or sock).close()
    if tls is None or has_closed:  # the error that asyncio's TLS has, with no other one in it
        raise ConnectionResetError
    again = new_socket((tls.family, tls.type, tls.proto))
    try:
        again.setblocking(False)
        await asyncio.get_running_loop().sock_connect(again, peer)
    except BaseException:
        again.close()
        raise
    return again, False


async def _shake_hands(tls: ssl.SSLSocket) -> None:
    loop, descriptor = asyncio.get_running_loop(), tls.fileno()
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        try:
            tls.do_handshake()
            return
        except ssl.SSLWantReadError:
            loop.add_reader(descriptor, _settle, ready)
        except ssl.SSLWantWriteError:
            loop.add_writer(descriptor, _settle, ready)
        try:
            await ready
        finally:
            loop.remove_reader(descriptor)
            loop.remove_writer(descriptor)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _kernel_encrypts(tls: ssl.SSLSocket) -> bool:
    """Whether the kernel has the key for sending. Otherwise what is written to the socket would be in the clear."""
    with contextlib.suppress(OSError):
        return len(tls.getsockopt(_SOL_TLS, _TLS_TX, _INFO)) == _INFO
    return False


class _ReadByOpenSsl(socket.socket):
    """A socket that the kernel encrypts, and that OpenSSL reads. It sends as a plain one."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        """Take over the descriptor. `tls` keeps its number, and reads from it."""
        super().__init__(fileno=tls.detach())
        self.setblocking(False)
        self._tls = tls
        self._failed: OSError | None = None
        """What the next call of `recv` raises: what came before it counts."""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Return what is there, up to `size`, and the rest of the last record.

        OpenSSL hands out one record of up to 16 KiB at a time. If it kept a part of one, the descriptor would not be
        readable, and the event loop would not ask for it.
        """
        if self._failed is not None:
            raise self._failed
        pieces: list[bytes] = []
        try:
            while more := size if size > 0 else self._tls.pending():
                if not (piece := self._tls.recv(more)):
                    self._show_end(pieces)
                    break
                pieces.append(piece)
                size -= len(piece)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not pieces:
                raise BlockingIOError from None
        except OSError as e:
            if not pieces:
                raise
            self._failed = e
            self._show_end(pieces)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _show_end(self, behind: list[bytes]) -> None:
        """Have the event loop call `recv` once more: the end has been read with what came before it."""
        if behind:
            with contextlib.suppress(OSError):
                self.shutdown(socket.SHUT_RD)
