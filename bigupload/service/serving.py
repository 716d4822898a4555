"""The service as processes: one, or several workers on one port; started, watched, stopped without a broken request.

A worker is told by a pipe that its parent is gone, so that not even a killed parent leaves workers behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from aiohttp import web

from bigupload import errors
from bigupload.options import S3Options
from bigupload.retry import Fault
from bigupload.service.access_log import AccessLog
from bigupload.service.app import Parts, new_app, origin_of
from bigupload.service.draining import UNDER_WAY
from bigupload.service.handles import Handles
from bigupload.service.keys import KeyFile
from bigupload.service.limits import RateLimit
from bigupload.service.metrics import MULTIPROCESS_DIR, Metrics
from bigupload.service.posts import PostsApi
from bigupload.service.sweep import Sweep
from bigupload.service.uploads import MediaUploads
from bigupload.stores._bucket import S3Bucket

GRACE = 30.0
"""Seconds that requests under way have at a stop."""
_LAST_WORDS = 1.0
"""Seconds for the last answers to leave."""
_BACKLOG = 1024
_RESTART_AFTER = 1.0
"""Seconds before a worker that died is started again: one that can't live must not keep a core busy."""
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a service is run."""

    host: str
    port: int
    """0: any that is free."""
    workers: int
    bucket: str
    s3: S3Options
    signing_endpoint: str | None
    """The store's endpoint as clients reach it; None: the one of `s3`."""
    public_url: str | None
    """Where the bucket's objects are for everyone; None: at the endpoint that is signed for."""
    keys: Path
    secrets: tuple[str, ...] = field(repr=False)
    requests_a_second: float
    """Of one API key, in one process. As many may come at once as in two seconds."""
    max_open_uploads: int
    posts_api: PostsApi | None
    allow_private_media_hosts: bool
    sweep_every: float
    """Seconds; 0: never."""


# -- one process


@contextlib.asynccontextmanager
async def running(settings: Settings, *, sweeps: bool) -> AsyncIterator[str]:
    """The service, answering at the URL that is given; at the end, requests under way are seen to their end."""
    log = AccessLog()
    bucket = S3Bucket(settings.bucket, settings.s3, signing_endpoint=settings.signing_endpoint, urls_hold=True)
    async with contextlib.aclosing(bucket), contextlib.AsyncExitStack() as stack:
        app = new_app(await _parts(settings, bucket, log))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_LAST_WORDS, handle_signals=False)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        listener = _listen(settings.host, settings.port)
        site = web.SockSite(runner, listener, backlog=_BACKLOG)
        await site.start()
        stack.push_async_callback(app[UNDER_WAY].drain, site, within=GRACE)
        if sweeps and settings.sweep_every > 0:
            sweeping = asyncio.create_task(_sweep(Sweep(bucket, now=_utc_now), settings.sweep_every, log))
            stack.callback(sweeping.cancel)
        yield _url(settings.host, listener.getsockname()[1])


async def _parts(settings: Settings, bucket: S3Bucket, log: AccessLog) -> Parts:
    keys = KeyFile(settings.keys)
    keys.load()
    try:
        (signed,) = await bucket.presign("put_object", [{"Key": "media/any"}])
    except Fault as fault:
        raise fault.public() from fault
    return Parts(
        uploads=MediaUploads(
            bucket,
            Handles(settings.secrets, clock=time.time),
            public_url=settings.public_url,
            max_open_uploads=settings.max_open_uploads,
        ),
        keys=keys,
        rate=RateLimit(settings.requests_a_second, max(1.0, 2 * settings.requests_a_second)),
        log=log,
        metrics=Metrics(),
        posts_api=settings.posts_api,
        allow_private_media_hosts=settings.allow_private_media_hosts,
        store_origin=origin_of(signed),
    )


