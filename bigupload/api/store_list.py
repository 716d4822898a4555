"""The list of a bucket, which is read while the files are compared with it.

A store may list its keys in any order, so that an object's absence is certain only when the list has ended. But
one that was listed is there. So files whose objects were listed are looked at at once, and the others at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType

from bigupload.batch.inventory import Inventory, ListedObject
from bigupload.support.shielding import run_shielded


class ListFailed(Exception):
    """The list could not be read to its end. Not an error of the file that waits for it: `cause` ends all."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class StoreList:
    """One list, read by a task of its own from `__aenter__` on. The task ends with the block."""

    def __init__(self, inventory: Inventory, next_page: Callable[[], Awaitable[Sequence[ListedObject] | None]]) -> None:
        """Read nothing yet.

        Args:
            inventory: Where the objects are kept.
            next_page: Returns the next objects; None after the last ones. What it raises ends the list.
        """
        self._inventory = inventory
        self._next_page = next_page
        self._has_ended = False
        self._failure: BaseException | None = None
        self._grown = asyncio.Event()
        self._last = ""
        """The last key, as long as they came in the order of their code points, which is that of their bytes."""
        self._is_ordered = True

    async def __aenter__(self) -> StoreList:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        await run_shielded(_end(self._reading))

    async def _read(self) -> None:
        try:
            while (page := await self._next_page()) is not None:
                self._inventory.add(page)
                self._look_at_order(page)
                self._wake()
            self._has_ended = True
        except Exception as e:
            self._failure = e
        finally:
            self._wake()

    def _look_at_order(self, page: Sequence[ListedObject]) -> None:
        for each in page:
            self._is_ordered = self._is_ordered and self._last < each.key
            self._last = each.key

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def meet(self, key: str) -> ListedObject | None:
        """Look up an object that was listed already, as `Inventory.meet`."""
        return self._inventory.meet(key)

    async def reached(self, key: str) -> None:
        """Wait until a list in the order of its keys would have had this one. In another order, do not wait.

        Raises:
            ListFailed: The list failed.
        """
        while self._is_ordered and not self._has_ended and self._last < key:
            await self._more()

    async def find(self, key: str) -> ListedObject | None:
        """Look up an object. Its absence is certain only at the end of the list.

        Raises:
            ListFailed: The list failed.
        """
        while True:
            found = self._inventory.meet(key)
            if found is not None or self._has_ended:
                return found
            await self._more()

    async def read_all(self) -> None:
        """Wait for the end of the list.

        Raises:
            ListFailed: The list failed.
        """
        while not self._has_ended:
            await self._more()

    async def _more(self) -> None:
        if self._failure is None:
            await self._grown.wait()
        if self._failure is not None:
            raise ListFailed(self._failure)


async def _end(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})
