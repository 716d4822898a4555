"""Fifty seeded schedules of faults, the same every time: proved within five resumes, or refused where the store lies.

`python -m benchmarks soak` has a thousand of them.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bigupload.core.part_plan import MIB
from bigupload.stores.local_store import LocalStore
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.schedule_runs import Behind, ScheduledUpload
from tests.tools.schedules import make_schedule
from tests.tools.weed import weed_client

from .support import BUCKET, KIB, PART, sha256, write

pytestmark = pytest.mark.slow

SMALL = 40 * PART + 1000
"""Against the fake, whose limits are shrunk; SeaweedFS holds to S3's own."""
REAL = 16 * MIB + 1000


@pytest.mark.parametrize("seed", range(40))
async def test_small_parts(seed: int, tmp_path: Path, small_limits: None) -> None:
    path = write(tmp_path / "file.bin", SMALL, seed)
    with StrictS3(min_part_size=KIB) as s3:
        s3.create_bucket(BUCKET)
        behind = Behind(s3.port, s3.access_key, s3.secret_key, s3.region, BUCKET, s3.client)
        schedule = make_schedule(seed, size=SMALL, part_size=PART, silent_md5=False)
        outcome = await ScheduledUpload(schedule, behind, path, sha256(path), tmp_path).run()
    assert outcome.wrong is None, schedule


@pytest.mark.parametrize("seed", range(40, 50))
async def test_real_limits(seed: int, tmp_path: Path, weed: LocalStore) -> None:
    path = write(tmp_path / "file.bin", REAL, seed)
    port = urlsplit(weed.endpoint_url).port or 0
    behind = Behind(port, weed.access_key, weed.secret_key, weed.region, BUCKET, lambda: weed_client(weed))
    schedule = make_schedule(seed, size=REAL, part_size=5 * MIB, silent_md5=True)
    outcome = await ScheduledUpload(schedule, behind, path, sha256(path), tmp_path).run()
    assert outcome.wrong is None, schedule
