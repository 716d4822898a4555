"""StrictS3 stops in the middle of whatever its clients are doing, and leaves no socket: a warning about one would fail
some later test, now and then."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import threading
import warnings
from collections.abc import Callable

import pytest

from bigupload.testing.strict_s3 import StrictS3

pytestmark = pytest.mark.slow

Act = Callable[[StrictS3, contextlib.ExitStack], None]
HEAD = b"PUT /bucket/key HTTP/1.1\r\nHost: store\r\nContent-Length: 100\r\n"


def connect(s3: StrictS3, stack: contextlib.ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", s3.port), timeout=30))


def speak(s3: StrictS3, stack: contextlib.ExitStack, said: bytes) -> socket.socket:
    """On a connection of its own, over TLS where the store wants it. Nothing responds to the store's farewell."""
    connection = connect(s3, stack)
    if s3.ca_bundle is not None:
        context = ssl.create_default_context(cafile=s3.ca_bundle)
        connection = stack.enter_context(context.wrap_socket(connection, server_hostname="localhost"))
    connection.sendall(said)
    return connection


def just_accepted(s3: StrictS3, stack: contextlib.ExitStack) -> None:
    """The store finds the order to stop and new connections in one turn of its loop."""
    busy, go_on = threading.Event(), threading.Event()

    def be_busy() -> None:
        busy.set()
        go_on.wait(30)

    s3._loop.call_soon_threadsafe(be_busy)
    assert busy.wait(30)
    for _ in range(3):
        connect(s3, stack)
    s3._loop.call_soon_threadsafe(s3._stop.set)
    go_on.set()


def half_a_body(s3: StrictS3, stack: contextlib.ExitStack) -> None:
    speak(s3, stack, HEAD + b"\r\nhalf")
    s3.wait_for("PutObject")


def a_response_and_the_end(s3: StrictS3, stack: contextlib.ExitStack) -> None:
    connection = speak(s3, stack, HEAD + b"Connection: close\r\n\r\n" + bytes(100))
    assert connection.recv(1)


def kept_alive(s3: StrictS3, stack: contextlib.ExitStack) -> None:
    connection = speak(s3, stack, HEAD + b"\r\n" + bytes(100))
    assert connection.recv(1)


def half_a_handshake(s3: StrictS3, stack: contextlib.ExitStack) -> None:
    if s3.ca_bundle is None:
        connect(s3, stack)
        return
    said = ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=s3.ca_bundle).wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    connection = connect(s3, stack)
    connection.sendall(said.read())
    assert connection.recv(1), "its half of the handshake"


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("act", [just_accepted, half_a_handshake, half_a_body, a_response_and_the_end, kept_alive])
def test_nothing_is_left_open(act: Act, tls: bool) -> None:
    gc.collect()  # what others left is not ours
    with contextlib.ExitStack() as stack, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with StrictS3(tls=tls) as s3:
            act(s3, stack)
        gc.collect()
    assert [str(each.message) for each in seen] == []
