"""Receipts: what was uploaded, and how that was proved, as JSON Lines that outlive the files themselves.

`schema/receipt.schema.json` describes the lines: a head, a row for each file, and sums of all rows before them, which
end the receipt. A receipt is only appended to, so that a crash tears its last line at most. It holds nothing secret.
With it, an object can be verified without the file, and a copy that was restored without the object.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from bigupload import __version__, errors
from bigupload.core.checksums import Algorithm, Hasher, md5_of_etag, new_hasher
from bigupload.core.integrity import ObjectAttributes, Verified, claims_of, replaced_by
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.retrying import Retrier
from bigupload.engine.upload_run import UploadResult
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.stores.s3.bucket import BucketPool
from bigupload.stores.targets import connect
from bigupload.support.files import reason_of
from bigupload.units import counted, escaped, one_line
from bigupload.verification.file_digests import read_file, whole_checksum
from bigupload.verification.media_hash_lists import XXH128, new_hasher_of

KIND = "bigupload.receipt"
VERSION = 2
"""Of what is written. Version 1 was one JSON document, with the rows in `files`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFile:
    """One file of a receipt. Its fields are those of its row."""

    source: str
    size: int
    url: str
    bucket: str
    key: str
    version_id: str | None
    etag: str
    checksum: str | None
    sha256: str | None
    xxh128: str | None
    verified: str
    guarded_by: str
    skipped: bool
    seconds: float
    proved_at: str


_KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("source", "url", "bucket", "key", "etag", "verified", "guarded_by", "proved_at"), str),
    **dict.fromkeys(("version_id", "checksum", "sha256", "xxh128"), (str, type(None))),
    "size": int,
    "skipped": bool,
    "seconds": (int, float),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadReceipt:
    """A receipt that was read."""

    target: str
    endpoint: str | None
    """The store's; None: AWS."""
    files: Sequence[ReceiptFile]
    is_torn: bool
    """Whether it has a beginning of a line at its end, which a crash left, or a copy that was cut off."""

    @property
    def folder(self) -> str:
        """The beginning of all its keys that stands for the directory: the key of a file in it is this and its path."""
        _, _, key = self.target.partition("://")[2].partition("/")
        return key[: key.rfind("/") + 1]


def head_line(target: str, endpoint: str | None) -> bytes:
    """Return the first line of a receipt.

    Args:
        target: What the files' keys begin with, or the one object, or a media service's URL.
        endpoint: The store's; None: AWS.
    """
    head = {"kind": KIND, "version": VERSION, "bigupload": __version__, "target": target, "endpoint": endpoint}
    return _line({**head, "begun_at": _now()})


def row_of(result: UploadResult, **more: object) -> bytes:
    """Return the line of a file that is proved now, with other fields than the schema has in `more`."""
    own = {"source": str(result.path), "verified": str(result.verified), "proved_at": _now()}
    names = ReceiptFile.__annotations__
    return _line({**{name: own[name] if name in own else getattr(result, name) for name in names}, **more})


def sums_line(files: int, size: int, failed: int) -> bytes:
    """Return the line behind rows, with the sums of all rows before it, and how many files are not in the store."""
    return _line({"sums": {"files": files, "size": size, "failed": failed}, "ended_at": _now()})


