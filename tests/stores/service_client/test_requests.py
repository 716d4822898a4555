"""What the media service's client asks, and what it makes of the response."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest

from bigupload import errors
from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import ObjectFacts
from bigupload.core.manifest import Target
from bigupload.core.part_plan import MIB
from bigupload.ports import ListedPart, UnsignedPart
from bigupload.stores.service_client import ServiceStore
from tests.stores.service_client.support import (
    CALLS,
    CRC,
    HANDLE,
    KEY,
    PARTS,
    PLAN,
    PUBLIC,
    Fake,
    begun,
    complete,
    create,
    made,
    part,
    refusal_of,
    row,
)

MD5 = "CY9rzUYh03PK3k6DJie09g=="
FACTS = ObjectFacts(
    etag='"e-3"', size=PLAN.size, algorithm=Algorithm.CRC64NVME, checksum=CRC, checksum_type=ChecksumType.FULL_OBJECT,
    token="t" * 32,
)  # fmt: skip


async def test_create(fake: Fake, store: ServiceStore) -> None:
    assert store.target == Target(service=store.url(), key="")
    first = [part(1), part(2)]
    fake.says(begun(first))
    created = await create(store, first)
    assert (created.upload_id, created.checksum_type) == (HANDLE, ChecksumType.FULL_OBJECT)
    assert store.target.key == "media/o/k.mp4"
    assert store.url() == PUBLIC
    (asked,) = fake.asked
    assert (asked.method, asked.path, asked.headers["Authorization"]) == (
        "POST",
        "/v1/media/multipart",
        f"Bearer {KEY}",
    )
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.body == {
        "filename": "movie.mp4",
        "contentType": "video/mp4",
        "size": 12 * MIB,
        "checksumAlgorithm": "crc64nvme",
        "partSize": 5 * MIB,
        "firstParts": [{"partNumber": n, "size": 5 * MIB, "checksum": CRC} for n in (1, 2)],
        "token": "t" * 32,
        "head": base64.b64encode(b"head").decode(),
    }


@pytest.mark.parametrize(
    ("algorithm", "declare", "asked_for"),
    [
        (Algorithm.CRC64NVME, False, "md5"), (Algorithm.SHA256, False, "md5"), (Algorithm.SHA256, True, "sha256"),
        (Algorithm.MD5, True, "md5"), (Algorithm.NONE, True, "none"),
    ],
)  # fmt: skip
async def test_what_is_declared(
    fake: Fake, store: ServiceStore, algorithm: Algorithm, declare: bool, asked_for: str
) -> None:
    fake.says(begun(checksumAlgorithm=asked_for))
    created = await store.create(PLAN, algorithm, declare=declare, token="t" * 32)
    assert fake.asked[0].body["checksumAlgorithm"] == asked_for
    assert created.checksum_type is (ChecksumType.COMPOSITE if asked_for == "sha256" else None)


async def test_parts_that_were_signed_at_create_are_not_asked_for(
    fake: Fake, store: ServiceStore, now: list[float]
) -> None:
    first = [part(1), part(2)]
    fake.says(begun(first))
    await create(store, first)
    now[0] += 600
    one, two = await store.sign(HANDLE, first)
    assert len(fake.asked) == 1
    assert one.url == row(part(1))["url"]
    assert two.headers == {"x-amz-checksum-crc64nvme": CRC}
    assert one.expires_in == 3000


async def test_a_request_is_used_once(fake: Fake, store: ServiceStore) -> None:
    """A second request means that the store refused the first URL."""
    fake.says(begun([part(1), part(2)]))
    fake.says({"signed": [row(part(1)), row(part(3))], "expiresIn": 60})
    await create(store, [part(1), part(2)])
    await store.sign(HANDLE, [part(1)])
    requests = await store.sign(HANDLE, [part(1), part(2), part(3)])
    assert [p["partNumber"] for p in fake.asked[1].body["parts"]] == [1, 3]
    assert [r.url for r in requests] == [row(part(n))["url"] for n in (1, 2, 3)]
    assert [r.expires_in for r in requests] == [60, 3600, 60]


@pytest.mark.parametrize("why", ["another checksum", "another upload", "expired", "another size"])
async def test_a_request_for_something_else_is_not_used(
    fake: Fake, store: ServiceStore, now: list[float], why: str
) -> None:
    fake.says(begun([part(1)]))
    await create(store, [part(1)])
    upload, wanted = HANDLE, part(1)
    if why == "another checksum":
        wanted = part(1, "AAAAAAAAAAA=")
    elif why == "another size":
        wanted = dataclasses.replace(wanted, size=1)
    elif why == "another upload":
        upload = "another"
    else:
        now[0] += 3600
    fake.responses.clear()
    fake.says({"signed": [row(wanted)], "expiresIn": 60})
    await store.sign(upload, [wanted])
    assert fake.asked[1].body["upload"] == upload


async def test_content_md5(fake: Fake, store: ServiceStore) -> None:
    """Beside a checksum it is an extra, alone it is the upload's checksum."""
    both = UnsignedPart(1, 5, {"x-amz-checksum-crc64nvme": CRC, "content-md5": MD5})
    alone = UnsignedPart(2, 5, {"content-md5": MD5})
    none = UnsignedPart(3, 5, {})
    headers = {"Content-MD5": MD5, "Content-Length": "5"}
    fake.says({"signed": [row(both), row(alone, headers=headers), row(none)], "expiresIn": 60})
    signed = await store.sign(HANDLE, [both, alone, none])
    assert fake.asked[0].body["parts"] == [
        {"partNumber": 1, "size": 5, "checksum": CRC, "md5": MD5},
        {"partNumber": 2, "size": 5, "checksum": MD5, "md5": MD5},
        {"partNumber": 3, "size": 5},
    ]
    assert signed[1].headers == {"content-md5": MD5}  # as the engine looks for it; the length is the transport's


