"""Many clients of a media service, each with upload tokens of end users: `service_load --clients`.

Each of 200 clients sends a request, waits for the response, and pauses for 0.2 s on average. Of ten requests, six
presign a PUT, each with the token of another end user, of 10,000; three sign a part of the client's own upload, and one
asks for that upload's state, for which the service asks the store.

The services of this version and of an older one (`--old REF`) run beside each other over one store, each with two
workers. The clients take turns between them, so that both meet the same machine. Latency counts from when a client
wants to send. CPU seconds are those of a service's processes while they have the clients; memory is theirs at the end.

The exit status is 1 if a request to this version failed, or if it takes more than 1.1 times as much as the older one:
its median latency, or the CPU time of a request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from bigupload.stores import local_store

from ._running import MIB, all_hold
from ._serving import (
    CREATE,
    PRESIGN,
    Caller,
    Service,
    WrongAnswerError,
    cpu_of,
    memory_of,
    percentile,
    serving,
    sign_request,
)
from .versions import installed

WORKERS = 2
TURNS = 6
"""How often each version has the clients."""
SEED = 3
MOST = 1.1
_MINTING = 16


@dataclass(frozen=True, kw_only=True)
class Clients:
    """What all clients of one version saw."""

    version: str
    requests: int
    errors: dict[str, int]
    p50: float
    p99: float
    worst: float
    cpu: float
    """Seconds of all of the service's processes."""
    memory: int
    """Bytes of all of them at the end."""

    @property
    def cpu_each(self) -> float:
        return self.cpu / max(1, self.requests)


@dataclass(kw_only=True)
class Contestant:
    """One version's service, with what its clients need."""

    version: str
    caller: Caller
    tokens: list[str] = field(default_factory=list)
    uploads: list[tuple[str, str]] = field(default_factory=list)
    """Of each client: the token of its upload, and the upload's handle."""
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    cpu: float = 0.0

    async def prepare(self, clients: int, users: int) -> None:
        """Get a token for each user, and an upload for each client."""
        limits: dict[str, Any] = {"user": "u-0", "singlePut": True}
        try:
            await self._token(limits)
        except WrongAnswerError:  # a version that knows no users
            limits = {}
        waiting = iter(range(users))

        async def mint() -> None:
            for number in waiting:
                self.tokens.append(await self._token({**limits, "user": f"u-{number}"} if limits else {}))

        await asyncio.gather(*(mint() for _ in range(_MINTING)))
        for number in range(clients):
            token = self.tokens[number % users]
            made = await self.caller.ask("POST", "/v1/media/multipart", CREATE, token)
            self.uploads.append((token, made["upload"]))

    async def _token(self, limits: dict[str, Any]) -> str:
        made = await self.caller.ask("POST", "/v1/media/tokens", json.dumps(limits))
        return str(made["token"])

    async def load(self, pause: float, until: float, seed: int) -> None:
        """Let each client send requests until it is `until`."""
        before = cpu_of(self.caller.service.pid)
        await asyncio.gather(*(self._client(number, pause, until, seed) for number in range(len(self.uploads))))
        self.cpu += cpu_of(self.caller.service.pid) - before

    async def _client(self, number: int, pause: float, until: float, seed: int) -> None:
        random_ = random.Random(f"{SEED} {number} {seed}")
        token, upload = self.uploads[number]
        part, ask = sign_request(upload), self.caller.ask
        while (due := time.perf_counter() + random_.expovariate(1 / pause)) < until:
            await asyncio.sleep(due - time.perf_counter())
            began = time.perf_counter()
            kind = random_.randrange(10)
            try:
                if kind < 6:
                    await ask("POST", "/v1/media/presign", PRESIGN, random_.choice(self.tokens))
                elif kind < 9:
                    await ask("POST", "/v1/media/multipart/parts", part, token)
                else:
                    await ask("GET", "/v1/media/multipart", token=token, upload=upload)
            except (WrongAnswerError, aiohttp.ClientError, TimeoutError) as e:
                self.errors[f"{type(e).__name__}: {e}"[:200]] += 1
            self.latencies.append(time.perf_counter() - began)

    def figures(self) -> Clients:
        """Return what was measured."""
        latencies = sorted(self.latencies)
        return Clients(
            version=self.version, requests=len(latencies), errors=dict(self.errors), p50=percentile(latencies, 0.5),
            p99=percentile(latencies, 0.99), worst=latencies[-1], cpu=self.cpu,
            memory=memory_of(self.caller.service.pid),
        )  # fmt: skip


