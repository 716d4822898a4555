"""Counts and times for Prometheus. Each of several workers writes to files, which any of them can sum up."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import prometheus_client
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, multiprocess

from bigupload.service.access_log import LoggedRequest

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client reads this when it is imported: it must be set before a worker starts."""


class Metrics:
    """The metrics of one process."""

    def __init__(self, seconds: Callable[[LoggedRequest], float]) -> None:
        """`seconds`: how long a request has taken so far."""
        self._seconds_of = seconds
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "bigupload_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram("bigupload_request_seconds", "Time to answer.", ["route"], registry=self._registry)

    def observe(self, logged: LoggedRequest, status: int) -> None:
        """A request was answered."""
        with contextlib.suppress(OSError):  # a full disk, or a directory that is gone, must break no request
            self._requests.labels(logged.method, logged.route, str(status)).inc()
            self._seconds.labels(logged.route).observe(self._seconds_of(logged))

    async def handler(self, _: web.Request) -> web.Response:
        """Prometheus's own text format."""
        registry = self._registry
        if os.environ.get(MULTIPROCESS_DIR):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no types
        return web.Response(
            body=prometheus_client.generate_latest(registry),
            headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST},
        )
