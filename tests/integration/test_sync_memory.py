"""A sync's memory does not grow with the number of objects in the bucket."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

import bigupload
from bigupload import SyncStep
from bigupload.api.types import SyncOutcome
from bigupload.stores.s3.objects import ListedRow, S3Objects
from bigupload.stores.s3.operations import ObjectPages

from .support import FAST, World
from .syncing import FILES, TO, grow

OBJECTS = 100_000
MIB = 1 << 20


@pytest.mark.slow
async def test_a_hundred_thousand_objects(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told in an order of their own, as those of some stores are. All of them have no file."""
    await bigupload.sync(
        grow(tmp_path / "tree", FILES), to=TO, s3=world.options(), uploader=bigupload.Uploader(retry=FAST)
    )
    listed = 0

    async def next_objects(_: S3Objects, prefix: str, pages: ObjectPages) -> list[ListedRow]:
        nonlocal listed
        rows = [(f"{prefix}{n * 7919 % OBJECTS:06}/a name", n, f'"{n:032x}"') for n in range(listed, listed + 1000)]
        listed += 1000
        token = {"IsTruncated": True, "NextContinuationToken": str(listed)} if listed < OBJECTS else {}
        pages.advance(token)
        return rows

    monkeypatch.setattr(S3Objects, "next_objects", next_objects)
    keys = 0

    def on_outcome(outcome: SyncOutcome) -> None:
        nonlocal keys
        keys += isinstance(outcome, SyncStep) and outcome.action == "delete"

    tracemalloc.start()
    try:
        result = await bigupload.sync(
            tmp_path / "tree",
            to=TO,
            s3=world.options(),
            delete=True,
            dry_run=True,
            on_outcome=on_outcome,
            uploader=bigupload.Uploader(retry=FAST),
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (result.deleted, keys, result.uploaded) == (OBJECTS, OBJECTS, len(FILES))
    assert peak < 16 * MIB, f"{peak / MIB:.1f} MiB"
