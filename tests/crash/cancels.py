"""Cancel uploads at random moments, and resume them, until each is proved: `python -m tests.crash.cancels ORDER`.

ORDER is a JSON object, see `Order`. The store is another process's, so that every thread, task and descriptor here is
the client's. Prints one JSON object: how many cancels there were of which kind and in which stage, and the figures.

A seed decides what is cancelled in which way and when. Which await that meets depends on the machine: each run finds
others.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import logging
import math
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

import bigupload
from bigupload import (
    RetryPolicy,
    S3Options,
    UploadCancelled,
    Uploader,
    UploadHandle,
    UploadResult,
    Verified,
    events,
)
from bigupload.core.manifest import Manifest
from bigupload.core.part_plan import Limits
from bigupload.engine import multipart_upload
from bigupload.manifests.journal import read_manifest
from bigupload.stores.s3.multipart import S3Store
from tests.tools.leaks import open_descriptors, own_threads
from tests.tools.waiting import until

Arm = Callable[[float], object]
Run = Callable[..., Awaitable[UploadResult]]
"""Takes `uploader`, to be used in place of the call's own, and `handles`, to which an upload's handle is added."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to do. Sizes are in bytes."""

    seed: int
    cancels: int
    directory: str
    """Where the file `file.bin` is, and the manifests will be."""
    bucket: str
    endpoint: str
    region: str
    ca_bundle: str | None
    part_size: int


@dataclass
class Told:
    """What happened."""

    uploads: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    """Of cancels that an upload has met."""
    stages: Counter[str] = field(default_factory=Counter)
    """What the manifest said after them."""
    slowest: float = 0.0
    """Seconds from a cancel to the end of the upload, at most."""
    last_cancel: float = 0.0
    """When the very last cancel was, by the clock that all processes share. Nothing was done after it."""


# --- the ways to cancel: each gives the result, or None after a cancel


async def by_timeout(run: Run, armed: Callable[[Arm], None]) -> UploadResult | None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as timeout:
            armed(lambda delay: timeout.reschedule(loop.time() + delay))
            return await run()
    except TimeoutError:
        assert timeout.expired(), "a TimeoutError of its own"
        return None


async def by_fail_after(run: Run, armed: Callable[[Arm], None]) -> UploadResult | None:
    try:
        with anyio.fail_after(math.inf) as scope:
            armed(lambda delay: setattr(scope, "deadline", anyio.current_time() + delay))
            return await run()
    except TimeoutError:
        assert scope.cancel_called, "a TimeoutError of its own"
        return None


async def by_task_cancel(run: Run, armed: Callable[[Arm], None]) -> UploadResult | None:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(run())
    armed(lambda delay: loop.call_later(delay, task.cancel))
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


async def by_cancels_in_a_row(run: Run, armed: Callable[[Arm], None]) -> UploadResult | None:
    """As somebody who presses Ctrl-C again and again."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(run())

    def again() -> None:
        if task.cancel():
            loop.call_soon(again)

    armed(lambda delay: loop.call_later(delay, again))
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


async def by_handle(run: Run, armed: Callable[[Arm], None]) -> UploadResult | None:
    loop, handles = asyncio.get_running_loop(), list[UploadHandle]()

    def cancel() -> None:
        for handle in handles:  # there is none of a `resume`
            handle.cancel()

    armed(lambda delay: loop.call_later(delay, cancel))
    try:
        return await run(handles=handles)
    except UploadCancelled:
        return None


async def by_closing(run: Run, armed: Callable[[Arm], None]) -> UploadResult | None:
    """Its Uploader's context ends."""
    loop, closing = asyncio.get_running_loop(), asyncio.Event()
    async with Uploader(retry=RetryPolicy(base_delay=0)) as another:
        task = asyncio.ensure_future(run(uploader=another))
        task.add_done_callback(lambda _: closing.set())
        armed(lambda delay: loop.call_later(delay, closing.set))
        await closing.wait()
    try:
        return await task
    except UploadCancelled:
        return None


WAYS = {
    way.__name__: way for way in (by_timeout, by_fail_after, by_task_cancel, by_cancels_in_a_row, by_handle, by_closing)
}


class Moment:
    """When to cancel: so many seconds after the so-many-th event of the upload, where 0 is its beginning."""

    def __init__(self, events: int, delay: float) -> None:
        self._events, self._delay = events, delay
        self._arm: Arm | None = None
        self.due = math.inf
        """By the event loop's clock, once that is known."""

    def armed(self, arm: Arm) -> None:
        self._arm = arm
        self.count(None)

    def count(self, event: bigupload.Event | None) -> None:
        self._events -= event is not None
        if self._events <= 0 and self._arm is not None:
            self._arm(self._delay)
            self._arm = None
            self.due = asyncio.get_running_loop().time() + self._delay


# --- what must not be left


async def assert_nothing_left(descriptors: int | None) -> None:
    """`descriptors`: how many there were before; None where an Uploader keeps connections, and threads."""

    def tasks() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - {asyncio.current_task()}

    try:  # connections that were being made ahead are made
        await until(lambda: not tasks())
    except AssertionError as e:
        e.add_note(f"tasks are left: {tasks()}")
        raise
    if descriptors is not None:
        try:  # a call that only asks is left behind in its thread, until the store answers
            await until(lambda: not own_threads())
            await until(lambda: open_descriptors() <= descriptors)
        except AssertionError as e:
            e.add_note(f"{own_threads()}, {open_descriptors()} of {descriptors}")
            raise
    gc.collect()  # so that what nobody closed or retrieved says so


# --- the uploads


