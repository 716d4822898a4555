"""What a hostile or careless client tries, through HTTP, with and without a key."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigupload.checksums import Algorithm
from bigupload.local_store import LocalStore
from bigupload.options import S3Options
from bigupload.proof import ObjectFacts
from bigupload.service.contract import STORED_FOR
from bigupload.service.endpoints import ENDPOINTS
from bigupload.service.handles import Handle, Handles
from bigupload.service.keys import KeyFile
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads import MediaUploads
from bigupload.stores._bucket import S3Bucket
from tests.service.test_multipart import PART, create, cut, described, film, send, upload
from tests.tools.declared import log_lines, what_is_wrong
from tests.tools.http_stub import Answer, HttpStub
from tests.tools.media import sample
from tests.tools.service import Service, serving
from tests.tools.waiting import until

PHOTO = {"filename": "photo.jpg", "contentType": "image/jpeg"}
SECRETS = ["0123456789abcdef" * 2]
HANDLE = Handle(
    owner="local",
    key="media/local/0123456789abcdef0123456789abcdef.mp4",
    upload_id="8b0c2b5e",
    size=2 * PART + 17,
    part_size=PART,
    content_type="video/mp4",
    algorithm=Algorithm.CRC64NVME,
    token="0" * 32,
    expires=1_700_000_000,
)


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def with_handle(service: Service, handle: str, *, key: str | None = None) -> Iterator[httpx.Response]:
    """Every call that names an upload."""
    for method, path in (("GET", "/multipart"), ("GET", "/multipart/parts"), ("DELETE", "/multipart")):
        yield service.call(method, f"/v1/media{path}", key=key, params={"upload": handle})
    part = {"partNumber": 1, "size": PART, "checksum": "AAAAAAAAAAA="}
    named = {"upload": handle, "parts": [part | {"etag": '"x"'}]}
    for path in ("/multipart/parts", "/multipart/complete"):
        yield service.call("POST", f"/v1/media{path}", key=key, json=named)


# -- handles


def test_another_owner_s_handle(service: Service) -> None:
    handle, body = upload(service, film(100))
    eve = service.new_key("eve")
    answers = list(with_handle(service, handle, key=eve))
    assert [refusal(answer) for answer in answers] == [(403, "not_your_upload")] * 5
    assert service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["status"] == "open"
    assert service.call("POST", "/v1/media/multipart/complete", json=body).status_code == 200


def test_forged_handles(service: Service) -> None:
    handle = create(service, PART).json()["upload"]
    payload, _, signature = handle.rpartition(".")
    other = Handles(["another secret " * 3], clock=lambda: 0).encode(HANDLE)
    mine = base64.urlsafe_b64encode(json.dumps([1, "local", "media/eve/x.mp4"]).encode()).decode().rstrip("=")
    for forged in (other, payload, f"{payload}.", f"{mine}.{signature}", handle[:-1], handle[1:], "x", ".", "é", "\0"):
        assert [refusal(answer) for answer in with_handle(service, forged)] == [(400, "invalid_upload")] * 5, forged


def test_an_expired_handle(service: Service) -> None:
    secrets = (service.home / "secret").read_text().split()
    expired = Handles(secrets, clock=lambda: 0).encode(HANDLE)
    assert [refusal(answer) for answer in with_handle(service, expired)] == [(410, "upload_expired")] * 5


@pytest.mark.parametrize(
    "query", ["upload=a&upload=b", "upload=", "", "Upload=a", "upload=" + "x" * 4097, "upload=" + "ก" * 4096 + "x"]
)
def test_a_query_that_names_no_upload_or_several(service: Service, query: str) -> None:
    for method, path in (("GET", "/multipart"), ("GET", "/multipart/parts"), ("DELETE", "/multipart")):
        assert refusal(service.call(method, f"/v1/media{path}?{query}")) == (422, "invalid_field")


def test_a_handle_lives_seven_days_and_no_longer() -> None:
    now = 1_700_000_000.5
    handles = Handles(SECRETS, clock=lambda: now)
    assert handles.expiry() == 1_700_000_000 + STORED_FOR
    encoded = handles.encode(HANDLE)
    now = HANDLE.expires - 0.001
    assert handles.decode(encoded, owner="local") == HANDLE
    now = HANDLE.expires
    with pytest.raises(Refused) as caught:
        handles.decode(encoded, owner="local")
    assert caught.value.problem is Problem.UPLOAD_EXPIRED


def test_of_another_owner_not_even_the_expiry_is_told() -> None:
    with pytest.raises(Refused) as caught:
        Handles(SECRETS, clock=lambda: HANDLE.expires).decode(
            Handles(SECRETS, clock=lambda: 0).encode(HANDLE), owner="eve"
        )
    assert caught.value.problem is Problem.NOT_YOUR_UPLOAD


def test_secrets_can_be_changed() -> None:
    old, new = SECRETS[0], "f" * 32
    encoded = Handles([old], clock=lambda: 0).encode(HANDLE)
    assert Handles([old, new], clock=lambda: 0).decode(encoded, owner="local") == HANDLE
    assert Handles([old], clock=lambda: 0).encode(HANDLE) != Handles([old, new], clock=lambda: 0).encode(HANDLE)
    assert _problem_of(Handles([new], clock=lambda: 0), encoded) is Problem.INVALID_UPLOAD


def test_a_handle_of_another_version() -> None:
    handles = Handles(SECRETS, clock=lambda: 0)
    for other in ([2], [1], [], {}, "x", 1, None):
        assert _problem_of(handles, handles._serializer.dumps(other)) is Problem.INVALID_UPLOAD


def test_no_altered_byte_goes_through() -> None:
    handles = Handles(SECRETS, clock=lambda: 0)
    encoded = handles.encode(HANDLE)
    for at in range(len(encoded)):
        for bit in range(7):
            altered = encoded[:at] + chr(ord(encoded[at]) ^ 1 << bit) + encoded[at + 1 :]
            _check_worthless(handles, altered)
        _check_worthless(handles, encoded[:at])
        _check_worthless(handles, encoded[:at] + encoded[at + 1 :])


@given(st.text(), st.integers(0, 400), st.integers(0, 400))
def test_no_altered_handle_goes_through(text: str, start: int, end: int) -> None:
    handles = Handles(SECRETS, clock=lambda: 0)
    encoded = handles.encode(HANDLE)
    _check_worthless(handles, encoded[:start] + text + encoded[end:])


def _check_worthless(handles: Handles, text: str) -> None:
    """The last character of a signature has two bits that mean nothing; then it is the same handle, not another."""
    try:
        assert handles.decode(text, owner="local") == HANDLE
    except Refused as refused:
        assert refused.problem is Problem.INVALID_UPLOAD  # noqa: PT017 - either way is fine


def _problem_of(handles: Handles, text: str) -> Problem:
    with pytest.raises(Refused) as caught:
        handles.decode(text, owner="local")
    return caught.value.problem


# -- part numbers and sizes

SIZE = 2 * PART + 17
LIES = [
    ({"partNumber": 0}, "invalid_field"),
    ({"partNumber": -1}, "invalid_field"),
    ({"partNumber": 10_001}, "invalid_field"),
    ({"partNumber": "1"}, "invalid_field"),
    ({"partNumber": 1.0}, "invalid_field"),
    ({"partNumber": True}, "invalid_field"),
    ({"partNumber": 4}, "wrong_part"),
    ({"partNumber": 10_000}, "wrong_part"),
    ({"partNumber": 3}, "wrong_part"),  # which is 17 bytes
    ({"size": PART - 1}, "wrong_part"),
    ({"size": PART + 1}, "wrong_part"),
    ({"size": 0}, "wrong_part"),
    ({"size": -1}, "invalid_field"),
    ({"size": 10**400}, "invalid_field"),
    ({"size": None}, "invalid_field"),
    ({"checksum": None}, "missing_checksum"),
    ({"checksum": "AAAA"}, "invalid_field"),
    ({"checksum": "AAAAAAAAAAA=\n"}, "invalid_field"),
    ({"checksum": "-_-_-_-_-_o="}, "invalid_field"),
    ({"md5": "AAAA"}, "invalid_field"),
]


@pytest.mark.parametrize(("lie", "code"), LIES, ids=lambda value: str(value)[:40])
def test_a_part_that_lies(service: Service, lie: dict[str, Any], code: str) -> None:
    part = {"partNumber": 1, "size": PART, "checksum": "AAAAAAAAAAA="} | lie
    first = create(service, SIZE, firstParts=[part])
    assert refusal(first) == (422, code)
    assert first.json()["error"]["field"].startswith("firstParts[0]")
    handle = create(service, SIZE).json()["upload"]
    answer = service.call("POST", "/v1/media/multipart/parts", json={"upload": handle, "parts": [part]})
    assert refusal(answer) == (422, code)
    assert answer.json()["error"]["field"].startswith("parts[0]")


@pytest.mark.parametrize(
    "numbers", [[], [1], [1, 2], [1, 2, 2], [1, 2, 3, 3], [1, 2, 3, 4], [0, 1, 2], [1, 2, 10_000], [1, 2, 10_001]]
)
def test_complete_with_other_parts_than_the_plan_s(service: Service, numbers: list[int]) -> None:
    handle = create(service, SIZE).json()["upload"]
    parts = [{"partNumber": number, "etag": '"x"', "checksum": "AAAAAAAAAAA="} for number in numbers]
    answer = service.call("POST", "/v1/media/multipart/complete", json={"upload": handle, "parts": parts})
    assert answer.json()["error"]["code"] in ("wrong_part", "invalid_field")
    assert service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["status"] == "open"


def test_the_field_is_the_request_s_whatever_its_order(service: Service) -> None:
    handle = create(service, SIZE).json()["upload"]
    parts: list[dict[str, Any]] = [{"partNumber": n, "etag": '"x"', "checksum": "AAAAAAAAAAA="} for n in (3, 1, 2)]
    del parts[0]["checksum"]
    answer = service.call("POST", "/v1/media/multipart/complete", json={"upload": handle, "parts": parts})
    assert (*refusal(answer), answer.json()["error"]["field"]) == (422, "missing_checksum", "parts[0].checksum")


@pytest.mark.parametrize("etag", ["\0", "\n", "é", "x" * 257, "", '"x"\r\nX: y'])
def test_an_etag_that_is_none(service: Service, etag: str) -> None:
    handle = create(service, PART).json()["upload"]
    parts = [{"partNumber": 1, "etag": etag, "checksum": "AAAAAAAAAAA="}]
    answer = service.call("POST", "/v1/media/multipart/complete", json={"upload": handle, "parts": parts})
    assert refusal(answer) == (422, "invalid_field")


@pytest.mark.parametrize("etag", ['"x"', "</ETag><ETag>", "&amp;", '"d41d8cd98f00b204e9800998ecf8427e"'])
def test_a_part_that_was_never_sent(service: Service, etag: str) -> None:
    """Not "gone", as some stores call it: the client would begin again."""
    handle = create(service, PART).json()["upload"]
    parts = [{"partNumber": 1, "etag": etag, "checksum": "AAAAAAAAAAA="}]
    answer = service.call("POST", "/v1/media/multipart/complete", json={"upload": handle, "parts": parts})
    assert refusal(answer) == (409, "part_not_stored")
    assert service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["status"] == "open"


def test_a_checksum_of_the_whole_that_lies(service: Service) -> None:
    handle, body = upload(service, film(PART + 1))
    answer = service.call("POST", "/v1/media/multipart/complete", json=body | {"checksum": "AAAAAAAAAAA="})
    assert refusal(answer) == (409, "checksum_mismatch")
    assert service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["status"] == "open"
    assert service.call("POST", "/v1/media/multipart/complete", json=body).status_code == 200


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"size": 5_000_000_000}, None),
        ({"size": 5_000_000_001}, (422, "file_too_large")),
        ({"size": 2**63 - 1}, (422, "file_too_large")),
        ({"size": 2**63}, (422, "invalid_field")),
        ({"size": 10**400}, (422, "invalid_field")),
        ({"size": 0}, (422, "invalid_field")),
        ({"size": -1}, (422, "invalid_field")),
        ({"size": 1.5}, (422, "invalid_field")),
        ({"size": "1"}, (422, "invalid_field")),
        ({"size": True}, (422, "invalid_field")),
    ],
    ids=str,
)
def test_a_size_over_the_limit_or_none(
    service: Service, more: dict[str, Any], expected: tuple[int, str] | None
) -> None:
    presigned = service.call("POST", "/v1/media/presign", json=PHOTO | more)
    created = service.call("POST", "/v1/media/multipart", json=PHOTO | more)
    for answer in (presigned, created):
        assert expected == (None if answer.status_code == 200 else refusal(answer))


@pytest.mark.parametrize("part_size", [1, PART - 1, 5 * 1024**3 + 1, 2**63 - 1])
def test_a_part_size_that_the_store_would_not_take(service: Service, part_size: int) -> None:
    assert refusal(create(service, 4_000_000_000, partSize=part_size)) == (422, "unsupported_part_size")
    assert refusal(create(service, 4_000_000_000, partSize=10**400)) == (422, "invalid_field")


def test_a_total_that_lies_is_found_out_and_deleted(service: Service, weed: LocalStore) -> None:
    """By whoever gets round the signed length: here with the store's own credentials."""
    made = create(service, PART, checksumAlgorithm="none").json()
    secrets = (service.home / "secret").read_text().split()
    upload_id = Handles(secrets, clock=lambda: 0).decode(made["upload"], owner="local").upload_id
    client = boto3.client(
        "s3",
        endpoint_url=weed.endpoint_url,
        region_name=weed.region,
        aws_access_key_id=weed.access_key,
        aws_secret_access_key=weed.secret_key,
    )
    where = {"Bucket": "bigupload-media", "Key": made["key"], "UploadId": upload_id, "PartNumber": 1}
    etag = client.upload_part(**where, Body=film(PART + 1))["ETag"]
    client.close()
    body = {"upload": made["upload"], "parts": [{"partNumber": 1, "etag": etag}]}
    for _ in range(2):
        assert refusal(service.call("POST", "/v1/media/multipart/complete", json=body)) == (422, "size_mismatch")
    assert httpx.get(made["publicUrl"], trust_env=False).status_code == 404


