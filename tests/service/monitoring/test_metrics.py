"""What /metrics shows of uploads, refusals and the store, and whether the Grafana dashboard asks for what it shows."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bigupload.core.checksums import Algorithm
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service import ServiceConfig, create_app
from bigupload.service.http.monitoring import Metrics, OpenUploads
from bigupload.stores.local_store import LocalStore
from tests.service.test_attacks import PHOTO
from tests.service.test_mounting import SECRETS, fresh_bucket, running, user_of
from tests.service.test_multipart import create, described, send
from tests.service.test_workers import workers_of
from tests.tools.buckets import options_for
from tests.tools.media import sample
from tests.tools.service import serving
from tests.tools.valkey import valkey_running
from tests.tools.waiting import until

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "bigupload.json"
OF_PROMETHEUS = {"job", "le"}
"""Labels that Prometheus adds to a target, or that every histogram has."""
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """The values of a scrape, read by Prometheus's own library: by name and labels."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


async def test_what_became_of_uploads(weed: LocalStore) -> None:
    bucket = await fresh_bucket(weed)
    config = ServiceConfig(bucket=bucket, s3=options_for(weed), authorize=user_of, secrets=SECRETS, log=lambda _: None)
    async with running(create_app(config)) as client:
        client.headers["X-User"] = "ada"
        content = sample("jpg")
        await client.post("/v1/media/presign", json=PHOTO)
        await client.post("/v1/media/presign", json=PHOTO | {"size": 1000})
        refused = await client.post("/v1/media/presign", json=PHOTO | {"filename": "a.exe"})
        (part,) = described([content], Algorithm.CRC64NVME)
        wanted = PHOTO | {"size": len(content), "firstParts": [part]}
        for _ in range(2):
            made = (await client.post("/v1/media/multipart", json=wanted)).json()
        await client.request("DELETE", "/v1/media/multipart", params={"upload": "nonsense"})
        (etag,) = send(made["signed"], [content])
        complete = {"upload": made["upload"], "parts": [part | {"etag": etag}]}
        done = await client.post("/v1/media/multipart/complete", json=complete)
        assert done.status_code == 200, done.text
        await client.get("/metrics")
        found = samples((await client.get("/metrics")).text)
    code = refused.json()["error"]["code"]
    assert value(found, "bigupload_refused_total", code=code) == 1
    assert value(found, "bigupload_refused_total", code="invalid_upload") == 1
    assert value(found, "bigupload_uploads_begun_total", kind="put") == 2
    assert value(found, "bigupload_uploads_begun_bytes_total", kind="put") == 1000
    assert value(found, "bigupload_uploads_begun_total", kind="multipart") == 2
    assert value(found, "bigupload_uploads_begun_bytes_total", kind="multipart") == 2 * len(content)
    assert value(found, "bigupload_uploads_completed_total") == 1
    assert value(found, "bigupload_uploads_completed_bytes_total") == len(content)
    assert value(found, "bigupload_store_up") == 1
    assert value(found, "bigupload_store_seconds_count", operation="CreateMultipartUpload") == 2
    assert value(found, "bigupload_store_seconds_count", operation="CompleteMultipartUpload") == 1
    assert value(found, "bigupload_store_failures_total", operation="HeadBucket", kind="gone") is None
    assert not any(name.startswith("bigupload_shared") for name, _ in found)  # nothing is shared


class ListedUploads:
    """A store that lists uploads."""

    def __init__(self) -> None:
        self.count = 3
        self.asked = 0
        self.fault: Fault | None = None

    async def rows(self) -> AsyncIterator[Mapping[str, Any]]:
        self.asked += 1
        for _ in range(self.count):
            yield {}
        if self.fault is not None:
            raise self.fault


