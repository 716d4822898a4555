"""Uploads that take days, laptops that sleep, URLs and credentials that end half way: in virtual time.

A store and a transport that know when a URL ends, the engine as it is. `now` is what clocks show; `asleep` is the time
in which this machine slept: it passes for the store, and not for a monotonic clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from bigupload import errors, events
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import CopySource, ObjectFacts, Verified
from bigupload.core.manifest import PartRecord, Target
from bigupload.core.part_plan import Limits, Part, Plan
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine import multipart_upload
from bigupload.engine.context import TICK, SharedSlots, UploadContext, UploadSettings
from bigupload.engine.multipart_upload import MultipartUpload
from bigupload.engine.retrying import Effects
from bigupload.manifests.journal import FileJournal
from bigupload.ports import Created, Gauge, ListedPart, OpenUpload, PutResponse, SignedRequest, Source, UnsignedPart
from bigupload.sources.file import FileSource

from .support import LIMITS, PART, write

HOUR = 3600.0


@dataclass
class Life:
    """A machine, a store far away, and the way between."""

    now: float = 0.0
    asleep: float = 0.0
    url_lifetime: float = HOUR
    credentials_end: float | None = None
    """Real time at which what signs ends, where nothing refreshes it; URLs end with it."""
    put: Callable[[Life, int], Awaitable[None]] | None = None
    """What happens to the nth PUT, once its URL was accepted."""
    sending: int = 0
    """The part whose PUT that is."""
    signed: int = 0
    puts: int = 0
    anew: list[int] = field(default_factory=list)
    """Which PUTs went over connections that nothing was sent on before."""
    refused: int = 0
    parts: dict[int, ListedPart] = field(default_factory=dict)
    told: list[events.Event] = field(default_factory=list)

    @property
    def real(self) -> float:
        return self.now + self.asleep

    async def sleep(self, seconds: float) -> None:
        if seconds not in (TICK, TICK / 4):  # looking does not take time: hashing threads live in another
            self.now += seconds
        await anyio.sleep(0)

    def effects(self) -> Effects:
        return Effects(clock=lambda: self.now, sleep=self.sleep, random=lambda: 0.5)


class FarStore:
    """Implements `ports.MultipartStore`."""

    limits: Limits = LIMITS
    signs_ahead = 0
    ca_bundle = None

    def __init__(self, life: Life) -> None:
        self.life = life
        self.target = Target(bucket="b", key="k")
        self.checksum: str | None = None
        self.token = ""

    def options(self) -> dict[str, Any]:
        return {}

    def restore_options(self, recorded: Mapping[str, Any]) -> list[str]:
        return []

    def url(self) -> str:
        return "s3://b/k"

    async def part_address(self) -> str | None:
        return None

    async def precheck(self) -> None:
        pass

    async def create(
        self, plan: Plan, algorithm: Algorithm, *, declare: bool, token: str, first: Sequence[UnsignedPart] = ()
    ) -> Created:
        self.token = token
        return Created("id", algorithm.type)

    def refused(self, request: SignedRequest, fault: Fault) -> None:
        pass

    async def sign(self, upload_id: str, parts: Sequence[UnsignedPart]) -> list[SignedRequest]:
        life = self.life
        life.signed += len(parts)
        ends = life.real + life.url_lifetime
        if life.credentials_end is not None:
            ends = min(ends, life.credentials_end)
        return [SignedRequest(str(ends), part.headers, life.url_lifetime) for part in parts]

    async def copy_part(self, upload_id: str, part: Part, origin: CopySource) -> PutResponse:
        raise Fault(FaultKind.UNSUPPORTED, "nothing is copied here")

    async def list_parts(self, upload_id: str, algorithm: Algorithm) -> list[ListedPart]:
        return list(self.life.parts.values())

    async def find_open(self) -> list[OpenUpload]:
        return []

    async def stat(self, upload_id: str, algorithm: Algorithm) -> ObjectFacts | None:
        return None

    async def complete(
        self, upload_id: str, parts: Sequence[PartRecord], *, size: int, algorithm: Algorithm, checksum: str | None
    ) -> ObjectFacts:
        return ObjectFacts(
            etag="e", size=size, algorithm=algorithm, checksum=checksum, checksum_type=algorithm.type, token=self.token
        )

    async def abort(self, upload_id: str) -> None:
        pass


class FarTransport:
    """Implements `ports.Transport`."""

    def __init__(self, life: Life) -> None:
        self.life = life

    def connect_ahead(self, address: str, count: int) -> None:
        pass

    async def put(
        self,
        request: SignedRequest,
        source: Source,
        part: Part,
        *,
        on_start: Callable[[Gauge], None],
        fresh: bool = False,
    ) -> PutResponse:
        life = self.life
        if life.real >= float(request.url):  # S3 looks when a PUT begins, and not when it ends
            life.refused += 1
            raise Fault(FaultKind.REFUSED, "the store refused it: 403 AccessDenied", status=403, code="AccessDenied")
        life.puts += 1
        nth = life.puts
        if fresh:
            life.anew.append(nth)
        await anyio.sleep(0)
        life.sending = part.number
        if life.put is not None:
            await life.put(life, nth)
        etag = f'"{part.number}"'
        checksum = request.headers[Algorithm.CRC64NVME.header]
        life.parts[part.number] = ListedPart(part.number, part.size, etag, checksum)
        return PutResponse(etag, {Algorithm.CRC64NVME.header: checksum})


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Awaitable[Verified]]:
    path = write(tmp_path / "file", 6 * PART)

    async def run(life: Life, *, concurrency: int = 1, policy: RetryPolicy | None = None) -> Verified:
        with FileSource(path) as source, FileJournal(tmp_path / "m") as journal:
            context = UploadContext(
                source=source,
                policy=policy or RetryPolicy(), emit=life.told.append, effects=life.effects(),
                store=FarStore(life), transport=FarTransport(life), journal=journal,
                shared=SharedSlots(concurrency),
                settings=UploadSettings(algorithm=Algorithm.CRC64NVME, part_size=PART),
            )  # fmt: skip
            return (await MultipartUpload(context, manifest_id="x").run()).verified

    return run


Run = Callable[..., Awaitable[Verified]]


def taking(seconds: float) -> Callable[[Life, int], Awaitable[None]]:
    async def put(life: Life, _: int) -> None:
        life.now += seconds

    return put


@pytest.mark.exhaustive
@pytest.mark.parametrize("hours", [30, 0.5, 0.99, 1.5])
@pytest.mark.parametrize("concurrency", [2, 1])
async def test_an_upload_that_takes_days(run: Run, hours: float, concurrency: int) -> None:
    """Parts wait in the queue longer than their URLs live: they are signed again there."""
    life = Life(put=taking(hours * HOUR))
    assert await run(life, concurrency=concurrency) is Verified.FULL_OBJECT
    assert life.puts - len(life.anew) == 6  # if time leaps, a part may seem to be a straggler and is hedged
    assert life.refused == 0 or concurrency > 1  # where time leaps between another's signature and its PUT


@pytest.mark.exhaustive
@pytest.mark.parametrize("hours", [12, 2, 24 * 365])
async def test_a_laptop_that_sleeps_during_every_part(run: Run, hours: float) -> None:
    """Its clock does not show the sleep, so that URLs look fresh; the connection breaks, and what the store then
    refuses is signed again, as often as it comes."""

    times = Counter[int]()

    async def put(life: Life, _: int) -> None:
        times[life.sending] += 1
        if times[life.sending] < 3:
            life.asleep += hours * HOUR
            raise Fault(FaultKind.BROKEN, "the connection broke")

    life = Life(put=put)
    assert await run(life) is Verified.FULL_OBJECT
    assert life.refused >= 6
    assert life.now < HOUR  # the sleep did not count as an outage


async def test_a_laptop_that_wakes_before_its_network_does(run: Run) -> None:
    async def put(life: Life, nth: int) -> None:
        if nth == 2:
            life.asleep += 8 * HOUR
        if 2 <= nth <= 12:
            raise Fault(FaultKind.UNREACHABLE, "no such host")

    life = Life(put=put, url_lifetime=24 * HOUR)
    assert await run(life) is Verified.FULL_OBJECT


async def test_session_credentials_that_the_chain_refreshes(run: Run) -> None:
    """URLs end with the credentials that signed them, sooner than they say."""

    async def put(life: Life, nth: int) -> None:
        life.now += 0.2 * HOUR
        life.credentials_end = life.real + 0.25 * HOUR  # refreshed by now
        if nth in (2, 3, 4):
            raise Fault(FaultKind.BROKEN, "the connection broke")

    life = Life(put=put, credentials_end=0.25 * HOUR)
    assert await run(life, policy=RetryPolicy(give_up_after=HOUR)) is Verified.FULL_OBJECT


async def test_session_credentials_that_end_for_good(run: Run, tmp_path: Path) -> None:
    """It stops, resumable, at the second refusal, and resumes with others."""
    life = Life(put=taking(0.4 * HOUR), credentials_end=HOUR)
    with pytest.raises(errors.AccessDenied) as caught:
        await run(life)
    assert caught.value.exit_code == 75
    assert caught.value.manifest is not None
    done = len(life.parts)
    assert 0 < done < 6
    life.credentials_end = None
    assert await run(life) is Verified.FULL_OBJECT
    assert life.puts == 6  # nothing is sent twice


async def test_a_store_that_refuses_every_url_is_not_asked_for_ever(run: Run) -> None:
    life = Life(url_lifetime=-1.0)
    with pytest.raises(errors.AccessDenied):
        await run(life)
    assert life.refused <= 8


async def test_refused_between_failures_ends_too(run: Run) -> None:
    """Each counted failure allows one new signature more, and those are counted."""

    async def put(life: Life, nth: int) -> None:
        life.asleep += 2 * HOUR
        raise Fault(FaultKind.BROKEN, "the connection broke")

    life = Life(put=put)
    with pytest.raises(errors.StoreUnreachable) as caught:
        await run(life)
    assert caught.value.exit_code == 75
    assert life.puts <= 8 * 6


async def test_a_clock_that_jumps(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall time is asked for nothing that an upload waits for."""
    import time

    wall = iter(range(10**9, 0, -86_400))
    monkeypatch.setattr(time, "time", lambda: float(next(wall)))
    life = Life(put=taking(60))
    assert await run(life) is Verified.FULL_OBJECT
    assert life.refused == 0