# -- what a signed URL is bound to


def put(url: str, content: Any, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.put(url, headers=named, content=content, trust_env=False).status_code


def test_a_signed_url_is_for_its_content_type_key_and_method(service: Service) -> None:
    made = service.call("POST", "/v1/media/presign", json=PHOTO).json()
    url = made["uploadUrl"]
    assert put(url, b"x", Content_Type="text/html") == 403
    assert put(url, b"x") == 403
    assert put(url.replace("/media/local/", "/media/eve/"), b"x", Content_Type="image/jpeg") == 403
    assert put(url.replace(".jpg?", ".exe?"), b"x", Content_Type="image/jpeg") == 403
    assert put(url, b"x", Content_Type="image/jpeg", x_amz_acl="public-read-write") == 403
    assert httpx.delete(url, headers={"Content-Type": "image/jpeg"}, trust_env=False).status_code == 403
    assert httpx.get(made["publicUrl"], trust_env=False).status_code == 404
    assert put(url, b"x", Content_Type="image/jpeg") == 200


def test_a_size_that_was_told_is_bound(service: Service) -> None:
    url = service.call("POST", "/v1/media/presign", json=PHOTO | {"size": 100}).json()["uploadUrl"]
    for content in (bytes(99), bytes(101), b"", iter([bytes(100)])):  # the last: in chunks, of no length
        assert put(url, content, Content_Type="image/jpeg") in (400, 403, 411)
    assert put(url, bytes(100), Content_Type="image/jpeg") == 200


def test_a_part_s_url_is_bound_to_its_length_checksum_and_number(service: Service) -> None:
    pieces = cut(film(SIZE))
    made = create(service, SIZE, firstParts=described(pieces, Algorithm.CRC64NVME)).json()
    first, second, _ = made["signed"]
    assert put(first["url"], pieces[0] + b"x", **first["headers"]) in (400, 403)
    assert put(first["url"], pieces[0][1:], **first["headers"]) in (400, 403)
    assert put(first["url"], bytes(PART), **first["headers"]) == 400  # another content of that length
    assert put(first["url"], pieces[0]) == 403  # the checksum was signed
    assert put(first["url"], pieces[1], **second["headers"]) == 403
    assert put(first["url"].replace("partNumber=1", "partNumber=9"), pieces[0], **first["headers"]) == 403
    listed = service.call("GET", "/v1/media/multipart/parts", params={"upload": made["upload"]})
    assert listed.json()["parts"] == []
    send(made["signed"], pieces)


def test_the_bucket_is_open_for_reading_what_is_known_and_for_nothing_else(service: Service) -> None:
    made = service.call("POST", "/v1/media/presign", json=PHOTO).json()
    assert put(made["uploadUrl"], b"x", Content_Type="image/jpeg") == 200
    url = made["publicUrl"]
    bucket = url.removesuffix(made["key"])
    assert httpx.get(url, trust_env=False).content == b"x"
    tried = [
        ("GET", bucket + query) for query in ("", "?list-type=2", "?uploads", "?policy", "?versions", "?lifecycle")
    ]
    tried += [("PUT", url), ("DELETE", url), ("POST", f"{url}?uploads"), ("POST", f"{bucket}?delete"), ("PUT", bucket)]
    for method, target in tried:
        assert httpx.request(method, target, content=b"y", trust_env=False).status_code == 403, (method, target)
    assert httpx.get(url, trust_env=False).content == b"x"


def test_what_is_complete_can_t_be_aborted(service: Service) -> None:
    handle, body = upload(service, film(PART))
    url = service.call("POST", "/v1/media/multipart/complete", json=body).json()["publicUrl"]
    assert service.call("DELETE", "/v1/media/multipart", params={"upload": handle}).status_code == 204
    assert httpx.get(url, trust_env=False).content == film(PART)
    assert service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["status"] == "completed"


@pytest.mark.parametrize(("data", "status", "code"), [(film(PART), 200, None), (bytes(PART), 422, "not_media")])
def test_several_completes_at_once_are_answered_the_same(
    service: Service, data: bytes, status: int, code: str | None
) -> None:
    _, body = upload(service, data)
    with ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(service.call, "POST", "/v1/media/multipart/complete", json=body) for _ in range(6)]
    answers = [call.result() for call in calls]
    assert {(answer.status_code, answer.json().get("error", {}).get("code")) for answer in answers} == {(status, code)}


