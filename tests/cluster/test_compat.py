"""What Dask does not document, and the cluster layer uses all the same: this fails when a new Dask changes it."""

from __future__ import annotations

from typing import Any

import pytest

from bigupload.cluster import _compat


async def test_a_handler_of_a_worker_is_called_by_way_of_the_scheduler(here: Any) -> None:
    got: list[Any] = []

    async def handler(value: Any) -> str:
        got.append(value)
        return "done"

    worker, other = here.workers.values()
    _compat.add_handler(worker, "bigupload-test", handler)
    client = await _compat.connect(here.scheduler_address, None)
    try:
        assert await _compat.call(client, worker.address, "bigupload-test", value=_compat.opaque({1})) == "done"
        assert got == [{1}]
        with pytest.raises(_compat.WorkerUnreachable):
            await _compat.call(client, other.address, "bigupload-test", value=1)
        assert await _compat.workers_of(client) == {worker.address, other.address}
        assert _compat.connection(client) is not None
    finally:
        await _compat.close(client)
    assert client.status == "closed"
    assert _compat.connection(client) is None
    assert not _compat.reconnects(client)
    with pytest.raises(OSError, match="is closed"):
        await _compat.workers_of(client)
    with pytest.raises(OSError, match="is closed"):
        await _compat.call(client, worker.address, "bigupload-test", value=1)


async def test_a_function_is_called_when_a_worker_closes_once(here: Any) -> None:
    closed: list[int] = []

    async def close() -> None:
        closed.append(1)

    worker = next(iter(here.workers.values()))
    await _compat.call_at_close(worker, close)
    await _compat.call_at_close(worker, close)
    await worker.close()
    assert closed == [1]
