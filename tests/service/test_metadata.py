"""A file's own name and its metadata, of any characters: into the store, the list and the hooks."""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from bigupload.service import contract as c
from bigupload.service.access.handles import Handles
from bigupload.service.media.object_keys import (
    FILENAME,
    MOST_BYTES,
    decoded,
    encoded,
    is_user,
    length_of,
    why_not,
    with_filename,
)
from bigupload.service.uploads.uploads import MediaUploads
from bigupload.service.webhooks.hooks import FinishedFile, Hooks, NewUpload, Question
from bigupload.stores.local_store import LocalStore
from tests.service.receipts.test_serving import completed, read
from tests.service.test_attacks import refusal
from tests.service.test_multipart import PART, create
from tests.service.test_races import sent
from tests.tools.buckets import Meddled
from tests.tools.cases import each_case
from tests.tools.http_stub import HttpStub, Response
from tests.tools.media import sample
from tests.tools.service import Service, serving
from tests.tools.waiting import until

TEXTS = [
    "plain",
    "Zürich",
    "東京 タワー",
    "🎬",
    "=?UTF-8?B?eA==?=",
    "=?x",
    '<b onclick="x">&amp;</b>',
    "a  b",
    "%41",
]


@each_case("text", TEXTS)
def test_every_text_comes_back(text: str) -> None:
    carried = encoded({"place": text})
    assert carried["place"].isascii()
    assert decoded(carried) == ({"place": text}, None)
    assert why_not({"place": text}) is None


@each_case(
    "metadata",
    [
        {"a": "x\ny"},
        {"a": "\x7f"},
        {"a": " x"},
        {"a": "x "},
        {"bigupload-token": "x"},
        {"a": "é" * 1000},
        {"a": "\ud800"},
    ],
)
def test_what_can_t_be_kept(metadata: dict[str, str]) -> None:
    assert why_not(metadata) is not None


def test_a_file_s_name_takes_what_room_there_is() -> None:
    assert with_filename({}, "Ferien/Zürich.jpg")[FILENAME] == "Ferien/Zürich.jpg"
    assert with_filename({}, "ü" * 500 + ".jpg")[FILENAME].endswith("ü.jpg")
    full = {"a": "x" * (MOST_BYTES - 10)}
    assert with_filename(full, "a.jpg") == full
    assert length_of(with_filename({"a": "x" * 1500}, "ü" * 500)) <= MOST_BYTES


def test_into_the_store_and_the_list(service: Service) -> None:
    key, metadata = service.new_key("archive"), {"place": "Zürich", "album": "a-3"}
    token = service.call("POST", "/v1/media/tokens", key=key, json={"metadata": {"plan": "größer"}, "singlePut": True})
    body: dict[str, Any] = {"filename": "Ferien im Süden.jpg", "contentType": "image/jpeg", "metadata": metadata}
    made = service.call("POST", "/v1/media/presign", key=token.json()["token"], json=body).json()
    put = httpx.put(made["uploadUrl"], headers=made["headers"], content=sample("jpg"), trust_env=False)
    assert put.status_code == 200, put.text
    plain = service.call("POST", "/v1/media/presign", key=key, json=body | {"metadata": None}).json()
    assert (
        httpx.put(plain["uploadUrl"], headers={"Content-Type": "image/jpeg"}, content=sample("jpg")).status_code == 200
    )

    def listed(**parameters: str) -> list[dict[str, Any]]:
        response = service.call("GET", "/v1/media", key=key, params=parameters)
        assert response.status_code == 200, response.text
        return list(response.json()["media"])

    (found,) = [row for row in listed(details="true") if row["key"] == made["key"]]
    assert found["metadata"] == metadata | {"plan": "größer"}
    assert (found["filename"], found["contentType"]) == ("Ferien im Süden.jpg", "image/jpeg")
    assert all(row["metadata"] is None for row in listed())
    for filters in ({"metadata": "place=Zürich"}, {"metadata": "album", "contentType": "image/*"}):
        assert [row["key"] for row in listed(**filters)] == [made["key"]]
    for filters in ({"metadata": "place=Genf"}, {"contentType": "video/mp4"}, {"metadata": "year"}):
        assert listed(**filters) == []
    hour = timedelta(hours=1)
    assert len(listed(storedAfter=(datetime.now(UTC) - hour).isoformat())) == 2
    assert listed(storedBefore=(datetime.now(UTC) - hour).isoformat()) == []
    for wrong in ("0", "2026-11-29", "2026-11-29T00:00:00", "yesterday"):
        response = service.call("GET", "/v1/media", key=key, params={"storedAfter": wrong})
        assert refusal(response) == (422, "invalid_field")


def test_what_is_refused(service: Service) -> None:
    too_long = {"a": "x" * 257}
    for wrong in (
        too_long,
        {"a": "x\ny"},
        {"A": "x"},
        {"bigupload-x": "y"},
        {"a": "ü" * 256, "b": "ü" * 256, "c": "ü" * 256},
    ):
        for response in (
            create(service, PART, metadata=wrong),
            service.call("POST", "/v1/media/tokens", json={"metadata": wrong}),
        ):
            assert refusal(response) == (422, "invalid_field")
            assert "^" not in response.json()["error"]["message"]


