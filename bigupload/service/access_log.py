"""One JSON line for each request, on standard error. A line never holds a query (a handle), a header (a key), a body or
a signed URL."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import secrets
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from bigupload.service.problems import Refused

_STANDARD_ERROR = 2
_LONGEST_CAUSE = 1000
"""Characters. With the other fields, a line then stays below 4,096 bytes, which a pipe takes as a whole:
https://man7.org/linux/man-pages/man7/pipe.7.html"""
_FRAMES = 8


@dataclass(slots=True, kw_only=True)
class LoggedRequest:
    """One request, as the log and the metrics see it."""

    id: str
    method: str
    route: str
    """The path as it is declared: what a client makes up is not repeated."""
    remote: str | None
    started: float
    """Seconds, by the log's clock."""
    owner: str | None = None
    key_id: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def refused(self, refused: Refused) -> None:
        """Enter the response's code, and what the store had said."""
        self.more["code"] = refused.problem.code
        if refused.__cause__ is not None:
            self.more["cause"] = f"{type(refused.__cause__).__name__}: {refused.__cause__}"[:_LONGEST_CAUSE]

    def failed(self, error: BaseException) -> None:
        """Enter where a bug shows. Not the error's text: nothing has removed secrets from it."""
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        self.more["error"] = type(error).__name__
        self.more["at"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]


def write_line(line: str, descriptor: int = _STANDARD_ERROR) -> None:
    """Write a whole line by one call, so that the lines of several processes do not interleave."""
    with contextlib.suppress(OSError):  # a full disk, or a reader that is gone, must not fail a request
        os.write(descriptor, line.encode(errors="backslashreplace") + b"\n")


class AccessLog:
    """Writes lines."""

    def __init__(
        self, *, write: Callable[[str], None] = write_line, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`write` takes a line without its end; `clock` gives seconds."""
        self._write = write
        self._clock = clock

    def begin(self, request: web.Request) -> LoggedRequest:
        """A request has come."""
        resource = request.match_info.route.resource
        return LoggedRequest(
            id=secrets.token_hex(8),
            method=request.method if request.method.isalpha() and len(request.method) < 16 else "?",
            route=resource.canonical if resource is not None else "?",
            remote=request.remote,
            started=self._clock(),
        )

    def begin_unread(self, request: web.BaseRequest) -> LoggedRequest:
        """A request has come of which nothing is to be repeated, since it is not valid HTTP."""
        return LoggedRequest(
            id=secrets.token_hex(8), method="?", route="?", remote=request.remote, started=self._clock()
        )

    def end(self, logged: LoggedRequest, *, status: int) -> None:
        """A request was answered."""
        self.write_event(
            "request",
            id=logged.id,
            method=logged.method,
            route=logged.route,
            status=status,
            ms=round(self.seconds(logged) * 1000, 1),
            owner=logged.owner,
            key=logged.key_id,
            remote=logged.remote,
            **logged.more,
        )

    def seconds(self, logged: LoggedRequest) -> float:
        """How long a request has taken so far."""
        return self._clock() - logged.started

    def server_logger(self) -> logging.Logger:
        """A logger for aiohttp's own messages: its own would show a malformed request's lines, and so a key."""
        logger = logging.Logger("bigupload.service")  # not getLogger: a parent's handler would write everything
        logger.addHandler(_RedactingHandler(self))
        return logger

    def take_over(self, name: str) -> None:
        """Write what the logger `name` is told, and nobody else does."""
        logger = logging.getLogger(name)
        logger.handlers = [_RedactingHandler(self)]
        logger.propagate = False

    def write_event(self, event: str, **fields: Any) -> None:
        """Write a line. Fields that are None are left out."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        known = {name: value for name, value in fields.items() if value is not None}
        self._write(json.dumps({"time": now, "event": event, **known}))


class _RedactingHandler(logging.Handler):
    """Of a record, writes the message without its arguments, and the kind of its exception."""

    def __init__(self, log: AccessLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        self._log.write_event("server", message=str(record.msg), cause=None if kind is None else kind.__name__)
