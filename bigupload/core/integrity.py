"""The proof in a store's response about a part or an object. Pure.

A response counts for what it contains, never for the name of the store. A missing checksum lowers the level of proof. A
checksum mismatch is an error, never a lower level.

Of an object that any tool uploaded, a response has claims, and the part sizes that may have made it are tried. Each S3
checksum can be of the whole object or of its parts.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html

And objects that the store may copy parts from, so that their bytes need not be sent.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, ChecksumType, Hashed
from bigupload.core.part_plan import MIB, Part
from bigupload.errors import ObjectMismatch
from bigupload.records import dataclass
from bigupload.units import one_line

NO_ETAG = "A proxy on the way drops the ETag header: let it pass, and run again"
"""The cause of a response without an ETag, and the way out, where the store can't be asked for it."""

LOOKS_INSTEAD = (
    "bigupload looks whether the object exists right before it is made, instead of sending If-None-Match. Of two "
    "uploads at the same moment, the later one replaces the object"
)
"""The meaning of `if_none_match` where the store does not know the condition."""
ONLY_CONDITION = (
    "these credentials may not look whether the object exists: only the store protects one that does, and a store that "
    "ignores If-None-Match replaces it. To let bigupload look, allow s3:GetObject and s3:ListBucket"
)
"""A warning: no response shows that a store ignores the condition."""
MAY_NOT_LOOK = (
    "the store does not know `if_none_match`, and these credentials may not look whether the object exists: allow "
    "s3:GetObject and s3:ListBucket, or leave out `if_none_match`"
)


class PartProof(enum.StrEnum):
    """The proof that the store received a part as it was sent."""

    CHECKSUM = "checksum"
    """The response has the checksum that was sent. Of a part that the store copied from the source, it has the copy's
    checksum, and all of them must add up to the source's before complete."""
    ETAG = "etag"
    """The part's ETag is its MD5."""
    MD5 = "md5"
    """The store accepted Content-MD5, and has refused a wrong one before."""
    NONE = "none"
    """Nothing. Only if the user chose `--checksum none`."""


class Verified(enum.StrEnum):
    """The proofs that the object is the file, the strongest first."""

    FULL_OBJECT = "full-object"
    """The store's checksum of the whole object equals the file's."""
    COMPOSITE_CHECKSUM = "composite-checksum"
    """The store's composite checksum (a hash of the parts' hashes) equals the file's."""
    COMPOSITE_ETAG = "composite-etag"
    """The object's ETag is composed of the parts' MD5s, all of them computed here."""
    SIZE = "size"
    """Only the size is equal. Every part was proved, by the proof of its record in the manifest."""

    def satisfies(self, required: Verified) -> bool:
        """Whether this level is as strong as `required` or stronger."""
        return _RANKS[self] <= _RANKS[required]


_RANKS = {level: rank for rank, level in enumerate(Verified)}


class ChecksumMismatch(Exception):
    """The response has another checksum than was sent: the store received other bytes."""


def prove_part(
    algorithm: Algorithm, sent: Hashed, *, echoed: Mapping[str, str], etag: str, md5_enforced: bool = False
) -> PartProof | None:
    """Return the proof in the response to a part's PUT.

    Args:
        algorithm: The upload's checksum algorithm.
        sent: The checksum that was sent, and the part's MD5 if it was computed.
        echoed: The checksums in the response, by the headers of their algorithms.
        etag: The ETag in the response.
        md5_enforced: Whether the request had a Content-MD5, and the store is known to refuse a wrong one.

    Returns:
        The proof, or None if the response proves nothing.

    Raises:
        ChecksumMismatch: The response has another checksum than was sent.
    """
    found = echoed.get(algorithm.header)
    if found is not None and algorithm.is_s3_checksum:
        if found != sent.checksum:
            raise ChecksumMismatch(f"checksum mismatch: the store has {algorithm} {found}, {sent.checksum} was sent")
        return PartProof.CHECKSUM
    if sent.md5 is not None and checksums.md5_of_etag(etag) == sent.md5:
        return PartProof.ETAG
    if sent.md5 is not None and md5_enforced:
        return PartProof.MD5
    return PartProof.NONE if algorithm is Algorithm.NONE else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFacts:
    """An object's facts from a response to complete or HEAD. None: not in the response."""

    etag: str
    size: int | None = None
    """Bytes."""
    algorithm: Algorithm | None = None
    checksum: str | None = None
    """The checksum of `algorithm`, as S3 writes it."""
    checksum_type: ChecksumType | None = None
    token: str | None = None
    """The upload's token, from the object's metadata."""
    version_id: str | None = None
    """The object's version, if the bucket keeps versions."""
    lacks: tuple[str, ...] = ()
    """Warnings: a header that the store refused in the request that made the object, and what that means."""
    checksums: Mapping[str, str] | None = None
    """All checksums in the response, by S3's names (CRC64NVME, SHA256, …)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedObject:
    """The expected object, computed from the file and from the parts that were proved."""

    size: int
    algorithm: Algorithm
    checksum: str | None
    """The object's checksum of `algorithm`, as S3 writes it; None if the algorithm is not one of S3's."""
    part_etags: Sequence[str] | None
    """The parts' ETags in order, if every ETag was the MD5 computed here; else None."""


