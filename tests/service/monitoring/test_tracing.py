"""OpenTelemetry's spans, taken by its own SDK: of requests, of calls to the store, and none where nobody wants them."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest
from aiohttp import web
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bigupload.service import ServiceConfig, create_app
from bigupload.stores.local_store import LocalStore
from tests.service.test_attacks import PHOTO
from tests.service.test_mounting import SECRETS, fresh_bucket, running, user_of
from tests.tools.buckets import options_for

SENDER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
"""A client's trace and span, as in https://www.w3.org/TR/trace-context/."""


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What is exported of all spans made from now on."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


async def traced(weed: LocalStore, lines: list[str]) -> web.Application:
    bucket = await fresh_bucket(weed)
    return create_app(
        ServiceConfig(bucket=bucket, s3=options_for(weed), authorize=user_of, secrets=SECRETS, log=lines.append)
    )


def named(spans: tuple[ReadableSpan, ...], name: str) -> ReadableSpan:
    return next(span for span in spans if span.name == name)


async def test_a_request_and_its_calls_to_the_store(weed: LocalStore, exported: InMemorySpanExporter) -> None:
    lines: list[str] = []
    async with running(await traced(weed, lines)) as client:
        exported.clear()  # the start has asked the store, too
        body = PHOTO | {"size": 1000, "partSize": 1000}
        headers = {"X-User": "ada", "traceparent": SENDER}
        response = await client.post("/v1/media/multipart", json=body, headers=headers)
        assert response.status_code == 200
    spans = exported.get_finished_spans()
    request, call = named(spans, "POST /v1/media/multipart"), named(spans, "S3.CreateMultipartUpload")
    assert request.kind is trace.SpanKind.SERVER
    assert call.kind is trace.SpanKind.CLIENT
    assert request.parent is not None
    assert trace.format_trace_id(request.parent.trace_id) in SENDER
    assert call.parent is not None
    assert (call.parent.trace_id, call.parent.span_id) == (request.context.trace_id, request.context.span_id)
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST", "http.route": "/v1/media/multipart", "http.response.status_code": 200,
        "bigupload.owner": "ada",
    }  # fmt: skip
    assert (call.attributes or {})["rpc.method"] == "CreateMultipartUpload"
    assert json.loads(lines[-1])["trace"] in SENDER
    everything = "".join(span.to_json() for span in spans)
    assert response.json()["upload"] not in everything
    assert "X-Amz" not in everything


async def test_a_refusal_and_a_store_that_fails(weed: LocalStore, exported: InMemorySpanExporter) -> None:
    async with running(await traced(weed, [])) as client:
        await client.get("/v1/media")
        made = await client.post(
            "/v1/media/multipart", json=PHOTO | {"size": 1000, "partSize": 1000}, headers={"X-User": "ada"}
        )
        upload = {"upload": made.json()["upload"]}
        await client.request("DELETE", "/v1/media/multipart", params=upload, headers={"X-User": "ada"})
        await client.get("/v1/media/multipart/parts", params=upload, headers={"X-User": "ada"})
    spans = exported.get_finished_spans()
    refused, call = named(spans, "GET /v1/media"), named(spans, "S3.ListParts")
    assert (refused.attributes or {})["error.type"] == "missing_key"
    assert refused.status.is_unset  # it is the client's mistake
    assert (call.attributes or {})["error.type"] == "gone"
    assert call.status.status_code is trace.StatusCode.ERROR
    assert all(not span.events for span in spans)  # an error's text may have a URL


async def test_without_a_provider_nothing_is_recorded(weed: LocalStore) -> None:
    lines: list[str] = []
    async with running(await traced(weed, lines)) as client:
        assert isinstance(client, httpx.AsyncClient)
        await client.get("/healthz")
    assert "trace" not in json.loads(lines[-1])


@pytest.mark.slow
def test_the_library_is_not_imported() -> None:
    code = "import sys, bigupload.service.http.serving; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not any(name.startswith("opentelemetry") for name in done.stdout.split())
