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

    instead: list[tuple[str, int, str]] = field(default_factory=list)
    """Calls that are not handed on: the name, and the status and code of the refusal; a code that begins with "<" is
    the whole body, as of a balancer that fails. Each entry once."""

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
            for entry in [e for e in proxy.instead if e[0] == name][:1]:
                proxy.instead.remove(entry)
                refusal = json.dumps({"error": {"code": entry[2], "message": "No."}})
                self.answer(entry[1], {"Retry-After": "0"}, entry[2] if entry[2].startswith("<") else refusal)
                return
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
            self.answer(
                answer.status_code,
                {n: v for n, v in answer.headers.items() if n.lower() not in _NOT_FORWARDED},
                answer.text,
            )

        def answer(self, status: int, headers: dict[str, str], text: str) -> None:
            body = text.encode()
            with contextlib.suppress(OSError):  # the client was killed
                self.send_response(status)
                for n, v in headers.items():
                    self.send_header(n, v)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

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
