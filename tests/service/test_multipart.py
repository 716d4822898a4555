"""Uploads in parts through the running service into SeaweedFS, call by call."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from bigupload.core import checksums
from bigupload.core.checksums import UPLOAD_ALGORITHMS, Algorithm
from tests.tools.service import Service

MIB = 1024 * 1024
PART = 5 * MIB
MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + b"\x00\x00\x00\x10moov\x00\x00\x00\x08mvhd"


def film(size: int) -> bytes:
    """Begins with the file type and the index of an MP4."""
    return (MP4 + bytes(range(256)) * (size // 256 + 1))[:size]


def cut(data: bytes, part_size: int = PART) -> list[bytes]:
    return [data[at : at + part_size] for at in range(0, len(data), part_size)]


def described(pieces: Sequence[bytes], algorithm: Algorithm) -> list[dict[str, Any]]:
    """As the service wants its parts, from part 1."""
    return [
        {"partNumber": number, "size": len(piece)}
        | ({} if algorithm is Algorithm.NONE else {"checksum": digest(algorithm, piece)})
        for number, piece in enumerate(pieces, 1)
    ]


def digest(algorithm: Algorithm, data: bytes) -> str:
    return checksums.encode(checksums.digest_of(algorithm, data))


def create(service: Service, size: int, *, key: str | None = None, **more: Any) -> httpx.Response:
    body = {"filename": "movie.mp4", "contentType": "video/mp4", "size": size, "partSize": PART} | more
    return service.call("POST", "/v1/media/multipart", key=key, json=body)


def send(signed: Sequence[dict[str, Any]], pieces: Sequence[bytes]) -> list[str]:
    """PUT the parts; their ETags."""
    etags = []
    for request, piece in zip(signed, pieces, strict=True):
        response = httpx.put(request["url"], headers=request["headers"], content=piece, trust_env=False)
        assert response.status_code == 200, response.text
        etags.append(response.headers["ETag"])
    return etags


def upload(service: Service, data: bytes, algorithm: Algorithm = Algorithm.CRC64NVME) -> tuple[str, dict[str, Any]]:
    """All but complete: the handle, and the body for that."""
    pieces = cut(data)
    parts = described(pieces, algorithm)
    made = create(service, len(data), checksumAlgorithm=algorithm.value, firstParts=parts)
    assert made.status_code == 200, made.text
    etags = send(made.json()["signed"], pieces)
    rows = [
        {name: value for name, value in part.items() if name != "size"} | {"etag": etag}
        for part, etag in zip(parts, etags, strict=True)
    ]
    if algorithm is Algorithm.MD5:
        rows = [{name: value for name, value in row.items() if name != "checksum"} for row in rows]
    handle = made.json()["upload"]
    return handle, {"upload": handle, "parts": rows}


@pytest.mark.parametrize("algorithm", UPLOAD_ALGORITHMS)
@pytest.mark.parametrize("size", [2 * PART + 17, 1, PART, PART + 1])
@pytest.mark.exhaustive
def test_an_upload_in_parts(service: Service, algorithm: Algorithm, size: int) -> None:
    data = film(max(size, 64)) if size < 64 else film(size)
    handle, body = upload(service, data, algorithm)
    parts = service.call("GET", "/v1/media/multipart/parts", params={"upload": handle}).json()["parts"]
    assert [(p["partNumber"], p["size"]) for p in parts] == [(n, len(p)) for n, p in enumerate(cut(data), 1)]
    assert service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["status"] == "open"

    done = service.call("POST", "/v1/media/multipart/complete", json=body)

    assert done.status_code == 200, done.text
    assert done.json()["size"] == len(data)
    if algorithm is Algorithm.CRC64NVME:
        assert done.json()["checksum"] == digest(algorithm, data)
        assert done.json()["checksumType"] == "FULL_OBJECT"
    got = httpx.get(done.json()["publicUrl"], trust_env=False)
    assert got.content == data
    assert got.headers["Content-Type"] == "video/mp4"
    again = service.call("POST", "/v1/media/multipart/complete", json=body)
    assert (again.status_code, again.json()["publicUrl"]) == (200, done.json()["publicUrl"])
    status = service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()
    assert status["status"] == "completed"
    assert status["completed"]["etag"] == done.json()["etag"]


def test_what_is_not_media_is_refused_before_it_is_sent(service: Service) -> None:
    response = create(service, 10 * MIB, head=base64.b64encode(b"MZ\x90\x00" + bytes(100)).decode())
    assert (response.status_code, response.json()["error"]["code"]) == (422, "not_media")


def test_what_is_not_media_is_deleted_at_complete_and_the_refusal_is_repeated(service: Service) -> None:
    handle, body = upload(service, b"MZ\x90\x00" + bytes(PART + 1000))
    for _ in range(2):
        response = service.call("POST", "/v1/media/multipart/complete", json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (422, "not_media")
    status = service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()
    assert (status["status"], status["error"]["code"]) == ("gone", "not_media")


def test_an_aborted_upload_is_gone(service: Service) -> None:
    handle, body = upload(service, film(PART + 1))
    for _ in range(2):
        assert service.call("DELETE", "/v1/media/multipart", params={"upload": handle}).status_code == 204
    assert service.call("GET", "/v1/media/multipart", params={"upload": handle}).json()["status"] == "gone"
    response = service.call("POST", "/v1/media/multipart/complete", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "upload_gone")
