"""The kinds of paths that `paths` uploads over: what takes bytes, at which rate, and when it responds.

Everything is on 127.0.0.1, or between two network namespaces, which need root and Linux.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from . import path
from .stores import Store, null_store

PAYLOAD = 1448 / 1500
"""Of a packet."""
NEAR, FAR, LOSSY = 0.03, 0.3, 0.05
"""Round trips in seconds."""
LOSS = 0.001
ABOVE = 12
"""SlowDown is the response above so many PUTs in flight."""
DISK = "300MB/s"
"""The rate at which a spooling proxy takes bodies."""
FAST = 50
"""A changing path is so many times as fast in one phase as in the other."""
FAST_SECONDS, SLOW_SECONDS = 4.0, 6.0
LARGE = 5_000_000_000
"""Bytes of a file that is begun anew where connections are slow. A smaller one has small parts already."""
CONNECTIONS = 128
"""The most that an upload has."""
USUAL = 16
"""Connections by which a file's size is chosen where each has a cap."""
MOST = 500e6
"""Bytes a second: this machine does not upload more over anything."""
LEAST_QUEUE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Place:
    """An open path. `store.url` is the end to which clients connect, and `prefix` goes before their commands.

    The store's counts have `bytes_left`: the bytes of bodies that have left the clients.
    """

    store: Store
    prefix: Sequence[str] = ()
    idle: Callable[[], bool]
    """Whether nothing of a request is under way."""


Opened = Callable[[float, Path, int], AbstractContextManager[Place]]
"""Opens a path of a rate in bytes a second, with its files in a directory, for the round of that number."""


Stored = Literal["path", "upload", "moment"]
"""The stored rate that bounds a kill: the path's rate; that of the upload without kills, or of the moment if that is
more, where connections decide what a path carries; or that of the moment, where it changes."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """`rates` in bytes a second are those that are tried. What the rate is of, `what` says."""

    name: str
    what: str
    rates: Sequence[float]
    open: Opened
    full: Callable[[float], float] = lambda rate: rate
    """The bytes a second by which the size of a file is chosen."""
    most: Callable[[float], float] = lambda rate: rate
    """The bytes a second that no upload exceeds."""
    least: int = 0
    """The least size of a file in bytes, if the kind needs one of its own."""
    seconds: float = 0.0
    """The time by which the size of a file is chosen, if the kind needs one of its own."""
    fixed: Sequence[int] = ()
    """A fixed concurrency that is right here, if there is one."""
    stored: Stored = "path"
    options: Sequence[str] = ()
    """Of bigupload."""
    root: bool = False


def left(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Add what has left the clients to the null store's counts."""
    return {**counts, "bytes_left": counts["bytes_received"] + counts["bytes_arriving"] + counts["bytes_unread"]}


def _place(store: Store, prefix: Sequence[str] = ()) -> Place:
    return Place(
        store=dataclasses.replace(store, counts=lambda: left(store.counts())),
        prefix=prefix,
        idle=lambda: not store.counts()["bytes_arriving"],
    )


def _null(*knobs: str, of_rate: str) -> Opened:
    """The null store with an option that has the rate."""

    @contextlib.contextmanager
    def opened(rate: float, directory: Path, number: int) -> Iterator[Place]:
        with null_store([*knobs, of_rate, f"{rate:.0f}B/s"])(directory, number) as store:
            yield _place(store)

    return opened


def _packets(rtt: float, *, changing: bool = False, **options: Any) -> Opened:
    """A path of packets, new for each upload, so that its phases and losses begin anew."""

    @contextlib.contextmanager
    def opened(rate: float, directory: Path, number: int) -> Iterator[Place]:
        on_wire = rate / PAYLOAD
        phases = [(FAST_SECONDS, FAST * on_wire), (SLOW_SECONDS, on_wire)] if changing else []
        fastest = max([on_wire, *(rate for _, rate in phases)])
        queue = max(fastest * rtt, LEAST_QUEUE)
        with (
            path.path(rtt=rtt, rate=on_wire, queue=queue, phases=phases, seed=number, **options) as there,
            null_store(["--finely", "1", "--host", there.server_address], prefix=there.server_prefix)(
                directory, number
            ) as store,
        ):
            yield _place(store, there.client_prefix)

    return opened


