"""The loop of a watch, over a real directory. Time passes only when the loop waits, and uploads are functions."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bigupload import errors
from bigupload.batch import watching
from bigupload.batch.job import Job
from bigupload.batch.tree import FileEntry, Omitted, Selection
from bigupload.batch.watching import WatchedFiles, Watching
from bigupload.core.manifest import Fingerprint
from bigupload.core.settling import Begin, SettlingFiles
from bigupload.sources.file import fingerprint_of

IDLE = 10.0
LARGE = 100
EXHAUSTIVE = [pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(2, 12)]


class NotSettledError(Exception):
    """The upload of a file that is not what it was: `Watching.changed`."""


class Place:
    """A directory, what happens in it by the clock, and what the watch made of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 0.0
        self.ticks = 0
        self.plan: list[tuple[float, Callable[[], object]]] = []
        self.begun: list[tuple[float, str, bool]] = []
        self.failures: list[tuple[float, str, errors.BigUploadError, float | None]] = []
        self.warnings: list[str] = []
        self.omitted: list[Omitted] = []
        self.listings: list[float] = []
        self.listing_takes = 0.0
        self.stored: dict[str, bytes] = {}
        self.raises: list[Exception] = []
        self.during: Callable[[Begin], Awaitable[None]] | None = None
        self.tell: Callable[[set[str]], None] | None = None
        self.lose: Callable[[str], None] | None = None

    def at(self, time: float, action: Callable[[], object]) -> None:
        self.plan.append((time, action))
        self.plan.sort(key=lambda each: each[0])

    def write(self, name: str, size: int = 1) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(b"x" * size)
        self.ticks += 1  # the clock of files is coarse
        os.utime(path, ns=(self.ticks, 10**18 + self.ticks))
        if self.tell is not None:
            self.tell({str(path)})
        return path

    # -- what the watch is given, and who takes its files

    async def upload(self, begin: Begin) -> Fingerprint:
        self.begun.append((self.now, begin.key, begin.follow))
        path = Path(begin.path)
        found, self.stored[begin.key] = fingerprint_of(path.stat()), path.read_bytes()
        if self.during is not None:
            await self.during(begin)
        if self.raises:
            raise self.raises.pop(0)
        return fingerprint_of(os.stat(begin.path)) if begin.follow else found

    def failed(self, path: str, error: errors.BigUploadError, retry_in: float | None) -> None:
        self.failures.append((self.now, os.path.relpath(path, self.directory), error, retry_in))

    async def take(self, watching: Watching, found: Begin | Omitted) -> None:
        if isinstance(found, Omitted):
            self.failed(found.path, errors.SourceError(found.reason), None)
            return
        try:
            fingerprint = await self.upload(found)
        except NotSettledError:
            await watching.changed(found)
        except errors.BigUploadError as e:
            if (retry_in := await watching.failed(found, e)) is not None:
                self.failed(found.path, e, None if retry_in == math.inf else retry_in)
        else:
            watching.uploaded(found, fingerprint)

    def list_files(self) -> Iterator[FileEntry | Omitted]:
        self.listings.append(self.now)
        yield from self.omitted
        yield from WatchedFiles(str(self.directory), Selection(), now=0.0).found()
        self.now += self.listing_takes

    @contextlib.asynccontextmanager
    async def events(self, changed: Callable[[set[str]], None], failed: Callable[[str], None]) -> AsyncIterator[None]:
        self.tell, self.lose = changed, failed
        yield

    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        """Let the tasks that can run do so. Then time passes until what comes first."""
        for _ in range(20):
            await asyncio.sleep(0)
            if event.is_set():
                return
        until = self.now + seconds
        if self.plan and self.plan[0][0] <= until:
            self.now, action = self.plan.pop(0)
            action()
        else:
            self.now = until

    async def watch(self, *, polls: bool = False, until_idle: float = 30.0) -> None:
        watching = Watching(
            directory=str(self.directory), list_files=self.list_files, events=None if polls else self.events,
            poll=5.0 if polls else math.inf, idle=IDLE, until_idle=until_idle, warn=self.warnings.append,
            files=SettlingFiles(idle=IDLE, follow_from=LARGE),
            clock=lambda: self.now, wall_clock=lambda: 1e9 + self.now, pause=self.pause,
        )  # fmt: skip

        async def work(found: Begin | Omitted) -> None:
            take = partial(self.take, watching, found)
            await (watching.attempt(found, take) if isinstance(found, Begin) else take())

        async with contextlib.aclosing(watching.found()) as found:
            await Job(found, work, at_once=lambda: 32).run()


