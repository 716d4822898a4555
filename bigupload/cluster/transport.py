"""The engine's doors to a cluster: `put` is a `ports.Transport`, `hash` an `ports.HashElsewhere`, and
`hash_group` and `put_group` are an `ports.GroupTransport`.

What workers can't read (streams, file objects, bytes) and what is not worth it (files of one part) stays here. A hash
task takes several parts where they are asked for in order, because a task costs the coordinator more than what it
brings back.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from bigupload import errors
from bigupload.cluster.membership import (
    Member,
    Membership,
    RemoteGauge,
    SharedFile,
    record_hashed,
    record_sent,
)
from bigupload.cluster.messages import FileDiffers, HashTask, PutTask, pack_hash_task, unpack_failure
from bigupload.core.checksums import Digests, Hashed
from bigupload.core.manifest import SourceKind
from bigupload.core.part_plan import MIB, S3_LIMITS, Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.engine.part_hashing import hash_part
from bigupload.http.origins import CaBundle
from bigupload.ports import (
    Gauge,
    GroupTransport,
    HashElsewhere,
    OnNews,
    PutResponse,
    SignedRequest,
    Source,
    Transport,
)
from bigupload.records import dataclass
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.units import printable

_MOST_PARTS = 8
"""Parts of one task."""
_MOST_BYTES = 128 * MIB
"""Bytes of one task with several parts that nobody has asked for yet: little to hash in vain."""
_ATTEMPTS = 4
_SUSPICIOUS_AFTER = 5.0
"""Seconds after which the worker of a task is asked whether it is there. A task takes less, but on slow disks; each
time that a worker hangs costs this and the time to answer."""
_ENDED_SILENTLY = frozenset({"finished", "error", "cancelled", "lost"})
"""The status of a task that ended, if its event did not come."""


class _TaskLost(Exception):
    """A task ended without a result."""


@dataclass(slots=True)
class _Block:
    """The parts of one task, and how many callers wait for them."""

    task: asyncio.Task[dict[int, Hashed]]
    waiting: int = 0

    async def results(self) -> dict[int, Hashed]:
        self.waiting += 1
        try:
            return await asyncio.shield(self.task)
        except asyncio.CancelledError:
            if self.waiting == 1:
                self.task.cancel()
            raise
        finally:
            self.waiting -= 1


class RemoteHasher:
    """Hashes the parts of one file on workers."""

    def __init__(self, cluster: Membership, file: SharedFile) -> None:
        self._cluster = cluster
        self._file = file
        self._blocks: dict[tuple[int, Digests], _Block] = {}
        """The blocks of parts that were not asked for yet."""
        self._next = 1
        self._parts = 1
        """Parts of the latest task. They double while parts are asked for in order."""
        self._finished: deque[Any] = deque()
        """Tasks whose results came, to be released."""

    async def hash(self, part: Part, wanted: Digests) -> Hashed:
        """Hash a part. See `ports.HashElsewhere`."""
        key = (part.number, wanted)
        block = self._blocks.pop(key, None)  # used once: a second call asks whether the file has changed
        if block is None or block.task.cancelled():
            block = self._begin(part, wanted)
        return (await block.results())[part.number]

    async def hash_group(self, parts: Sequence[Part], wanted: Digests) -> list[Hashed]:
        """Hash parts, in one task. See `ports.GroupTransport`."""
        missing: list[Part] = []
        begun: list[_Block] = []
        for part in parts:
            block = self._blocks.pop((part.number, wanted), None)
            if block is None or block.task.cancelled():
                missing.append(part)
            elif block not in begun:
                begun.append(block)
        found: dict[int, Hashed] = {}
        if missing:
            found |= await self._block(missing, wanted).results()
        for block in begun:
            found |= await block.results()
        return [found[part.number] for part in parts]

    def _begin(self, part: Part, wanted: Digests) -> _Block:
        self._parts = min(_MOST_PARTS, 2 * self._parts) if part.number == self._next else 1
        parts = following(part, self._parts, self._file.id.size)
        self._next = parts[-1].number + 1
        block = self._block(parts, wanted)
        for each in parts[1:]:
            self._blocks[each.number, wanted] = block
        return block

    def _block(self, parts: list[Part], wanted: Digests) -> _Block:
        block = _Block(asyncio.create_task(self._run(parts, wanted)))
        self._file.hashing.add(block.task)
        block.task.add_done_callback(self._ended)
        return block

    def _ended(self, task: asyncio.Task[dict[int, Hashed]]) -> None:
        self._file.hashing.discard(task)
        if not task.cancelled():
            task.exception()  # perhaps nobody waits for it

    async def _run(self, parts: list[Part], wanted: Digests) -> dict[int, Hashed]:
        failed: dict[str, str] = {}
        while len(failed) < _ATTEMPTS:
            member = await self._cluster.member_for(self._file, not_=failed)
            try:
                address, answer = await self._task(member, parts, wanted)
            except _TaskLost as e:
                failed[member.address] = str(e)
                self._cluster.avoid(member)
                await self._cluster.until_connected()
                continue
            if answer[0] == "hashed":
                record_hashed(self._cluster.members, self._file, [part.number for part in parts], address)
                return {part.number: Hashed(**found) for part, found in zip(parts, answer[1], strict=True)}
            error = unpack_failure(answer, address)
            if isinstance(error, FileDiffers):
                self._file.verdicts[address] = str(error)
            elif not isinstance(error, Fault):
                raise error
            failed[address] = str(error)
        raise errors.ClusterError(
            f"{len(failed)} workers of the Dask cluster could not hash {self._file.id.path}: "
            f"{next(iter(failed.values()))}"
        )

    async def _task(self, member: Member, parts: list[Part], wanted: Digests) -> Any:
        cluster, number = self._cluster, self._cluster.messages.next_number()
        member.hashing += len(parts)
        member.given += len(parts)
        result = cluster.messages.hash_result(number)
        task = None
        try:
            task = self._submit(member, HashTask(cluster.topic, number, self._file.id, parts, wanted))
            self._release_finished()
            while not (await asyncio.wait({result}, timeout=_SUSPICIOUS_AFTER))[0]:
                if task.status in _ENDED_SILENTLY:  # KilledWorker, a scheduler that is gone, somebody cancelled it
                    raise _TaskLost(f"a Dask task was lost ({task.status})")
                if not await cluster.messages.responds(member):
                    raise _TaskLost(f"the worker {member.address} does not respond")
            self._finished.append(task)
            return result.result()
        except BaseException as e:
            result.cancel()
            if task is not None:
                task.release()
            if isinstance(e, asyncio.CancelledError):
                cluster.messages.cancel(member, hash_task=number)
            raise
        finally:
            member.hashing -= len(parts)

    def _submit(self, member: Member, task: HashTask) -> Any:
        from bigupload.cluster.worker_side import hash_parts

        try:
            return self._cluster.client.submit(
                hash_parts, pack_hash_task(task),
                key=(f"hash {printable(Path(task.file.path).name)}", _named(task.parts), task.number),
                pure=False, workers=[member.address], allow_other_workers=True, retries=0,
            )  # fmt: skip
        except errors.BigUploadError:
            raise
        except Exception as e:
            raise _TaskLost(f"a Dask task could not be begun ({type(e).__name__})") from None

    def _release_finished(self) -> None:
        """Release tasks when the scheduler, too, knows that they ended: before that, they would count as cancelled.

        This goes to the scheduler in one message with the next task.
        """
        while self._finished and self._finished[0].status != "pending":
            self._finished.popleft().release()


def following(part: Part, count: int, size: int) -> list[Part]:
    """A part and those after it that are of the same size: at most `count`, and not more than one task should have.

    Args:
        part: The first one.
        count: The most parts.
        size: The file's size in bytes.
    """
    step = part.size if part.number == 1 else part.offset // (part.number - 1)
    regular = part.offset == (part.number - 1) * step and part.size == min(step, size - part.offset) and step > 0
    count = max(1, min(count, _MOST_BYTES // max(1, step))) if regular else 1  # a stream's parts grow
    parts = [part]
    while len(parts) < count and (offset := part.offset + len(parts) * step) < size:
        parts.append(Part(part.number + len(parts), offset, min(step, size - offset)))
    return parts


def _named(parts: list[Part]) -> str:
    first, last = parts[0].number, parts[-1].number
    return f"part {first}" if first == last else f"parts {first}-{last}"


SMALL = S3_LIMITS.min_part_size
"""A file of one part, in bytes: to hash and send it elsewhere costs this machine as much as to do it."""


def can_be_shared(source: Source) -> bool:
    """Whether workers can read a source: a file that nobody writes to any more."""
    return source.kind is SourceKind.FILE and source.stream is None


def is_spread(source: Source) -> bool:
    """Whether workers hash and send a source's parts: they can read it, and it has more than one part."""
    return can_be_shared(source) and source.fingerprint.size > SMALL