async def _sweep(sweep: Sweep, every: float, log: AccessLog) -> None:
    """Keep the promise of seven days, whatever the store makes of its own rules."""
    while True:
        try:
            report = await sweep.run()
        except (Fault, errors.BigUploadError) as e:
            log.tell("sweep", error=str(e))
        except Exception as e:  # a bug in one sweep must not be the end of all
            log.tell("sweep", error=type(e).__name__)
        else:
            log.tell("sweep", **dataclasses.asdict(report))
        await asyncio.sleep(every)


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _listen(host: str, port: int) -> socket.socket:
    """Raises UsageError where that can't be listened on."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
        except BaseException:
            listener.close()
            raise
    except OSError as e:
        raise errors.UsageError(f"can't listen on {host} port {port}: {e.strerror}: name another --port") from e
    return listener


def _url(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


# -- the command


def serve(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Serve until a signal asks to stop; `on_ready` gets the URL. Blocking. Raises BigUploadError."""
    _refuse_taken_port(settings)
    if settings.workers == 1:
        asyncio.run(_serve_alone(settings, on_ready))
    else:
        _Workers(settings).run(on_ready)


def _refuse_taken_port(settings: Settings) -> None:
    """With SO_REUSEPORT a second service would bind silently, and get half of the first one's requests."""
    if settings.port == 0:
        return
    probe = socket.socket(socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0])
    with contextlib.closing(probe):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as e:
            raise errors.UsageError(
                f"can't listen on {settings.host} port {settings.port}: {e.strerror}: name another --port"
            ) from e


async def _serve_alone(settings: Settings, on_ready: Callable[[str], None]) -> None:
    stop = _on_signals()
    async with running(settings, sweeps=True) as url:
        on_ready(url)
        await stop.wait()


def _on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


class _Workers:
    """The parent of several. It listens to nothing and holds the port, so that it stays theirs."""

    def __init__(self, settings: Settings) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._held = _listen(settings.host, settings.port)  # bound, never listened on: gets no connections
        self._settings = dataclasses.replace(settings, port=self._held.getsockname()[1])
        self._workers: dict[int, tuple[BaseProcess, Connection]] = {}
        self._stopped = False

    def run(self, on_ready: Callable[[str], None]) -> None:
        read, write = os.pipe()
        os.set_blocking(write, False)
        previous = signal.set_wakeup_fd(write)
        handlers = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        metrics = tempfile.TemporaryDirectory(prefix="bigupload-metrics-")
        os.environ[MULTIPROCESS_DIR] = metrics.name
        try:
            for number in range(self._settings.workers):
                self._start(number)
            on_ready(_url(self._settings.host, self._settings.port))
            self._watch(read)
        finally:
            self._stop()
            del os.environ[MULTIPROCESS_DIR]
            metrics.cleanup()
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous)
            os.close(read)
            os.close(write)
            self._held.close()

    def _start(self, number: int) -> None:
        """Raises the error that kept the worker from starting."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(self._settings, theirs, number == 0))
        process.start()
        theirs.close()
        self._workers[number] = process, ours
        try:
            refused = ours.recv()
        except EOFError:
            raise errors.ServiceError("a worker ended before it was ready") from None
        if refused is not None:
            raise errors.ServiceError(refused)

    def _watch(self, signals: int) -> None:
        """Until a signal comes. A worker that ends before that is replaced."""
        while True:
            sentinels = {process.sentinel: number for number, (process, _) in self._workers.items()}
            ready = wait([signals, *sentinels])
            if signals in ready:
                return
            for sentinel in ready:
                number = sentinels[sentinel]  # type: ignore[index]
                self._workers.pop(number)[1].close()
                if wait([signals], timeout=_RESTART_AFTER):
                    return
                self._start(number)

    def _stop(self) -> None:
        for _, pipe in self._workers.values():
            pipe.close()  # which they take for the word to stop
        deadline = time.monotonic() + GRACE + 5.0
        for process, _ in self._workers.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _work(settings: Settings, parent: Connection, sweeps: bool) -> None:
    """A worker's main. Signals are the parent's: a Ctrl-C reaches the whole group."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    asyncio.run(_work_until_told(settings, parent, sweeps=sweeps))


async def _work_until_told(settings: Settings, parent: Connection, *, sweeps: bool) -> None:
    stop = asyncio.Event()
    try:
        async with running(settings, sweeps=sweeps):
            parent.send(None)
            asyncio.get_running_loop().add_reader(parent.fileno(), stop.set)
            await stop.wait()
            asyncio.get_running_loop().remove_reader(parent.fileno())
        # The parent's to do, who may have been killed.
        shutil.rmtree(os.environ[MULTIPROCESS_DIR], ignore_errors=True)
    except errors.BigUploadError as e:
        parent.send(str(e))
