"""Whether the parts of an earlier upload can be the base of a new one, by its manifest alone."""

from __future__ import annotations

import pytest

from bigupload.api.copying import NoBase, check_manifest
from bigupload.core.manifest import Manifest
from bigupload.core.part_plan import Limits
from tests.core.samples import header

FEW = Limits(min_part_size=1, max_part_size=100, max_parts=4, default_part_size=10, granule=1)


def test_a_file_that_has_outgrown_the_parts_of_the_last_upload_has_no_base() -> None:
    known = Manifest(header(size=25, part_size=10))
    check_manifest(known, 40, known.header.checksum.algorithm, FEW)
    with pytest.raises(NoBase, match="does not fit into parts of 10 B"):
        check_manifest(known, 41, known.header.checksum.algorithm, FEW)
