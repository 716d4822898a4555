"""Lists of types: an operator's own, and any."""

from __future__ import annotations

import pytest

from bigupload import errors
from bigupload.service.media.media_types import JPEG
from bigupload.service.media.policy import ANY_TYPES, read_types
from bigupload.service.problems import Problem, Refused
from tests.tools.cases import each_case

TYPES = "video/x-matroska mkv  # films\napplication/mxf mxf\nimage/jpeg\n"


def test_types_of_a_file() -> None:
    types = read_types(TYPES + "image/jpeg jpg\nvideo/matroska mkv mk3d\n", where="types")
    mkv = types.declared("a.MKV", "video/x-matroska; codecs=av01")
    assert (mkv.content_type, mkv.extension, mkv.kind, mkv.extensions) == (
        "video/x-matroska",
        "mkv",
        "video",
        ("mkv", "mk3d"),
    )
    assert types.declared("a.mk3d", "video/matroska") is mkv
    assert types.declared("a.mxf", "application/mxf").kind == "other"
    assert types.declared("a.jpg", "image/jpg").name == "JPEG"
    for name, content, field in (
        ("a.jpeg", "image/jpeg", "filename"),
        ("a.png", "image/png", "filename"),
        ("a.mkv", "video/mp4", "contentType"),
        ("a.mkv", "application/mxf", "contentType"),
    ):
        with pytest.raises(Refused) as refused:
            types.declared(name, content)
        assert (refused.value.problem, refused.value.field) == (Problem.UNSUPPORTED_MEDIA, field)


@each_case(
    ("text", "says"),
    [
        ("", "lists no types"),
        ("# nothing\n\n", "lists no types"),
        ("mkv video/x-matroska", "line 1 of types does not begin with a content type"),
        ("image/jpeg\nvideo/x-matroska .m-kv", "line 2 of types: 'm-kv' is not an extension"),
        ("video/x-matroska", "no extension for video/x-matroska"),
        ("a/b one\nc/d two\ne/f one two", "line 3 of types joins a/b and c/d"),
        ("image/png jpg", "one type of JPEG and PNG"),
        ("video/quicktime mp4", "one type of MP4 and MOV"),
    ],
)
def test_lists_of_types_that_make_no_sense(text: str, says: str) -> None:
    with pytest.raises(errors.UsageError, match=says):
        read_types(text, where="types")


JAVASCRIPT = (
    "application/ecmascript", "application/javascript", "application/x-ecmascript", "application/x-javascript",
    "text/ecmascript", "text/javascript", "text/javascript1.0", "text/javascript1.1", "text/javascript1.2",
    "text/javascript1.3", "text/javascript1.4", "text/javascript1.5", "text/jscript", "text/livescript",
    "text/x-ecmascript", "text/x-javascript",
)  # fmt: skip
"""All that browsers run: https://mimesniff.spec.whatwg.org/#javascript-mime-type"""


def test_any_type_but_what_browsers_run() -> None:
    heic = ANY_TYPES.declared("IMG_1.HEIC", "image/heic")
    assert (heic.content_type, heic.extension, heic.kind) == ("image/heic", "heic", "image")
    assert ANY_TYPES.declared("README", "text/plain").extension == "bin"
    assert ANY_TYPES.declared("a.tar.gz", "application/gzip").extension == "gz"
    assert ANY_TYPES.declared("a.jpg", "image/jpeg") is JPEG
    for name, content in (
        ("a.jpg", "application/octet-stream"),
        ("a.bin", "image/jpeg"),
        ("a.html", "text/html"),
        ("a.svg", "image/svg+xml"),
        ("a.js", "Text/JavaScript; charset=utf-8"),
        *(("a.js", each) for each in JAVASCRIPT),
        ("a.hta", "application/hta"),
        ("a.mhtml", "multipart/related"),
        ("a.vbs", "text/vbscript"),
        ("a.x", "*/*"),
        ("a.x", ""),
        ("a.x", "image"),
        ("a.x", "unknown/unknown"),
        ("a\n.x", "application/octet-stream"),
        ("a.x", "a/b\r\nX: y"),
    ):
        with pytest.raises(Refused) as refused:
            ANY_TYPES.declared(name, content)
        assert refused.value.problem is Problem.UNSUPPORTED_MEDIA
