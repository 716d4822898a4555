"""Reads an object back and holds it against the file, byte for byte: for those who do not take the store's word.

Pieces are read in parallel and streamed: memory does not grow with the object. A broken read goes on at the byte where
it broke, a killed run at the pieces that it had not finished. Which those are is in a small file beside the manifests,
bound to the object's ETag and time and to the file's fingerprint: where one of them is another, all is read again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from bigupload import errors, events
from bigupload.core.manifest import manifest_id
from bigupload.core.part_plan import MIB
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine.retrying import Retrier
from bigupload.engine.task_groups import for_each
from bigupload.http.range_reader import HttpReader
from bigupload.manifests.state_directory import READ_BACK_SUFFIX
from bigupload.options import S3Options
from bigupload.ports import SignedRequest
from bigupload.stores.targets import state_dir
from bigupload.verification.by_checksum import Compared, Pair, paired

READ_BACK = "read-back"

_PIECE = 16 * MIB
"""Bytes; what a kill loses is less than this, times _AT_ONCE."""
_AT_ONCE = 8
_RENEW_BEFORE = 60.0
"""Seconds before a URL ends."""
_TELL_EVERY = 0.25
_VERSION = 1
_MOST_STATE = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack(Compared):
    """An object that is the file, byte for byte. Sizes are bytes."""

    verified: str
    bytes_read: int
    """In this run."""
    resumed_bytes: int
    """Read and compared by earlier ones."""
    retries: int
    seconds: float


class ReadBackProgress:
    """The pieces that were found equal, in a file. It may be lost at any time, and then they are read again."""

    def __init__(self, path: Path, of: dict[str, Any]) -> None:
        """`of`: what was compared with what. A file about anything else counts for nothing."""
        self._path = path
        self._of = json.loads(json.dumps(of))
        self.done: set[int] = set(self._read())

    def _read(self) -> list[int]:
        try:
            with os.fdopen(os.open(self._path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
                found = json.loads(file.read(_MOST_STATE))
        except (OSError, ValueError, RecursionError):
            return []
        if not isinstance(found, dict) or found.get("of") != self._of or not isinstance(found.get("done"), list):
            return []
        return [n for first, last in _pairs(found["done"]) for n in range(first, last + 1)]

    def add(self, piece: int) -> bool:
        """Whether it could be written. Written beside and renamed: whoever is killed leaves the one or the other."""
        self.done.add(piece)
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(fresh, flags, 0o600), "w") as file:
                json.dump({"of": self._of, "done": _runs(sorted(self.done))}, file)
            fresh.replace(self._path)
        except OSError:  # a full disk: what was read is read, only a stop would lose it
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            return False
        return True

    def forget(self) -> None:
        """It has come to an end, whichever."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _pairs(rows: list[Any]) -> Iterator[tuple[int, int]]:
    for row in rows:
        match row:
            case [int(first), int(last)] if 0 <= first <= last < 1 << 32:
                yield first, last


def _runs(numbers: list[int]) -> list[list[int]]:
    """[[first, last], …] of sorted numbers."""
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
    on_event: Callable[[events.Event], None] | None = None,
) -> ReadBack:
    """Compare the object at `url`, "s3://BUCKET/KEY", with the file, or go on where that stopped.

    Raises ObjectMismatch with the first byte that differs, and TargetReplaced where the object is another meanwhile.
    """
    policy, began = retry or RetryPolicy(), time.monotonic()
    retrier = Retrier(policy=policy, emit=on_event or (lambda _: None))
    async with (
        paired(path, url, s3, retrier) as pair,
        HttpReader(ca_bundle=pair.store.ca_bundle, stall_after=policy.stall_after) as reader,
    ):
        name = manifest_id(pair.source.path, pair.store.target)
        comparison = _Comparison(
            pair, reader, ReadBackProgress(state_dir() / f"{name}{READ_BACK_SUFFIX}", _subject(pair))
        )
        resumed = comparison.compared
        await comparison.run()
        return ReadBack(
            path=Path(pair.source.path),
            bucket=pair.bucket,
            key=pair.key,
            url=pair.store.url(),
            size=pair.look.size,
            etag=pair.look.etag,
            verified=READ_BACK,
            bytes_read=comparison.compared - resumed,
            resumed_bytes=resumed,
            retries=retrier.counts.retries,
            seconds=round(time.monotonic() - began, 3),
        )


