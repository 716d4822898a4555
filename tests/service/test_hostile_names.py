"""What a hostile or careless client tries with the right to upload: file names, content types, polyglots."""

from __future__ import annotations

import base64

import httpx
import pytest

from bigupload.core.checksums import Algorithm
from tests.service.test_attacks import PHOTO, put, refusal
from tests.service.test_multipart import PART, create, cut, described, send
from tests.tools.cases import each_case
from tests.tools.media import sample
from tests.tools.service import Service


@each_case(
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
    response = service.call("POST", "/v1/media/presign", json=PHOTO | {"filename": filename})
    assert response.status_code == 200
    prefix, owner, name = response.json()["key"].split("/")
    stem, _, extension = name.partition(".")
    assert (prefix, owner, len(stem), extension) == ("media", "local", 32, "jpg")
    assert int(stem, 16) >= 0


@pytest.mark.parametrize("field", ["filename", "contentType"])
def test_what_says_nothing_of_a_type_on_the_list_is_refused(service: Service, field: str) -> None:
    """`test_media` has many such names and types."""
    for path in ("/v1/media/presign", "/v1/media/multipart"):
        response = service.call("POST", path, json=PHOTO | {field: "x.exe", "size": 1})
        assert (*refusal(response), response.json()["error"]["field"]) == (422, "unsupported_media", field)


@each_case("content_type", ["image/jpeg", "IMAGE/JPEG", "image/jpg", 'image/jpeg; a="b"', " image/jpeg\t"])
def test_a_content_type_is_sent_as_it_was_told(service: Service, content_type: str) -> None:
    made = service.call("POST", "/v1/media/presign", json=PHOTO | {"contentType": content_type}).json()
    assert put(made["uploadUrl"], b"x", Content_Type=content_type.strip()) == 200


def test_a_head_that_was_honest_does_not_excuse_the_rest(service: Service) -> None:
    data = b"MZ\x90\x00" + bytes(PART)
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
