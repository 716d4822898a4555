"""How fast does the media service sign?  `python -m benchmarks.service [--seconds 20] [--json FILE]`

Runs the real command over a real local store, with one worker and with two, and measures from outside, over HTTP:

- Part URLs a second, in batches of 100 with checksums, over a few connections that are never idle. "A core" is a second
  of CPU time (user and system) of all the service's processes. Other processes and the client lengthen the wall time,
  but hardly the CPU time. Both are shown.
- The latency of one URL at 200 requests a second. The requests are due at random times that are fixed beforehand, and
  the latency counts from the due time. So a stall delays all requests that are due meanwhile, and the client's own
  delays count too.

The store, the service, the client and other processes share the machine. Each figure shows what others used. The exit
status is 1 if a core signs fewer than 2,000 part URLs a second, if the 99th percentile is 50 ms or more, or if the
store refuses a signed part. Linux only (/proc). Leaves no files.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import math
import os
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from bigupload.core.checksums import Algorithm, digest_of, encode
from bigupload.stores import local_store

from ._running import MIB, all_hold
from ._serving import Meter, Service, Spent, serving

LEAST_URLS_A_CORE = 2_000
"""The target, in part URLs a second."""
MOST_LATENCY = 0.050
"""The target for the 99th percentile, in seconds."""
WORKERS = (1, 2)
BATCH = 100
CONNECTIONS = 16
RATE = 200.0
"""The request rate, a second."""
PART = 5 * MIB
PARTS = 900
SEED = 3
NOTHING = "(nothing)"
WARM_UP = 2.0
"""The warm-up of each measurement, in seconds: clients are made, code is loaded, connections are opened."""


class WrongAnswerError(Exception):
    """The service gave a wrong response, so there is nothing to measure."""


class Client:
    """Sends requests. A wrong response raises WrongAnswerError."""

    def __init__(self, service: Service, http: aiohttp.ClientSession) -> None:
        self._service = service
        self._http = http

    async def nothing(self) -> None:
        """Check that /healthz responds."""
        async with self._http.get(self._service.url + "/healthz") as answer:
            await answer.read()
        if answer.status != 200:
            raise WrongAnswerError(f"/healthz was answered {answer.status}")

    async def ask(self, path: str, body: bytes) -> bytes:
        """Return the body of a 200."""
        headers = {"Authorization": f"Bearer {self._service.key}", "Content-Type": "application/json"}
        async with self._http.post(self._service.url + path, data=body, headers=headers) as answer:
            content = await answer.read()
        if answer.status != 200:
            raise WrongAnswerError(f"{path} was answered {answer.status}: {content[:500].decode(errors='replace')}")
        return content

    async def put(self, signed: Mapping[str, Any], body: bytes) -> int:
        """Send a part as it was signed. Returns the store's status."""
        async with self._http.put(signed["url"], data=body, headers=signed["headers"]) as answer:
            return answer.status

    async def open_upload(self) -> str:
        """Create an upload of `PARTS` parts. Returns its handle."""
        request = {"filename": "movie.mp4", "contentType": "video/mp4", "size": PARTS * PART, "partSize": PART}
        answer: dict[str, Any] = json.loads(await self.ask("/v1/media/multipart", _json(request)))
        return str(answer["upload"])

    async def state(self, upload: str) -> None:
        """Ask for the upload's state, for which the service asks the store."""
        headers = {"Authorization": f"Bearer {self._service.key}"}
        url = f"{self._service.url}/v1/media/multipart"
        async with self._http.get(url, params={"upload": upload}, headers=headers) as answer:
            content = await answer.read()
        if answer.status != 200 or json.loads(content)["status"] != "open":
            raise WrongAnswerError(f"an upload's state was answered {answer.status}")

    async def abort(self, upload: str) -> None:
        """Abort the upload."""
        headers = {"Authorization": f"Bearer {self._service.key}"}
        await self._http.delete(f"{self._service.url}/v1/media/multipart", params={"upload": upload}, headers=headers)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def sign_request(upload: str, numbers: Sequence[int], checksum: Callable[[], str]) -> bytes:
    """The body for POST /v1/media/multipart/parts."""
    parts = [{"partNumber": number, "size": PART, "checksum": checksum()} for number in numbers]
    return _json({"upload": upload, "parts": parts})


