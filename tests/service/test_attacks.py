"""What a hostile or careless client tries with the right to upload: sizes, parts, signed URLs, completes."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import httpx
import pytest

from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import ObjectFacts
from bigupload.service.access.handles import Handles
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.uploads import MediaUploads
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3.bucket import S3Bucket
from tests.service.test_multipart import PART, create, cut, described, film, send, upload
from tests.tools.buckets import options_for
from tests.tools.cases import each_case
from tests.tools.service import Service

PHOTO = {"filename": "photo.jpg", "contentType": "image/jpeg"}


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


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
@pytest.mark.exhaustive
def test_a_part_that_lies(service: Service, lie: dict[str, Any], code: str) -> None:
    part = {"partNumber": 1, "size": PART, "checksum": "AAAAAAAAAAA="} | lie
    first = create(service, SIZE, firstParts=[part])
    assert refusal(first) == (422, code)
    assert first.json()["error"]["field"].startswith("firstParts[0]")
    handle = create(service, SIZE).json()["upload"]
    response = service.call("POST", "/v1/media/multipart/parts", json={"upload": handle, "parts": [part]})
    assert refusal(response) == (422, code)
    assert response.json()["error"]["field"].startswith("parts[0]")


@each_case(
    "numbers", [[], [1], [1, 2], [1, 2, 2], [1, 2, 3, 3], [1, 2, 3, 4], [0, 1, 2], [1, 2, 10_000], [1, 2, 10_001]]
)
def test_complete_with_other_parts_than_the_plan_s(service: Service, numbers: list[int]) -> None:
    handle = create(service, SIZE).json()["upload"]
    parts = [{"partNumber": number, "etag": '"x"', "checksum": "AAAAAAAAAAA="} for number in numbers]
    response = service.call("POST", "/v1/media/multipart/complete", json={"upload": handle, "parts": parts})
    assert response.json()["error"]["code"] in ("wrong_part", "invalid_field")
    assert service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["status"] == "open"


def test_the_field_is_the_request_s_whatever_its_order(service: Service) -> None:
    handle = create(service, SIZE).json()["upload"]
    parts: list[dict[str, Any]] = [{"partNumber": n, "etag": '"x"', "checksum": "AAAAAAAAAAA="} for n in (3, 1, 2)]
    del parts[0]["checksum"]
    response = service.call("POST", "/v1/media/multipart/complete", json={"upload": handle, "parts": parts})
    assert (*refusal(response), response.json()["error"]["field"]) == (422, "missing_checksum", "parts[0].checksum")


@pytest.mark.parametrize("etag", ["\0", "\n", "é", "x" * 257, "", '"x"\r\nX: y'])
def test_an_etag_that_is_none(service: Service, etag: str) -> None:
    handle = create(service, PART).json()["upload"]
    parts = [{"partNumber": 1, "etag": etag, "checksum": "AAAAAAAAAAA="}]
    response = service.call("POST", "/v1/media/multipart/complete", json={"upload": handle, "parts": parts})
    assert refusal(response) == (422, "invalid_field")


@pytest.mark.parametrize("etag", ['"x"', "</ETag><ETag>", "&amp;", '"d41d8cd98f00b204e9800998ecf8427e"'])
def test_a_part_that_was_never_sent(service: Service, etag: str) -> None:
    """Not "gone", as some stores call it: the client would begin again."""
    handle = create(service, PART).json()["upload"]
    parts = [{"partNumber": 1, "etag": etag, "checksum": "AAAAAAAAAAA="}]
    response = service.call("POST", "/v1/media/multipart/complete", json={"upload": handle, "parts": parts})
    assert refusal(response) == (409, "part_not_stored")
    assert service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["status"] == "open"


def test_a_checksum_of_the_whole_that_lies(service: Service) -> None:
    handle, body = upload(service, film(PART + 1))
    response = service.call("POST", "/v1/media/multipart/complete", json=body | {"checksum": "AAAAAAAAAAA="})
    assert refusal(response) == (409, "checksum_mismatch")
    assert service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["status"] == "open"
    assert service.call("POST", "/v1/media/multipart/complete", json=body).status_code == 200


@each_case(
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
)
def test_a_size_over_the_limit_or_none(
    service: Service, more: dict[str, Any], expected: tuple[int, str] | None
) -> None:
    presigned = service.call("POST", "/v1/media/presign", json=PHOTO | more)
    created = service.call("POST", "/v1/media/multipart", json=PHOTO | more)
    for response in (presigned, created):
        assert expected == (None if response.status_code == 200 else refusal(response))


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
    where = {"Bucket": service.bucket, "Key": made["key"], "UploadId": upload_id, "PartNumber": 1}
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


# -- complete


def test_what_is_complete_can_t_be_aborted(service: Service) -> None:
    handle, body = upload(service, film(PART))
    url = service.call("POST", "/v1/media/multipart/complete", json=body).json()["publicUrl"]
    assert service.call("DELETE", "/v1/media/multipart", params={"upload": handle}).status_code == 204
    assert httpx.get(url, trust_env=False).content == film(PART)
    assert service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["status"] == "completed"


@pytest.mark.parametrize(("data", "status", "code"), [(film(PART), 200, None), (bytes(PART), 422, "not_media")])
def test_several_completes_at_once_get_responses_the_same(
    service: Service, data: bytes, status: int, code: str | None
) -> None:
    _, body = upload(service, data)
    with ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(service.call, "POST", "/v1/media/multipart/complete", json=body) for _ in range(6)]
    responses = [call.result() for call in calls]
    assert {(response.status_code, response.json().get("error", {}).get("code")) for response in responses} == {
        (status, code)
    }


async def test_a_complete_that_comes_second_tells_what_the_first_one_found(service: Service, weed: LocalStore) -> None:
    """When it looks, the object is deleted already."""
    handle, body = upload(service, bytes(PART))
    assert service.call("POST", "/v1/media/multipart/complete", json=body).status_code == 422
    handles = Handles((service.home / "secret").read_text().split(), clock=lambda: 0)
    reached = options_for(weed)
    async with contextlib.aclosing(S3Bucket(service.bucket, reached)) as bucket:
        facts = ObjectFacts(size=PART, etag='"x"')
        with pytest.raises(Refused) as caught:
            await MediaUploads(bucket, handles).judged(handles.decode(handle, owner="local"), facts)
    assert caught.value.problem is Problem.NOT_MEDIA
