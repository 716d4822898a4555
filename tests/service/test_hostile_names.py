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


@each_case(
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
        response = service.call("POST", path, json=PHOTO | {"filename": filename, "size": 1})
        assert (*refusal(response), response.json()["error"]["field"]) == (422, "unsupported_media", "filename")


@each_case(
    "content_type",
    [
        "image/jpeg\r\nX-Evil: 1",
        "image/jpeg\n",
        "image/jpeg\0",
        "image/jpeg, text/html",
        "image/jpeg;a=b,text/html",
        'image/jpeg;a="b,c" , text/html;x',
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
        response = service.call("POST", path, json=PHOTO | {"contentType": content_type, "size": 1})
        assert (*refusal(response), response.json()["error"]["field"]) == (422, "unsupported_media", "contentType")


@each_case("content_type", ["image/jpeg", "IMAGE/JPEG", "image/jpg", 'image/jpeg; a="b"', " image/jpeg\t"])
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
@pytest.mark.exhaustive
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
