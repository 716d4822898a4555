"""An HTTP server that responds with what a test says and remembers what it was asked: a posts API, somebody's CDN."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, kw_only=True)
class Response:
    """What it says."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Received:
    """What it was asked. Names of headers are in lower case; repeated ones are joined by commas."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def has(self, text: str) -> bool:
        """Whether `text` is anywhere in it."""
        whole = [self.path, *(f"{name}: {value}" for name, value in self.headers.items())]
        return text in "\n".join(whole) or text.encode() in self.body


class HttpStub:
    """`responses` by path; a path that has none is 404, and None closes the connection without a word.

    It says that it closes each connection after its response. `keeps` does not, and closes a kept one as soon as it is
    used again: a server whose time for idle connections ends at that moment.
    """

    def __init__(self) -> None:
        self.keeps = False
        self.responses: dict[str, Response | None] = {}
        self.received: list[Received] = []
        self.url = ""

    def forget(self) -> None:
        """As it was at the beginning."""
        self.responses.clear()
        self.received.clear()
        self.keeps = False


@contextlib.contextmanager
def http_stub() -> Iterator[HttpStub]:
    """One that runs, on a free port of 127.0.0.1."""
    stub = HttpStub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        is_used_again = False

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): ", ".join(self.headers.get_all(name, ())) for name in self.headers}
            stub.received.append(Received(method=self.command, path=self.path, headers=headers, body=body))
            response = stub.responses.get(self.path, Response(status=404))
            self.close_connection = not stub.keeps or self.is_used_again or response is None
            if response is None or self.is_used_again:
                return
            self.is_used_again = True
            self.send_response_only(response.status)
            own = {"Content-Length": str(len(response.body)), "Connection": "keep-alive" if stub.keeps else "close"}
            for name, value in (own | dict(response.headers)).items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a client may leave before it has read the body
                self.wfile.write(response.body)

        do_GET = do_POST = do_PUT = _respond

        def log_message(self, *_: object) -> None:
            """Nowhere."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        stub.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
