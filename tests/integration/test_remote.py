"""A file is uploaded by its URL: in ranges of one version, or as a stream where the server has none."""

from __future__ import annotations

import asyncio
import json

import pytest

import bigupload
from bigupload import errors, events
from bigupload.sources import remote
from tests.tools.waiting import until
from tests.tools.web_server import WebFault, WebServer, is_part

from .remotes import DATA, PARTS, SECRET, SIZE, holds
from .support import BUCKET, FAST, PART, World, assert_secretless, content, no_leaks

# -- with ranges


async def test_a_file_is_read_in_ranges_of_one_version(world: World, web: WebServer, url: str) -> None:
    async with no_leaks():
        result = await world.upload(url)
    assert holds(world)
    assert (result.size, result.parts, result.verified) == (SIZE, PARTS, bigupload.Verified.FULL_OBJECT)
    assert (str(result.path), result.guarded_by) == ("film.mov", "version")
    expected = [(number * PART, min(SIZE, (number + 1) * PART)) for number in range(PARTS)]
    assert sorted(web.ranges) == expected  # and nothing twice
    for asked in web.asked[1:]:
        assert (asked.headers["if-match"], asked.headers["if-range"]) == ('"one"', '"one"')
    assert {asked.headers["accept-encoding"] for asked in web.asked} == {"identity"}
    assert world.warnings() == ""


async def test_no_secret_of_a_url_is_kept_or_told(world: World, url: str) -> None:
    result = await world.upload(url)
    assert SECRET not in world.manifest_path.read_text()
    assert world.manifest.source.path == url.partition("?")[0]
    told = "".join(map(str, world.events)) + str(result)
    assert SECRET not in told


@pytest.mark.slow
async def test_the_manifest_does_not_depend_on_the_query(world: World, web: WebServer) -> None:
    """A presigned URL is another one each time."""
    made = [await world.upload(f"{web.url}/film.mov?{query}", manifest=None) for query in ("a=1", "a=2")]
    assert made[0].manifest.name.partition(".")[0] == made[1].manifest.name.partition(".")[0]


