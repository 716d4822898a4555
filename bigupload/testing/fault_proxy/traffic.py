"""The traffic of a `FaultProxy`: each exchange, the bytes of each part, and functions to call after some of them."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

PartKey = tuple[str, str, int]
"""The path (decoded, "/bucket/key"), the upload id, the part number."""


@dataclass(eq=False)
class ProxiedExchange:
    """An exchange that passed. `broken`: the proxy has broken it, so that it can't count as it stands."""

    op: str
    part: int | None
    size: int
    """Bytes of the request's body."""
    method: str = ""
    path: str = ""
    upload_id: str = ""
    received: int = 0
    """Bytes of the body that came from the client."""
    taken: int = 0
    """Bytes of the body that the store's socket has taken."""
    status: int | None = None
    """The status of the response that was sent to the client, whole or not."""
    acted: bool = False
    """Whether the store responded to it with success."""
    broken: bool = False
    doubtful: bool = False
    """Its response was sent, and may have been lost with the connection: it was broken if the same is asked again."""
    past: asyncio.Event = field(default_factory=asyncio.Event)
    """Nobody waits for its response: the same was asked again since, or the run that it was part of is over."""

    @property
    def key(self) -> PartKey | None:
        """The upload and the part that it sends, if it sends one."""
        return None if self.part is None else (self.path, self.upload_id, self.part)


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
    """The record. Everything public may be used from any thread."""

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


async def in_thread(function: Callable[[], object]) -> None:
    """Call in a thread of its own, which nothing waits for at the end: a callback may hang where a test failed."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            function()
        finally:
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="callback", daemon=True).start()
    await done.wait()
