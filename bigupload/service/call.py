"""A request and its answer, without the framework that brought the one and sends the other; and its line in the log.

The log has one JSON line for each request, on standard error. A line never contains a query (it may hold a handle), a
header (it may hold a key), a body or a signed URL.

A client can write any `X-Forwarded-For`, so a header counts only as far as trusted proxies wrote it: the addresses are
read from the right, where each proxy has added whom it got the request from, and the first that is not a trusted proxy
is the client: https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/X-Forwarded-For#selecting_an_ip_address
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import logging
import math
import os
import re
import secrets
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from multidict import CIMultiDict, CIMultiDictProxy, MultiDict

from bigupload import errors
from bigupload.records import dataclass
from bigupload.service.problems import Problem, Refused

JSON = "application/json"


class ClientLeftError(Exception):
    """The client left before the end of its request's body."""


@dataclass(kw_only=True)
class WebCall:
    """A request. `authorize` gets it where the framework has no request of its own."""

    method: str
    path: str
    """Below the prefix, decoded."""
    query_string: str
    """As the client sent it."""
    headers: CIMultiDictProxy[str]
    body: AsyncIterator[bytes]
    """Raises ClientLeftError."""
    prefix: str = ""
    """Where the service is mounted, without a slash at its end."""
    remote: str | None
    """The address of the peer, which may be a load balancer."""
    request: Any = None
    """The framework's own request, for `authorize`."""
    scope: Mapping[str, Any] | None = None
    """ASGI's, if it came so."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Those of the path, by name."""
    logged: LoggedRequest = field(init=False)
    """Its line in the log."""

    @cached_property
    def query(self) -> MultiDict[str]:
        """The query's parameters, decoded."""
        return MultiDict(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def host(self) -> str:
        """The host that the client asked for, with its port; "" if it named none."""
        return self.headers.get("Host", "")

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies, by name."""
        pairs = (pair.partition("=") for pair in ";".join(self.headers.getall("Cookie", ())).split(";"))
        return {name.strip(): value.strip().strip('"') for name, _, value in pairs if name.strip()}

    @property
    def content_type(self) -> str:
        """The type of the body, without parameters; "" if the client named none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()


@dataclass(slots=True, kw_only=True)
class Answer:
    """The response to a call."""

    status: int = 200
    body: bytes = b""
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    ends: bool = False
    """Whether the connection ends with it. The rest of the request is not read."""


def as_json(data: Any, *, status: int = 200) -> Answer:
    """Return an answer with a value as JSON."""
    headers = CIMultiDict({"Content-Type": f"{JSON}; charset=utf-8"})
    return Answer(status=status, body=json.dumps(data).encode(), headers=headers)


def refusal(refused: Refused) -> Answer:
    """Return the answer for an error."""
    answer = as_json(refused.to_json(), status=refused.problem.status)
    if refused.retry_after is not None:
        answer.headers["Retry-After"] = str(math.ceil(refused.retry_after))
    if refused.problem.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if refused.allow:
        answer.headers["Allow"] = ",".join(sorted(refused.allow))
    answer.ends = refused.problem in (Problem.BODY_TOO_LARGE, Problem.MALFORMED_REQUEST)
    return answer


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]+)?")
"""An address as proxies write it: IPv6 in brackets, each with or without a port. RFC 7239, 6."""
_MOST_HOPS = 50
"""More proxies than any path has. A header may be long, and the rest of it is not read."""


class TrustedProxies:
    """The load balancers whose word on their clients counts."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """`networks`: addresses, or networks like "10.0.0.0/8". Raises UsageError for anything else."""
        self._networks = [_network(text) for text in networks]

    def client(self, remote: str | None, headers: CIMultiDictProxy[str]) -> str | None:
        """Return the client's address; the peer's (`remote`), unless the peer is a trusted proxy and says more."""
        found = remote
        peer = None if found is None else _address(found)
        if peer is None or not self._trusts(peer):
            return found
        for _, hop in zip(range(_MOST_HOPS), reversed(_hops(headers)), strict=False):
            address = _address(hop)
            if address is None:  # "unknown", or no address at all: whoever is nearer is the last who is known
                break
            found = str(address)
            if not self._trusts(address):
                break
        return found

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _hops(headers: CIMultiDictProxy[str]) -> list[str]:
    """Return the addresses that proxies have written, the client's first.

    `Forwarded` counts only where there is no `X-Forwarded-For`: common balancers write the latter, and pass on a
    `Forwarded` that their client made up.
    """
    listed = ",".join(headers.getall("X-Forwarded-For", ()))
    if listed.strip():
        return [hop.strip() for hop in listed.split(",")]
    # Cut at every comma, also in quotes: what a client wrote can't take in what its proxy added.
    return [_forwarded_for(element) for element in ",".join(headers.getall("Forwarded", ())).split(",")]


def _forwarded_for(element: str) -> str:
    """`for=192.0.2.60;proto=http`: RFC 7239, 4."""
    pairs = (pair.partition("=") for pair in element.split(";"))
    return next((value.strip().strip('"') for name, _, value in pairs if name.strip().lower() == "for"), "")


def _address(text: str) -> _Address | None:
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address(text if match is None else match[1] or match[2])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise errors.UsageError(f"not a network: {text!r} (write it like 10.0.0.0/8 or 192.0.2.1)") from None


_STANDARD_ERROR = 2
_LONGEST_CAUSE = 1000
"""The longest field, in characters. It keeps a line below 4,096 bytes, which a pipe accepts as a whole:
https://man7.org/linux/man-pages/man7/pipe.7.html"""
_FRAMES = 8


