"""A store that responds to calls made by credentials with whatever would hurt: bombs, no end, junk, other places."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bigupload import errors
from bigupload.core.checksums import Algorithm
from bigupload.core.part_plan import Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import S3Options
from bigupload.service.uploads.sweep import Sweep, SweepReport
from bigupload.stores.s3 import multipart, operations
from bigupload.stores.s3.multipart import S3Store
from bigupload.verification import orphans
from bigupload.verification.orphans import OrphanSearch, Owners
from tests.tools.cases import each_case

BOMB = b'<!DOCTYPE l [<!ENTITY a "' + b"a" * 100_000 + b'">]><l>' + b"&a;" * 1000 + b"</l>"
XXE = (
    b'<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><ListPartsResult><UploadId>&x;</UploadId></ListPartsResult>'
)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def store_that(handler: Handler) -> AsyncIterator[S3Store]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        options = S3Options(endpoint_url=url, region="us-east-1", access_key="a", secret_key="hidden")
        async with contextlib.aclosing(S3Store("bucket", "key", options)) as store:
            yield store


def says(body: bytes, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, content_type="application/xml")

    return handler


CALLS: dict[str, Callable[[S3Store], Awaitable[Any]]] = {
    "create": lambda s: s.create(Plan(1, 1), Algorithm.CRC64NVME, declare=True, token="t"),
    "list": lambda s: s.list_parts("id", Algorithm.CRC64NVME),
    "find": lambda s: s.find_open(),
    "complete": lambda s: s.complete("id", [], size=1, algorithm=Algorithm.CRC64NVME, checksum=None),
}


async def refusal(store: S3Store, call: str) -> Exception:
    with pytest.raises((Fault, errors.BigUploadError)) as caught:
        await CALLS[call](store)
    assert "hidden" not in str(caught.value)
    return caught.value


@each_case("call", CALLS)
@each_case("body", [BOMB, XXE, BOMB.decode().encode("utf-16"), b"\n<!DOCTYPE html><html></html>", b"<a/>" * 500_000])
async def test_documents_that_are_none_of_s3_s_are_not_parsed(call: str, body: bytes) -> None:
    async with store_that(says(body)) as store:
        found = await refusal(store, call)
    assert isinstance(found, Fault)
    assert found.kind is FaultKind.BROKEN  # a portal, say: it may pass, and nobody knows what the store did
    assert found.status is None, "the store has not responded"
    assert "is not S3's, or was cut off: 200 (application/xml" in str(found)
    assert "A proxy or a login page responds in its place" in str(found)


@each_case("status", [400, 403, 500, 503])
async def test_a_refusal_with_such_a_document_is_its_status(status: int) -> None:
    async with store_that(says(BOMB, status)) as store:
        found = await refusal(store, "list")
    assert isinstance(found, Fault)
    assert found.status == status


JUNK = [
    b"", b"<", b"junk", b"<a/>", b"\xff\xfe<\0a\0/\0>\0", b"<ListPartsResult><Part>x</Part></ListPartsResult>",
    b"<ListPartsResult><Part><PartNumber>x</PartNumber></Part></ListPartsResult>",
    b"<ListPartsResult><Part><PartNumber>1</PartNumber><Size>1</Size></Part></ListPartsResult>",
    b"<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>x</NextPartNumberMarker></ListPartsResult>",
    b"<R><UploadId></UploadId></R>", b"<R><Upload><Key>key</Key></Upload></R>",
    b"<R><Upload><Key>key</Key><UploadId>u</UploadId><Initiated>never</Initiated></Upload></R>",
    b"<a>" * 100_000 + b"</a>" * 100_000, b"<R><UploadId><a>u</a></UploadId></R>", b"<R><ETag><a>e</a></ETag></R>",
    b"<ListPartsResult><Part><PartNumber><a/></PartNumber></Part></ListPartsResult>",
    b"<R><ETag>e</ETag><ChecksumCRC64NVME><a>A</a></ChecksumCRC64NVME></R>",
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.slow
async def test_junk_is_a_response_or_a_declared_error(call: str) -> None:
    for body in JUNK:
        async with store_that(says(body)) as store:
            responded = False
            with contextlib.suppress(Fault, errors.BigUploadError):
                await CALLS[call](store)
                responded = True
            assert not (responded and call == "create"), body  # an upload without an id is none


@pytest.mark.parametrize("status", [200, 403])
async def test_a_response_without_end(status: int) -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(bytes(1 << 16))
                sent += 1 << 16
        return response

    async with store_that(handler) as store:
        found = await refusal(store, "list")
    assert "is longer than 8,388,608 bytes" in str(found)
    assert sent < 64 << 20  # what is read, and what the sockets between hold


async def test_a_head_without_a_length_is_no_object_of_no_bytes() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"ETag": '"e"'})
        response.enable_chunked_encoding()
        await response.prepare(request)
        return response

    async with store_that(handler) as store:
        for look in (store.attributes, lambda: store.part(1)):
            with pytest.raises(Fault, match="the store's response has no ContentLength"):
                await look()
        assert await store.attributes(with_size=False) is not None, "a link needs no size"


# --- lists without end

PART_ROW = "<Part><PartNumber>{0}</PartNumber><Size>1</Size><ETag>e</ETag></Part>"
UPLOAD_ROW = (
    "<Upload><Key>{key}</Key><UploadId>u{number}</UploadId><Initiated>2020-01-01T00:00:00Z</Initiated></Upload>"
)


ROOTS = {"uploads": "ListMultipartUploadsResult", "list-type": "ListBucketResult", "uploadId": "ListPartsResult"}
"""Of the documents, by a name in the query of the request."""


class Pages:
    """A store whose lists continue: `markers` of the nth page, and of its rows, are made of n (from 1)."""

    def __init__(self, markers: str, row: str = "", *, last: int | None = None) -> None:
        self.asked = 0
        self.queries: list[dict[str, str]] = []
        self._markers, self._row, self._last = markers, row, last

    async def respond(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.queries.append(dict(request.query))
        n = self.asked
        more = "" if n == self._last else f"<IsTruncated>true</IsTruncated>{self._markers.format(n, odd=n % 2)}"
        row = self._row.format(n, key="key", number=n)
        root = next((root for name, root in ROOTS.items() if name in request.query))
        text = f"<{root}><UploadId>id</UploadId>{row}{more}</{root}>"
        return web.Response(text=text, content_type="application/xml")


NEXT_PART = "<NextPartNumberMarker>{}</NextPartNumberMarker>"
PART_PAGES = {
    "standing still": (NEXT_PART.format(0), ""),
    "the same part again and again": ("", PART_ROW.format(1)),
    "ever further": (NEXT_PART.format("{0}000"), PART_ROW),
    "one by one": (NEXT_PART, PART_ROW),
    "one by one, of nothing": (NEXT_PART, ""),
}


@pytest.mark.parametrize(("markers", "row"), PART_PAGES.values(), ids=PART_PAGES)
async def test_pages_of_parts_that_do_not_end(markers: str, row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a list is none: what is listed last are the parts by which an upload that lives is known."""
    monkeypatch.setattr(multipart, "MOST_PAGES", 20)
    pages = Pages(markers, row)
    async with store_that(pages.respond) as store:
        found = await refusal(store, "list")
    assert isinstance(found, Fault)
    assert found.kind is FaultKind.FINAL
    assert pages.asked <= 20


