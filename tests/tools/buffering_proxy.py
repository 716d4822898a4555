"""A proxy that takes whole request bodies as fast as they come, and passes them on slowly: nginx's default, a virus
scanner, a VPN. It runs in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

_CHUNK = 16 * 1024
_LATE = 0.2
"""Seconds by which a busy machine may be late without a lower rate."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CONNECTION = re.compile(rb"\r\nconnection: [^\r]*", re.IGNORECASE)


class BufferingProxy:
    """Counts the bytes of parts. `rate`: bytes a second, for all bodies together; None: it does not hold them up.

    It passes nothing on while a body arrives. On a busy machine a body may take as long as the proxy takes to pass one
    on, and no client could tell that from a slow link.
    """

    def __init__(self, upstream: str, rate: float | None, *, in_turn: bool = False) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname, address.port)
        self.rate = rate
        self.url = ""
        self.accepted = 0
        """Bytes that the proxy has taken, in all."""
        self.stored = 0
        """Bytes of parts to which the store has responded, and whose clients were still there."""
        self.held = 0
        """Bytes that it has of parts that are not stored, and whose clients are there."""
        self.most_held = 0
        """The same at its worst, when it took bytes of a request of a client that had read a response. A busy client
        may read it late: it has as long as the proxy takes to pass on another part."""
        self._passed = 0
        self._seen_at = math.inf
        self._changed = threading.Condition()
        self._free_at = 0.0
        self._arriving = 0
        self._nothing_arrives = asyncio.Event()
        self._nothing_arrives.set()
        self._turn = asyncio.Lock() if in_turn else contextlib.nullcontext()

    def wait_until_passed(self, count: int, timeout: float = 120) -> int:
        """Wait until the store was sent so many bytes; returns what the proxy holds at that moment."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._passed >= count, timeout), f"{self._passed} of {count} bytes"
            return self.held

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client's connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                await self._exchange(await reader.readuntil(b"\r\n\r\n"), reader, writer)

    async def _exchange(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = _LENGTH.search(head)
        size = int(found[1]) if found else 0
        is_part = head.startswith(b"PUT ")
        is_later = self._passed >= self._seen_at
        body = bytearray()
        try:
            with self._arrival():
                while len(body) < size:
                    data = await reader.read(size - len(body))
                    if not data:
                        return
                    body += data
                    if is_part:
                        self._count(len(data), is_later)
            answer = await self._answer(head, bytes(body), reader)
            if is_part and answer.startswith(b"HTTP/1.1 200"):
                self.stored += size
                self._seen_at = min(self._seen_at, self._passed + size)
            writer.write(_CONNECTION.sub(b"", answer, count=1))
            await writer.drain()
        finally:
            with self._changed:
                self.held -= len(body) if is_part else 0

    @contextlib.contextmanager
    def _arrival(self) -> Iterator[None]:
        self._arriving += 1
        self._nothing_arrives.clear()
        try:
            yield
        finally:
            self._arriving -= 1
            if not self._arriving:
                self._nothing_arrives.set()

    def _count(self, accepted: int, is_later: bool) -> None:
        with self._changed:
            self.accepted += accepted
            self.held += accepted
            if is_later:
                self.most_held = max(self.most_held, self.held)

    async def _answer(self, head: bytes, body: bytes, client: asyncio.StreamReader) -> bytes:
        """The store's response. A client that leaves ends its request, as it does at nginx."""
        store, to_store = await asyncio.open_connection(*self._upstream)
        gone = asyncio.ensure_future(client.read(1))
        passing = asyncio.ensure_future(self._pass_on(head, body, store, to_store))
        try:
            await asyncio.wait((gone, passing), return_when=asyncio.FIRST_COMPLETED)
            if not passing.done():
                raise ConnectionResetError
            return passing.result()
        finally:
            for task in (gone, passing):
                task.cancel()
            await asyncio.gather(gone, passing, return_exceptions=True)
            to_store.close()

    async def _pass_on(
        self, head: bytes, body: bytes, store: asyncio.StreamReader, to_store: asyncio.StreamWriter
    ) -> bytes:
        to_store.write(_CONNECTION.sub(b"", head, count=1)[:-2] + b"Connection: close\r\n\r\n")
        async with self._turn if body and isinstance(self._turn, asyncio.Lock) else contextlib.AsyncExitStack():
            for at in range(0, len(body), _CHUNK):
                chunk = body[at : at + _CHUNK]
                await self._wait_for(len(chunk))
                to_store.write(chunk)
                await to_store.drain()
                with self._changed:
                    self._passed += len(chunk)
                    self._changed.notify_all()
        return await store.read(-1)

    async def _wait_for(self, size: int) -> None:
        if self.rate is None:
            return
        await self._nothing_arrives.wait()
        now = asyncio.get_running_loop().time()
        self._free_at = max(now - _LATE, self._free_at) + size / self.rate
        await asyncio.sleep(self._free_at - now)  # a browser measures this rate by its own clock: none can be passed in


@contextlib.contextmanager
def buffering_proxy(upstream: str, rate: float | None, *, in_turn: bool = False) -> Iterator[BufferingProxy]:
    """One that runs, on a free port of 127.0.0.1, before the server at `upstream`."""
    proxy = BufferingProxy(upstream, rate, in_turn=in_turn)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    ending = asyncio.Event()

    async def run() -> None:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=1 << 20)
        proxy.url = "http://{}:{}".format(*server.sockets[0].getsockname()[:2])
        ready.set()
        await ending.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), name="buffering-proxy")
    thread.start()
    try:
        assert ready.wait(30)
        yield proxy
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(30)
        loop.close()
