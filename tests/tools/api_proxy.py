"""Stands before the media service: counts its calls, changes what is asked, holds a call back, loses an answer.

Only the API passes here; the parts go to the store directly. Callbacks run in the proxy's threads.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

_NAMES = {
    ("POST", "/v1/media/multipart"): "create",
    ("GET", "/v1/media/multipart"): "status",
    ("DELETE", "/v1/media/multipart"): "abort",
    ("POST", "/v1/media/multipart/parts"): "sign",
    ("GET", "/v1/media/multipart/parts"): "list",
    ("POST", "/v1/media/multipart/complete"): "complete",
}
_NOT_FORWARDED = {"host", "connection", "content-length", "accept-encoding", "transfer-encoding"}


@dataclass
class ApiProxy:
    """All by the call's name: create, sign, list, status, complete, abort."""

    url: str
    calls: list[str] = field(default_factory=list)
    """In the order in which they came."""
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    """Called before the call is handed on; may wait."""
    change: dict[str, Callable[[dict[str, Any]], object]] = field(default_factory=dict)
    """Changes the body in place."""
    lose: list[str] = field(default_factory=list)
    """Whose next answer is lost; each entry once."""

    def hold(self, name: str) -> threading.Event:
        """Keep calls waiting until the event is set."""
        event = threading.Event()
        self.before[name] = event.wait
        return event


@contextlib.contextmanager
def api_proxy(upstream: str) -> Iterator[ApiProxy]:
    """A proxy on a free port."""
    client = httpx.Client(base_url=upstream, timeout=60, trust_env=False)
    proxy = ApiProxy("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            name = _NAMES.get((self.command, self.path.partition("?")[0]), "other")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            proxy.calls.append(name)
            proxy.before.get(name, lambda: None)()
            if name in proxy.change:
                asked = json.loads(body)
                proxy.change[name](asked)
                body = json.dumps(asked).encode()
            headers = {n: v for n, v in self.headers.items() if n.lower() not in _NOT_FORWARDED}
            answer = client.request(self.command, self.path, content=body, headers=headers)
            if name in proxy.lose:
                proxy.lose.remove(name)
                self.close_connection = True
                return
            with contextlib.suppress(OSError):  # the client was killed
                self.send_response(answer.status_code)
                for n, v in answer.headers.items():
                    if n.lower() not in _NOT_FORWARDED:
                        self.send_header(n, v)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

        do_GET = do_POST = do_DELETE = handle_any

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, name="api-proxy")
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        client.close()
