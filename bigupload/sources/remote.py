"""A file that is read by its URL. Each part is fetched before the engine hashes it, and held until it is sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import anyio

from bigupload.core.manifest import Fingerprint, SourceKind
from bigupload.core.part_plan import Part
from bigupload.core.remote_url import RemoteFacts, RemoteUrl, is_progress
from bigupload.core.retry_policy import Fault
from bigupload.sources.part_pool import HeldPart, PartPool, SourceOfHeldParts
from bigupload.sources.producers import Producer

_AT_ONCE = 8
"""Ranges that are requested at a time, at most. A response that asks to slow down halves the number, and each range
that came since adds a little to it: https://www.rfc-editor.org/rfc/rfc5681#section-3.1 has the same rule."""


class Origin(Protocol):
    """The place that ranges of one version of a file come from."""

    async def read(self, start: int, end: int, take: Callable[[bytes], Awaitable[None]]) -> None:
        """Read the bytes from `start` on, up to `end`, which is not read. `take` gets them as they arrive.

        Raises:
            Fault: The request failed, and may succeed later. What `take` got counts.
            SourceError: No retry can help: another version is there now, say.
        """
        ...


class ServedFile(Origin, Producer, Protocol):
    """A file on a server, by its URL: an origin of ranges of one version, or the producer of a stream."""

    taken: int = 0
    """See `Producer.taken`: here an attribute, which a subclass counts in."""

    def __init__(
        self,
        url: RemoteUrl,
        *,
        ca_bundle: Path | None,
        stall_after: float,
    ) -> None:
        """Open no connection yet.

        Args:
            url: Where the file is.
            ca_bundle: Certificates to trust beside the system's.
            stall_after: Seconds without a byte after which a request fails with Fault(STALLED).
        """
        ...

    async def look(self, *, without_length: bool = False) -> RemoteFacts:
        """Ask for the first bytes, and for the file's size and version. If it has no pin, `fill` reads it.

        Args:
            without_length: Whether to accept a stream whose end looks like a broken connection.

        Raises:
            Fault: A retry may help.
            SourceError: No retry can help.
            UsageError: The CA bundle or the proxy can't be used.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections. May be called again."""
        ...


class _Fetched:
    """A part that is held, and how much of it has come."""

    def __init__(self, held: HeldPart) -> None:
        self._held = held
        self.done = 0

    async def take(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            space = self._held.space(self.done)
            count = min(len(space), len(left))
            space[:count], left = left[:count], left[count:]
            await self._held.filled(self.done, count)
            self.done += count


class RemoteSource(SourceOfHeldParts):
    """A remote file of known size and version. Implements `ports.Source`."""

    kind = SourceKind.REMOTE

    def __init__(self, path: str, origin: Origin, pool: PartPool, *, size: int, pin: str, head: bytes = b"") -> None:
        """Fetch nothing yet.

        Args:
            path: The URL without its query.
            origin: Where the bytes come from.
            pool: Where parts are held.
            size: The file's size in bytes.
            pin: Which version it is. `origin` reads no other.
            head: Its first bytes, if they are known.
        """
        super().__init__(path, size, pool, head)
        self.fingerprint = Fingerprint(size, 0, 0, 0, pin)
        self._origin = origin
        self._fetched: dict[int, _Fetched] = {}
        self._admission = anyio.Lock()
        """One part at a time waits for room, so that a source waits there once, however many parts it fetches."""
        self._released = anyio.Event()
        self._limit = float(_AT_ONCE)
        self._requests = anyio.CapacityLimiter(_AT_ONCE)

    async def hold(self, part: Part, *, wait: bool = True) -> bool:
        """Fetch a part. What has come of it stays if the request fails, for the next call. See `ports.Source.hold`."""
        fetched = self._fetched.get(part.number)
        if fetched is None:
            if not wait:  # fetched ahead of the others, parts would take the room of those that can be sent
                return False
            async with self._admission:
                await self._wait_for_share(part.size)
                fetched = self._fetched[part.number] = _Fetched(await self._add(part))
        async with self._requests:
            before = fetched.done
            try:
                if before < part.size:
                    await self._origin.read(part.offset + before, part.offset + part.size, fetched.take)
            except Fault as fault:
                fault.progressed = is_progress(fetched.done - before, part.size - before)
                if fault.kind.asks_to_slow_down:
                    self._allow(self._limit / 2)
                raise
            self._allow(self._limit + 1 / self._limit)
        return True

    def _allow(self, limit: float) -> None:
        self._limit = min(float(_AT_ONCE), max(1.0, limit))
        self._requests.total_tokens = int(self._limit)

    async def _wait_for_share(self, size: int) -> None:
        """Wait until this source holds less than its share: its server may be slow, and others need memory, too."""
        while (
            self._held
            and self._pool.fits_in_memory(size)
            and sum(held.size for _, held in self._held.values()) + size > self._pool.share
        ):
            self._released = anyio.Event()
            await self._released.wait()

    def release(self, part: Part) -> None:
        """Hold a part no longer. See `ports.Source.release`."""
        self._fetched.pop(part.number, None)
        super().release(part)
        self._released.set()

    def close(self) -> None:
        """Let all parts go. May be called again."""
        self._fetched.clear()
        super().close()
