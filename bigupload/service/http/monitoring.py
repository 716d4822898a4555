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
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prometheus_client
from multidict import CIMultiDict
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bigupload import __version__, errors
from bigupload.core.retry_policy import Fault
from bigupload.service import contract as c
from bigupload.service.access_log import LoggedRequest
from bigupload.service.call import Answer, WebCall
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


class _EngineMetrics:
    """The metrics of a process that shares limits with others. Who shares none has no metric that says so."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge(
            "bigupload_shared_up",
            "1 while Valkey or Redis responds to every process, else 0.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.alone = Counter(
            "bigupload_shared_fallbacks",
            "Requests limited by their process alone, because Valkey or Redis was away.",
            registry=registry,
        )


class _UploadMetrics:
    """The outcomes of uploads, as far as this service knows: a PUT goes to the store alone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._begun = Counter(
            "bigupload_uploads_begun",
            "Uploads presigned (put) or created (multipart).",
            ["kind"],
            registry=registry,
        )
        self._begun_bytes = Counter(
            "bigupload_uploads_begun_bytes",
            "Bytes of these, as far as they were declared.",
            ["kind"],
            registry=registry,
        )
        self._completed = Counter("bigupload_uploads_completed", "Multipart uploads completed.", registry=registry)
        self._completed_bytes = Counter("bigupload_uploads_completed_bytes", "Bytes of these.", registry=registry)

    def count(self, request: object, response: object) -> None:
        match request, response:
            case c.PresignRequest(), c.PresignResponse():
                self._begin("put", request.size or 0)
            case c.CreateRequest(), c.CreateResponse():
                self._begin("multipart", request.size)
            case c.CompleteRequest(), c.CompleteResponse():
                self._completed.inc()
                self._completed_bytes.inc(response.size)
            case _:
                pass

    def _begin(self, kind: str, size: int) -> None:
        self._begun.labels(kind).inc()
        self._begun_bytes.labels(kind).inc(size)


class Metrics:
    """The metrics of one process."""

    def __init__(self, seconds: Callable[[LoggedRequest], float]) -> None:
        """`seconds`: how long a request has taken so far."""
        self._seconds_of = seconds
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "bigupload_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._hooks = Counter("bigupload_hooks", "Hooks asked.", ["hook", "result"], registry=self._registry)
        self._webhooks = Counter("bigupload_webhooks", "Attempts to deliver.", ["result"], registry=self._registry)
        self._waiting = Gauge(
            "bigupload_webhooks_waiting",
            "Notes of events in the bucket that are not delivered yet, as a process counted them last.",
            registry=self._registry,
            multiprocess_mode="livemostrecent",
        )
        self._seconds = Histogram("bigupload_request_seconds", "Time to answer.", ["route"], registry=self._registry)
        self._refused = Counter(
            "bigupload_refused", "Requests refused, by the error's code.", ["code"], registry=self._registry
        )
        self._uploads = _UploadMetrics(self._registry)
        self._store_seconds = Histogram(
            "bigupload_store_seconds",
            "Time of a call to the store.",
            ["operation"],
            buckets=_STORE_BUCKETS,
            registry=self._registry,
        )
        self._store_failures = Counter(
            "bigupload_store_failures",
            "Calls to the store that failed: `gone` and `exists` may be in order.",
            ["operation", "kind"],
            registry=self._registry,
        )
        self._store_up = Gauge(
            "bigupload_store_up",
            "0 after the store did not respond to /readyz or to a request that waited, else 1.",
            registry=self._registry,
            multiprocess_mode="livemin",
        )
        self._more: list[Collector] = []
        self._shared: _EngineMetrics | None = None

    def observe(self, logged: LoggedRequest, status: int) -> None:
        """A request was answered."""
        with contextlib.suppress(OSError):  # a full disk, or a directory that is gone, must break no request
            self._requests.labels(logged.method, logged.route, str(status)).inc()
            self._seconds.labels(logged.route).observe(self._seconds_of(logged))
            if (code := logged.more.get("code")) is not None:
                self._refused.labels(code).inc()

    def worked(self, request: object, response: object) -> None:
        """An endpoint did what `request` asked for."""
        with contextlib.suppress(OSError):
            self._uploads.count(request, response)

    def store_responds(self, responds: bool) -> None:
        """The store responds, or does not."""
        with contextlib.suppress(OSError):
            self._store_up.set(responds)

    def asked_store(self, operation: str, seconds: float, problem: str | None) -> None:
        """A call to the store ended, with `problem` if it failed."""
        with contextlib.suppress(OSError):
            self._store_seconds.labels(operation).observe(seconds)
            if problem is not None:
                self._store_failures.labels(operation, problem).inc()

    def also(self, collector: Collector) -> None:
        """Show what `collector` has, too: values that are not counts of this process."""
        self._more.append(collector)

    def shared_responds(self, responds: bool) -> None:
        """The engine through which replicas share limits responds, or does not. It appears here for the first time."""
        self._shared = self._shared or _EngineMetrics(self._registry)
        with contextlib.suppress(OSError):
            self._shared.up.set(responds)

    def limited_alone(self) -> None:
        """A request was limited by this process alone, because the engine was away."""
        if self._shared is not None:
            with contextlib.suppress(OSError):
                self._shared.alone.inc()

    def count_hook(self, hook: str, result: str) -> None:
        """A hook was asked; `result`: accepted, refused or failed."""
        with contextlib.suppress(OSError):
            self._hooks.labels(hook, result).inc()

    def count_webhook(self, result: str) -> None:
        """An event was sent to a receiver; `result`: delivered, failed, gave up or stopped."""
        with contextlib.suppress(OSError):
            self._webhooks.labels(result).inc()

    def webhooks_waiting(self, number: int) -> None:
        """Set the number of notes of events that wait in the bucket."""
        with contextlib.suppress(OSError):
            self._waiting.set(number)

    def exposition(self) -> Answer:
        """Prometheus's own text format."""
        registry = self._registry
        if os.environ.get(MULTIPROCESS_DIR):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no types
            registry.register(_EndedWorkers())
        more = CollectorRegistry()
        for collector in self._more:
            more.register(collector)
        return Answer(
            body=prometheus_client.generate_latest(registry) + prometheus_client.generate_latest(more),
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
    def of_request(self, call: WebCall, logged: LoggedRequest) -> Iterator[Callable[[int], None]]:
        """Make the span of a request, which continues its sender's trace. Yields what takes the response's status."""
        if self._tracer is None:
            yield lambda _: None
            return
        from opentelemetry import propagate, trace

        with self._tracer.start_as_current_span(
            f"{logged.method} {logged.route}",
            context=propagate.extract(call.headers),
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

    def __init__(self, *arguments: Any, metrics: Metrics, tracing: Tracing, **named: Any) -> None:
        """Make it. The other arguments are those of `S3Bucket`."""
        super().__init__(*arguments, **named)
        self._metrics = metrics
        self._tracing = tracing

    async def call(self, what: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """WebCall an operation of S3, as `S3Bucket.call` says."""
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
                self._metrics.asked_store(operation, time.perf_counter() - began, problem)
