"""What a service answered, by its log, against what `endpoints` declares."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bigupload.service.endpoints import ENDPOINTS

_DECLARED = {
    (endpoint.method, endpoint.path): {p.code for p in (*endpoint.common_problems, *endpoint.problems)}
    for endpoint in ENDPOINTS
}


def log_lines(log: str) -> Iterator[dict[str, Any]]:
    """The lines of a log that are the service's own."""
    for line in log.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def undeclared(log: str) -> list[str]:
    """Each line of a request whose code its endpoint does not declare, or that met a bug."""
    return [
        json.dumps(line)
        for line in log_lines(log)
        if line["event"] == "request"
        and (
            "error" in line  # a bug
            or line.get("code") not in {None, *_DECLARED.get((line["method"], line["route"]), {line.get("code")})}
        )
    ]
