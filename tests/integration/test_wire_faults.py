"""What goes wrong between an uploader and a real SeaweedFS, one thing at a time, by the fault proxy's scripts.

Every case ends proved, with the file's bytes in the store, or with the error that it must have.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

import bigupload
from bigupload import Verified, errors, events
from bigupload.http import connection_pool
from bigupload.http.put_transport import HttpTransport
from bigupload.manifests.journal import read_manifest
from bigupload.testing import faults
from tests.tools.weed import weed_client

from .support import BUCKET
from .wire import IMPATIENT, IN_A_HURRY, PARTS, QUICK, Wire

# --- parts

PASSING: dict[str, faults.StoreFault] = {
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
    "lost response": faults.LostResponse(),
    "half a response": faults.HalfResponse(),
    "a page of somebody else's": faults.Junk(),
    "corrupted": faults.FlipBit(at=4_000_000),
    "403": faults.Status(403, "AccessDenied"),
    "outage": faults.NetworkOutage(),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
async def test_a_part_is_sent_again(wire: Wire, fault: faults.StoreFault) -> None:
    wire.proxy.script("UploadPart", fault, part_number=1)
    stalls = isinstance(fault, faults.Stall)
    waits = isinstance(fault, faults.Status) and "Retry-After" in fault.headers
    result = await wire.upload(retry=IMPATIENT if stalls else IN_A_HURRY if waits else QUICK)
    assert result.verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.retries()
    assert stalls or wire.unexplained() == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "fault", [faults.Trickle(), faults.HangUp(), faults.HangUp(reset=True)], ids=["trickle", "hang up", "reset after"]
)
async def test_what_is_slow_or_dies_on_idle_costs_no_part(wire: Wire, fault: faults.StoreFault) -> None:
    for number in range(1, PARTS + 1):
        wire.proxy.script("UploadPart", fault, part_number=number)
    result = await wire.upload(concurrency=1)
    assert result.verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.proxy.count("UploadPart", 200) == PARTS


async def test_tls_that_breaks_off(tls_wire: Wire) -> None:
    """In a body and in a response: there is no close_notify anywhere."""
    tls_wire.proxy.script(
        "UploadPart", faults.Reset(3_000_000), faults.HalfResponse(), faults.LostResponse(), part_number=1
    )
    tls_wire.proxy.script("CompleteMultipartUpload", faults.HalfResponse())
    result = await tls_wire.upload()
    assert result.verified is Verified.FULL_OBJECT
    assert tls_wire.holds()
    assert tls_wire.unexplained() == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "end of file"])
@pytest.mark.parametrize("whose", ["the first request's", "the parts'"])
async def test_tls_that_breaks_off_in_the_handshake(
    tls_wire: Wire, whose: str, reset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing about whom to trust: only a certificate does."""
    monkeypatch.setattr(HttpTransport, "connect_ahead", lambda *_: None)
    fault = faults.BreakTls(reset=reset)

    def hear(event: events.Event) -> None:
        tls_wire.hear(event)
        if isinstance(event, events.UploadStarted) and whose != "the first request's":
            tls_wire.proxy.on_connect(fault)

    if whose == "the first request's":
        tls_wire.proxy.on_connect(fault)
    assert (await tls_wire.upload(on_event=hear)).verified is Verified.FULL_OBJECT
    outages = [event for event in tls_wire.events if isinstance(event, events.OutageStarted)]
    assert tls_wire.retries() or outages
    assert tls_wire.holds()


# --- everything else that is asked

