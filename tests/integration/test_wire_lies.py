"""A real SeaweedFS made to know less than it does, or to lie: the proxy changes what it says."""

from __future__ import annotations

import pytest

from bigupload import PartProof, Verified, events
from bigupload.testing import faults

from .wire import Wire

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
