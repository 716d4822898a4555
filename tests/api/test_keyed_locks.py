"""Those with the same key go one after another."""

from __future__ import annotations

import anyio
import pytest

from bigupload.api.many import KeyedLocks


async def test_a_name_is_locked_by_one_at_a_time() -> None:
    locks = KeyedLocks()
    seen: list[tuple[str, str, bool]] = []

    async def take(name: str) -> None:
        async with locks.lock(name) as again:
            seen.append(("begins", name, again))
            await anyio.sleep(0)
            seen.append(("ends", name, again))

    async with anyio.create_task_group() as tasks:
        for name in ("a", "b", "a", "a"):
            tasks.start_soon(take, name)
    assert [each for each in seen if each[1] == "a"] == [
        ("begins", "a", False), ("ends", "a", False), ("begins", "a", True), ("ends", "a", True),
        ("begins", "a", True), ("ends", "a", True),
    ]  # fmt: skip
    assert seen.index(("begins", "b", False)) < seen.index(("ends", "a", False))
    assert not locks._open


async def test_a_block_that_fails_or_is_cancelled_has_not_completed() -> None:
    locks = KeyedLocks()
    with pytest.raises(OSError, match="no"):
        async with locks.lock("a"):
            raise OSError("no")
    async with locks.lock("a") as again, anyio.create_task_group() as tasks:
        assert not again

        async def wait() -> None:
            async with locks.lock("a"):
                raise AssertionError("two at a time")

        tasks.start_soon(wait)
        await anyio.sleep(0)
        tasks.cancel_scope.cancel()
    async with locks.lock("a") as again:
        assert again
    assert not locks._open
