"""The manifest: what is known about an upload, folded from a journal of records.

The first record has the source, the target and the options. The later ones record events. The last record of a part
counts. A `restart` voids every part before it. A manifest never holds credentials, API keys or signed URLs. The same
source and target have the same manifest, so that the same command resumes.

Pure: no I/O, no clock. `core/manifest_lines` reads and writes the records as JSON, `manifests/journal` keeps them in a
file.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, Literal, TypeAlias

from bigupload.core import checksums
from bigupload.core.checksums import UPLOAD_ALGORITHMS, Algorithm, ChecksumType, Hashed, KeptDigests
from bigupload.core.integrity import ExpectedObject, ObjectFacts, PartProof, PreviousVersion, Verified, prove_object
from bigupload.core.part_plan import S3_LIMITS, Part, Plan, PlanStep
from bigupload.core.remote_url import is_remote
from bigupload.errors import ObjectMismatch
from bigupload.records import dataclass

VERSION = 2
"""The newest version that this program understands. Version 2 is written for streams of unknown size alone, so that an
earlier program refuses them, and nothing else."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Metadata of a file that changes when it is written, replaced or moved. Size in bytes, times in nanoseconds."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    pin: str | None = None
    """The version of a remote file: its strong ETag. Times and inode are 0 then."""


class SourceKind(enum.StrEnum):
    """The kinds of sources."""

    FILE = "file"
    """A regular file, by its path: its fingerprint shows whether it has changed."""
    OBJECT = "object"
    """Bytes in memory, or a file object: its name does not identify its content, so only checksums do."""
    STREAM = "stream"
    """Bytes that come once, in order."""
    REMOTE = "remote"
    """A file that is read by its URL, in ranges of one version: its pin shows whether it has changed."""


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """The path of the source and its fingerprint."""

    path: str
    """A file's absolute path. A URL without its query. The name of any other source, which is never absolute."""
    size: int
    """0 if nobody knows the size of a stream."""
    mtime_ns: int
    ctime_ns: int
    inode: int
    kind: SourceKind | None = None
    """None: a file."""
    pin: str | None = None
    """See `Fingerprint`."""

    @classmethod
    def of(cls, path: str, fingerprint: Fingerprint, kind: SourceKind) -> SourceIdentity:
        """Make one of a path, a fingerprint and a kind."""
        now = fingerprint
        recorded = None if kind is SourceKind.FILE else kind
        return cls(path, now.size, now.mtime_ns, now.ctime_ns, now.inode, recorded, now.pin)

    @property
    def can_be_opened(self) -> bool:
        """Whether its path is enough to open it again: it is a file or a URL, which has lost its query."""
        return self.kind is None or is_remote(self.path)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint without the path."""
        return Fingerprint(self.size, self.mtime_ns, self.ctime_ns, self.inode, self.pin)


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """The part size in bytes, and the number of parts: for a stream of unknown size, the most that there may be."""

    part_size: int
    parts: int
    steps: tuple[PlanStep, ...] | None = None
    """The steps by which the part size grows, for a stream of unknown size."""

    @classmethod
    def of(cls, plan: Plan) -> PlanRecord:
        """Make one of a plan."""
        return cls(plan.part_size, plan.count, plan.steps or None)


@dataclass(frozen=True, slots=True)
class ChecksumRecord:
    """The algorithm that the parts are hashed with, and the checksum type that was declared to the store.

    The type is None if none was declared: S3 has no header for the algorithm, or the store refused it.
    """

    algorithm: Algorithm
    type: ChecksumType | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The target of an object: an S3 bucket (`bucket`, with `endpoint` and `region` if known), or a media service."""

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
        """The key that the caller chose; empty for a media service, which chooses a new key for every upload."""
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
    """Random text that is also in the object's metadata. It proves that this upload made the object. None if the upload
    was adopted."""
    created_at: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options for connecting, create and complete (profile, storage class, …), as the store's adapter wrote them."""
    version: int = 1
    copies: PreviousVersion | None = None
    """The object that was there before, for parts that are the same in it."""
    source_checksum: str | None = None
    """The checksum of an object that the store copies as a whole, from its store."""
    end_marker: str | None = None  # the marker that must follow a stream's bytes, in base64


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord(KeptDigests):
    """The store has acknowledged a part: its digests, and how its arrival was proved."""

    type: ClassVar = "part"
    number: int
    size: int
    etag: str
    proof: PartProof

    @classmethod
    def of(cls, part: Part, hashed: Hashed, etag: str, proof: PartProof) -> PartRecord:
        """The record of a part that was hashed here."""
        kept = {each.name: getattr(hashed, each.name) for each in dataclasses.fields(KeptDigests)}
        return cls(number=part.number, size=part.size, etag=etag, proof=proof, **kept)


