"""What is no media service, or a hostile one: every kind of junk that a server could respond with."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bigupload import errors
from bigupload.stores import service_client
from bigupload.stores.service_client import ServiceStore
from bigupload.testing.certificates import make_certificates
from tests.stores.service_client.support import (
    CALLS,
    CRC,
    HANDLE,
    KEY,
    Fake,
    begun,
    create,
    listening,
    made,
    part,
    refusal_of,
    row,
)

RESPONDED = {name: call for name, call in CALLS.items() if name != "abort"}
"""Those whose response says something."""
HTML = "<!doctype html><title>Welcome to nginx!</title>"
JUNK = [HTML, "", "[]", '"text"', "null", "{", "[" * 100_000, b"\xff\xfe", "1" * 5000, "{}"]


def stranger(e: Exception) -> bool:
    return isinstance(e, errors.StoreRefused) and "is not a bigupload media service" in str(e)


@pytest.mark.parametrize("name", RESPONDED)
async def test_junk(fake: Fake, store: ServiceStore, name: str) -> None:
    for junk in JUNK:
        fake.responses.clear()
        fake.says(junk)
        assert stranger(await refusal_of(CALLS[name](store))), junk


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422])
async def test_refusals_that_are_none_of_the_services(fake: Fake, store: ServiceStore, status: int) -> None:
    for body in (HTML, {"detail": "Not Found"}, {"error": "no"}, {"error": {"code": 1, "message": "no"}}):
        fake.responses.clear()
        fake.says(body, status)
        assert stranger(await refusal_of(create(store)))


GOOD: dict[str, dict[str, Any]] = {
    "create": begun([part(1)]),
    "sign": {"signed": [row(part(1)), row(part(3))], "expiresIn": 60},
    "list": {"parts": [{"partNumber": 1, "size": 5, "etag": '"e"', "checksum": CRC}]},
    "stat": {"status": "completed", "completed": made()},
    "complete": made(),
}
MAY_LACK: dict[str, set[str]] = {name: set() for name in GOOD} | {
    "list": {"checksum"},
    "stat": {"checksum", "checksumAlgorithm", "checksumType", "token"},
    "complete": {"checksum", "checksumAlgorithm", "checksumType", "token"},
}
ANY_NUMBER: dict[str, set[str]] = {name: {"size"} for name in GOOD} | {"list": {"size", "partNumber"}}
"""What makes no sense there is compared with the plan, or with the file's size, by whoever asked."""
WRONG: list[Any] = [None, True, 1.5, [], {}, [1], {"a": 1}, "", "a\r\nb", -1, [[]], "x" * 20_000]


def places(value: Any, *path: Any) -> list[tuple[Any, ...]]:
    """The paths to all that is inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in inside for found in ((*path, key), *places(item, *path, key))]


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return copy


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", GOOD)
async def test_wrong_shapes(fake: Fake, store: ServiceStore, name: str) -> None:
    """Each field of each response, wrong in each way: refused as a stranger's, or read; never another exception."""
    call = CALLS[name] if name != "create" else lambda store: create(store, [part(1)])
    fake.says(GOOD[name])
    await call(store)
    for path in places(GOOD[name]):
        for wrong in WRONG:
            fake.responses.clear()
            fake.says(changed(GOOD[name], path, wrong))
            if (
                (wrong is None and path[-1] in MAY_LACK[name])
                or (wrong == -1 and path[-1] in ANY_NUMBER[name])
                or (wrong == [] and path == ("parts",) and name == "list")
            ):
                await call(store)
            else:
                assert stranger(await refusal_of(call(store))), (path, wrong)


async def test_a_response_without_end(fake: Fake, store: ServiceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_client, "MOST_BYTES", 1 << 16)
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 1 << 30:
            await response.write(b" " * (1 << 16))
            sent += 1 << 16
        return response

    fake.responses.append(endless)
    assert stranger(await refusal_of(CALLS["list"](store)))
    assert sent < 1 << 28


