"""Stands between a client and a server, counts what passes, and breaks single exchanges, or all.

::

    with FaultProxy("127.0.0.1", port) as proxy:
        proxy.script("UploadPart", Reset(after_bytes=1000), Status(503, "SlowDown"), part_number=3)
        proxy.standing.add(Standing.SILENT)
        proxy.on_taken(10 * MIB, process.kill)
        ...  # talk to proxy.url as the endpoint
        assert proxy.parts["/bucket/key", upload_id, 3].sent_in_full == 1

The Host header passes unchanged: the client signs the proxy's host and port, and a store that verifies against the
Host that it receives agrees. It is an asyncio loop in a thread of its own. `faults` lists what can go wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from bigupload.testing.faults import BreakTls, NetworkOutage, Standing, StoreFault

from .exchange import Name, PartKey, Passing, ProxiedExchange, StreamsProtocol, in_thread, s3_operation

if TYPE_CHECKING:  # importing it needs cryptography, as https alone does
    from bigupload.testing.certificates import Certificates

GONE = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
_RECEIVE_BUFFER = 64 * 1024
"""Small, so that a client whose body is not read notices a stall."""


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
    before_response: bool = False


class Traffic:
    """The record of what passed: exchanges, bytes, and functions to call after some of them.

    Everything public may be used from any thread.
    """

    def __init__(self) -> None:
        self.exchanges: deque[ProxiedExchange] = deque(maxlen=50_000)
        """All that passed, in order."""
        self.bytes_taken = 0
        """Bytes of PUTs' bodies that the store's sockets have taken."""
        self.bytes_acknowledged = 0
        """Bytes of PUTs' bodies to which the store responded with success."""
        self.errors: list[BaseException] = []
        """Bugs of the proxy's own, and what callbacks raised; raised when the proxy closes."""
        self.changed = threading.Condition()
        self._hooks: list[_Hook] = []

    # --- for tests

    @property
    def parts(self) -> dict[PartKey, PartTraffic]:
        """The bytes that passed, by part. A snapshot."""
        parts: dict[PartKey, PartTraffic] = {}
        with self.changed:
            for each in self.exchanges:
                if each.key is None:
                    continue
                traffic = parts.setdefault(each.key, PartTraffic())
                traffic.attempts += 1
                traffic.body_bytes += each.taken
                traffic.sent_in_full += each.taken == each.size
                traffic.acknowledged += each.acted
                if each.status is not None:
                    traffic.statuses.append(each.status)
        return parts

    def count(self, op: str, status: int | None = None) -> int:
        """Return the number of exchanges of `op` that passed (and got such a response)."""
        with self.changed:
            return sum(each.op == op and status in (None, each.status) for each in self.exchanges)

    def on_taken(self, total_bytes: int, callback: Callable[[], object]) -> None:
        """Call once, in a thread, when the store has taken this many bytes of PUTs' bodies. No byte of that connection
        passes meanwhile."""
        self._add(_Hook(total_bytes, callback, "bytes_taken"))

    def on_acknowledged(
        self, total_bytes: int, callback: Callable[[], object], *, before_response: bool = False
    ) -> None:
        """Call once, in a thread, when this many bytes of PUTs' bodies got a success: after the client was
        sent that response, or with `before_response` while only the store knows."""
        self._add(_Hook(total_bytes, callback, "bytes_acknowledged", before_response))

    def wait_for(self, predicate: Callable[[Self], bool], timeout: float = 10) -> None:
        """Block until the predicate holds; it is tried whenever something has passed."""
        with self.changed:
            if not self.changed.wait_for(lambda: predicate(self), timeout):
                raise TimeoutError(
                    f"not within {timeout} s; {len(self.exchanges)} requests, {self.bytes_taken} bytes taken, "
                    f"{self.bytes_acknowledged} acknowledged"
                )

    # --- for the exchanges

    def took(self, exchange: ProxiedExchange, size: int) -> None:
        """Count `size` more bytes of the body that the store's socket has taken."""
        with self.changed:
            self._take(exchange, size)
            self.changed.notify_all()

    def responded(self, exchange: ProxiedExchange, status: int) -> None:
        """The store responded. A success says that it has the whole body, whatever was counted so far."""
        with self.changed:
            exchange.acted = status // 100 == 2
            if exchange.acted:
                self._take(exchange, exchange.size - exchange.taken)
                if exchange.method == "PUT":
                    self.bytes_acknowledged += exchange.size
            self.changed.notify_all()

    def _take(self, exchange: ProxiedExchange, size: int) -> None:
        exchange.taken += size
        if exchange.method == "PUT":
            self.bytes_taken += size

    async def fire(self, *, responded: bool) -> None:
        """Run the hooks that are due; `responded`: those too that wait until the client has the response."""
        for hook in self._due(responded=responded):
            await in_thread(functools.partial(self._run, hook))

    def _add(self, hook: _Hook) -> None:
        with self.changed:
            self._hooks.append(hook)
        for due in self._due(responded=True):
            self._run(due)

    def _due(self, *, responded: bool) -> list[_Hook]:
        if not self._hooks:
            return []
        with self.changed:
            due = [
                hook
                for hook in self._hooks
                if getattr(self, hook.counter) >= hook.at
                and (responded or hook.before_response or hook.counter == "bytes_taken")
            ]
            for hook in due:
                self._hooks.remove(hook)
        return due

    def _run(self, hook: _Hook) -> None:
        try:
            hook.callback()
        except Exception as error:
            self.errors.append(error)


