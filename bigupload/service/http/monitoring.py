"""Counts and times for Prometheus, OpenTelemetry's spans, and the bucket whose calls have both.

Each of several workers writes its counts to files, which any of them can sum up. How many uploads are open is counted
in the store's list, and not by this process.

There is a span for each request and for each call to the store, only in a process that has loaded OpenTelemetry
already, as `opentelemetry-instrument` does, or an application that configured it. Elsewhere nothing is imported, and a
request costs one comparison. Spans hold what the log holds: no query, header, body or error text, which may contain
secrets.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prometheus_client
from multidict import CIMultiDict, CIMultiDictProxy
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bigupload import __version__, errors
from bigupload.core.retry_policy import Fault
from bigupload.service import contract as c
from bigupload.service.call import Answer, LoggedRequest, WebCall
from bigupload.stores.s3.bucket import S3Bucket

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.util.types import AttributeValue

_COUNT_HOLDS = 60.0
"""Seconds for which a count of open uploads holds: Prometheus asks as often, or more often."""
_MOST_COUNTED = 10_000
"""Open uploads that are counted at most, by ten requests to the store."""
MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client reads this when it is imported: it must be set before a worker starts."""


_STORE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Seconds. A complete or a copy of a large file takes minutes."""
_ENDED = "ended-workers"
"""A file in that directory, with a line for each worker that died. The library reads only files that end in .db."""


def count_ended_worker(how: str, pid: int | None) -> None:
    """Count a worker that died. The parent of the workers calls it, which has no metrics of its own.

    Args:
        how: "SIGKILL", or the exit status as text.
        pid: The worker's process id: what it said of the present moment does not count any more.
    """
    with contextlib.suppress(OSError), Path(os.environ[MULTIPROCESS_DIR], _ENDED).open("a") as file:
        file.write(f"{how}\n")
    if pid is not None:
        with contextlib.suppress(OSError):
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # it has no types


class _EndedWorkers(Collector):
    """The number of workers that died, by the cause."""

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily("bigupload_workers_ended", "Workers that died and were replaced.", labels=["how"])
        try:
            lines = Path(os.environ[MULTIPROCESS_DIR], _ENDED).read_text().splitlines()
        except OSError:  # none died
            lines = []
        for how, count in collections.Counter(lines).items():
            family.add_metric([how], count)
        yield family


_Up = functools.partial(Gauge, multiprocess_mode="livemin")
_Latest = functools.partial(Gauge, multiprocess_mode="livemostrecent")
_StoreTimes = functools.partial(Histogram, buckets=_STORE_BUCKETS)
_Row = tuple[Callable[..., Counter | Gauge | Histogram], str, *tuple[str, ...]]
_METRICS: dict[str, _Row] = {
    "requests": (Counter, "Requests answered.", "method", "route", "status"),
    "request_seconds": (Histogram, "Time to answer.", "route"),
    "refused": (Counter, "Requests refused, by the error's code.", "code"),
    "hooks": (Counter, "Hooks asked.", "hook", "result"),
    "webhooks": (Counter, "Attempts to deliver.", "result"),
    "webhooks_waiting": (
        _Latest,
        "Notes of events in the bucket that are not delivered yet, as a process counted them last.",
    ),
    # The outcomes of uploads, as far as this service knows: a PUT goes to the store alone.
    "uploads_begun": (Counter, "Uploads presigned (put) or created (multipart).", "kind"),
    "uploads_begun_bytes": (Counter, "Bytes of these, as far as they were declared.", "kind"),
    "uploads_completed": (Counter, "Multipart uploads completed."),
    "uploads_completed_bytes": (Counter, "Bytes of these."),
    "store_seconds": (_StoreTimes, "Time of a call to the store.", "operation"),
    "store_failures": (
        Counter,
        "Calls to the store that failed: `gone` and `exists` may be in order.",
        "operation",
        "kind",
    ),
    "store_up": (_Up, "0 after the store did not respond to /readyz or to a request that waited, else 1."),
}
"""By name, without "bigupload_": the kind, the help and the labels."""
_SHARED_METRICS: dict[str, _Row] = {
    "shared_up": (_Up, "1 while Valkey or Redis responds to every process, else 0."),
    "shared_fallbacks": (Counter, "Requests limited by their process alone, because Valkey or Redis was away."),
}


class Metrics:
    """The metrics of one process."""

    def __init__(self, seconds: Callable[[LoggedRequest], float], *, shared: bool = False) -> None:
        """Make them.

        Args:
            seconds: How long a request has taken so far.
            shared: Whether the process shares limits with others. One that shares none has no metric that says so.
        """
        self._seconds_of = seconds
        self._registry = CollectorRegistry()
        rows = _METRICS | _SHARED_METRICS if shared else _METRICS
        self._metrics = {
            name: kind(f"bigupload_{name}", text, labels, registry=self._registry)
            for name, (kind, text, *labels) in rows.items()
        }
        self.more = CollectorRegistry()
        """Shown, too: values that are not counts of this process."""

    def record(self, name: str, *labels: str, value: float = 1.0) -> None:
        """Add `value` to a counter, set a gauge to it, or observe it in a histogram."""
        with contextlib.suppress(OSError):  # a full disk, or a directory that is gone, must break no request
            metric = self._metrics[name].labels(*labels) if labels else self._metrics[name]
            match metric:
                case Counter():
                    metric.inc(value)
                case Gauge():
                    metric.set(value)
                case Histogram():
                    metric.observe(value)

    def answered(self, logged: LoggedRequest, status: int) -> None:
        """A request was answered."""
        self.record("requests", logged.method, logged.route, str(status))
        self.record("request_seconds", logged.route, value=self._seconds_of(logged))
        if (code := logged.more.get("code")) is not None:
            self.record("refused", code)

    def worked(self, request: object, response: object) -> None:
        """An endpoint did what `request` asked for."""
        match request, response:
            case c.PresignRequest(), c.PresignResponse():
                self.record("uploads_begun", "put")
                self.record("uploads_begun_bytes", "put", value=request.size or 0)
            case c.CreateRequest(), c.CreateResponse():
                self.record("uploads_begun", "multipart")
                self.record("uploads_begun_bytes", "multipart", value=request.size)
            case c.CompleteRequest(), c.CompleteResponse():
                self.record("uploads_completed")
                self.record("uploads_completed_bytes", value=response.size)

    def exposition(self) -> Answer:
        """Prometheus's own text format."""
        registry = self._registry
        if os.environ.get(MULTIPROCESS_DIR):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no types
            registry.register(_EndedWorkers())
        return Answer(
            body=prometheus_client.generate_latest(registry) + prometheus_client.generate_latest(self.more),
            headers=CIMultiDict({"Content-Type": prometheus_client.CONTENT_TYPE_LATEST}),
        )


class OpenUploads(Collector):
    """The number of multipart uploads that are open in the bucket, as last counted.

    A scrape that finds the count too old has the store asked, and does not wait for that.
    """

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
                    if count == _MOST_COUNTED:
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
        if self._clock() - self._asked >= _COUNT_HOLDS and (self._asking is None or self._asking.done()):
            self._asked = self._clock()
            self._asking = asyncio.create_task(self._ask())
        if self._count is not None:
            text = f"Multipart uploads that are open in the bucket, up to {_MOST_COUNTED:,}; a minute old at most."
            yield GaugeMetricFamily("bigupload_uploads_open", text, value=self._count)


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
    def _span(
        self, name: str, kind: str, attributes: Mapping[str, AttributeValue], sent: CIMultiDictProxy[str] | None = None
    ) -> Iterator[trace.Span | None]:
        """Make a span, which continues the trace that the headers `sent` name; None: there are no spans."""
        if self._tracer is None:
            yield None
            return
        from opentelemetry import propagate, trace

        with self._tracer.start_as_current_span(
            name,
            context=None if sent is None else propagate.extract(sent),
            kind=trace.SpanKind[kind],
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    @contextlib.contextmanager
    def of_request(self, call: WebCall, logged: LoggedRequest) -> Iterator[Callable[[int], None]]:
        """Make the span of a request, which continues its sender's trace. Yields what takes the response's status."""
        attributes = {"http.request.method": logged.method, "http.route": logged.route}
        with self._span(f"{logged.method} {logged.route}", "SERVER", attributes, call.headers) as span:
            if span is not None and span.get_span_context().is_valid:
                logged.more["trace"] = f"{span.get_span_context().trace_id:032x}"
            yield lambda status: _end(span, {"http.response.status_code": status, **_who(logged)}, failed=status >= 500)

    @contextlib.contextmanager
    def of_store_call(self, operation: str) -> Iterator[Callable[[str], None]]:
        """Make the span of a call to the store, as in "ListParts". Yields what takes the kind of a failure."""
        attributes = {
            "rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": operation, "aws.s3.bucket": self._bucket,
        }  # fmt: skip
        with self._span(f"S3.{operation}", "CLIENT", attributes) as span:
            yield lambda kind: _end(span, {"error.type": kind}, failed=True)


def _end(span: trace.Span | None, attributes: Mapping[str, AttributeValue], *, failed: bool) -> None:
    if span is not None:
        from opentelemetry import trace

        span.set_attributes(attributes)
        if failed:
            span.set_status(trace.StatusCode.ERROR)


def _who(logged: LoggedRequest) -> dict[str, AttributeValue]:
    """Return the sender of a request as attributes of a span."""
    known = {"bigupload.owner": logged.owner, "bigupload.key": logged.key_id, "error.type": logged.more.get("code")}
    return {name: value for name, value in known.items() if value is not None}


class MonitoredBucket(S3Bucket):
    """An `S3Bucket` whose calls are timed, counted and traced."""

    def __init__(self, *arguments: Any, metrics: Metrics, tracing: Tracing, **named: Any) -> None:
        """Make it. The other arguments are those of `S3Bucket`."""
        super().__init__(*arguments, **named)
        self._metrics = metrics
        self._tracing = tracing

    async def call(self, what: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """Call an operation of S3, as `S3Bucket.call` says."""
        began = time.perf_counter()
        problem: str | None = None
        with self._tracing.of_store_call(operation) as failed:
            try:
                return await super().call(what, operation, **arguments)
            except (Fault, errors.BigUploadError) as e:
                problem = e.kind.name.lower() if isinstance(e, Fault) else type(e).__name__
                failed(problem)
                raise
            finally:
                self._metrics.record("store_seconds", operation, value=time.perf_counter() - began)
                if problem is not None:
                    self._metrics.record("store_failures", operation, problem)