async def at_once(function: Callable[[], Any], limiter: object) -> Any:
    """In the place of a thread: what it takes would be no time of the test's clock."""
    return function()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(watching, "run_in_daemon_thread", at_once)
    directory = tmp_path / "watched"
    directory.mkdir()
    return Place(directory)


def replace(place: Place) -> None:
    place.directory.rename(place.directory.with_name("old"))
    place.directory.mkdir()


@pytest.mark.parametrize("polls", [False, True])
async def test_files_come_and_grow(place: Place, polls: bool) -> None:
    place.at(1.0, lambda: place.write("sub/deep/small"))
    place.at(4.0, lambda: place.write("sub/deep/small"))
    place.at(20.0, lambda: place.write("large", LARGE * 2))
    await place.watch(polls=polls)
    (small_at, *small), (large_at, *large) = place.begun
    assert (small, large) == (["sub/deep/small", False], ["large", True])
    late = 5.0 if polls else 0.5  # until the listing that finds it
    assert 14.0 <= small_at <= 14.0 + late
    assert 20.0 <= large_at <= 20.0 + late
    assert place.failures == []


async def test_it_ends_when_nothing_changes(place: Place) -> None:
    place.write("a")
    await place.watch(until_idle=7.0)
    assert place.begun == [(10.0, "a", False)]
    assert 17.0 <= place.now <= 17.5
    assert place.listings[-1] >= 17.0


async def test_events_get_lost(place: Place) -> None:
    def quietly() -> None:
        place.tell = None
        place.write("a")

    place.at(2.0, quietly)
    await place.watch(until_idle=90.0)
    assert [key for _, key, _ in place.begun] == ["a"]
    assert place.begun[0][0] == 70.0  # the minute's listing, and ten seconds to settle


async def test_listings_that_take_long_are_not_far_apart(place: Place) -> None:
    """As on a machine that is busy with other things, or of very many files."""
    place.listing_takes = 30.0
    place.at(31.0, lambda: place.write("a"))
    await place.watch(until_idle=60.0)
    ((at, *_),) = place.begun
    assert 31.0 + IDLE <= at <= 31.0 + 60.0 + place.listing_takes + IDLE
    pauses = [later - earlier - place.listing_takes for earlier, later in itertools.pairwise(place.listings)]
    assert min(pauses) >= 60.0
    place.listing_takes = 300.0
    place.listings.clear()
    place.at(place.now + 301.0, lambda: place.write("b"))
    await place.watch(until_idle=60.0)
    pauses = [later - earlier - place.listing_takes for earlier, later in itertools.pairwise(place.listings)]
    assert min(pauses) >= 300.0, "half of the time at most"


@pytest.mark.parametrize("seed", [1, *EXHAUSTIVE])
async def test_what_is_late_is_not_lost(place: Place, seed: int) -> None:
    """Files come, change, go and come again, while they are listed and sent, too, and half of it is not reported."""
    source = random.Random(seed)
    place.listing_takes = 2.0

    def change() -> None:
        path, told = place.directory / f"{source.randrange(40)}", place.tell
        if source.random() < 0.5:
            place.tell = None
        if source.random() < 0.4:
            path.unlink(missing_ok=True)
        if source.random() < 0.8:
            place.write(path.name)
        place.tell = told

    async def change_one(begin: Begin) -> None:
        await asyncio.sleep(0)
        if source.random() < 0.3:
            change()
            with contextlib.suppress(FileNotFoundError):
                path = Path(begin.path)
                if source.random() < 0.5:
                    path.unlink()
                    raise errors.SourceNotFound("it was deleted")
                place.write(path.name)

    for _ in range(400):
        place.at(source.uniform(0.0, 200.0), change)
    place.during = change_one
    await place.watch(until_idle=70.0)
    files = {path.name: path.read_bytes() for path in place.directory.iterdir()}
    assert len(files) > 10
    assert {name: place.stored.get(name) for name in files} == files


