"""A proxy that takes each request whole before it forwards it: `python -m benchmarks._proxy UPSTREAM --rate 8MB/s`.

nginx does so by default (proxy_request_buffering), and so do proxies that scan what passes. To its client it looks like
a store that takes everything at once and responds late.

By default it reads bodies as fast as they come and forwards all of them at the same time, which share `--rate`.
`--one-at-a-time` forwards one request after another instead, in the order in which they were complete;
`--take-rate` is then the rate of the disk on which they wait. If a client goes away, its request is dropped, as nginx
does it.

It prints one JSON line when it listens (`{"url": …}`), and ends when standard input closes. `GET /__proxy` returns its
counts; `GET /__proxy?reset` returns them and begins again from zero. Only PUTs are counted and paced. The null store
behind it does not look at bytes, so bodies are forwarded as zeros, and none is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from bigupload.units import parse_rate

from .null_store.server import unread
from .null_store.wire import Closed, PlainChannel, Wire

_BLOCK = 64 * 1024
_ZEROS = bytes(_BLOCK)
_LOOK_EVERY = 0.1
"""Seconds between two looks at whether the client is still there."""
_CATCH_UP = 0.02
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class Shared:
    """A rate that all connections share, in turns of a block. 0: unlimited."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def book(self, count: int) -> float:
        """Return the seconds until `count` bytes have passed."""
        if not self._rate:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _CATCH_UP) + count / self._rate
            return max(0.0, self._free_at - now)


class Turns:
    """One at a time, in the order of `queue`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    def queue(self) -> threading.Event:
        """Return an event that is set when it is this one's turn."""
        mine = threading.Event()
        with self._lock:
            self._waiting.append(mine)
            self._waiting[0].set()
        return mine

    def leave(self, mine: threading.Event) -> None:
        """It has had its turn, or does not want it."""
        with self._lock:
            self._waiting.remove(mine)
            if self._waiting:
                self._waiting[0].set()


class Proxy:
    """Listens on 127.0.0.1 until `close`."""

    def __init__(self, upstream: str, *, rate: float, take_rate: float = 0.0, one_at_a_time: bool = False) -> None:
        """`upstream` is a URL, `rate` and `take_rate` are bytes a second for all connections together."""
        there = urlsplit(upstream)
        self.upstream = there.hostname or "", there.port or 80
        self.forwarding, self.taking = Shared(rate), Shared(take_rate)
        self.turns = Turns() if one_at_a_time else None
        self._lock = threading.Lock()
        self._clear()
        self._held = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    def _clear(self) -> None:
        self._number = dict.fromkeys(("bytes_taken", "bytes_forwarded", "dropped"), 0)

    def add(self, **numbers: int) -> None:
        """Count."""
        with self._lock:
            for name, number in numbers.items():
                self._number[name] += number

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """A request is here, from its head to its response."""
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1

    def report(self, *, reset: bool = False) -> dict[str, int]:
        """Return the counts. `held` are the requests that are here now."""
        with self._lock:
            made = {**self._number, "held": self._held, "bytes_unread": unread(self._port)}
            if reset:
                self._clear()
            return made

    def serve(self) -> None:
        """Accept until closed, each connection in its thread."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(self, connection), daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def serve(proxy: Proxy, connection: socket.socket) -> None:
    """Forward the requests of a connection until either side ends it."""
    with contextlib.closing(connection), contextlib.suppress(OSError, ValueError):
        if connection.family == socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.closing(_Exchange(proxy, connection)) as exchange:
            exchange.serve()


class _Exchange:
    """Requests on one connection, one after another. It has a connection to the store of its own."""

    def __init__(self, proxy: Proxy, connection: socket.socket) -> None:
        self._proxy = proxy
        self._wire = Wire(PlainChannel(connection), finely=False)
        self._gone = select.poll()
        self._gone.register(connection, _GONE)
        self._upstream: socket.socket | None = None

    def close(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None

    def serve(self) -> None:
        while (head := self._wire.head()) is not None:
            first, *fields = head.decode("latin-1").split("\r\n")
            method, target, _ = first.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            if target.startswith("/__proxy"):
                self._respond(json.dumps(self._proxy.report(reset=target.endswith("reset"))).encode())
                continue
            if "transfer-encoding" in headers:
                raise ValueError("the proxy reads bodies of a known length")
            size = int(headers.get("content-length", 0))
            if headers.pop("expect", "").lower() == "100-continue":
                self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            kept = [field for field in fields if not field.lower().startswith("expect:")]
            raw = "\r\n".join([first, *kept]).encode("latin-1") + b"\r\n\r\n"
            if method == "PUT":
                with self._proxy.holding():
                    self._put(raw, size)
            else:
                self._wire.send(self._forward(method, raw + self._wire.exactly(size), ()))

    def _put(self, raw: bytes, size: int) -> None:
        proxy = self._proxy
        for count in _blocks(size):
            self._wire.drop(count, lambda taken: proxy.add(bytes_taken=taken))
            time.sleep(proxy.taking.book(count))
        if proxy.turns is None:
            self._wire.send(self._forward("PUT", raw, _blocks(size)))
            return
        turn = proxy.turns.queue()
        try:
            while not turn.wait(_LOOK_EVERY):
                self._wait(0.0)
            response = self._forward("PUT", raw, _blocks(size))
        finally:
            proxy.turns.leave(turn)
        self._wire.send(response)

    def _forward(self, method: str, raw: bytes, blocks: Iterable[int]) -> bytes:
        """Send a request on, its body in blocks of these sizes, and return the whole response."""
        if self._upstream is None:
            self._upstream = socket.create_connection(self._proxy.upstream)
            self._upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._upstream.sendall(raw)
        for count in blocks:
            self._wait(self._proxy.forwarding.book(count))
            self._upstream.sendall(_ZEROS[:count])
            self._proxy.add(bytes_forwarded=count)
        wire = Wire(PlainChannel(self._upstream), finely=False)
        head = wire.head()
        if head is None:
            raise Closed
        lines = head.decode("latin-1").lower().split("\r\n")
        size = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
        body = b"" if method == "HEAD" else wire.exactly(size)
        if "connection: close" in lines:
            self.close()
        return head + b"\r\n\r\n" + body

    def _wait(self, seconds: float) -> None:
        """Wait, and drop the request if its client has gone."""
        if self._gone.poll(seconds * 1000):
            self._proxy.add(dropped=1)
            raise Closed

    def _respond(self, body: bytes) -> None:
        self._wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def _blocks(size: int) -> Iterator[int]:
    for offset in range(0, size, _BLOCK):
        yield min(_BLOCK, size - offset)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks._proxy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("upstream", metavar="URL")
    parser.add_argument("--rate", type=parse_rate, required=True)
    parser.add_argument("--take-rate", type=parse_rate, default=0.0)
    parser.add_argument("--one-at-a-time", action="store_true")
    given = vars(parser.parse_args())
    proxy = Proxy(given.pop("upstream"), **given)
    threading.Thread(target=proxy.serve, daemon=True).start()
    print(json.dumps({"url": proxy.url}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.read()
    proxy.close()


if __name__ == "__main__":
    main()
