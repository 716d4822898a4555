"""Run the same work on many items, a few at a time, and choose which of several errors the caller sees."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

from bigupload import errors

T = TypeVar("T")


def most_serious(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Choose the one exception to raise for everything that the tasks of a group raised.

    KeyboardInterrupt and SystemExit come first: they must end the program. A public error that cannot be resumed comes
    before one that can. Anything else is a bug, which shows if no public error explains the end.
    """
    found: list[BaseException] = []

    def collect(e: BaseException) -> None:
        if isinstance(e, BaseExceptionGroup):
            for inner in e.exceptions:
                collect(inner)
        else:
            found.append(e)

    collect(group)
    for e in found:
        if not isinstance(e, Exception):
            return e
    public = [e for e in found if isinstance(e, errors.BigUploadError)]
    return min(public, key=lambda e: e.resumable) if public else found[0]


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Call `work` on every item, `at_once` of them at a time.

    Raises:
        BaseException: The first failure ends the other calls. Of several, `most_serious` is raised.
    """
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(worker)
    except BaseExceptionGroup as group:
        raise most_serious(group) from None
