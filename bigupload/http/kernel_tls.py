"""TLS that the kernel encrypts, where it can: `os.sendfile` then sends a file over https as it does over http.

OpenSSL does the handshake on the socket itself, and hands the keys to the kernel (`ssl.OP_ENABLE_KTLS`, Python 3.12).
From then on, what is written to the socket leaves encrypted, by whatever call. asyncio gets it as a plain socket whose
`recv` reads by OpenSSL: records that are no data, as a new session ticket, are errors to a plain `recv`.

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
import socket
import ssl
import sys

from bigupload.http.socket_tuning import new_socket

_OP_ENABLE_KTLS = getattr(ssl, "OP_ENABLE_KTLS", 0)
_TCP_ULP, _SOL_TLS, _TLS_TX = 31, 282, 1
"""linux/tcp.h, linux/socket.h, linux/tls.h."""
_INFO = 4
"""Bytes of struct tls_crypto_info: a version and a cipher. With more, the kernel would hand out the key."""


@functools.cache
def is_offered() -> bool:
    """Whether Python, and the kernel with its module `tls`, have it. It may still refuse a cipher."""
    if sys.platform != "linux" or not _OP_ENABLE_KTLS:
        return False
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
        except OSError as e:  # ENOENT: there is no such module
            return e.errno == errno.ENOTCONN
    return False


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
        OSError: The handshake failed, or the second connection.
    """
    tls = None
    try:
        peer = sock.getpeername()
        context.options |= _OP_ENABLE_KTLS
        tls = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
        await _shake_hands(tls)
        if _kernel_encrypts(tls):
            return _ReadByOpenSsl(tls), True
    except BaseException:
        (tls or sock).close()
        raise
    tls.close()
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
            while (more := size if size > 0 else self._tls.pending()) and (piece := self._tls.recv(more)):
                pieces.append(piece)
                size -= len(piece)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not pieces:
                raise BlockingIOError from None
        except OSError as e:
            if not pieces:
                raise
            self._failed = e
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