def _behind(*options: str) -> Opened:
    """A proxy before a null store that takes what comes."""

    @contextlib.contextmanager
    def opened(rate: float, directory: Path, number: int) -> Iterator[Place]:
        with (
            null_store(["--finely", "1"])(directory, number) as store,
            _proxy([store.url, "--rate", f"{rate:.0f}B/s", *options]) as url,
        ):

            def counts() -> dict[str, Any]:
                proxy, behind = _asked(url, "/__proxy"), store.counts()
                return {**behind, "bytes_left": proxy["bytes_taken"] + proxy["bytes_unread"], "proxy": proxy}

            def reset() -> None:
                _asked(url, "/__proxy?reset")
                store.reset()

            yield Place(
                store=dataclasses.replace(store, url=url, counts=counts, reset=reset),
                idle=lambda: not _asked(url, "/__proxy")["held"] and not store.counts()["bytes_arriving"],
            )

    return opened


@contextlib.contextmanager
def _proxy(arguments: Sequence[str]) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks._proxy", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"the proxy did not start: {' '.join(command)}")
            yield json.loads(line)["url"]
        finally:
            process.kill()


def _asked(url: str, target: str) -> dict[str, int]:
    with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
        connection.request("GET", target)
        found: dict[str, int] = json.loads(connection.getresponse().read())
        return found


def _phases(rate: float) -> float:
    return rate * (FAST * FAST_SECONDS + SLOW_SECONDS) / (FAST_SECONDS + SLOW_SECONDS)


BUFFERING = Kind(
    name="buffering",
    what="a proxy takes bodies at memory speed and forwards all of them at once, which share the rate",
    rates=(0.8e6, 8e6, 80e6),
    open=_behind(),
)
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="link",
            what="packets, 30 ms; the rate is the link's",
            rates=(0.5e6, 10e6, 100e6),
            open=_packets(NEAR),
            root=True,
        ),
        Kind(
            name="reader",
            what="the store reads at the rate, all connections together, 20 ms",
            rates=(2e6, 10e6, 60e6),
            open=_null("--rtt", "0.02", of_rate="--total-rate"),
        ),
        Kind(
            name="cap",
            what="each connection has the rate, 30 ms",
            rates=(0.5e6, 4e6, 20e6),
            open=_null("--rtt", str(NEAR), of_rate="--rate"),
            full=lambda rate: min(MOST, USUAL * rate),
            most=lambda rate: min(MOST, CONNECTIONS * rate),
            least=LARGE,
            stored="upload",
        ),
        BUFFERING,
        Kind(
            name="spooling",
            what=f"a proxy takes bodies at {DISK} and forwards one request at a time at the rate",
            rates=(0.8e6, 8e6, 80e6),
            open=_behind("--one-at-a-time", "--take-rate", DISK),
        ),
        Kind(
            name="slowdown",
            what=f"503 above {ABOVE} PUTs in flight, each at the rate, 30 ms",
            rates=(0.5e6, 4e6, 20e6),
            open=_null("--rtt", str(NEAR), "--most-in-flight", str(ABOVE), of_rate="--rate"),
            full=lambda rate: ABOVE * rate,
            fixed=(ABOVE,),
            most=lambda rate: ABOVE * rate,
            stored="upload",
        ),
        Kind(
            name="changing",
            what=f"packets, 30 ms; {FAST} times the rate for {FAST_SECONDS:g} s, then the rate for {SLOW_SECONDS:g} s",
            rates=(0.5e6, 1e6, 2e6),
            open=_packets(NEAR, changing=True),
            full=_phases,
            seconds=(1.5 * FAST_SECONDS * FAST + SLOW_SECONDS) / _phases(1.0),  # it ends amid the second fast phase
            most=lambda rate: FAST * rate,
            stored="moment",
            root=True,
        ),
        Kind(
            name="loss-bbr",
            what="packets, 50 ms, 0.1 % lost, BBR; the rate is the link's",
            rates=(5e6, 20e6, 100e6),
            open=_packets(LOSSY, loss=LOSS, congestion_control="bbr"),
            stored="upload",
            root=True,
        ),
        Kind(
            name="loss-reno",
            what="packets, 50 ms, 0.1 % lost, Reno alone; the rate is the link's",
            rates=(5e6, 20e6, 100e6),
            open=_packets(LOSSY, loss=LOSS, congestion_control="reno"),
            options=("--congestion-control", "system"),
            stored="upload",
            root=True,
        ),
        Kind(
            name="far",
            what="packets, 300 ms; the rate is the link's",
            rates=(2e6, 20e6, 100e6),
            open=_packets(FAR),
            root=True,
        ),
    )
}


def chosen(names: str | None) -> list[Kind]:
    """Return the kinds of these names, with commas between them; without names, all. `loss` is both of them.

    Raises SystemExit if there is no such kind.
    """
    if not names:
        return list(KINDS.values())
    found = []
    for name in names.split(","):
        those = [kind for kind in KINDS.values() if name in (kind.name, kind.name.partition("-")[0])]
        if not those:
            raise SystemExit(f"no kind of path is called {name}; there are {', '.join(KINDS)}")
        found += those
    return found
