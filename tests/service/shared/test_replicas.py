"""Two services over one store that share their limits through a real Valkey, which is killed and comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bigupload.service.access.keys import KeyFile
from bigupload.stores.local_store import LocalStore
from tests.tools.service import Service, serving
from tests.tools.valkey import valkey_running
from tests.tools.waiting import until

SIX_A_MINUTE = ("--requests", "0.11", "--quota", "1kB", "--sweep-every", "0")
PASSWORD = "word-of-the-engine"


def new_key(service: Service, owner: str) -> str:
    return KeyFile(service.home / "keys.json").create(owner)[1]


def allowed(services: Sequence[Service], key: str, count: int) -> int:
    """How many of `count` requests to the services in turns are not refused for their number."""
    statuses = [services[n % len(services)].call("GET", "/v1/media", key=key).status_code for n in range(count)]
    assert set(statuses) <= {200, 429}
    return statuses.count(200)


def allowed_together(services: Sequence[Service], count: int) -> int:
    """As `allowed`, with a new key. With another one if a busy machine made a service take the engine for away."""
    for attempt in range(5):
        before = len(told(services[0].log()))
        found = allowed(services, new_key(services[0], f"owner{attempt}-{before}"), count)
        if len(told(services[0].log())) == before:
            return found
    raise AssertionError("the engine was never there all the time")


def metric(service: Service, name: str) -> float | None:
    text = httpx.get(service.url + "/metrics", trust_env=False).text
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]
    return samples[0].value if samples else None


def told(log: str) -> list[bool]:
    return [line["responds"] for line in map(json.loads, log.splitlines()) if line["event"] == "shared"]


async def test_replicas_share_requests_and_do_without_it_while_it_is_away(weed: LocalStore, tmp_path: Path) -> None:
    with valkey_running(tmp_path / "valkey", password=PASSWORD) as valkey:
        shared = (*SIX_A_MINUTE, "--shared", valkey.url)
        home = tmp_path / "service"  # of both: replicas share the key file
        with serving(weed, home, *shared) as one, serving(weed, home, *shared) as other:
            both = (one, other)
            assert allowed_together(both, 12) == 6
            assert [metric(each, "bigupload_shared_up") for each in both] == [1, 1]
            before, photo = told(one.log()), {"filename": "a.jpg", "contentType": "image/jpeg", "size": 600}
            key = new_key(one, "painter")
            promised = [each.call("POST", "/v1/media/presign", key=key, json=photo).status_code for each in both]
            assert promised == [200, 403] or told(one.log()) != before
            valkey.kill()
            assert allowed(both, new_key(one, "shop"), 14) == 12  # each by itself
            assert [metric(each, "bigupload_shared_up") for each in both] == [0, 0]
            assert min(metric(each, "bigupload_shared_fallbacks_total") or 0 for each in both) >= 7
            valkey.start()
            await until(lambda: all(metric(each, "bigupload_shared_up") == 1 for each in both))
            assert allowed_together(both, 12) == 6
            assert told(one.log()).count(False) == told(one.log()).count(True) >= 2  # of each of them
            assert PASSWORD not in one.log()


async def test_of_many_creates_at_once_on_two_replicas_as_many_succeed_as_have_room(
    weed: LocalStore, tmp_path: Path
) -> None:
    film = {"filename": "a.mp4", "contentType": "video/mp4", "size": 20_000_000}
    with valkey_running(tmp_path / "valkey") as valkey:
        shared = ("--quota", "400MB", "--sweep-every", "0", "--shared", valkey.url)
        home = tmp_path / "service"
        with serving(weed, home, *shared) as one, serving(weed, home, *shared) as other:

            def create(number: int, key: str) -> int:
                service = (one, other)[number % 2]
                return service.call("POST", "/v1/media/multipart", key=key, json=film).status_code

            for attempt in range(5):  # another one if a busy machine made a service take the engine for away
                key, before = new_key(one, f"owner{attempt}"), told(one.log())
                creates = (asyncio.to_thread(create, number, key) for number in range(50))
                statuses = await asyncio.gather(*creates)
                if told(one.log()) == before:
                    break
            assert sorted(statuses) == [200] * 20 + [403] * 30
