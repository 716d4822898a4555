"""Receipts: what was uploaded, and how that was proved, as a JSON document that outlives the files themselves.

`schema/receipt.schema.json` describes the document. It has one line for each file, and is written as files are done, so
that a receipt of a million files takes no memory. It holds nothing secret. With it, an object can be verified without
the file, and a copy that was restored without the object.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from bigupload import errors
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
from bigupload.support.output_file import descriptor_of, keep_to_one_process, naming, output_file
from bigupload.support.systems import open_binary, sync_to_disk, write_at
from bigupload.units import counted, escaped, one_line
from bigupload.verification.file_digests import read_file, whole_checksum
from bigupload.verification.media_hash_lists import XXH128, new_hasher_of
from bigupload.version import __version__

KIND = "bigupload.receipt"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFile:
    """One file of a receipt. Its fields are the document's."""

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

    @classmethod
    def of(cls, result: UploadResult, proved_at: str) -> ReceiptFile:
        """Make one of a result."""
        names = cls.__annotations__.keys() - {"source", "proved_at"}
        fields: dict[str, Any] = {name: getattr(result, name) for name in names}
        return cls(**{**fields, "verified": str(result.verified), "source": str(result.path), "proved_at": proved_at})


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

    @property
    def folder(self) -> str:
        """The beginning of all its keys that stands for the directory: the key of a file in it is this and its path."""
        _, _, key = self.target.partition("://")[2].partition("/")
        return key[: key.rfind("/") + 1]


