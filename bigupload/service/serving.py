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
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from aiohttp import web

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.options import S3Options
from bigupload.service.access_log import AccessLog
from bigupload.service.app import ServiceDependencies, new_app, origin_of
from bigupload.service.connections import ACCEPTED_AT_ONCE, Connections, LoopErrors, most_connections
from bigupload.service.draining import IN_FLIGHT
from bigupload.service.handles import Handles
from bigupload.service.keys import KeyFile
from bigupload.service.limits import RequestRateLimit
from bigupload.service.metrics import MULTIPROCESS_DIR, Metrics
from bigupload.service.middleware import connection_factory
from bigupload.service.posts import PostsApi
from bigupload.service.sweep import Sweep
from bigupload.service.uploads import MediaUploads
from bigupload.stores.s3.client import S3Bucket

GRACE = 20.0
"""Seconds that requests under way have at a stop: Kubernetes, for one, kills after 30."""
_LAST_WORDS = 1.0
"""Seconds for the last answers to leave."""
_BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""
_RESTART_AFTER = 1.0
"""Seconds before a worker that died is started again: one that can't live must not keep a core busy."""
_LONGEST_PAUSE = 30.0
"""Seconds between two tries to start a worker again; each pause is twice the one before."""
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
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
async def running(settings: ServeSettings, *, sweeps: bool) -> AsyncIterator[str]:
    """The service, answering at the URL that is given; at the end, requests under way are seen to their end."""
    log = AccessLog()
    bucket = S3Bucket(settings.bucket, settings.s3, signing_endpoint=settings.signing_endpoint, urls_hold=True)
    async with contextlib.aclosing(bucket), contextlib.AsyncExitStack() as stack:
        app = new_app(await _dependencies(settings, bucket, log))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_LAST_WORDS, handle_signals=False)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        listener = _listen(settings.host, settings.port)
        server = await _accept(listener, runner, log)
        stack.push_async_callback(app[IN_FLIGHT].drain, server, within=GRACE)
        if sweeps and settings.sweep_every > 0:
            sweeping = asyncio.create_task(_sweep(Sweep(bucket, now=_utc_now), settings.sweep_every, log))
            stack.callback(sweeping.cancel)
        yield _url(settings.host, listener.getsockname()[1])


async def _accept(listener: socket.socket, runner: web.AppRunner, log: AccessLog) -> asyncio.Server:
    """Take connections to `listener`, as many as there are descriptors for."""
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
        rate=RequestRateLimit(settings.requests_a_second, max(1.0, 2 * settings.requests_a_second)),
        log=log,
        metrics=Metrics(log.seconds),
        posts_api=settings.posts_api,
        allow_private_media_hosts=settings.allow_private_media_hosts,
        store_origin=origin_of(signed),
    )


async def _look_at(bucket: S3Bucket) -> None:
    """A wrong name, region or key is told by the start, and not by the first request. Raises Fault, BigUploadError."""
    try:
        await bucket.call("to look at the bucket", "head_bucket")
    except Fault as fault:
        if fault.status != 404:  # HEAD has no body, so that no code tells NoSuchBucket
            raise
        made_by = f"bigupload bucket setup s3://{bucket.name} makes it"
        raise errors.BucketNotFound(f"there is no bucket {bucket.name!r} at this store: {made_by}") from fault


async def _sweep(sweep: Sweep, every: float, log: AccessLog) -> None:
    """Keep the promise of seven days, whatever the store makes of its own rules."""
    while True:
        try:
            report = await sweep.run()
        except (Fault, errors.BigUploadError) as e:
            log.write_event("sweep", error=str(e))
        except Exception as e:  # a bug in one sweep must not be the end of all
            log.write_event("sweep", error=type(e).__name__)
        else:
            log.write_event("sweep", **dataclasses.asdict(report))
        await asyncio.sleep(every)


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _listen(host: str, port: int, *, shared: bool = True) -> socket.socket:
    """Bound, to be listened on; `shared` with others that share. Raises UsageError where that can't be."""
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
    except (OSError, UnicodeError) as e:  # the second: a host that is no name at all
        why = (e.strerror if isinstance(e, OSError) else None) or "it is no host"
        raise errors.UsageError(f"can't listen on {host} port {port}: {why}: name another --port or --host") from e
    return listener


