"""`bigupload serve`: one process that answers requests, or a supervisor and several that share one port; and one that
sweeps, which checks thousands of objects: requests must not wait for that.

A process finishes its requests in flight before it stops. The supervisor starts processes, replaces those that end, and
stops them without broken requests. docs/service-operations.md says why it is not gunicorn.

A child ignores stop signals: a Ctrl-C reaches the whole process group, and the parent decides. A pipe notifies the
child when its parent stops it or has ended, so that even a killed parent leaves no children behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from aiohttp import web

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.manifests.state_directory import state_dir
from bigupload.records import dataclass
from bigupload.service.call import AccessLog
from bigupload.service.http.app import (
    ACCEPTED_AT_ONCE,
    SERVICE,
    ClientConnection,
    Connections,
    create_app,
    most_connections,
)
from bigupload.service.http.handling import RequestsInFlight
from bigupload.service.http.monitoring import MULTIPROCESS_DIR, Metrics, count_ended_worker
from bigupload.service.http.opening import ServiceConfig
from bigupload.service.media.policy import POLICY_KEY, PUBLISHED_POLICY, Policy, read_policy
from bigupload.service.uploads.sweep import Sweep, SweepLock, SweepMemory, rules_of
from bigupload.service.webhooks.hooks import Hooks, opened_hooks
from bigupload.service.webhooks.telling import Telling
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.support.daemon_threads import starting_threads
from bigupload.support.systems import STOP_SIGNALS, on_signal, watches_descriptors, way_of_ending

DRAIN_WITHIN = 20.0
"""The time that a stop waits for requests in flight, in seconds. Kubernetes, for example, kills after 30."""
LAST_RESPONSES_WITHIN = 1.0
"""The time that a stop waits for the last responses to be sent, in seconds."""
_BACKLOG = 1024
"""The number of connections that the kernel queues until they are accepted."""
_RESTART_AFTER = 1.0
"""The first pause, in seconds, before a worker that ended is started again: failing starts must not busy a core."""
_LONGEST_PAUSE = 30.0
"""The longest pause between two starts of a worker, in seconds. Each pause is twice the one before."""
_NICENESS = 10
"""The niceness of the process, so that requests come first on a busy processor."""
_SWEEPER_RESTART_AFTER = 30.0
"""The same of the process that sweeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings(ServiceConfig):
    """The settings of `bigupload serve`."""

    host: str
    port: int
    """0: any free port."""
    workers: int
    """The number of processes that answer requests."""
    stop_delay: float = 0.0
    """Seconds for which the service goes on after a stop signal, while `/readyz` fails."""
    sweep_every: float
    """Seconds between two sweeps; 0: never sweep."""


def serve(settings: ServeSettings, *, on_ready: Callable[[str], None]) -> None:
    """Serve until a stop signal; `on_ready` gets the URL. Blocking. Raises BigUploadError."""
    # Bind without SO_REUSEPORT. With it, a second service would bind, too, and get half of the first one's requests.
    listen(settings.host, settings.port, shared=False).close()
    if settings.workers == 1:
        asyncio.run(_serve_alone(settings, on_ready))
    else:
        Supervisor(settings).run(on_ready)


async def _serve_alone(settings: ServeSettings, on_ready: Callable[[str], None]) -> None:
    stop = _on_signals()
    async with running(settings, sweeps=True) as url:
        if not stop.is_set():
            on_ready(url)
        await stop.wait()
        exit_in_time(settings)