def now() -> str:
    """The time as receipts have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class ReceiptWriter:
    """Writes one receipt."""

    def __init__(self, write: Callable[[str], object], *, target: str, endpoint: str | None) -> None:
        """Write the document's beginning.

        Args:
            write: Writes a text.
            target: What the files' keys begin with, or the one object, or a media service's URL.
            endpoint: The store's; None: AWS.
        """
        self._write = write
        self.files = 0
        self.size = 0
        head = {
            "kind": KIND,
            "version": VERSION,
            "bigupload": __version__,
            "target": target,
            "endpoint": endpoint,
            "begun_at": now(),
        }
        lines = [f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in head.items()]
        write("".join(["{\n", *lines, ' "files": [']))

    def add(self, result: UploadResult, proved_at: str, **more: object) -> None:
        """Add a file, with other fields than the schema has, for those who do not read it as a receipt."""
        file = dataclasses.asdict(ReceiptFile.of(result, proved_at))
        self._write(f"{',' if self.files else ''}\n  {json.dumps({**file, **more})}")
        self.files += 1
        self.size += result.size

    def end(self, *, failed: int) -> None:
        """Write the document's end.

        Args:
            failed: How many files of the same call are not in the store.
        """
        sums = {"files": self.files, "size": self.size, "failed": failed}
        self._write(f'\n ],\n "sums": {json.dumps(sums)},\n "ended_at": {json.dumps(now())}\n}}\n')


class ReceiptOutput:
    """A receipt that is written as files are done. A full disk ends the writing, and not the uploads."""

    def __init__(
        self,
        write: Callable[[str], object],
        finish: Callable[[], object] = lambda: None,
        *,
        target: str,
        endpoint: str | None,
        path: Path | None = None,
    ) -> None:
        """Write the document's beginning.

        Args:
            write: Writes a text.
            finish: Lets the file take its name.
            path: Its name, if it gets one.
            target: As `ReceiptWriter` has it.
            endpoint: As `ReceiptWriter` has it.
        """
        self._writer = ReceiptWriter(write, target=target, endpoint=endpoint)
        self._finish = finish
        # As texts, as results have them.
        self._names = {os.path.abspath(path), os.path.realpath(path)} if path is not None else set()  # noqa: PTH100
        self._error: errors.BigUploadError | None = None

    @property
    def files(self) -> int:
        """The number of files that it has."""
        return self._writer.files

    def add(self, result: UploadResult, proved_at: str | None = None, **more: object) -> None:
        """Add a file, which is proved now or at another time."""
        if self._error is None:
            try:
                if str(result.path) in self._names:
                    raise errors.OutputUnwritable(f"the receipt would replace {result.path}, which was uploaded")
                self._writer.add(result, proved_at or now(), **more)
            except errors.BigUploadError as e:
                self._error = e

    def end(self, *, failed: int) -> None:
        """Write its end, and let it take its name. Without a file in it, an earlier receipt stays.

        Raises:
            BigUploadError: Any of it could not be written.
        """
        if self._error is not None:
            raise self._error
        if self.files:
            self._writer.end(failed=failed)
            self._finish()


@contextlib.contextmanager
def receipt_output(path: Path, option: str, *, target: str, endpoint: str | None) -> Iterator[ReceiptOutput]:
    """Open a receipt to write. Without its `end`, an earlier receipt of that name stays as it is.

    Args:
        path: Its file.
        option: The option or argument that names it, as messages spell it.
        target: As `ReceiptWriter` has it.
        endpoint: As `ReceiptWriter` has it.

    Raises:
        OutputUnwritable: It can't be written.
    """
    with output_file(path, option) as file:
        yield ReceiptOutput(file.write, file.finish, target=target, endpoint=endpoint, path=path)


_FILES = b' "files": ['
"""The line of a receipt behind which its files are, a line each."""


class GrowingReceipt:
    """A receipt that is whole after each file, and that the next call continues: of a watch, which may never end, and
    of calls that delete their sources, of which nothing else may be left.

    Each file is written over the document's end, with a new end behind it. What a crash tears is cut off by the next
    call. On a full disk it stays as it was. Blocking. As a path, it is that of its file.
    """

    def __init__(self, path: Path, option: str, *, target: str, endpoint: str | None) -> None:
        """Open a receipt, or begin one.

        Args:
            path: Its file.
            option: The option or argument that names it, as messages spell it.
            target: As `ReceiptWriter` has it.
            endpoint: As `ReceiptWriter` has it.

        Raises:
            OutputUnwritable: It can't be written, or another process writes it.
            UsageError: The file is not a receipt, or one of another target, or one that lost files.
        """
        self._path = path
        self._option = option
        self._texts: list[str] = []
        self._writer = ReceiptWriter(self._texts.append, target=target, endpoint=endpoint)
        self._adding = threading.Lock()
        self._missed: errors.OutputUnwritable | None = None
        self._known: set[int] = set()
        """Hashes of the objects that it has: the names of a million would take much memory."""
        with contextlib.ExitStack() as opened, naming(option, path):
            if descriptor_of(path) is not None:
                raise OSError(errno.EINVAL, "a watch writes its receipt anew for each file, so name a file")
            self._is_new = not path.exists()
            self._file = open_binary(path, os.O_RDWR | os.O_CREAT, 0o666)
            opened.callback(os.close, self._file)
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            keep_to_one_process(self._file)
            self._size = os.fstat(self._file).st_size  # now nobody else writes it
            self._end = self._read(target, endpoint)
            if self._end:
                self._texts.clear()
            self._write(failed=0)
            self._opened = opened.pop_all()

    def __fspath__(self) -> str:
        return str(self._path)

    def add(self, *results: UploadResult, failed: int) -> None:
        """Add files, and bring them to disk. One that was in the store before is added only if the receipt lacks it.

        So is one of which the result says that its source was deleted, or will be: it was added before that.

        Args:
            results: Of the files.
            failed: How many files are not in the store.

        Raises:
            OutputUnwritable: It can't be written. The same call may be made again.
        """
        with self._adding:
            new = [each for each in results if _object_of(each) not in self._known or not _is_known(each)]
            if not new:
                return
            before = self._writer.files, self._writer.size
            try:
                with naming(self._option, self._path):
                    for result in new:
                        self._writer.add(result, now())
                    self._write(failed=failed)
            except errors.OutputUnwritable:
                self._writer.files, self._writer.size = before
                self._texts.clear()
                raise
            self._known.update(map(_object_of, new))

    def add_or_miss(self, result: UploadResult, *, failed: int) -> None:
        """Add a file. If it can't be written, `end` says so."""
        try:
            self.add(result, failed=failed)
        except errors.OutputUnwritable as e:
            self._missed = e

    @property
    def has_all(self) -> bool:
        """Whether each file could be written that was added."""
        return self._missed is None

    def end(self, *, failed: int) -> None:
        """Note at the end of a call how many files failed. A document without a file is deleted, if the call began it.

        Raises:
            OutputUnwritable: Something can't be written, or could not. It has what was added before.
        """
        if self._missed is not None:
            raise self._missed
        with naming(self._option, self._path):
            if self._writer.files or not self._is_new:
                self._write(failed=failed)
                return
            try:
                self._path.unlink()  # while it is locked
            except PermissionError:  # Windows, which has no such lock, deletes no open file
                self.close()
                self._path.unlink()

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._opened.close()

    def _write(self, *, failed: int) -> None:
        added = "".join(self._texts).encode()
        self._writer.end(failed=failed)
        whole = "".join(self._texts).encode()
        inside = min(len(whole), max(0, self._size - self._end))
        try:
            self._put(whole[inside:], self._end + inside)  # the part that needs room comes first
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self._file, self._size)
            raise
        self._put(whole[:inside], self._end)
        self._size = self._end + len(whole)
        os.truncate(self._file, self._size)
        sync_to_disk(self._file)
        self._texts.clear()
        self._end += len(added)

    def _put(self, text: bytes, at: int) -> None:
        while text:
            written = write_at(self._file, text, at)
            text, at = text[written:], at + written

    def _read(self, target: str, endpoint: str | None) -> int:
        """Read what is there. Returns where its last whole row ends; 0: nothing is there."""
        head, at, end = b"", 0, 0
        with open(self._file, "rb", closefd=False) as file:
            for line in file:
                if end:
                    row = _row(line)
                    if row is None:
                        self._check_rest(line, file)
                        break
                    self._known.add(_object_of(row))
                    self._writer.files += 1
                    self._writer.size += row.size
                    end = at + len(line.rstrip(b",\n"))
                else:
                    head += line
                    end = at + len(_FILES) if line.rstrip() == _FILES else 0
                at += len(line)
        if not end:
            if head:
                raise errors.UsageError(f"{escaped(str(self._path))} is there, and is not a receipt: name another file")
            return 0
        found = _parsed(head + b"]}")
        if not isinstance(found, dict) or (found.get("kind"), found.get("version")) != (KIND, VERSION):
            raise errors.UsageError(f"{escaped(str(self._path))} is there, and is not a receipt: name another file")
        if (found.get("target"), found.get("endpoint")) != (target, endpoint):
            raise errors.UsageError(
                f"{escaped(str(self._path))} is the receipt of {found.get('target')}, and this is {target}: name "
                "another file"
            )
        return end

    def _check_rest(self, line: bytes, file: BinaryIO) -> None:
        """Raise UsageError if rows were lost: a new end, with new sums, would hide that.

        Args:
            line: The first line behind the rows.
            file: Has the lines after it. A crash may have torn the end, or left a longer one behind it.
        """
        if line.startswith(b" ]"):
            end = _parsed(b'{"files": [' + line + b"".join(itertools.islice(file, 3)))
            sums = end.get("sums") if isinstance(end, dict) else None
            why = None if sums is None else _why_not_all(sums, self._writer.files, self._writer.size)
        else:
            why = "a row can't be read" if any(map(_row, file)) else None
        if why is not None:
            raise errors.UsageError(
                f"{escaped(str(self._path))} is a receipt that was damaged: {why}. Move it away, or name another file"
            )