async def test_a_resumed_upload_fetches_what_is_missing(world: World, web: WebServer, url: str) -> None:
    await world.interrupted(url, after=3)
    unrecorded, missing = set(range(1, PARTS + 1)) - set(world.manifest.parts), world.missing()
    web.asked.clear()
    result = await world.upload(url.replace(SECRET, "another"))
    assert holds(world)
    assert sorted(start // PART + 1 for start, _ in web.ranges) == sorted(unrecorded)
    assert result.resumed_parts == PARTS - len(missing)


async def test_another_version_is_fetched_and_compared(world: World, web: WebServer, url: str) -> None:
    await world.interrupted(url, after=3)
    kept = sorted(world.manifest.parts)
    other = bytearray(DATA)
    other[(kept[0] - 1) * PART] ^= 1
    web.serve("/film.mov", bytes(other), etag='"two"')
    await world.upload(url)
    assert holds(world, bytes(other))
    assert "another version" in world.told(events.Hashing)[0].reason
    assert world.manifest.source.pin == '"two"'


@pytest.mark.slow
async def test_a_file_of_another_size(world: World, web: WebServer, url: str) -> None:
    await world.interrupted(url, after=3)
    other = content(SIZE + 5, seed=1)
    web.serve("/film.mov", other, etag='"two"')
    with pytest.raises(errors.SourceChanged, match="bytes now and had"):
        await world.upload(url)
    assert world.object() is None
    await world.upload(url, on_change="restart")
    assert holds(world, other)


@pytest.mark.exhaustive
@pytest.mark.parametrize("conditions", [False, True])
async def test_a_file_that_changes_meanwhile(world: World, web: WebServer, url: str, conditions: bool) -> None:
    """Whether the server looks at the conditions or not."""
    file = web.files["/film.mov"]
    file.conditions = conditions

    def change() -> None:
        file.data, file.etag = content(SIZE, seed=1), '"two"'

    web.faults.append(WebFault(cut_after=SIZE, when=is_part, after=change))
    with pytest.raises(errors.SourceChanged, match=r"film\.mov changed while it was uploaded") as caught:
        await world.upload(url, concurrency=1)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert world.object() is None
    await world.upload(url)
    assert holds(world, content(SIZE, seed=1))


@pytest.mark.slow
async def test_a_file_that_changes_may_begin_again(world: World, web: WebServer, url: str) -> None:
    file = web.files["/film.mov"]

    def change() -> None:
        file.data, file.etag = content(SIZE + 1, seed=1), '"two"'

    web.faults.append(WebFault(cut_after=SIZE, when=is_part, after=change))
    await world.upload(url, concurrency=1, on_change="restart")
    assert holds(world, content(SIZE + 1, seed=1))


# -- faults


async def test_a_range_that_breaks_goes_on_where_it_broke(world: World, web: WebServer, url: str) -> None:
    web.faults.append(WebFault(cut_after=PART // 2, when=lambda asked: asked.range == (PART, 2 * PART)))
    result = await world.upload(url)
    assert holds(world)
    assert (PART + PART // 2, 2 * PART) in web.ranges
    assert result.retries == 1


@pytest.mark.parametrize("most", [PART // 3, PART // 16])
@pytest.mark.exhaustive
async def test_a_server_that_caps_ranges_is_asked_for_the_rest(
    world: World, web: WebServer, url: str, most: int
) -> None:
    web.files["/film.mov"].most = most
    result = await world.upload(url)
    assert holds(world)
    assert (result.retries, web.sent) == (0, SIZE + min(most, 4096))  # no byte of a part was requested twice


@pytest.mark.parametrize("breaks", [False, True], ids=["short responses", "broken connections"])
async def test_a_server_that_sends_a_few_bytes_for_each_request(
    world: World, web: WebServer, url: str, breaks: bool
) -> None:
    """The attempts are limited, although each request brings some bytes."""
    if breaks:
        web.faults.append(WebFault(cut_after=10, when=is_part, times=10_000))
    else:
        web.files["/film.mov"].most = 10
    with pytest.raises(errors.SourceUnreachable, match=r"attempts\)"):
        await world.upload(url)
    assert len(web.ranges) <= 8 * PARTS
    assert world.object() is None


async def test_a_server_that_sends_another_range(world: World, web: WebServer, url: str) -> None:
    web.files["/film.mov"].shift = 1
    with pytest.raises(errors.SourceUnsupported, match=r"sends another range than the requested one.* curl URL") as e:
        await world.upload(url)
    assert e.value.exit_code == errors.EXIT_FAILED
    assert world.object() is None


@pytest.mark.slow
async def test_a_server_that_always_breaks_off_gets_there(world: World, web: WebServer, url: str) -> None:
    """More breaks than attempts: each one brought some bytes."""
    web.faults.append(WebFault(cut_after=PART // 16, when=is_part, times=10_000))
    await world.upload(url)
    assert holds(world)


async def test_a_stall_ends_by_itself(world: World, web: WebServer, url: str) -> None:
    web.faults.append(WebFault(stall_after=100, when=is_part))
    retry = bigupload.RetryPolicy(base_delay=0, max_delay=0, stall_after=0.2)
    result = await world.upload(url, retry=retry)
    assert holds(world)
    assert result.retries >= 1


@pytest.mark.slow
async def test_a_server_that_asks_to_slow_down(world: World, web: WebServer, url: str) -> None:
    web.faults.append(WebFault(status=503, headers={"Retry-After": "0"}, when=is_part, times=4))
    web.faults.append(WebFault(status=429, when=is_part, times=2))
    await world.upload(url)
    assert holds(world)
    assert {"responded 503" in retry.reason or "responded 429" in retry.reason for retry in world.told(events.Retrying)}


@pytest.mark.slow
async def test_retry_after_is_heeded(world: World, web: WebServer, url: str) -> None:
    web.faults.append(WebFault(status=503, headers={"Retry-After": "900"}, when=is_part))
    later = asyncio.get_running_loop().create_future()

    def on_event(event: events.Event) -> None:
        if isinstance(event, events.Retrying) and not later.done():
            later.set_result(event.delay)

    upload = asyncio.create_task(bigupload.upload(url, to=f"s3://{BUCKET}/key", s3=world.options(), on_event=on_event))
    assert await later == 900
    upload.cancel()
    await asyncio.wait([upload])


@pytest.mark.slow
async def test_a_server_that_is_down(world: World, web: WebServer, url: str) -> None:
    web.faults.append(WebFault(status=500, when=is_part, times=10_000))
    with pytest.raises(errors.SourceUnreachable, match=r"film\.mov: the server responded 500 \(8 attempts\)") as caught:
        await world.upload(url)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert_secretless(caught.value, [SECRET])
    web.faults.clear()
    await world.upload(url)
    assert holds(world)


async def test_no_server_at_all(world: World, web: WebServer) -> None:
    url = f"http://127.0.0.1:1/film.mov?{SECRET}"
    with pytest.raises(errors.SourceUnreachable, match=r"127\.0\.0\.1:1 refuses the connection") as caught:
        await world.upload(url)
    assert caught.value.exit_code == errors.EXIT_RESUMABLE
    assert_secretless(caught.value, [SECRET])
    assert world.s3.uploads == {}


@pytest.mark.slow
async def test_a_file_that_vanishes(world: World, web: WebServer, url: str) -> None:
    web.faults.append(WebFault(cut_after=SIZE, when=is_part, after=web.files.clear))
    with pytest.raises(errors.SourceNotFound, match="responded 404: there is no such file") as caught:
        await world.upload(url, concurrency=1)
    assert caught.value.exit_code == errors.EXIT_FAILED  # the same call would fail again


@pytest.mark.slow
async def test_no_more_of_a_slow_server_is_held_than_its_share(
    world: World, web: WebServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stands still must not take the memory of another upload for ever."""
    from bigupload.sources import part_pool

    monkeypatch.setattr(part_pool, "_shared", part_pool.Memory(6 * PART))
    monkeypatch.setattr(remote, "_AT_ONCE", 100)
    many = content(40 * PART)
    web.serve("/many", many)
    web.faults.append(WebFault(stall_after=1, when=lambda asked: is_part(asked) and asked.path == "/many", times=99))
    async with bigupload.Uploader(retry=FAST) as uploader:
        slow = uploader.start(f"{web.url}/many", to=f"s3://{BUCKET}/slow", s3=world.options())
        await until(lambda: len(web.ranges) >= 5, within=60)
        to = f"s3://{BUCKET}/key"
        result = await uploader.upload([DATA[:PART], DATA[PART:]], to=to, s3=world.options(), part_size=PART)
        assert result.parts == PARTS
        assert holds(world)
        assert len(web.ranges) == 5  # six fit
        slow.cancel()
        with pytest.raises(errors.UploadCancelled):
            await slow


def test_what_a_manifest_records(world: World, url: str) -> None:
    bigupload.upload_sync(
        url, to=f"s3://{BUCKET}/key", s3=world.options(), manifest=world.manifest_path, part_size=PART
    )
    source = json.loads(world.manifest_path.read_text().splitlines()[0])["source"]
    assert source == {
        "path": url.partition("?")[0], "size": SIZE, "mtime_ns": 0, "ctime_ns": 0, "inode": 0, "kind": "remote",
        "pin": '"one"',
    }  # fmt: skip


# -- a source of one's own


def test_a_subclass_counts_what_it_has_given() -> None:
    """CONTRIBUTING advises one for a source behind a URL, as of an FTP server."""

    class Served(remote.ServedFile):
        def __init__(self) -> None:
            self.taken = 0

    served = Served()  # type: ignore[abstract]  # it reads nothing
    served.taken += 3
    assert served.taken == 3
