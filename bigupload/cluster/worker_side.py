"""Runs in a Dask worker: hashes ranges of files, and PUTs them to presigned URLs. It holds no credentials.

Hashing is a Dask task (`hash_parts`). PUTs come as messages of a coordinator, and end as events to it: they are neither
tasks nor logged, because their URLs are secrets. A coordinator of which nothing was heard for a while is gone: its PUTs
are cancelled. Nothing here retries.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bigupload import errors
from bigupload.cluster._compat import add_handler, call_at_close
from bigupload.cluster.messages import (
    LEAVE,
    LOOK,
    SPOKEN,
    WORK,
    FileId,
    PutTask,
    Sealed,
    pack_failure,
    sample,
    unpack_hash_task,
    unpack_put,
)
from bigupload.engine.part_hashing import hash_part
from bigupload.http.origins import CaBundle
from bigupload.http.put_transport import HttpTransport
from bigupload.ports import Gauge
from bigupload.sources.file import FileSource
from bigupload.support.rate_limiter import RateLimiter

_SILENCE = 60.0
"""Seconds without a message after which a coordinator is gone. It sends one every ten seconds."""
_SIGN_OF_LIFE = 1.0
"""Seconds after which a coordinator hears of its PUTs, although nothing moves."""
_IDLE_FILE = 10.0
"""Seconds for which a file stays open after its last use."""


class _Stopped(Exception):
    """Nobody waits for this hash any more."""


class SharedFiles:
    """The files that this process has open, for tasks and PUTs alike."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[FileId, FileSource] = {}
        self._users: dict[FileId, int] = {}
        self._used: dict[FileId, float] = {}

    @contextlib.contextmanager
    def using(self, file: FileId) -> Iterator[FileSource]:
        """A file, while it is used. Blocking.

        Raises:
            SourceError: It can't be read, or is another file than the coordinator's.
        """
        source = self.take(file)
        try:
            yield source
        finally:
            self.give_back(file)

    def take(self, file: FileId) -> FileSource:
        """Like `using`, without its end: `give_back` must follow."""
        with self._lock:
            source = self._open.get(file)
            if source is not None:
                self._users[file] += 1
        if source is None:
            source = self._share(file, _opened(file))  # without the lock: a network file system may hang
        try:
            source.check()
        except BaseException:
            self.give_back(file, forget=True)
            raise
        return source

    def _share(self, file: FileId, source: FileSource) -> FileSource:
        with self._lock:
            if file in self._open:  # another thread was faster
                source.close()
            else:
                self._open[file] = source
            self._users[file] = self._users.get(file, 0) + 1
            return self._open[file]

    def give_back(self, file: FileId, *, forget: bool = False) -> None:
        """End one use. `forget`: another use must open the file again."""
        with self._lock:
            self._users[file] -= 1
            self._used[file] = float("-inf") if forget else time.monotonic()
            if forget and not self._users[file]:
                self._close(file)

    def close_unused(self, idle: float) -> None:
        """Close the files that nobody has used for `idle` seconds."""
        before = time.monotonic() - idle
        with self._lock:
            for file in [each for each, users in self._users.items() if not users and self._used[each] <= before]:
                self._close(file)

    def _close(self, file: FileId) -> None:
        self._open.pop(file).close()
        del self._users[file], self._used[file]


def _opened(file: FileId) -> FileSource:
    source = FileSource(file.path)
    if different := file.difference(source.fingerprint):
        source.close()
        raise errors.SourceUnreadable(f"{file.path} is another file: {different}")
    return source


FILES = SharedFiles()
_STOPPED: set[tuple[str, int]] = set()
"""Hash tasks that nobody waits for any more: coordinator and number."""


