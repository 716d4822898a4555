"""What ends an import, or keeps it from being begun: sizes, types, time, revocation, quota; and what is said of it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bigupload.errors import UsageError
from bigupload.options import S3Options
from bigupload.service import contract as c
from bigupload.service.hooks import Hooks, Question
from bigupload.service.imports import queue
from bigupload.service.imports.fetching import why_unusable
from bigupload.service.object_keys import IMPORTS_PREFIX, KeyTemplate
from bigupload.service.policy import PUBLISHED_POLICY
from bigupload.service.problems import Problem, Refused
from bigupload.service.serving import Supervisor
from bigupload.service.settings import ServeSettings
from bigupload.service.upload_tokens import RevokeRequest
from tests.service.direct_url.support import raw_server
from tests.service.imports.replicas import Replica, by_token, events, replica
from tests.service.imports.support import MIB, begin
from tests.service.test_attacks import refusal
from tests.service.test_multipart import MP4, film
from tests.service.webhooks.support import Clock, documented
from tests.tools.buckets import Meddled
from tests.tools.cases import each_case
from tests.tools.service import Service
from tests.tools.waiting import until
from tests.tools.web_server import WebFault, WebServer, is_part, web_server

SMALL = dataclasses.replace(PUBLISHED_POLICY, max_file_size=MIB)


async def refused(one: Replica, url: str, caller: Any = None, **more: Any) -> tuple[Problem, str]:
    """Why an import can't be begun. Nothing is left of it."""
    with pytest.raises(Refused) as found:
        await (one.begin(url, **more) if caller is None else one.begin(url, caller, **more))
    assert await notes(one) == []
    return found.value.problem, str(found.value)


async def notes(one: Replica) -> list[str]:
    return [key async for page in one.notes.pages(IMPORTS_PREFIX) for key, _ in page]


def test_without_imports(service: Service) -> None:
    assert refusal(begin(service, "https://cdn.example.com/a.jpg")) == (501, "imports_not_configured")


@each_case(
    "url",
    [
        "ftp://a.example/a.jpg",
        "s3://bucket/key.jpg",
        "file:///etc/passwd",
        "//a.example/a.jpg",
        "/a.jpg",
        "",
        "https://",
    ],
)
def test_other_urls(importing: Service, url: str) -> None:
    assert refusal(begin(importing, url)) in [(422, "invalid_field"), (422, "import_failed")]


@each_case(
    ("url", "why"),
    [
        ("https://u:p@a.example/a.jpg", "holds a user name or a password"),
        ("https:///a.jpg", "can't be read"),
        ("https://a.example:port/a.jpg", "can't be read"),
        ("https://a.example/a.jpg", None),
    ],
)
def test_why_a_url_is_refused(url: str, why: str | None) -> None:
    found = why_unusable(url)
    assert found is None if why is None else found is not None and why in found


async def test_what_a_create_would_refuse(bucket: Meddled, web: WebServer) -> None:
    web.serve("/film.mp4", film(MIB + 1))
    web.serve("/page.mp4", b"<!doctype html>" + bytes(100))
    web.serve("/page", b"<!doctype html>", headers={"Content-Type": "text/html"})
    web.serve("/empty.mp4", b"")
    web.serve("/", film(MIB))
    async with replica(bucket, policy=SMALL) as one:
        assert (await refused(one, f"{web.url}/film.mp4"))[0] is Problem.FILE_TOO_LARGE
        problem, why = await refused(one, f"{web.url}/film.mp4", size=5)
        assert problem is Problem.IMPORT_FAILED
        assert why == "the file has 1,048,577 bytes, and `size` is 5"
        problem, why = await refused(one, f"{web.url}/")
        assert problem is Problem.IMPORT_FAILED
        assert "name it by `filename`" in why
        assert "a password" in (await refused(one, f"http://u:p@{web.url[7:]}/film.mp4"))[1]
        assert (await refused(one, f"{web.url}/page.mp4"))[0] is Problem.NOT_MEDIA
        assert (await refused(one, f"{web.url}/page"))[0] is Problem.UNSUPPORTED_MEDIA
        assert (await refused(one, f"{web.url}/empty.mp4"))[0] is Problem.IMPORT_FAILED
        assert await refused(one, f"{web.url}/none.mp4") == (Problem.IMPORT_FAILED, "the host has no such file")
        web.faults.append(WebFault(status=403, times=9))
        assert await refused(one, f"{web.url}/film.mp4") == (Problem.IMPORT_FAILED, "the host responds with 403")
    web.faults.clear()
    async with replica(bucket) as one:
        assert (await refused(one, f"{web.url}/film.mp4", by_token(max_size=5)))[0] is Problem.TOKEN_SIZE_EXCEEDED
        of_images = by_token(content_types=["image/*"])
        assert (await refused(one, f"{web.url}/film.mp4", of_images))[0] is Problem.TOKEN_TYPE_REFUSED
    async with replica(bucket, user_quota=MIB) as one:
        assert (await refused(one, f"{web.url}/film.mp4", user="u-1"))[0] is Problem.QUOTA_EXCEEDED
    async with replica(bucket, max_open_uploads_of_user=1) as one:
        await one.begin(f"{web.url}/film.mp4", user="u-1")
        with pytest.raises(Refused) as found:
            await one.begin(f"{web.url}/film.mp4", user="u-1")
        assert found.value.problem is Problem.TOO_MANY_UPLOADS
        await one.begin(f"{web.url}/film.mp4", user="u-2")


