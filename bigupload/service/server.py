"""One process of the service. It answers requests until it is stopped, and finishes requests in flight first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator

from aiohttp import web

from bigupload import errors
from bigupload.service.access_log import AccessLog
from bigupload.service.app import LOG, create_app
from bigupload.service.connections import ACCEPTED_AT_ONCE, Connections, LoopErrors, most_connections
from bigupload.service.draining import IN_FLIGHT
from bigupload.service.middleware import connection_factory
from bigupload.service.settings import ServeSettings
from bigupload.service.sweeper import sweeping

DRAIN_WITHIN = 20.0
"""How long a stop waits for requests in flight, in seconds. Kubernetes, for example, kills after 30."""
LAST_RESPONSES_WITHIN = 1.0
"""How long a stop waits for the last responses to be sent, in seconds."""
_BACKLOG = 1024
"""How many connections the kernel queues until they are accepted."""


@contextlib.asynccontextmanager
async def running(settings: ServeSettings, *, sweeps: bool) -> AsyncIterator[str]:
    """Run the service and yield its URL. At the end, finish the requests in flight."""
    app = create_app(settings)
    log = app[LOG]
    async with contextlib.AsyncExitStack() as stack:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=LAST_RESPONSES_WITHIN, handle_signals=False)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        listener = listen(settings.host, settings.port)
        server = await _accept(listener, runner, log)
        stack.push_async_callback(app[IN_FLIGHT].drain, server, delay=settings.stop_delay, within=DRAIN_WITHIN)
        if sweeps and settings.sweep_every > 0:
            await stack.enter_async_context(sweeping(settings, log))
        yield url_of(settings.host, listener.getsockname()[1])


async def _accept(listener: socket.socket, runner: web.AppRunner, log: AccessLog) -> asyncio.Server:
    """Accept connections to `listener`, as many as there are descriptors for."""
    loop = asyncio.get_running_loop()
    connections = Connections(most_connections())
    log.take_over("asyncio")
    loop.set_exception_handler(LoopErrors(connections, log.write_event))
    assert runner.server is not None
    factory = connection_factory(runner.server, connections, log)
    server = await loop.create_server(factory, sock=listener, backlog=ACCEPTED_AT_ONCE)
    listener.listen(_BACKLOG)  # asyncio accepts in batches of its `backlog`; the kernel's queue may be longer
    return server


def listen(host: str, port: int, *, shared: bool = True) -> socket.socket:
    """Bind a socket to listen on; `shared`: other processes may bind the same port. Raises UsageError on failure."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared and hasattr(socket, "SO_REUSEPORT"):
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as e:  # UnicodeError: the host is not a valid name
        why = (e.strerror if isinstance(e, OSError) else None) or "it is no host"
        raise errors.UsageError(f"can't listen on {host} port {port}: {why}: name another --port or --host") from e
    return listener


def url_of(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def exit_in_time(settings: ServeSettings) -> None:
    """End the process even if a call to the store hangs in a thread, for which Python would wait."""
    within = settings.stop_delay + DRAIN_WITHIN + 2 * LAST_RESPONSES_WITHIN
    timer = threading.Timer(within, os._exit, [errors.EXIT_OK])
    timer.daemon = True
    timer.start()