def hash_parts(packed: str) -> None:
    """Hash parts of a file, as a Dask task. The checksums come as an event: fetching a task's result would
    double the cost of the task for the coordinator and the scheduler.

    Args:
        packed: What `messages.pack_hash_task` packed.
    """
    from distributed import get_worker

    worker = get_worker()
    task = unpack_hash_task(packed)

    def check() -> None:
        if (task.coordinator, task.number) in _STOPPED:
            raise _Stopped

    try:
        check()
        with FILES.using(task.file) as source:
            found = [hash_part(source, part, task.wanted, check=check) for part in task.parts]
            source.check()
        answer = ["hashed", [dataclasses.asdict(hashed) for hashed in found]]
    except Exception as e:
        answer = pack_failure(e)
    finally:
        _STOPPED.discard((task.coordinator, task.number))
    worker.log_event(task.coordinator, [worker.address, task.number, answer])


class _Sending:
    """Parts that are sent one after another: how far they are, and what the coordinator has heard of that."""

    def __init__(self) -> None:
        self._gauge: Gauge | None = None
        self._began = time.monotonic()
        self._count = 0
        self._responses: list[list[Any]] = []
        """The responses that were not sent to the coordinator yet."""
        self._reported = (0, False)

    async def send(self, task: PutTask, source: FileSource, transport: HttpTransport) -> None:
        """Send them. Raises what `HttpTransport.put` raises."""
        first = self._began = time.monotonic()
        for part, request in zip(task.parts, task.requests, strict=True):
            if self._began - first > task.seconds:
                return
            response = await transport.put(request, source, part, on_start=self._started, fresh=task.fresh)
            now = time.monotonic()
            self._count += 1
            self._responses.append([now - self._began, response.etag, dict(response.checksums)])
            self._gauge, self._began = None, now

    def _started(self, gauge: Gauge) -> None:
        self._gauge = gauge

    def _state(self) -> tuple[int, bool]:
        """The bytes sent of the present part, and whether it waits for the rate limit."""
        return (0, False) if self._gauge is None else (self._gauge.sent(), self._gauge.paused())

    def has_news(self) -> bool:
        """Whether anything has changed since `news`."""
        return bool(self._responses) or self._state() != self._reported

    def news(self) -> list[Any]:
        """Return the arguments of `RemotePut.hear`."""
        self._reported = self._state()
        responses, self._responses = self._responses, []
        return [*self._reported, time.monotonic() - self._began, self._count, responses]