async def test_a_complete_that_comes_second_tells_what_the_first_one_found(service: Service, weed: LocalStore) -> None:
    """When it looks, the object is deleted already."""
    handle, body = upload(service, bytes(PART))
    assert service.call("POST", "/v1/media/multipart/complete", json=body).status_code == 422
    handles = Handles((service.home / "secret").read_text().split(), clock=lambda: 0)
    reached = S3Options(
        endpoint_url=weed.endpoint_url, region=weed.region, access_key=weed.access_key, secret_key=weed.secret_key
    )
    async with contextlib.aclosing(S3Bucket("bigupload-media", reached)) as bucket:
        facts = ObjectFacts(size=PART, etag='"x"')
        with pytest.raises(Refused) as caught:
            await MediaUploads(bucket, handles)._judged(handles.decode(handle, owner="local"), facts)
    assert caught.value.problem is Problem.NOT_MEDIA


# -- names and types


@pytest.mark.parametrize(
    "filename",
    [
        "../../../etc/passwd.jpg",
        "/etc/cron.d/x.jpg",
        "..\\..\\x.jpg",
        "C:\\x.jpg",
        "media/eve/0123456789abcdef0123456789abcdef.jpg",
        "%2e%2e%2fx.jpg",
        "x.exe.jpg",
        "<script>alert(1)</script>.jpg",
        "';drop table uploads;--.jpg",
        "$(reboot).jpg",
        "{0.__class__}.jpg",
        "\N{GRINNING FACE}.JPG",
        "x" * 1020 + ".jpg",
    ],
)
def test_of_a_file_name_only_the_type_is_used(service: Service, filename: str) -> None:
    answer = service.call("POST", "/v1/media/presign", json=PHOTO | {"filename": filename})
    assert answer.status_code == 200
    prefix, owner, name = answer.json()["key"].split("/")
    stem, _, extension = name.partition(".")
    assert (prefix, owner, len(stem), extension) == ("media", "local", 32, "jpg")
    assert int(stem, 16) >= 0


