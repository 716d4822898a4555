"""What object an upload's parts make, and whether one that is found is that object. Pure."""

from __future__ import annotations

from bigupload.core import checksums
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import Expected, ObjectFacts, PartProof, Verified, prove_object
from bigupload.core.manifest import Manifest
from bigupload.errors import ObjectMismatch


def expected_object(manifest: Manifest) -> Expected:
    """What the object must be, from the parts as they are recorded. None may be missing."""
    algorithm = manifest.header.checksum.algorithm
    parts = [manifest.parts[part.number] for part in manifest.plan]
    checksum = None
    if algorithm.is_s3_checksum:
        digests = [(checksums.decode(algorithm, part.checksum), part.size) for part in parts]
        checksum = checksums.combine(algorithm, digests)
    md5s_known = all(part.proof is PartProof.ETAG for part in parts)
    return Expected(
        size=manifest.plan.size,
        algorithm=algorithm if algorithm.is_s3_checksum else Algorithm.NONE,
        checksum=checksum,
        part_etags=[part.etag for part in parts] if md5s_known else None,
    )


def is_outcome(manifest: Manifest, facts: ObjectFacts) -> bool:
    """By the token; where the upload was adopted there is none, and a proof of the content must do."""
    if manifest.token is not None:
        return facts.token == manifest.token
    try:
        return prove_object(facts, expected_object(manifest)) not in (None, Verified.SIZE)
    except ObjectMismatch:
        return False