def prove_object(found: ObjectFacts, expected: ExpectedObject) -> Verified | None:
    """Return the level at which a response proves the object.

    A composite CRC does not contradict a full-object CRC: it is another number. An ETag is opaque by definition, so an
    ETag that differs means nothing.

    Returns:
        The level, or None if the response proves nothing, not even the size.

    Raises:
        ObjectMismatch: The response contradicts the file.
    """
    if found.size is not None and found.size != expected.size:
        raise ObjectMismatch(f"the object has {found.size:,} bytes, the file {expected.size:,}")
    if found.checksum is not None and expected.checksum is not None and found.algorithm is expected.algorithm:
        composite = "-" in found.checksum or found.checksum_type is ChecksumType.COMPOSITE
        if composite == (expected.algorithm.type is ChecksumType.COMPOSITE):
            if not _same_checksum(found.checksum, expected.checksum):
                raise ObjectMismatch(
                    f"the store has {expected.algorithm} {one_line(found.checksum)} of the object, the file has "
                    f"{expected.checksum}: upload the file again with `resume=False`, and if that fails too, the store "
                    f"computes {expected.algorithm} wrongly: add `checksum='{_other(expected.algorithm)}'`"
                )
            return Verified.COMPOSITE_CHECKSUM if composite else Verified.FULL_OBJECT
    if expected.part_etags is not None:
        md5s = [md5 for etag in expected.part_etags if (md5 := checksums.md5_of_etag(etag)) is not None]
        whole = [checksums.etag_of_md5(md5) for md5 in md5s[:1] if len(md5s) == 1]  # a single part's own ETag
        if found.etag in (checksums.composite_etag(md5s), *whole):
            return Verified.COMPOSITE_ETAG
    return Verified.SIZE if found.size is not None else None


def replaced_by(
    found: ObjectFacts | ObjectAttributes,
    *,
    size: int,
    etag: str,
    checksum: str | None,
    version_id: str | None,
    sha256: str | None = None,
) -> str | None:
    """Return what shows that an object is not the one that was proved; None: nothing does.

    Not every store's ETag depends on the content, so each fact that is known of both is compared.

    Args:
        found: The object, by HEAD.
        size: Bytes of the proved object.
        etag: Its ETag.
        checksum: Its checksum, "<algorithm>:<as S3 writes it>", as the store had it; None: the store had none.
        version_id: Its version; None: unknown.
        sha256: The file's SHA-256 in hexadecimal; None: unknown.
    """
    if found.size not in (None, size):
        return f"it has {found.size:,} bytes and had {size:,}"
    if checksum is not None and found.checksums:
        algorithm, _, value = checksum.partition(":")
        now = found.checksums.get(algorithm.upper())
        if now is None:  # another writer's, by its own algorithm
            return f"it has a checksum by {one_line(min(found.checksums))}, and had one by {one_line(algorithm)}"
        if not _same_checksum(now, value) and not _same_checksum(value, now):
            return f"its {algorithm} is {one_line(now)} and was {one_line(value)}"
    # Of an object of parts, a SHA-256 without a type may be a composite that lacks its "-N".
    if sha256 is not None and (found.checksum_type == ChecksumType.FULL_OBJECT or "-" not in found.etag):
        for claim in claims_of(found):
            if (claim.algorithm, claim.parts) == (Algorithm.SHA256, None) and claim.digest.hex() != sha256:
                return f"its sha256 is {claim.digest.hex()} and was {one_line(sha256)}"
    if found.etag.strip('"') != etag.strip('"'):
        return "it has another ETag"
    if None not in (version_id, found.version_id) and found.version_id != version_id:
        return "it is another version"
    return None


def _same_checksum(found: str, expected: str) -> bool:
    """Some responses omit the "-N" of a composite."""
    return found == expected or ("-" not in found and found == expected.partition("-")[0] != expected)


def refused_checksum(algorithm: Algorithm) -> ObjectMismatch:
    """Make the error for a store that confirmed every part's checksum and refuses the object's.

    Such a store computes the object's checksum wrongly, for example a composite where the full object's is due.
    """
    return ObjectMismatch(
        f"the store refuses the object's {algorithm} although it confirmed every part and the file has not changed: it "
        "computes that checksum wrongly. Upload the file again with `resume=False` and "
        f"`checksum='{_other(algorithm)}'`"
    )