class FaultProxy(Traffic):
    """Everything public may be used from any thread while it runs."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: Certificates | None = None,
        keys: tuple[str, str] = ("", ""),
        name: Name = s3_operation,
    ):
        """`keys` of the store sign what had to be changed in a request (the ETags of a complete). `name` returns
        the operation of a request."""
        super().__init__()
        self.upstream = (host, port)
        self.keys = keys
        self.standing: set[Standing] = set()
        self.name = name
        self.connections = 0
        """The number of connections that were ever accepted."""
        self._tls = tls
        self._scripts: dict[tuple[str, int | None], deque[StoreFault]] = defaultdict(deque)
        self._latest: dict[tuple[str, int | None], ProxiedExchange] = {}
        """The last exchange of each kind (and part)."""
        self._at_connect: deque[BreakTls] = deque()
        self._random: Callable[[str], StoreFault | None] | None = None
        self._cutting = False
        self._lock = threading.Lock()
        self._passing: set[Passing] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None

    # --- for tests

    def script(self, op: str, *faults: StoreFault, part_number: int | None = None) -> None:
        """The next exchanges of `op` (for that part) meet these faults, one each."""
        with self._lock:
            self._scripts[op, part_number].extend(faults)

    def on_connect(self, *faults: BreakTls) -> None:
        """The next connections meet these."""
        self._at_connect.extend(faults)

    def at_random(self, choose: Callable[[str], StoreFault | None]) -> None:
        """`choose(op)` gives a StoreFault or None for every exchange that no script is for."""
        self._random = choose

    def clear(self) -> None:
        """Nothing more goes wrong."""
        with self._lock:
            self._scripts.clear()
            self._at_connect.clear()
            self.standing.clear()
            self._random = None
        self.restore()

    def cut(self, *, refuse: bool = False) -> None:
        """Reset every connection, as a lost network does; with `refuse` also each new one until `restore`.

        A new one is accepted before it is reset. `NetworkOutage` is the fault after which nothing listens.
        """
        self._cutting = refuse
        self._on_loop(self._reset_all())

    def restore(self) -> None:
        """Connections are taken again."""
        self._cutting = False
        self._on_loop(self._listen())

    def run_ended(self) -> None:
        """Whatever has no response now lost its client to the end of a run: it was broken by what ended that."""
        for exchange in list(self.exchanges):
            if exchange.status is None:
                exchange.broken = True
                self._loop.call_soon_threadsafe(exchange.past.set)

    @property
    def idle(self) -> bool:
        """No connection is open."""
        return not self._tasks

    # --- life cycle

    def __enter__(self) -> Self:
        # A second socket keeps the port while nobody listens, so that connections are refused and not somebody else's.
        self._reserved = _bound(0)
        self.port: int = self._reserved.getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        self._context: ssl.SSLContext | None = None
        if self._tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(self._tls.cert, self._tls.key)
        self._loop = asyncio.SelectorEventLoop()  # the default loop of Windows watches no socket
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        self._on_loop(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_loop(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._reserved.close()
        if self.errors and error is None:
            raise self.errors[0]

    def _on_loop(self, what: Coroutine[Any, Any, None]) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("that would wait for itself")
        asyncio.run_coroutine_threadsafe(what, self._loop).result(20)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = _bound(self.port)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self._listener.listen(256)
            self._listener.setblocking(False)
            self._loop.add_reader(self._listener, self._accept, self._listener)

    async def _shut(self) -> None:
        self._refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _refuse(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for passing in list(self._passing):
            passing.reset()

    async def _reset_all(self) -> None:
        for passing in list(self._passing):
            passing.reset()

    def _spawn(self, what: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        with self.changed:
            self._tasks.discard(task)
            self.changed.notify_all()

    # --- connections

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            client, _ = listener.accept()
            client.setblocking(False)
            if self._cutting:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                return
            self.connections += 1
            self._spawn(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        writer: asyncio.StreamWriter | None = None
        passing: Passing | None = None
        try:
            if self._at_connect:
                await self._break(client, self._at_connect.popleft())
                return
            reader, writer = await self._streams(client)
            passing = Passing(self, reader, writer)
            self._passing.add(passing)
            while await passing.exchange():
                pass
        except GONE:
            pass
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.errors.append(error)
        finally:
            if passing is not None:
                self._passing.discard(passing)
                passing.close()
            if writer is not None:
                writer.close()
            client.close()

    async def _streams(self, client: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader = asyncio.StreamReader(limit=1 << 17)
        protocol = StreamsProtocol(reader)
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, client, ssl=self._context)
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    async def _break(self, client: socket.socket, fault: BreakTls) -> None:
        got = 0
        while got < fault.after_bytes:
            piece = await self._loop.sock_recv(client, fault.after_bytes - got)
            if not piece:
                break
            got += len(piece)
        if fault.reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:  # unread bytes would make it a reset
            client.shutdown(socket.SHUT_WR)
            while await self._loop.sock_recv(client, 1 << 16):
                pass

    # --- for the exchanges

    def began(self, exchange: ProxiedExchange) -> StoreFault | None:
        """Note an exchange; its fate."""
        earlier = self._latest.get((exchange.op, exchange.part))
        if earlier is not None:
            earlier.broken |= earlier.doubtful
            earlier.past.set()
        self._latest[exchange.op, exchange.part] = exchange
        with self.changed:
            self.exchanges.append(exchange)
            self.changed.notify_all()
        with self._lock:
            for key in ((exchange.op, exchange.part), (exchange.op, None)):
                if self._scripts.get(key):
                    fault: StoreFault | None = self._scripts[key].popleft()
                    break
            else:
                fault = self._random(exchange.op) if self._random is not None else None
        if isinstance(fault, NetworkOutage):
            exchange.broken = True
            for each in self.exchanges:
                each.broken |= each.status is None
            self._refuse()
        return fault

    def hide(self, parts: set[int]) -> None:
        """The objects that the client was answered are missing."""
        for each in self.exchanges:
            each.broken |= each.part in parts


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock
