"""One JSON line a request, on standard error. Never in it: queries (a handle), headers (a key), bodies, signed URLs."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import secrets
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from bigupload.service.problems import Refused


@dataclass(slots=True, kw_only=True)
class Visit:
    """One request, as the log and the metrics see it."""

    id: str
    method: str
    route: str
    """The path as it was declared: what a client makes up is not repeated."""
    remote: str | None
    began: float
    owner: str | None = None
    key_id: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def refused(self, refused: Refused) -> None:
        """What the answer's code was, and what the store had said."""
        self.more["code"] = refused.problem.code
        if refused.__cause__ is not None:
            self.more["cause"] = f"{type(refused.__cause__).__name__}: {refused.__cause__}"

    def failed(self, error: BaseException) -> None:
        """Where it happened. Not the error's text: nobody has seen to it that it holds nothing secret."""
        frames = traceback.extract_tb(error.__traceback__)
        self.more["error"] = type(error).__name__
        self.more["at"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-8:]]


def _write(line: str) -> None:
    with contextlib.suppress(OSError):  # a full disk, or a reader that is gone, must break no request
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is the log


class AccessLog:
    """Writes lines by `write`."""

    def __init__(self, *, write: Callable[[str], None] = _write, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock

    def begin(self, request: web.Request) -> Visit:
        """A request has come."""
        resource = request.match_info.route.resource
        return Visit(
            id=secrets.token_hex(8),
            method=request.method if request.method.isalpha() and len(request.method) < 16 else "?",
            route=resource.canonical if resource is not None else "?",
            remote=request.remote,
            began=self._clock(),
        )

    def end(self, visit: Visit, *, status: int) -> None:
        """It has been answered."""
        self.tell(
            "request",
            id=visit.id,
            method=visit.method,
            route=visit.route,
            status=status,
            ms=round(self.seconds(visit) * 1000, 1),
            owner=visit.owner,
            key=visit.key_id,
            remote=visit.remote,
            **visit.more,
        )

    def seconds(self, visit: Visit) -> float:
        """How long the request has taken so far."""
        return self._clock() - visit.began

    def of_the_server(self) -> logging.Logger:
        """For aiohttp's own messages: of a request that is no HTTP, it would show the lines, and so the key."""
        logger = logging.Logger("bigupload.service")  # not getLogger: a parent would write it all down
        logger.addHandler(_Discreet(self))
        return logger

    def tell(self, event: str, **fields: Any) -> None:
        """Any other line: a start, a sweep."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        known = {name: value for name, value in fields.items() if value is not None}
        self._write(json.dumps({"time": now, "event": event, **known}))


class _Discreet(logging.Handler):
    """Of a record, the message without what was put into it, and the kind of its exception."""

    def __init__(self, log: AccessLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        self._log.tell("server", message=str(record.msg), cause=None if kind is None else kind.__name__)
