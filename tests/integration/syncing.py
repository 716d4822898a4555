"""What the tests of a sync share: a tree of files, one sync, and what it told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bigupload
from bigupload import S3Options, SyncResult
from bigupload.api.types import SyncOutcome
from tests.tools import awkward_tree

from .support import BUCKET, FAST, World, of_function

TO = f"s3://{BUCKET}/p/"
AWKWARD = (*awkward_tree.AWKWARD, "a-b", "a/x", "a.txt", "sub/deep/file")
FILES = {"a": b"a", "b.bin": b"bb", "sub/c d": b"ccc", "sub/deep/e": b""}


def grow(directory: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


async def synced(
    world: World, tree: Path, *, told: list[SyncOutcome] | None = None, s3: S3Options | None = None, **more: Any
) -> SyncResult:
    outcomes = told if told is not None else []
    more = {"to": TO, "retry": FAST, **more}
    return await bigupload.sync(tree, s3=s3 or world.options(), on_outcome=outcomes.append, **of_function(more))


def counts(result: SyncResult) -> tuple[int, int, int, int]:
    return result.uploaded, result.same, result.deleted, result.failed


def files(tree: Path) -> dict[str, bytes]:
    return {f"p/{path.relative_to(tree)}": path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def objects(world: World) -> dict[str, bytes]:
    return {key: bytes(each.body) for key, each in world.s3.objects[BUCKET].items()}


def asked(world: World, since: int = 0) -> list[str]:
    return [each.op for each in world.s3.requests[since:]]
