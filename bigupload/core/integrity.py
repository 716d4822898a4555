"""What a store's answer proves. Pure.

An answer is believed for what it shows, never for the name of the store. Silence lowers the level of proof; a
contradiction is a failure, never a lower level.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.errors import ObjectMismatch


class PartProof(enum.StrEnum):
    """How one part was proved to have arrived as it was sent."""

    CHECKSUM = "checksum"
    """The store echoed the checksum that was sent."""
    ETAG = "etag"
    """The part's ETag is its MD5."""
    MD5 = "md5"
    """The store accepted Content-MD5, and was seen to refuse a wrong one."""
    NONE = "none"
    """Nothing; only where the user asked for no checksum."""


class Verified(enum.StrEnum):
    """How the object was proved to be the file, the strongest first."""

    FULL_OBJECT = "full-object"
    """The store's checksum over the whole object is the file's."""
    COMPOSITE_CHECKSUM = "composite-checksum"
    """The store's hash of the parts' hashes is the file's."""
    COMPOSITE_ETAG = "composite-etag"
    """The same by MD5: the ETag, where every part's ETag was an MD5 computed here."""
    SIZE = "size"
    """Only the size; every part was proved as far as its record says."""

    def satisfies(self, required: Verified) -> bool:
        """Whether this level is at least the required one."""
        order = list(Verified)
        return order.index(self) <= order.index(required)


class EchoDiffers(Exception):
    """The store echoed another checksum than was sent: the part did not arrive as sent."""


def prove_part(
    *, algorithm: Algorithm, sent: str, echoed: str | None, etag: str, md5: bytes | None, md5_enforced: bool
) -> PartProof | None:
    """What the answer to a part's PUT proves, or None where it proves nothing (yet).

    `sent` and `echoed` are checksums of `algorithm`; `md5` is the part's MD5 where it was computed; `md5_enforced`
    says that the request carried it as Content-MD5 and that this store is known to refuse a wrong one.
    Raises EchoDiffers.
    """
    if echoed is not None and algorithm.is_s3_checksum:
        if echoed != sent:
            raise EchoDiffers(f"the store echoed {algorithm} {echoed}, {sent} was sent")
        return PartProof.CHECKSUM
    if md5 is not None and checksums.md5_of_etag(etag) == md5:
        return PartProof.ETAG
    if md5 is not None and md5_enforced:
        return PartProof.MD5
    return PartProof.NONE if algorithm is Algorithm.NONE else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFacts:
    """What a store says of an object, in its answer to complete or to HEAD. None: it did not say."""

    etag: str
    size: int | None = None
    """Bytes."""
    algorithm: Algorithm | None = None
    checksum: str | None = None
    """Of `algorithm`, as S3 writes it."""
    checksum_type: ChecksumType | None = None
    token: str | None = None
    """bigupload's token in the object's metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedObject:
    """What the object must be: computed from the file, and from the parts that were proved."""

    size: int
    algorithm: Algorithm
    checksum: str | None
    """The object's checksum of `algorithm`, as S3 writes it; None where the algorithm is none of S3's."""
    part_etags: Sequence[str] | None
    """The parts' ETags in order, where every one was seen to be the MD5 computed here."""


def prove_object(found: ObjectFacts, expected: ExpectedObject) -> Verified | None:
    """The level of proof that an answer gives, or None where it gives none (then ask again with HEAD).

    Raises ObjectMismatch where it contradicts the file. A CRC that the store makes composite does not contradict a
    full-object one: it is another number. An ETag is opaque by definition, so that only its agreement means anything.
    """
    if found.size is not None and found.size != expected.size:
        raise ObjectMismatch(f"the object has {found.size:,} bytes, the file {expected.size:,}")
    if found.checksum is not None and expected.checksum is not None and found.algorithm is expected.algorithm:
        composite = "-" in found.checksum or found.checksum_type is ChecksumType.COMPOSITE
        if composite == (expected.algorithm.type is ChecksumType.COMPOSITE):
            if not _same_checksum(found.checksum, expected.checksum):
                raise ObjectMismatch(
                    f"the store holds {expected.algorithm} {found.checksum}, the file has {expected.checksum}"
                )
            return Verified.COMPOSITE_CHECKSUM if composite else Verified.FULL_OBJECT
    if expected.part_etags is not None:
        md5s = [md5 for etag in expected.part_etags if (md5 := checksums.md5_of_etag(etag)) is not None]
        whole = [checksums.etag_of_md5(md5) for md5 in md5s[:1] if len(md5s) == 1]  # one PUT: no part, no "-1"
        if found.etag in (checksums.composite_etag(md5s), *whole):
            return Verified.COMPOSITE_ETAG
    return Verified.SIZE if found.size is not None else None


def _same_checksum(found: str, expected: str) -> bool:
    """Some answers leave the "-N" of a composite out."""
    return found == expected or ("-" not in found and found == expected.partition("-")[0] != expected)


def refused_checksum(algorithm: Algorithm) -> ObjectMismatch:
    """The error for a store that confirmed the checksum of every part and refuses the one that follows for the object.

    Such a store computes the object's checksum wrongly, for example a composite where the full object's is due.
    """
    other = Algorithm.MD5 if algorithm is Algorithm.SHA256 else Algorithm.SHA256
    return ObjectMismatch(
        f"the store refuses the object's {algorithm} although it confirmed every part and the file has not changed: it "
        f"computes that checksum wrongly. Upload the file again with --no-resume --checksum {other}"
    )