# -- the measurements


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """The number of signed part URLs."""

    workers: int
    urls: int
    spent: Spent

    @property
    def a_second(self) -> float:
        return self.urls / self.spent.seconds

    @property
    def a_core(self) -> float:
        """Signed part URLs in one second of the service's CPU time."""
        return self.urls / self.spent.service


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The latency of one URL, in seconds from the request's due time."""

    workers: int
    what: str
    requests: int
    p50: float
    p99: float
    worst: float
    latest_sent: float
    """The client's largest delay: at most this much of `worst` is its own."""
    spent: Spent


async def saturate(client: Client, bodies: Sequence[bytes], seconds: float) -> int:
    """Request batches over all connections until the time is over. Returns the number of URLs."""
    until = time.perf_counter() + seconds
    turns = itertools.cycle(bodies)

    async def ask() -> int:
        urls = 0
        while time.perf_counter() < until:
            answer = await client.ask("/v1/media/multipart/parts", next(turns))
            if answer.count(b'"url":"') != BATCH:
                raise WrongAnswerError("a batch was answered with another number of URLs")
            urls += BATCH
        return urls

    return sum(await asyncio.gather(*(ask() for _ in range(CONNECTIONS))))


async def at_their_times(ask: Callable[[], Awaitable[object]], seconds: float) -> tuple[list[float], float]:
    """Send requests at their due times. Returns the sorted latencies and the largest delay of a request."""
    random_ = random.Random(SEED)
    latencies: list[float] = []
    latest = 0.0

    async def one(due: float) -> None:
        await ask()
        latencies.append(time.perf_counter() - due)

    began = due = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        while (due := due + random_.expovariate(RATE)) < began + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            latest = max(latest, time.perf_counter() - due)
            group.create_task(one(due))
    return sorted(latencies), latest


