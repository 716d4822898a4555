"""Orphaned uploads in a real store, and uploads that a manifest owns, in every state."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigupload import errors
from bigupload.core.manifest_lines import replay
from bigupload.core.part_plan import MIB
from bigupload.stores.local_store import LocalStore
from bigupload.verification.orphans import Orphan, OrphanSearch, Owners, owned_by
from tests.core.samples import journals, lines
from tests.tools.buckets import options_for
from tests.tools.weed import weed_client

from .support import BUCKET, World


async def collect(weed: LocalStore, owners: Owners, prefix: str, *, older_than: float = 0) -> list[Orphan]:
    found: list[Orphan] = []
    search = OrphanSearch(
        owners, older_than=older_than, dry_run=False, on_orphan=found.append, on_failure=lambda _, e: raise_(e)
    )
    await search.run(f"s3://{BUCKET}/{prefix}", options_for(weed))
    return found


def raise_(e: Exception) -> None:
    raise e


async def test_on_seaweedfs(weed: LocalStore, tmp_path: Path) -> None:
    world = World(None, tmp_path)
    state = tmp_path / "state"
    state.mkdir()
    own = state / "own.manifest.jsonl"
    await world.interrupted(
        world.file(12 * MIB),
        after=1,
        part_size=5 * MIB,
        manifest=own,
        to=f"s3://{BUCKET}/orphans/own",
        s3=options_for(weed),
    )
    client = weed_client(weed)
    try:
        for key in ("orphans/a", "orphans/b", "orphans-not/c"):
            upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
            client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 1000)
        assert await collect(weed, Owners(state), "orphans/", older_than=3600) == []
        found = await collect(weed, Owners(state), "orphans/")
        assert sorted((orphan.key, orphan.parts, orphan.held) for orphan in found) == [
            ("orphans/a", 1, 1000), ("orphans/b", 1, 1000),
        ]  # fmt: skip
        left = client.list_multipart_uploads(Bucket=BUCKET, Prefix="orphans").get("Uploads", ())
        assert sorted(row["Key"] for row in left) == ["orphans-not/c", "orphans/own"]
        result = await world.resume(own, s3=options_for(weed))
        assert result.resumed_parts >= 1
        assert [orphan.key for orphan in await collect(weed, Owners(state), "orphans-")] == ["orphans-not/c"]
    finally:
        client.close()


@settings(deadline=None)
@given(journal=journals().map(lambda records: lines(*records)), cut=st.integers(0, 200))
def test_what_can_be_gone_on_with_is_owned(journal: bytes, cut: int) -> None:
    """Also with a torn tail, whatever it said."""
    whole = replay(journal).manifest
    if whole.status in ("uploading", "completing"):
        claim = owned_by(replay(journal))
        assert claim is not None
        assert claim.covers("any", "any other key", whole.upload_id)
    first = journal.index(b"\n") + 1
    torn = replay(journal[: max(first, len(journal) - cut)])
    if torn.damage is not None:
        claim = owned_by(torn)
        assert claim is not None
        target = torn.manifest.target
        assert claim.covers(
            "any" if target.bucket is None else target.bucket, target.key, "an id that a lost restart brought"
        )


async def test_a_missing_bucket_has_no_empty_list(weed: LocalStore, tmp_path: Path) -> None:
    search = OrphanSearch(Owners(tmp_path), older_than=0, dry_run=True, on_orphan=print, on_failure=print)
    with pytest.raises(errors.BucketNotFound, match="there is no bucket 'nobucket' at this store"):
        await search.run("s3://nobucket", options_for(weed))
