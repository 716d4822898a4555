"""The manifest: what is known of an upload, folded from a journal of JSON lines.

One record a line, append-only; `schema/manifest.schema.json` describes them and a test holds the two together. The
first record says what is uploaded where and how, the others what happened since. The last record of a part wins; a
`restart` voids all parts before it. Never in it: credentials, API keys, signed URLs.

Pure: no I/O, no clock. `adapters` write it (journal.py), the engine asks it. Unknown fields and record types are
skipped, so that an older version can read what a newer one wrote.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import io
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import PartProof, Verified
from bigupload.core.part_plan import S3_LIMITS, Plan
from bigupload.errors import ManifestCorrupt

VERSION = 1


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The source's identity: what changes when a file is written, replaced or moved. Sizes in bytes, times in ns."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """Which file, and how it looked."""

    path: str
    """Absolute."""
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: str, fingerprint: Fingerprint) -> SourceIdentity:
        return cls(path, *dataclasses.astuple(fingerprint))

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.size, self.mtime_ns, self.ctime_ns, self.inode)


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """How the file is cut: `part_size` in bytes, and the number of parts that makes."""

    part_size: int
    parts: int


@dataclass(frozen=True, slots=True)
class ChecksumRecord:
    """What the parts are hashed with, and which checksum type was declared to the store: None where none was, be it
    that S3 has no header for the algorithm or that the store refused it."""

    algorithm: Algorithm
    type: ChecksumType | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the object goes: an S3 bucket (`bucket`, with `endpoint` and `region` where set), or a media service."""

    key: str
    bucket: str | None = None
    endpoint: str | None = None
    region: str | None = None
    service: str | None = None

    def __str__(self) -> str:
        if self.bucket is None:
            return f"{self.service}#{self.key}" if self.key else str(self.service)
        return f"s3://{self.bucket}/{self.key}"

    @property
    def chosen_key(self) -> str:
        """The key as far as the caller chose it: a media service chooses another for every upload."""
        return "" if self.service else self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first record."""

    type: ClassVar = "manifest"
    id: str
    source: SourceIdentity
    target: Target
    plan: PlanRecord
    checksum: ChecksumRecord
    upload_id: str
    token: str | None
    """Random, also in the object's metadata: proves that an object came of this upload. None where adopted."""
    created_at: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """What connecting, create and complete need beside (profile, storage class, …), as the store adapter wrote it."""
    version: int = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """The store has acknowledged a part.

    `checksum` is of the header's algorithm, in S3's base64, and empty where that is `none`; `proof` says how the
    arrival was proved.
    """

    type: ClassVar = "part"
    number: int
    size: int
    etag: str
    checksum: str
    proof: PartProof


@dataclass(frozen=True, slots=True)
class PartDropped:
    """A part that was recorded does not count any more."""

    type: ClassVar = "part_dropped"
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The source has a new fingerprint (touched or moved), and what is recorded was hashed again since."""

    type: ClassVar = "source"
    source: SourceIdentity


@dataclass(frozen=True, slots=True)
class Restart:
    """A new upload id; the parts before are void."""

    type: ClassVar = "restart"
    upload_id: str
    token: str
    reason: str
    key: str | None = None
    """The object's from now on: a media service chooses one anew. None: as before."""


