"""What a service wrote into its log, against what `endpoints` declares and against what must never be there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from bigupload.service.http.endpoints import ENDPOINTS

_DECLARED = {(endpoint.method, endpoint.path): {p.code for p in endpoint.problems} for endpoint in ENDPOINTS}
_SECRET = re.compile(r"sk_|X-Amz-|Signature|Bearer|WzEs\w{20}|\.eJ[\w-]{20}")
"""Keys, signed URLs, handles (plain and compressed)."""


def log_lines(log: str) -> Iterator[dict[str, Any]]:
    """The lines of a log that are the service's own."""
    for line in log.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def what_is_wrong(log: str) -> list[str]:
    """Each line with a code that its endpoint does not declare, that met a bug, that is no JSON, or holds a secret."""
    wrong = []
    for line in log.splitlines():
        if line.startswith("bigupload: "):  # a warning when it was started
            continue
        told = json.loads(line) if line.startswith("{") else {"error": "not the service's own"}
        declared = _DECLARED.get((told.get("method"), told.get("route")))
        undeclared = declared is not None and told.get("code") not in {None, "method_not_allowed", *declared}
        if "error" in told or undeclared or _SECRET.search(line):
            wrong.append(line)
    return wrong
