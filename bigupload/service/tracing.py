"""OpenTelemetry's spans, one for each request and one for each call to the store; and the bucket that makes the latter.

Only in a process that has loaded the library already, as `opentelemetry-instrument` does, or an application that
configured it. Elsewhere nothing is imported, and a request costs one comparison. Spans hold what the log holds: no
query, header, body or error text, which may contain secrets.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from bigupload import errors
from bigupload.core.retry_policy import Fault
from bigupload.service.access_log import LoggedRequest
from bigupload.service.metrics import Metrics
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.version import __version__

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.util.types import AttributeValue


_LIBRARY = "opentelemetry.trace"


class Tracing:
    """Makes the spans of one service, or none."""

    def __init__(self, bucket: str) -> None:
        """`bucket` is the name of the store's bucket."""
        self._bucket = bucket
        self._tracer: trace.Tracer | None = None

    def start(self) -> None:
        """Make spans from now on, if the library is loaded. Until then, an application may configure it."""
        if _LIBRARY in sys.modules:
            from opentelemetry import trace

            self._tracer = trace.get_tracer("bigupload", __version__)

    @contextlib.contextmanager
    def of_request(self, request: web.Request, logged: LoggedRequest) -> Iterator[Callable[[int], None]]:
        """Make the span of a request, which continues its sender's trace. Yields what takes the response's status."""
        if self._tracer is None:
            yield lambda _: None
            return
        from opentelemetry import propagate, trace

        with self._tracer.start_as_current_span(
            f"{logged.method} {logged.route}",
            context=propagate.extract(request.headers),
            kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": logged.method, "http.route": logged.route},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            if span.get_span_context().is_valid:
                logged.more["trace"] = trace.format_trace_id(span.get_span_context().trace_id)

            def ended(status: int) -> None:
                span.set_attributes({"http.response.status_code": status, **_who(logged)})
                if status >= 500:
                    span.set_status(trace.StatusCode.ERROR)

            yield ended

    @contextlib.contextmanager
    def of_store_call(self, operation: str) -> Iterator[Callable[[str], None]]:
        """Make the span of a call to the store, as in "ListParts". Yields what takes the kind of a failure."""
        if self._tracer is None:
            yield lambda _: None
            return
        from opentelemetry import trace

        with self._tracer.start_as_current_span(
            f"S3.{operation}",
            kind=trace.SpanKind.CLIENT,
            attributes={
                "rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": operation, "aws.s3.bucket": self._bucket,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:  # fmt: skip

            def failed(kind: str) -> None:
                span.set_attribute("error.type", kind)
                span.set_status(trace.StatusCode.ERROR)

            yield failed


def _who(logged: LoggedRequest) -> dict[str, AttributeValue]:
    """Return the sender of a request as attributes of a span."""
    known = {"bigupload.owner": logged.owner, "bigupload.key": logged.key_id, "error.type": logged.more.get("code")}
    return {name: value for name, value in known.items() if value is not None}


class MonitoredBucket(S3Bucket):
    """An `S3Bucket` whose calls are timed, counted and traced."""

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