def _on_signals() -> asyncio.Event:
    """Handle stop signals: the first asks to stop, the second ends the process at once."""
    stop = asyncio.Event()

    def heard(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in heeded_signals():
        on_signal(asyncio.get_running_loop(), number, heard)
    return stop


class Supervisor:
    """The parent of the workers. It binds the port without listening, so that no other process can take it.

    Workers are for a service that one core is too little for: a request takes 1.5 ms of its CPU time
    (docs/performance.md). Two workers and the supervisor took 232 MB at 500 requests a second (docs/production.md).
    """

    def __init__(self, settings: ServeSettings) -> None:
        if not hasattr(socket, "SO_REUSEPORT"):  # Windows
            raise errors.UsageError(
                "on this system one process alone can accept connections at a port: use --workers 1, or start several "
                "services at ports of their own"
            )
        self._bound = listen(settings.host, settings.port)
        self._settings = dataclasses.replace(settings, port=self._bound.getsockname()[1])
        self._workers: dict[int, ChildProcess] = {}
        self._log = AccessLog()
        self._is_stopping = False

    def run(self, on_ready: Callable[[str], None]) -> None:
        """Serve until a stop signal; `on_ready` gets the URL. Raises the error if the workers cannot start."""
        read, write = os.pipe()
        os.set_blocking(write, False)
        previous = signal.set_wakeup_fd(write)
        handlers = {number: signal.signal(number, self._on_signal) for number in heeded_signals()}
        metrics = tempfile.TemporaryDirectory(prefix="bigupload-metrics-")
        os.environ[MULTIPROCESS_DIR] = metrics.name
        try:
            for number in range(self._settings.workers):
                self._start(number, read)
            if not self._is_stopping:
                on_ready(url_of(self._settings.host, self._settings.port))
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
            self._bound.close()

    def _on_signal(self, number: int, _: object) -> None:
        """Handle stop signals: the first wakes `wait` through the pipe, the second ends everything at once."""
        if self._is_stopping:
            for worker in self._workers.values():
                worker.kill()
            shutil.rmtree(os.environ.get(MULTIPROCESS_DIR, ""), ignore_errors=True)
            os._exit(128 + number)
        self._is_stopping = True

    def _start(self, number: int, signals: int) -> None:
        """Return when the worker is ready or a signal came. Raises the error if it cannot start."""
        worker = ChildProcess(_work, self._settings, number == 0)
        self._workers[number] = worker
        if signals in wait([worker.pipe, signals]):
            return
        try:
            refusal = worker.pipe.recv()
        except (EOFError, OSError):
            refusal = "a worker ended before it was ready"
        if refusal is not None:
            self._workers.pop(number).stop(LAST_RESPONSES_WITHIN)
            raise errors.ServiceError(refusal)

    def _watch(self, signals: int) -> None:
        """Replace workers that end, until a signal comes."""
        due: dict[int, float] = {}
        pauses: dict[int, float] = {}
        while True:
            sentinels = {worker.process.sentinel: number for number, worker in self._workers.items()}
            timeout = max(0.0, min(due.values()) - time.monotonic()) if due else None
            ready = wait([signals, *sentinels], timeout)
            if self._is_stopping or signals in ready:
                return
            for sentinel in ready:
                number = sentinels[sentinel]  # type: ignore[index]  # `wait` says "any object"
                worker = self._workers.pop(number)
                worker.stop(LAST_RESPONSES_WITHIN)
                how = way_of_ending(worker.process.exitcode)
                count_ended_worker(how, worker.process.pid)
                self._log.write_event("worker", error=f"a worker died: {how}", again_in=_RESTART_AFTER)
                due[number] = time.monotonic() + _RESTART_AFTER
            for number in [number for number, when in due.items() if when <= time.monotonic()]:
                del due[number]
                try:
                    self._start(number, signals)
                except (errors.BigUploadError, OSError) as e:  # may be temporary, like a broken key file
                    pauses[number] = min(_LONGEST_PAUSE, 2 * pauses.get(number, _RESTART_AFTER / 2))
                    due[number] = time.monotonic() + pauses[number]
                    self._log.write_event("worker", error=str(e), again_in=pauses[number])
                else:
                    pauses.pop(number, None)

    def _stop(self) -> None:
        for worker in self._workers.values():
            worker.pipe.close()  # asks it to stop
        deadline = time.monotonic() + self._settings.stop_delay + DRAIN_WITHIN + 4 * LAST_RESPONSES_WITHIN
        for worker in self._workers.values():
            worker.stop(deadline - time.monotonic())


def _work(settings: ServeSettings, sweeps: bool, parent: Connection) -> None:
    """Run a worker."""
    begin_child()
    with contextlib.suppress(BrokenPipeError):  # the parent ended before this worker was ready
        asyncio.run(_work_until_stopped(settings, parent, sweeps=sweeps))


async def _work_until_stopped(settings: ServeSettings, parent: Connection, *, sweeps: bool) -> None:
    stop = asyncio.Event()
    try:
        async with running(settings, sweeps=sweeps):
            parent.send(None)
            when_parent_ends(parent, stop.set)
            await stop.wait()
            exit_in_time(settings)
    except errors.BigUploadError as e:
        parent.send(str(e))
        return
    above = multiprocessing.parent_process()
    if above is None or not above.is_alive():  # the parent was killed; otherwise it removes them after the workers' end
        shutil.rmtree(os.environ[MULTIPROCESS_DIR], ignore_errors=True)


@contextlib.asynccontextmanager
async def running(settings: ServeSettings, *, sweeps: bool) -> AsyncIterator[str]:
    """Run the service and yield its URL. At the end, finish the requests in flight."""
    app = create_app(settings)
    log = app[SERVICE].log
    async with contextlib.AsyncExitStack() as stack:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=LAST_RESPONSES_WITHIN, handle_signals=False)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        listener = listen(settings.host, settings.port)
        server = await _accept(listener, runner, log)
        in_flight, delay = app[SERVICE].in_flight, settings.stop_delay
        stack.push_async_callback(drain, server, in_flight, delay=delay, within=DRAIN_WITHIN)
        if sweeps and settings.sweep_every > 0:
            await stack.enter_async_context(sweeping(settings, log))
        yield url_of(settings.host, listener.getsockname()[1])