@dataclass(frozen=True, slots=True)
class PartDropped:
    """A recorded part no longer counts."""

    type: ClassVar = "part_dropped"
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The source has a new fingerprint or path, and every recorded part was hashed again since."""

    type: ClassVar = "source"
    source: SourceIdentity


@dataclass(frozen=True, slots=True)
class Restart:
    """The upload has a new upload id. All earlier parts are void."""

    type: ClassVar = "restart"
    upload_id: str
    token: str
    reason: str
    key: str | None = None
    """The object's new key, which a media service chooses. None: the key is as before."""
    sends_all: bool | None = None
    """True: the store can't copy parts, and is not asked to again."""


@dataclass(frozen=True, slots=True)
class CompletingRecord:
    """The complete request is about to be sent. From here on the object may exist."""

    type: ClassVar = "completing"
    checksum: str | None
    size: int | None = None
    """The size in bytes of a stream that had no known one: it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The object exists and was proved at the level `verified`."""

    type: ClassVar = "completed"
    etag: str
    verified: Verified
    checksum: str | None = None
    url: str | None = None
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class Aborted:
    """The user aborted the upload. Its parts are deleted."""

    type: ClassVar = "aborted"


class NewerVersionError(ValueError):
    """A later version of bigupload wrote the header."""


Record: TypeAlias = Header | PartRecord | PartDropped | SourceRecord | Restart | CompletingRecord | Completed | Aborted


