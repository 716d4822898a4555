"""Messages between coordinator and workers: lists and dicts of plain values, as msgpack takes them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

from bigupload import __version__, errors
from bigupload.core.checksums import Algorithm, Digests
from bigupload.core.manifest import Fingerprint
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import SignedRequest, Source
from bigupload.records import dataclass

WORK, LOOK, LEAVE = "bigupload-work", "bigupload-look", "bigupload-leave"
"""The names of the workers' handlers."""
_SAMPLE = 64 * 1024
"""Bytes at the beginning, the middle and the end of a file that distinguish it from another one of its size and
time."""
_MICROSECOND, _SECOND = 1_000, 1_000_000_000


@dataclass(frozen=True, slots=True)
class FileId:
    """A file that several machines see: what each of them can compare. Inodes and ctimes differ between hosts."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, source: Source) -> FileId:
        """The id of an open file."""
        return cls(source.path, source.fingerprint.size, source.fingerprint.mtime_ns)

    def difference(self, other: Fingerprint) -> str:
        """Describe the difference of a file from this one; "" if there is none."""
        if other.size != self.size:
            return f"it has {other.size:,} bytes there, and {self.size:,} here"
        if not _same_time(other.mtime_ns, self.mtime_ns):
            return "it was written at another time"
        return ""

    def pack(self) -> list[Any]:
        """As plain values. A path may hold bytes that are not UTF-8."""
        return [os.fsencode(self.path).decode("latin-1"), self.size, self.mtime_ns]

    @classmethod
    def unpack(cls, packed: list[Any]) -> FileId:
        """Return the identity that `pack` packed."""
        path, size, mtime_ns = packed
        return cls(os.fsdecode(path.encode("latin-1")), size, mtime_ns)


def _same_time(one: int, other: int) -> bool:
    """Whether two times are the same, as far as both file systems store them."""
    if one // _MICROSECOND == other // _MICROSECOND:
        return True
    return (one % _SECOND == 0 or other % _SECOND == 0) and one // _SECOND == other // _SECOND


def sample(source: Source) -> str:
    """A hash of some bytes of a file. Blocking."""
    digest, size = hashlib.sha256(), source.fingerprint.size
    for offset in sorted({0, max(0, size // 2), max(0, size - _SAMPLE)}):
        buffer = bytearray(min(_SAMPLE, size - offset))
        digest.update(memoryview(buffer)[: source.read_into(memoryview(buffer), offset)])
    return digest.hexdigest()


class Sealed:
    """Bytes that no log shows: Dask logs the messages that it handles, if it is set to log everything."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __repr__(self) -> str:
        return f"Sealed({len(self.content)} bytes)"


@dataclass(frozen=True, slots=True)
class PutTask:
    """A worker's task: to PUT parts, one after another."""

    file: FileId
    parts: Sequence[Part]
    requests: Sequence[SignedRequest]
    fresh: bool
    seconds: float
    """No part but the first is begun after that time."""
    ca_bundle: str | bool | None


def pack_put(number: int, task: PutTask) -> dict[str, Any]:
    """PUTs for a worker. It holds presigned URLs: nobody logs it, and the scheduler passes it on unread."""
    return {
        "id": number,
        "file": task.file.pack(),
        "parts": [
            [part.number, part.offset, part.size, request.url, dict(request.headers), request.expires_in]
            for part, request in zip(task.parts, task.requests, strict=True)
        ],
        "fresh": task.fresh,
        "seconds": task.seconds,
        "ca": task.ca_bundle,
    }


def unpack_put(packed: dict[str, Any]) -> PutTask:
    """Return the task that `pack_put` packed."""
    return PutTask(
        FileId.unpack(packed["file"]),
        [Part(*each[:3]) for each in packed["parts"]],
        [SignedRequest(*each[3:]) for each in packed["parts"]],
        packed["fresh"],
        packed["seconds"],
        packed["ca"],
    )


SPOKEN = f"{__version__} (messages 4)"
"""The version that workers must have. The number grows with each change of a message."""


@dataclass(frozen=True, slots=True)
class HashTask:
    """The arguments of a hash task."""

    coordinator: str
    number: int
    """The number among this coordinator's tasks and PUTs."""
    file: FileId
    parts: list[Part]
    wanted: Digests


def pack_hash_task(task: HashTask) -> str:
    """A hash task as one text: Dask looks into each value of an argument, which takes longer than packing it."""
    parts = [[part.number, part.offset, part.size] for part in task.parts]
    return json.dumps([task.coordinator, task.number, task.file.pack(), parts, dataclasses.astuple(task.wanted)])


def unpack_hash_task(packed: str) -> HashTask:
    """Return the task that `pack_hash_task` packed."""
    coordinator, number, file, parts, (algorithm, *also) = json.loads(packed)
    wanted = Digests(Algorithm(algorithm), *also)
    return HashTask(coordinator, number, FileId.unpack(file), [Part(*part) for part in parts], wanted)


def pack_failure(error: Exception) -> list[Any]:
    """A failure on a worker. Only the texts of bigupload's own errors are known to hold nothing secret."""
    if isinstance(error, Fault):
        public = type(error.public()).__name__
        name, named = error.kind.name, sorted(error.named)
        return ["fault", name, str(error), error.status, error.code, error.retry_after, public, error.date, named]
    if isinstance(error, errors.SourceError):
        return ["source", str(error)]
    if isinstance(error, errors.BigUploadError):
        return ["error", type(error).__name__, str(error)]
    return pack_failure(Fault(FaultKind.BROKEN, f"the worker failed ({type(error).__name__})"))


class FileDiffers(Exception):
    """A worker can't read the file, or has another one under its name."""


def unpack_failure(failure: list[Any], worker: str) -> Exception:
    """The error to raise for what `pack_failure` packed."""
    kind = failure[0]
    if kind == "source":
        return FileDiffers(failure[1])
    if kind == "error":
        named = getattr(errors, failure[1], errors.StoreRefused)
        made: Exception = named(f"{failure[2]} (on the worker {worker})")
        return made
    _, name, message, status, code, retry_after, public, date, found = failure
    error = None if FaultKind[name].public.__name__ == public else getattr(errors, public)
    fault = Fault(FaultKind[name], message, status=status, code=code, retry_after=retry_after, error=error)
    fault.date, fault.named = date, frozenset(found)
    return fault
