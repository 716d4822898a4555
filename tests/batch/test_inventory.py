"""The objects of a list: found by their keys, in whatever order they were listed."""

from __future__ import annotations

import contextlib

import pytest

from bigupload import errors
from bigupload.batch.inventory import Inventory, ListedObject


def test_unmatched_objects_are_left() -> None:
    inventory = Inventory()
    keys = [f"{number:04}\n\u00e9" for number in range(2500)]
    inventory.add(ListedObject(key, number, f'"{number}"') for number, key in reversed([*enumerate(keys)]))
    inventory.add([ListedObject(keys[7], 70, '"again"')])
    assert inventory.match("none") is None
    assert inventory.match(keys[7]) == ListedObject(keys[7], 70, '"again"')
    for key in keys[::2]:
        assert inventory.match(key) is not None
    pages = list(inventory.unmatched())
    assert [each.key for page in pages for each in page] == [key for key in keys[1::2] if key != keys[7]]
    assert max(map(len, pages)) == 1000
    inventory.close()
    inventory.close()


def test_an_empty_one() -> None:
    with contextlib.closing(Inventory()) as inventory:
        assert list(inventory.unmatched()) == []


def test_what_was_met_stays_met_if_it_is_listed_again() -> None:
    """As where it was replaced while a store listed it."""
    with contextlib.closing(Inventory()) as inventory:
        inventory.add([ListedObject("a", 1, "x"), ListedObject("b", 1, "x")])
        inventory.match("a")
        inventory.add([ListedObject("a", 2, "y")])
        assert list(inventory.unmatched()) == [[ListedObject("b", 1, "x")]]
        assert inventory.match("a") == ListedObject("a", 2, "y")


def test_a_full_disk() -> None:
    with contextlib.closing(Inventory()) as inventory:
        inventory._objects.execute("PRAGMA max_page_count = 10")
        with pytest.raises(errors.ManifestUnwritable, match=r"free some space.* SQLITE_TMPDIR") as caught:
            inventory.add(ListedObject(f"{number:0100}", number, "etag") for number in range(1000))
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