@pytest.mark.parametrize(
    "filename",
    [
        "x.jpg\r\nSet-Cookie: a=b",
        "x\r\nSet-Cookie: a=b.jpg",
        "x\0.jpg",
        "x.exe\0.jpg",
        "x\x7f.jpg",
        "x\x85.jpg",
        "gpj.\u202eexe.jpg",
        "x\u2028.jpg",
        "x.exe",
        "x.jpg.exe",
        "x.jpg/",
        "x.jpg.",
        "x.jpg ",
        ".jpg",
        "/.jpg",
        "jpg",
        "x.svg",
        "x.html",
        "x.jp\u0261",
        "..",
    ],
)
def test_a_file_name_that_is_refused(service: Service, filename: str) -> None:
    for path in ("/v1/media/presign", "/v1/media/multipart"):
        answer = service.call("POST", path, json=PHOTO | {"filename": filename, "size": 1})
        assert (*refusal(answer), answer.json()["error"]["field"]) == (422, "unsupported_media", "filename")


@pytest.mark.parametrize(
    "content_type",
    [
        "image/jpeg\r\nX-Evil: 1",
        "image/jpeg\n",
        "image/jpeg\0",
        "image/jpeg, text/html",
        "image/jpeg text/html",
        "image/jpeg;\r\n charset=x",
        "image/jpeg; é",
        "image/png",
        "image/svg+xml",
        "text/html",
        "image/*",
        "*/*",
        "image",
        "/",
        " ",
    ],
)
def test_a_content_type_that_is_refused(service: Service, content_type: str) -> None:
    for path in ("/v1/media/presign", "/v1/media/multipart"):
        answer = service.call("POST", path, json=PHOTO | {"contentType": content_type, "size": 1})
        assert (*refusal(answer), answer.json()["error"]["field"]) == (422, "unsupported_media", "contentType")