async def drain(
    server: asyncio.Server,
    in_flight: RequestsInFlight,
    *,
    delay: float,
    within: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Serve on for `delay` seconds, accept no more connections, and finish the requests in flight.

    During the delay, a load balancer sees that `/readyz` fails and sends new requests elsewhere. Each response says
    `Connection: close` meanwhile: a connection that was closed while it is idle could just be sending the next request.
    aiohttp's own shutdown would wait without reading the rest of a body that is still arriving.

    Args:
        server: What accepts the connections.
        in_flight: The requests.
        delay: Seconds to go on accepting connections.
        within: The most seconds to wait for the requests in flight after that.
        sleep: Waits for the delay.
    """
    in_flight.stopping = True
    if delay > 0:
        await sleep(delay)
    server.close()
    await in_flight.finished(within=within)


async def _accept(listener: socket.socket, runner: web.AppRunner, log: AccessLog) -> asyncio.Server:
    """Accept connections to `listener`, as many as there are descriptors for."""
    loop = asyncio.get_running_loop()
    connections = Connections(most_connections(), log)
    log.take_over("asyncio")
    loop.set_exception_handler(connections.handle_loop_error)
    assert runner.server is not None
    factory = functools.partial(ClientConnection, runner.server, connections)
    server = await loop.create_server(factory, sock=listener, backlog=ACCEPTED_AT_ONCE)
    listener.listen(_BACKLOG)  # asyncio accepts in batches of its `backlog`; the kernel's queue may be longer
    return server


def listen(host: str, port: int, *, shared: bool = True) -> socket.socket:
    """Bind a socket to listen on; `shared`: other processes may bind the same port. Raises UsageError on failure."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            # On Windows, SO_REUSEADDR lets a second service bind the port of the first one.
            alone = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if alone is None else alone, 1)
            if shared and hasattr(socket, "SO_REUSEPORT"):
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as e:  # UnicodeError: the host is not a valid name
        why = (e.strerror if isinstance(e, OSError) else None) or "it is not a host"
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


# -- child processes


def heeded_signals() -> list[signal.Signals]:
    """Return the stop signals that this process does not ignore already (because of nohup or a background job)."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block the stop signals meanwhile, also for a process that is started, where the system can do that."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started with the process, it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ChildProcess:
    """A process that runs `target(*arguments, pipe)`, which must begin with `begin_child`."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        """Start it. Raises OSError."""
        context = multiprocessing.get_context("spawn")  # a fork would copy an event loop and its threads' locks
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=target, args=(*arguments, theirs))
        try:
            with _signals_blocked():  # none must reach it before it ignores them
                self.process.start()
        except BaseException:
            self.pipe.close()
            raise
        finally:
            theirs.close()

    async def ended(self) -> None:
        """Wait for its end."""
        ended = asyncio.Event()
        stop_watching = _call_when_readable(self.process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            stop_watching()
        self.process.join()

    def stop(self, within: float) -> None:
        """Ask it to stop, wait for up to `within` seconds, then kill it. Idempotent."""
        self.pipe.close()
        self.process.join(max(0.0, within))
        self.kill()

    def kill(self) -> None:
        """Kill it and wait for its end, because it would continue to write files."""
        self.pipe.close()
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


def begin_child() -> None:
    """In a child: ignore stop signals from now on."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def when_parent_ends(pipe: Connection, action: Callable[..., object], *arguments: Any) -> None:
    """In a child: call `action` when the parent stops it or has ended."""
    _call_when_readable(pipe, functools.partial(action, *arguments))


def _call_when_readable(pipe: Connection | int, action: Callable[[], object]) -> Callable[[], object]:
    """Call `action` once, in the event loop, when a pipe can be read or the process of a sentinel has ended.

    Where the event loop watches no descriptors, a thread waits.

    Returns:
        A function that stops watching. It may be called again.
    """
    loop = asyncio.get_running_loop()
    if watches_descriptors(loop):
        fd = pipe if isinstance(pipe, int) else pipe.fileno()
        loop.add_reader(fd, lambda: (loop.remove_reader(fd), action()))
        return functools.partial(loop.remove_reader, fd)
    stopped = threading.Event()

    def act() -> None:
        if not stopped.is_set():
            action()

    def watch() -> None:
        with contextlib.suppress(OSError, RuntimeError):  # the pipe, or the event loop, was closed meanwhile
            wait([pipe])
            loop.call_soon_threadsafe(act)

    with starting_threads():
        threading.Thread(target=watch, daemon=True).start()
    return stopped.set


