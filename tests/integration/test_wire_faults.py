"""What goes wrong between an uploader and a real SeaweedFS, one thing at a time, by the fault proxy's scripts.

Every case ends proved, with the file's bytes in the store, or with the error that it must have.
"""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import bigupload
from bigupload import PartProof, S3Options, Verified, errors, events
from bigupload.core.part_plan import MIB
from bigupload.core.retry_policy import RetryPolicy
from bigupload.manifests.journal import read_manifest
from bigupload.stores.local_store import LocalStore
from tests.tools import wire_faults as faults
from tests.tools.certs import Certificates, make_certificates
from tests.tools.fault_proxy import FaultProxy
from tests.tools.weed import weed_client

from .support import BUCKET, no_leaks, write

PART = 5 * MIB
PARTS = 2
SIZE = PART + 1000
QUICK = RetryPolicy(base_delay=0, max_delay=0)
IMPATIENT = replace(QUICK, stall_after=0.5, attempts=1000)
"""For what stands still. A machine that stops for a moment makes everything seem so, and costs attempts."""
IN_A_HURRY = replace(QUICK, give_up_after=0.2)
"""`give_up_after` also bounds Retry-After. Where nothing connects for a while, this would be all the patience."""


@dataclass
class Wire:
    """One file, the proxy, and SeaweedFS behind it."""

    weed: LocalStore
    proxy: FaultProxy
    directory: Path
    path: Path
    sha256: str
    key: str
    ca: Path | None = None
    events: list[events.Event] = field(default_factory=list)

    @property
    def manifest(self) -> Path:
        return self.directory / "the.manifest.jsonl"

    def options(self, **more: Any) -> S3Options:
        more.setdefault("endpoint_url", self.proxy.url)
        return S3Options(
            region=self.weed.region,
            access_key=self.weed.access_key,
            secret_key=self.weed.secret_key,
            ca_bundle=self.ca,
            **more,
        )

    async def upload(self, *, options: S3Options | None = None, **more: Any) -> bigupload.UploadResult:
        more = {"retry": QUICK, "part_size": PART, "manifest": self.manifest, "on_event": self.hear} | more
        async with no_leaks():
            try:
                return await bigupload.upload(
                    self.path, to=f"s3://{BUCKET}/{self.key}", s3=options or self.options(), **more
                )
            finally:
                self.proxy.run_ended()

    def hear(self, event: events.Event) -> None:
        self.events.append(event)
        if isinstance(event, events.OutageStarted):
            threading.Thread(target=self.proxy.restore).start()  # never the loop that waits for the proxy

    def grow(self) -> None:
        """Another file, with one part more."""
        write(self.path, SIZE + PART, seed=4)
        self.sha256 = hashlib.sha256(self.path.read_bytes()).hexdigest()

    def retries(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, events.Retrying)]

    def warnings(self) -> str:
        return "\n".join(event.message for event in self.events if isinstance(event, events.Warned))

    def holds(self) -> bool:
        client = weed_client(self.weed)
        try:
            body = client.get_object(Bucket=BUCKET, Key=self.key)["Body"].read()
            client.delete_object(Bucket=BUCKET, Key=self.key)
        finally:
            client.close()
        return hashlib.sha256(body).hexdigest() == self.sha256

    def unexplained(self) -> int:
        """Bytes of parts that came here beyond the file's, those of exchanges that were broken left out."""
        sound = [each for each in self.proxy.exchanges if each.op == "UploadPart" and not each.broken]
        return max(0, sum(each.received for each in sound) - self.path.stat().st_size)


@pytest.fixture
def wire(weed: LocalStore, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Wire]:
    yield from _wire(weed, tmp_path, request, None)


@pytest.fixture
def tls_wire(weed: LocalStore, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Wire]:
    """https to the proxy; the signature does not bind the scheme."""
    yield from _wire(weed, tmp_path, request, make_certificates(tmp_path))