@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "IMAGE/JPEG", "image/jpg", 'image/jpeg; a="b"', " image/jpeg\t"]
)
def test_a_content_type_is_sent_as_it_was_told(service: Service, content_type: str) -> None:
    made = service.call("POST", "/v1/media/presign", json=PHOTO | {"contentType": content_type}).json()
    assert put(made["uploadUrl"], b"x", Content_Type=content_type.strip()) == 200


POLYGLOTS = {
    "exe": b"MZ\x90\x00" + bytes(200),
    "elf": b"\x7fELF" + bytes(200),
    "script": b"#!/bin/sh\nreboot\n",
    "html": b"<!doctype html><script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "pdf": b"%PDF-1.7\n" + bytes(100),
    "zip, then a picture": b"PK\x03\x04" + sample("jpg"),
    "GIF of six bytes, then JavaScript": b"GIF89a/*" + bytes(100) + b"*/=1;alert(1)//",
    "GIF that ends at once, then HTML": b"GIF89a\x01\x00\x01\x00\x00\x00\x00;<script>alert(1)</script>",
    "JPEG of three bytes, then PHP": b"\xff\xd8\xff<?php system($_GET[0]); ?>" + bytes(100),
    "JPEG of four bytes, then an exe": b"\xff\xd8\xff\xe0MZ\x90\x00" + bytes(100),
    "PNG signature, then HTML": b"\x89PNG\r\n\x1a\n<script>alert(1)</script>" + bytes(100),
    "RIFF that is sound": b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100),
    "HEIC": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100),
    "M4A": b"\x00\x00\x00\x18ftypM4A \x00\x00\x00\x00M4A mp42" + bytes(100),
    "Matroska": sample("mkv")[:4096],
    "nothing": b"",
}


@pytest.mark.parametrize("name", POLYGLOTS)
@pytest.mark.parametrize("claim", ["jpg", "png", "gif", "webp", "mp4", "mov", "webm"])
def test_polyglots(service: Service, name: str, claim: str) -> None:
    kinds = {"jpg": "image/jpeg", "mp4": "video/mp4", "mov": "video/quicktime", "webm": "video/webm"}
    head = base64.b64encode(POLYGLOTS[name]).decode()
    body = {"filename": f"x.{claim}", "contentType": kinds.get(claim, f"image/{claim}"), "size": 10_000, "head": head}
    assert refusal(service.call("POST", "/v1/media/multipart", json=body)) == (422, "not_media")