@dataclass(frozen=True, slots=True)
class CompletingRecord:
    """The complete request is about to go out: from here on the object may exist."""

    type: ClassVar = "completing"
    checksum: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The object was proved as far as `verified` says."""

    type: ClassVar = "completed"
    etag: str
    verified: Verified
    checksum: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Aborted:
    """The user gave the upload up; its parts are gone."""

    type: ClassVar = "aborted"


Record: TypeAlias = Header | PartRecord | PartDropped | SourceRecord | Restart | CompletingRecord | Completed | Aborted
_TYPES: dict[str, type[Any]] = {cls.type: cls for cls in typing.get_args(Record)}
_HINTS: dict[type[Any], dict[str, Any]] = {}
"""Compiled from text, which takes longer than all the rest of a record: once a class."""


def encode(record: Record) -> bytes:
    """A record as one line, newline included."""
    text = json.dumps({"type": record.type} | _fields(record), ensure_ascii=False, separators=(",", ":"))
    # A file name that is no UTF-8 is a str with lone surrogates; what backslashreplace makes of them is JSON's escape.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _fields(record: Any) -> dict[str, Any]:
    """What is known. `dataclasses.asdict` copies every value deeply, which takes longer than all the rest."""
    found = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return {n: _fields(v) if dataclasses.is_dataclass(v) else v for n, v in found.items() if v is not None}


def decode(line: bytes) -> Record | None:
    """The record of one line; None for a type this version does not know. Raises ValueError for anything else."""
    fields = json.loads(line)
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise ValueError("a record is an object with a type")
    cls = _TYPES.get(fields["type"])
    record: Record | None = None if cls is None else _build(cls, fields)
    return record


def _build(cls: type[Any], fields: Mapping[str, Any]) -> Any:
    """A dataclass from JSON, its fields checked against their annotations."""
    hints = _HINTS.get(cls) or _HINTS.setdefault(cls, typing.get_type_hints(cls))
    given = {}
    for f in dataclasses.fields(cls):
        if f.name in fields:
            given[f.name] = _convert(hints[f.name], fields[f.name], f.name)
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            if not _is_optional(hints[f.name]):
                raise ValueError(f"{cls.__name__} lacks {f.name}")
            given[f.name] = None
    return cls(**given)


def _is_optional(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) and types.NoneType in typing.get_args(hint)


def _convert(hint: Any, value: Any, name: str) -> Any:
    if _is_optional(hint):
        if value is None:
            return None
        hint = next(t for t in typing.get_args(hint) if t is not types.NoneType)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(typing.cast("type[Any]", hint), value)
    if isinstance(hint, type) and issubclass(hint, enum.StrEnum):
        return hint(value)
    expected = dict if typing.get_origin(hint) is not None else hint
    if not isinstance(value, expected) or isinstance(value, bool):
        raise ValueError(f"{name} is not a {expected.__name__}")
    if isinstance(value, str) and name != "path":  # goes out as UTF-8; a path may be bytes that are none
        value.encode()
    return value


class Manifest:
    """The fold of a journal: its header as later records amend it, the parts that count, and how far it came.

    `apply` folds in one more record; it accepts every sequence that the engine writes and raises ValueError for a
    record that contradicts the header (a part that the plan has not).
    """

    def __init__(self, header: Header) -> None:
        if header.version > VERSION:
            raise ValueError(f"version {header.version} is newer than this program understands ({VERSION})")
        if header.plan.part_size < 1 or header.source.size < 0:
            raise ValueError("sizes are not negative")
        if header.plan.parts > S3_LIMITS.max_parts:  # each is looked at: a few digits here would fill the memory
            raise ValueError("more parts than any upload has")
        if not header.upload_id:  # in a URL, DELETE without one would be the object's
            raise ValueError("an upload has an id")
        self.header = header
        self.plan = Plan(header.source.size, header.plan.part_size)
        if header.plan.parts != self.plan.count:
            raise ValueError("the plan does not fit the file's size")
        self.source = header.source
        self.target = header.target
        self.upload_id = header.upload_id
        self.token = header.token
        self.parts: dict[int, PartRecord] = {}
        self.completing: CompletingRecord | None = None
        self.completed: Completed | None = None
        self.aborted = False

    @property
    def status(self) -> str:
        """`uploading`, `completing`, `completed` or `aborted`."""
        if self.completed:
            return "completed"
        if self.aborted:
            return "aborted"
        return "completing" if self.completing else "uploading"

    @property
    def bytes_uploaded(self) -> int:
        """Bytes in the parts that count."""
        return sum(part.size for part in self.parts.values())

    def apply(self, record: Record) -> None:
        match record:
            case PartRecord(number=number, size=size):
                if size != self.plan.part(number).size:
                    raise ValueError(f"part {number} has {size} bytes, which the plan has not")
                if record.checksum and self.header.checksum.algorithm.is_s3_checksum:
                    checksums.decode(self.header.checksum.algorithm, record.checksum)
                self.parts[number] = record
            case PartDropped(number=number):
                self.parts.pop(number, None)
                self.completing = None  # parts change only while the object does not exist
            case SourceRecord(source=source):
                if source.size != self.plan.size:
                    raise ValueError("another size is another file")
                self.source = source
            case Restart(upload_id=upload_id, token=token, key=key):
                if not upload_id:
                    raise ValueError("an upload has an id")
                self.upload_id, self.token = upload_id, token
                if key is not None:
                    self.target = dataclasses.replace(self.target, key=key)
                self.parts.clear()
                self.completing = None
            case CompletingRecord():
                if len(self.parts) < self.plan.count:
                    raise ValueError("parts are missing")
                self.completing = record
            case Completed():
                self.completed = record
            case Aborted():
                self.aborted = True
            case Header():
                raise ValueError("a second header")


@dataclass(frozen=True, slots=True)
class Replay:
    """What a journal's bytes say: the fold of its good lines, how many bytes those are, and what was wrong then."""

    manifest: Manifest
    good_bytes: int
    damage: str | None


def replay(data: bytes) -> Replay:
    """Fold a journal. Raises ManifestCorrupt where not even the first line can be read.

    From any later bad line on (a torn write, a tail of NULs after power loss) nothing counts: the store is the truth,
    and what was lost here is found there.
    """
    lines = list(io.BytesIO(data))  # on \n alone, where splitlines would also cut at \r
    manifest = _first(lines[:1])
    good = len(lines[0])
    for number, line in enumerate(lines[1:], 2):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("torn")
            record = decode(line)
            if record is not None:
                manifest.apply(record)
        except (ValueError, RecursionError) as e:
            return Replay(manifest, good, f"line {number} can't be read ({type(e).__name__})")
        good += len(line)
    return Replay(manifest, good, None)


def _first(lines: Iterable[bytes]) -> Manifest:
    try:
        (line,) = lines
        header = decode(line) if line.endswith(b"\n") else None
        if isinstance(header, Header):
            return Manifest(header)
        reason = "its first line is not a manifest's"
    except (ValueError, RecursionError) as e:
        reason = f"its first line can't be read: {e}" if "version" in str(e) else "its first line can't be read"
    raise ManifestCorrupt(f"{reason}; nothing was changed. Name another --manifest, or move this file away")


def manifest_id(path: str, target: Target) -> str:
    """The same file to the same target has the same manifest, so that the same command goes on."""
    where = "\0".join([path, target.bucket or "", target.chosen_key, target.endpoint or "", target.service or ""])
    return hashlib.sha256(where.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def belongs_to(header: Header, path: str, target: Target) -> bool:
    """Whether a manifest is the one of this file and target; the region is no part of the identity."""
    theirs = header.target
    return header.source.path == path and (theirs.bucket, theirs.chosen_key, theirs.endpoint, theirs.service) == (
        target.bucket,
        target.chosen_key,
        target.endpoint,
        target.service,
    )
