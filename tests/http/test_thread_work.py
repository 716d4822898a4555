"""A request body's work in threads, as the request sees its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bigupload.http.thread_work import ThreadWork


async def test_wait_includes_the_end_of_a_task_whose_work_has_just_ended() -> None:
    """aiohttp takes its connection back when the task that writes has ended. Else the next PUT needs another one."""
    threads = ThreadWork(on_hang=lambda: None)
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    taken_back: list[Any] = []
    writing = asyncio.create_task(threads.run(lambda _: work, lambda: None, on_cancel=lambda: None))
    writing.add_done_callback(taken_back.append)
    while threads._future is None:
        await asyncio.sleep(0)
    work.set_result(None)
    while threads._future is not None:
        await asyncio.sleep(0)
    assert not taken_back
    await threads.wait()
    assert taken_back == [writing]


async def test_who_waits_once_more_takes_no_turn_of_the_loop() -> None:
    """Each PUT waits twice, and a turn costs as much as all else about the second time."""
    threads = ThreadWork(on_hang=lambda: None)
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    work.set_result(None)
    await threads.run(lambda _: work, lambda: None, on_cancel=lambda: None)
    await threads.wait()
    with pytest.raises(StopIteration):
        threads.wait().send(None)
