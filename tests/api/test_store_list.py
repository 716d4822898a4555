"""A list of objects that is read while files are compared with it: what is known of an object, and when."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from bigupload.batch.inventory import Inventory, ListedObject, ListFailed, StoreList


class Pages:
    """A store that gives a page when the test says so."""

    def __init__(self) -> None:
        self._pages: asyncio.Queue[Sequence[ListedObject] | Exception | None] = asyncio.Queue()

    def give(self, *keys: str) -> None:
        self._pages.put_nowait([ListedObject(key, 1, key) for key in keys])

    def end(self, error: Exception | None = None) -> None:
        self._pages.put_nowait(error)

    async def next(self) -> Sequence[ListedObject] | None:
        page = await self._pages.get()
        if isinstance(page, Exception):
            raise page
        return page


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
async def listed(pages: Pages) -> AsyncIterator[StoreList]:
    with contextlib.closing(Inventory()) as inventory:
        async with StoreList(inventory, pages.next) as reading:
            yield reading


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_was_listed_is_found_at_once_and_the_rest_at_the_end(pages: Pages, listed: StoreList) -> None:
    none, there, later = (asyncio.create_task(listed.find(key)) for key in ("a", "b", "d"))
    await turns()
    assert not any(each.done() for each in (none, there, later))
    pages.give("b", "c")
    found = await there
    assert found is not None
    assert found.key == "b"
    await turns()
    assert not none.done(), "some stores list it later"
    assert not later.done()
    pages.give("d")
    assert await later is not None
    pages.end()
    assert await none is None
    assert await listed.find("x") is None
    await listed.read_all()


async def test_an_ordered_list_is_waited_for_up_to_a_key(pages: Pages, listed: StoreList) -> None:
    passed = [asyncio.create_task(listed.reached(key)) for key in ("a", "b", "bb", "z")]
    pages.give("a", "b")
    await turns()
    assert [each.done() for each in passed] == [True, True, False, False]
    pages.give("c")
    await turns()
    assert [each.done() for each in passed] == [True, True, True, False]
    pages.end()
    await passed[3]


async def test_a_list_in_another_order_is_not_waited_for(pages: Pages, listed: StoreList) -> None:
    """As SeaweedFS has it: a directory's keys come before those that begin with its name."""
    passed = asyncio.create_task(listed.reached("z"))
    pages.give("dir/a", "dir.txt")
    await passed
    missing = asyncio.create_task(listed.find("dir"))
    await turns()
    assert not missing.done()
    pages.give("dir")
    assert await missing is not None


@pytest.mark.parametrize("wait", ["find", "reached", "read_all"])
async def test_whoever_waits_is_told_that_the_list_failed(pages: Pages, listed: StoreList, wait: str) -> None:
    waiting = asyncio.create_task(getattr(listed, wait)(*(() if wait == "read_all" else ("b",))))
    pages.give("a")
    pages.end(OSError("broken"))
    with pytest.raises(ListFailed) as failed:
        await waiting
    assert isinstance(failed.value.cause, OSError)
    with pytest.raises(ListFailed):
        await listed.find("c")
    assert await listed.find("a") is not None
