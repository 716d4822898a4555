"""A web server with files to upload: with ranges and ETags as RFC 9110 has them, or without, or with faults."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from bigupload.testing.certificates import Certificates

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(kw_only=True)
class WebContent:
    """A file, and how it is served. A test may change it at any time."""

    data: bytes
    etag: str | None = '"one"'
    ranges: bool = True
    most: int | None = None
    """How many bytes of a range it sends at most; None: all that is asked for."""
    shift: int = 0
    """So many bytes later than asked for a part's range begins."""
    conditions: bool = True
    """Whether If-Match and If-Range are looked at."""
    end: Literal["length", "chunks", "close"] = "length"
    """What says where a response ends."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request. Names of headers are in lower case."""

    path: str
    headers: Mapping[str, str]

    @property
    def range(self) -> tuple[int, int] | None:
        """The first byte, and the one after the last; None: all of the file."""
        match = _RANGE.fullmatch(self.headers.get("range", ""))
        return None if match is None else (int(match[1]), int(match[2]) + 1)


@dataclass(kw_only=True)
class WebFault:
    """What happens to some requests instead."""

    status: int | None = None
    """Respond with this status, and `headers`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Send so many bytes of the body, and close the connection."""
    stall_after: int | None = None
    """Send so many bytes of the body, and nothing more until the server ends."""
    after: Callable[[], None] | None = None
    """Called once the response was sent."""
    when: Callable[[Asked], bool] = lambda _: True
    times: int = 1


class WebServer:
    """`files` by path. The query is not looked at."""

    def __init__(self, scheme: str) -> None:
        self.files: dict[str, WebContent] = {}
        self.asked: list[Asked] = []
        self.faults: list[WebFault] = []
        self.sent = 0
        """Bytes of bodies."""
        self.scheme = scheme
        self.port = 0
        self.ending = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def serve(self, path: str, data: bytes, **more: object) -> WebContent:
        """Serve a file."""
        self.files[path] = made = WebContent(data=data, **more)  # type: ignore[arg-type]  # fields by their names
        return made

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The ranges that were requested, without that of the first request of each upload."""
        found = [asked.range for asked in self.asked]
        return [each for each in found if each is not None and each != (0, 4096)]

    def take_fault(self, asked: Asked) -> WebFault | None:
        with self._lock:
            self.asked.append(asked)
            for fault in self.faults:
                if fault.times and fault.when(asked):
                    fault.times -= 1
                    return fault
        return None

    def count(self, size: int) -> None:
        with self._lock:
            self.sent += size


def is_part(asked: Asked) -> bool:
    """Whether a request is for a part, and not the first one of an upload."""
    return asked.range not in (None, (0, 4096))


@contextlib.contextmanager
def web_server(certificates: Certificates | None = None) -> Iterator[WebServer]:
    """One that runs, on a free port of 127.0.0.1; with TLS, if it gets certificates."""
    server = WebServer("http" if certificates is None else "https")

    class Handler(_Handler):
        web = server

    with _Listener(("127.0.0.1", 0), Handler) as listener:
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.cert, certificates.key)
            listener.socket = context.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
        server.port = listener.server_port
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.ending.set()
            listener.shutdown()
            thread.join()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """The client has gone, which is its right."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: WebServer

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(path=self.path, headers=headers)
        fault = self.web.take_fault(asked)
        file = self.web.files.get(self.path.partition("?")[0])
        if fault is not None and fault.status is not None:
            self._say(fault.status, fault.headers)
        elif file is None:
            self._say(404, {})
        else:
            self._serve(file, asked, fault)
        if fault is not None and fault.after is not None:
            fault.after()

    def _serve(self, file: WebContent, asked: Asked, fault: WebFault | None) -> None:
        told = dict(file.headers) | ({} if file.etag is None else {"ETag": file.etag})
        wanted = asked.range if file.ranges else None
        if file.conditions:
            if asked.headers.get("if-match", file.etag) != file.etag:
                return self._say(412, told)
            if asked.headers.get("if-range", file.etag) != file.etag:
                wanted = None
        size = len(file.data)
        if wanted is None:
            return self._send(200, told, file.data, file.end, fault)
        start, end = wanted[0], min(wanted[1], size)
        if is_part(asked):
            start += file.shift
        if file.most is not None:
            end = min(end, start + file.most)
        if start >= size:
            return self._say(416, {**told, "Content-Range": f"bytes */{size}"})
        told["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return self._send(206, told, file.data[start:end], "length", fault)

    def _say(self, status: int, headers: Mapping[str, str]) -> None:
        self._send(status, headers, b"", "length", None)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, end: str, fault: WebFault | None) -> None:
        self.send_response_only(status)
        framing = {
            "length": {"Content-Length": str(len(body))},
            "chunks": {"Transfer-Encoding": "chunked"},
            "close": {},
        }
        for name, value in {**framing[end], **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        most = len(body)
        if fault is not None:
            most = min(each for each in (fault.cut_after, fault.stall_after, most) if each is not None)
        if end == "chunks":
            self.wfile.write(b"%x\r\n%s\r\n" % (most, body[:most]) if most else b"")
        else:
            self.wfile.write(body[:most])
        self.web.count(most)
        if fault is not None and fault.stall_after is not None:
            self.web.ending.wait()
        if end == "close" or most < len(body):
            self.close_connection = True
        elif end == "chunks":
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Nowhere."""
