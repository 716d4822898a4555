"""One process of the service. It answers requests until it is stopped, and finishes requests in flight first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncIterator

from aiohttp import web

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.service.access_log import AccessLog
from bigupload.service.app import ServiceDependencies, new_app, origin_of
from bigupload.service.connections import ACCEPTED_AT_ONCE, Connections, LoopErrors, most_connections
from bigupload.service.draining import IN_FLIGHT
from bigupload.service.handles import Handles
from bigupload.service.keys import KeyFile
from bigupload.service.metrics import Metrics
from bigupload.service.middleware import connection_factory
from bigupload.service.request_rate import RequestRateLimit
from bigupload.service.settings import ServeSettings
from bigupload.service.sweeper import sweeping
from bigupload.service.uploads import MediaUploads
from bigupload.stores.s3.client import S3Bucket

DRAIN_WITHIN = 20.0
"""How long a stop waits for requests in flight, in seconds. Kubernetes, for example, kills after 30."""
LAST_RESPONSES_WITHIN = 1.0
"""How long a stop waits for the last responses to be sent, in seconds."""
_BACKLOG = 1024
"""How many connections the kernel queues until they are accepted."""


@contextlib.asynccontextmanager
async def running(settings: ServeSettings, *, sweeps: bool) -> AsyncIterator[str]:
    """Run the service and yield its URL. At the end, finish the requests in flight."""
    log = AccessLog()
    bucket = S3Bucket(settings.bucket, settings.s3, signing_endpoint=settings.signing_endpoint, urls_hold=True)
    async with contextlib.aclosing(bucket), contextlib.AsyncExitStack() as stack:
        app = new_app(await _dependencies(settings, bucket, log))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=LAST_RESPONSES_WITHIN, handle_signals=False)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        listener = listen(settings.host, settings.port)
        server = await _accept(listener, runner, log)
        stack.push_async_callback(app[IN_FLIGHT].drain, server, within=DRAIN_WITHIN)
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


async def _dependencies(settings: ServeSettings, bucket: S3Bucket, log: AccessLog) -> ServiceDependencies:
    keys = KeyFile(settings.keys)
    keys.load()
    try:
        await _look_at(bucket)
        (signed,) = await bucket.presign("put_object", [{"Key": "media/any"}])
    except Fault as fault:
        raise fault.public() from fault
    return ServiceDependencies(
        uploads=MediaUploads(
            bucket,
            Handles(settings.secrets, clock=time.time),
            public_url=settings.public_url,
            max_open_uploads=settings.max_open_uploads,
        ),
        keys=keys,
        rate=RequestRateLimit(settings.requests_a_second),
        log=log,
        metrics=Metrics(log.seconds),
        posts_api=settings.posts_api,
        allow_private_media_hosts=settings.allow_private_media_hosts,
        store_origin=origin_of(signed),
    )


async def _look_at(bucket: S3Bucket) -> None:
    """Check the bucket, so that a wrong name, region or key fails the start. Raises Fault or BigUploadError."""
    try:
        await bucket.call("to look at the bucket", "head_bucket")
    except Fault as fault:
        if fault.status != 404:  # a response to HEAD has no body, so there is no code NoSuchBucket
            raise
        made_by = f"bigupload bucket setup s3://{bucket.name} makes it"
        raise errors.BucketNotFound(f"there is no bucket {bucket.name!r} at this store: {made_by}") from fault


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


def exit_in_time() -> None:
    """End the process even if a call to the store hangs in a thread, for which Python would wait."""
    timer = threading.Timer(DRAIN_WITHIN + 2 * LAST_RESPONSES_WITHIN, os._exit, [errors.EXIT_OK])
    timer.daemon = True
    timer.start()