def _row(line: bytes) -> ReceiptFile | None:
    found = _parsed(line.rstrip(b",\n"))
    return found if isinstance(found, ReceiptFile) else None


def _parsed(text: bytes) -> object:
    try:
        return json.loads(text, object_hook=_compact)
    except (ValueError, RecursionError):
        return None


def _is_known(result: UploadResult) -> bool:
    """Whether a file needs no second row: nothing was sent of it now, or a row was written before it was deleted."""
    return result.skipped or result.source_deleted


def _object_of(file: ReceiptFile | UploadResult) -> int:
    return hash((file.bucket, file.key, file.etag, file.size, file.checksum))


def read_receipt(path: Path) -> ReadReceipt:
    """Read a receipt. Blocking.

    Raises:
        UsageError: It is not a receipt, or one of a later version.
        SourceError: It can't be read.
    """
    text = ""
    try:
        with path.open(encoding="utf-8") as file:
            if not (text := file.read(1)).startswith(("{", "[")):  # a device may have no end
                raise ValueError("not JSON")
            text += file.read()
        document: Any = json.loads(text, object_hook=_compact)
    except OSError as e:
        raise errors.SourceUnreadable(f"can't read the receipt {escaped(str(path))}: {reason_of(e)}") from e
    except (ValueError, RecursionError):
        if f'"{KIND}"' in text:
            raise _damaged(path, "it is not JSON to its end, so a part of it may be missing") from None
        raise errors.UsageError(f"{escaped(str(path))} is not a receipt: it is not JSON") from None
    del text  # of a million files, it has a gigabyte
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise errors.UsageError(f"{escaped(str(path))} is not a receipt, as an upload writes one on request")
    version, files = document.get("version"), document.get("files", ())
    if version != VERSION:
        raise errors.UsageError(f"{escaped(str(path))} is a receipt of version {version}, and this reads {VERSION}")
    target, endpoint = document.get("target"), document.get("endpoint")
    is_whole = isinstance(files, list) and all(isinstance(each, ReceiptFile) for each in files)
    if not is_whole or not isinstance(target, str) or not isinstance(endpoint, str | None):
        raise _damaged(path, "a field is missing or wrong")
    if (why := _why_not_all(document.get("sums"), len(files), sum(file.size for file in files))) is not None:
        raise _damaged(path, why)
    latest: dict[tuple[str, str], ReceiptFile] = {}
    for file in files:  # a watch may upload a file several times, and never at the same millisecond
        if latest.get((file.bucket, file.key)) == file:
            raise _damaged(path, f"it has the same row twice, of {one_line(file.key)}")
        latest[file.bucket, file.key] = file
    return ReadReceipt(target=target, endpoint=endpoint, files=[*latest.values()])


