"""Which directories may only be unmounted, by the devices that a record and the system name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bigupload.batch import inventory
from bigupload.batch.inventory import MountPoints, why_unmounted
from bigupload.batch.tree import FileEntry
from tests.tools.cases import each_case


@each_case(
    "was_mounted, is_mounted, is_empty, says",
    [
        (False, False, False, None),
        (False, False, True, None),  # its files were deleted, with nothing to see of a mount
        (True, False, False, "is none now"),  # a file may be below the mount point
        (True, False, True, "is none now"),
        (True, True, False, None),
        (True, True, True, "is an empty file system"),
        (False, True, False, None),
        (False, True, True, "is an empty file system"),
    ],
)
def test_the_decision(was_mounted: bool, is_mounted: bool, is_empty: bool, says: str | None) -> None:
    why = why_unmounted(was_mounted=was_mounted, is_mounted=is_mounted, is_empty=is_empty)
    assert (why is None) if says is None else (why is not None and says in why)


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The devices of the directories below "top", which need not exist."""
    made: dict[str, int] = {"../": 1, "": 1}

    def stat(path: str) -> Any:
        folder = path.removeprefix("top/")
        if folder not in made:
            raise FileNotFoundError(path)
        return SimpleNamespace(st_dev=made[folder])

    monkeypatch.setattr(inventory.os, "stat", stat)
    return made


def noted(mounts: MountPoints, *keys: str) -> MountPoints:
    assert len([*mounts.noting(FileEntry(f"top/{key}", key, 1, 1) for key in keys)]) == len(keys)
    return mounts


def test_mount_points_are_those_on_another_device_than_above(devices: dict[str, int]) -> None:
    devices |= {"a/": 1, "a/b/": 2, "a/b/c/": 2, "a/b/c/d/": 1, "e/": 3, "no file/": 4}
    assert noted(MountPoints("top", ()), "a/b/c/d/x", "a/x", "e/x", "x").found == {"a/b/", "a/b/c/d/", "e/"}
    again = noted(MountPoints("top", {"a/", "gone/"}), "a/x", "x")
    assert (again.found, again.merged) == (set(), {"a/"})


def test_the_topmost_one_is_named(devices: dict[str, int]) -> None:
    recorded = {"a/b/", "a/b/c/d/", "e/"}
    devices |= {"a/": 1, "a/b/": 1}
    mounts = MountPoints("top", recorded)
    for key, expected in (("a/x", None), ("x", None), ("a/b/x", "a/b/"), ("a/b/c/d/x", "a/b/"), ("e/f/x", "e/")):
        found = mounts.unmounted(key)
        assert (found and found[0]) == expected, key
    devices |= {"a/b/": 9, "a/b/c/": 9}  # the inner one alone is not mounted
    found = MountPoints("top", recorded).unmounted("a/b/c/d/x")
    assert found is not None
    assert found[0] == "a/b/c/d/"


def test_many_directories_take_no_more_memory(devices: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_MOST_KNOWN", 3)
    devices |= {f"{at}/": 1 + at % 2 for at in range(20)}
    mounts = noted(MountPoints("top", ()), *(f"{at}/x" for at in range(20)))
    assert mounts.found == {f"{at}/" for at in range(1, 20, 2)}
    assert [mounts.unmounted(f"{at}/x") for at in range(20)] == [None] * 20
