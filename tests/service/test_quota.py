"""The quota of bytes of an owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service import contract as c
from bigupload.service.access.handles import Handles
from bigupload.service.contract import URL_LIFETIME
from bigupload.service.media.object_keys import KeyTemplate
from bigupload.service.media_objects import MediaBucket
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.quota import KeptCount, KeptCounts, Quota, Unit, UploadLimits, promised_bytes
from bigupload.service.uploads.uploads import MediaUploads
from bigupload.stores.local_store import LocalStore
from tests.service.test_multipart import film
from tests.tools.buckets import Meddled
from tests.tools.media import sample
from tests.tools.service import serving

JPEG = sample("jpg")
FOR_JPEG = {"filename": "a.jpg", "content_type": "image/jpeg"}


class Store:
    """Lists what is there, and counts how often."""

    def __init__(self, **files: int) -> None:
        self.files = files
        self.open: set[str] = set()
        self.lists = 0
        self.now = 0.0
        self.takes = 0.0

    async def sizes(self, owner: str) -> AsyncIterator[tuple[str, int]]:
        self.lists += 1
        for row in self.files.items():
            yield row
        await asyncio.sleep(0)
        self.now += self.takes

    async def open_keys(self, owner: str) -> AsyncIterator[str]:
        for key in self.open:
            yield key

    def quota(self, limit: int | None = 100) -> Quota:
        return Quota(self.sizes, self.open_keys, limit=limit, clock=lambda: self.now)


async def allowed(quota: Quota, key: str, size: int | None, owner: str = "me", **more: int) -> bool:
    try:
        await quota.reserve(owner, key, size, **more)
    except Refused as refused:
        if refused.problem is not Problem.QUOTA_EXCEEDED:
            raise
        return False
    return True


@pytest.mark.parametrize("size", [1, 20])
async def test_a_promise_counts_a_50000th_of_the_quota_at_least(size: int) -> None:
    """Who asks for a million URLs of a byte each must not fill the memory, which all requests walk through."""
    store = Store()
    quota = store.quota(1_000_000)
    assert await allowed(quota, "a", size)
    assert not await allowed(quota, "b", 999_981)
    store.files = {"a": 1}
    store.now = 1000.0
    assert await allowed(quota, "b", 999_999)  # what is there counts as what it is
    assert not await allowed(quota, "c", 1)


def test_a_put_of_unknown_size_counts_as_such_a_part_too() -> None:
    assert [promised_bytes(None, limit) for limit in (100, 10**12)] == [4_000_000, 20_000_000]


async def test_what_is_stored_and_what_is_promised_count() -> None:
    quota = Store(a=40).quota()
    assert await allowed(quota, "b", 60)
    assert not await allowed(quota, "c", 1)
    assert await allowed(quota, "b", 60)  # the same again
    assert not await allowed(quota, "b", 61)
    quota.release("me", "b")
    assert await allowed(quota, "c", 60)
    assert quota.holds("me", "c")
    assert not quota.holds("me", "b")


async def test_a_file_of_unknown_size_needs_some_room() -> None:
    assert not await allowed(Store(a=100).quota(), "b", None)
    assert await allowed(Store(a=99).quota(), "b", None)


async def test_files_of_unknown_size_count_before_they_are_there() -> None:
    """Else as many could be begun as one likes, of gigabytes each."""
    store = Store()
    quota = store.quota(20_000_000)
    assert [await allowed(quota, f"f{number}", None) for number in range(6)] == [True] * 5 + [False]
    store.files = {"f0": 1000, "f1": 1000}
    store.now = 5.0
    assert await allowed(quota, "f6", None)
    store.now = URL_LIFETIME + 5.0
    assert await allowed(quota, "g", 19_000_000)


async def test_without_a_quota_nothing_is_listed() -> None:
    store = Store(a=1 << 60)
    assert await allowed(store.quota(None), "b", 1 << 60)
    assert store.lists == 0


async def test_a_list_counts_for_a_minute_and_less_before_a_refusal() -> None:
    store = Store(a=40)
    quota = store.quota()
    for moment in (0.0, 4.9, 59.9):
        store.now = moment
        assert await allowed(quota, "b", 10)
    assert store.lists == 1
    store.now = 60.0
    assert await allowed(quota, "b", 10)
    assert store.lists == 2
    store.now = 64.9
    assert not await allowed(quota, "c", 51)
    assert store.lists == 2
    store.now, store.files = 65.0, {}  # another replica deleted it
    assert await allowed(quota, "c", 51)
    assert store.lists == 3


async def test_a_list_that_takes_long_counts_for_longer() -> None:
    store = Store(a=1)
    store.takes = 10.0
    quota = store.quota()
    assert await allowed(quota, "b", 1)
    store.now = 189.0
    assert await allowed(quota, "b", 1)
    assert store.lists == 1
    store.now = 190.0
    assert await allowed(quota, "b", 1)
    assert store.lists == 2


async def test_an_upload_is_not_counted_twice_when_it_is_there() -> None:
    store = Store()
    quota = store.quota()
    assert await allowed(quota, "a", 60)
    store.files["a"] = 60
    quota.changed("me")
    assert not await allowed(quota, "b", 41)
    assert await allowed(quota, "b", 40)
    assert not quota.holds("me", "a")


async def test_a_promise_ends_with_the_url() -> None:
    store = Store()
    quota = store.quota()
    assert await allowed(quota, "a", 100)
    store.now = URL_LIFETIME - 1.0
    assert not await allowed(quota, "b", 1)
    store.now = URL_LIFETIME + 4.0  # the list before is five seconds old
    assert await allowed(quota, "b", 1)


async def test_a_promise_counts_until_a_list_shows_what_came_of_it() -> None:
    """The list of a million files is older than a URL is valid."""
    store = Store()
    store.takes = 1000.0
    quota = store.quota()
    assert await allowed(quota, "a", 60)
    store.files, store.now = {"a": 60}, URL_LIFETIME + 1001.0
    assert not await allowed(quota, "b", 41)
    assert store.lists == 2
    assert await allowed(quota, "b", 40)


async def test_an_open_upload_counts_for_as_long_as_it_is_open() -> None:
    """Its parts are in the store, though the URLs by which they came have ended."""
    store = Store()
    store.open = {"a"}
    quota = store.quota()
    assert await allowed(quota, "a", 100, lifetime=7 * 86_400)
    store.now = URL_LIFETIME * 5.0
    assert quota.holds("me", "a")
    assert not await allowed(quota, "b", 1)
    store.open = set()  # another replica aborted it
    store.now += 5.0
    assert await allowed(quota, "b", 100)
    store.open, store.now = {"a"}, 8 * 86_400.0
    assert await allowed(quota, "c", 100)


async def test_an_upload_that_another_process_ended_counts_for_a_minute() -> None:
    """By then, the store has the upload, or it is no more."""
    store = Store()
    quota = store.quota()
    assert await allowed(quota, "a", 100, lifetime=7 * 86_400)
    store.now = 59.0
    assert not await allowed(quota, "b", 1), "it may be on its way into the store"
    store.now = 65.0
    assert await allowed(quota, "b", 100)


async def test_what_an_owner_deletes_is_not_looked_for_while_there_is_room() -> None:
    """The list of an owner of a million files takes a while, and whoever cleans up deletes many."""
    store = Store(a=40)
    store.takes = 10.0
    quota = store.quota()
    for number in range(20):
        quota.changed("me")
        assert await allowed(quota, f"b{number}", 1)
    assert store.lists == 1
    store.files = {}
    for _ in range(20):
        quota.changed("me")
        await allowed(quota, "c", 90)
        store.now += 1.0
    assert 1 < store.lists <= 4  # for at most half of the time


async def test_an_aborted_upload_counts_until_a_list_shows_that_it_is_gone() -> None:
    store = Store()
    quota = store.quota()
    assert await allowed(quota, "a", 60)
    store.files["a"] = 60  # it was complete
    quota.ended("me", "a")
    assert not quota.holds("me", "a")
    assert not await allowed(quota, "b", 41)
    assert await allowed(quota, "c", 40)
    quota.ended("me", "c")
    assert await allowed(quota, "d", 40)


async def test_many_at_once_make_one_list_and_do_not_exceed_it() -> None:
    store = Store(a=40)
    quota = store.quota()
    outcomes = await asyncio.gather(*(allowed(quota, f"b{number}", 10) for number in range(20)))
    assert sum(outcomes) == 6
    assert store.lists == 1


async def test_a_store_that_can_not_list_allows_nothing() -> None:
    async def sizes(_: str) -> AsyncIterator[tuple[str, int]]:
        raise Fault(FaultKind.STALLED, "silent")
        yield "", 0

    with pytest.raises(Fault):
        await Quota(sizes, Store().open_keys, limit=1, clock=lambda: 0.0).reserve("me", "a", 1)


# -- lists that take long


class SlowStore(Store):
    """Its list stops after the first file until `go_on` is set."""

    def __init__(self, **files: int) -> None:
        super().__init__(**files)
        self.go_on = asyncio.Event()
        self.error: Exception | None = None

    async def sizes(self, owner: str) -> AsyncIterator[tuple[str, int]]:
        self.lists += 1
        for row in list(self.files.items()):
            yield row
            await self.go_on.wait()
        if self.error is not None:
            raise self.error
        self.now += self.takes


class Notes(KeptCounts):
    """Keeps counts in memory."""

    def __init__(self, **counts: KeptCount) -> None:
        self.counts = counts

    async def read(self, account: str, unit: str) -> KeptCount | None:
        return self.counts.get(account)

    async def keep(self, account: str, unit: str, count: KeptCount) -> None:
        self.counts[account] = count


def impatient(store: Store, notes: Notes | None = None, patience: float = 0.0) -> Quota:
    return Quota(store.sizes, store.open_keys, limit=100, clock=lambda: store.now, kept=notes, patience=patience)


async def lists_end(store: SlowStore) -> None:
    """Let the list be read to its end."""
    store.go_on.set()
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_request_waits_for_a_long_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of a million files takes minutes, and the first create after a start waited for it."""
    monkeypatch.setattr("bigupload.service.uploads.quota._PARTLY", 1)
    store = SlowStore(a=30, b=40)
    quota = impatient(store)
    async with asyncio.timeout(60):
        assert await allowed(quota, "c", 50)  # 30 are known
        assert not await allowed(quota, "d", 21)
        with pytest.raises(Refused, match="your files are being counted again"):
            await quota.reserve("me", "d", 21)
        assert await allowed(quota, "d", 20)
    assert store.lists == 1
    await lists_end(store)
    quota.release("me", "d")
    with pytest.raises(Refused, match="your files take 70 B and uploads that are not complete take 50 B of 100 B"):
        await quota.reserve("me", "e", 1)
    quota.release("me", "c")
    assert await allowed(quota, "e", 30)


