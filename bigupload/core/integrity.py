"""The proof in a store's response about a part or an object. Pure.

A response counts for what it contains, never for the name of the store. A missing checksum lowers the level of proof. A
checksum mismatch is an error, never a lower level.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, ChecksumType, Hashed
from bigupload.errors import ObjectMismatch
from bigupload.records import dataclass
from bigupload.units import one_line

NO_ETAG = "A proxy on the way drops the ETag header: let it pass, and run again"
"""The cause of a response without an ETag, and the way out, where the store can't be asked for it."""


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