async def test_a_store_that_does_not_say_how_its_list_of_parts_goes_on() -> None:
    pages = Pages("", PART_ROW, last=3)
    async with store_that(pages.respond) as store:
        assert [row.number for row in await store.list_parts("id", Algorithm.NONE)] == [1, 2, 3]
    assert [query["part-number-marker"] for query in pages.queries] == ["0", "1", "2"]


NEXT_UPLOAD = "<NextKeyMarker>key</NextKeyMarker><NextUploadIdMarker>{}</NextUploadIdMarker>"
UPLOAD_PAGES = {
    "standing still": (NEXT_UPLOAD.format("same"), ""),
    "no way on": ("", ""),
    "the same upload again and again": ("", UPLOAD_ROW.format(key="key", number=1)),
    "in circles": (NEXT_UPLOAD.format("{odd}"), UPLOAD_ROW),
    "ever further": (NEXT_UPLOAD, UPLOAD_ROW),
    "ever further, of nothing": (NEXT_UPLOAD, ""),
    "names without end": (NEXT_UPLOAD, UPLOAD_ROW.replace("{number}", "{number}" + "u" * 2000)),
}


async def find(store: S3Store) -> None:
    with pytest.raises(Fault) as caught:
        await store.find_open()
    assert caught.value.kind is FaultKind.FINAL


