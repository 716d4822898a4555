"""Imports whose process ended: another one goes on, and fetches nothing twice if the host has one version."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bigupload.service import contract as c
from bigupload.service.object_keys import IMPORTS_PREFIX
from bigupload.service.webhooks.notes import LEASE
from tests.service.imports.replicas import Replica, replica
from tests.service.imports.support import MIB
from tests.service.test_multipart import film
from tests.service.webhooks.support import Clock
from tests.tools.buckets import Meddled
from tests.tools.web_server import Asked, WebContent, WebFault, WebServer

DATA = film(11 * MIB)


def last(asked: Asked) -> bool:
    """Whether a request is for the end of the file."""
    return asked.range is not None and asked.range[1] == len(DATA)


ALL_BUT_THE_LAST = [1, 2]


async def until_all_but_the_last(one: Replica, made: c.ImportResponse) -> None:
    """Wait until the note of an import has all parts whose bytes come."""
    [name] = [key async for page in one.notes.pages(IMPORTS_PREFIX) for key, _ in page]
    noted: list[int] = []
    while noted != ALL_BUT_THE_LAST:
        one.noted.clear()
        note = await one.notes.read(name)
        noted = sorted(map(int, note.intent["parts"])) if note is not None and note.intent is not None else []
        if noted != ALL_BUT_THE_LAST:
            await one.noted.wait()
    assert await one.stored(made) == ALL_BUT_THE_LAST


async def until_completed(one: Replica, imports: int) -> None:
    """Look as a service does, again and again: what another process had sent as it ended may change a note late."""
    while len(one.results) < imports:
        await one.imports.look()
    assert one.results == ["completed"] * imports


@pytest.mark.exhaustive
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stopped"])
async def test_another_replica_fetches_only_what_is_missing(bucket: Meddled, web: WebServer, killed: bool) -> None:
    web.serve("/film.mp4", DATA)
    stall = WebFault(stall_after=1000, when=last, times=99)
    web.faults.append(stall)
    clock = Clock()
    async with replica(bucket, clock) as one, replica(bucket, clock) as two:
        made = await one.begin(f"{web.url}/film.mp4?x=1")
        await one.imports.look()
        await until_all_but_the_last(one, made)
        await two.imports.look()
        assert not two.imports._running  # it is taken
        progress = await two.imports.progress(two.handle(made))
        assert progress is not None
        assert progress.state == "fetching"
        await (one.kill() if killed else one.leave())
        stall.times = 0
        web.asked.clear()
        if killed:
            await two.imports.look()
            assert not two.imports._running
            clock.ahead = LEASE + 1
        assert await two.run() == "completed"
        assert web.ranges == [(10 * MIB, 11 * MIB)]
        assert (await two.uploads.status("local", made.upload)).completed is not None
        assert await names(two) == []


def of_a_file_without_an_etag(file: WebContent) -> None:
    file.etag = None


def of_another_version(file: WebContent) -> None:
    file.etag, file.data = '"two"', file.data[: -10 * MIB] + bytes(10 * MIB)


@pytest.mark.exhaustive
@pytest.mark.parametrize("change", [of_a_file_without_an_etag, of_another_version])
async def test_it_begins_anew_where_the_parts_may_be_of_another_version(
    bucket: Meddled, web: WebServer, change: Callable[[WebContent], None]
) -> None:
    file = web.serve("/film.mp4", DATA)
    stall = WebFault(stall_after=1000, when=last, times=99)
    web.faults.append(stall)
    async with replica(bucket) as one, replica(bucket) as two:
        made = await one.begin(f"{web.url}/film.mp4")
        await one.imports.look()
        await until_all_but_the_last(one, made)
        await one.leave()
        stall.times = 0
        change(file)
        assert await two.run() == "completed"
        head = await two.uploads.files._bucket.call("to read it", "GetObject", Key=made.key, first=len(DATA))
        assert head["Body"] == file.data


async def test_a_complete_whose_process_was_killed_counts(bucket: Meddled, web: WebServer) -> None:
    web.serve("/film.mp4", film(MIB))
    clock = Clock()
    async with replica(bucket, clock) as one, replica(bucket, clock) as two:
        made = await one.begin(f"{web.url}/film.mp4")

        async def silent(*_: object) -> None:
            """The note stays."""

        one.notes.remove = silent  # type: ignore[method-assign]  # of this object
        assert await one.run() == "completed"
        clock.ahead = LEASE + 1
        web.asked.clear()
        assert await two.run() == "completed"
        assert web.asked == []
        assert (await two.uploads.status("local", made.upload)).completed is not None


async def test_at_most_so_many_at_once_and_the_accounts_in_turns(bucket: Meddled, web: WebServer) -> None:
    web.serve("/film.mp4", film(MIB))
    web.faults.append(stall := WebFault(stall_after=1000, when=lambda asked: asked.range == (0, MIB), times=99))
    async with replica(bucket, most=2) as one:
        of_a = [await one.begin(f"{web.url}/film.mp4", user="a") for _ in range(3)]
        of_b = await one.begin(f"{web.url}/film.mp4", user="b")
        await one.imports.look()
        taken = {running.handle.key for running in one.imports._running.values()}
        assert len(taken) == 2
        assert of_b.key in taken
        waits = next(made for made in of_a if made.key not in taken)
        progress = await one.imports.progress(one.handle(waits))
        assert progress is not None
        assert progress.state == "waiting"
        assert progress.fetched == 0
    stall.times = 0  # not before: the first replica must not complete one while it ends
    async with replica(bucket, most=9) as two:
        await until_completed(two, 4)


async def test_who_has_several_gives_one_back_to_who_has_none(bucket: Meddled, web: WebServer) -> None:
    """A host may be slow for hours, and nobody's imports wait for another one's."""
    web.serve("/film.mp4", film(MIB))
    web.faults.append(stall := WebFault(stall_after=1000, when=lambda asked: asked.range == (0, MIB), times=99))
    async with replica(bucket, most=3) as one:
        of_a = [await one.begin(f"{web.url}/film.mp4", user="a") for _ in range(3)]
        await one.imports.look()
        assert running(one) == {made.key for made in of_a}
        of_b = await one.begin(f"{web.url}/film.mp4", user="b")
        of_c = await one.begin(f"{web.url}/film.mp4", user="c")
        while not {of_b.key, of_c.key} < running(one) or len(running(one)) < 3:
            await one.imports.look()  # whose look gives a place back and whose takes it, the tasks' turns decide
            assert len(running(one)) >= 2
        assert one.results == []  # none has ended by itself: each place was given back
        await one.begin(f"{web.url}/film.mp4", user="d")
        before = running(one)
        await one.imports.look()  # each has one: it waits for an end
        assert running(one) == before
    stall.times = 0  # not before: the first replica must not complete one while it ends
    later = Clock()
    later.ahead = 2 * LEASE  # of one that it had just begun as it ended, it may have left the lease
    async with replica(bucket, later, most=9) as two:
        await until_completed(two, 6)


def running(one: Replica) -> set[str]:
    return {each.handle.key for each in one.imports._running.values()}


async def names(one: Replica) -> list[str]:
    return [key async for page in one.notes.pages(IMPORTS_PREFIX) for key, _ in page]


async def test_an_import_that_ends_before_it_begins_holds_no_place(bucket: Meddled, web: WebServer) -> None:
    web.serve("/film.mp4", film(MIB))
    async with replica(bucket) as one:
        await one.begin(f"{web.url}/film.mp4")
        await one.imports.look()
        await one.leave()
        assert not running(one)
    later = Clock()
    later.ahead = 2 * LEASE
    async with replica(bucket, later) as two:
        assert await two.run() == "completed"


async def test_a_host_that_asks_to_wait_holds_no_place(bucket: Meddled, web: WebServer) -> None:
    web.serve("/busy.mp4", DATA)
    web.serve("/film.mp4", film(MIB))
    clock = Clock()
    async with replica(bucket, clock) as one:
        busy = await one.begin(f"{web.url}/busy.mp4?key=secret-of-the-url", user="a")
        other = await one.begin(f"{web.url}/film.mp4", user="b")
        web.faults.append(
            WebFault(
                status=429, headers={"Retry-After": "900"}, when=lambda asked: asked.path.startswith("/busy"), times=9
            )
        )
        first, second = await one.run(), await one.run()
        assert sorted([first, second]) == ["completed", "waits"]
        assert (await one.uploads.status("local", other.upload)).completed is not None
        progress = await one.imports.progress(one.handle(busy))
        assert progress is not None
        assert progress.state == "waiting"
        assert any("the host asks to come again in 15:00 min" in line for line in one.log)
        assert "secret-of-the-url" not in "".join(one.log)
        web.faults.clear()
        clock.ahead = 600
        await one.imports.look()
        assert not running(one)
        clock.ahead = 901
        assert await one.run() == "completed"


async def test_parts_are_kept_while_a_host_asks_to_wait(bucket: Meddled, web: WebServer) -> None:
    web.serve("/film.mp4", DATA)
    wait = {"Retry-After": "99999"}
    clock = Clock()
    async with replica(bucket, clock) as one:
        made = await one.begin(f"{web.url}/film.mp4")
        web.faults.append(WebFault(stall_after=1000, when=last, times=99))
        await one.imports.look()
        await until_all_but_the_last(one, made)
        await one.leave()
        web.faults[:] = [WebFault(status=503, headers=wait, when=last, times=99)]
        assert await one.run() == "waits"
        assert await one.stored(made) == ALL_BUT_THE_LAST
        clock.ahead = 3601  # not after 27 hours
        web.faults.clear()
        web.asked.clear()
        assert await one.run() == "completed"
        assert web.ranges == [(10 * MIB, 11 * MIB)]


async def test_a_host_that_asks_to_wait_again_and_again(bucket: Meddled, web: WebServer) -> None:
    web.serve("/film.mp4", film(MIB))
    clock = Clock()
    async with replica(bucket, clock) as one:
        made = await one.begin(f"{web.url}/film.mp4")
        web.faults.append(WebFault(status=429, headers={"Retry-After": "60"}, times=99))
        for _ in range(8):
            assert await one.run() == "waits"
            clock.ahead += 61
        assert await one.run() == "failed"
        status = await one.uploads.status("local", made.upload)
        assert status.error is not None
        assert status.error.message.endswith("the host asked 9 times to come again later")