def _damaged(path: Path, why: str) -> errors.UsageError:
    return errors.UsageError(f"{escaped(str(path))} is a receipt that was damaged: {why}. Use a copy that is whole")


def _why_not_all(sums: object, files: int, size: int) -> str | None:
    """Compare the rows of a receipt with its sums. Returns what shows that rows were lost or changed; None: nothing."""
    if not isinstance(sums, dict) or not all(_is_count(sums.get(name)) for name in ("files", "size", "failed")):
        return "its sums are missing or wrong"
    if sums["files"] != files:
        return f"it has the rows of {counted(files, 'file')}, and its sums say {sums['files']:,}"
    if sums["size"] != size:
        return f"its files have {size:,} bytes together, and its sums say {sums['size']:,}"
    return None


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
        raise errors.SourceNotFound(f"can't read {shown}: {reason_of(e)}") from e
    if size != file.size:
        raise errors.ObjectMismatch(f"{shown} has {size:,} bytes, and in the receipt {file.size:,}")
    known = _whole_digests(file, shown)
    if not known:
        _require(Verified.SIZE, require_proof, f"the receipt has no checksum of the whole of {shown}")
        return ReceiptVerdict(what=str(path), key=file.key, size=size, checksum=None, verified=Verified.SIZE)
    await read_file(path, {name: hasher for name, (hasher, _) in known.items()}, reading)
    for name, (hasher, digest) in known.items():
        if hasher.digest().hex() != digest:
            raise errors.ObjectMismatch(f"{shown} is another file: its {name.partition(':')[0]} is not the receipt's")
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
                f"{shown} can't be the file: the receipt's checksum {one_line(file.checksum)} is malformed"
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
