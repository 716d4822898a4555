"""The shape of an upload's key: which templates there may be, and that their keys are told from all others."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from bigupload import errors
from bigupload.service.media.media_types import JPEG
from bigupload.service.media.object_keys import KeyTemplate
from tests.tools.cases import each_case

NOW = datetime(2026, 2, 3, tzinfo=UTC)


@each_case(
    "template",
    [
        "",
        "media",
        "{owner}/{random}.{extension}",
        "/{owner}/{random}.{extension}",
        "media/{random}.{extension}",
        "media/{owner}/{random}",
        "media/{owner}{random}.{extension}",
        "media/x{owner}/{random}.{extension}",
        "media/{year}/{owner}/{random}.{extension}",
        "media/{owner}/{owner}/{random}.{extension}",
        "media/{owner}/{random}/{random}.{extension}",
        "media/{owner}/{name}.{extension}",
        "refused/{owner}/{random}.{extension}",
        "media//{owner}/{random}.{extension}",
        "media/../{owner}/{random}.{extension}",
        "mé/{owner}/{random}.{extension}",
        "a b/{owner}/{random}.{extension}",
        "media/{owner}/./{random}.{extension}",
        "media/{owner}/{random}.{extension}\n",
        "media/{owner}/{random}.{extension}.gz",
        f"{'x' * 250}/{{owner}}/{{random}}.{{extension}}",
        "m/{owner}/{}{random}.{extension}",
        "media/{owner}/{year}{month}{day}{random}.{extension}",
        "media/{owner}/deadbeef{random}.{extension}",
        "media/{owner}/x1{random}.{extension}",
    ],
)
def test_templates_whose_keys_could_not_be_told(template: str) -> None:
    with pytest.raises(errors.UsageError, match="key template"):
        KeyTemplate(template)


@each_case(
    ("template", "made"),
    [
        ("media/{owner}/{random}.{extension}", r"media/me-1/[0-9a-f]+\.jpg"),
        ("films/raw/{owner}/{year}/{month}/{day}/{random}.{extension}", r"films/raw/me-1/2026/02/03/[0-9a-f]+\.jpg"),
        ("media/{owner}/{year}{month}{day}-{random}.{extension}", r"media/me-1/20260203-[0-9a-f]+\.jpg"),
        ("m.v_1/{owner}/x-{year}-{random}.{extension}", r"m\.v_1/me-1/x-2026-[0-9a-f]+\.jpg"),
    ],
)
def test_keys_by_a_template(template: str, made: str) -> None:
    shape = KeyTemplate(template)
    writable = shape.new_key("me-1", JPEG, NOW, final=False)
    final = shape.new_key("me-1", JPEG, NOW, final=True)
    assert all(re.fullmatch(made, key) for key in (writable, final))
    assert writable.startswith(shape.prefix_of("me-1"))
    assert [shape.is_final(key) for key in (writable, final)] == [False, True]
    assert [shape.owner_of(key) for key in (writable, final)] == ["me-1", "me-1"]
    assert shape.is_made_here(f"refused/{final}")
    for other in (f"x{writable}", f"{writable}x/", writable.upper(), writable.replace("me-1", "me/1"), "a.jpg", ""):
        assert shape.owner_of(other) is None
        assert not shape.is_final(other)