RESPONSES: dict[str, faults.StoreFault] = {
    "reset": faults.Reset(0),
    "500": faults.Status(500, "InternalError"),
    "503": faults.Status(503, "SlowDown", headers={"Retry-After": "1"}),
    "lost response": faults.LostResponse(),
    "half a response": faults.HalfResponse(),
    "half a head": faults.HalfResponse(5),
    "a page": faults.Junk(),
    "a page after it acted": faults.Junk(act=True),
    "no XML": faults.Junk(body=b"Welcome & <enjoy>"),
    "outage": faults.NetworkOutage(),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("op", ["CreateMultipartUpload", "CompleteMultipartUpload"])
@pytest.mark.parametrize("fault", RESPONSES.values(), ids=RESPONSES)
async def test_create_and_complete(wire: Wire, op: str, fault: faults.StoreFault) -> None:
    if isinstance(fault, faults.NetworkOutage) and op == "CreateMultipartUpload":
        wire.proxy.script("HeadBucket", fault)  # never requested: before a first response, few attempts are made
        fault = faults.Status(503)
    wire.proxy.script(op, fault)
    result = await wire.upload()
    assert result.verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.unexplained() == 0
    assert wire.proxy.count("UploadPart", 200) == PARTS


COMPLETES: dict[str, faults.StoreFault] = {
    "error in 200": faults.ErrorIn200(),
    "error in 200 although it acted": faults.ErrorIn200(act=True),
    "white space for long": faults.Whitespace(2000),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", COMPLETES.values(), ids=COMPLETES)
async def test_complete_s_own_ways(wire: Wire, fault: faults.StoreFault) -> None:
    wire.proxy.script("CompleteMultipartUpload", fault)
    assert (await wire.upload()).verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.unexplained() == 0


@pytest.mark.slow
async def test_white_space_for_longer_than_the_timeout_is_no_silence(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three seconds of it, where a response may begin after one and a half: what is not silent is not asked again."""
    monkeypatch.setattr("bigupload.stores.s3.multipart._COMPLETE_WITHIN", 1.5)
    wire.proxy.script("CompleteMultipartUpload", faults.Whitespace(30, pace=0.1))
    assert (await wire.upload()).verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.proxy.count("CompleteMultipartUpload") == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "fault", [*RESPONSES.values(), faults.TruncatedList(honest=True)], ids=[*RESPONSES, "a short page"]
)
async def test_listing_when_it_goes_on(wire: Wire, fault: faults.StoreFault) -> None:
    """A page that is not the store's must not be taken for "the store has nothing"."""
    await stopped(wire)
    if isinstance(fault, faults.NetworkOutage):
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
    """An upload that has two parts of three: whichever came last was refused twice."""
    wire.grow()
    wire.proxy.script("UploadPart", faults.Ok(), faults.Ok(), faults.Status(403), faults.Status(403))
    with pytest.raises(errors.AccessDenied) as caught:
        await wire.upload(concurrency=1)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert wire.proxy.count("UploadPart", 200) == 2


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "fault",
    [faults.LostResponse(), faults.HalfResponse(), faults.Status(500), faults.Junk()],
    ids=["lost", "half", "500", "page"],
)
async def test_abort_is_asked_again(wire: Wire, fault: faults.StoreFault) -> None:
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
    off = faults.Status(403, "RequestTimeTooSkewed", headers={"Date": "Mon, 01 Jan 2001 00:00:00 GMT"})
    number = 1 if op == "UploadPart" else None
    wire.proxy.script(op, *[off] * 50, part_number=number)
    with pytest.raises(errors.ClockSkewed, match=r"clock is 2\d years fast"):
        await wire.upload()
    wire.proxy.clear()
    assert (await wire.upload()).verified is Verified.FULL_OBJECT
    assert wire.holds()
    assert wire.unexplained() == 0


# --- names


async def test_a_name_that_is_resolved_slowly_or_not_at_once(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first responses never come in time, then the name has no address for a while, then it has one."""
    monkeypatch.setattr(HttpTransport, "connect_ahead", lambda *_: None)
    monkeypatch.setattr(connection_pool, "KEPT", -1)  # else parts connect to the address that was found for create
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
        if isinstance(event, events.Retrying):
            enough.set()

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    options = wire.options(endpoint_url=f"http://store.test:{wire.proxy.port}")
    # One part at a time, which finds no connection: another's failure would begin an outage before this one stalls.
    wire.proxy.script("CreateMultipartUpload", faults.HangUp())
    result = await wire.upload(options=options, on_event=hear, retry=IMPATIENT, concurrency=1)
    assert result.verified is Verified.FULL_OBJECT
    assert any("stalled" in reason for reason in wire.retries())
    assert any("has no address" in event.reason for event in wire.events if isinstance(event, events.OutageStarted))
    assert wire.holds()