async def measure(service: Service, workers: int, seconds: float) -> tuple[Throughput, list[Latency], bool]:
    """Run all measurements, and check that the store accepts a part with a URL from one of the batches."""
    random_ = random.Random(SEED)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as http:
        client = Client(service, http)
        upload = await client.open_upload()
        checksum = lambda: encode(random_.randbytes(8))  # noqa: E731 - no two alike, as in life
        starts = range(1, PARTS + 1, BATCH)
        bodies = [sign_request(upload, range(start, start + BATCH), checksum) for start in starts]
        await saturate(client, bodies, WARM_UP)
        meter = Meter(service.pid)
        urls = await saturate(client, bodies, seconds)
        throughput = Throughput(workers=workers, urls=urls, spent=meter.read())

        presign = _json({"filename": "photo.jpg", "contentType": "image/jpeg", "size": 4_000_000})
        part = sign_request(upload, [PARTS // 2], checksum)
        kinds: dict[str, Callable[[], Awaitable[object]]] = {
            NOTHING: client.nothing,
            "presign": lambda: client.ask("/v1/media/presign", presign),
            "one part": lambda: client.ask("/v1/media/multipart/parts", part),
        }
        latencies = [await _latency(service, workers, what, ask, seconds) for what, ask in kinds.items()]
        holds = await _store_takes(client, upload)
        await client.abort(upload)
    return throughput, latencies, holds


async def _latency(
    service: Service, workers: int, what: str, ask: Callable[[], Awaitable[object]], seconds: float
) -> Latency:
    await at_their_times(ask, WARM_UP)
    meter = Meter(service.pid)
    took, latest = await at_their_times(ask, seconds)
    return Latency(
        workers=workers,
        what=what,
        requests=len(took),
        p50=percentile(took, 0.50),
        p99=percentile(took, 0.99),
        worst=took[-1],
        latest_sent=latest,
        spent=meter.read(),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the percentile: the least value that is not less than that share of them."""
    return ordered[math.ceil(share * len(ordered)) - 1]


async def _store_takes(client: Client, upload: str) -> bool:
    """Send a part as signed and one that differs, because a URL with a useless signature would be quick too."""
    body = bytes(PART)
    checksums = iter([encode(digest_of(Algorithm.CRC64NVME, body)), *["AAAAAAAAAAA="] * (BATCH - 1)])
    request = sign_request(upload, range(1, BATCH + 1), lambda: next(checksums))
    answer = json.loads(await client.ask("/v1/media/multipart/parts", request))
    first, second = answer["signed"][:2]
    return await client.put(first, body) == 200 and await client.put(second, body) >= 400


# -- what is shown


def show(console: Console, throughputs: Sequence[Throughput], latencies: Sequence[Latency]) -> None:
    """Print two tables."""
    table = Table(title=f"part URLs, {BATCH} a batch, {CONNECTIONS} connections", title_justify="left")
    for column in ("workers", "URLs", "a second", "a core second", "service µs", "client µs", "others' cores"):
        table.add_column(column, justify="right")
    for each in throughputs:
        spent = each.spent
        table.add_row(
            str(each.workers),
            f"{each.urls:,}",
            f"{each.a_second:,.0f}",
            f"{each.a_core:,.0f}",
            f"{spent.service / each.urls * 1e6:,.0f}",
            f"{spent.client / each.urls * 1e6:,.0f}",
            f"{spent.others_cores:.2f}",
        )
    console.print(table)
    table = Table(title=f"one URL, {RATE:.0f} requests a second, milliseconds", title_justify="left")
    for column in ("workers", "", "requests", "p50", "p99", "max", "sent late", "service CPU", "others' cores"):
        table.add_column(column, justify="left" if not column else "right")
    for one in latencies:
        times = (one.p50, one.p99, one.worst, one.latest_sent, one.spent.service / one.requests)
        row = [f"{1e3 * seconds:.2f}" for seconds in times]
        table.add_row(str(one.workers), one.what, f"{one.requests:,}", *row, f"{one.spent.others_cores:.2f}")
    console.print(table)


def measure_all(seconds: float) -> tuple[list[Throughput], list[Latency], bool]:
    """Measure with each number of workers. Raises SystemExit if that is impossible."""
    throughputs: list[Throughput] = []
    latencies: list[Latency] = []
    taken = True
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bigupload-service-") as name:
        directory = Path(name)
        try:
            store = local_store.start(directory / "store")  # here, so that its cost is not the service's
            for workers in WORKERS:
                with serving(store.data_dir, directory / f"service-{workers}", workers) as service:
                    print(f"measuring {workers} worker{'s'[: workers > 1]}: process {service.pid}", flush=True)
                    throughput, found, holds = asyncio.run(measure(service, workers, seconds))
                throughputs.append(throughput)
                latencies += found
                taken = taken and holds
        except* WrongAnswerError as e:  # alone, or of a task group
            wrong.append(str(e.exceptions[0]))
        finally:
            local_store.stop(directory / "store")
    if wrong:
        raise SystemExit(wrong[0])
    return throughputs, latencies, taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="Duration of each of the eight measurements.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Also write the figures to FILE.")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    throughputs, latencies, taken = measure_all(arguments.seconds)
    after = os.getloadavg()[0]

    show(Console(width=120), throughputs, latencies)
    print(f"load of the last minute {before:.1f} at the start, {after:.1f} at the end; {os.cpu_count()} cores")
    checks = {
        f"{LEAST_URLS_A_CORE:,} part URLs a second a core": all(t.a_core >= LEAST_URLS_A_CORE for t in throughputs),
        f"p99 under {MOST_LATENCY * 1e3:.0f} ms": all(
            latency.p99 < MOST_LATENCY for latency in latencies if latency.what != NOTHING
        ),
        "the store accepted a part as signed, and refused another": taken,
    }
    good = all_hold(checks)
    if arguments.json is not None:
        figures = {
            "throughput": [dataclasses.asdict(t) | {"a_second": t.a_second, "a_core": t.a_core} for t in throughputs],
            "latency": [dataclasses.asdict(latency) for latency in latencies],
            "load": {"before": before, "after": after, "cores": os.cpu_count()},
            "checks": checks,
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
