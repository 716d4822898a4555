"""The webhooks of the service as a person starts it, and the commands about them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook

from bigupload.cli.webhooks import _line
from bigupload.service.webhooks.telling import LEASE, Delivery, Note
from bigupload.service.webhooks.telling import event as event_of
from bigupload.stores.local_store import LocalStore
from tests.service.test_multipart import PART, film, upload
from tests.service.webhooks.support import Clock, documented, done, names, replica, waiting
from tests.tools.buckets import Meddled, options_for
from tests.tools.http_stub import HttpStub, Response
from tests.tools.service import Service, serving
from tests.tools.waiting import until

OK = Response(status=204)
MINUTES = 240.0


@pytest.fixture
def receiver(session_stub: HttpStub) -> HttpStub:
    session_stub.forget()
    session_stub.responses["/hook"] = OK
    return session_stub


def run(service: Service, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    finished = service.command("webhooks", *arguments)
    assert finished.returncode == status, finished
    return finished


@pytest.mark.slow
async def test_a_running_service_tells_tests_and_replays(weed: LocalStore, tmp_path: Path, receiver: HttpStub) -> None:
    """From the first event to a replay of it; and what is logged and counted."""
    url, file = f"{receiver.url}/hook?token=not-for-the-log", tmp_path / "webhook-secret"
    receiver.responses["/hook?token=not-for-the-log"] = OK
    options = ("--webhook-url", url, "--webhook-secret-file", str(file), "--sweep-every", "0")
    with serving(weed, tmp_path / "service", *options) as service:
        secret = run(service, "secret", "--webhook-secret-file", str(file)).stdout.strip()
        _, body = upload(service, film(PART))
        key = service.call("POST", "/v1/media/multipart/complete", json=body).json()["key"]
        await until(lambda: len(receiver.received) == 1, within=MINUTES)
        (first,) = receiver.received
        event = Webhook(secret).verify(first.body, dict(first.headers))
        assert (event["type"], event["data"]["key"], event["data"]["owner"]) == ("media.completed", key, "local")
        await until(lambda: '"result": "delivered"' in service.log(), within=MINUTES)

        tried = run(service, "test", "--webhook-url", url, "--webhook-secret-file", str(file))
        assert tried.stdout.startswith("127.0.0.1: delivered: 204 (")
        test = Webhook(secret).verify(receiver.received[-1].body, dict(receiver.received[-1].headers))
        assert test["type"] == "webhook.test"
        documented(test)
        receiver.responses["/moved"] = Response(status=301, headers={"Location": url})
        moved = ("test", "--webhook-url", f"{receiver.url}/moved", "--webhook-secret-file", str(file))
        assert "301, and redirects are not followed" in run(service, *moved, status=1).stdout

        bucket = Meddled("bigupload-media", options_for(weed))
        id_ = first.headers["webhook-id"]
        while not any(name.endswith(id_) for name in await done(bucket)):
            await asyncio.sleep(0)
        unknown = run(service, "replay", "s3://bigupload-media", "--local", "--id", "evt_0", status=2)
        assert "there is no event evt_0" in unknown.stderr
        replayed = run(service, "replay", "s3://bigupload-media", "--local", "--id", id_, "--json")
        assert json.loads(replayed.stdout) == {
            "id": id_, "type": "media.completed", "key": key, "before": ["delivered"],
        }  # fmt: skip
        await until(lambda: [each.headers["webhook-id"] for each in receiver.received].count(id_) == 2, within=MINUTES)
        assert receiver.received[-1].body == first.body
        while await waiting(bucket):  # the next test has the same bucket
            await asyncio.sleep(0)
        counted = httpx.get(f"{service.url}/metrics", trust_env=False).text
        assert 'bigupload_webhooks_total{result="delivered"}' in counted
        assert "bigupload_webhooks_waiting" in counted
        await bucket.aclose()
        log = service.log()
    assert "not-for-the-log" not in log
    assert secret not in log


@pytest.mark.slow
async def test_a_replica_that_is_killed_between_complete_and_its_answer(
    weed: LocalStore, tmp_path: Path, receiver: HttpStub
) -> None:
    """The object is made, and the hook has it, when the process is killed. Another replica tells, in a minute."""
    began = tmp_path / "began"
    program = tmp_path / "hook.py"
    program.write_text(f"""
import os, pathlib, time
pathlib.Path({str(began)!r}).with_suffix(".new").write_text(str(os.getpid()))
pathlib.Path({str(began)!r}).with_suffix(".new").rename({str(began)!r})
time.sleep(600)
""")
    hook = f"{sys.executable} {program}"
    options = ("--webhook-url", f"{receiver.url}/hook", "--webhook-secret-file", str(tmp_path / "secret"))
    bucket = Meddled("bigupload-media", options_for(weed))
    with serving(weed, tmp_path / "service", *options, "--before-finish", hook, "--sweep-every", "0") as service:
        _, body = upload(service, film(PART))
        headers = {"Authorization": f"Bearer {service.key}"}
        command = [sys.executable, "-c", COMPLETE, service.url, json.dumps(body), json.dumps(headers)]
        with subprocess.Popen(command) as client:
            await until(began.exists, within=MINUTES)
            os.kill(service.process.pid, signal.SIGKILL)
            os.kill(int(began.read_text()), signal.SIGKILL)  # nobody else ends it now
            client.wait(60)
    assert receiver.received == []
    left = await waiting(bucket)
    clock = Clock()
    clock.ahead = LEASE + 1
    async with replica(bucket, [f"{receiver.url}/hook"], clock) as other:
        await other.deliverer.look()
        await other.deliverer.look()
    assert len(left) == 1
    assert left[0].startswith("up-")
    (event,) = [json.loads(each.body) for each in receiver.received]
    assert (event["type"], event["data"]["size"]) == ("media.completed", PART)
    assert await waiting(bucket) == []
    assert event["data"]["key"] in {f"media/{name}" for name in await names(bucket, "media/")}
    await bucket.aclose()


COMPLETE = """
import json, sys, httpx
url, body, headers = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
try:
    httpx.post(f"{url}/v1/media/multipart/complete", json=body, headers=headers, timeout=120, trust_env=False)
except httpx.TransportError:
    pass
"""


def test_a_replay_prints_only_how_deliveries_ended() -> None:
    """Another list's receiver, or none, has not ended."""
    note = Note(name="evt_1", since=0.0, event=event_of("webhook.test", "v", {}, 0.0))
    note.deliveries = {"a": Delivery(), "b": Delivery(ended="delivered")}
    assert json.loads(_line(note, as_json=True))["before"] == ["delivered"]
