"""Group commit: callers that arrive while one batch is being processed share the next batch.

The journal uses it for fsync, the engine for presigning. This module knows nothing of either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Collects single items into batches and hands each caller the result of its own item."""

    def __init__(self, process: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, max_batch: int) -> None:
        """Prepare an empty queue.

        Args:
            process: Called with one to `max_batch` items. It returns one result for each item, in the same order.
            max_batch: The largest number of items in one batch.
        """
        self._process = process
        self._max_batch = max_batch
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._busy = asyncio.Lock()

    async def submit(self, item: T) -> R:
        """Process `item` in the next batch.

        Returns:
            The result for `item`.

        Raises:
            Exception: What `process` raised. Every caller whose item was in that batch gets it.
        """
        mine: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        entry = (item, mine)
        self._waiting.append(entry)
        try:
            while not mine.done():
                async with self._busy:
                    if not mine.done():
                        await self._process_next_batch()
            return mine.result()
        finally:
            if entry in self._waiting:  # cancelled before its batch began
                self._waiting.remove(entry)

    async def _process_next_batch(self) -> None:
        batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
        try:
            results = await self._process([item for item, _ in batch])
            if len(results) != len(batch):  # each item needs one: its caller would wait for ever
                raise ValueError(f"{len(results)} results for {len(batch)} items")
        except Exception as e:
            for _, future in batch:
                future.set_exception(e)
                future.exception()  # marks it as retrieved: a cancelled caller never retrieves it
            return
        except BaseException:
            # Only the caller that ran the batch was cancelled. The other items wait for the next batch.
            self._waiting[:0] = batch
            raise
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
