"""Whether the local store deletes old files by its lifecycle rule: no. It keeps the rule, and nobody acts on it.

SeaweedFS leaves acting to workers under `weed admin`, which `weed server` does not start; nor does it stamp a time to
live on what is written. Hence the sweep. Should a version to come act by itself, this says so.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bigupload.service.uploads.bucket_rules import set_up
from bigupload.service.uploads.sweep import Sweep, SweepReport
from bigupload.stores.local_store import LocalStore
from tests.tools.buckets import Meddled, fresh_name, options_for
from tests.tools.media import sample
from tests.tools.weed_shell import backdate, entry, run_lifecycle, shell

OLD, YOUNG = f"media/owner/{0:032x}.jpg", f"media/owner/{1:032x}.jpg"


@pytest.fixture
async def bucket(weed: LocalStore, tmp_path: Path) -> AsyncIterator[Meddled]:
    """With its rules, a new object, and one that was written 8 days ago."""
    found = Meddled(fresh_name(weed), options_for(weed))
    assert await set_up(found) == []
    for key in (OLD, YOUNG):
        await found.call("", "PutObject", Key=key, Body=sample("jpg"), headers={"content-type": "image/jpeg"})
    written: datetime = (await found.call("", "HeadObject", Key=OLD))["LastModified"]
    backdate(weed, found.name, "media/owner", OLD, timedelta(days=8), int(written.timestamp()), tmp_path)
    yield found
    await found.aclose()


async def keys(bucket: Meddled) -> list[str]:
    return [row["Key"] for row in (await bucket.call("", "ListObjectsV2")).get("Contents", ())]


@pytest.mark.slow
async def test_the_rule_is_kept_and_not_acted_on(bucket: Meddled, weed: LocalStore) -> None:
    looked = await bucket.call("", "GetObject", Key=OLD, first=10_000)
    assert datetime.now(UTC) - looked["LastModified"] > timedelta(days=7, hours=23)
    assert looked["Body"] == sample("jpg")
    assert await keys(bucket) == [OLD, YOUNG]
    for key in (OLD, YOUNG):
        assert re.search(r'"ttlSec":\s*0\b', entry(weed, bucket.name, key)), "a time to live: it does act, then"
    assert "worker" not in shell(weed, "cluster.ps").lower()
    # The rule itself is right: whoever runs what a worker would run, sees the old one go.
    run_lifecycle(weed)
    assert await keys(bucket) == [YOUNG]


@pytest.mark.slow
async def test_the_sweep_acts_instead(bucket: Meddled) -> None:
    """By the real clock."""
    report = await Sweep(bucket, now=lambda: datetime.now(UTC)).run()
    assert report == SweepReport(looked_at=2, expired=1, bytes_freed=len(sample("jpg")))
    assert await keys(bucket) == [YOUNG]