def _wire(weed: LocalStore, tmp_path: Path, request: pytest.FixtureRequest, tls: Certificates | None) -> Iterator[Wire]:
    path = write(tmp_path / "file.bin", SIZE, seed=3)
    port = urlsplit(weed.endpoint_url).port or 0
    with FaultProxy("127.0.0.1", port, tls=tls, keys=(weed.access_key, weed.secret_key)) as proxy:
        key = hashlib.sha256(request.node.nodeid.encode()).hexdigest()
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        yield Wire(weed, proxy, tmp_path, path, sha256, key, tls.ca if tls else None)


# --- parts

PASSING: dict[str, faults.Fault] = {
    "reset in the head": faults.Reset(0),
    "reset at byte 100,000": faults.Reset(100_000),
    "stall": faults.Stall(100_000),
    "500": faults.Status(500, "InternalError"),
    "502 of a balancer": faults.Status(502),
    "503 before the body": faults.Status(503, "SlowDown", read_body=False),
    "503 with Retry-After": faults.Status(503, "SlowDown", headers={"Retry-After": "3600"}),
    "429": faults.Status(429, "TooManyRequests"),
    "504": faults.Status(504),
    "RequestTimeout": faults.Status(400, "RequestTimeout"),
    "lost answer": faults.LostAnswer(),
    "half an answer": faults.HalfAnswer(),
    "a page of somebody else's": faults.Junk(),
    "corrupted": faults.FlipBit(at=4_000_000),
    "403": faults.Status(403, "AccessDenied"),
    "outage": faults.Outage(),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
async def test_a_part_is_sent_again(wire: Wire, fault: faults.Fault) -> None:
    wire.proxy.script("UploadPart", fault, part_number=1)
    stalls = isinstance(fault, faults.Stall)
    waits = isinstance(fault, faults.Status) and "Retry-After" in fault.headers
    result = await wire.upload(retry=IMPATIENT if stalls else IN_A_HURRY if waits else QUICK)
    assert result.verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.retries()
    assert stalls or wire.unexplained() == 0


@pytest.mark.parametrize(
    "fault", [faults.Trickle(), faults.HangUp(), faults.HangUp(reset=True)], ids=["trickle", "hang up", "reset after"]
)
async def test_what_is_slow_or_dies_on_idle_costs_no_part(wire: Wire, fault: faults.Fault) -> None:
    for number in range(1, PARTS + 1):
        wire.proxy.script("UploadPart", fault, part_number=number)
    result = await wire.upload(concurrency=1)
    assert result.verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.proxy.count("UploadPart", 200) == PARTS


async def test_tls_that_breaks_off(tls_wire: Wire) -> None:
    """In a body and in an answer: there is no close_notify anywhere."""
    tls_wire.proxy.script(
        "UploadPart", faults.Reset(3_000_000), faults.HalfAnswer(), faults.LostAnswer(), part_number=1
    )
    tls_wire.proxy.script("CompleteMultipartUpload", faults.HalfAnswer())
    result = await tls_wire.upload()
    assert result.verified is Verified.FULL_OBJECT
    assert tls_wire.holds()
    assert tls_wire.unexplained() == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "end of file"])
@pytest.mark.parametrize("whose", ["boto3's", "the transport's"])
async def test_tls_that_breaks_off_in_the_handshake(tls_wire: Wire, whose: str, reset: bool) -> None:
    """It says nothing about whom to trust: only a certificate does."""
    fault = faults.BreakTls(reset=reset)

    def hear(event: events.Event) -> None:
        tls_wire.hear(event)
        if isinstance(event, events.UploadStarted) and whose != "boto3's":
            tls_wire.proxy.on_connect(fault)

    if whose == "boto3's":
        tls_wire.proxy.on_connect(fault)
    assert (await tls_wire.upload(on_event=hear)).verified is Verified.FULL_OBJECT
    assert tls_wire.retries()
    assert tls_wire.holds()


# --- everything else that is asked

