"""A real SeaweedFS made to know less than it does, or to lie: the proxy changes what it says."""

from __future__ import annotations

import pytest

from bigupload import PartProof, Verified, errors, events
from bigupload.manifests.journal import read_manifest
from bigupload.testing import faults

from .wire import PARTS, Wire

SILENT, OPAQUE, REFUSES = faults.Standing.SILENT, faults.Standing.OPAQUE_ETAGS, faults.Standing.REFUSES_CHECKSUMS


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("conditions", "verified", "proofs"),
    [
        ({SILENT}, Verified.COMPOSITE_ETAG, {PartProof.ETAG}),
        ({REFUSES}, Verified.COMPOSITE_ETAG, {PartProof.ETAG}),
        ({OPAQUE}, Verified.FULL_OBJECT, {PartProof.CHECKSUM}),
        ({SILENT, OPAQUE}, Verified.SIZE, {PartProof.MD5}),
        ({REFUSES, OPAQUE}, Verified.SIZE, {PartProof.MD5}),
    ],
    ids=lambda value: "+".join(sorted(each.name for each in value)) if isinstance(value, set) else str(value),
)
async def test_a_store_that_knows_less_is_proved_by_what_remains(
    wire: Wire, conditions: set[faults.Standing], verified: Verified, proofs: set[PartProof]
) -> None:
    wire.proxy.standing |= conditions
    result = await wire.upload()
    assert result.verified is verified
    assert {event.proof for event in wire.events if isinstance(event, events.PartUploaded)} == proofs
    assert ("only its size" in wire.warnings()) == (verified is Verified.SIZE)
    assert wire.holds()


async def test_a_wrong_etag_of_a_part_is_mended(wire: Wire) -> None:
    wire.proxy.script("UploadPart", faults.WrongEtag(), part_number=2)
    result = await wire.upload()
    assert result.verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.proxy.count("UploadPart") == PARTS


async def test_another_checksum_of_a_part_is_refused(wire: Wire) -> None:
    wire.proxy.standing.add(faults.Standing.LIES_ABOUT_PARTS)
    with pytest.raises(errors.PartCorrupted, match="checksum mismatch"):
        await wire.upload()
    assert wire.proxy.count("CompleteMultipartUpload") == 0


async def test_another_checksum_of_the_whole_is_refused(wire: Wire) -> None:
    wire.proxy.standing.add(faults.Standing.LIES_ABOUT_WHOLE)
    with pytest.raises(errors.ObjectMismatch) as caught:
        await wire.upload()
    assert caught.value.exit_code == errors.EXIT_FAILED
    assert read_manifest(wire.manifest).manifest.status == "completing"
