"""Run the same work on many items, a few at a time, and choose which of several errors the caller sees."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

from bigupload import errors

T = TypeVar("T")


def the_one(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what several tasks raised, what the caller should see: the worst that no retry mends comes first."""
    found: list[BaseException] = []

    def collect(e: BaseException) -> None:
        if isinstance(e, BaseExceptionGroup):
            for inner in e.exceptions:
                collect(inner)
        else:
            found.append(e)

    collect(group)
    public = [e for e in found if isinstance(e, errors.BigUploadError)]
    return min(public, key=lambda e: e.resumable) if public else found[0]


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """`work` on every item, so many at a time. The first that fails ends the others, and `the_one` is raised."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(worker)
    except BaseExceptionGroup as group:
        raise the_one(group) from None
