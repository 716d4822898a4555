"""The local store with slow responses, for the examples that need a store that takes its time.

::

    with SlowStore(complete=3.0) as store:
        asyncio.run(bigupload.upload("movie.mov", to=store.url("movie.mov"), s3=store.options))

It is a proxy in a thread of its own. Requests pass at once; the response to a chosen kind of request waits.
"""

from __future__ import annotations

import asyncio
import re
import threading
from types import TracebackType

import bigupload
from bigupload.stores import local_store

_KINDS = {
    "head": rb"HEAD ",
    "create": rb"POST \S+[?&]uploads",
    "list_parts": rb"GET \S+[?&]uploadId=",
    "complete": rb"POST \S+[?&]uploadId=",
}


class SlowStore:
    """A store that responds late to some kinds of requests. Begin it outside of an event loop."""

    def __init__(self, **seconds: float) -> None:
        """Start the local store.

        Args:
            **seconds: How late responses are, by the kind of request: `head`, `create`, `list_parts`, `complete`.
        """
        bigupload.upload_sync(__file__, s3=bigupload.S3Options(local=True))  # starts the store, and makes its bucket
        self._local = local_store.start()
        self._late = [(re.compile(_KINDS[kind]), seconds[kind]) for kind in seconds]
        self._loop = asyncio.new_event_loop()
        # A daemon, so that it does not hold a program that ends without `__exit__`.
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._run()], daemon=True)
        self._ready = threading.Event()
        self.waiting = threading.Event()
        """Set once a request arrived whose response is late."""

    def url(self, key: str) -> str:
        """Where to upload to."""
        return f"s3://{self._local.bucket}/{key}"

    def __enter__(self) -> SlowStore:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.options = bigupload.S3Options(
            endpoint_url=f"http://127.0.0.1:{port}",
            region=self._local.region,
            access_key=self._local.access_key,
            secret_key=self._local.secret_key,
        )
        self._ready.set()
        await self._stop.wait()
        server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(client, to_client))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        host, port = self._local.endpoint_url.removeprefix("http://").split(":")
        store, to_store = await asyncio.open_connection(host, port)
        delay = 0.0

        async def requests() -> None:
            nonlocal delay
            while data := await client.read(2**16):
                for pattern, seconds in self._late:
                    if pattern.match(data):  # clients send a request's first line in one piece
                        delay = seconds
                        self.waiting.set()
                to_store.write(data)
                await to_store.drain()

        async def responses() -> None:
            nonlocal delay
            while data := await store.read(2**16):
                await asyncio.sleep(delay)
                delay = 0.0
                to_client.write(data)
                await to_client.drain()

        directions = [asyncio.create_task(requests()), asyncio.create_task(responses())]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            to_store.transport.abort()
            to_client.transport.abort()
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)  # a client may leave at any time