class Manifest:
    """The state that a journal's records add up to.

    `apply` accepts every sequence of records that the engine writes.
    """

    def __init__(self, header: Header) -> None:
        """Begin with the first record.

        Raises:
            ValueError: The header is from a newer version, or contradicts itself.
        """
        if header.version > VERSION:
            raise NewerVersionError(f"version {header.version} is newer than this program understands ({VERSION})")
        if header.plan.part_size < 1 or header.source.size < 0:
            raise ValueError("sizes are not negative")
        if header.plan.parts > S3_LIMITS.max_parts:  # every part is visited: a huge number here would fill the memory
            raise ValueError("more parts than an upload can have")
        if not header.upload_id:  # without one, the abort request would delete the object
            raise ValueError("it names no upload id")
        if header.checksum.algorithm not in UPLOAD_ALGORITHMS:
            raise ValueError(f"no upload is made with {header.checksum.algorithm}")
        self.header = header
        self.first_plan = _first_plan(header)
        """Open for a stream of unknown size."""
        self.plan = self.first_plan
        """As the first plan, and no longer open while such a stream's upload completes."""
        self.source = header.source
        self.target = header.target
        self.upload_id = header.upload_id
        self.token = header.token
        self.parts: dict[int, PartRecord] = {}
        self.completing: CompletingRecord | None = None
        self.completed: Completed | None = None
        self.aborted = False
        self.sends_all = False

    @property
    def status(self) -> Literal["uploading", "completing", "completed", "aborted"]:
        """One of `uploading`, `completing`, `completed`, `aborted`."""
        if self.completed:
            return "completed"
        if self.aborted:
            return "aborted"
        return "completing" if self.completing else "uploading"

    @property
    def bytes_uploaded(self) -> int:
        """The bytes in the recorded parts."""
        return sum(part.size for part in self.parts.values())

    def apply(self, record: Record) -> None:
        """Fold in one more record.

        Raises:
            ValueError: The record contradicts the header, such as a part that the plan does not have.
        """
        match record:
            case PartRecord(number=number, size=size):
                self._reopen()  # that a part follows means that the store did not complete
                if not self._may_have(number, size):
                    raise ValueError(f"part {number} does not have {size} bytes in the plan")
                if record.checksum and self.header.checksum.algorithm.is_s3_checksum:
                    checksums.decode(self.header.checksum.algorithm, record.checksum)
                self.parts[number] = record
            case PartDropped(number=number):
                self.parts.pop(number, None)
                self.completing = None  # parts change only while the object does not exist
                self._reopen()
            case SourceRecord(source=source):
                if self.first_plan.size not in (None, source.size):
                    raise ValueError("another size is another file")
                self.source = source
            case Restart(upload_id=upload_id, token=token, key=key, sends_all=sends_all):
                if not upload_id:
                    raise ValueError("it names no upload id")
                self.upload_id, self.token, self.sends_all = upload_id, token, sends_all is True
                if key is not None:
                    self.target = dataclasses.replace(self.target, key=key)
                self.parts.clear()
                self.completing = None
                self._reopen()
            case CompletingRecord(size=size):
                plan = self.first_plan if size is None else self.first_plan.closed(size)
                if plan.size is None or any(not self._has(part) for part in plan):
                    raise ValueError("parts are missing")
                self.plan, self.completing = plan, record
            case Completed():
                self.completed = record
            case Aborted():
                self.aborted = True
            case Header():
                raise ValueError("a second header")

    def _reopen(self) -> None:
        """The end of a stream counts only while the store completes its upload: a replay may be longer."""
        if self.plan.steps and self.plan.size is not None:
            self.plan, self.completing = self.first_plan, None

    def _may_have(self, number: int, size: int) -> bool:
        """Whether a part of the plan may have `size` bytes: in an open plan it may be the last one."""
        planned = self.plan.part(number).size
        return size == planned or (self.plan.size is None and (size > 0 or number == 1) and size < planned)

    def _has(self, part: Part) -> bool:
        found = self.parts.get(part.number)
        return found is not None and found.size == part.size

    def expected_object(self, plan: Plan | None = None) -> ExpectedObject:
        """Compute what the object must be, from the recorded parts. No part may be missing.

        Args:
            plan: The plan, if the manifest's is still open.
        """
        algorithm = self.header.checksum.algorithm
        plan = plan or self.plan
        parts = [self.parts[part.number] for part in plan]
        checksum = None
        if algorithm.is_s3_checksum:
            digests = [(checksums.decode(algorithm, part.checksum), part.size) for part in parts]
            checksum = checksums.combine(algorithm, digests)
        md5s_known = all(part.proof is PartProof.ETAG for part in parts)
        return ExpectedObject(
            size=plan.known_size,
            algorithm=algorithm if algorithm.is_s3_checksum else Algorithm.NONE,
            checksum=checksum,
            part_etags=[part.etag for part in parts] if md5s_known else None,
        )

    def made_object(self, found: ObjectFacts) -> bool:
        """Whether the object that was found is the one that this upload's complete made.

        The token decides. An adopted upload has no token, and some stores keep no metadata: then the content decides,
        or an ETag that is composed of the ETags of these very parts.
        """
        if self.token is not None and found.token is not None:
            return found.token == self.token
        try:
            verified = prove_object(found, self.expected_object())
        except ObjectMismatch:
            return False
        if verified in (None, Verified.SIZE):
            md5s = [checksums.md5_of_etag(self.parts[part.number].etag) for part in self.plan]
            known = [md5 for md5 in md5s if md5 is not None]
            return len(known) == len(md5s) and found.etag == checksums.composite_etag(known)
        return True


def _first_plan(header: Header) -> Plan:
    """The plan that an upload begins with. Raises ValueError if the header contradicts itself."""
    if header.plan.steps is None:
        plan = Plan(header.source.size, header.plan.part_size)
    else:
        if not header.plan.steps or any(step.parts < 1 or step.part_size < 1 for step in header.plan.steps):
            raise ValueError("there are steps, they have parts, and these have bytes")
        plan = Plan(None, header.plan.part_size, header.plan.steps)
    if header.plan.parts != plan.count:
        raise ValueError("the plan does not fit the source's size")
    return plan


def manifest_id(path: str, target: Target) -> str:
    """Compute the manifest's name: the same file and target give the same name, so that the same command resumes.

    Args:
        path: Absolute path of the source.
        target: Where the object goes.
    """
    where = "\0".join([path, target.bucket or "", target.chosen_key, target.endpoint or "", target.service or ""])
    return hashlib.sha256(where.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def belongs_to(header: Header, path: str, target: Target) -> bool:
    """Whether a manifest is for this source path and target."""
    return header.source.path == path and same_target(header.target, target)


def same_target(one: Target, other: Target) -> bool:
    """Whether two targets are the same. The region is not part of a target's identity."""

    def identity(of: Target) -> tuple[str | None, ...]:
        return of.bucket, of.chosen_key, of.endpoint, of.service

    return identity(one) == identity(other)
