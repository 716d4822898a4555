"""The sweep as a process of its own: it looks at thousands of objects, and requests must not wait for that."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.service.access_log import AccessLog
from bigupload.service.processes import ChildProcess, begin_child, when_parent_ends
from bigupload.service.settings import ServeSettings
from bigupload.service.sweep import Sweep
from bigupload.service.sweep_memory import SweepMemory
from bigupload.stores.s3.client import S3Bucket
from bigupload.stores.targets import state_dir

_NICENESS = 10
"""Requests come first where the processor is short."""
_RESTART_AFTER = 30.0
"""Seconds before a sweeper that ended is started again: one that can't live must not keep a core busy."""


@contextlib.asynccontextmanager
async def sweeping(settings: ServeSettings, log: AccessLog) -> AsyncIterator[None]:
    """Meanwhile, a process sweeps. It is started again if it ends, and ends with this."""
    task = asyncio.create_task(_keep_running(settings, log))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _keep_running(settings: ServeSettings, log: AccessLog) -> None:
    while True:
        try:
            child = ChildProcess(_sweep_in_child, settings)
        except OSError as e:  # no more processes: it may pass
            reason = e.strerror
        else:
            try:
                await child.ended()
            finally:
                child.kill()  # every deletion is conditional, and the next sweep continues where this one was
            reason = f"the sweeper ended with status {child.status}"
        log.write_event("sweeper", error=reason, again_in=_RESTART_AFTER)
        await asyncio.sleep(_RESTART_AFTER)


def _sweep_in_child(settings: ServeSettings, parent: Connection) -> None:
    begin_child()
    os.nice(_NICENESS)
    asyncio.run(_sweep_again_and_again(settings, parent))


async def _sweep_again_and_again(settings: ServeSettings, parent: Connection) -> None:
    """Keep the promise of seven days, whatever the store makes of its own rules."""
    when_parent_ends(parent, os._exit, errors.EXIT_OK)  # not after a call to a store that stalls
    log = AccessLog()
    log.take_over("asyncio")
    bucket = S3Bucket(settings.bucket, settings.s3)
    memory = SweepMemory(_memory_file(settings))
    sweep = Sweep(bucket, now=lambda: datetime.now(UTC), memory=memory)
    while True:
        try:
            report = await sweep.run()
        except (Fault, errors.BigUploadError) as e:
            log.write_event("sweep", error=str(e))
        except Exception as e:  # a bug in one sweep must not be the end of all
            log.write_event("sweep", error=type(e).__name__)
        else:
            log.write_event("sweep", **dataclasses.asdict(report))
        await asyncio.sleep(settings.sweep_every)


def _memory_file(settings: ServeSettings) -> Path | None:
    """One for each bucket; None where the user has no directory for it."""
    place = f"{settings.s3.endpoint_url}\n{settings.s3.region}\n{settings.bucket}"
    try:
        return state_dir() / "sweeps" / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.sqlite3"
    except errors.UsageError:
        return None
