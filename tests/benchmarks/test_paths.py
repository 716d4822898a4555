"""The kinds of paths: what the proxy takes and forwards, what is read out of progress, and the goals."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks import _proxy, _stamped, paths
from benchmarks._kinds import FAST, FAST_SECONDS, KINDS, SLOW_SECONDS
from benchmarks._link import Link
from benchmarks._proxy import Proxy, Turns
from benchmarks._time_left import progress, time_left
from benchmarks.contest import Run
from benchmarks.contestants import OURS
from benchmarks.null_store.knobs import Knobs
from benchmarks.null_store.server import NullStore
from benchmarks.paths import Found, Killed, stored_rate, targets

pytestmark = pytest.mark.slow  # guards the benchmarks, not the product

PART = "/bucket/key?partNumber={}&uploadId={}"


# -- the proxy


@contextlib.contextmanager
def behind_proxy(**options: Any) -> Iterator[tuple[Proxy, NullStore]]:
    """A null store with a proxy before it."""
    store = NullStore(Knobs())
    proxy = Proxy(store.url, **{"rate": 0.0, **options})
    threads = [threading.Thread(target=one.serve, daemon=True) for one in (store, proxy)]
    for thread in threads:
        thread.start()
    try:
        yield proxy, store
    finally:
        proxy.close()
        store.close()


def connection(proxy: Proxy) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=30)


def created(client: http.client.HTTPConnection) -> str:
    client.request("POST", "/bucket/key?uploads")
    return client.getresponse().read().partition(b"<UploadId>")[2].partition(b"<")[0].decode()


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_an_upload_through_the_proxy_is_counted_at_both_ends(one_at_a_time: bool) -> None:
    with behind_proxy(one_at_a_time=one_at_a_time) as (proxy, store), contextlib.closing(connection(proxy)) as client:
        upload = created(client)
        for number, size in ((1, 200_000), (2, 0), (2, 70_001)):  # the third is sent again
            client.request("PUT", PART.format(number, upload), bytes(size), {"x-amz-checksum-crc32": "AAAA"})
            response = client.getresponse()
            assert (response.status, response.read(), response.headers["x-amz-checksum-crc32"]) == (200, b"", "AAAA")
        client.request("HEAD", "/bucket/other")
        missing = client.getresponse()
        assert (missing.status, missing.read()) == (404, b"")
        client.request("GET", "/__proxy?reset")
        assert json.loads(client.getresponse().read()) == {
            "bytes_taken": 270_001, "bytes_forwarded": 270_001, "dropped": 0, "held": 0, "bytes_unread": 0,
        }  # fmt: skip
        assert proxy.report()["bytes_taken"] == 0
        counts = store.counts.report()
        assert (counts["bytes_received"], counts["parts"]) == (270_001, 3)
        assert (counts["parts_again"], counts["bytes_again"]) == (1, 70_001)


def test_a_refused_part_closes_only_the_way_to_the_store() -> None:
    with behind_proxy() as (proxy, store), contextlib.closing(connection(proxy)) as client:
        upload = created(client)
        store.knobs = Knobs(slow_down_share=1)
        client.request("PUT", PART.format(1, upload), bytes(10))
        refused = client.getresponse()
        assert (refused.status, b"SlowDown" in refused.read()) == (503, True)
        store.knobs = Knobs()
        client.request("PUT", PART.format(1, upload), bytes(10))
        assert client.getresponse().status == 200


@pytest.mark.parametrize("waits_for_its_turn", [False, True])
def test_who_goes_away_is_dropped_after_the_whole_body_was_taken(waits_for_its_turn: bool) -> None:
    """A body that would take hours to forward, or one before which another would."""
    with behind_proxy(rate=1.0, one_at_a_time=waits_for_its_turn) as (proxy, store):
        if waits_for_its_turn:
            assert proxy.turns is not None
            proxy.turns.queue()
        here, there = socket.socketpair()
        with here:
            here.sendall(b"PUT /bucket/key HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
        _proxy.serve(proxy, there)
        counts = proxy.report()
        assert (counts["bytes_taken"], counts["bytes_forwarded"], counts["dropped"], counts["held"]) == (
            100_000,
            0,
            1,
            0,
        )
        assert store.counts.report()["parts"] == 0


def test_turns_are_taken_in_order_and_given_back() -> None:
    turns = Turns()
    one, two, three = (turns.queue() for _ in range(3))
    assert [each.is_set() for each in (one, two, three)] == [True, False, False]
    turns.leave(two)  # its client has gone
    turns.leave(one)
    assert three.is_set()
    turns.leave(three)
    assert turns.queue().is_set()


def test_a_rate_is_shared_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_proxy.time, "monotonic", lambda: 100.0)
    shared = _proxy.Shared(1000.0)
    assert [shared.book(500) for _ in range(3)] == pytest.approx([0.48, 0.98, 1.48])
    assert _proxy.Shared(0.0).book(1 << 40) == 0.0


# -- the kinds


def test_a_changing_link_has_its_phases_by_turns_from_the_first_packet_on() -> None:
    phases = [(FAST_SECONDS, 1e6 * FAST), (SLOW_SECONDS, 1e6)]
    link = Link(rate=1.0, delay=0.0, loss=0.0, queue=1e9, seed="s", phases=phases)
    began = 1000.0
    for at, seconds in ((0.0, 1 / FAST), (3.9, 1 / FAST), (5.0, 1.0), (9.0, 1.0), (10.5, 1 / FAST)):
        assert link.offer(began + at, [1_000_000])[0] == pytest.approx(began + at + seconds)


def test_the_store_knows_what_it_has_not_read() -> None:
    store = NullStore(Knobs(hang_share=1))
    threading.Thread(target=store.serve, daemon=True).start()
    there = urlsplit(store.url)
    try:
        with socket.create_connection((there.hostname, there.port)) as client:
            assert store.unread() == 0
            client.sendall(b"PUT /bucket/key HTTP/1.1\r\nContent-Length: 50000\r\n\r\n")
            while not store.counts.report()["hung"]:
                pass
            client.sendall(bytes(20_000))
            assert store.unread() == (20_000 if sys.platform == "linux" else 0)
    finally:
        store.close()


# -- the time left


def lines(*events: tuple[float, dict[str, Any]]) -> str:
    return "\n".join(["a warning", *(f"{at:.3f} {json.dumps(event)}" for at, event in events), "5.0 {not JSON"])


STARTED = 1.0, {"event": "UploadStarted", "resumed_bytes": 0}
COMPLETED = 11.0, {"event": "UploadCompleted"}


def shown(at: float, recorded: int, in_flight: int = 0, **more: Any) -> tuple[float, dict[str, Any]]:
    counts = {"bytes_uploaded": recorded, "bytes_in_flight": in_flight, "parts_uploaded": recorded // 10, "size": 100}
    return at, {"event": "Progress", **counts, **more}


def test_an_even_upload_displays_the_time_that_is_left() -> None:
    found = time_left(lines(STARTED, *(shown(1.0 + at, at * 10) for at in range(1, 11)), COMPLETED))
    assert found is not None
    assert (found.began, found.ended, found.seconds) == (1.0, 11.0, 10.0)
    assert [found.error(share) for share in (0.25, 0.5, 0.75)] == pytest.approx([0.0, 0.0, 0.0])
    assert found.jump == pytest.approx(0.0)
    assert str(found) == "+0%, +0%, +0%"


def test_an_upload_that_did_not_complete_has_progress_alone() -> None:
    text = lines(STARTED, shown(2.0, 20), shown(3.0, 40, 20))
    assert time_left(text) is None
    assert [(each.at, each.parts, each.recorded, each.in_flight) for each in progress(text)] == [
        (2.0, 2, 20, 0), (3.0, 4, 40, 20),
    ]  # fmt: skip


def test_standard_error_is_stamped_and_all_else_is_passed_on() -> None:
    script = "import sys; print('out'); print('one\\ntwo', file=sys.stderr); sys.exit(7)"
    ended = subprocess.run(
        [sys.executable, _stamped.__file__, sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (7, "out\n")
    stamps, said = zip(*(line.split(" ") for line in ended.stderr.splitlines()), strict=True)
    assert said == ("one", "two")
    assert all(float(stamp) >= 0 for stamp in stamps)


# -- kills


def kill(
    *,
    lost: int = 0,
    accepted: int = 5,
    given_up: int = 0,
    rate: float = 1e6,
    contestant: str = OURS,
    is_early: bool = False,
) -> Killed:
    return Killed(
        contestant=contestant,
        after=9.0,
        rate=rate,
        left=lost + accepted,
        accepted=accepted,
        given_up=given_up,
        again=0,
        part_size=5_000_000,
        is_early=is_early,
    )


@pytest.mark.parametrize(("rate", "bound"), [(1e6, 10_000_000), (1e5, 7_500_000)])
def test_a_kill_loses_ten_seconds_or_a_part(rate: float, bound: int) -> None:
    assert kill(lost=bound, rate=rate).holds
    assert not kill(lost=bound + 1, rate=rate).holds
    assert kill(lost=bound + 1, given_up=1, rate=rate).holds, "it is sent again without a kill, too"


def test_the_stored_rate_is_that_of_the_last_ten_seconds() -> None:
    counts = {"first_put": {"time": 100.0}, "timeline": [[1000, 1, 0]] * 5 + [[10, 1, 0]] * 10}
    assert stored_rate(counts, 115.0) == 10.0
    assert stored_rate({**counts, "timeline": counts["timeline"][:13]}, 112.5) == pytest.approx((2000 + 80) / 9.5)
    assert stored_rate({**counts, "timeline": [[600, 1, 0]]}, 103.0) == 200.0
    assert stored_rate({"first_put": None, "timeline": []}, 103.0) == 0.0


# -- goals


def run_of(name: str, seconds: float, *, left: int = 100, again: int = 0, outcome: Any = "done") -> Run:
    counts = {"bytes_received": left, "bytes_left": left, "parts_again": again}
    return Run(contestant=name, round=1, outcome=outcome, size=100, seconds=seconds, cpu=1, peak=1, counts=counts)


def found(*runs: Run, kind: str = "reader", kills: tuple[Killed, ...] = (), size: int = 100) -> Found:
    return Found(kind=kind, rate=1e6, size=size, runs=runs, displayed={}, kills=kills)


def held(*those: Found, **options: Any) -> dict[str, bool]:
    return {target.what: target.holds for target in targets(those, **options)}


def test_a_small_upload_by_the_real_command_through_the_proxy(tmp_path: Path) -> None:
    """The only test that runs the command: a part, and no rate."""
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(6 << 20))
    contestant = paths.ourselves(OURS, "--progress", "json")
    done, errors = paths.once(KINDS["buffering"], 1e12, contestant, file, 1, 60.0, is_shown=True)
    assert (done.outcome, done.why) == ("done", "")
    assert (done.sent_ratio, done.counts["parts_again"], done.counts["proxy"]["bytes_forwarded"]) == (1.0, 0, 6 << 20)
    left = time_left(errors)
    assert left is not None
    assert left.samples[-1].recorded == 6 << 20