async def measure(
    services: dict[str, Service], clients: int, users: int, pause: float, seconds: float
) -> list[Clients]:
    """Let the clients take turns between the services."""
    async with contextlib.AsyncExitStack() as opened:
        contestants = []
        for version, service in services.items():
            connector = aiohttp.TCPConnector(limit=clients)
            session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))
            http = await opened.enter_async_context(session)
            contestants.append(Contestant(version=version, caller=Caller(service=service, http=http)))
            await contestants[-1].prepare(clients, users)
            print(f"  {version}: {users:,} tokens, {clients} uploads", flush=True)
        for each in contestants:  # warm up
            await each.load(pause, time.perf_counter() + seconds / TURNS / 2, -1)
            each.latencies.clear()
            each.errors.clear()
            each.cpu = 0.0
        for turn in range(TURNS):
            for each in contestants if turn % 2 else reversed(contestants):
                await each.load(pause, time.perf_counter() + seconds / TURNS, turn)
        return [each.figures() for each in contestants]


def show(console: Console, found: Sequence[Clients], clients: int, users: int) -> None:
    """Print a table."""
    table = Table(title=f"{clients} clients, {users:,} users, {WORKERS} workers", title_justify="left")
    for column in ("version", "requests", "errors", "p50 ms", "p99 ms", "max ms", "CPU s", "CPU ms each", "MB"):
        table.add_column(column, justify="left" if column == "version" else "right")
    for each in found:
        times = (f"{1e3 * value:.1f}" for value in (each.p50, each.p99, each.worst))
        table.add_row(
            each.version, f"{each.requests:,}", str(sum(each.errors.values())), *times, f"{each.cpu:.1f}",
            f"{1e3 * each.cpu_each:.2f}", f"{each.memory / MIB:.0f}",
        )  # fmt: skip
    console.print(table)
    for each in found:
        for error, count in each.errors.items():
            console.print(f"{each.version}: {count} × {error}")


def run(arguments: argparse.Namespace) -> int:
    """Run it, with the arguments of `service_load`. Returns the exit status."""
    old = installed(arguments.old, arguments.peers, "local,service") if arguments.old else None
    shared = ["--shared", arguments.shared] if arguments.shared else []
    with tempfile.TemporaryDirectory(prefix="bigupload-load-") as name, contextlib.ExitStack() as opened:
        directory = Path(name)
        opened.callback(local_store.stop, directory / "store")
        store = local_store.start(directory / "store")
        begun = serving(store.data_dir, directory / "this", WORKERS, *shared)
        services = {"this": opened.enter_context(begun)}
        if old is not None:
            begun = serving(store.data_dir, directory / "old", WORKERS, *shared, version=old)
            services[arguments.old] = opened.enter_context(begun)
        figures = (arguments.clients, arguments.users, arguments.pause, arguments.seconds)
        found = asyncio.run(measure(services, *figures))
    show(Console(width=120), found, arguments.clients, arguments.users)
    print(f"load of the last minute at the end: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores")
    checks = {"no request of this version failed": not found[0].errors}
    if len(found) > 1:
        checks[f"p50 at most {MOST} times the older one's"] = found[0].p50 <= MOST * found[1].p50
        checks[f"CPU of a request at most {MOST} times the older one's"] = found[0].cpu_each <= MOST * found[1].cpu_each
    good = all_hold(checks)
    if arguments.json is not None:
        figures_of = {each.version: dataclasses.asdict(each) for each in found}
        arguments.json.write_text(json.dumps({"clients": figures_of, "checks": checks}, indent=2) + "\n")
    return 0 if good else 1
