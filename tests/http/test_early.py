"""A connection that is begun before a pool exists."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bigupload.http import early
from bigupload.http.client import HttpClient
from bigupload.http.origins import system_context
from bigupload.testing.strict_s3 import StrictS3


class Listener:
    """A server on 127.0.0.1 that only listens: the kernel makes the connections."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def accepted(self) -> socket.socket:
        return self.socket.accept()[0]


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    with made.socket:
        yield made


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "_WAIT", 60.0)
    monkeypatch.setattr(early, "_LASTS", 60.0)


async def test_the_first_who_connects_gets_it(listener: Listener) -> None:
    with early.connecting(f"{listener.url}/bucket"):
        sock = await early.take("127.0.0.1", listener.port)
        assert sock is not None
        assert await early.take("127.0.0.1", listener.port) is None
    with sock, listener.accepted() as peer:
        assert peer.getpeername() == sock.getsockname()
        assert not sock.getblocking()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_a_pool_uses_it() -> None:
    with StrictS3() as s3:
        client = HttpClient(None)
        with early.connecting(s3.url):
            _, made = early._begun["127.0.0.1", int(s3.url.rpartition(":")[2])]
            async with client.open("GET", f"{s3.url}/", {}, within=60) as response:
                await response.read_all()
        sock = made.result()
        assert sock is not None
        assert sock.fileno() >= 0
        await client.aclose()
        assert sock.fileno() == -1, "the pool has closed it, so the pool had it"


async def test_nobody_takes_it(listener: Listener) -> None:
    with early.connecting(listener.url):
        pass
    with listener.accepted() as peer:
        assert await asyncio.to_thread(peer.recv, 1) == b""


async def test_one_that_the_peer_closed_is_not_used(listener: Listener) -> None:
    with early.connecting(listener.url):
        _, made = early._begun["127.0.0.1", listener.port]
        listener.accepted().close()
        sock = await asyncio.to_thread(made.result)
        assert sock is not None
        await asyncio.to_thread(socket.socket.recv, _blocking(sock), 1)
        sock.setblocking(False)
        assert await early.take("127.0.0.1", listener.port) is None
        assert sock.fileno() == -1


def _blocking(sock: socket.socket) -> socket.socket:
    sock.setblocking(True)
    return sock


async def test_one_that_waited_for_long_is_not_used(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "_LASTS", 0.0)
    with early.connecting(listener.url):
        assert await early.take("127.0.0.1", listener.port) is None


async def test_one_that_fails_is_left_to_the_pool(listener: Listener) -> None:
    listener.socket.close()
    with early.connecting(listener.url):
        assert await early.take("127.0.0.1", listener.port) is None


@pytest.mark.parametrize("cancelled", [False, True])
async def test_one_that_takes_long_is_closed_when_it_comes(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    going = threading.Event()
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **more: going.wait(60) and look_up(*a, **more))
    monkeypatch.setattr(early, "_WAIT", 60.0 if cancelled else 0.0)
    with early.connecting(listener.url):
        taking = asyncio.create_task(early.take("127.0.0.1", listener.port))
        if cancelled:
            await asyncio.sleep(0)
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking
        else:
            assert await taking is None
        going.set()
        with listener.accepted() as peer:
            assert await asyncio.to_thread(peer.recv, 1) == b""


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", "s3"])
def test_a_url_that_cannot_be_used_is_left_to_the_pool(url: str) -> None:
    with early.connecting(url):
        assert early._begun == {}


def test_no_connection_goes_past_a_proxy(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with early.connecting(listener.url):
        assert early._begun == {}
    monkeypatch.setenv("http_proxy", "nonsense://x")
    with early.connecting(listener.url):
        assert early._begun == {}


async def test_the_certificates_are_read_meanwhile(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    read = threading.Event()
    monkeypatch.setattr(early, "system_context", read.set)
    for scheme, loads, expected in (("https", True, True), ("https", False, False), ("http", True, False)):
        read.clear()
        with early.connecting(f"{scheme}://127.0.0.1:{listener.port}", loads_certificates=loads):
            threads = [each for each in threading.enumerate() if each.name.endswith("(_connect)")]
            for each in threads:
                await asyncio.to_thread(each.join)
        assert read.is_set() is expected
    assert system_context() is system_context()


def test_the_command_connects_before_it_loads_what_uploads(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with StrictS3() as s3:
        s3.create_bucket("bucket")
        code = f"""
import contextlib, sys
from bigupload.http import early
connecting = early.connecting
@contextlib.contextmanager
def watched(url, **more):
    print(url, [name for name in ("anyio", "bigupload.api.uploader", "bigupload.engine") if name in sys.modules])
    with connecting(url, **more):
        yield
early.connecting = watched
import bigupload.__main__
bigupload.__main__.main({["upload", str(tmp_path / "file"), "s3://bucket/key", "--endpoint-url", s3.url]!r})
"""
        environment = {
            **os.environ, "AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            "BIGUPLOAD_STATE_DIR": str(tmp_path), "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"{s3.url}/bucket []"), done.stderr
