"""How many multipart uploads are open in the bucket: counted in the store's list, and not by this process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bigupload import errors
from bigupload.core.retry_policy import Fault

_FRESH_FOR = 60.0
"""For how many seconds a count holds: Prometheus asks as often, or more often."""
_MOST = 10_000
"""So many are counted: ten requests to the store."""


class OpenUploads(Collector):
    """The last count. A scrape that finds it too old has the store asked, and does not wait for that."""

    def __init__(
        self, uploads: Callable[[], AsyncIterator[Mapping[str, Any]]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make it.

        Args:
            uploads: Yields the rows of all open uploads.
            clock: Returns seconds.
        """
        self._uploads = uploads
        self._clock = clock
        self._count: int | None = None
        self._asked = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def _ask(self) -> None:
        count = 0
        try:
            async with contextlib.aclosing(self._uploads()) as rows:  # type: ignore[type-var]  # it is a generator
                async for _ in rows:
                    count += 1
                    if count == _MOST:
                        break
        except (Fault, errors.BigUploadError):
            self._count = None  # better none than an old one
        else:
            self._count = count

    async def aclose(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The count, once there is one. It is counted again in the background, if it is old."""
        if self._clock() - self._asked >= _FRESH_FOR and (self._asking is None or self._asking.done()):
            self._asked = self._clock()
            self._asking = asyncio.create_task(self._ask())
        if self._count is not None:
            told = f"Multipart uploads that are open in the bucket, up to {_MOST:,}; a minute old at most."
            yield GaugeMetricFamily("bigupload_uploads_open", told, value=self._count)