ANSWERS: dict[str, faults.Fault] = {
    "reset": faults.Reset(0),
    "500": faults.Status(500, "InternalError"),
    "503": faults.Status(503, "SlowDown", headers={"Retry-After": "1"}),
    "lost answer": faults.LostAnswer(),
    "half an answer": faults.HalfAnswer(),
    "half a head": faults.HalfAnswer(5),
    "a page": faults.Junk(),
    "a page after it acted": faults.Junk(act=True),
    "no XML": faults.Junk(body=b"Welcome & <enjoy>"),
    "outage": faults.Outage(),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("op", ["CreateMultipartUpload", "CompleteMultipartUpload"])
@pytest.mark.parametrize("fault", ANSWERS.values(), ids=ANSWERS)
async def test_create_and_complete(wire: Wire, op: str, fault: faults.Fault) -> None:
    if isinstance(fault, faults.Outage) and op == "CreateMultipartUpload":
        wire.proxy.script("HeadBucket", fault)  # never asked: before a first word, patience is short
        fault = faults.Status(503)
    wire.proxy.script(op, fault)
    result = await wire.upload()
    assert result.verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.unexplained() == 0
    assert wire.proxy.count("UploadPart", 200) == PARTS


COMPLETES: dict[str, faults.Fault] = {
    "error in 200": faults.ErrorIn200(),
    "error in 200 although it acted": faults.ErrorIn200(act=True),
    "white space for long": faults.Whitespace(2000),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", COMPLETES.values(), ids=COMPLETES)
async def test_complete_s_own_ways(wire: Wire, fault: faults.Fault) -> None:
    wire.proxy.script("CompleteMultipartUpload", fault)
    assert (await wire.upload()).verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.unexplained() == 0


@pytest.mark.slow
async def test_white_space_for_longer_than_the_patience_is_no_silence(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three seconds of it, where an answer may begin after one and a half: what is not silent is not asked again."""
    monkeypatch.setattr("bigupload.stores.s3.multipart._COMPLETE_WITHIN", 1.5)
    wire.proxy.script("CompleteMultipartUpload", faults.Whitespace(30, pace=0.1))
    assert (await wire.upload()).verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.proxy.count("CompleteMultipartUpload") == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "fault", [*ANSWERS.values(), faults.TruncatedList(honest=True)], ids=[*ANSWERS, "a short page"]
)
async def test_listing_when_it_goes_on(wire: Wire, fault: faults.Fault) -> None:
    """A page that is not the store's must not be taken for "the store has nothing"."""
    await stopped(wire)
    if isinstance(fault, faults.Outage):
        wire.proxy.script("ListParts", faults.Status(500))
    wire.proxy.script("ListParts", fault)
    result = await wire.upload()
    assert result.resumed_parts == 2
    assert wire.holds()
    assert wire.unexplained() == 0


async def test_a_list_that_leaves_out_parts_costs_these_parts(wire: Wire) -> None:
    await stopped(wire)
    wire.proxy.script("ListParts", faults.TruncatedList(rows=1))
    result = await wire.upload()
    assert result.resumed_parts == 1
    assert result.verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.unexplained() == 0


async def stopped(wire: Wire) -> None:
    """An upload that has two parts of three: the last was refused twice."""
    wire.grow()
    wire.proxy.script("UploadPart", faults.Status(403), faults.Status(403), part_number=3)
    with pytest.raises(errors.AccessDenied) as caught:
        await wire.upload(concurrency=1)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert len(read_manifest(wire.manifest).manifest.parts) == 2


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "fault",
    [faults.LostAnswer(), faults.HalfAnswer(), faults.Status(500), faults.Junk()],
    ids=["lost", "half", "500", "page"],
)
async def test_abort_is_asked_again(wire: Wire, fault: faults.Fault) -> None:
    await stopped(wire)
    wire.proxy.script("AbortMultipartUpload", fault)
    async with bigupload.Uploader(retry=QUICK) as uploader:
        await uploader.abort(wire.manifest, s3=wire.options())
    assert read_manifest(wire.manifest).manifest.status == "aborted"
    client = weed_client(wire.weed)
    assert client.list_multipart_uploads(Bucket=BUCKET, Prefix=wire.key).get("Uploads", []) == []
    client.close()


@pytest.mark.exhaustive
@pytest.mark.parametrize("op", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
async def test_a_skewed_clock_is_named_and_the_upload_stays(wire: Wire, op: str) -> None:
    wire.proxy.script(op, faults.Status(403, "RequestTimeTooSkewed", headers={"Date": "Mon, 01 Jan 2001 00:00:00 GMT"}))
    with pytest.raises(errors.ClockSkewed, match=r"clock is \d+ s fast"):
        await wire.upload()
    assert (await wire.upload()).verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.unexplained() == 0


# --- names


async def test_a_name_that_is_resolved_slowly_or_not_at_once(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answers never come in time, then there is no such host for a while, then it is found."""
    real = socket.getaddrinfo
    asked, enough = [0], threading.Event()

    def resolve(host: Any, *arguments: Any, **more: Any) -> Any:
        if host not in ("store.test", b"store.test"):
            return real(host, *arguments, **more)
        if wire.proxy.count("CreateMultipartUpload", 200):
            asked[0] += 1
            if asked[0] == 1:
                assert enough.wait(10)
            if asked[0] <= 6:
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1", *arguments, **more)

    def hear(event: events.Event) -> None:
        wire.hear(event)
        if isinstance(event, events.Retrying | events.OutageStarted):
            enough.set()

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    options = wire.options(endpoint_url=f"http://store.test:{wire.proxy.port}")
    result = await wire.upload(options=options, on_event=hear, retry=IMPATIENT)
    assert result.verified is Verified.FULL_OBJECT
    assert any("stood still" in reason for reason in wire.retries())
    assert any("no such host" in event.reason for event in wire.events if isinstance(event, events.OutageStarted))
    assert wire.holds()


# --- stores that know less, and one that lies

SILENT, OPAQUE, REFUSES = faults.Standing.SILENT, faults.Standing.OPAQUE_ETAGS, faults.Standing.REFUSES_CHECKSUMS


@pytest.mark.parametrize(
    ("conditions", "verified", "proofs"),
    [
        ({SILENT}, Verified.COMPOSITE_ETAG, {PartProof.ETAG}),
        ({REFUSES}, Verified.COMPOSITE_ETAG, {PartProof.ETAG}),
        ({OPAQUE}, Verified.FULL_OBJECT, {PartProof.CHECKSUM}),
        ({SILENT, OPAQUE}, Verified.SIZE, {PartProof.MD5}),
        ({REFUSES, OPAQUE}, Verified.SIZE, {PartProof.MD5}),
    ],
    ids=lambda value: "+".join(sorted(each.name for each in value)) if isinstance(value, set) else str(value),
)
async def test_a_store_that_knows_less_is_proved_by_what_remains(
    wire: Wire, conditions: set[faults.Standing], verified: Verified, proofs: set[PartProof]
) -> None:
    wire.proxy.standing |= conditions
    result = await wire.upload()
    assert result.verified is verified
    assert {event.proof for event in wire.events if isinstance(event, events.PartUploaded)} == proofs
    assert ("only its size" in wire.warnings()) == (verified is Verified.SIZE)
    assert wire.holds()


async def test_a_wrong_etag_of_a_part_is_mended(wire: Wire) -> None:
    wire.proxy.script("UploadPart", faults.WrongEtag(), part_number=2)
    result = await wire.upload()
    assert result.verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.proxy.count("UploadPart") == PARTS


async def test_another_checksum_of_a_part_is_refused(wire: Wire) -> None:
    wire.proxy.standing.add(faults.Standing.LIES_ABOUT_PARTS)
    with pytest.raises(errors.PartCorrupted, match="checksum mismatch"):
        await wire.upload()
    assert wire.proxy.count("CompleteMultipartUpload") == 0


async def test_another_checksum_of_the_whole_is_refused(wire: Wire) -> None:
    wire.proxy.standing.add(faults.Standing.LIES_ABOUT_WHOLE)
    with pytest.raises(errors.ObjectMismatch) as caught:
        await wire.upload()
    assert caught.value.exit_code == errors.EXIT_FAILED
    assert read_manifest(wire.manifest).manifest.status == "completing"
