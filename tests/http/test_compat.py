"""Canaries: each private attribute that `bigupload.http._compat` uses is there and does what it is used for.

Where one of these fails, asyncio has changed: uploads still work, but without threads for encryption, or they take a
refused part for a broken connection. Mend `_compat`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import ssl
from asyncio import selector_events, sslproto
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bigupload.http._compat import TlsEncryptor, read_before_closing, tls_internals
from bigupload.testing.certificates import make_certificates
from tests.tools.scripted import serving


@contextlib.asynccontextmanager
async def connected(
    directory: Path | None, answered: asyncio.Event | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server that responds to one line with one line; over TLS if there is a directory."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.readline())
        if answered is not None:
            answered.set()

    server_side = client_side = None
    if directory is not None:
        made = make_certificates(directory, "127.0.0.1")
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(made.cert, made.key)
        client_side = ssl.create_default_context(cafile=directory / "ca.pem")
    async with serving(serve, tls=server_side) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), ssl=client_side)
        try:
            yield reader, writer
        finally:
            writer.close()


async def test_a_tls_transport_is_made_of_the_parts_that_are_used(tmp_path: Path) -> None:
    async with connected(tmp_path) as (reader, writer):
        internals = tls_internals(writer.transport)
        assert internals is not None, "asyncio's TLS transport is built in another way"
        assert isinstance(internals._sslobj, ssl.SSLObject)
        assert isinstance(internals._outgoing, ssl.MemoryBIO)
        assert internals._transport.get_write_buffer_size() == 0
        # What is written into the SSL object comes out of `outgoing`, and is what the server takes.
        internals._sslobj.write(b"hello\n")
        encrypted = internals._outgoing.read()
        assert encrypted
        assert b"hello" not in encrypted
        internals._transport.write(encrypted)
        assert await reader.readline() == b"you said hello\n"


async def test_the_ssl_object_can_be_replaced(tmp_path: Path) -> None:
    used: list[str] = []

    class Spy:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            used.append(name)
            return getattr(self.inner, name)

    async with connected(tmp_path) as (reader, writer):
        internals = tls_internals(writer.transport)
        assert internals is not None
        internals._sslobj = Spy(internals._sslobj)
        writer.write(b"hello\n")
        assert await reader.readline() == b"you said hello\n"
    assert {"write", "read"} <= set(used)


@pytest.mark.parametrize(
    ("attribute", "used"), [("_sslobj", {"read", "write", "unwrap"}), ("_outgoing", {"read", "pending"})]
)
def test_asyncio_uses_nothing_that_is_not_locked(attribute: str, used: set[str]) -> None:
    """Of the SSL object, and of its buffer of encrypted bytes."""
    source = inspect.getsource(sslproto.SSLProtocol)
    before_the_body = {"do_handshake", "getpeercert", "cipher", "compression"}
    assert set(re.findall(rf"{attribute}\.(\w+)", source)) - before_the_body == used


async def test_encrypted_bytes_are_read_under_the_lock_of_those_who_encrypt(tmp_path: Path) -> None:
    """OpenSSL adds to their buffer without the GIL: a read meanwhile would see memory that is being moved."""
    async with connected(tmp_path) as (reader, writer):
        encryptor = TlsEncryptor.of(writer.transport)
        internals = tls_internals(writer.transport)
        assert encryptor is not None
        assert internals is not None
        lock, taken = encryptor._ssl.lock, 0

        class Counting:
            def __enter__(self) -> None:
                nonlocal taken
                lock.acquire()
                taken += 1

            def __exit__(self, *error: object) -> None:
                lock.release()

        assert internals._outgoing.lock is lock
        internals._outgoing.lock = Counting()
        writer.write(b"hello\n")  # which asyncio encrypts, and takes out of the buffer
        assert taken
        assert await reader.readline() == b"you said hello\n"


@pytest.mark.parametrize("tls", [False, True])
async def test_a_failed_write_reads_once_more(tmp_path: Path, tls: bool) -> None:
    """Without the hook, the line that has arrived would be lost."""
    answered = asyncio.Event()
    async with connected(tmp_path if tls else None, answered) as (reader, writer):
        writer.write(b"hello\n")
        transport: Any = writer.transport
        raw = transport._ssl_protocol._transport if tls else transport
        read_before_closing(transport)
        read_before_closing(transport)  # twice is as once
        raw.pause_reading()
        await answered.wait()
        raw._fatal_error(BrokenPipeError(), "the write failed")
        assert await reader.readline() == b"you said hello\n"
        assert raw.is_closing()


def test_a_failed_write_calls_what_the_hook_replaces() -> None:
    transport = selector_events._SelectorSocketTransport
    assert "self._fatal_error(" in inspect.getsource(transport.write)
    assert "_read_ready_cb" in inspect.getsource(transport._read_ready)


async def test_other_transports_are_left_alone() -> None:
    assert tls_internals(object()) is None
    read_before_closing(object())