@dataclass(slots=True, kw_only=True)
class LoggedRequest:
    """One request in the log and the metrics."""

    id: str
    method: str
    route: str
    """The declared path of the endpoint. The requested path is not logged."""
    remote: str | None
    """The client's address. Behind a load balancer that is not trusted, the balancer's."""
    started: float
    """The start, in seconds of the log's clock."""
    owner: str | None = None
    key_id: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def refused(self, refused: Refused) -> None:
        """Add the response's code, and the store's error."""
        self.more["code"] = refused.problem.code
        if refused.__cause__ is not None:
            self.more["cause"] = f"{type(refused.__cause__).__name__}: {refused.__cause__}"[:_LONGEST_CAUSE]

    def failed(self, error: BaseException) -> None:
        """Add the place of a bug. The error's text is left out, because it may contain secrets."""
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        self.more["error"] = type(error).__name__
        self.more["at"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]


def write_line(line: str, descriptor: int = _STANDARD_ERROR) -> None:
    """Write a whole line in one call, so that the lines of several processes do not interleave."""
    with contextlib.suppress(OSError):  # a full disk or a closed pipe must not fail a request
        os.write(descriptor, line.encode(errors="backslashreplace") + b"\n")


class AccessLog:
    """Writes the lines of the log."""

    def __init__(
        self,
        *,
        write: Callable[[str], None] = write_line,
        clock: Callable[[], float] = time.monotonic,
        proxies: TrustedProxies | None = None,
    ) -> None:
        """Make it.

        Args:
            write: Takes a line without its line end.
            clock: Returns seconds.
            proxies: Those whose word on their clients' addresses counts. None: nobody's.
        """
        self._write = write
        self._clock = clock
        self._proxies = proxies if proxies is not None else TrustedProxies()

    def begin(
        self, remote: str | None, headers: CIMultiDictProxy[str], *, method: str = "?", route: str = "?"
    ) -> LoggedRequest:
        """Begin a request. Of one that is not valid HTTP, nothing else is logged."""
        return LoggedRequest(
            id=secrets.token_hex(8),
            method=method if method.isalpha() and len(method) < 16 else "?",
            route=route,
            remote=self._proxies.client(remote, headers),
            started=self._clock(),
        )

    def end(self, logged: LoggedRequest, *, status: int) -> None:
        """Log the end of a request."""
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
        """Return the seconds that a request has taken so far."""
        return self._clock() - logged.started

    def server_logger(self) -> logging.Logger:
        """Return a logger for aiohttp's messages. aiohttp's own logger would show a malformed request, with its key."""
        logger = logging.Logger("bigupload.service")  # not getLogger: a parent's handler would also write its records
        logger.addHandler(_RedactingHandler(self))
        return logger

    def take_over(self, name: str) -> None:
        """Write the records of the logger `name`, and keep other handlers from writing them."""
        logger = logging.getLogger(name)
        logger.handlers = [_RedactingHandler(self)]
        logger.propagate = False

    def write_event(self, event: str, **fields: Any) -> None:
        """Write a line without the fields that are None."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        known = {name: value for name, value in fields.items() if value is not None}
        self._write(json.dumps({"time": now, "event": event, **known}))


class _RedactingHandler(logging.Handler):
    """Write a record's message without its arguments, and the type of its exception."""

    def __init__(self, log: AccessLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        self._log.write_event("server", message=str(record.msg), cause=None if kind is None else kind.__name__)
