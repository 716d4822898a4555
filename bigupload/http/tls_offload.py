"""The TLS below an asyncio transport, lent to a thread for the length of a body.

asyncio encrypts in the loop's thread, a small piece at a time: one core then bounds all connections together, and half
of what it does is Python. Here a thread encrypts whole buffers (OpenSSL does not hold the GIL) and writes them to the
socket, while the handshake, the headers, the answer and the end stay asyncio's.

asyncio has no word for that: this reaches for the parts of its `SSLProtocol` by name, and says no to transports that
are built otherwise (uvloop), whose bodies go the ordinary way.
"""

from __future__ import annotations

import threading
from typing import Any


class LentTls:
    """One connection's encrypting half. While it is `held`, the loop reads nothing from the connection.

    An SSL object is no two threads' at once. asyncio uses it when it reads, which holding prevents, and when it
    closes, which nothing prevents: hence the lock round each of its methods.
    """

    def __init__(self, ssl: _Locked, outgoing: Any, below: Any) -> None:
        self._ssl = ssl
        self._outgoing = outgoing
        self._below = below

    @classmethod
    def of(cls, transport: Any) -> LentTls | None:
        """None where there is no such thing."""
        protocol = getattr(transport, "_ssl_protocol", None)
        ssl, outgoing, below = (getattr(protocol, name, None) for name in ("_sslobj", "_outgoing", "_transport"))
        if ssl is None or outgoing is None or not hasattr(below, "pause_reading"):
            return None
        if not isinstance(ssl, _Locked):
            ssl = _Locked(ssl)
            protocol._sslobj = ssl  # type: ignore[union-attr]  # it has one: see above
        return cls(ssl, outgoing, below)

    @property
    def idle(self) -> bool:
        """Whether all that asyncio has encrypted is out: only then may others write to the socket."""
        return not self._below.get_write_buffer_size()

    def hold(self) -> None:
        """In the loop's thread: from here on a thread may `encrypt`."""
        self._below.pause_reading()

    def let_go(self) -> None:
        """In the loop's thread: the connection is asyncio's again."""
        if not self._below.is_closing():
            self._below.resume_reading()

    def encrypt(self, data: memoryview) -> bytes:
        """All of `data` as TLS records, to be written to the socket before anything else is encrypted."""
        with self._ssl.lock:
            written = 0
            while written < len(data):
                written += self._ssl.inner.write(data[written:])
            encrypted: bytes = self._outgoing.read()
            return encrypted


class _Locked:
    """An `ssl.SSLObject` that one thread at a time enters."""

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