async def test_the_system_tells_of_no_changes(place: Place) -> None:
    def lose() -> None:
        assert place.lose is not None
        place.lose("too many watches")
        place.tell = None

    place.at(2.0, lose)
    place.at(3.0, lambda: place.write("a"))
    await place.watch()
    assert [key for _, key, _ in place.begun] == ["a"]
    assert place.begun[0][0] <= 18.0
    (warning,) = place.warnings
    assert "too many watches): it is listed every 5 s" in warning


async def test_what_is_followed_does_not_make_it_list(place: Place) -> None:
    async def grow(begin: Begin) -> None:
        for _ in range(5):
            place.write("large")
            await asyncio.sleep(0)

    place.write("large", LARGE * 2)
    place.during = grow
    await place.watch(until_idle=5.0)
    assert place.begun == [(0.0, "large", True)]
    assert len(place.listings) <= 3


@pytest.mark.parametrize("error", [NotSettledError(), errors.SourceChanged("it changed", same_size=True)])
async def test_it_changes_while_it_is_uploaded(place: Place, error: Exception) -> None:
    place.write("large", LARGE * 2)
    place.raises = [error]
    await place.watch()
    assert place.begun == [(0.0, "large", True), (10.0, "large", False)]
    assert [retry_in for _, _, _, retry_in in place.failures] == ([] if isinstance(error, NotSettledError) else [IDLE])


async def test_it_changes_after_its_last_byte_was_sent(place: Place) -> None:
    async def write_once(begin: Begin) -> None:
        place.during = None
        place.write("a")

    place.write("a")
    place.during = write_once
    await place.watch()
    assert [key for _, key, _ in place.begun] == ["a", "a"]


async def test_it_changes_between_the_listing_and_its_upload(place: Place) -> None:
    def quietly() -> None:
        place.tell = None
        place.write("a")

    place.write("a")
    place.at(9.9, quietly)
    await place.watch()
    assert place.begun == [(20.0, "a", False)]


async def test_it_is_deleted_while_it_waits(place: Place) -> None:
    path = place.write("a")
    place.at(9.9, path.unlink)
    await place.watch()
    assert place.begun == []
    assert place.failures == []


