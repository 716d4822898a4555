"""The content types of file names: by the table alone."""

from __future__ import annotations

import mimetypes
import re

import pytest

from bigupload.core.content_types import _TABLE, _TEXTS, DEFAULT, type_of
from bigupload.service.media.media_types import MEDIA_TYPES
from tests.tools.cases import each_case


@each_case(
    ("name", "content_type"),
    [
        ("a.ts", "video/mp2t"), ("a.mts", "video/mp2t"), ("a.m2ts", "video/mp2t"), ("a.mkv", "video/matroska"),
        ("a.mxf", "application/mxf"), ("a.m4v", "video/x-m4v"), ("a.wmv", "video/x-ms-wmv"), ("a.flv", "video/x-flv"),
        ("a.avif", "image/avif"), ("a.heic", "image/heic"), ("a.webm", "video/webm"), ("a.MOV", "video/quicktime"),
        ("a.mp4", "video/mp4"), ("/x.y/a.jpg", "image/jpeg"), ("a.b.png", "image/png"), ("a.csv", "text/csv"),
        ("a.tar.gz", "application/gzip"), ("a.gz", "application/gzip"), ("a.vcf", "text/vcard"),
        ("a", DEFAULT), ("a.", DEFAULT), (".mp4", DEFAULT), ("a.unheard-of", DEFAULT), ("", DEFAULT),
    ],
)  # fmt: skip
def test_names(name: str, content_type: str) -> None:
    assert type_of(name).content_type == content_type


@each_case(
    ("name", "content_type", "encoding"),
    [
        ("rows.csv.gz", "text/csv", "gzip"), ("ROWS.CSV.GZ", "text/csv", "gzip"), ("a.svg.gz", "image/svg+xml", "gzip"),
        ("a.b.json.zst", "application/json", "zstd"), ("page.html.br", "text/html", "br"), ("a.csv", "text/csv", None),
        ("a.tar.gz", "application/gzip", None), ("a.tgz", "application/gzip", None), ("a.gz", "application/gzip", None),
        ("a.vcf.gz", "application/gzip", None), ("csv.gz", "application/gzip", None),
        ("a.csv.xz", "application/x-xz", None), ("a.csv.bz2", "application/x-bzip2", None),
    ],
)  # fmt: skip
def test_compressed_texts(name: str, content_type: str, encoding: str | None) -> None:
    assert type_of(name) == (content_type, encoding)


def test_the_machine_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mimetypes, "guess_type", lambda *_, **__: ("text/vnd.trolltech.linguist", None))
    assert type_of("a.ts").content_type == "video/mp2t"


def test_the_table_is_sound() -> None:
    rows = [line.split() for line in _TABLE.strip().splitlines()]
    types = [content_type for content_type, *_ in rows]
    endings = [ending for _, *endings in rows for ending in endings]
    assert set(endings) >= _TEXTS
    assert len(set(types)) == len(types)
    assert len(set(endings)) == len(endings)
    assert all(re.fullmatch(r"(video|audio|image|text|application|model|font)/[A-Za-z0-9.+-]+", each) for each in types)
    assert all(re.fullmatch(r"[a-z0-9]+", each) for each in endings)


def test_what_the_media_service_takes_is_named_as_the_service_names_it() -> None:
    for media in MEDIA_TYPES:
        for extension in media.extensions:
            assert type_of(f"a.{extension}").content_type in media.content_types, extension
