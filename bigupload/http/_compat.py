"""Every use of a private attribute of asyncio. `tests/http/test_compat.py` fails when one changes.

asyncio has no public way to do these things. Where an attribute is missing, as with uvloop, each function here says so
or does nothing, and its caller has a slower way.
"""

from __future__ import annotations

from typing import Any

from bigupload.records import dataclass


@dataclass(slots=True)
class TlsInternals:
    """What asyncio's TLS transport is made of."""

    protocol: Any
    """asyncio's `SSLProtocol`."""
    raw_transport: Any
    """The transport of the TCP connection below TLS."""

    @property
    def ssl_object(self) -> Any:
        """The `ssl.SSLObject`, or what was put in its place."""
        return self.protocol._sslobj

    @ssl_object.setter
    def ssl_object(self, value: Any) -> None:
        self.protocol._sslobj = value

    @property
    def outgoing(self) -> Any:
        """The `ssl.MemoryBIO` with encrypted bytes that asyncio has not written yet, or what was put in its place."""
        return self.protocol._outgoing

    @outgoing.setter
    def outgoing(self, value: Any) -> None:
        self.protocol._outgoing = value


def tls_internals(transport: Any) -> TlsInternals | None:
    """The parts of a TLS transport of asyncio, or None if it is built in another way."""
    protocol = getattr(transport, "_ssl_protocol", None)
    if protocol is None:
        return None
    ssl_object, outgoing, raw = (getattr(protocol, name, None) for name in ("_sslobj", "_outgoing", "_transport"))
    if ssl_object is None or outgoing is None or not hasattr(raw, "pause_reading"):
        return None
    if hasattr(raw, "_ssl_protocol"):  # TLS within a proxy's TLS: what is encrypted here must be encrypted once more
        return None
    return TlsInternals(protocol, raw)


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
