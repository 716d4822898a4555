"""The Content-Type and Content-Encoding that a file's name stands for: the same on each machine. Pure.

Python's `mimetypes` reads the system's files, and its own table differs between versions. Then one file would get
different types from different machines, and `.ts` might be a translation file of Qt.
"""

from __future__ import annotations

import functools
from pathlib import PurePath
from typing import NamedTuple

DEFAULT = "application/octet-stream"

_TABLE = """
video/mp4                     mp4 mp4v mpg4
video/x-m4v                   m4v
video/quicktime               mov qt
video/webm                    webm
video/matroska                mkv
video/matroska-3d             mk3d
video/mp2t                    ts mts m2ts m2t
video/mpeg                    mpg mpeg mpe m1v m2v vob
video/x-msvideo               avi divx
video/x-ms-wmv                wmv
video/x-ms-asf                asf
video/x-flv                   flv f4v
video/ogg                     ogv
video/3gpp                    3gp 3gpp
video/3gpp2                   3g2
video/dv                      dv dif
video/H264                    h264 264 avc
video/H265                    h265 265 hevc
application/mxf               mxf
application/gxf               gxf
application/vnd.apple.mpegurl m3u8
application/dash+xml          mpd
application/ttml+xml          ttml dfxp
application/x-subrip          srt
text/vtt                      vtt
audio/mpeg                    mp3 mp2 mpga
audio/mp4                     m4a m4b
audio/aac                     aac adts
audio/wav                     wav wave bwf
audio/aiff                    aif aiff aifc
audio/flac                    flac
audio/ogg                     oga ogg opus spx
audio/matroska                mka
audio/webm                    weba
audio/x-ms-wma                wma
audio/ac3                     ac3
audio/eac3                    eac3 ec3
audio/basic                   au snd
audio/midi                    mid midi
audio/amr                     amr
image/jpeg                    jpg jpeg jpe jfif
image/png                     png
image/apng                    apng
image/gif                     gif
image/webp                    webp
image/avif                    avif
image/heic                    heic
image/heif                    heif hif
image/jxl                     jxl
image/jp2                     jp2
image/bmp                     bmp dib
image/tiff                    tif tiff
image/svg+xml                 svg
image/vnd.microsoft.icon      ico
image/vnd.adobe.photoshop     psd
image/x-adobe-dng             dng
image/x-canon-cr2             cr2
image/x-canon-cr3             cr3
image/x-nikon-nef             nef
image/x-sony-arw              arw
image/x-dpx                   dpx
image/x-exr                   exr
model/gltf-binary             glb
model/gltf+json               gltf
model/stl                     stl
model/obj                     obj
model/vnd.usdz+zip            usdz
text/plain                    txt text log
text/csv                      csv
text/tab-separated-values     tsv
text/html                     html htm
text/css                      css
text/javascript               js mjs
text/markdown                 md markdown
text/calendar                 ics
text/vcard                    vcf
application/json              json map
application/x-ndjson          ndjson jsonl
application/geo+json          geojson
application/xml               xml xsl xsd
application/yaml              yaml yml
application/toml              toml
application/sql               sql
application/rtf               rtf
application/wasm              wasm
application/pdf               pdf
application/postscript        ps eps ai
application/epub+zip          epub
application/msword            doc dot
application/vnd.ms-excel      xls
application/vnd.ms-powerpoint ppt
application/vnd.openxmlformats-officedocument.wordprocessingml.document   docx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet         xlsx
application/vnd.openxmlformats-officedocument.presentationml.presentation pptx
application/vnd.oasis.opendocument.text         odt
application/vnd.oasis.opendocument.spreadsheet  ods
application/vnd.oasis.opendocument.presentation odp
application/vnd.apache.parquet                  parquet
application/vnd.apache.arrow.file               arrow feather
application/vnd.apache.arrow.stream             arrows
application/vnd.apache.avro                     avro
application/x-hdf5            h5 hdf5
application/netcdf            nc
application/vnd.sqlite3       sqlite sqlite3
application/gzip              gz tgz
application/x-bzip2           bz2 tbz2
application/x-xz              xz txz
application/zstd              zst tzst
application/x-brotli          br
application/zip               zip
application/x-7z-compressed   7z
application/vnd.rar           rar
application/x-tar             tar
application/x-iso9660-image   iso
application/x-apple-diskimage dmg
application/java-archive      jar
application/vnd.android.package-archive apk
application/vnd.debian.binary-package   deb
application/x-rpm             rpm
font/ttf                      ttf
font/otf                      otf
font/woff                     woff
font/woff2                    woff2
font/collection               ttc
"""
"""IANA's names where there are any, else those that players and browsers use: https://www.iana.org/assignments/media-types
"""

_CODINGS = {"gz": "gzip", "br": "br", "zst": "zstd"}
"""Endings of files that are compressed in a way that HTTP has a content coding for; it has none for bzip2 and xz.

https://www.iana.org/assignments/http-parameters
"""
_TEXTS = frozenset({
    "txt", "text", "log", "csv", "tsv", "html", "htm", "css", "js", "mjs", "md", "markdown", "json", "map", "ndjson",
    "jsonl", "geojson", "xml", "xsl", "xsd", "yaml", "yml", "sql", "svg", "vtt", "srt", "ics",
})  # fmt: skip
"""Endings of texts. A compressed text is that text with a content coding. A compressed file of another kind, such as
.tar.gz, is an archive: a browser must not unpack it."""


class NamedType(NamedTuple):
    """The Content-Type and the Content-Encoding of a file; None: no encoding."""

    content_type: str
    content_encoding: str | None = None


def type_of(name: str) -> NamedType:
    """Return the content type and encoding for the ending of a file's name, in any case of letters.

    `rows.csv.gz` is `text/csv` with the encoding `gzip`. `text/csv` alone would be wrong.

    Args:
        name: The file's name, or its path.
    """
    *_, inner, ending = ["", "", *(suffix[1:].lower() for suffix in PurePath(name).suffixes)]
    if ending in _CODINGS and inner in _TEXTS:
        return NamedType(_types()[inner], _CODINGS[ending])
    return NamedType(_types().get(ending, DEFAULT))


@functools.cache
def _types() -> dict[str, str]:
    rows = (line.split() for line in _TABLE.strip().splitlines())
    return {ending: content_type for content_type, *endings in rows for ending in endings}