@pytest.mark.parametrize("kind", [FaultKind.STALLED, FaultKind.BROKEN])
async def test_connections_after_the_path_has_changed(run: Run, kind: FaultKind) -> None:
    """What is sent on connections of the old path goes nowhere: it stalls, and is sent again on new ones. Those that
    lie idle in the pool are of the old path as well, and would cost an attempt each."""
    old = {1, 2, 3}

    async def put(life: Life, nth: int) -> None:
        if nth in old:
            raise Fault(kind, "part stood still")

    life = Life(put=put)
    policy = RetryPolicy(base_delay=0)  # no time passes, or a part may seem to lag
    assert await run(life, concurrency=3, policy=policy) is Verified.FULL_OBJECT
    assert life.puts == 6 + len(old)
    assert len(life.anew) == len(old), "each failure's next PUT"


async def test_a_store_that_is_busy_keeps_its_connections(run: Run) -> None:
    async def put(life: Life, nth: int) -> None:
        if nth == 2:
            raise Fault(FaultKind.BUSY, "the store refused it: 503 SlowDown", status=503, code="SlowDown")

    life = Life(put=put)
    assert await run(life) is Verified.FULL_OBJECT
    assert life.puts == 7
    assert life.anew == []


async def test_an_object_is_looked_for_at_intervals(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[float] = []

    async def gone(*_: Any, **__: Any) -> Any:
        raise Fault(FaultKind.GONE, "404 NoSuchUpload")

    async def stat(store: FarStore, *_: Any) -> None:
        looked.append(store.life.now)
        assert len(looked) < 10

    monkeypatch.setattr(FarStore, "complete", gone)
    monkeypatch.setattr(FarStore, "list_parts", gone)
    monkeypatch.setattr(FarStore, "stat", stat)
    monkeypatch.setattr(multipart_upload, "_LOOK_EVERY", 90.0)  # no look at the very end of the 300
    with pytest.raises(errors.UploadGone):
        await run(Life())
    assert [at - looked[0] for at in looked] == pytest.approx([0.0, 90.0, 180.0, 270.0, 360.0])