# -- the process that sweeps


@contextlib.asynccontextmanager
async def sweeping(settings: ServeSettings, log: AccessLog) -> AsyncIterator[None]:
    """Run a sweeping process inside the `with` statement. It is started again if it ends."""
    task = asyncio.create_task(_keep_running(settings, log))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _keep_running(settings: ServeSettings, log: AccessLog) -> None:
    while True:
        try:
            child = ChildProcess(_sweep_in_child, settings)
        except Exception as e:  # an OSError, if there are no more processes, may be temporary
            reason = getattr(e, "strerror", None) or type(e).__name__
        else:
            try:
                await child.ended()
            finally:
                child.kill()  # safe: every deletion is conditional, and the next sweep resumes
            reason = f"the sweeper ended with status {child.process.exitcode}"
        log.write_event("sweeper", error=reason, again_in=_SWEEPER_RESTART_AFTER)
        await asyncio.sleep(_SWEEPER_RESTART_AFTER)


def _sweep_in_child(settings: ServeSettings, parent: Connection) -> None:
    begin_child()
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    asyncio.run(_sweep_again_and_again(settings, parent))


async def _sweep_again_and_again(settings: ServeSettings, parent: Connection) -> None:
    """Sweep regularly, because the store may not apply its lifecycle rules."""
    when_parent_ends(parent, os._exit, errors.EXIT_OK)  # at once, even if a call to the store hangs
    log = AccessLog()
    log.take_over("asyncio")
    file = _memory_file(settings)
    lock = SweepLock(file)  # kept: it is released when nothing refers to it
    await _until_alone(lock, settings.sweep_every, log)
    # The hook's URLs are signed for the endpoint for which the service signs them.
    bucket = S3Bucket(settings.bucket, settings.s3, signing_endpoint=settings.signing_endpoint, urls_hold=True)
    async with (
        opened_hooks(settings, log, functools.partial(Metrics(log.seconds).record, "hooks")) as hooks,
        contextlib.aclosing(bucket),
    ):
        await _sweep_on(bucket, settings, log, file, hooks)


async def _sweep_on(bucket: S3Bucket, settings: ServeSettings, log: AccessLog, file: Path | None, hooks: Hooks) -> None:
    hook = None if settings.before_finish is None else str(settings.before_finish)
    policy, memory = None, SweepMemory()
    while True:
        try:
            now = await _policy_after(policy, bucket)  # each time: the operator may have changed it since
            if now != policy:
                policy = now
                memory.close()
                memory = SweepMemory(file, rules=rules_of(policy, hook=hook))
            telling = None
            if settings.webhook_urls:
                telling = Telling(bucket, policy.keys, settings.public_url, uploads=settings.webhook_uploads)
            clock = functools.partial(datetime.now, UTC)
            sweep = Sweep(bucket, now=clock, policy=policy, memory=memory, hooks=hooks, telling=telling)
            report = await sweep.run()
        except (Fault, errors.BigUploadError) as e:
            log.write_event("sweep", error=str(e))
        except Exception as e:  # a bug in one sweep must not prevent the next
            log.write_event("sweep", error=type(e).__name__)
        else:
            log.write_event("sweep", **dataclasses.asdict(report))
        await asyncio.sleep(settings.sweep_every)


async def _policy_after(before: Policy | None, bucket: S3Bucket) -> Policy:
    """Return the bucket's policy, if the sweep may act on it. Raises Fault or BigUploadError."""
    now = await read_policy(bucket)
    if now == PUBLISHED_POLICY and before not in (None, PUBLISHED_POLICY):
        raise errors.UsageError(
            f"s3://{bucket.name}/{POLICY_KEY} is gone, and by the published policy files would be deleted that were "
            "accepted: write it again by bigupload bucket setup, or restart the service if it is to be so"
        )
    return now


async def _until_alone(lock: SweepLock, look_every: float, log: AccessLog) -> None:
    """Wait until no other process of this machine sweeps the bucket. Then this one does, for as long as it lives."""
    is_logged = False
    while not lock.take():
        if not is_logged:
            is_logged = True
            log.write_event("sweep", waits_for="another process of this machine, which sweeps this bucket")
        await asyncio.sleep(look_every)


def _memory_file(settings: ServeSettings) -> Path | None:
    """Return the path of the bucket's cache; None if the user has no directory for it."""
    place = f"{settings.s3.endpoint_url}\n{settings.s3.region}\n{settings.bucket}"
    try:
        return state_dir() / "sweeps" / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.sqlite3"
    except errors.UsageError:
        return None