async def test_a_restart_goes_on_by_the_count_that_was_kept() -> None:
    store, notes = SlowStore(a=30, b=40), Notes()
    store.go_on.set()
    store.takes = 10.0
    before = impatient(store, notes)
    assert await allowed(before, "c", 1)
    await lists_end(store)
    assert notes.counts == {"me": KeptCount(70, 10.0)}
    store.go_on.clear()
    store.files["d"] = 10
    quota = impatient(store, notes, patience=9.0)  # seconds: the list takes longer
    async with asyncio.timeout(60):
        assert not await allowed(quota, "e", 31)
        assert await allowed(quota, "e", 20)
    await lists_end(store)
    assert not await allowed(quota, "f", 1)  # though it holds for 190 s: the note lacks what came after it
    assert store.lists == 2


async def test_an_old_count_holds_while_a_long_list_is_read() -> None:
    store = SlowStore(a=70)
    quota = impatient(store)
    store.go_on.set()
    store.takes = 1.0
    assert await allowed(quota, "b", 10)
    await lists_end(store)
    store.go_on.clear()
    store.now, store.files = 1000.0, {"b": 10}
    async with asyncio.timeout(60):
        assert not await allowed(quota, "c", 30)
        assert await allowed(quota, "c", 20)
    assert store.lists == 2
    await lists_end(store)
    assert await allowed(quota, "d", 70)


