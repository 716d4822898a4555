"""Connections, a thread each: what they cost in time, and what goes wrong on them."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import struct
import threading
import time
from pathlib import Path

from .bodies import drop_body, read_body
from .counts import Counts
from .knobs import Fate, Knobs, fate
from .s3 import S3, Answer, Request, error
from .tls import TlsChannel, TlsServer
from .wire import Channel, PlainChannel, Wire

_PACED_BUFFER = 128 * 1024
_LISTENING = "0A"  # a listener's queue is of connections
_CATCH_UP = 0.02
"""Seconds of the rate in all that may be made up for, where nobody sent."""


class NullStore:
    """Listens on 127.0.0.1, or where it is told to, until `close`."""

    def __init__(self, knobs: Knobs, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.knobs = knobs
        self.counts = Counts()
        self.s3 = S3(self.counts)
        self.tls = TlsServer(tls) if tls else None
        self._lock = threading.Lock()
        self._in_flight = 0
        self._free_at = 0.0
        self._listener = socket.create_server((host, 0), backlog=1024)
        if knobs.paced:  # before the handshake, so that what is sent ahead is bounded from the first byte on
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PACED_BUFFER)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://{host}:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        """Accept until closed, each connection in its thread."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=_serve, args=(self, connection), daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # close alone does not wake accept
        self._listener.close()
        if self.tls:
            self.tls.close()

    def unread(self) -> int:
        """The bytes that the kernel has received on all connections and the store has not read. Linux; elsewhere 0."""
        return unread(self._listener.getsockname()[1])

    def round_trip(self) -> None:
        if self.knobs.rtt:
            time.sleep(self.knobs.rtt)

    def enter(self) -> bool:
        """A PUT begins; False where there are too many."""
        with self._lock:
            if self.knobs.most_in_flight and self._in_flight >= self.knobs.most_in_flight:
                return False
            self._in_flight += 1
            self.counts.in_flight(self._in_flight)
            return True

    def leave(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def book(self, count: int) -> float:
        """A stretch of the rate in all, in turns; gives when it ends."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() - _CATCH_UP) + count / self.knobs.total_rate
            return self._free_at


def unread(port: int) -> int:
    """The bytes that wait in the receive buffers of this port's connections: proc(5), /proc/net/tcp. Elsewhere 0."""
    try:
        rows = [row.split() for row in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    except OSError:
        return 0
    mine = [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] != _LISTENING]
    return sum(int(row[4].partition(":")[2], 16) for row in mine)


class _Reset(Exception):
    """The connection is to be reset here."""


class _Pace:
    """Takes as long over a body as the rates say, and counts it."""

    def __init__(self, store: NullStore, rate: float, reset_after: float | None = None) -> None:
        self._store = store
        self._rate = rate
        self._reset_after = reset_after
        self._began: float | None = None
        self.received = 0

    def __call__(self, count: int) -> None:
        self.received += count
        if self._reset_after is not None and self.received > self._reset_after:
            raise _Reset
        until = self._store.book(count) if self._store.knobs.total_rate else 0.0
        if self._rate:
            if self._began is None:
                self._began = time.monotonic()
            until = max(until, self._began + self.received / self._rate)
        if until and (wait := until - time.monotonic()) > 0:
            time.sleep(wait)


def _serve(store: NullStore, connection: socket.socket) -> None:
    store.counts.add(connections=1)
    try:
        with contextlib.closing(connection):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            store.round_trip()
            channel: Channel = PlainChannel(connection)
            if store.tls is not None:
                store.round_trip()
                channel = TlsChannel(store.tls, connection)
            _Exchange(store, connection, Wire(channel, finely=store.knobs.paced or bool(store.knobs.finely))).serve()
    except (OSError, ValueError):
        pass  # ssl.SSLError is an OSError; a ValueError is what no contestant sends


class _Exchange:
    """Requests on one connection, one after another."""

    def __init__(self, store: NullStore, connection: socket.socket, wire: Wire) -> None:
        self._store = store
        self._connection = connection
        self._wire = wire

    def serve(self) -> None:
        while (head := self._wire.head()) is not None:
            request = Request.parse(head)
            if request.path == "__counts/":
                report = self._store.counts.report(reset="reset" in request.query) | {
                    "bytes_unread": self._store.unread()
                }
                self._send(Answer(200, {"Content-Type": "application/json"}, json.dumps(report).encode()), "GET")
            elif not request.is_data:
                self._continue(request)
                body = read_body(self._wire, request.headers)
                self._store.round_trip()
                self._send(self._store.s3.answer(request, body), request.method)
            elif not self._put(request):
                return

    def _put(self, request: Request) -> bool:
        """False where the connection is not to be used again."""
        store = self._store
        store.counts.arrived()
        if not store.enter():
            return self._refuse(503, "SlowDown")
        try:
            met = fate(store.knobs, request.number, store.s3.attempt(request))
            if met.slow_down:
                return self._refuse(503, "SlowDown")
            if met.error:
                return self._refuse(500, "InternalError")
            if met.hang:
                return self._hang()
            return self._receive(request, met)
        finally:
            store.leave()

    def _receive(self, request: Request, met: Fate) -> bool:
        store, knobs = self._store, self._store.knobs
        self._continue(request)
        size = int(request.headers.get("x-amz-decoded-content-length") or request.headers.get("content-length") or 0)
        if met.straggler:
            store.counts.add(stragglers=1)
        pace = _Pace(
            store,
            knobs.straggler_rate if met.straggler else knobs.rate,
            None if met.reset_at is None else met.reset_at * size,
        )
        store.counts.begin(pace)
        try:
            drop_body(self._wire, request.headers, pace)
        except _Reset:
            return self._reset()
        finally:
            store.counts.end(pace)
        answer = store.s3.store(request, pace.received)
        store.round_trip()
        if met.lost_answer:
            store.counts.add(lost_answers=1)
            return False
        self._send(answer, "PUT")
        return True

    def _continue(self, request: Request) -> None:
        if request.headers.get("expect", "").lower() == "100-continue":
            self._store.round_trip()
            self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, status: int, code: str) -> bool:
        """Answer before the body is read, and linger, so that the answer is not lost to a reset."""
        self._store.counts.answered(status)
        if status == 500:
            self._store.counts.add(errors=1)
        self._store.round_trip()
        self._send(error(status, code, {"Connection": "close"}), "PUT")
        self._wire.finish()
        pace = _Pace(self._store, self._store.knobs.rate)
        try:
            self._wire.drop_all(pace)
        finally:
            self._store.counts.add(bytes_received=pace.received)
        return False

    def _hang(self) -> bool:
        self._store.counts.add(hung=1)
        gone = select.poll()
        gone.register(self._connection, getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR)
        gone.poll()
        return False

    def _reset(self) -> bool:
        self._store.counts.add(reset=1)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def _send(self, answer: Answer, method: str) -> None:
        fields = {"Content-Length": str(len(answer.body)), "x-amz-request-id": "null", **answer.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        head = f"HTTP/1.1 {answer.status} X\r\n{lines}\r\n".encode("latin-1")
        self._wire.send(head if method == "HEAD" or answer.status == 204 else head + answer.body)