async def test_list_parts(fake: Fake, store: ServiceStore) -> None:
    fake.says({"parts": [{"partNumber": 1, "size": 5, "etag": '"e"', "checksum": CRC},
                         {"partNumber": 1, "size": 6, "etag": '"f"'}]})  # fmt: skip
    rows = await store.list_parts(HANDLE, Algorithm.CRC64NVME)
    assert rows == [ListedPart(1, 5, '"e"', CRC), ListedPart(1, 6, '"f"', None)]
    assert (fake.asked[0].method, fake.asked[0].path) == ("GET", "/v1/media/multipart/parts")
    assert fake.asked[0].query == {"upload": HANDLE}


async def test_a_handle_goes_into_a_query_whatever_it_holds(fake: Fake, store: ServiceStore) -> None:
    handle = "a&b=c+d/e?f#g%20 ä~\N{SNOWMAN}"
    fake.says({"parts": []})
    await store.list_parts(handle, Algorithm.CRC64NVME)
    assert fake.asked[0].query == {"upload": handle}


async def test_ten_thousand_parts(fake: Fake, store: ServiceStore) -> None:
    row = {"size": 5 * MIB, "etag": f'"{"e" * 32}"', "checksum": "c" * 44}
    fake.says({"parts": [row | {"partNumber": n} for n in range(1, 10_001)]})
    assert len(await store.list_parts(HANDLE, Algorithm.SHA256)) == 10_000


async def test_complete(fake: Fake, store: ServiceStore) -> None:
    fake.says(made())
    assert await complete(store) == FACTS
    assert store.url() == PUBLIC
    assert store.target.key == "media/o/k.mp4"
    assert fake.asked[0].path == "/v1/media/multipart/complete"
    rows = [{"partNumber": n, "etag": f'"{n}"', "checksum": CRC} for n in (1, 2, 3)]
    assert fake.asked[0].body == {"upload": HANDLE, "parts": rows, "checksum": "whole"}


async def test_complete_without_a_declared_checksum(fake: Fake, store: ServiceStore) -> None:
    fake.says(made(checksum=None, checksumAlgorithm=None, checksumType=None))
    facts = await store.complete(HANDLE, PARTS[:1], size=5, algorithm=Algorithm.MD5, checksum=None)
    assert (facts.checksum, facts.algorithm, facts.checksum_type) == (None, None, None)
    assert fake.asked[0].body == {"upload": HANDLE, "parts": [{"partNumber": 1, "etag": '"1"'}]}


async def test_stat(fake: Fake, store: ServiceStore) -> None:
    fake.says({"status": "completed", "completed": made()})
    fake.says({"status": "open", "completed": None, "error": None})
    fake.says({"status": "gone"})
    fake.refuses("upload_gone", 404)
    fake.says({"status": "gone", "error": {"code": "not_media", "message": "it is a program"}})
    assert await CALLS["stat"](store) == FACTS
    for _ in range(3):
        assert await CALLS["stat"](store) is None
    refused = await refusal_of(CALLS["stat"](store))
    assert isinstance(refused, errors.MediaRefused)
    assert str(refused) == "it is a program"
    assert refused.exit_code == errors.EXIT_FAILED


@pytest.mark.parametrize("status", [204, 200])
async def test_abort(fake: Fake, store: ServiceStore, status: int) -> None:
    fake.says({} if status == 200 else b"", status)
    await store.abort(HANDLE)
    assert (fake.asked[0].method, fake.asked[0].query) == ("DELETE", {"upload": HANDLE})


@pytest.mark.parametrize("code", ["upload_gone", "upload_expired"])
async def test_abort_of_what_is_gone(fake: Fake, store: ServiceStore, code: str) -> None:
    fake.refuses(code, 410)
    await store.abort(HANDLE)
    assert [asked.method for asked in fake.asked] == ["DELETE"]  # and not again


async def test_another_object_than_the_uploads(fake: Fake, store: ServiceStore) -> None:
    fake.says(begun())
    fake.says(made(key="media/other/k.mp4"))
    await create(store)
    assert isinstance(await refusal_of(complete(store)), errors.StoreRefused)


@pytest.mark.parametrize(
    "change", [{"partSize": 6 * MIB}, {"parts": 2}, {"checksumAlgorithm": "sha256"}], ids=lambda c: next(iter(c))
)
async def test_another_plan_than_was_asked_for(fake: Fake, store: ServiceStore, change: dict[str, Any]) -> None:
    fake.says(begun(**change))
    refused = await refusal_of(create(store))
    assert isinstance(refused, errors.StoreRefused)
    assert "its plan differs" in str(refused)
