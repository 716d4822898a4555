"""A forwarding TCP proxy that counts what passes: which part's bytes the store took, which it acknowledged.

::

    with CountingProxy("127.0.0.1", s3.port) as proxy:
        proxy.on_taken(10 * MIB, process.kill)
        ...  # talk to proxy.url as the endpoint
        assert proxy.parts["/bucket/key", upload_id, 3].sent_in_full == 1

Bytes are forwarded unchanged, the Host header too: a client signs the proxy's host and port, and a store that verifies
against the Host header it receives agrees. Two threads a connection with plain sockets, since the big transfers are the
point; the GIL is released in the system calls.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote

from .http_framing import Body, Framer, Head

CHUNK = 1 << 20
PartKey = tuple[str, str, int]  # path (decoded, "/bucket/key"), upload id, part number


@dataclass
class Passed:
    """A request that began to pass. `status` is None as long as no answer came back."""

    method: str
    path: str
    query: dict[str, str]
    content_length: int | None
    connection: int
    body_bytes: int = 0  # of the body, that the store's socket has taken
    complete: bool = False  # the whole body has passed
    status: int | None = None

    @property
    def part(self) -> PartKey | None:
        number = self.query.get("partNumber", "")
        if self.method == "PUT" and "uploadId" in self.query and number.isdecimal():
            return self.path, self.query["uploadId"], int(number)
        return None

    @property
    def acknowledged(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass
class PartTraffic:
    """All that passed for one part."""

    body_bytes: int = 0
    attempts: int = 0
    sent_in_full: int = 0
    acknowledged: int = 0
    statuses: list[int] = field(default_factory=list)


@dataclass(eq=False)
class _Hook:
    at: int
    callback: Callable[[], object]
    counter: str
    before_answer: bool = False


class CountingProxy:
    """Everything public may be used from any thread."""

    def __init__(self, upstream_host: str, upstream_port: int) -> None:
        self.upstream = (upstream_host, upstream_port)
        self.exchanges: list[Passed] = []
        self.bytes_taken = 0  # body bytes of PUTs that the store's socket has taken
        self.bytes_acknowledged = 0  # body bytes of PUTs that were answered with 2xx
        self.connections = 0
        self.errors: list[Exception] = []  # what callbacks raised; raised again when the proxy closes
        self._changed = threading.Condition()
        self._hooks: list[_Hook] = []
        self._links: set[_Link] = set()
        self._refusing = False

    # --- what tests do with it

    @property
    def parts(self) -> dict[PartKey, PartTraffic]:
        """What passed, by (path, upload id, part number). A snapshot."""
        parts: dict[PartKey, PartTraffic] = {}
        with self._changed:
            for each in self.exchanges:
                if each.part is None:
                    continue
                traffic = parts.setdefault(each.part, PartTraffic())
                traffic.attempts += 1
                traffic.body_bytes += each.body_bytes
                traffic.sent_in_full += each.complete
                traffic.acknowledged += each.acknowledged
                if each.status is not None:
                    traffic.statuses.append(each.status)
        return parts

    def on_taken(self, total_bytes: int, callback: Callable[[], object]) -> None:
        """Call once, in a proxy thread, when the store has taken so many PUT body bytes. No byte of that connection
        passes meanwhile."""
        self._hook(_Hook(total_bytes, callback, "bytes_taken"))

    def on_acknowledged(self, total_bytes: int, callback: Callable[[], object], *, before_answer: bool = False) -> None:
        """Call once when so many PUT body bytes were answered with 2xx: after the client was sent that answer, or with
        `before_answer` while only the store knows."""
        self._hook(_Hook(total_bytes, callback, "bytes_acknowledged", before_answer))

    def wait_for(self, predicate: Callable[[CountingProxy], bool], timeout: float = 10) -> None:
        """Block until the predicate holds; it is tried whenever something has passed."""
        with self._changed:
            if not self._changed.wait_for(lambda: predicate(self), timeout):
                raise TimeoutError(
                    f"not within {timeout} s; {len(self.exchanges)} requests, {self.bytes_taken} bytes taken, "
                    f"{self.bytes_acknowledged} acknowledged"
                )

    def cut(self, *, refuse: bool = False) -> None:
        """Reset every connection, as a lost network does; with `refuse` also each new one until `restore`."""
        with self._changed:
            self._refusing = refuse
            links = list(self._links)
        for link in links:
            link.reset()

    def restore(self) -> None:
        self._refusing = False

    # --- life cycle

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._accepting = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # close alone doesn't wake accept
        self._accepting.join(timeout=10)
        self._listener.close()
        with self._changed:
            links = list(self._links)
        for link in links:
            link.reset()
            link.thread.join(timeout=10)
        if self.errors and error is None:
            raise self.errors[0]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                _reset(client)
                client.close()
                continue
            try:
                upstream = socket.create_connection(self.upstream, timeout=10)
            except OSError:
                _reset(client)
                client.close()
                continue
            upstream.settimeout(None)
            for each in (client, upstream):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self.connections += 1
                link = _Link(self, client, upstream, self.connections)
                self._links.add(link)
            link.thread.start()

    # --- the record

    def _hook(self, hook: _Hook) -> None:
        with self._changed:
            self._hooks.append(hook)
        self.fire(answered=True)

    def began(self, passed: Passed) -> None:
        with self._changed:
            self.exchanges.append(passed)
            self._changed.notify_all()

    def took(self, passed: Passed, size: int) -> None:
        with self._changed:
            self._take(passed, size)
            self._changed.notify_all()

    def _take(self, passed: Passed, size: int) -> None:
        if passed.content_length is not None:
            size = min(size, passed.content_length - passed.body_bytes)
            passed.complete = passed.body_bytes + size == passed.content_length
        passed.body_bytes += size
        if passed.method == "PUT":
            self.bytes_taken += size

    def ended(self, passed: Passed) -> None:
        with self._changed:
            passed.complete = True
            self._changed.notify_all()

    def answered(self, passed: Passed, status: int) -> None:
        with self._changed:
            passed.status = status
            if passed.acknowledged and passed.content_length is not None:
                # A store can only acknowledge what it has; its answer may be faster than the thread that sent the rest.
                self._take(passed, passed.content_length - passed.body_bytes)
            if passed.method == "PUT" and passed.acknowledged:
                self.bytes_acknowledged += passed.body_bytes
            self._changed.notify_all()

    def fire(self, *, answered: bool) -> None:
        """Run the hooks that are due; `answered`: those too that wait until the client has the answer."""
        if not self._hooks:
            return
        with self._changed:
            due = [
                hook
                for hook in self._hooks
                if getattr(self, hook.counter) >= hook.at
                and (answered or hook.before_answer or hook.counter == "bytes_taken")
            ]
            for hook in due:
                self._hooks.remove(hook)
        for hook in due:
            try:
                hook.callback()
            except Exception as error:
                self.errors.append(error)

    def gone(self, link: _Link) -> None:
        with self._changed:
            self._links.discard(link)
            self._changed.notify_all()


def _reset(sock: socket.socket) -> None:
    """Make the coming close an RST."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _Link:
    """One client connection and its twin to the store."""

    def __init__(self, proxy: CountingProxy, client: socket.socket, upstream: socket.socket, number: int) -> None:
        self.proxy, self.client, self.upstream, self.number = proxy, client, upstream, number
        self.thread = threading.Thread(target=self._run, name=f"proxy-{number}", daemon=True)
        self._open: deque[Passed] = deque()  # requests without a final answer

    def reset(self) -> None:
        for each in (self.client, self.upstream):
            _reset(each)
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        answers = threading.Thread(target=self._pump_answers, name=f"{self.thread.name}-answers", daemon=True)
        answers.start()
        try:
            self._pump_requests()
        finally:
            # The store's answer may lie ready though it takes no more: let it through before closing.
            answers.join()
            self.client.close()
            self.upstream.close()
            self.proxy.gone(self)

    def _pump_requests(self) -> None:
        framer: Framer[Passed] = Framer(self._request_begins, self._request_ends)
        buffer = memoryview(bytearray(CHUNK))
        while True:
            try:
                size = self.client.recv_into(buffer)
            except OSError:  # the client's reset is the store's reset
                _reset(self.upstream)
                size = 0
            if size == 0:
                with contextlib.suppress(OSError):
                    self.upstream.shutdown(socket.SHUT_WR)
                return
            runs = deque(framer.feed(buffer[:size]))
            at = 0
            while at < size:
                try:
                    sent = self.upstream.send(buffer[at:size])
                except OSError:
                    return
                at += sent
                self._credit(runs, sent)
            self.proxy.fire(answered=False)

    def _credit(self, runs: deque[tuple[Passed | None, int]], sent: int) -> None:
        while sent:
            owner, length = runs.popleft()
            used = min(sent, length)
            sent -= used
            if used < length:
                runs.appendleft((owner, length - used))
            if owner is not None:
                self.proxy.took(owner, used)

    def _request_begins(self, head: Head) -> Body[Passed]:
        method, target, _ = head.start
        path, _, query = target.partition("?")
        fields = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
        length = None if head.chunked else (head.content_length or 0)
        passed = Passed(method, unquote(path), fields, length, self.number, complete=length == 0)
        self._open.append(passed)
        self.proxy.began(passed)
        return Body(passed, length, head.chunked)

    def _request_ends(self, passed: Passed) -> None:
        if passed.content_length is None:  # else `took` knows, and later than the parser
            self.proxy.ended(passed)

    def _pump_answers(self) -> None:
        framer: Framer[Passed] = Framer(self._answer_begins, lambda _: None)
        buffer = memoryview(bytearray(CHUNK))
        while True:
            try:
                size = self.upstream.recv_into(buffer)
            except OSError:  # the store's reset is the client's reset
                _reset(self.client)
                with contextlib.suppress(OSError):
                    self.client.shutdown(socket.SHUT_RDWR)
                return
            if size == 0:
                with contextlib.suppress(OSError):
                    self.client.shutdown(socket.SHUT_WR)
                return
            framer.feed(buffer[:size])
            self.proxy.fire(answered=False)
            try:
                self.client.sendall(buffer[:size])
            except OSError:
                _reset(self.upstream)
                with contextlib.suppress(OSError):
                    self.upstream.shutdown(socket.SHUT_RDWR)
                return
            self.proxy.fire(answered=True)

    def _answer_begins(self, head: Head) -> Body[Passed] | None:
        status = int(head.start[1])
        if status < 200 or not self._open:
            return None
        passed = self._open.popleft()
        self.proxy.answered(passed, status)
        if passed.method == "HEAD" or status in (204, 304):
            return Body(passed, 0)
        return Body(passed, head.content_length, head.chunked)