async def test_a_long_list_that_fails_allows_nothing_until_there_is_a_count() -> None:
    store, notes = SlowStore(a=30), Notes(you=KeptCount(30, 10.0))
    quota = impatient(store, notes)
    for owner in ("me", "you"):
        assert await allowed(quota, "b", 10, owner)
    store.error = Fault(FaultKind.STALLED, "silent")
    await lists_end(store)
    store.go_on.clear()
    with pytest.raises(Fault, match="silent"):
        await quota.reserve("me", "c", 10)
    assert await allowed(quota, "c", 10, "you")
    assert store.lists == 4  # each was begun again
    store.error = None
    await lists_end(store)
    assert await allowed(quota, "c", 10)


async def test_a_list_ends_with_the_service() -> None:
    store = SlowStore(a=30)
    quota = impatient(store)
    assert await allowed(quota, "b", 10)
    before = asyncio.all_tasks()
    await quota.aclose()
    assert len(before - asyncio.all_tasks()) == 1


# -- with a store, and two replicas


async def test_a_count_is_kept_in_the_bucket(bucket: Meddled) -> None:
    counts = KeptCounts(MediaBucket(bucket))
    assert await counts.read("me", Unit.BYTES) is None
    for stored in (5, 1 << 60):
        await counts.keep("me", Unit.BYTES, KeptCount(stored, 219.5))
        assert await counts.read("me", Unit.BYTES) == KeptCount(stored, 219.5)
    assert await counts.read("me", Unit.FILES) is None
    assert await counts.read("me/~u-1", Unit.BYTES) is None
    (note,) = await MediaBucket(bucket).note_keys("")
    assert KeyTemplate().is_made_here(note)  # else no sweep deletes it
    await MediaBucket(bucket).put_note(note, {"stored": "many"})
    assert await counts.read("me", Unit.BYTES) is None