def _subject(pair: Pair) -> dict[str, Any]:
    target, look = pair.store.target, pair.look
    return {
        "version": _VERSION,
        "piece": _PIECE,
        "path": os.fsencode(pair.source.path).hex(),
        "file": dataclasses.astuple(pair.source.fingerprint),
        "target": [target.bucket, target.key, target.endpoint],
        "etag": look.etag,
        "modified": look.modified,
        "size": look.size,
    }


class _Comparison:
    def __init__(self, pair: Pair, reader: HttpReader, progress: ReadBackProgress) -> None:
        self._pair = pair
        self._store = pair.store
        self._reader = reader
        self._retrier = pair.retrier
        self._look = pair.look
        self._progress = progress
        self._pieces = range(-(-pair.look.size // _PIECE))
        progress.done &= set(self._pieces)
        self._differs: int | None = None
        """The lowest byte that is known to be another. What lies before it is compared all the same."""
        self._warned = False
        self._signed: tuple[SignedRequest, float] | None = None
        self._told = 0.0
        self.compared = sum(self._span(n)[1] - self._span(n)[0] for n in progress.done)

    async def run(self) -> None:
        self._tell()
        await for_each([n for n in self._pieces if n not in self._progress.done], self._piece, at_once=_AT_ONCE)
        self._pair.hold_still()
        self._progress.forget()
        if self._differs is not None:
            raise errors.ObjectMismatch(
                f"{self._store.target} is not the file: it differs from byte {self._differs:,} on, counted from 0"
            )
        self._told = 0.0
        self._tell()

    def _span(self, number: int) -> tuple[int, int]:
        return number * _PIECE, min(self._look.size, (number + 1) * _PIECE)

    async def _piece(self, number: int) -> None:
        at, end = self._span(number)

        async def take(data: bytes) -> bool:
            nonlocal at
            if self._is_beyond(at):
                return False
            same = await anyio.to_thread.run_sync(self._equal_bytes, data, at)
            at += len(data)
            self.compared += len(data)
            if same < len(data):
                found = at - len(data) + same
                self._differs = found if self._differs is None else min(self._differs, found)
                return False
            self._tell()
            return True

        attempts, before = self._retrier.attempts(), at
        while at < end and not self._is_beyond(at):
            since = self._retrier.effects.clock()
            try:
                request = await self._request()
                await self._reader.read(request, at, end, etag=self._look.etag, size=self._look.size, take=take)
            except Fault as fault:
                if fault.kind in (FaultKind.EXISTS, FaultKind.GONE) or fault.status == 404:
                    self._progress.forget()
                    raise errors.TargetReplaced(
                        f"{self._store.target} was replaced or deleted while it was read: verify it again"
                    ) from fault
                if at > before:  # it gets on, however badly
                    attempts, before = self._retrier.attempts(), at
                again = await self._retrier.pause(attempts, fault, since, part=None)
                if again.resign:
                    self._signed = None
            else:
                self._retrier.note_response()
        if not self._is_beyond(at):
            self._finish(number)

    def _finish(self, number: int) -> None:
        self._pair.hold_still()
        if not self._progress.add(number) and not self._warned:
            self._warned = True
            self._retrier.emit(
                events.Warned(
                    message="it can't be recorded how far this came: what is read now is read again after a stop"
                )
            )

    def _is_beyond(self, offset: int) -> bool:
        return self._differs is not None and offset >= self._differs

    def _equal_bytes(self, data: bytes, offset: int) -> int:
        """How many bytes of `data` are the file's at `offset`, from its first on. Blocking."""
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
        now = self._retrier.effects.clock()
        if self._signed is None or now > self._signed[1]:
            signed = await self._store.sign_read()
            self._signed = signed, now + signed.expires_in - _RENEW_BEFORE
        return self._signed[0]

    def _tell(self) -> None:
        now = self._retrier.effects.clock()
        if not self._told or now - self._told >= _TELL_EVERY:
            self._told = now
            self._retrier.emit(events.ReadingBack(bytes_compared=self.compared, size=self._look.size))