def _url(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


# -- the command


def serve(settings: ServeSettings, *, on_ready: Callable[[str], None]) -> None:
    """Serve until a signal asks to stop; `on_ready` gets the URL. Blocking. Raises BigUploadError."""
    _refuse_taken_port(settings)
    if settings.workers == 1:
        asyncio.run(_serve_alone(settings, on_ready))
    else:
        _Workers(settings).run(on_ready)


def _refuse_taken_port(settings: ServeSettings) -> None:
    """With SO_REUSEPORT a second service would bind silently, and get half of the first one's requests."""
    _listen(settings.host, settings.port, shared=False).close()


async def _serve_alone(settings: ServeSettings, on_ready: Callable[[str], None]) -> None:
    stop = _on_signals()
    async with running(settings, sweeps=True) as url:
        if not stop.is_set():
            on_ready(url)
        await stop.wait()
        _end_in_time()


def _heeded() -> list[signal.Signals]:
    """Without those that the caller wants ignored: nohup, or a shell's background job."""
    return [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def _on_signals() -> asyncio.Event:
    """The first one asks to stop, the second leaves at once."""
    stop = asyncio.Event()

    def heard(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in _heeded():
        asyncio.get_running_loop().add_signal_handler(number, heard, number)
    return stop


def _end_in_time() -> None:
    """A call to a store that stalls is in a thread that nothing can end, and that Python would wait for."""
    timer = threading.Timer(GRACE + 2 * _LAST_WORDS, os._exit, [errors.EXIT_OK])
    timer.daemon = True
    timer.start()


class _Workers:
    """The parent of several. It listens to nothing and holds the port, so that it stays theirs."""

    def __init__(self, settings: ServeSettings) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._held = _listen(settings.host, settings.port)  # bound, never listened on: gets no connections
        self._settings = dataclasses.replace(settings, port=self._held.getsockname()[1])
        self._workers: dict[int, tuple[BaseProcess, Connection]] = {}
        self._log = AccessLog()
        self._heard = False

    def run(self, on_ready: Callable[[str], None]) -> None:
        read, write = os.pipe()
        os.set_blocking(write, False)
        previous = signal.set_wakeup_fd(write)
        handlers = {number: signal.signal(number, self._hear) for number in _heeded()}
        metrics = tempfile.TemporaryDirectory(prefix="bigupload-metrics-")
        os.environ[MULTIPROCESS_DIR] = metrics.name
        try:
            for number in range(self._settings.workers):
                self._start(number, read)
            if not self._heard:
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

    def _hear(self, number: int, _: object) -> None:
        """What asks to stop wakes `wait` by the pipe; asked once more, leave at once."""
        if self._heard:
            for process, _pipe in self._workers.values():
                process.kill()
                process.join()  # it would go on counting
            shutil.rmtree(os.environ.get(MULTIPROCESS_DIR, ""), ignore_errors=True)
            os._exit(128 + number)
        self._heard = True

    def _start(self, number: int, signals: int) -> None:
        """Returns when the worker is ready, or a signal came. Raises what kept it from starting."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(self._settings, theirs, number == 0))
        resource_tracker.ensure_running()  # it would unblock the signals
        # A Ctrl-C reaches the whole group: the child begins deaf, and nothing that comes to us meanwhile is lost.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self._workers[number] = process, ours
        if signals in wait([ours, signals]):
            return
        try:
            refused = ours.recv()
        except (EOFError, OSError):
            refused = "a worker ended before it was ready"
        if refused is not None:
            self._forget(number)
            raise errors.ServiceError(refused)

    def _watch(self, signals: int) -> None:
        """Until a signal comes. A worker that ends before that is replaced, as soon as that can be done."""
        due: dict[int, float] = {}
        pauses: dict[int, float] = {}
        while True:
            sentinels = {process.sentinel: number for number, (process, _) in self._workers.items()}
            timeout = max(0.0, min(due.values()) - time.monotonic()) if due else None
            ready = wait([signals, *sentinels], timeout)
            if self._heard or signals in ready:
                return
            for sentinel in ready:
                number = sentinels[sentinel]  # type: ignore[index]  # `wait` says "any object"
                self._forget(number)
                due[number] = time.monotonic() + _RESTART_AFTER
            for number in [number for number, when in due.items() if when <= time.monotonic()]:
                del due[number]
                try:
                    self._start(number, signals)
                except (errors.BigUploadError, OSError) as e:  # a broken key file, no more processes: it may pass
                    pauses[number] = min(_LONGEST_PAUSE, 2 * pauses.get(number, _RESTART_AFTER / 2))
                    due[number] = time.monotonic() + pauses[number]
                    self._log.write_event("worker", error=str(e), again_in=pauses[number])
                else:
                    pauses.pop(number, None)

    def _forget(self, number: int) -> None:
        """One that has ended, or is about to."""
        process, pipe = self._workers.pop(number)
        pipe.close()
        _see_end(process, _LAST_WORDS)

    def _stop(self) -> None:
        for _, pipe in self._workers.values():
            pipe.close()  # which they take for the word to stop
        deadline = time.monotonic() + GRACE + 4 * _LAST_WORDS
        for process, _ in self._workers.values():
            _see_end(process, deadline - time.monotonic())


def _see_end(process: BaseProcess, within: float) -> None:
    process.join(max(0.0, within))
    if process.is_alive():
        process.kill()
        process.join()


def _work(settings: ServeSettings, parent: Connection, sweeps: bool) -> None:
    """A worker's main. Signals are the parent's: a Ctrl-C reaches the whole group."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    with contextlib.suppress(BrokenPipeError):  # the parent stopped, or was killed, before this was ready
        asyncio.run(_work_until_told(settings, parent, sweeps=sweeps))


async def _work_until_told(settings: ServeSettings, parent: Connection, *, sweeps: bool) -> None:
    stop = asyncio.Event()
    try:
        async with running(settings, sweeps=sweeps):
            parent.send(None)
            asyncio.get_running_loop().add_reader(parent.fileno(), stop.set)
            await stop.wait()
            asyncio.get_running_loop().remove_reader(parent.fileno())
            _end_in_time()
    except errors.BigUploadError as e:
        parent.send(str(e))
        return
    above = multiprocessing.parent_process()
    if above is None or not above.is_alive():  # killed; else this is its to do, once all the others have ended
        shutil.rmtree(os.environ[MULTIPROCESS_DIR], ignore_errors=True)