def replica(bucket: Meddled, quota: int) -> MediaUploads:
    return MediaUploads(bucket, Handles(["secret"], clock=lambda: 0), limits=UploadLimits(quota=quota))


async def put(url: str, headers: dict[str, str], data: bytes) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.put(url, headers=headers, content=data)
    assert response.status_code == 200, response.text
    return response.headers["ETag"]


async def refused_by_quota(uploads: MediaUploads, size: int | None) -> bool:
    try:
        await uploads.presign("me", c.PresignRequest(**FOR_JPEG, size=size))
    except Refused as refused:
        return refused.problem is Problem.QUOTA_EXCEEDED
    return False


async def test_what_one_replica_took_counts_at_another(bucket: Meddled) -> None:
    size = len(JPEG)
    one, two = replica(bucket, 2 * size), replica(bucket, 2 * size)
    for uploads in (one, two):
        made = await uploads.presign("me", c.PresignRequest(**FOR_JPEG, size=size))
        await put(made.upload_url, {"Content-Type": "image/jpeg"}, JPEG)
    three = replica(bucket, 2 * size)
    assert await refused_by_quota(three, size)
    assert await refused_by_quota(three, None)
    await three.delete_file("me", made.key)
    assert not await refused_by_quota(three, size)


def request_of(data: bytes) -> c.CreateRequest:
    """The create of a film in one part."""
    return c.CreateRequest(
        filename="a.mp4",
        content_type="video/mp4",
        size=len(data),
        checksum_algorithm="none",
        first_parts=[c.PartToSign(part_number=1, size=len(data))],
    )


async def sent(made: c.CreateResponse, data: bytes) -> c.CompleteRequest:
    """Send its part, and return the complete."""
    etag = await put(made.signed[0].url, dict(made.signed[0].headers), data)
    return c.CompleteRequest(upload=made.upload, parts=[c.CompletedPart(part_number=1, etag=etag)])


async def test_a_complete_beyond_the_quota_is_refused_and_works_once_there_is_room(bucket: Meddled) -> None:
    """Both replicas promised the same room. And a complete that is repeated has its first result."""
    data = film(1000)
    one, two = replica(bucket, 1500), replica(bucket, 1500)
    request = request_of(data)
    first, second = await one.create("me", request), await two.create("me", request)
    completes = [await sent(made, data) for made in (first, second)]
    done = await one.complete("me", completes[0])
    three = replica(bucket, 1500)
    assert await three.complete("me", completes[0]) == done  # though the list has it, and there is no room for it again
    with pytest.raises(Refused) as refused:
        await three.complete("me", completes[1])
    assert refused.value.problem is Problem.QUOTA_EXCEEDED
    assert str(refused.value) == "your files take 1 kB of 1.5 kB, and this one has 1 kB: delete files"
    await three.delete_file("me", first.key)
    assert (await three.complete("me", completes[1])).size == len(data)


async def test_an_abort_of_a_complete_upload_makes_no_room(bucket: Meddled) -> None:
    data = film(1000)
    uploads = replica(bucket, 1500)
    request = request_of(data)
    made = await uploads.create("me", request)
    await uploads.complete("me", await sent(made, data))
    await uploads.abort("me", made.upload)
    assert await refused_by_quota(uploads, len(data))
    await uploads.delete_file("me", made.key)
    again = await uploads.create("me", request)
    await uploads.abort("me", again.upload)
    assert not await refused_by_quota(uploads, len(data))


async def test_files_that_were_complete_and_are_deleted_make_room_at_once(bucket: Meddled) -> None:
    """No list has ever shown them."""
    data = film(1000)
    uploads = replica(bucket, 1500)
    request = request_of(data)
    for _ in range(3):
        made = await uploads.create("me", request)
        await uploads.complete("me", await sent(made, data))
        assert await refused_by_quota(uploads, len(data))
        await uploads.delete_file("me", made.key)


@pytest.mark.slow
def test_the_option(weed: LocalStore, tmp_path: Path) -> None:
    with serving(weed, tmp_path, "--quota", "1kB", "--sweep-every", "0") as service:
        body = {"filename": "a.jpg", "contentType": "image/jpeg", "size": 1001}
        response = service.call("POST", "/v1/media/presign", json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "quota_exceeded")
