"""`bigupload`, whose `serve` answers by ASGI: uvicorn is its server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn

from bigupload.__main__ import main
from bigupload.cli import serve
from bigupload.service import asgi
from bigupload.service.http import serving
from bigupload.service.http.serving import ServeSettings


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()  # or it has failed

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """`serve` has handlers of its own."""
        yield


@contextlib.asynccontextmanager
async def running(settings: ServeSettings, *, sweeps: bool) -> AsyncIterator[str]:
    """In place of `serving.running`."""
    assert not sweeps or settings.sweep_every == 0
    listener = serving.listen(settings.host, settings.port)
    with contextlib.closing(listener):
        config = uvicorn.Config(
            asgi.create_app(settings), log_config=None, log_level="critical", lifespan="on", proxy_headers=False
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await server.is_up.wait()
        assert server.started
        yield serving.url_of(settings.host, listener.getsockname()[1])
        server.should_exit = True
        await task


if __name__ == "__main__":
    serving.running = running
    serve.LOCAL_BUCKET += "-asgi"  # as `Service.bucket` says
    main()