class CoordinatorLink:
    """The PUTs of one coordinator in this process, and its connections."""

    def __init__(self, worker: Any, first: dict[str, Any]) -> None:
        """Send nothing yet. `first`: the coordinator's first message."""
        self._worker = worker
        self._topic = first["topic"]
        self._limiter = RateLimiter(1.0) if first["limited"] else None
        self._congestion = first["congestion"]
        self._interval = first["interval"]
        self._transports: dict[str | bool | None, HttpTransport] = {}
        self._puts: dict[int, asyncio.Task[None]] = {}
        self._sending: dict[int, _Sending] = {}
        self._heard = time.monotonic()
        self._reporting = asyncio.ensure_future(self._report())

    def work(self, puts: list[dict[str, Any]], cancels: list[int], share: float | None) -> None:
        """Begin and cancel PUTs. `share`: bytes a second of all of them; None: no limit."""
        self._heard = time.monotonic()
        if self._limiter is not None:
            self._limiter.change(share)
        for put in puts:
            if put["id"] in cancels:
                continue  # a task that is cancelled before it begins would never leave `_puts`
            self._puts[put["id"]] = asyncio.ensure_future(self._put(put))
        for number in cancels:
            if (task := self._puts.get(number)) is not None:
                task.cancel()

    async def _put(self, put: dict[str, Any]) -> None:
        number, task = put["id"], unpack_put(put)
        sending = self._sending[number] = _Sending()
        failure = None
        try:
            source = await _taken(task.file)
            try:
                await sending.send(task, source, self._transport(task.ca_bundle))
            finally:
                FILES.give_back(task.file)
        except Exception as e:
            failure = pack_failure(e)
        finally:
            del self._puts[number], self._sending[number]
        self._publish([number, sending.news(), failure])

    def _transport(self, ca_bundle: str | bool | None) -> HttpTransport:
        if ca_bundle not in self._transports:
            trusted: CaBundle = Path(ca_bundle) if isinstance(ca_bundle, str) else None
            self._transports[ca_bundle] = HttpTransport(
                ca_bundle=False if ca_bundle is False else trusted, limiter=self._limiter, congestion=self._congestion
            )
        return self._transports[ca_bundle]

    def _publish(self, message: list[Any]) -> None:
        self._worker.log_event(self._topic, [self._worker.address, *message])

    async def _report(self) -> None:
        """Report the bytes sent, and that this process lives, while it has PUTs."""
        spoke = 0.0
        while time.monotonic() - self._heard < _SILENCE:
            await asyncio.sleep(self._interval)
            news = [[number, *sending.news()] for number, sending in self._sending.items() if sending.has_news()]
            if self._puts and (news or time.monotonic() - spoke >= _SIGN_OF_LIFE):
                self._publish([0, news])
                spoke = time.monotonic()
            FILES.close_unused(_IDLE_FILE)
        await self.close()

    async def close(self) -> None:
        """Cancel the PUTs and close the connections."""
        _LINKS.pop((self._worker.address, self._topic), None)
        _STOPPED.difference_update([each for each in _STOPPED if each[0] == self._topic])
        tasks = list(self._puts.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transport in self._transports.values():
            await transport.__aexit__(None, None, None)
        self._transports.clear()
        FILES.close_unused(0.0 if not _LINKS else _IDLE_FILE)
        if asyncio.current_task() is not self._reporting:
            self._reporting.cancel()


async def _taken(file: FileId) -> FileSource:
    """Open a file in a thread. If the caller is cancelled, the thread gives back what it may still open."""
    taking = asyncio.ensure_future(asyncio.to_thread(FILES.take, file))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        taking.add_done_callback(lambda done: None if done.cancelled() or done.exception() else FILES.give_back(file))
        raise


_LINKS: dict[tuple[str, str], CoordinatorLink] = {}
"""By the worker's address, because a process may have several workers, and the coordinator's name."""


async def _close_links_of(address: str) -> None:
    for (worker, _), link in list(_LINKS.items()):
        if worker == address:
            await link.close()


async def install(dask_worker: Any) -> str:
    """Make this worker one that takes parts. Called by each coordinator, through Dask.

    Returns:
        The version of bigupload here.
    """

    async def work(payload: Sealed) -> str:
        given = json.loads(payload.content)
        link = dask_worker.address, given["topic"]
        if link not in _LINKS:
            _LINKS[link] = CoordinatorLink(dask_worker, given)
        _STOPPED.update((given["topic"], number) for number in given["stops"])
        _LINKS[link].work(given["puts"], given["cancels"], given["share"])
        return "OK"

    async def look(file: Any, expected: str, ca: Any) -> str:
        return await asyncio.to_thread(_verify_file, FileId.unpack(file), expected, ca)

    async def leave(topic: str) -> str:
        link = _LINKS.get((dask_worker.address, topic))
        if link is not None:
            await link.close()
        return "OK"

    for op, handler in ((WORK, work), (LOOK, look), (LEAVE, leave)):
        add_handler(dask_worker, op, handler)
    await call_at_close(dask_worker, partial(_close_links_of, dask_worker.address))
    return SPOKEN


def _verify_file(file: FileId, expected: str, ca_bundle: str | bool | None) -> str:
    """Describe the error of a file here; "" if it is the coordinator's."""
    if isinstance(ca_bundle, str) and not Path(ca_bundle).is_file():
        return f"no such file: {ca_bundle}"
    try:
        with FILES.using(file) as source:
            return "" if sample(source) == expected else f"{file.path} is another file: it has other bytes there"
    except errors.SourceError as e:
        return str(e)
