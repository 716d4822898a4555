"""Group commit: callers that come while a batch is under way share the next one. And: seeing a thing through.

Knows nothing of uploads. The journal uses it for fsync, the engine for signing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """`perform` gets at least one and at most `most` items and returns a result for each, in order."""

    def __init__(self, perform: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, most: int) -> None:
        self._perform = perform
        self._most = most
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._busy = asyncio.Lock()

    async def submit(self, item: T) -> R:
        """The result for `item`. A failure of its batch is raised to every caller in it."""
        mine: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        entry = (item, mine)
        self._waiting.append(entry)
        try:
            while not mine.done():
                async with self._busy:
                    if not mine.done():
                        await self._lead()
            return mine.result()
        finally:
            if entry in self._waiting:  # cancelled before its batch began
                self._waiting.remove(entry)

    async def _lead(self) -> None:
        batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            results = await self._perform([item for item, _ in batch])
        except Exception as e:
            for _, future in batch:
                future.set_exception(e)
                future.exception()  # a caller that was cancelled will not fetch it
            return
        except BaseException:
            # Only the leader was cancelled: the others' items wait for the next leader.
            self._waiting[:0] = batch
            raise
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