HOSTILE_HEADERS: list[dict[str, Any]] = [
    {"x-amz-meta": "a\r\nX-Evil: 1"}, {"x-amz-\r\nx": "a"}, {"Authorization": "x"}, {"Host": "evil.example"},
    {"Transfer-Encoding": "chunked"}, {"Content-Length": "7"}, {"Cookie": "a=b"}, {"x-amz-meta": "é"}, {"x-amz-": ""},
    {"x-amz-meta": 1}, {"x-amz-meta": "x" * 2000}, {"Range": "bytes=0-1"}, {"Expect": "100-continue"}, {"": ""},
]  # fmt: skip
HOSTILE_URLS = [
    "file:///etc/passwd", "ftp://store.example/1", "//store.example/1", "javascript:alert(1)", "https://", "1",
    "https://user:pass@store.example/", "https://store.example/\r\nX: 1", "https://store.example/ 1", "http://[::1",
    "https://store.example:99999999/",
]  # fmt: skip


@pytest.mark.parametrize("headers", HOSTILE_HEADERS, ids=repr)
async def test_headers_that_no_part_has(fake: Fake, store: ServiceStore, headers: dict[str, Any]) -> None:
    fake.says({"signed": [row(part(1), headers={**part(1).headers, **headers})], "expiresIn": 60})
    assert stranger(await refusal_of(store.sign(HANDLE, [part(1)])))


@pytest.mark.parametrize("url", HOSTILE_URLS)
async def test_urls_that_no_part_has(fake: Fake, store: ServiceStore, url: str) -> None:
    fake.says({"signed": [row(part(1), url=url)], "expiresIn": 60})
    assert stranger(await refusal_of(store.sign(HANDLE, [part(1)])))


@pytest.mark.parametrize(
    "change",
    [
        {"signed": []}, {"signed": [row(part(1))] * 2}, {"signed": [row(part(2))]}, {"expiresIn": 0},
        {"expiresIn": -1}, {"expiresIn": 10**400}, {"signed": [row(part(1), headers={})]},
        {"signed": [row(part(1, "AAAAAAAAAAA="))]},
    ],
)  # fmt: skip
async def test_other_parts_than_were_asked_for(fake: Fake, store: ServiceStore, change: dict[str, Any]) -> None:
    fake.says({"signed": [row(part(1))], "expiresIn": 60} | change)
    assert stranger(await refusal_of(store.sign(HANDLE, [part(1)])))


@asynccontextmanager
async def over_tls(fake: Fake, tmp_path: Path) -> AsyncIterator[ServiceStore]:
    certificates = make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.cert, certificates.key)
    async with listening(fake, ssl=context) as url:
        store = ServiceStore(url=url, api_key=KEY, filename="a", content_type="a/b", ca_bundle=certificates.ca)
        yield store
        await store.aclose()


@pytest.mark.parametrize("call", ["create", "sign"])
@pytest.mark.parametrize("url", ["http://store.example/1", "HTTP://store.example/1"])
async def test_a_service_with_tls_that_would_have_parts_sent_without(
    fake: Fake, tmp_path: Path, call: str, url: str
) -> None:
    """Nothing of the file has left by then."""
    signed = [row(part(1), url=url)]
    fake.says(begun([part(1)], signed=signed) if call == "create" else {"signed": signed, "expiresIn": 60})
    async with over_tls(fake, tmp_path) as store:
        refused = await refusal_of(create(store, [part(1)]) if call == "create" else store.sign(HANDLE, [part(1)]))
    assert isinstance(refused, errors.StoreRefused)
    assert "for store.example without encryption" in str(refused)


async def test_a_service_with_tls_and_a_store_with_tls(fake: Fake, tmp_path: Path) -> None:
    fake.says({"signed": [row(part(1), url="https://store.example/1")], "expiresIn": 60})
    async with over_tls(fake, tmp_path) as store:
        (request,) = await store.sign(HANDLE, [part(1)])
    assert request.url == "https://store.example/1"


@pytest.mark.parametrize("other", ["http://evil.example/2", "http://store.example:81/2", "https://store.example/2"])
async def test_one_upload_goes_to_one_place(fake: Fake, store: ServiceStore, other: str) -> None:
    fake.says({"signed": [row(part(1), url="http://store.example/1")], "expiresIn": 60})
    fake.says({"signed": [row(part(2), url=other)], "expiresIn": 60})
    await store.sign(HANDLE, [part(1)])
    refused = await refusal_of(store.sign(HANDLE, [part(2)]))
    assert stranger(refused)
    fake.responses.clear()
    fake.says(begun())
    fake.says({"signed": [row(part(2), url=other)], "expiresIn": 60})
    await create(store)  # another upload may be another store's
    await store.sign(HANDLE, [part(2)])