class Uploads:
    """One upload after another."""

    def __init__(self, order: Order) -> None:
        self.order, self.told = order, Told()
        self._random = random.Random(order.seed)
        self._directory = Path(order.directory)
        self._typical, self._events = 0.0, 0
        """How long an upload takes that nobody cancels, in seconds, and how many events it has at least."""

    @property
    def done(self) -> bool:
        return self.told.ways.total() >= self.order.cancels

    def _manifest(self, number: int) -> Path:
        return self._directory / f"{number}.manifest.jsonl"

    def _known(self, number: int) -> Manifest | None:
        path = self._manifest(number)
        return read_manifest(path).manifest if path.exists() and path.stat().st_size else None

    async def _run(
        self,
        number: int,
        on_event: Callable[[bigupload.Event], None],
        *,
        uploader: Any,
        resume: bool = False,
        handles: list[UploadHandle] | None = None,
    ) -> UploadResult:
        order, more = (
            self.order,
            {"uploader": Uploader(retry=RetryPolicy(base_delay=0))} if uploader is bigupload else {},
        )
        if resume:
            result = await uploader.resume(self._manifest(number), on_event=on_event, **more)
        else:
            s3 = S3Options(
                endpoint_url=order.endpoint,
                region=order.region,
                ca_bundle=None if order.ca_bundle is None else Path(order.ca_bundle),
            )
            call = uploader.upload if handles is None else uploader.start
            begun = call(
                self._directory / "file.bin", to=f"s3://{order.bucket}/{number}", s3=s3, part_size=order.part_size,
                manifest=self._manifest(number), on_event=on_event, **more,
            )  # fmt: skip
            if handles is not None:
                handles.append(begun)
            result = await begun
        assert isinstance(result, UploadResult)
        return result

    async def measure(self) -> None:
        """Two uploads that nobody cancels; the first one pays for the imports."""
        for _ in range(2):
            seen: list[bigupload.Event] = []
            began = asyncio.get_running_loop().time()
            await self._run(self._next(), seen.append, uploader=bigupload)
            self._typical = asyncio.get_running_loop().time() - began
            self._events = sum(not isinstance(event, events.Progress) for event in seen)  # those depend on time

    def _next(self) -> int:
        self.told.uploads += 1
        return self.told.uploads

    def _moment(self) -> Moment:
        if self._random.random() < 0.5:
            return Moment(0, self._random.uniform(0, self._typical * self._random.choice([0.1, 1.0])))
        return Moment(self._random.randrange(self._events), self._random.uniform(0, 2 * self._typical / self._events))

    async def run(self) -> None:
        """One upload, cancelled until it is proved, or the cancels are used up."""
        before, number = open_descriptors(), self._next()
        if self._random.random() < 0.5:
            while not await self._step(number, bigupload):
                await assert_nothing_left(before)
            return
        async with Uploader(retry=RetryPolicy(base_delay=0)) as uploader:
            neighbour = asyncio.create_task(self._run(self._next(), lambda _: None, uploader=uploader))
            proved = await self._step(number, uploader)
            assert (await neighbour).verified is Verified.FULL_OBJECT, "the cancel of another upload disturbed it"
            while not proved:
                await assert_nothing_left(None)
                proved = await self._step(number, uploader)
        await assert_nothing_left(before)

    async def _step(self, number: int, uploader: Any) -> bool:
        """Upload or resume, and perhaps cancel that. Returns whether the object is proved."""
        known = self._known(number)
        recorded = 0 if known is None else len(known.parts)
        moment = Moment(sys.maxsize, 0) if self.done else self._moment()
        least = min(self.told.ways[way] for way in WAYS)
        way = self._random.choice([way for way in sorted(WAYS) if self.told.ways[way] == least])
        # The same command would upload once more what was complete when it was cancelled.
        resume = known is not None and (known.status == "completed" or self._random.random() < 0.5)
        run = functools.partial(self._run, number, moment.count, uploader=uploader, resume=resume)
        result = await WAYS[way](run, moment.armed)
        if result is None:
            self.told.ways[way] += 1
            self.told.slowest = max(self.told.slowest, asyncio.get_running_loop().time() - moment.due)
            known = self._known(number)
            self.told.stages["none" if known is None else known.status] += 1
            return False
        assert result.verified is Verified.FULL_OBJECT, result
        assert result.resumed_parts >= recorded, f"{result.resumed_parts} of {recorded} recorded parts were resumed"
        return True

    async def last(self) -> None:
        """Cancelled half way, as the last thing that this program does."""
        number, moment = self._next(), Moment(self._events // 2, 0.0)
        result = await by_task_cancel(
            functools.partial(self._run, number, moment.count, uploader=bigupload), moment.armed
        )
        assert result is None, "it had fewer events than the others"
        self.told.last_cancel = time.monotonic()


def run_alone(work: Coroutine[Any, Any, None]) -> None:
    """In an event loop of its own, which leaves nothing behind either."""
    descriptors, threads = open_descriptors(), set(threading.enumerate())
    asyncio.run(work)
    gc.collect()
    asyncio.run(until(lambda: set(threading.enumerate()) <= threads))
    assert open_descriptors() <= descriptors, "descriptors are left"


def main() -> None:
    order = Order(**json.loads(sys.argv[1]))
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # at WARNING the debug mode tells of a slow machine
    S3Store.limits = Limits(min_part_size=order.part_size)
    # A create that takes longer leaves an upload for `gc`, which the test would report.
    multipart_upload.CANCEL_GRACE = 60.0
    uploads = Uploads(order)
    asyncio.run(uploads.measure())
    gc.collect()
    gc.freeze()
    while not uploads.done:
        run_alone(uploads.run())
    assert not os.listdir(os.environ["TMPDIR"]), "temporary files are left"
    asyncio.run(uploads.last())  # what is left now ends with the process, or says so
    print(json.dumps(vars(uploads.told)))


if __name__ == "__main__":
    main()
