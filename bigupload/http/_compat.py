"""Every use of a private attribute of asyncio. `tests/http/test_compat.py` fails when one changes.

asyncio has no public way to do these things. Where an attribute is missing, as with uvloop, each function here does
nothing or returns None, and its caller has a slower way.

asyncio encrypts in the event loop's thread, a small piece at a time. One core then limits all connections together,
and half of its time goes into Python code. With `TlsEncryptor`, a worker thread encrypts whole buffers, for which
OpenSSL releases the GIL, and writes them to the socket. The handshake, the request's headers, the response and the
shutdown stay with asyncio.
"""

from __future__ import annotations

import threading
from typing import Any


def tls_internals(transport: Any) -> Any:
    """The `SSLProtocol` of a TLS transport of asyncio, or None if it is built in another way.

    `_sslobj` is its `ssl.SSLObject`, `_outgoing` the `ssl.MemoryBIO` with encrypted bytes that asyncio has not written
    yet, and `_transport` the transport of the TCP connection below. The first two can be replaced.
    """
    protocol = getattr(transport, "_ssl_protocol", None)
    ssl_object, outgoing, raw = (getattr(protocol, name, None) for name in ("_sslobj", "_outgoing", "_transport"))
    if ssl_object is None or outgoing is None or not hasattr(raw, "pause_reading"):
        return None
    # Within a proxy's TLS, what is encrypted here must be encrypted once more.
    return None if hasattr(raw, "_ssl_protocol") else protocol


def unsent_by(transport: Any) -> int:
    """Bytes that a transport, and those below its TLS, have and the kernel has not taken."""
    found = 0
    while transport is not None:
        found += transport.get_write_buffer_size()
        transport = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return found


def read_before_closing(transport: Any) -> None:
    """Make a transport read once more when a write fails, before it closes the connection.

    A server that refuses a request early sends its response and closes. The write then fails while the response waits
    in the receive buffer, and asyncio would discard it.
    """
    raw = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    fatal_error, read_ready = getattr(raw, "_fatal_error", None), getattr(raw, "_read_ready", None)
    if fatal_error is None or read_ready is None or getattr(fatal_error, "reads_first", False):
        return

    def read_then_fail(exc: BaseException, *message: str) -> None:
        raw._fatal_error = fatal_error  # so that an error of the read itself closes the connection
        try:
            # From Python 3.12 on, `_read_ready_cb` is None once the transport was closed.
            if isinstance(exc, OSError) and getattr(raw, "_read_ready_cb", read_ready) is not None:
                read_ready()
        finally:
            fatal_error(exc, *message)

    read_then_fail.reads_first = True  # type: ignore[attr-defined]  # a mark on a function
    raw._fatal_error = read_then_fail


class TlsEncryptor:
    """Encrypts for one connection. Between `pause_reading` and `resume_reading` a worker thread may use it.

    An SSL object must not be used by two threads at once, nor may the buffer of encrypted bytes that it fills without
    the GIL. asyncio uses both to read, which pausing prevents, and to close, which nothing prevents. So their methods
    take a lock.
    """

    def __init__(self, protocol: Any) -> None:
        """Put locks around what the TLS transport with this protocol uses, unless an earlier body has done so."""
        if not isinstance(protocol._sslobj, _Locked):
            lock = threading.Lock()
            protocol._sslobj, protocol._outgoing = _Locked(protocol._sslobj, lock), _Locked(protocol._outgoing, lock)
        self._ssl: _Locked = protocol._sslobj
        self._outgoing: _Locked = protocol._outgoing
        self._raw_transport = protocol._transport

    @classmethod
    def of(cls, transport: Any) -> TlsEncryptor | None:
        """The encryptor of a connection, or None if its transport is not asyncio's own TLS transport."""
        protocol = tls_internals(transport)
        return None if protocol is None else cls(protocol)

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


class _Locked:
    """An `ssl.SSLObject` or `ssl.MemoryBIO` whose methods one thread at a time may run, of all that share the lock.

    `pending` of the buffer may be too small for a moment.
    """

    def __init__(self, inner: Any, lock: threading.Lock) -> None:
        self.inner = inner
        self.lock = lock

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
