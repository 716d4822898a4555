"""A request and its answer, without the framework that brought the one and sends the other."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from multidict import CIMultiDict, CIMultiDictProxy, MultiDict

from bigupload.records import dataclass
from bigupload.service.access_log import LoggedRequest
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
