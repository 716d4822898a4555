"""On the way to the media service: redirects, lost and late responses, certificates."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from bigupload import errors
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.stores.service_client import ANSWER_WITHIN, COMPLETE_WITHIN, ServiceStore
from bigupload.testing.certificates import make_certificates
from tests.stores.service_client.support import CALLS, KEY, Fake, begun, complete, create, listening, made, refusal_of


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_key_does_not_follow_a_redirect(fake: Fake, store: ServiceStore, status: int) -> None:
    other = Fake()
    other.says(begun())
    async with listening(other) as elsewhere:
        fake.says("", status, Location=f"{elsewhere}/base/v1/media/multipart?token=hush#hush")
        refused = await refusal_of(create(store))
    assert isinstance(refused, errors.StoreRefused)
    assert f"redirects to {elsewhere}/base: " in str(refused)
    assert "hush" not in str(refused)
    assert other.asked == []


@pytest.mark.parametrize(
    ("location", "shown"),
    [("https://u:p@new.example/v1/media/multipart", "https://new.example:"), ("/login?next=hush", "/login:"),
     ("", "redirects to http://"), ("http://[", "elsewhere"), ("x" * 5000, "…")],
)  # fmt: skip
async def test_where_a_redirect_leads(fake: Fake, store: ServiceStore, location: str, shown: str) -> None:
    fake.says("", 302, Location=location)
    refused = await refusal_of(create(store))
    assert shown in str(refused)
    assert not {"u:p", "hush"} & set(str(refused).split("/"))


@pytest.mark.parametrize("name", ["create", "sign", "complete"])
async def test_a_lost_response(fake: Fake, store: ServiceStore, name: str) -> None:
    async def lose(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    fake.responses.append(lose)
    fault = await refusal_of(CALLS[name](store))
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.BROKEN
    assert len(fake.asked) == 1  # a POST is never sent again unasked


async def test_half_a_response(fake: Fake, store: ServiceStore) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"parts": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    fake.responses.append(half)
    fault = await refusal_of(complete(store))
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.BROKEN


async def test_nobody_listens() -> None:
    async with listening(Fake()) as url:
        pass
    store = ServiceStore(url=url, api_key=KEY, filename="a.png", content_type="image/png")
    fault = await refusal_of(CALLS["list"](store))
    await store.aclose()
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.UNREACHABLE


@pytest.mark.parametrize(
    ("name", "within"),
    [("list", ANSWER_WITHIN), ("complete", COMPLETE_WITHIN)],
    ids=["list", "complete"],
)
async def test_a_late_response(
    fake: Fake, store: ServiceStore, monkeypatch: pytest.MonkeyPatch, name: str, within: float
) -> None:
    """On a clock that jumps: nothing happens a second before, and the end a second after."""
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + ahead)
    arrived, end = asyncio.Event(), asyncio.Event()

    async def silent(_: web.Request) -> web.StreamResponse:
        arrived.set()
        await end.wait()
        return web.Response()

    fake.responses.append(silent)
    call = asyncio.ensure_future(CALLS[name](store))
    try:
        await arrived.wait()
        ahead += within - 5
        for _ in range(100):
            await asyncio.sleep(0)
        assert not call.done()
        ahead += 10
        fault = await refusal_of(call)
    finally:
        end.set()
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.STALLED


async def test_a_service_with_a_certificate_of_ones_own(fake: Fake, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.cert, certificates.key)
    fake.says(made())
    async with listening(fake, ssl=context) as url:
        for ca_bundle in (certificates.ca, None):
            store = ServiceStore(url=url, api_key=KEY, filename="a", content_type="a/b", ca_bundle=ca_bundle)
            try:
                if ca_bundle is not None:
                    await complete(store)
                    continue
                fault = await refusal_of(complete(store))
                assert isinstance(fault, Fault)
                assert fault.kind is FaultKind.FINAL
                assert "`ca_bundle`" in str(fault)
            finally:
                await store.aclose()
    assert len(fake.asked) == 1
