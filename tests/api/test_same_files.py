"""Which files records alone prove to be in the store: those of which nothing has changed, here or there."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bigupload.api.sync import FileComparison
from bigupload.batch.inventory import Inventory
from bigupload.batch.tree import FileEntry
from bigupload.core.integrity import Verified
from bigupload.manifests.job_record import JOB_SUFFIX, JobRecord, OtherJobs, RecordedFile, file_of_row
from tests.tools.cases import each_case

NAMES = ("a", "b", "sub/c", "sub/\u00fc")
TREE = "tree-\udcff"
"""No UTF-8: a directory's own name is in no key."""
FILES = {name: FileEntry(f"{TREE}/{name}", name, n + 10, 2**60 + n, 2**61 + n, n + 1) for n, name in enumerate(NAMES)}


def recorded(file: FileEntry, **more: Any) -> RecordedFile:
    known: dict[str, Any] = {"etag": f'"{file.key}"', "checksum": None, "verified": Verified.FULL_OBJECT} | more
    path = os.path.abspath(file.path)
    return RecordedFile(key=file.key, path=path, fingerprint=file.fingerprint, version_id=None, **known)


class Compared:
    """A sync's own record and that of one other job, both empty, and a list that has all files."""

    def __init__(self, inventory: Inventory, record: JobRecord, other: JobRecord) -> None:
        self.inventory, self.record, self.other = inventory, record, other
        self.new: list[RecordedFile] = []
        inventory.add([(f"p/{name}", file.size, name) for name, file in FILES.items()])

    def find(self, files: dict[str, FileEntry], **more: Any) -> tuple[set[str], set[str]]:
        """Look at files. Returns which are in the store, and which of them the sync has not recorded."""
        for each in (self.record, self.other):
            each.close()
            each.open(resume=True, keep=True)
        with contextlib.closing(OtherJobs(self.record.path, "s3://b/p/")) as others:
            options: dict[str, Any] = {"directory": TREE, "prefix": "p/", "size_only": False} | more
            options.setdefault("required", Verified.FULL_OBJECT)
            comparison = FileComparison(listed=self.inventory, record=self.record, others=others, **options)
            same, new = comparison.find(files.values())
            self.new = [file_of_row(key, comparison.path_of(key), files[key].fingerprint, new[key]) for key in new]
            return {*same}, {*new}


@pytest.fixture
async def compared(tmp_path: Path) -> AsyncIterator[Compared]:
    with contextlib.ExitStack() as opened:
        threads = opened.enter_context(concurrent.futures.ThreadPoolExecutor(1))
        records = []
        for name in ("sync", "upload"):
            path = tmp_path / f"{name}{JOB_SUFFIX}"
            made = JobRecord(path, name, "s3://b/p/", now=lambda: "2026-01-01T00:00:00+00:00", executor=threads)
            records.append(opened.enter_context(made))
            made.open(resume=True)
        yield Compared(opened.enter_context(contextlib.closing(Inventory())), *records)


async def test_the_own_record_and_that_of_another_job(compared: Compared) -> None:
    assert compared.find(FILES) == (set(), set())
    a, b, *rest = (recorded(each) for each in FILES.values())
    await compared.record.record([a])
    await compared.other.record([a, b])
    assert compared.find(FILES) == ({"a", "b"}, {"b"})
    assert compared.new == [b]
    await compared.record.record(rest)
    assert compared.find(FILES) == ({*FILES}, {"b"})
    assert compared.find({}) == (set(), set())


@pytest.mark.exhaustive
@pytest.mark.parametrize("by", ["record", "other"])
@each_case("now", [{"mtime_ns": 1}, {"ctime_ns": 1}, {"inode": 1000}, {"inode": 0}, {"size": 1000}])
async def test_a_file_that_changed(compared: Compared, by: str, now: dict[str, int]) -> None:
    await getattr(compared, by).record([recorded(each) for each in FILES.values()])
    assert compared.find(FILES)[0] == {*FILES}
    assert compared.find(FILES | {"b": replace(FILES["b"], **now)})[0] == {*FILES} - {"b"}


@pytest.mark.exhaustive
@pytest.mark.parametrize("by", ["record", "other"])
@each_case("row", [{"etag": '"another"'}, {"verified": Verified.SIZE}, {"path": "another tree/b"}])
async def test_a_record_of_something_else(compared: Compared, by: str, row: dict[str, Any]) -> None:
    b = replace(FILES["b"], path=row.get("path", FILES["b"].path))
    more = {name: value for name, value in row.items() if name != "path"}
    await getattr(compared, by).record([*(recorded(each) for each in FILES.values()), recorded(b, **more)])
    assert compared.find(FILES)[0] == {*FILES} - {"b"}
    if "verified" in row:
        assert compared.find(FILES, required=Verified.SIZE)[0] == {*FILES}


async def test_objects_that_are_listed_otherwise(compared: Compared) -> None:
    await compared.record.record([recorded(each) for each in FILES.values()])
    await compared.record.record([recorded(FILES["b"], etag="")])
    compared.inventory.add([("p/a", 1000, "a"), ("p/b", FILES["b"].size, ""), ("p/sub/c", FILES["sub/c"].size, "x")])
    assert compared.find(FILES) == ({"sub/\u00fc"}, set())
    assert compared.find(FILES, size_only=True) == ({*FILES} - {"a"}, set())
    backslash = FileEntry("tree/d\\e", "d\\e", 1, 1, 1, 1)
    compared.inventory.add([("p/d\\e", 1, "e"), ("p/none", 1, "e")])
    assert compared.find({"d\\e": backslash}, size_only=True) == (set(), set()), "some stores take it for a slash"
    assert [each.key for page in compared.inventory.unmatched() for each in page] == ["p/d\\e", "p/none"]