def test_a_head_that_was_honest_does_not_excuse_the_rest(service: Service) -> None:
    data = POLYGLOTS["exe"] + bytes(PART)
    made = create(
        service,
        len(data),
        head=base64.b64encode(sample("mp4")[:4096]).decode(),
        firstParts=described(cut(data), Algorithm.CRC64NVME),
    ).json()
    etags = send(made["signed"], cut(data))
    rows = [
        {"partNumber": part["partNumber"], "etag": etag, "checksum": part["checksum"]}
        for part, etag in zip(described(cut(data), Algorithm.CRC64NVME), etags, strict=True)
    ]
    body = {"upload": made["upload"], "parts": rows}
    assert refusal(service.call("POST", "/v1/media/multipart/complete", json=body)) == (422, "not_media")
    assert httpx.get(made["publicUrl"], trust_env=False).status_code == 404


# -- bodies


def send_body(service: Service, body: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.call("POST", "/v1/media/presign", content=body, headers={"Content-Type": "application/json"} | named)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "invalid_json")),
        (b"null", (400, "invalid_json")),
        (b"[]", (400, "invalid_json")),
        (b'"x"', (400, "invalid_json")),
        (b"{", (400, "invalid_json")),
        (b"{}{}", (400, "invalid_json")),
        (b"\xff\xfe", (400, "invalid_json")),
        (b"\0" * 100, (400, "invalid_json")),
        (b"[" * 60_000, (400, "invalid_json")),
        (b'{"a":' * 10_000, (400, "invalid_json")),
        (b'{"filename": "\\ud800.jpg", "contentType": "image/jpeg"}', (400, "invalid_json")),
        (b'{"filename": "\xed\xa0\x80.jpg", "contentType": "image/jpeg"}', (400, "invalid_json")),
        (b'{"filename": "a.jpg", "contentType": "image/jpeg", "size": 1' + b"0" * 5000 + b"}", (400, "invalid_json")),
        (b'{"filename": "a.jpg", "contentType": "image/jpeg", "size": NaN}', (422, "invalid_field")),
        (b'{"filename": "a.jpg", "contentType": "image/jpeg", "size": Infinity}', (422, "invalid_field")),
        (b'{"filename": "a.jpg", "contentType": "image/jpeg", "size": 1e400}', (422, "invalid_field")),
        (b'{"filename": "a.jpg", "content_type": "image/jpeg"}', (422, "invalid_field")),
        (b'{"filename": ["a.jpg"], "contentType": "image/jpeg"}', (422, "invalid_field")),
        (b'{"filename": null, "contentType": null}', (422, "invalid_field")),
        (b'{"filename": "", "contentType": ""}', (422, "invalid_field")),
    ],
    ids=lambda given: given[:30].decode(errors="replace") if isinstance(given, bytes) else "",
)
def test_bodies(service: Service, body: bytes, expected: tuple[int, str]) -> None:
    assert refusal(send_body(service, body)) == expected


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"]
)
def test_another_content_type_of_the_body(service: Service, kind: str) -> None:
    assert refusal(send_body(service, b"{}", Content_Type=kind)) == (415, "unsupported_content_type")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"])
def test_a_compressed_body_is_not_unpacked(service: Service, coding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    assert refusal(send_body(service, bomb, Content_Encoding=coding)) == (415, "unsupported_content_type")


def test_a_megabyte_of_json(service: Service) -> None:
    body = json.dumps(PHOTO | {"x": "x" * 1024 * 1024}).encode()
    answer = send_body(service, body)
    assert refusal(answer) == (413, "body_too_large")
    assert answer.headers["Connection"] == "close"
    assert send_body(service, json.dumps(PHOTO | {"x": "x" * 60_000}).encode()).status_code == 200


def test_what_is_too_long_is_not_waited_for(service: Service) -> None:
    """The rest of it never comes, and the connection is closed all the same."""
    head = _head(service, "POST /v1/media/presign")
    announced = _connect(service, head + b"Content-Length: 1000000\r\n\r\n" + bytes(70_000))
    chunked = _connect(service, head + b"Transfer-Encoding: chunked\r\n\r\n11170\r\n" + bytes(70_000))
    unannounced = _connect(service, b"POST /v1/media/presign HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    for connection, status in ((announced, 413), (chunked, 413), (unannounced, 401)):
        assert _rest(connection).startswith(f"HTTP/1.1 {status} ".encode())


async def test_a_body_that_breaks_off(service: Service) -> None:
    """Nobody is left to be answered; the log calls it the client's fault, and no bug."""

    def cut_off() -> int:
        return sum(line.get("code") == "invalid_json" for line in log_lines(service.log()))

    before = cut_off()
    connection = _connect(service, _head(service, "POST /v1/media/presign") + b"Content-Length: 100\r\n\r\n{")
    connection.shutdown(socket.SHUT_WR)
    _rest(connection)
    await until(lambda: cut_off() == before + 1)


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer sk_{key}\0",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: -1",
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked, x",
        "X: {key}\r\n\x01Y: y",
        "Authorization : Bearer {key}",
        "X: " + "x" * 100_000,
    ],
)
def test_what_is_no_http_is_a_bad_request_and_no_secret_of_it_is_logged(service: Service, line: str) -> None:
    head = f"POST /v1/media/presign?key={service.key} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.key}\r\n"
    whole = f"{head}{line.replace('{key}', service.key)}\r\n\r\n".encode()
    assert _rest(_connect(service, whole)).split()[1] == b"400"
    assert what_is_wrong(service.log()) == []


