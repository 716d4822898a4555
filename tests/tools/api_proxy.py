"""`FaultProxy` before the media service: counts its calls, changes what is asked, holds a call back, loses a response.

Only the API passes here; the parts go to the store directly. Callbacks run in threads of the proxy's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from bigupload.testing.fault_proxy import FaultProxy
from bigupload.testing.fault_proxy.exchange import Head
from bigupload.testing.faults import Alter, Call, LostResponse, Refuse, StoreFault

_NAMES = {
    ("POST", "/v1/media/multipart"): "create",
    ("GET", "/v1/media/multipart"): "status",
    ("DELETE", "/v1/media/multipart"): "abort",
    ("POST", "/v1/media/multipart/parts"): "sign",
    ("GET", "/v1/media/multipart/parts"): "list",
    ("POST", "/v1/media/multipart/complete"): "complete",
    ("POST", "/v1/media/check"): "check",
}


class ApiProxy(FaultProxy):
    """All by the call's name: create, sign, list, status, complete, abort, check. One thing goes wrong with a call."""

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        assert address.hostname is not None
        assert address.port is not None
        super().__init__(address.hostname, address.port, name=self._call)
        self.before: dict[str, Callable[[], object]] = {}
        """Called before the call is handed on; may wait."""
        self.change: dict[str, Callable[[dict[str, Any]], object]] = {}
        """Changes the body in place."""
        self.keys: dict[str, str] = {}
        """The API key or token with which a call is handed on, in place of its own."""
        self.at_random(self._fate)

    @property
    def calls(self) -> list[str]:
        """In the order in which they came."""
        return [exchange.op for exchange in list(self.exchanges)]

    def lose(self, *names: str) -> None:
        """Of each, the next response."""
        for name in names:
            self.script(name, LostResponse())

    def refuse(self, name: str, status: int, code: str) -> None:
        """Respond to the next such call in the service's place, and tell it nothing. A code that begins with "<" is the
        whole body, as of a balancer that fails."""
        body = code if code.startswith("<") else json.dumps({"error": {"code": code, "message": "No."}})
        self.script(name, Refuse(status, headers={"Retry-After": "0"}, body=body.encode()))

    def hold(self, name: str) -> threading.Event:
        """Keep calls waiting until the event is set."""
        event = threading.Event()
        self.before[name] = event.wait
        return event

    def _call(self, head: Head) -> tuple[str, int | None]:
        method, target, _ = head.start
        name = _NAMES.get((method, target.partition("?")[0]), "other")
        if name in self.keys:  # nobody else sees the head before it is handed on
            head.headers["authorization"] = f"Bearer {self.keys[name]}"
        return name, None

    def _fate(self, name: str) -> StoreFault | None:
        if name in self.before:
            before = self.before[name]
            return Call(lambda _: before())
        return Alter(lambda body: self._changed(name, body)) if name in self.change else None

    def _changed(self, name: str, body: bytes) -> bytes:
        asked = json.loads(body)
        self.change[name](asked)
        return json.dumps(asked).encode()