def _other(algorithm: Algorithm) -> Algorithm:
    """Return the replacement of an algorithm that a store computes wrongly."""
    return Algorithm.MD5 if algorithm is Algorithm.SHA256 else Algorithm.SHA256


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySource:
    """An object of the store that an upload goes to, as it was when somebody looked. Holds nothing secret."""

    bucket: str
    key: str
    etag: str
    """With quotes. A copy is refused if the object has another one."""
    size: int
    """Bytes."""
    version_id: str | None = None
    """Copy this version, whatever the newest one is. None: the bucket keeps no versions."""
    owner: str | None = None
    """The AWS account that must own the bucket."""
    customer_key: bool = False
    """Whether it is encrypted with the customer key (SSE-C) of the upload that copies it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOrigin:
    """An object that is uploaded by copying all of it, so that its bytes need not even be read here."""

    source: CopySource
    algorithm: Algorithm
    checksum: str
    """The whole object's checksum, from its store: the checksums of the copied parts must add up to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviousVersion:
    """An object and the checksums of its parts, so that the parts of a new upload that are the same can be copied."""

    source: CopySource
    part_size: int
    """Bytes of every part but the last."""
    checksums: tuple[str, ...]
    """The parts' checksums, in order, as S3 writes them, by the algorithm of the upload that copies."""

    def has(self, part: Part, checksum: str) -> bool:
        """Whether the object has these bytes in the range of `part`."""
        number, misplaced = divmod(part.offset, self.part_size)
        if misplaced or not part.size or number >= len(self.checksums):
            return False
        size = min(self.part_size, self.source.size - part.offset)
        return part.size == size and self.checksums[number] == checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectAttributes:
    """A store's response to HEAD, as far as it is about the object's bytes."""

    etag: str
    size: int
    """Bytes."""
    checksums: Mapping[str, str]
    """As S3 writes them, by S3's names (CRC64NVME, SHA256, …)."""
    checksum_type: str | None
    modified: str
    """ISO 8601, by the store's clock; empty if the store does not report it."""
    version_id: str | None = None
    """The object's version, if the bucket keeps versions."""


@dataclass(frozen=True, slots=True)
class ObjectClaim:
    """The store's claim that the object has this `digest`: of its bytes, or of the digests of its `parts`."""

    algorithm: Algorithm
    digest: bytes
    parts: int | None
    """None: the digest is of the whole object. 0: it is of parts, and the store does not report their number."""
    is_etag: bool = False
    """An ETag is opaque by definition, so an ETag that differs contradicts nothing."""

    @property
    def level(self) -> Verified:
        """The level of proof if the file has the same digest."""
        if self.is_etag:
            return Verified.COMPOSITE_ETAG
        return Verified.FULL_OBJECT if self.parts is None else Verified.COMPOSITE_CHECKSUM

    @property
    def value(self) -> str:
        """The checksum as S3 writes it, with the number of parts if it is composite."""
        return checksums.encode(self.digest) + ("" if self.parts is None else f"-{self.parts}")

    def __str__(self) -> str:
        return f"{self.algorithm} {self.value}"


def claims_of(attributes: ObjectAttributes | ObjectFacts) -> list[ObjectClaim]:
    """List the claims in `attributes`, the strongest first. A checksum that is malformed is not a claim."""
    etag, _, count = attributes.etag.strip('"').partition("-")
    in_etag = int(count) if count.isascii() and count.isdigit() and len(count) <= 5 else None
    found = []
    for algorithm in Algorithm:
        if not algorithm.is_s3_checksum:
            continue
        text, dash, number = (attributes.checksums or {}).get(algorithm.s3_name, "").partition("-")
        try:
            digest = checksums.decode(algorithm, text)
        except ValueError:
            continue
        parts: int | None = None
        if dash or attributes.checksum_type == "COMPOSITE":  # some responses omit the "-N"
            parts = int(number) if number.isascii() and number.isdigit() and len(number) <= 5 else in_etag or 0
        found.append(ObjectClaim(algorithm, digest, parts))
    found.sort(key=lambda claim: claim.parts is not None)
    if (md5 := checksums.md5_of_etag(etag)) is not None and (in_etag or not count):
        found.append(ObjectClaim(Algorithm.MD5, md5, in_etag, is_etag=True))
    return found


_COMMON_PART_SIZES = [n * MIB for n in (8, 16, 5, 64, 10, 15, 32, 50, 100, 128, 256, 512, 1024)] + [
    n * 1_000_000 for n in (5, 8, 10, 16, 20, 25, 50, 64, 100)
]
"""The default part sizes of common tools, in bytes."""
MOST_GUESSES = 32
"""Each guess costs a hash of the file. Many parts leave few sizes: N parts of S bytes leave S / N / (N - 1) bytes."""


def plausible_part_sizes(size: int, parts: int) -> list[int]:
    """List the part sizes that cut `size` bytes into `parts` equal parts (the last one smaller), the likeliest first.

    Args:
        size: The object's size in bytes.
        parts: The number of parts.

    Returns:
        At most `MOST_GUESSES` sizes in bytes: those that common tools use, then whole MiB, then the least possible.
    """
    if parts <= 1:
        return [max(1, size)] if parts == 1 else []
    least, most = -(-size // parts), (size - 1) // (parts - 1)
    whole = range(max(1, -(-least // MIB)) * MIB, most + 1, MIB)
    likely = [*(n for n in _COMMON_PART_SIZES if least <= n <= most), *whole[: MOST_GUESSES + len(_COMMON_PART_SIZES)]]
    if least <= most:
        likely.append(least)
    return list(dict.fromkeys(likely))[:MOST_GUESSES]