async def collect(store: S3Store) -> None:
    owners = Owners(Path("/nonexistent"))
    search = OrphanSearch(owners, older_than=0, dry_run=True, on_orphan=print, on_failure=print)
    with pytest.raises(errors.StoreRefused):
        await search.run("s3://bucket/key", store._options)


async def sweep(store: S3Store) -> None:
    with pytest.raises(Fault) as caught:
        await Sweep(store._bucket, now=lambda: datetime.now(UTC))._abort_uploads(SweepReport(), dry_run=True)
    assert caught.value.kind is FaultKind.FINAL


async def test_a_page_with_half_a_row_is_asked_for_again() -> None:
    """Continuing after it would skip its rows."""
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.query.get("key-marker", ""))
        row = "<Upload><Key>key</Key>{}<Initiated>2020-01-01T00:00:00Z</Initiated></Upload>"
        row = row.format("" if len(asked) == 1 else "<UploadId>u</UploadId>")
        more, root = "<IsTruncated>true</IsTruncated><NextKeyMarker>key</NextKeyMarker>", ROOTS["uploads"]
        return web.Response(body=f"<{root}>{more}{row}</{root}>".encode(), content_type="application/xml")

    async with store_that(handler) as store:
        way = operations.UploadPages()
        with pytest.raises(Fault) as caught:
            await store.next_open(way)
        assert caught.value.kind is FaultKind.BROKEN
        page = await store.next_open(way)
    assert [upload_id for _, upload_id, _ in page.uploads] == ["u"]
    assert asked == ["", ""]


@pytest.mark.parametrize("who", [find, collect, sweep])
@pytest.mark.parametrize(("markers", "row"), UPLOAD_PAGES.values(), ids=UPLOAD_PAGES)
async def test_pages_of_open_uploads_that_do_not_end(
    who: Callable[[S3Store], Awaitable[None]], markers: str, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "MOST_PAGES", 20)
    pages = Pages(markers, row)
    async with store_that(pages.respond) as store:
        await who(store)
    assert pages.asked <= 20


@pytest.mark.parametrize("who", [find, collect])
async def test_more_open_uploads_than_are_kept(
    who: Callable[[S3Store], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (multipart, orphans):
        monkeypatch.setattr(module, "MAX_LISTED_UPLOADS", 5)
    pages = Pages(NEXT_UPLOAD, UPLOAD_ROW)
    async with store_that(pages.respond) as store:
        await who(store)
    assert pages.asked == 6


async def test_a_store_that_does_not_say_how_its_list_of_uploads_goes_on() -> None:
    pages = Pages("", UPLOAD_ROW, last=3)
    async with store_that(pages.respond) as store:
        assert [found.upload_id for found in await store.find_open()] == ["u1", "u2", "u3"]
    assert [query.get("upload-id-marker") for query in pages.queries] == [None, "u1", "u2"]


NEXT_OBJECT = "<NextContinuationToken>{}</NextContinuationToken>"


@pytest.mark.parametrize("markers", ["", NEXT_OBJECT.format("same")], ids=["no way on", "standing still"])
async def test_pages_of_objects_that_lead_nowhere(markers: str) -> None:
    pages = Pages(markers)
    async with store_that(pages.respond) as store:
        with pytest.raises(errors.StoreRefused):
            await Sweep(store._bucket, now=lambda: datetime.now(UTC)).run()
    assert pages.asked <= 2


@each_case("status", [301, 302, 303, 307, 308])
@each_case("call", ["create", "list", "complete"])
async def test_a_redirect_takes_no_credentials_elsewhere(call: str, status: int) -> None:
    heard = asked = 0

    async def listen(_: web.Request) -> web.Response:
        nonlocal heard
        heard += 1
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", listen)
    async with TestServer(app) as elsewhere:
        to = elsewhere.make_url("/bucket/key?secret=1")

        async def away(_: web.Request) -> web.Response:
            nonlocal asked
            asked += 1
            return web.Response(status=status, headers={"Location": str(to)})

        async with store_that(away) as store:
            found = await refusal(store, call)
    assert isinstance(found, errors.StoreRefused)
    assert (
        str(found) == f"the endpoint redirects to {to.origin()}: use that with `endpoint_url`. "
        "If you use it already, it is not an S3 store"
    )
    assert (asked, heard) == (1, 0)
