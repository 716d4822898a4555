"""The engine's doors to a cluster: `put` is a `ports.Transport`, `hash` an `ports.HashElsewhere`, and
`hash_group` and `put_group` are an `ports.GroupTransport`.

What workers can't read (streams, file objects, bytes) and what is not worth it (files of one part) stays here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from pathlib import Path

from bigupload.cluster.hashing import RemoteHasher
from bigupload.cluster.members import FileHasher, RemoteGauge, note_sent
from bigupload.cluster.membership import Membership
from bigupload.cluster.messages import FileDiffers, PutTask
from bigupload.core.checksums import Digests, Hashed
from bigupload.core.manifest import SourceKind
from bigupload.core.part_plan import S3_LIMITS, Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.engine.part_hashing import hash_part
from bigupload.http.trust import CaBundle
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
from bigupload.support.daemon_threads import run_in_thread

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
        self._ca = os.path.abspath(ca_bundle) if isinstance(ca_bundle, Path) else ca_bundle  # noqa: PTH100 - as sources

    async def join(self, source: Source, say: Callable[[str], None]) -> list[str]:
        """Connect, and ask the workers for a file.

        Args:
            source: The file.
            say: Called with each message for the caller, now or while the file is sent.

        Returns:
            The messages for the caller, once.

        Raises:
            FileNotShared: A worker sees another file, or none.
            ClusterError: The cluster can't be used.
        """
        if is_spread(source):
            await self._cluster.share(source, self._ca, say)
            return self._cluster.news()
        if not can_be_shared(source) and not self._cluster.told_of_streams:
            self._cluster.told_of_streams = True
            return [f"{source.path} is sent from this machine: Dask workers read nothing but files that are complete"]
        return []

    def hasher(self, source: Source) -> HashElsewhere | None:
        """Return the hasher of a source's parts, if workers hash them."""
        return self.hash if is_spread(source) else None

    async def hash(self, source: Source, part: Part, wanted: Digests) -> Hashed:
        """Hash a part on a worker. See `ports.HashElsewhere`."""
        if not is_spread(source):
            return await run_in_thread(partial(hash_part, source, part, wanted, check=_nothing))
        return await (await self._hasher(source)).hash(part, wanted)

    async def _hasher(self, source: Source) -> FileHasher:
        file = await self._cluster.share(source, self._ca)
        file.hasher = file.hasher or RemoteHasher(self._cluster, file)
        return file.hasher

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
        """What hashes and sends several parts of a source at a time, if workers do."""
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
        near = note_sent(cluster.members, file, numbers)
        member = await cluster.member_for(file, near=near, not_=avoided)
        file.sent_by.update(dict.fromkeys(numbers, member.address))
        gauge.worker, gauge.waits = member.address, False
        task = PutTask(file.id, parts, requests, fresh, seconds, self._ca)
        try:
            await cluster.messages.put(member, task, gauge, on_news)
        except FileDiffers as e:
            await run_in_thread(source.check)  # has it changed here, too?
            file.verdicts[member.address] = str(e)
            raise Fault(FaultKind.BROKEN, f"{e} (on the worker {member.address})") from None
        except Fault as fault:
            if fault.kind in (FaultKind.UNREACHABLE, FaultKind.BROKEN):
                for number in numbers:  # of a group, too: who takes what is left of it is another one
                    file.failed_on.setdefault(number, set()).add(member.address)
            if fault.kind is FaultKind.UNREACHABLE:
                cluster.avoid(member)
            raise
        return gauge


def _nothing() -> None:
    pass
