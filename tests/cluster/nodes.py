"""Nodes of a Dask cluster as processes: `python -m tests.cluster.nodes scheduler PORT`, or `worker ADDRESS DIRECTORY`.

With `MODULE ARGUMENTS`, one of Dask's own commands. Each ends when its standard input ends: with the test, whatever
becomes of that.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import sys
import threading

from tests.tools.warm_starts import WarmStarts

WITH_DASK = WarmStarts("distributed")
"""Starts nodes, and commands that use a cluster: to import Dask takes more than a second of CPU."""


async def _scheduler(port: int) -> None:
    from distributed import Scheduler

    async with Scheduler(host="127.0.0.1", port=port, dashboard_address="127.0.0.1:0") as scheduler:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asyncio.create_task(scheduler.close()))
        print(scheduler.address, flush=True)
        reading = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        await asyncio.wait({reading, asyncio.ensure_future(scheduler.finished())}, return_when="FIRST_COMPLETED")
        os._exit(0)


async def _worker(address: str, directory: str) -> None:
    from distributed import Worker

    async with Worker(address, nthreads=1, dashboard=False, host="127.0.0.1", local_directory=directory) as worker:
        print(worker.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def _end_with_its_starter() -> None:
    sys.stdin.read()
    os._exit(0)


def _configure() -> None:
    """Take the settings of Dask from this process's environment: it may have imported Dask with another."""
    import dask.config
    from distributed.config import initialize_logging

    dask.config.refresh()
    initialize_logging(dask.config.config)


def main() -> None:
    kind = sys.argv.pop(1)
    _configure()
    match kind:
        case "scheduler":
            asyncio.run(_scheduler(int(sys.argv[1])))
        case "worker":
            asyncio.run(_worker(*sys.argv[1:]))
        case _:
            threading.Thread(target=_end_with_its_starter, daemon=True).start()
            runpy.run_module(kind, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
