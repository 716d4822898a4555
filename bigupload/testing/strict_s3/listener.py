"""The server below StrictS3: a thread with an event loop, a port, TLS, and an end that leaves no socket behind."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import threading
import weakref
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web


class Listener:
    """Runs while it is entered, at `url`. Its subclass responds to the requests."""

    def __init__(self, host: str, *, tls: bool) -> None:
        self.url = ""
        self.port = 0
        self.ca_bundle: Path | None = None
        self._host, self._tls = host, tls
        self._wake: asyncio.Event

    def prepare(self, directory: Path) -> None:
        """Before the first request; `directory` is removed at the end."""

    def release(self) -> None:
        """Let go whatever waits."""

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="strict-s3-")
        try:
            context = self._ssl_context() if self._tls else None
            self.prepare(Path(self._directory.name))
            ready: Future[int] = Future()
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._serve(ready, context)), name="strict-s3", daemon=True
            )
            self._thread.start()
            self.port = ready.result(timeout=30)
        except BaseException:
            self._directory.cleanup()
            raise
        self.url = f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close every connection and the port. Harmless when repeated; the records stay."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=30)
        self._directory.cleanup()
        if self._thread.is_alive():
            raise RuntimeError("StrictS3 did not stop")

    def _ssl_context(self) -> ssl.SSLContext:
        from bigupload.testing.certificates import make_certificates  # needs cryptography, as https alone does

        paths = make_certificates(Path(self._directory.name))
        self.ca_bundle = paths.ca
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(paths.cert, paths.key)
        return context

    async def _serve(self, ready: Future[int], context: ssl.SSLContext | None) -> None:
        try:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            self._wake = asyncio.Event()
            # auto_decompress: a part's Content-Encoding is the object's business, not the transport's.
            server = _Server(self._handle, access_log=None, auto_decompress=False, read_bufsize=1 << 19)
            listener = await self._loop.create_server(server, self._host, 0, ssl=context, backlog=512)
            ready.set_result(listener.sockets[0].getsockname()[1])
        except BaseException as error:
            ready.set_exception(error)
            raise
        await self._stop.wait()
        # What was just accepted is a task that has not begun. asyncio forgets to close its socket where the listener is
        # gone by then, or the task cancelled: accept no more, and let those begin.
        for each in listener.sockets:
            self._loop.remove_reader(each.fileno())
        await asyncio.sleep(0)
        listener.close()
        self.release()
        await server.shutdown(timeout=0.01)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # A connection that was accepted meanwhile, or whose client reads nothing, is not closed by that.
        for transport in server.transports:
            transport.abort()
        for _ in range(2):  # an aborted transport closes its socket at the loop's next turn
            await asyncio.sleep(0)


class _Server(web.Server):
    """Keeps its connections' transports in mind, to end with it also those that aiohttp does not close in time.

    Those below TLS: a TLS transport of asyncio's that was closed twice, as aiohttp does, can't be aborted any more, and
    waits for the other side's farewell.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        self.transports.add(getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport))
        super().connection_made(handler, transport)