async def test_a_host_that_does_not_begin(bucket: Meddled, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "TIME_LIMIT", 0.2)
    web.serve("/film.mp4", film(MIB), ranges=False, etag=None)
    web.faults.append(WebFault(stall_after=10, times=9))
    async with replica(bucket) as one:
        assert (await refused(one, f"{web.url}/film.mp4"))[1].endswith("within 0.2 s")


@each_case(
    ("more", "served", "why"),
    [
        ({"size": 2 * MIB}, {"ranges": False, "end": "chunks"}, "ended too early"),
        ({"size": MIB // 2}, {"ranges": False, "end": "chunks"}, "another size"),
        ({}, {"ranges": False, "cut": 1000}, "the connection broke"),
    ],
)
async def test_what_is_longer_or_shorter_than_was_said(more: Any, served: Any, why: str, bucket: Meddled) -> None:
    clock, cut = Clock(), served.pop("cut", None)
    with web_server() as web:
        web.serve("/film.mp4", film(MIB), **served)
        async with replica(bucket, clock) as one:
            made = await one.begin(f"{web.url}/film.mp4", **more)
            if cut is not None:
                web.faults.append(WebFault(cut_after=cut, times=9))
            assert await one.run() == "failed"
            await assert_failed(one, made, why, clock)


async def test_an_endless_body(bucket: Meddled) -> None:
    head = b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n"
    data = film(64 * 1024)
    chunk = b"%x\r\n%s\r\n" % (len(data), data)
    async with raw_server(head + chunk, again=chunk) as url, replica(bucket, Clock()) as one:
        made = await one.begin(url.replace(".png", ".mp4"), size=MIB)
        assert await one.run() == "failed"
        assert (await one.uploads.status("local", made.upload)).status == "gone"


async def test_a_host_that_is_too_slow(bucket: Meddled, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "GRACE", 0.0)
    web.serve("/film.mp4", film(MIB))
    web.faults.append(WebFault(stall_after=0, when=is_part, times=99))
    clock = Clock()
    async with replica(bucket, clock) as one:
        made = await one.begin(f"{web.url}/film.mp4")
        assert await one.run() == "failed"
        await assert_failed(one, made, "the host sends less than 64 KiB a second", clock)


async def test_the_time_of_a_slow_host_goes_on_in_another_place(
    bucket: Meddled, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.serve("/film.mp4", film(MIB))
    web.faults.append(WebFault(stall_after=0, when=is_part, times=99))
    clock, seconds = Clock(), [0.0]

    def monotonic() -> float:
        seconds[0] += 0.01  # so that the note is always due
        return seconds[0]

    async with replica(bucket, clock) as one, replica(bucket, clock) as two:
        monkeypatch.setattr(queue, "time", SimpleNamespace(monotonic=monotonic))  # not that of the event loop
        made = await one.begin(f"{web.url}/film.mp4")
        await one.imports.look()
        await until(lambda: any(map(is_part, web.asked)))
        seconds[0] += 0.9 * queue.GRACE
        await one.leave()
        seconds[0] += 9 * queue.GRACE  # it has no place then
        await two.imports.look()
        assert len(two.imports._running) == 1
        seconds[0] += 0.2 * queue.GRACE
        await until(lambda: bool(two.results))
        await assert_failed(two, made, "the host sends less than 64 KiB a second", clock)


async def test_a_file_that_changes_meanwhile(bucket: Meddled, web: WebServer) -> None:
    file = web.serve("/film.mp4", film(11 * MIB))
    clock = Clock()

    def change() -> None:
        file.etag = '"two"'

    web.faults.append(WebFault(status=503, when=is_part, after=change))
    async with replica(bucket, clock) as one:
        made = await one.begin(f"{web.url}/film.mp4")
        assert await one.run() == "failed"
        await assert_failed(one, made, "another one than at the beginning", clock)


async def assert_failed(one: Replica, made: c.ImportResponse, why: str, clock: Clock) -> None:
    """The upload is gone, and its status and its event say why."""
    status = await one.uploads.status("local", made.upload)
    assert status.status == "gone"
    assert status.error is not None
    assert status.error.code == "import_failed"
    assert why in status.error.message
    assert await notes(one) == []
    [event] = [event for event in await events(one.bucket, clock) if event["data"]["key"] == made.key]
    documented(event)
    assert event["type"] == "upload.aborted"
    assert event["data"]["reason"] == "failed"
    assert why in event["data"]["error"]["message"]
    assert [key async for key in one.uploads.files.open_keys("local")] == []


@pytest.mark.parametrize("when", ["waiting", "fetching"])
async def test_a_token_that_was_revoked(bucket: Meddled, web: WebServer, when: str) -> None:
    web.serve("/film.mp4", film(MIB))
    web.faults.append(WebFault(stall_after=0, when=is_part, times=99))
    clock, caller = Clock(), by_token(user="u-1")
    async with replica(bucket, clock) as one:
        made = await one.begin(f"{web.url}/film.mp4", caller, user="u-1")
        if when == "fetching":
            await one.imports.look()
            await until(lambda: sum(map(is_part, web.asked)) > 0)
        assert caller.token is not None
        await one.revocations.revoke("local", RevokeRequest(id=caller.token.id))
        if when == "fetching":
            await until(lambda: one.results == ["failed"])
        else:
            assert await one.run() == "failed"
            assert not any(map(is_part, web.asked))
        await assert_failed(one, made, "the upload token was revoked", clock)


async def test_a_token_that_is_revoked_once_all_is_stored(bucket: Meddled, web: WebServer) -> None:
    """The file is being judged, and counts: two events would contradict each other."""
    web.serve("/film.mp4", film(MIB))
    clock, caller = Clock(), by_token(user="u-1")
    asked, answers = asyncio.Event(), asyncio.Event()

    async def hook(_: Question) -> str | None:
        asked.set()
        await answers.wait()
        return None

    async with replica(bucket, clock, hooks=Hooks(None, hook)) as one:
        made = await one.begin(f"{web.url}/film.mp4", caller, user="u-1")
        await one.imports.look()
        await asked.wait()
        assert caller.token is not None
        await one.revocations.revoke("local", RevokeRequest(id=caller.token.id))
        [key] = await notes(one)
        before = await one.notes.read(key)
        assert before is not None

        async def renewed() -> None:
            """Wait until it was looked at whether the import may go on."""
            now = await one.notes.read(key)
            while not one.results and (now is None or now.leased < before.leased + 0.1):
                await asyncio.sleep(0.01)  # between two looks: the store reports no change
                now = await one.notes.read(key)

        await renewed()
        answers.set()
        await until(lambda: one.results == ["completed"])
        assert (await one.uploads.status("local", made.upload)).completed is not None
        assert [event["type"] for event in await events(bucket, clock)] == ["media.completed"]


async def test_a_key_that_was_revoked(bucket: Meddled, web: WebServer) -> None:
    web.serve("/film.mp4", film(MIB))
    clock = Clock()
    async with replica(bucket, clock) as one:
        made = await one.begin(f"{web.url}/film.mp4", dataclasses.replace(by_token(), key_id="key_gone", token=None))
        assert await one.run() == "failed"
        await assert_failed(one, made, "the API key with which the import was begun was revoked", clock)


async def test_a_user_who_is_over_the_quota_by_now(bucket: Meddled, web: WebServer) -> None:
    web.serve("/film.mp4", film(MIB))
    clock = Clock()
    async with replica(bucket, clock) as one, replica(bucket, clock, user_quota=1000) as two:
        made = await one.begin(f"{web.url}/film.mp4", user="u-1")
        web.asked.clear()
        assert await two.run() == "failed"
        assert web.asked == []
        await assert_failed(two, made, "1.0 MB", clock)


async def test_an_abort_ends_a_fetch(bucket: Meddled, web: WebServer) -> None:
    web.serve("/film.mp4", film(MIB))
    web.faults.append(WebFault(stall_after=0, when=is_part, times=99))
    async with replica(bucket) as one:
        made = await one.begin(f"{web.url}/film.mp4")
        await one.imports.look()
        await until(lambda: sum(map(is_part, web.asked)) > 0)
        await one.uploads.abort("local", made.upload)
        await until(lambda: one.results == ["aborted"])
        status = await one.uploads.status("local", made.upload)
        assert (status.status, status.error) == ("gone", None)
        assert await notes(one) == []


async def test_a_judgement_is_told_as_ever(bucket: Meddled, web: WebServer) -> None:
    """Only a box behind the first bytes shows that this file is cut off."""
    boxes = struct.pack(">I4s", 8192, b"free") + bytes(8184) + struct.pack(">I4s", MIB, b"mdat")
    web.serve("/film.mp4", MP4 + boxes + bytes(100))
    clock = Clock()
    async with replica(bucket, clock) as one:
        made = await one.begin(f"{web.url}/film.mp4")
        assert await one.run() == "refused"
        assert [event["type"] for event in await events(bucket, clock)] == ["media.refused"]
        status = await one.uploads.status("local", made.upload)
        assert status.error is not None
        assert status.error.code == "not_media"
        assert await notes(one) == []


async def test_the_url_is_nowhere(bucket: Meddled, web: WebServer) -> None:
    """Its query is a bearer secret."""
    web.serve("/film.mp4", film(MIB))
    clock = Clock()
    async with replica(bucket, clock) as one:
        made = await one.begin(f"{web.url}/film.mp4?key=secret-of-the-url", user="Zoë/~ x")
        [key] = await notes(one)
        assert KeyTemplate().is_made_here(key)  # else no sweep would delete one that is left
        note = await one.notes.read(key)
        assert note is not None
        web.faults.append(WebFault(status=302, headers={"Location": "ftp://secret-of-the-url/"}, times=99))
        assert await one.run() == "failed"
        told = [made.model_dump_json(), key, note.to_json().decode(), *one.log, json.dumps(await events(bucket, clock))]
        told.append((await one.uploads.status("local", made.upload)).model_dump_json())
        assert "redirects" in told[-1]
        assert not any("secret-of-the-url" in text for text in told)


def test_fewer_imports_than_workers(tmp_path: Path) -> None:
    """Each worker fetches its share."""
    settings = ServeSettings(
        bucket="b", s3=S3Options(), keys=tmp_path, secrets=("s" * 32,), host="127.0.0.1", port=0, workers=3,
        sweep_every=0.0, imports=2,
    )  # fmt: skip
    with pytest.raises(UsageError, match="each of the 3 workers fetches imports"):
        Supervisor(settings)


class _Held:
    """Holds each PUT of a part, before it is sent or before its response is told, until `free` is set."""

    def __init__(self, one: Replica, *, stored: bool) -> None:
        self.free, self.begun = asyncio.Event(), 0
        self._put, self._stored = one.fetching._transport.put, stored
        one.fetching._transport.put = self.put  # type: ignore[method-assign]  # as monkeypatch does

    async def put(self, *arguments: Any, **named: Any) -> Any:
        response = await self._put(*arguments, **named) if self._stored else None
        self.begun += 1
        await self.free.wait()
        return response or await self._put(*arguments, **named)


@pytest.mark.parametrize("stored", [True, False], ids=["all parts stored", "no part stored"])
async def test_an_abort_once_all_has_come(bucket: Meddled, web: WebServer, stored: bool) -> None:
    """It ends at once, whichever request of the engine is the first to learn of the abort."""
    web.serve("/film.mp4", film(11 * MIB), ranges=False, etag=None)
    clock = Clock()
    async with replica(bucket, clock) as one:
        one.imports._renew_every = 3600.0  # else it may learn of the abort before the engine does
        made = await one.begin(f"{web.url}/film.mp4")
        held = _Held(one, stored=stored)
        await one.imports.look()
        await until(lambda: held.begun == 3)
        progress = await one.imports.progress(one.handle(made))
        assert progress is not None
        assert (progress.fetched, progress.stored) == (made.size, 0)
        await one.uploads.abort("local", made.upload)
        held.free.set()
        await until(lambda: bool(one.results))
        assert one.results == ["aborted"]
        status = await one.uploads.status("local", made.upload)
        assert (status.status, status.error) == ("gone", None)
        assert await notes(one) == []
        assert await events(bucket, clock) == []
