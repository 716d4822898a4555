"""Encryption of request bodies in worker threads, with the TLS session of an asyncio transport.

asyncio encrypts in the event loop's thread, a small piece at a time. One core then limits all connections together,
and half of its time goes into Python code. Here a worker thread encrypts whole buffers (OpenSSL releases the GIL) and
writes them to the socket. The handshake, the request's headers, the response and the shutdown stay with asyncio.

Transports that `_compat` can't open (uvloop's) send their bodies in the usual way.
"""

from __future__ import annotations

import threading
from typing import Any

from bigupload.http._compat import tls_internals


class TlsEncryptor:
    """Encrypts for one connection. Between `pause_reading` and `resume_reading` a worker thread may use it.

    An SSL object must not be used by two threads at once, nor may the buffer of encrypted bytes that it fills without
    the GIL. asyncio uses both to read, which pausing prevents, and to close, which nothing prevents. So their methods
    take a lock.
    """

    def __init__(self, ssl_object: _LockedSslObject, outgoing: _LockedBuffer, raw_transport: Any) -> None:
        self._ssl = ssl_object
        self._outgoing = outgoing
        self._raw_transport = raw_transport

    @classmethod
    def of(cls, transport: Any) -> TlsEncryptor | None:
        """The encryptor of a connection, or None if its transport is not asyncio's own TLS transport."""
        internals = tls_internals(transport)
        if internals is None:
            return None
        locked = internals.ssl_object
        if not isinstance(locked, _LockedSslObject):
            locked = internals.ssl_object = _LockedSslObject(locked)
            internals.outgoing = _LockedBuffer(internals.outgoing, locked.lock)
        return cls(locked, internals.outgoing, internals.raw_transport)

    @property
    def idle(self) -> bool:
        """Whether asyncio has written all that it has encrypted. Only then may others write to the socket."""
        return not self._raw_transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Stop asyncio from reading the connection. Called in the event loop's thread."""
        self._raw_transport.pause_reading()

    def resume_reading(self) -> None:
        """Let asyncio read the connection again. Called in the event loop's thread."""
        if not self._raw_transport.is_closing():
            self._raw_transport.resume_reading()

    def encrypt(self, data: memoryview) -> bytes:
        """Encrypt all of `data`. The result must reach the socket before anything else is encrypted."""
        with self._ssl.lock:
            written = 0
            while written < len(data):
                written += self._ssl.inner.write(data[written:])
            encrypted: bytes = self._outgoing.inner.read()
            return encrypted


class _LockedSslObject:
    """An `ssl.SSLObject` whose methods one thread at a time may run."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.lock = threading.Lock()

    def read(self, *arguments: Any) -> Any:
        with self.lock:
            return self.inner.read(*arguments)

    def write(self, data: Any) -> Any:
        with self.lock:
            return self.inner.write(data)

    def unwrap(self) -> Any:
        with self.lock:
            return self.inner.unwrap()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class _LockedBuffer:
    """An `ssl.MemoryBIO` that nobody reads while a thread encrypts into it. `pending` may be too small for a moment."""

    def __init__(self, inner: Any, lock: threading.Lock) -> None:
        self.inner = inner
        self._lock = lock

    def read(self, *arguments: Any) -> Any:
        with self._lock:
            return self.inner.read(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
