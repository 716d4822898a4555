"""Download an object and compare every byte with the file, without relying on the store's checksums.

Ranges are read in parallel and streamed, so that memory does not grow with the object. A broken read resumes at the
byte where it broke, a killed run at the ranges that it had not finished. A small file beside the manifests records
them. It names the object's ETag and time and the file's fingerprint: if one of them changed, everything is read again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from bigupload import errors, events
from bigupload.core.manifest import manifest_id
from bigupload.core.part_plan import MIB
from bigupload.core.rate_meter import RateMeter
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine.retrying import Retrier, RunCounts
from bigupload.http.client import read_range
from bigupload.manifests.state_directory import READ_BACK_SUFFIX, state_dir
from bigupload.options import S3Options
from bigupload.ports import SignedRequest
from bigupload.records import dataclass
from bigupload.stores.s3.bucket import BucketPool
from bigupload.support.cancellation import for_each, run_shielded
from bigupload.support.daemon_threads import DaemonThreadPool, run_in_thread
from bigupload.verification.by_checksum import Compared, FileAndObject, open_both

READ_BACK = "read-back"

_PIECE = 16 * MIB
"""Bytes in a range. A kill loses less than this times _AT_ONCE."""
_AT_ONCE = 8
_RENEW_BEFORE = 60.0
"""Seconds before a presigned URL expires at which a new one is made."""
_REPORT_EVERY = 0.25
"""Seconds between two `ReadingBack` events."""
_VERSION = 1
_RECORD_GRACE = 2.0
"""Seconds that a record may take to be written after a cancel: its disk may hang."""
_MAX_RECORD_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack(Compared):
    """An object that is the file, byte for byte. Sizes are bytes."""

    verified: str
    """Always "read-back"."""
    bytes_read: int
    """By this run."""
    resumed_bytes: int
    """Read and compared by earlier runs."""
    retries: int
    seconds: float


class ReadBackProgress:
    """A file with the numbers of the ranges that were found equal. If it is lost, they are read again."""

    def __init__(self, path: Path, of: dict[str, Any]) -> None:
        """Read what an earlier run recorded.

        Args:
            path: The file.
            of: What is compared with what. A record of anything else is ignored.
        """
        self._path = path
        self._of = json.loads(json.dumps(of))
        self.done: set[int] = set(self._read())
        self._writing = anyio.Lock()
        self._threads = DaemonThreadPool(1, "bigupload-record")

    def _read(self) -> list[int]:
        try:
            with os.fdopen(os.open(self._path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
                found = json.loads(file.read(_MAX_RECORD_BYTES))
        except (OSError, ValueError, RecursionError):
            return []
        if not isinstance(found, dict) or found.get("of") != self._of or not isinstance(found.get("done"), list):
            return []
        return [n for first, last in _pairs(found["done"]) for n in range(first, last + 1)]

    async def add(self, piece: int) -> bool:
        """Record one more range, and return whether that worked.

        The record is written to another file, which is then renamed: a kill leaves the old or the new one. Neither a
        slow disk nor a network file system holds up the ranges that are read meanwhile. A cancel waits for its end, so
        that no half file is left open.
        """
        self.done.add(piece)
        return await run_shielded(self._write(), grace=_RECORD_GRACE)

    async def _write(self) -> bool:
        import aiofiles
        import aiofiles.os

        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        threads = self._threads  # the event loop's own may all be waiting
        async with self._writing:
            text = json.dumps({"of": self._of, "done": _runs(sorted(self.done))})
            try:
                await aiofiles.os.makedirs(self._path.parent, mode=0o700, exist_ok=True, executor=threads)
                file = await aiofiles.open(fresh, "w", opener=_open_private, executor=threads)
                try:  # its own context manager would close it in the event loop's threads
                    await file.write(text)
                finally:
                    await file.close()
                await aiofiles.os.replace(fresh, self._path, executor=threads)
            except OSError:  # the disk is full, for example: only a stop would lose the progress
                with contextlib.suppress(OSError):
                    await aiofiles.os.unlink(fresh, executor=threads)
                return False
        return True

    def close(self) -> None:
        """End the thread that writes it."""
        self._threads.shutdown(wait=False)

    def delete(self) -> None:
        """Delete the record, because the comparison ended."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _pairs(rows: list[Any]) -> Iterator[tuple[int, int]]:
    for row in rows:
        match row:
            case [int(first), int(last)] if 0 <= first <= last < 1 << 32:
                yield first, last