class ClusterTransport:
    """Sends the parts of files from the workers of a cluster, and everything else from here."""

    def __init__(self, cluster: Membership, here: Transport, ca_bundle: CaBundle) -> None:
        """`here`: sends what stays on this machine. `ca_bundle`: which certificates both trust."""
        self._cluster = cluster
        self._here = here
        self._hashers: weakref.WeakKeyDictionary[Source, RemoteHasher] = weakref.WeakKeyDictionary()
        self._ca = os.path.abspath(ca_bundle) if isinstance(ca_bundle, Path) else ca_bundle  # noqa: PTH100 - as sources

    async def join(self, source: Source, warn: Callable[[str], None]) -> list[str]:
        """Connect, and ask the workers for a file.

        Args:
            source: The file.
            warn: Called with each message for the caller, now or while the file is sent.

        Returns:
            The messages for the caller, once.

        Raises:
            FileNotShared: A worker sees another file, or none.
            ClusterError: The cluster can't be used.
        """
        if is_spread(source):
            await self._cluster.share(source, self._ca, warn)
            return self._cluster.news()
        if not can_be_shared(source) and not self._cluster.has_warned_of_streams:
            self._cluster.has_warned_of_streams = True
            return [f"{source.path} is sent from this machine: Dask workers read nothing but files that are complete"]
        return []

    def hasher(self, source: Source) -> HashElsewhere | None:
        """Return the hasher of a source's parts, if workers hash them."""
        return self.hash if is_spread(source) else None

    async def hash(self, source: Source, part: Part, wanted: Digests) -> Hashed:
        """Hash a part on a worker. See `ports.HashElsewhere`."""
        if not is_spread(source):
            return await run_in_daemon_thread(partial(hash_part, source, part, wanted, check=lambda: None))
        return await (await self._hasher(source)).hash(part, wanted)

    async def _hasher(self, source: Source) -> RemoteHasher:
        file = await self._cluster.share(source, self._ca)
        if source not in self._hashers:
            self._hashers[source] = RemoteHasher(self._cluster, file)
        return self._hashers[source]

    def connect_ahead(self, address: str, count: int) -> None:
        """Leave it to the workers."""

    async def put(
        self,
        request: SignedRequest,
        source: Source,
        part: Part,
        *,
        on_start: Callable[[Gauge], None],
        fresh: bool = False,
    ) -> PutResponse:
        """Send one part. See `ports.Transport.put`. `fresh`: also by another worker than the last time."""
        if not is_spread(source):
            return await self._here.put(request, source, part, on_start=on_start, fresh=fresh)
        found: list[PutResponse] = []

        def on_news(responses: Sequence[tuple[PutResponse, float]], _: float) -> None:
            found.extend(response for response, _ in responses)

        gauge = await self._put([request], source, [part], inf, on_start, on_news, fresh=fresh)
        if not found:
            raise Fault(FaultKind.BROKEN, "the response was lost between the worker and here")
        gauge.bytes_sent = part.size
        return found[0]

    def groups(self, source: Source) -> GroupTransport | None:
        """Return the transport of groups of parts, if workers send this source; else None."""
        return self if is_spread(source) else None

    async def hash_group(self, source: Source, parts: Sequence[Part], wanted: Digests) -> list[Hashed]:
        """Hash parts on one worker. See `ports.GroupTransport`."""
        return await (await self._hasher(source)).hash_group(parts, wanted)

    async def put_group(
        self,
        requests: Sequence[SignedRequest],
        source: Source,
        parts: Sequence[Part],
        *,
        seconds: float,
        on_start: Callable[[Gauge], None],
        on_news: OnNews,
    ) -> None:
        """Send parts from one worker. See `ports.GroupTransport`."""
        await self._put(requests, source, parts, seconds, on_start, on_news, fresh=False)

    async def _put(
        self,
        requests: Sequence[SignedRequest],
        source: Source,
        parts: Sequence[Part],
        seconds: float,
        on_start: Callable[[Gauge], None],
        on_news: OnNews,
        *,
        fresh: bool,
    ) -> RemoteGauge:
        gauge = RemoteGauge()
        on_start(gauge)
        cluster, file = self._cluster, await self._cluster.share(source, self._ca)
        numbers = [part.number for part in parts]
        avoided = {worker for number in numbers for worker in file.failed_on.get(number, ())}
        if fresh:
            avoided.update(file.sent_by[number] for number in numbers if number in file.sent_by)
        near = record_sent(cluster.members, file, numbers)
        member = await cluster.member_for(file, near=near, not_=avoided)
        file.sent_by.update(dict.fromkeys(numbers, member.address))
        gauge.worker, gauge.waits = member.address, False
        task = PutTask(file.id, parts, requests, fresh, seconds, self._ca)
        try:
            await cluster.messages.put(member, task, gauge, on_news)
        except FileDiffers as e:
            await run_in_daemon_thread(source.check)  # has it changed here, too?
            file.verdicts[member.address] = str(e)
            raise Fault(FaultKind.BROKEN, f"{e} (on the worker {member.address})") from None
        except Fault as fault:
            if fault.kind in (FaultKind.UNREACHABLE, FaultKind.BROKEN):
                for number in numbers:  # of a group, too: another one takes the rest of it
                    file.failed_on.setdefault(number, set()).add(member.address)
            if fault.kind is FaultKind.UNREACHABLE:
                cluster.avoid(member)
            raise
        return gauge
