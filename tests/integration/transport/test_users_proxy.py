"""HttpTransport through the user's proxy."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from bigupload.core.part_plan import MIB, Part
from bigupload.sources.file import FileSource
from tests.integration.support import BUCKET, content, write
from tests.integration.transport.support import bench, transport_to


class ForwardProxy:
    """An HTTP proxy in the old sense: takes `PUT http://host/path` and hands it on. Notes what it was asked for."""

    def __init__(self) -> None:
        self.targets: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, rest = head.split(b" ", 2)
        self.targets.append(target.decode())
        host, _, path = target.removeprefix(b"http://").partition(b"/")
        address, _, port = host.decode().partition(":")
        upstream_reader, upstream = await asyncio.open_connection(address, int(port))
        upstream.write(method + b" /" + path + b" " + rest)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(1 << 16):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, upstream), pump(upstream_reader, writer))


async def test_the_users_proxy_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = ForwardProxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with server:
        with FileSource(write(tmp_path / "file", 3 * MIB)) as source, bench(tmp_path, tls=False) as made:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            async with transport_to(made) as transport:
                await made.put(transport, source, Part(1, 0, 3 * MIB))
            assert made.stored() == content(3 * MIB)
            assert [target.partition("?")[0] for target in proxy.targets if "partNumber" in target] == [
                f"{made.s3.url}/{BUCKET}/key"
            ]