def _runs(numbers: list[int]) -> list[list[int]]:
    """Write sorted numbers as [[first, last], …]."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return runs


async def read_back(
    path: str | os.PathLike[str],
    url: str,
    *,
    s3: S3Options | None = None,
    retry: RetryPolicy | None = None,
    pool: BucketPool | None = None,
    on_event: Callable[[events.Event], None] | None = None,
) -> ReadBack:
    """Download an object and compare every byte with a file, or resume that where it stopped.

    Args:
        path: The file.
        url: "s3://BUCKET/KEY" of the object.
        s3: How to reach the store.
        retry: How often and for how long a failed request is repeated.
        pool: Where to take the connection to the bucket from.
        on_event: Called with each event, in the event loop; a plain function.

    Raises:
        ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
        ObjectMismatch: The object is not the file. The message names the first byte that differs.
        TargetReplaced: Another object took its place meanwhile.
        SourceError: The file can't be read, or changed meanwhile.
        StoreError: The store refused, or can't be reached.
    """
    policy, began = retry or RetryPolicy(), time.monotonic()
    # The path as it names a source: absolute, without "..".
    source = os.path.abspath(path)  # noqa: PTH100 - removes "..", as `FileSource` does
    read = events.UploadIdentity(source=source, target=url, id="", manifest=None)
    emit = events.identified(read, on_event or (lambda _: None))
    counts = RunCounts()
    retrier = Retrier(policy=policy, emit=emit, counts=counts)
    async with (
        contextlib.AsyncExitStack() as ended,
        open_both(path, url, s3, retrier, pool) as pair,
    ):
        name = manifest_id(pair.source.path, pair.store.target)
        progress = ReadBackProgress(state_dir() / f"{name}{READ_BACK_SUFFIX}", _subject(pair))
        ended.callback(progress.close)
        comparison = _Comparison(pair, progress, emit)
        resumed = comparison.compared
        await comparison.run()
        fields: dict[str, Any] = pair.compared()
        return ReadBack(
            **fields,
            verified=READ_BACK,
            bytes_read=comparison.compared - resumed,
            resumed_bytes=resumed,
            retries=counts.retries,
            seconds=round(time.monotonic() - began, 3),
        )


def _subject(pair: FileAndObject) -> dict[str, Any]:
    target, attributes = pair.store.target, pair.attributes
    return {
        "version": _VERSION,
        "piece": _PIECE,
        "path": os.fsencode(pair.source.path).hex(),
        "file": dataclasses.astuple(pair.source.fingerprint)[:4],  # without a pin, which no file has
        "target": [target.bucket, target.key, target.endpoint],
        "etag": attributes.etag,
        "modified": attributes.modified,
        "checksums": dict(attributes.checksums),
        "size": attributes.size,
    }


class _Comparison:
    def __init__(self, pair: FileAndObject, progress: ReadBackProgress, emit: Callable[[events.Event], None]) -> None:
        self._pair = pair
        self._emit = emit
        self._store = pair.store
        self._retrier = pair.retrier
        self._attributes = pair.attributes
        self._progress = progress
        self._pieces = range(-(-pair.attributes.size // _PIECE))
        progress.done &= set(self._pieces)
        self._differs: int | None = None
        """The lowest position that is known to differ. Ranges before it are compared nevertheless."""
        self._warned = False
        self._signed: tuple[SignedRequest, float] | None = None
        self._meter = RateMeter()
        self._reported = 0.0
        self.compared = sum(self._span(n)[1] - self._span(n)[0] for n in progress.done)

    async def run(self) -> None:
        self._report()
        await for_each([n for n in self._pieces if n not in self._progress.done], self._piece, at_once=_AT_ONCE)
        await self._pair.check_source()
        self._progress.delete()
        await self._pair.check_object()  # that each range had the same ETag does not show it at every store
        if self._differs is not None:
            raise errors.ObjectMismatch(
                f"{self._store.target} is not the file: the first byte that differs is byte "
                f"{self._differs:,} (counted from 0)"
            )
        self._reported = 0.0
        self._report()

    def _span(self, number: int) -> tuple[int, int]:
        return number * _PIECE, min(self._attributes.size, (number + 1) * _PIECE)

    async def _piece(self, number: int) -> None:
        at, end = self._span(number)

        async def take(data: bytes) -> bool:
            nonlocal at
            if self._is_beyond(at):
                return False
            # A read may hang in a network file system: a cancel leaves the thread behind.
            compare = partial(self._equal_bytes, data, at)
            same = await run_in_thread(compare, self._pair.reading, abandon_on_cancel=True)
            at += len(data)
            self.compared += len(data)
            if same < len(data):
                found = at - len(data) + same
                self._differs = found if self._differs is None else min(self._differs, found)
                return False
            self._report()
            return True

        attempts, before = self._retrier.attempts(), at
        while at < end and not self._is_beyond(at):
            since = time.monotonic()
            try:
                request = await self._request()
                await read_range(
                    self._store.client,
                    request,
                    at,
                    end,
                    etag=self._attributes.etag,
                    size=self._attributes.size,
                    within=self._retrier.policy.stall_after,
                    take=take,
                )
            except Fault as fault:
                if fault.is_absent or fault.kind is FaultKind.EXISTS:
                    self._progress.delete()
                    raise errors.TargetReplaced(
                        f"{self._store.target} was replaced or deleted while it was read: verify it again"
                    ) from fault
                if at > before:  # it makes progress, however slowly
                    attempts, before = self._retrier.attempts(), at
                again = await self._retrier.pause(attempts, fault, since, part=None)
                if again.resign:
                    self._signed = None
            else:
                self._retrier.note_response()
        if not self._is_beyond(at):
            await self._finish(number)

    async def _finish(self, number: int) -> None:
        await self._pair.check_source()
        if not await self._progress.add(number) and not self._warned:
            self._warned = True
            self._emit(
                events.Warned(
                    message="the progress can't be recorded: if this run stops, the next one reads everything again"
                )
            )

    def _is_beyond(self, offset: int) -> bool:
        return self._differs is not None and offset >= self._differs

    def _equal_bytes(self, data: bytes, offset: int) -> int:
        """Return the number of equal bytes in `data` and the file at `offset`, up to the first difference. Blocking."""
        mine = bytearray(len(data))
        self._pair.read_into(memoryview(mine), offset)
        if mine == data:
            return len(data)
        low, high = 0, len(data)  # the first `low` are equal, the first `high` are not
        while high - low > 1:
            middle = (low + high) // 2
            if mine[low:middle] == data[low:middle]:
                low = middle
            else:
                high = middle
        return low

    async def _request(self) -> SignedRequest:
        now = time.monotonic()
        if self._signed is None or now > self._signed[1]:
            signed = await self._store.sign_read()
            self._signed = signed, now + signed.expires_in - _RENEW_BEFORE
        return self._signed[0]

    def _report(self) -> None:
        now = time.monotonic()
        if not self._reported or now - self._reported >= _REPORT_EVERY:
            self._reported = now
            size = self._attributes.size
            self._meter.add(now, self.compared)
            self._emit(
                events.ReadingBack(
                    bytes_compared=self.compared,
                    size=size,
                    rate=self._meter.rate(now),
                    seconds_left=self._meter.seconds_left(now, size),
                )
            )
