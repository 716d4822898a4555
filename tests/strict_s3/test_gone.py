"""A client that goes in the middle is no error of StrictS3: it logs nothing, and serves the next one."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from bigupload.testing.strict_s3 import StrictS3
from tests.strict_s3.support import BUCKET
from tests.tools.cases import each_case

pytestmark = pytest.mark.slow  # the fake is guarded here, and not what is tested by it

SIZE = 8 << 20
"""More than the sockets' buffers hold."""


def request(client: Any, method: str, rest: bytes = b"") -> bytes:
    """The begin of a signed request for an object."""
    url = client.generate_presigned_url(f"{method.lower()}_object", {"Bucket": BUCKET, "Key": "key"})
    parts = urlsplit(url)
    return f"{method} {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode() + rest


def half_a_body(client: Any, connection: socket.socket) -> None:
    connection.sendall(request(client, "PUT", b"Content-Length: 100\r\n\r\nhalf"))


def half_a_head(client: Any, connection: socket.socket) -> None:
    connection.sendall(request(client, "PUT", b"Content-Le"))


def half_a_response(client: Any, connection: socket.socket) -> None:
    client.put_object(Bucket=BUCKET, Key="key", Body=bytes(SIZE))
    connection.sendall(request(client, "GET", b"\r\n"))
    assert connection.recv(1)


def refused_with_half_a_body(client: Any, connection: socket.socket) -> None:
    head = request(client, "PUT", b"Content-Length: 100\r\n\r\nhalf").replace(b"/key?", b"/other?")
    connection.sendall(head)
    assert connection.recv(1)


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def end_its_half(connection: socket.socket) -> None:
    """All that it sends has been sent; it still reads, and gets no success."""
    connection.shutdown(socket.SHUT_WR)
    said = b""
    try:
        while piece := connection.recv(1 << 20):
            said = (said + piece)[:20]
    except ConnectionResetError:
        pass
    assert not said.startswith(b"HTTP/1.1 200"), said
    connection.close()


@each_case("farewell", [close, reset, end_its_half])
@each_case("act", [half_a_head, half_a_body, refused_with_half_a_body, half_a_response])
def test_nothing_is_logged(
    s3: StrictS3,
    client: Any,
    caplog: pytest.LogCaptureFixture,
    act: Callable[[Any, socket.socket], None],
    farewell: Callable[[socket.socket], None],
) -> None:
    if (act, farewell) == (half_a_response, end_its_half):
        return  # it gets the object
    before = s3.count("PutObject")
    with socket.create_connection(("127.0.0.1", s3.port), timeout=30) as connection:
        act(client, connection)
        if act is half_a_body:
            s3.wait_for("PutObject", before + 1)
        farewell(connection)
    s3.settle()
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []
    client.put_object(Bucket=BUCKET, Key="key", Body=b"next")
    caplog.clear()
