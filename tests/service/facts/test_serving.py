"""Facts as the service gives them: complete, check, list, post, receipt, event, hook."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from bigupload.service.object_keys import KeyTemplate
from bigupload.service.sweep import Sweep
from bigupload.service.webhooks.notes import WAITING
from bigupload.service.webhooks.telling import Telling
from bigupload.stores.local_store import LocalStore
from tests.service.facts import support
from tests.service.test_multipart import upload
from tests.service.webhooks.support import documented, waiting
from tests.tools.buckets import Meddled
from tests.tools.directories import session_directory
from tests.tools.http_stub import HttpStub, Response
from tests.tools.media import sample
from tests.tools.service import Service, serving
from tests.tools.waiting import until

UNVERIFIED: Any = {"verify_signature": False}
FILM = {
    "width": 64, "height": 64, "duration": 0.4, "frameRate": 25.0, "videoCodec": "AVC", "audioCodec": None,
    "orientation": 1,
}  # fmt: skip
PHOTO = {**dict.fromkeys(FILM), "width": 64, "height": 64, "orientation": 1}
SEEN = """
import json, pathlib, sys
question = json.load(sys.stdin)
with pathlib.Path(sys.argv[1]).open("a") as file:
    print(json.dumps([question["key"], question.get("facts")]), file=file)
"""


@pytest.fixture(scope="module")
def finding(
    weed: LocalStore, session_stub: HttpStub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Path]]:
    """A service with facts, a hook, a webhook and a posts API; and what the hook has seen."""
    with session_directory(tmp_path_factory, "finding") as home:
        hook, seen = home / "hook.py", home / "seen"
        hook.write_text(SEEN)
        options = (
            "--facts", "--sweep-every", "0", "--before-finish", f"{sys.executable} {hook} {seen}",
            "--webhook-url", f"{session_stub.url}/facts", "--webhook-secret-file", str(home / "webhook-secret"),
            "--posts-url", f"{session_stub.url}/v1/posts",
        )  # fmt: skip
        with serving(weed, home, *options) as service:
            yield service, seen


async def test_facts_are_where_the_file_is_told_of(finding: tuple[Service, Path], session_stub: HttpStub) -> None:
    service, seen = finding
    session_stub.forget()
    session_stub.responses["/facts"] = session_stub.responses["/v1/posts"] = Response(status=204)
    _, body = upload(service, sample("mp4"))
    for _ in range(2):  # the second one reads a note, and neither the object nor the hook
        done = service.call("POST", "/v1/media/multipart/complete", json=body).json()
        assert done["facts"] == FILM
        assert claims(done["receipt"])["facts"] == FILM
    status = service.call("GET", "/v1/media/multipart", params={"upload": body["upload"]}).json()
    assert status["completed"]["facts"] == FILM
    checked = service.call("POST", "/v1/media/check", json={"url": done["publicUrl"]}).json()
    assert (checked["facts"], claims(checked["receipt"])["facts"]) == (FILM, FILM)

    photo = {"filename": "a.jpg", "contentType": "image/jpeg"}
    made = service.call("POST", "/v1/media/presign", json=photo).json()
    headers = {"Content-Type": "image/jpeg"}
    assert httpx.put(made["uploadUrl"], headers=headers, content=sample("jpg"), trust_env=False).status_code == 200
    post = {"mediaItems": [{"type": "image", "url": made["publicUrl"]}]}
    assert service.call("POST", "/v1/posts", json=post).status_code == 204
    (posted,) = [each for each in session_stub.received if each.path == "/v1/posts"]
    receipt = claims(posted.headers["x-bigupload-receipt"])
    assert receipt["facts"] == PHOTO

    own = {
        done["key"]: FILM,
        receipt["key"]: PHOTO,
        made["key"]: PHOTO,  # it counts by its copy
    }
    listed = service.call("GET", "/v1/media", params={"details": "true", "limit": "1000"}).json()["media"]
    assert {file["key"]: file.get("facts") for file in listed if file["key"] in own} == own
    assert all("facts" not in file for file in service.call("GET", "/v1/media").json()["media"])
    hooked = dict(json.loads(line) for line in seen.read_text().splitlines())
    assert hooked == {done["key"]: FILM, receipt["key"]: PHOTO}
    await until(lambda: len(session_stub.received) == 3, within=240)
    events = [json.loads(each.body) for each in session_stub.received if each.path == "/facts"]
    for event in events:
        documented(event)
    assert {event["data"]["key"]: event["data"]["facts"] for event in events} == {
        done["key"]: FILM,
        receipt["key"]: PHOTO,
    }


def claims(receipt: str) -> dict[str, Any]:
    return dict(jwt.decode(receipt, options=UNVERIFIED))


def test_a_file_of_which_nothing_is_known_counts(finding: tuple[Service, Path]) -> None:
    """It has a film's beginning and no track: complete says nothing of facts."""
    service, seen = finding
    film = sample("mp4")
    broken = film.replace(b"trak", b"free")
    _, body = upload(service, broken)
    for _ in range(2):
        done = service.call("POST", "/v1/media/multipart/complete", json=body)
        assert done.status_code == 200, done.text
        facts = done.json().get("facts")
        assert facts is None or facts["width"] is None
    assert [json.loads(line)[0] for line in seen.read_text().splitlines()].count(done.json()["key"]) == 1


def test_without_the_option_there_are_none(service: Service) -> None:
    _, body = upload(service, sample("mp4"))
    done = service.call("POST", "/v1/media/multipart/complete", json=body).json()
    assert "facts" not in done
    assert "facts" not in claims(done["receipt"])
    checked = service.call("POST", "/v1/media/check", json={"url": done["publicUrl"]}).json()
    assert checked["usable"]
    assert "facts" not in checked
    listed = service.call("GET", "/v1/media", params={"details": "true"}).json()["media"]
    assert all("facts" not in file for file in listed)


async def test_the_event_of_a_sweep_has_them(bucket: Meddled) -> None:
    """Of a file of one PUT that no post named: the event names a copy of it."""
    key, headers = f"media/me/{'a' * 32}.jpg", {"content-type": "image/jpeg"}
    await bucket.call("to put", "PutObject", Key=key, Body=sample("jpg"), headers=headers)
    telling = Telling(bucket, public_url=bucket.url, keys=KeyTemplate(), clock=time.time)
    async with support.finding() as finder:
        sweep = Sweep(bucket, now=lambda: datetime.now(UTC), telling=telling, finder=finder)
        assert (await sweep.run()).failed == 0
    (name,) = await waiting(bucket)
    note = await telling.notes.read(WAITING + name)
    assert note is not None
    assert note.event is not None
    assert json.loads(note.event.body)["data"]["facts"] == PHOTO