async def test_open_uploads_are_counted_in_the_background() -> None:
    store, now = ListedUploads(), 0.0
    shown = OpenUploads(store.rows, clock=lambda: now)

    async def counted() -> list[float]:
        list(shown.collect())
        await until(lambda: shown._asking is not None and shown._asking.done())
        return [sample.value for family in shown.collect() for sample in family.samples]

    assert list(shown.collect()) == []  # nobody waits for the store
    assert await counted() == [3]
    store.count = 20_000
    assert (await counted(), store.asked) == ([3], 1)  # a minute old at most
    now = 61.0
    assert (await counted(), store.asked) == ([10_000], 2)
    now, store.fault, store.count = 122.0, Fault(FaultKind.STALLED, "it stalls"), 1
    assert await counted() == []
    await shown.aclose()


def queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def asked_for(query: str) -> tuple[str, set[str]]:
    """The name and the labels of the one metric that a query asks for."""
    (name,) = set(re.findall(r"bigupload_\w+", query))
    labels = set(re.findall(r"(\w+)=~?\"", query))
    for grouped in re.findall(r"by \(([^)]*)\)", query):
        labels |= {label.strip() for label in grouped.split(",")}
    return name, labels


def declared() -> dict[str, set[str]]:
    """The labels of every metric that a process may show, by name, apart from those of histograms' samples."""
    metrics = Metrics(lambda _: 0.0, shared=True)
    found = {"bigupload_workers_ended_total": {"how"}, "bigupload_uploads_open": set[str]()}
    for each in metrics._registry._collector_to_names:
        suffix = "_total" if each._type == "counter" else ""
        found[f"{each._name}{suffix}"] = set(each._labelnames)
    return found


@pytest.mark.slow
def test_every_metric_is_documented_and_on_the_dashboard() -> None:
    table = (ROOT / "docs" / "service-operations.md").read_text()
    on_dashboard = {re.sub("_(?:bucket|count)$", "", asked_for(query)[0]) for query in queries()}
    for name, labels in declared().items():
        (row,) = [line for line in table.splitlines() if line.startswith("|") and f"`{name}`" in line]
        assert all(f"`{label}`" in row for label in labels), name
        assert name in on_dashboard, name


@pytest.mark.slow
def test_the_dashboard_asks_for_no_other_metric_and_label() -> None:
    known = declared()
    for query in queries():
        name, labels = asked_for(query)
        assert labels <= known[re.sub("_(?:bucket|count)$", "", name)] | OF_PROMETHEUS, query


@pytest.mark.slow
def test_the_dashboard_s_queries_are_promql() -> None:
    assert len(queries()) > 15
    for query in queries():
        promql_parser.parse(query.replace("$__rate_interval", "5m"))


@pytest.mark.slow
async def test_the_dashboard_asks_for_what_metrics_show(weed: LocalStore, tmp_path: Path) -> None:
    """Of two workers that share limits, one of which died."""
    with (
        valkey_running(tmp_path / "valkey") as valkey,
        serving(weed, tmp_path / "s", "--workers", "2", "--shared", valkey.url, "--requests", "0.11") as service,
    ):

        def scrape() -> Samples:
            with contextlib.suppress(httpx.TransportError):  # the connection waited for the worker that died
                return samples(httpx.get(service.url + "/metrics", trust_env=False).text)
            return {}

        made = create(service, 1000).json()
        complete = {"upload": made["upload"], "parts": []}
        service.call("POST", "/v1/media/multipart/complete", json=complete)
        os.kill(workers_of(service)[0], signal.SIGKILL)
        valkey.kill()
        await until(lambda: any(name == "bigupload_workers_ended_total" for name, _ in scrape()))
        service.call("GET", "/v1/media")
        service.call("GET", "/v1/media/multipart", params={"upload": made["upload"]})
        await until(lambda: any(name == "bigupload_uploads_open" for name, _ in scrape()))
        await until(lambda: value(scrape(), "bigupload_shared_up") == 0)  # the worker that died counts no more
        shown: dict[str, set[str]] = {}
        for name, labels in scrape():
            shown.setdefault(name, set()).update(label for label, _ in labels)
        assert not any("pid" in labels for labels in shown.values())
    for query in queries():
        name, asked = asked_for(query)
        if "hook" not in name:  # there are none
            assert name in shown, query
            assert asked <= shown[name] | OF_PROMETHEUS, query