def _head(service: Service, request: str) -> bytes:
    headers = f"Host: x\r\nAuthorization: Bearer {service.key}\r\nContent-Type: application/json\r\n"
    return f"{request} HTTP/1.1\r\n{headers}".encode()


def _connect(service: Service, data: bytes) -> socket.socket:
    to = urlsplit(service.url)
    connection = socket.create_connection((to.hostname, to.port or 0), timeout=30)
    connection.sendall(data)
    return connection


def _rest(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    received = b""
    with connection:
        try:
            while more := connection.recv(65536):
                received += more
        except ConnectionResetError:
            pass
    return received


# -- keys


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_key"),
        ("", "missing_key"),
        ("Bearer", "missing_key"),
        ("Basic {key}", "missing_key"),
        ("{key}", "missing_key"),
        ("Bearer: {key}", "missing_key"),
        ("Bearer sk_", "invalid_key"),
        ("Bearer {key}x", "invalid_key"),
        ("Bearer {key} {key}", "invalid_key"),
        ("Bearer {less}", "invalid_key"),
        ("Bearer *", "invalid_key"),
        ("Bearer \xe9\xff", "invalid_key"),
        ("Bearer " + "x" * 7000, "invalid_key"),
    ],
)
def test_no_key_or_none_of_ours(service: Service, header: str | None, code: str) -> None:
    headers = [] if header is None else [(b"Authorization", header.format(key=service.key, less=service.key[:-1]))]
    encoded = [(name, value.encode("latin-1")) for name, value in headers]
    for endpoint in ENDPOINTS:
        answer = httpx.request(endpoint.method, service.url + endpoint.path, headers=encoded, trust_env=False)
        assert refusal(answer) == (401, code)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_elsewhere_than_in_the_header(service: Service) -> None:
    answer = httpx.post(
        f"{service.url}/v1/media/presign",
        params={"key": service.key, "api_key": service.key, "access_token": service.key},
        headers={"X-Api-Key": service.key, "Cookie": f"key={service.key}"},
        json=PHOTO | {"apiKey": service.key},
        trust_env=False,
    )
    assert refusal(answer) == (401, "missing_key")
    assert what_is_wrong(service.log()) == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_scheme_in_any_case(service: Service, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {service.key}"}
    assert httpx.post(f"{service.url}/v1/media/presign", json=PHOTO, headers=headers, trust_env=False).is_success


def test_a_revoked_key_is_refused_at_once(service: Service) -> None:
    key = service.new_key("leaver")
    made = create(service, PART, key=key)
    assert made.status_code == 200
    service.revoke(key)
    assert refusal(create(service, PART, key=key)) == (401, "invalid_key")
    answers = list(with_handle(service, made.json()["upload"], key=key))
    assert [refusal(answer) for answer in answers] == [(401, "invalid_key")] * 5
    again = service.new_key("leaver")  # the upload is the owner's, not the key's
    status = service.call("GET", "/v1/media/multipart", key=again, params={"upload": made.json()["upload"]})
    assert status.json()["status"] == "open"


# -- limits


@pytest.fixture(scope="module")
def strict(weed: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One request in ten seconds, one upload at once."""
    home = tmp_path_factory.mktemp("strict")
    with serving(weed, home, "--requests", "0.1", "--open-uploads", "1", "--sweep-every", "0") as running:
        yield running
        assert what_is_wrong(running.log()) == []


def another_key(service: Service, owner: str) -> str:
    return KeyFile(Path(service.home, "keys.json")).create(owner)[1]


def test_too_many_requests_of_one_key(strict: Service) -> None:
    eager, other = another_key(strict, "eager"), another_key(strict, "eager")
    assert strict.call("POST", "/v1/media/presign", key=eager, json=PHOTO).status_code == 200
    for _ in range(3):
        answer = strict.call("POST", "/v1/media/presign", key=eager, json=PHOTO)
        assert refusal(answer) == (429, "rate_limited")
        assert 1 <= int(answer.headers["Retry-After"]) <= 10
    assert strict.call("POST", "/v1/media/presign", key=other, json=PHOTO).status_code == 200


def test_too_many_uploads_of_one_owner(strict: Service) -> None:
    first, *others = [another_key(strict, "hoarder") for _ in range(4)]
    handle = create(strict, PART, key=first).json()["upload"]
    refused = create(strict, PART, key=others[0])
    assert refusal(refused) == (429, "too_many_uploads")
    assert int(refused.headers["Retry-After"]) > 0
    assert create(strict, PART, key=another_key(strict, "hoarder2")).status_code == 200
    assert strict.call("DELETE", "/v1/media/multipart", key=others[1], params={"upload": handle}).status_code == 204
    assert create(strict, PART, key=others[2]).status_code == 200


# -- the service as somebody's way in


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.0.2",
        "localhost",
        "LOCALHOST.",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:0001]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "127。0。0。1",
        "①②⑦.⓪.⓪.①",
        "user@127.0.0.1",
        "example.com@127.0.0.1",
    ],
)
def test_private_addresses_are_not_fetched(service: Service, posts_api: HttpStub, host: str) -> None:
    posts_api.answers["/a.jpg"] = Answer(headers={"Content-Type": "image/jpeg"}, body=sample("jpg"))
    url = f"http://{host}:{urlsplit(posts_api.url).port}/a.jpg"
    answer = service.call("POST", "/v1/media/check", json={"url": url})
    assert (answer.status_code, answer.json()["usable"]) == (200, False)
    assert answer.json()["error"]["code"] in ("not_public", "not_a_url")
    assert posts_api.received == []


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://10.0.0.1/a.jpg",
        "http://192.168.1.1/a.jpg",
        "http://100.64.0.1/a.jpg",
        "http://[fe80::1%25eth0]/a.jpg",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "http://a\r\nHost: b/",
        "http://127.0.0.1\\@example.com/",
    ],
)
def test_other_ways_in(service: Service, url: str) -> None:
    answer = service.call("POST", "/v1/media/check", json={"url": url})
    assert answer.json()["error"]["code"] in ("not_public", "not_a_url")


# -- methods and paths


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "PROPFIND"])
def test_other_methods(service: Service, method: str) -> None:
    for path in {endpoint.path for endpoint in ENDPOINTS}:
        answer = service.call(method, path)
        allowed = {endpoint.method for endpoint in ENDPOINTS if endpoint.path == path}
        assert (answer.status_code, set(answer.headers["Allow"].split(","))) == (405, allowed)
        assert method == "HEAD" or refusal(answer) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    "path",
    [
        "/page/../app.py",
        "/page/..%2fapp.py",
        "/page/%2e%2e/app.py",
        "/page/..%5capp.py",
        "/page//etc/passwd",
        "/page/%2fetc%2fpasswd",
        "/page/index.html%00.js",
        "/page/.",
        "/page/",
        "/page",
        "//etc/passwd",
        "/v1",
        "/v1/media/presign/",
        "/v1/media/",
        "/V1/MEDIA/PRESIGN",
        "/.git/config",
        "/%",
        "/%ff",
        "/" + "x" * 4000,
    ],
)
def test_no_such_path(service: Service, path: str) -> None:
    received = _rest(_connect(service, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()))
    head, _, body = received.partition(b"\r\n\r\n")
    assert (head.split()[1], json.loads(body)["error"]["code"]) == (b"404", "not_found")
    assert b"\r\nX-Content-Type-Options: nosniff" in head


@pytest.mark.parametrize("host", [b"", b"a b", b"[", b"x:99999", b"\xff", b"</script>", b"x" * 5000, b"x, y"])
@pytest.mark.parametrize("path", [b"/", b"/openapi.json", b"/healthz", b"/metrics", b"http://evil/openapi.json"])
def test_whatever_host_is_asked_for(service: Service, host: bytes, path: bytes) -> None:
    request = b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
    answer = _rest(_connect(service, request))
    assert answer.split()[1] == b"200"
    assert b"evil" not in answer


def test_nothing_secret_is_logged(service: Service) -> None:
    """Wherever a client puts its key, a signed URL or a handle. (What else is tested is looked at when it ends.)"""
    made = create(service, PART, firstParts=described([film(PART)], Algorithm.CRC64NVME)).json()
    secrets = [service.key, made["upload"], made["signed"][0]["url"]]
    for secret in secrets:
        service.call("GET", f"/{secret.rpartition('/')[2]}", params={secret[:50]: secret, "upload": secret})
        service.call(
            "GET", "/v1/media/multipart", params={"upload": secret}, headers={"X-Request-Id": "x", "A": secret}
        )
        service.call("POST", "/v1/media/presign", json={"filename": f"{secret}.jpg", "contentType": secret[:99]})
        service.call("POST", "/v1/media/check", json={"url": secret})
        service.call("POST", "/v1/media/presign", key=secret, content=secret, headers={"User-Agent": secret})
    log = service.log()
    assert len(list(log_lines(log))) > 15
    assert not any(secret in log or secret[20:60] in log for secret in secrets)
    assert what_is_wrong(log) == []