@pytest.mark.parametrize(
    ("error", "again", "retry_in"),
    [
        (errors.AccessDenied("no"), [10.0, 40.0], 30.0),
        (errors.StoreUnreachable("no"), [10.0, 40.0], 30.0),
        (errors.StoreRefused("no"), [10.0], None),
    ],
)
async def test_a_failure(place: Place, error: Exception, again: list[float], retry_in: float | None) -> None:
    place.write("a")
    place.at(20.0, lambda: place.write("b"))
    place.raises = [error]
    await place.watch(until_idle=35.0)
    assert [time for time, key, _ in place.begun if key == "a"] == pytest.approx(again, abs=0.6)
    assert [key for _, key, _ in place.begun].count("b") == 1  # the others go on
    assert [(name, found, after) for _, name, found, after in place.failures] == [("a", error, retry_in)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("error", [errors.StoreUnavailable, errors.StoreUnreachable])
async def test_one_key_that_always_fails_does_not_stop_the_others(place: Place, error: type[errors.StoreError]) -> None:
    """A store that fails for one key alone gives the same errors as a store that is down."""

    async def fail_for_one(begin: Begin) -> None:
        if begin.key == "bad":
            raise error("no")

    place.during = fail_for_one
    place.write("bad")
    times = [float(time) for time in range(5, 900, 14)]  # also while each of its pauses lasts
    for time in times:
        place.at(time, lambda name=f"good {time}": place.write(name))
    await place.watch(until_idle=900.0)
    waits = {written: at - written for at, key, _ in place.begun if key != "bad" for written in [float(key.split()[1])]}
    assert list(waits) == times
    first = max(written + wait for written, wait in waits.items() if wait > IDLE + 0.5)
    assert first <= 45.0, "nothing had succeeded until then"
    assert [place.begun.count((at, key, False)) for at, key, _ in place.begun if key != "bad"] == [1] * len(times)
    assert [retry_in for _, _, _, retry_in in place.failures][:4] == [30.0, 60.0, 120.0, 240.0]


async def test_it_comes_again_while_its_upload_ends(place: Place) -> None:
    """What is reported of a file while its upload is open does not make it list."""

    async def write_again(begin: Begin) -> None:
        if len(place.begun) == 1:
            os.unlink(begin.path)
            place.write(begin.key)
            raise errors.SourceNotFound("no such file")

    place.write("a")
    place.during = write_again
    await place.watch()
    assert [key for _, key, _ in place.begun] == ["a", "a"]
    assert place.begun[1][0] <= 20.5


async def test_it_is_deleted_before_it_is_opened(place: Place) -> None:
    path = place.write("a")
    place.raises = [errors.SourceNotFound("no such file")]
    place.during = lambda _: asyncio.sleep(0, path.unlink())
    await place.watch()
    assert len(place.begun) == 1
    assert place.failures == []


@pytest.mark.parametrize(
    "error",
    [
        errors.BucketNotFound("no"),
        errors.ManifestUnwritable("no", lasting=True),
        errors.UsageError("no"),
        ZeroDivisionError(),
    ],
)
async def test_what_ends_it(place: Place, error: Exception) -> None:
    place.write("a")
    place.raises = [error]
    with pytest.raises(type(error)):
        await place.watch()
    assert place.failures == []


async def test_a_directory_that_can_not_be_read_is_told_once(place: Place) -> None:
    place.omitted = [
        Omitted(str(place.directory / "closed"), "can't read the directory: Permission denied", is_failure=True),
        Omitted(str(place.directory / "fifo"), "a FIFO", is_failure=False),
    ]
    for time in (1.0, 5.0):
        place.at(time, lambda: place.write("a"))
    await place.watch()
    ((_, name, error, retry_in),) = place.failures
    assert (name, retry_in) == ("closed", None)
    assert "Permission denied" in str(error)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_the_directory_is_gone(place: Place, how: str) -> None:
    """What is open is uploaded before that is said: the open file still has its bytes."""
    path = place.write("large", LARGE * 2)
    ended = False

    async def go(begin: Begin) -> None:
        nonlocal ended
        if how == "replaced":
            replace(place)
        else:
            path.unlink()
            place.directory.rmdir()
        while place.now < 50.0:
            await asyncio.sleep(0)
        ended = True

    async def upload(begin: Begin) -> Fingerprint:
        await go(begin)
        return begin.fingerprint

    place.upload = upload  # type: ignore[method-assign]  # what it was given is not there any more
    says = "another directory is at" if how == "replaced" else "any more"
    with pytest.raises(errors.DirectoryGone, match=says) as caught:
        await place.watch()
    assert ended
    assert caught.value.exit_code == errors.EXIT_RESUMABLE


async def test_there_is_no_such_directory(place: Place) -> None:
    place.directory.rmdir()
    with pytest.raises(errors.SourceNotFound, match="no such directory"):
        await place.watch()
    place.directory.touch()
    with pytest.raises(errors.SourceUnsupported, match="is not a directory"):
        await place.watch()


async def test_hundreds_at_once(place: Place) -> None:
    for number in range(300):
        place.write(f"{number}")
    most = running = 0

    async def count(begin: Begin) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    place.during = count
    await place.watch()
    assert sorted(int(key) for _, key, _ in place.begun) == list(range(300))
    assert most <= 16


async def test_it_is_cancelled(place: Place) -> None:
    place.write("large", LARGE * 2)
    begun, ended = asyncio.Event(), False

    async def forever(begin: Begin) -> None:
        nonlocal ended
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    place.during = forever
    task = asyncio.create_task(place.watch(until_idle=math.inf))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
