"""Events, their ids and their bodies, as https://www.standardwebhooks.com lays them out. Pure.

`contract` declares the types of events.

An event's id follows from what happened to which version of which object. So whoever notes the same event again, as
another replica after a kill, gives it the same id, and a receiver can recognise a duplicate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bigupload.records import dataclass

EVENT_PREFIX = "evt_"
"""How ids begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. Its body is kept as it was first written: each attempt sends the same bytes."""

    id: str
    """The header `webhook-id` of all attempts and duplicates."""
    type: str
    body: str
    """JSON."""


def event(kind: str, version: str, data: Mapping[str, Any], now: float) -> Event:
    """Make an event.

    Args:
        kind: Its type, one of those in `contract.BODIES`.
        version: What it is about; two events of one type and one version are the same event.
        data: The field `data` of the body.
        now: When it happened, in seconds since 1970.
    """
    digest = hashlib.sha256(f"{kind}\n{version}".encode()).hexdigest()[:32]
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    body = json.dumps({"type": kind, "timestamp": at, "data": dict(data)}, separators=(",", ":"))
    return Event(id=EVENT_PREFIX + digest, type=kind, body=body)
