"""Download an object and compare every byte with the file, without relying on the store's checksums.

Ranges are read in parallel and streamed, so that memory does not grow with the object. A broken read continues at the
byte where it broke. A run that was killed starts over.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bigupload import errors, events
from bigupload.core.part_plan import MIB
from bigupload.core.rate_meter import RateMeter
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine.retrying import Retrier, RunCounts
from bigupload.http.client import read_range
from bigupload.options import S3Options
from bigupload.ports import SignedRequest
from bigupload.records import dataclass
from bigupload.stores.s3.bucket import BucketPool
from bigupload.support.cancellation import for_each
from bigupload.support.daemon_threads import run_in_daemon_thread
from bigupload.verification.by_checksum import Compared, FileAndObject, open_both

READ_BACK = "read-back"

_PIECE = 16 * MIB
"""Bytes in a range."""
_AT_ONCE = 8
_RENEW_BEFORE = 60.0
"""Seconds before a presigned URL expires at which a new one is made."""
_REPORT_EVERY = 0.25
"""Seconds between two `ReadingBack` events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack(Compared):
    """An object that is the file, byte for byte. Sizes are bytes."""

    verified: str
    """Always "read-back"."""
    bytes_read: int
    retries: int
    seconds: float


async def read_back(
    path: str | os.PathLike[str],
    url: str,
    *,
    s3: S3Options | None = None,
    retry: RetryPolicy | None = None,
    pool: BucketPool | None = None,
    on_event: Callable[[events.Event], None] | None = None,
) -> ReadBack:
    """Download an object and compare every byte with a file.

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
        TargetReplaced: It was replaced by another object during the call.
        SourceError: The file can't be read, or changed during the call.
        StoreError: The store refused, or can't be reached.
    """
    policy, began = retry or RetryPolicy(), time.monotonic()
    # The path as it names a source: absolute, without "..".
    source = os.path.abspath(path)  # noqa: PTH100 - removes "..", as `FileSource` does
    read = events.UploadIdentity(source=source, target=url, id="", manifest=None)
    emit = events.identified(read, on_event or (lambda _: None))
    counts = RunCounts()
    retrier = Retrier(policy=policy, emit=emit, counts=counts)
    async with open_both(path, url, s3, retrier, pool) as pair:
        comparison = _Comparison(pair, emit)
        await comparison.run()
        fields: dict[str, Any] = pair.compared()
        return ReadBack(
            **fields,
            verified=READ_BACK,
            bytes_read=comparison.compared,
            retries=counts.retries,
            seconds=round(time.monotonic() - began, 3),
        )


class _Comparison:
    def __init__(self, pair: FileAndObject, emit: Callable[[events.Event], None]) -> None:
        self._pair = pair
        self._emit = emit
        self._store = pair.store
        self._retrier = pair.retrier
        self._attributes = pair.attributes
        self._differs: int | None = None
        """The lowest position that is known to differ. Ranges before it are compared nevertheless."""
        self._signed: tuple[SignedRequest, float] | None = None
        self._meter = RateMeter()
        self._reported = 0.0
        self.compared = 0

    async def run(self) -> None:
        self._report()
        await for_each(range(0, self._attributes.size, _PIECE), self._piece, at_once=_AT_ONCE)
        await self._pair.check_source()
        await self._pair.check_object()  # that each range had the same ETag does not show it at every store
        if self._differs is not None:
            raise errors.ObjectMismatch(
                f"{self._store.target} is not the file: the first byte that differs is byte "
                f"{self._differs:,} (counted from 0)"
            )
        self._reported = 0.0
        self._report()

    async def _piece(self, at: int) -> None:
        end = min(self._attributes.size, at + _PIECE)

        async def take(data: bytes) -> bool:
            nonlocal at
            if self._is_beyond(at):
                return False
            # A read may hang in a network file system: a cancel leaves the thread behind.
            compare = partial(self._equal_bytes, data, at)
            same = await run_in_daemon_thread(compare, self._pair.reading)
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
                    raise errors.TargetReplaced(
                        f"{self._store.target} was replaced or deleted while it was read: verify it again"
                    ) from fault
                if at > before:  # it makes progress, however slowly
                    attempts, before = self._retrier.attempts(), at
                again = await self._retrier.pause(attempts, fault, since, part=None)
                if again.resign:
                    self._signed = None
            else:
                self._retrier.record_response()
        await self._pair.check_source()

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
