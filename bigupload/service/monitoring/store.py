"""The store's bucket, each call of which is timed, counted and traced."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.service.metrics import Metrics
from bigupload.service.monitoring.tracing import Tracing
from bigupload.stores.s3.bucket import S3Bucket


class MonitoredBucket(S3Bucket):
    """An `S3Bucket` that tells how its calls went."""

    def __init__(
        self,
        *arguments: Any,
        metrics: Metrics,
        tracing: Tracing,
        clock: Callable[[], float] = time.perf_counter,
        **named: Any,
    ) -> None:
        """Make it. `clock` returns seconds; the other arguments are those of `S3Bucket`."""
        super().__init__(*arguments, **named)
        self._metrics = metrics
        self._tracing = tracing
        self._clock = clock

    async def call(self, what: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call an operation of S3, as `S3Bucket.call` says."""
        began = self._clock()
        problem: str | None = None
        with self._tracing.of_store_call(operation) as failed:
            try:
                return await super().call(what, operation, **arguments)
            except (Fault, errors.BigUploadError) as e:
                problem = e.kind.name.lower() if isinstance(e, Fault) else type(e).__name__
                failed(problem)
                raise
            finally:
                self._metrics.asked_store(operation, self._clock() - began, problem)