def object_of(file: ReceiptFile | UploadResult) -> int:
    """Return a hash of the object that a file became: the names of a million would take much memory."""
    return hash((file.bucket, file.key, file.etag, file.size, file.checksum))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _line(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


class ReceiptReader:
    """Reads a receipt, and checks each line of sums against the rows before it. Blocking."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """Read the head.

        Args:
            path: Its name, for messages.
            file: The receipt.

        Raises:
            UsageError: It is not a receipt, or one of a later version, or a damaged one.
        """
        self._path = path
        self._file = file
        self.files = self.size = 0
        """The sums of the rows so far."""
        self.sums: tuple[int, int, int] | None = None
        """Those of the last whole line, as `sums_line` takes them; None: it is a row, or the head."""
        self.is_torn = False
        """Whether what is behind the last whole line is the beginning of one."""
        first = file.read(1)
        line = first + file.readline() if first == b"{" else first  # a device may have no end
        head = _parsed(line)
        if first == b"{" and head is None:  # a document of version 1 has many lines
            line += file.read()
            head = _parsed(line)
        self.end = len(line)
        """Where the last whole line ends."""
        if not isinstance(head, dict) or head.get("kind") != KIND:
            if head is None and KIND.encode() in line:
                raise self.damaged("it is not JSON to its end, so a part of it may be missing")
            raise errors.UsageError(f"{escaped(str(path))} is not a receipt: name another file")
        self.version = head.get("version")
        if self.version not in (1, VERSION):
            raise errors.UsageError(
                f"{escaped(str(path))} is a receipt of version {self.version}, and this reads {VERSION}"
            )
        self.target: Any = head.get("target")
        self.endpoint: Any = head.get("endpoint")
        files = head.get("files") if self.version == 1 else []
        has_texts = isinstance(self.target, str) and isinstance(self.endpoint, str | None)
        if not has_texts or not isinstance(files, list):
            raise self.damaged("a field is missing or wrong")
        self._lines: Iterator[object] = iter([*files, head]) if self.version == 1 else self._later_lines()

    def _later_lines(self) -> Iterator[object]:
        for line in self._file:
            if not line.endswith(b"\n"):
                self.is_torn = True
                return
            yield _parsed(line)
            self.end += len(line)

    def rows(self) -> Iterator[ReceiptFile]:
        """Read the rows.

        Raises:
            UsageError: Rows were lost or changed.
        """
        for found in self._lines:
            if isinstance(found, ReceiptFile):
                self.files, self.size, self.sums = self.files + 1, self.size + found.size, None
                yield found
            else:
                self.sums = self._checked(found)

    def _checked(self, found: object) -> tuple[int, int, int]:
        """Return the sums of a line, which must be those of the rows before it."""
        if not isinstance(found, dict) or "source" in found:
            raise self.damaged("a field is missing or wrong")
        sums = found.get("sums")
        if not isinstance(sums, dict) or not all(_is_count(sums.get(name)) for name in ("files", "size", "failed")):
            raise self.damaged("its sums are missing or wrong")
        if sums["files"] != self.files:
            raise self.damaged(f"it has the rows of {counted(self.files, 'file')}, and its sums say {sums['files']:,}")
        if sums["size"] != self.size:
            raise self.damaged(f"its files have {self.size:,} bytes together, and its sums say {sums['size']:,}")
        return self.files, self.size, sums["failed"]

    def damaged(self, why: str) -> errors.UsageError:
        """Return the error."""
        return errors.UsageError(
            f"{escaped(str(self._path))} is a receipt that was damaged: {why}. Use a copy that is whole, or name "
            "another file"
        )


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text, object_hook=_compact)
    except (ValueError, RecursionError):
        return None


def read_receipt(path: Path) -> ReadReceipt:
    """Read a receipt. Blocking.

    Raises:
        UsageError: It is not a receipt, or one of a later version, or a damaged one.
        SourceError: It can't be read.
    """
    latest: dict[tuple[str, str], ReceiptFile] = {}
    try:
        with path.open("rb") as file:
            reader = ReceiptReader(path, file)
            for row in reader.rows():  # a watch may upload a file several times, and never at the same millisecond
                if latest.get((row.bucket, row.key)) == row:
                    raise reader.damaged(f"it has the same row twice, of {one_line(row.key)}")
                latest[row.bucket, row.key] = row
    except OSError as e:
        raise errors.SourceUnreadable(
            f"can't read the receipt {errors.IT}: {reason_of(e)}", it=escaped(str(path))
        ) from e
    if reader.sums is None:
        raise errors.UsageError(
            f"{escaped(str(path))} does not end with its sums: if the command that writes it was killed, run it again; "
            "if this is a copy, use a whole one"
        )
    return ReadReceipt(target=reader.target, endpoint=reader.endpoint, files=[*latest.values()], is_torn=reader.is_torn)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _compact(found: dict[str, Any]) -> object:
    """A file's fields as one object at once: of a million files, dictionaries would take gigabytes."""
    if "source" not in found:
        return found
    if any(name not in found or not isinstance(found[name], kind) for name, kind in _KINDS.items()):
        return found
    if found["verified"] not in [*Verified] or not _is_count(found["size"]):
        return found
    found |= {name: sys.intern(found[name]) for name in ("bucket", "verified", "guarded_by")}  # the same of each file
    return ReceiptFile(**{name: found[name] for name in _KINDS})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptVerdict:
    """An object, or a file, that matches a receipt."""

    what: str
    """The object's URL, "s3://BUCKET/KEY", or the file's path."""
    key: str
    size: int
    checksum: str | None
    """The checksum that proved it, "<algorithm>:<value>"; None: only the ETag or the size did."""
    verified: Verified


async def verify_object(
    file: ReceiptFile, s3: S3Options, *, require_proof: Verified, pool: BucketPool | None = None
) -> ReceiptVerdict:
    """Prove that an object still matches a receipt, by the store's report of it.

    Args:
        file: The receipt's file.
        s3: How to reach the store.
        require_proof: The weakest proof that is accepted.
        pool: Where to take the connection to the bucket from.

    Raises:
        ObjectNotFound: There is no object.
        ObjectMismatch: The object is another one.
        ProofTooWeak: The store reports nothing that can be compared with the receipt.
        UsageError: It went to a media service.
        StoreError: The store refused, or can't be reached.
    """
    if not file.bucket:
        raise errors.UsageError("it went to a media service, whose bucket only the service reads")
    retrier = Retrier(policy=RetryPolicy(), emit=lambda _: None)
    url = f"s3://{file.bucket}/{file.key}"
    store = await connect(file.bucket, file.key, s3, pool, creates_bucket=False)
    async with contextlib.aclosing(store):
        found = await retrier.request(store.attributes)
    if found is None:
        raise errors.ObjectNotFound(f"there is no object at {url}, or no such bucket")
    differs = replaced_by(
        found,
        size=file.size,
        etag=file.etag if file.etag and found.etag else found.etag,  # one that a proxy dropped is unknown
        checksum=file.checksum,
        version_id=file.version_id,
        sha256=file.sha256,
    )
    if differs is not None:
        raise errors.ObjectMismatch(f"{url} is another object: {differs}")
    verified, checksum = _proof_of(file, found)
    _require(verified, require_proof, f"the store reports neither checksum nor ETag of the receipt for {url}")
    return ReceiptVerdict(what=url, key=file.key, size=found.size, checksum=checksum, verified=verified)


def _proof_of(file: ReceiptFile, found: ObjectAttributes) -> tuple[Verified, str | None]:
    """Return the strongest value that an object, which contradicts nothing in its row, has in common with it."""
    for claim in claims_of(found):
        is_known = claim.algorithm is Algorithm.SHA256 and claim.digest.hex() == file.sha256
        if not claim.is_etag and (is_known or (file.checksum or "").startswith(f"{claim.algorithm}:")):
            return claim.level, f"{claim.algorithm}:{claim.value}"
    return Verified.COMPOSITE_ETAG if file.etag and found.etag else Verified.SIZE, None


async def verify_copy(
    file: ReceiptFile, path: Path, *, require_proof: Verified, reading: asyncio.Semaphore
) -> ReceiptVerdict:
    """Prove that a file matches a receipt: a copy that was restored, for example.

    Args:
        file: The receipt's file.
        path: The copy.
        require_proof: The weakest proof that is accepted.
        reading: Bounds the threads that read files.

    Raises:
        ObjectMismatch: It is another file.
        ProofTooWeak: The receipt has no checksum of the whole file.
        SourceError: It can't be read.
        UsageError: Only an XXH128 could prove it, whose package is missing.
    """
    shown = escaped(str(path))
    try:
        size = path.stat().st_size
    except OSError as e:
        raise errors.SourceNotFound(f"can't read {errors.IT}: {reason_of(e)}", it=shown) from e
    if size != file.size:
        raise errors.ObjectMismatch(f"{errors.IT} has {size:,} bytes, and in the receipt {file.size:,}", it=shown)
    known = _whole_digests(file, shown)
    if not known:
        _require(Verified.SIZE, require_proof, f"the receipt has no checksum of the whole of {shown}")
        return ReceiptVerdict(what=str(path), key=file.key, size=size, checksum=None, verified=Verified.SIZE)
    await read_file(path, {name: hasher for name, (hasher, _) in known.items()}, reading)
    for name, (hasher, digest) in known.items():
        if hasher.digest().hex() != digest:
            raise errors.ObjectMismatch(
                f"{errors.IT} is another file: its {name.partition(':')[0]} is not the receipt's", it=shown
            )
    best = next(iter(known))
    is_etag = best == _ETAG
    verified = Verified.COMPOSITE_ETAG if is_etag else Verified.FULL_OBJECT
    _require(verified, require_proof, f"the receipt has only an ETag of {shown}")
    checksum = None if is_etag else best
    return ReceiptVerdict(what=str(path), key=file.key, size=size, checksum=checksum, verified=verified)


_ETAG = "ETag"


def _whole_digests(file: ReceiptFile, shown: str) -> dict[str, tuple[Hasher, str]]:
    """Return what a row has of the whole file: by "<algorithm>:<value>", hashers and digests, the strongest first.

    Raises:
        ObjectMismatch: The row's checksum is none.
        UsageError: It has only an XXH128, whose package is missing.
    """
    known: dict[str, tuple[Hasher, str]] = {}
    if file.sha256 is not None:
        known[f"sha256:{file.sha256}"] = hashlib.sha256(), file.sha256
    if file.verified == Verified.FULL_OBJECT and file.checksum is not None:
        whole = whole_checksum(file.checksum)
        if whole is None:
            raise errors.ObjectMismatch(
                f"{errors.IT} can't be the file: the receipt's checksum {one_line(file.checksum)} is malformed",
                it=shown,
            )
        known[file.checksum] = whole[0], whole[1].hex()
    if file.xxh128 is not None:
        try:
            known[f"{XXH128}:{file.xxh128}"] = new_hasher_of(XXH128), file.xxh128
        except errors.UsageError:
            if not known:
                raise
    if file.verified == Verified.COMPOSITE_ETAG and (md5 := md5_of_etag(file.etag)) is not None:
        known[_ETAG] = new_hasher(Algorithm.MD5), md5.hex()
    return known


def _require(verified: Verified, required: Verified, why: str) -> None:
    if not verified.satisfies(required):
        raise errors.ProofTooWeak(f"not proved ({verified} only): {why}")
