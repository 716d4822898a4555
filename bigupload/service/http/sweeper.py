"""Run the sweep in its own process: it checks thousands of objects, and requests must not wait for that."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.manifests.state_directory import state_dir
from bigupload.service.access_log import AccessLog
from bigupload.service.http.monitoring import Metrics
from bigupload.service.http.processes import ChildProcess, begin_child, when_parent_ends
from bigupload.service.http.settings import ServeSettings
from bigupload.service.media.policy import POLICY_KEY, PUBLISHED_POLICY, Policy, read_policy
from bigupload.service.uploads.sweep import Sweep, SweepLock, SweepMemory, rules_of
from bigupload.service.webhooks.hooks import Hooks, opened_hooks
from bigupload.service.webhooks.telling import telling_for
from bigupload.stores.s3.bucket import S3Bucket

_NICENESS = 10
"""The niceness of the process, so that requests come first on a busy processor."""
_RESTART_AFTER = 30.0
"""The pause in seconds before a sweeper that ended is started again: failing starts must not busy a core."""


@contextlib.asynccontextmanager
async def sweeping(settings: ServeSettings, log: AccessLog) -> AsyncIterator[None]:
    """Run a sweeping process inside the `with` statement. It is started again if it ends."""
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
        except Exception as e:  # an OSError, if there are no more processes, may be temporary
            reason = getattr(e, "strerror", None) or type(e).__name__
        else:
            try:
                await child.ended()
            finally:
                child.kill()  # safe: every deletion is conditional, and the next sweep resumes
            reason = f"the sweeper ended with status {child.status}"
        log.write_event("sweeper", error=reason, again_in=_RESTART_AFTER)
        await asyncio.sleep(_RESTART_AFTER)


def _sweep_in_child(settings: ServeSettings, parent: Connection) -> None:
    begin_child()
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    asyncio.run(_sweep_again_and_again(settings, parent))


async def _sweep_again_and_again(settings: ServeSettings, parent: Connection) -> None:
    """Sweep regularly, because the store may not apply its lifecycle rules."""
    when_parent_ends(parent, os._exit, errors.EXIT_OK)  # at once, even if a call to the store hangs
    log = AccessLog()
    log.take_over("asyncio")
    file = _memory_file(settings)
    lock = SweepLock(file)  # kept: it is released when nothing refers to it
    await _until_alone(lock, settings.sweep_every, log)
    # The hook's URLs are signed for the endpoint for which the service signs them.
    bucket = S3Bucket(settings.bucket, settings.s3, signing_endpoint=settings.signing_endpoint, urls_hold=True)
    async with (
        opened_hooks(settings, log, functools.partial(Metrics(log.seconds).record, "hooks")) as hooks,
        contextlib.aclosing(bucket),
    ):
        await _sweep_on(bucket, settings, log, file, hooks)


async def _sweep_on(
    bucket: S3Bucket,
    settings: ServeSettings,
    log: AccessLog,
    file: Path | None,
    hooks: Hooks,
) -> None:
    hook = None if settings.before_finish is None else str(settings.before_finish)
    policy, memory = None, SweepMemory()
    while True:
        try:
            now = await _policy_after(policy, bucket)  # each time: the operator may have changed it since
            if now != policy:
                policy = now
                memory.close()
                memory = SweepMemory(file, rules=rules_of(policy, hook=hook))
            telling = None
            if settings.webhook_urls:
                telling = telling_for(bucket, policy, settings.public_url, uploads=settings.webhook_uploads)
            clock = functools.partial(datetime.now, UTC)
            sweep = Sweep(bucket, now=clock, policy=policy, memory=memory, hooks=hooks, telling=telling)
            report = await sweep.run()
        except (Fault, errors.BigUploadError) as e:
            log.write_event("sweep", error=str(e))
        except Exception as e:  # a bug in one sweep must not prevent the next
            log.write_event("sweep", error=type(e).__name__)
        else:
            log.write_event("sweep", **dataclasses.asdict(report))
        await asyncio.sleep(settings.sweep_every)


async def _policy_after(before: Policy | None, bucket: S3Bucket) -> Policy:
    """Return the bucket's policy, if the sweep may act on it. Raises Fault or BigUploadError."""
    now = await read_policy(bucket)
    if now == PUBLISHED_POLICY and before not in (None, PUBLISHED_POLICY):
        raise errors.UsageError(
            f"s3://{bucket.name}/{POLICY_KEY} is gone, and by the published policy files would be deleted that were "
            "accepted: write it again by bigupload bucket setup, or restart the service if it is to be so"
        )
    return now


async def _until_alone(lock: SweepLock, look_every: float, log: AccessLog) -> None:
    """Wait until no other process of this machine sweeps the bucket. Then this one does, for as long as it lives."""
    is_logged = False
    while not lock.take():
        if not is_logged:
            is_logged = True
            log.write_event("sweep", waits_for="another process of this machine, which sweeps this bucket")
        await asyncio.sleep(look_every)


def _memory_file(settings: ServeSettings) -> Path | None:
    """Return the path of the bucket's cache; None if the user has no directory for it."""
    place = f"{settings.s3.endpoint_url}\n{settings.s3.region}\n{settings.bucket}"
    try:
        return state_dir() / "sweeps" / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.sqlite3"
    except errors.UsageError:
        return None
