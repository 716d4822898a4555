"""Good inputs of each target, which the fuzzers change."""

from __future__ import annotations

import json
from typing import Any

from bigupload.core.checksums import Algorithm
from tests.core import samples

CRC = "AAAAAAAAAAA="

# -- manifests

_JOURNAL = samples.lines(samples.header(), *samples.ALL_PARTS)
MANIFESTS = [
    _JOURNAL,
    _JOURNAL + b'{"type":"completing","checksum":"AAAAAAAAAAA="}\n{"type":"completed","etag":"e","verified":"size"}\n',
    _JOURNAL + b'{"type":"restart","upload_id":"u","token":"t","reason":"r"}\n{"type":"aborted"}\n',
    samples.lines(samples.header(), samples.part(1))
    + b'{"type":"part_dropped","number":1,"reason":"x"}\n{"type":"later","x":[[1]]}\n',
]

# -- responses of HTTP

HTTP = [
    b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 4\r\n\r\nbody',
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;a=b\r\nbod\r\n1\r\ny\r\n0\r\nTrailer: x\r\n\r\nHTTP/1.1 200",
    b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\n\r\n<Error><Code>SlowDown</Code></Error>",
    b"HTTP/1.0 204 No Content\nServer: x\n\tgoes on\n\n",
]

# -- documents of S3

_PAGE = b"<ListBucketResult><IsTruncated>%s</IsTruncated><EncodingType>url</EncodingType><Contents><Key>key%%2F+a</Key>"
S3 = [
    b"<R><UploadId>u</UploadId></R>",
    b"<R><IsTruncated>true</IsTruncated><NextPartNumberMarker>1</NextPartNumberMarker><Part><PartNumber>1</PartNumber>"
    b"<Size>10</Size><ETag>e</ETag><ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME></Part></R>",
    b"<R><IsTruncated>false</IsTruncated><Upload><Key>key</Key><UploadId>u</UploadId>"
    b"<Initiated>2026-01-01T00:00:00Z</Initiated><ChecksumAlgorithm>CRC32</ChecksumAlgorithm></Upload></R>",
    b"<R><ETag>e-3</ETag><ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME>"
    b"<ChecksumType>FULL_OBJECT</ChecksumType></R>",
    _PAGE % b"true"
    + b"<Size>9</Size><ETag>e</ETag></Contents><NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
    _PAGE % b"false" + b"<LastModified>2026-01-01T00:00:00Z</LastModified><Size>1</Size></Contents></ListBucketResult>",
    b"<DeleteResult><Error><Key>key</Key><Code>AccessDenied</Code></Error></DeleteResult>",
    b"<ListMultipartUploadsResult><Upload><Key>key</Key><UploadId>u</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated>"
    b"</Upload></ListMultipartUploadsResult>",
    b"<!doctype html><html><head><title>Sign in</title></head><body>Welcome</body></html>",
    b"<Error><Code>SlowDown</Code><Message>m &amp; m</Message><Region>r</Region></Error>",
    b'<!DOCTYPE l [<!ENTITY a "aa">]><l>&a;</l>',
]

# -- documents of a media service

_SIGNED = [
    {"partNumber": n, "url": f"https://s.example/{n}", "headers": {Algorithm.CRC64NVME.header: CRC}} for n in (1, 2)
]
_MADE = {"publicUrl": "https://c.example/k", "key": "k", "size": 25, "checksum": CRC, "etag": "e", "token": "t",
         "checksumAlgorithm": "crc64nvme", "checksumType": "FULL_OBJECT"}  # fmt: skip
_DOCUMENTS: list[dict[str, Any]] = [
    {"upload": "h", "key": "k", "publicUrl": "https://c.example/k", "partSize": 10, "parts": 3, "signed": _SIGNED,
     "checksumAlgorithm": "crc64nvme", "expiresIn": 60},
    {"signed": _SIGNED, "expiresIn": 60},
    {"parts": [{"partNumber": 1, "size": 10, "etag": "e", "checksum": CRC}]},
    {"status": "completed", "completed": _MADE},
    _MADE,
    {"status": "gone", "error": {"code": "not_media", "message": "no"}},
    {"error": {"code": "upload_gone", "message": "m", "field": "f"}},
]  # fmt: skip
SERVICE = [json.dumps(each).encode() for each in _DOCUMENTS]