def of_each_kind() -> str:
    """A character of each category of Unicode that a text may have, and of each plane."""
    found: dict[tuple[str, int], str] = {}
    for number in range(sys.maxunicode + 1):
        char = chr(number)
        kind = (unicodedata.category(char), number >> 16)
        if kind not in found and why_not({"a": f"x{char}x"}) is None and is_user(f"x{char}x"):
            found[kind] = char
    assert {category[0] for category, _ in found} >= {"L", "M", "N", "P", "S", "Z"}
    return f"x{''.join(found.values())}x"


@pytest.mark.slow
async def test_every_kind_of_character_in_the_list_the_event_the_receipt_and_the_log(
    weed: LocalStore, tmp_path: Path, session_stub: HttpStub
) -> None:
    session_stub.forget()
    session_stub.responses["/hook"] = Response(status=204)
    odd = of_each_kind()
    metadata = {f"t{number}": text for number, text in enumerate([*TEXTS, odd])}
    filename, user = f"{odd}\"'<img src=x onerror=alert(1)>.mp4", f"{odd[:20]}<b>"
    options = ("--webhook-url", f"{session_stub.url}/hook", "--sweep-every", "0")
    with serving(weed, tmp_path / "service", *options) as service:
        done = completed(service, metadata=metadata, filename=filename, user=user)
        await until(lambda: len(session_stub.received) == 1, within=240)
        [row] = service.call("GET", "/v1/media", params={"user": user, "details": "true"}).json()["media"]
        there = httpx.get(done["publicUrl"], trust_env=False)
        receipt = read(service, done["receipt"])
        refused = create(service, PART, filename="a\r\nX-Evil: 1.mp4", metadata={"a": "x\nforged: line"})
        assert refused.status_code == 422
        log = service.log()
    event = json.loads(session_stub.received[0].body)["data"]
    for told in (row, event, receipt):
        assert (told["metadata"], told["filename"], told["user"]) == (metadata, filename, user)
    carried = {name: value for name, value in there.headers.items() if name.startswith("x-amz-meta-")}
    assert len(carried) > len(metadata)
    assert all(value.isascii() and value.isprintable() for value in carried.values())
    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["event"] for line in lines} >= {"request", "webhook"}
    assert log.isascii()
    assert log.replace("\n", "").isprintable()


async def test_hooks_see_it(bucket: Meddled) -> None:
    asked: list[Question] = []

    async def hook(question: Question) -> None:
        asked.append(question)

    uploads = MediaUploads(bucket, Handles(["secret"], clock=time.time), hooks=Hooks(hook, hook))
    await uploads.complete("me", await sent(uploads, metadata={"place": "Zürich"}))
    new, finished = asked
    assert isinstance(new, NewUpload)
    assert isinstance(finished, FinishedFile)
    assert new.metadata == finished.metadata == {"place": "Zürich"}
    assert new.filename == finished.filename


async def test_a_copy_keeps_it(bucket: Meddled) -> None:
    uploads = MediaUploads(bucket, Handles(["secret"], clock=time.time))
    request = c.PresignRequest(filename="Süd.jpg", content_type="image/jpeg", metadata={"place": "Zürich"})
    made = await uploads.presign("me", request)
    async with httpx.AsyncClient(trust_env=False) as http:
        put = await http.put(made.upload_url, headers=made.headers, content=sample("jpg"))
    assert put.status_code == 200
    copy = (await uploads.finishing.postable("me", made.key)).key
    listed = {file.key: file for file in (await uploads.files.list("me", c.ListRequest(details=True))).media}
    assert (listed[copy].filename, listed[copy].metadata) == ("Süd.jpg", {"place": "Zürich"})


def test_a_url_to_read_a_file(service: Service) -> None:
    body: dict[str, Any] = {"filename": "Süd.jpg", "contentType": "image/jpeg", "metadata": {}, "user": "ann"}
    made = service.call("POST", "/v1/media/presign", json=body).json()
    path = f"/v1/media/{made['key']}/url"
    assert refusal(service.call("GET", path)) == (404, "no_such_media")  # it was not sent yet
    assert httpx.put(made["uploadUrl"], headers=made["headers"], content=sample("jpg")).status_code == 200
    signed = service.call("GET", path, params={"expiresIn": "60", "download": "true", "user": "ann"}).json()
    assert (signed["expiresIn"], "X-Amz-Expires=60&" in signed["url"]) == (60, True)
    got = httpx.get(signed["url"], headers={"Range": "bytes=2-3"}, trust_env=False)
    assert (got.status_code, got.content) == (206, sample("jpg")[2:4])
    assert got.headers["content-disposition"] == "attachment; filename*=UTF-8''S%C3%BCd.jpg"
    shown = httpx.get(service.call("GET", path).json()["url"], trust_env=False)
    assert (shown.content, "content-disposition" in shown.headers) == (sample("jpg"), False)
    altered = signed["url"].replace("X-Amz-Expires=60", "X-Amz-Expires=3600")
    assert httpx.get(altered, trust_env=False).status_code == 403
    assert refusal(service.call("GET", path, params={"user": "bob"})) == (404, "no_such_media")
    assert refusal(service.call("GET", path, key=service.new_key("stranger"))) == (404, "no_such_media")
    assert refusal(service.call("GET", "/v1/media/0/url")) == (404, "no_such_media")
    assert refusal(service.call("GET", path, params={"expiresIn": "3601"})) == (422, "invalid_field")
    token = service.call("POST", "/v1/media/tokens", json={"user": "ann"}).json()["token"]
    assert refusal(service.call("GET", path, key=token)) == (403, "token_not_allowed")
