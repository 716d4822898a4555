"""HttpTransport through the user's proxy."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bigupload import S3Options, errors
from bigupload.core.part_plan import MIB, Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.sources.file import FileSource
from bigupload.stores.s3.bucket import S3Bucket
from tests.integration.support import BUCKET, content, no_leaks, write
from tests.integration.transport.support import Bench, bench, transport_to

_AUTHORIZATION = re.compile(rb"Proxy-Authorization: (.*)\r\n", re.IGNORECASE)


class ForwardProxy:
    """Takes `PUT http://host/path` and forwards it, and opens tunnels. Notes what was requested, by whom."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.users: list[bytes] = []
        """The values of Proxy-Authorization. They go no further, as from any proxy."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.users += _AUTHORIZATION.findall(head)
        method, target, rest = _AUTHORIZATION.sub(b"", head).split(b" ", 2)
        self.targets.append(target.decode())
        host, _, path = target.removeprefix(b"http://").partition(b"/")
        address, _, port = host.decode().partition(":")
        upstream_reader, upstream = await asyncio.open_connection(address, int(port))
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            upstream.write(method + b" /" + path + b" " + rest)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(1 << 16):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, upstream), pump(upstream_reader, writer))


class RefusingProxy:
    """Responds to everything, CONNECT included, with one status. Notes what it was asked for."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.asked: list[str] = []
        self.serving: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head.split(b" ", 1)[0].decode())
            writer.write(b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % self.status)
            await writer.drain()
            while await reader.read(1 << 16):
                pass
        writer.close()


@contextlib.asynccontextmanager
async def proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, proxy: ForwardProxy | RefusingProxy
) -> AsyncIterator[int]:
    """The proxy, named by http_proxy and https_proxy. Gives its port."""
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        port: int = server.sockets[0].getsockname()[1]
        name_proxy(monkeypatch, f"http://127.0.0.1:{port}")
        yield port
        if isinstance(proxy, RefusingProxy):
            await asyncio.gather(*(task for task in proxy.serving if task is not None))


def bucket_of(made: Bench) -> S3Bucket:
    return S3Bucket(BUCKET, S3Options(endpoint_url=made.s3.url, region="us-east-1", ca_bundle=made.s3.ca_bundle))


def name_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, url)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_the_password_is_the_proxys_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool) -> None:
    """In a tunnel nothing would take it out again."""
    proxy = ForwardProxy()
    with FileSource(write(tmp_path / "file", 2 * MIB)) as source, bench(tmp_path, tls=tls) as made:
        async with proxy_of_the_environment(monkeypatch, proxy) as port:
            name_proxy(monkeypatch, f"http://user:pass@127.0.0.1:{port}")
            async with transport_to(made) as transport:
                await made.put(transport, source, Part(1, 0, 2 * MIB))
        (put,) = [request for request in made.s3.requests if request.op == "UploadPart"]
        assert put.status == 200
        assert "proxy-authorization" not in put.headers
    assert proxy.targets.count(made.s3.url.partition("//")[2]) == tls
    assert set(proxy.users) == {b"Basic dXNlcjpwYXNz"}


async def test_no_proxy_can_name_a_host_with_its_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = ForwardProxy()
    with FileSource(write(tmp_path / "file", MIB)) as source, bench(tmp_path, tls=False) as made:
        async with proxy_of_the_environment(monkeypatch, proxy):
            monkeypatch.setenv("no_proxy", made.s3.url.removeprefix("http://"))
            async with transport_to(made) as transport:
                await made.put(transport, source, Part(1, 0, MIB))
        assert made.stored() == content(MIB)
    assert proxy.targets == []


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (407, FaultKind.FINAL, "proxy asks for a user name and password .407.*http_proxy"),
        (403, FaultKind.FINAL, "the proxy does not connect to 127.0.0.1:.*403.*no_proxy"),
        (502, FaultKind.UNREACHABLE, "the proxy does not connect to 127.0.0.1:.*502"),
    ],
)
async def test_a_proxy_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool, status: int, kind: FaultKind, says: str
) -> None:
    if not tls and status != 407:
        pytest.skip("over http, nothing tells the proxy's answer from the store's")
    proxy = RefusingProxy(status)
    with FileSource(write(tmp_path / "file", MIB)) as source, bench(tmp_path, tls=tls) as made:
        async with proxy_of_the_environment(monkeypatch, proxy), transport_to(made) as transport:
            with pytest.raises(Fault, match=says) as caught:
                await made.put(transport, source, Part(1, 0, MIB))
    assert caught.value.kind is kind
    assert proxy.asked == ["CONNECT" if tls else "PUT"]


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_proxy_that_wants_a_password_refuses_calls_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    proxy = RefusingProxy(407)
    with bench(tmp_path, tls=tls) as made:
        async with (
            proxy_of_the_environment(monkeypatch, proxy),
            no_leaks(),
            contextlib.aclosing(bucket_of(made)) as bucket,
        ):
            with pytest.raises(Fault, match="proxy asks for a user name and password") as caught:
                await bucket.call("to look at the bucket", "HeadBucket")
    assert caught.value.kind is FaultKind.FINAL
    assert proxy.asked == ["CONNECT" if tls else "HEAD"]


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_a_proxy_that_refuses_the_password_does_not_ask_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    with FileSource(write(tmp_path / "file", MIB)) as source, bench(tmp_path, tls=tls) as made:
        async with proxy_of_the_environment(monkeypatch, RefusingProxy(407)) as port:
            name_proxy(monkeypatch, f"http://user:wrong@127.0.0.1:{port}")
            async with transport_to(made) as transport:
                with pytest.raises(Fault, match=r"the proxy refuses this user name and password .407") as caught:
                    await made.put(transport, source, Part(1, 0, MIB))
    assert "wrong" not in str(caught.value)


async def test_a_proxy_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with FileSource(write(tmp_path / "file", MIB)) as source, bench(tmp_path, tls=True) as made:
        name_proxy(monkeypatch, f"http://user:secret@127.0.0.1:{port}")
        async with transport_to(made) as transport:
            with pytest.raises(Fault, match=f"can't connect to the proxy 127.0.0.1:{port}: ") as caught:
                await made.put(transport, source, Part(1, 0, MIB))
        assert "secret" not in str(caught.value)
        bucket = bucket_of(made)
        with pytest.raises(Fault, match=f"can't connect to the proxy 127.0.0.1:{port}: ") as caught:
            await bucket.call("to look at the bucket", "HeadBucket")
        assert "secret" not in str(caught.value)
        await bucket.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of descriptors")
async def test_too_many_open_files_are_named(tmp_path: Path) -> None:
    """Not "can't connect", which would be waited out as an outage, and not a wrong AWS configuration."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with FileSource(write(tmp_path / "file", MIB)) as source, bench(tmp_path, tls=False) as made:
        bucket = bucket_of(made)
        await bucket.call("to look at the bucket", "HeadBucket")
        await bucket.aclose()
        request = made.sign(Part(1, 0, MIB), content(MIB))
        async with transport_to(made) as transport:
            # Descriptors are the lowest free numbers: none is left below this limit.
            with socket.socket() as lowest_free:
                resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno(), hard))
            try:
                with pytest.raises(Fault, match=r"too many files and connections open.*ulimit -n") as caught:
                    await transport.put(request, source, Part(1, 0, MIB), on_start=lambda _: None)
                with pytest.raises((Fault, errors.BigUploadError), match="too many files and connections open"):
                    await bucket.call("to look at the bucket", "HeadBucket")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert caught.value.kind is FaultKind.BROKEN
