"""A store whose objects are made up as they are listed: `python -m benchmarks.listed_store --files 1000000`

Its objects are those of the tree that `plant` makes: a thousand files in each directory, each of a few bytes that say
which file it is. So a million objects take no memory here, and a page of the list is made in milliseconds. It answers
what a sync asks for: lists (ListObjects in both versions, with prefix, delimiter and pages of 1,000 keys) and HEAD.
What changes anything is counted, and not done.

It prints one JSON line when it listens (`{"url": …}`). `GET /__counts` tells how many requests of each kind there were,
and `GET /__counts?reset` begins again from nothing.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import http.server
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

A_DIRECTORY = 1000
"""Files in a directory."""
PAGE = 1000
_MODIFIED = time.gmtime()
"""When this process began, which is after the tree was made: so the objects are up to date also for tools that compare
times. s5cmd leaves out objects of the future."""
_IN_LISTS = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", _MODIFIED)
_IN_HEADERS = time.strftime("%a, %d %b %Y %H:%M:%S GMT", _MODIFIED)


def key_of(number: int) -> str:
    """The key of a file, below the prefix. In the order of keys, they are in the order of their numbers."""
    return f"d{number // A_DIRECTORY:04}/f{number % A_DIRECTORY:03}.txt"


def content_of(number: int) -> bytes:
    return b"%08d" % number


def etag_of(number: int) -> str:
    """Without quotes: the MD5 of the content, as S3's."""
    return hashlib.md5(content_of(number), usedforsecurity=False).hexdigest()


def plant(directory: Path, files: int) -> None:
    """Make the tree."""
    for first in range(0, files, A_DIRECTORY):
        (directory / key_of(first)).parent.mkdir()
        for number in range(first, min(first + A_DIRECTORY, files)):
            (directory / key_of(number)).write_bytes(content_of(number))


def _number_after(key: str, files: int) -> int:
    """The first object whose key is greater than `key`, which is below the prefix."""
    low, high = 0, files
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if key_of(middle) <= key else (low, middle)
    return low


class Listing:
    """The objects below each prefix of one segment."""

    def __init__(self, files: int) -> None:
        self._files = files

    def find(self, key: str) -> int | None:
        """The number of the object with a key, which is below a prefix of one segment."""
        below = key.partition("/")[2]
        number = _number_after(below, self._files) - 1
        return number if number >= 0 and key_of(number) == below else None

    def page(self, bucket: str, query: dict[str, str]) -> bytes:
        """One page of ListObjects or ListObjectsV2."""
        is_v2 = query.get("list-type") == "2"
        after = query.get("continuation-token") or query.get("start-after") or query.get("marker") or ""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        most = min(PAGE, int(query.get("max-keys") or PAGE))
        encode = quote if query.get("encoding-type") == "url" else escape
        rows: list[str] = []
        last, is_truncated = "", False
        for key, row in self._found(prefix, delimiter, after, encode):
            if len(rows) == most:
                is_truncated = True
                break
            rows.append(row)
            last = key
        head = (
            f"<Name>{bucket}</Name><Prefix>{encode(prefix)}</Prefix><MaxKeys>{most}</MaxKeys>"
            f"<IsTruncated>{'true' if is_truncated else 'false'}</IsTruncated>"
        )
        if delimiter:
            head += f"<Delimiter>{delimiter}</Delimiter>"
        if "encoding-type" in query:
            head += "<EncodingType>url</EncodingType>"
        if is_v2:
            head += f"<KeyCount>{len(rows)}</KeyCount>"
        if is_truncated:
            head += f"<NextContinuationToken>{last}</NextContinuationToken>" if is_v2 else ""
            head += f"<NextMarker>{encode(last)}</NextMarker>" if not is_v2 and delimiter else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{head}{"".join(rows)}</ListBucketResult>'
        ).encode()

    def _found(self, prefix: str, delimiter: str, after: str, encode: object) -> Iterator[tuple[str, str]]:
        """Keys and common prefixes after a key, each with its row."""
        above, _, below = prefix.partition("/")
        number = _number_after(after.partition("/")[2], self._files) if after > prefix else 0
        if not after > prefix and below:
            number = max(0, _number_after(below, self._files))
        while number < self._files:
            key = key_of(number)
            if not key.startswith(below):
                return
            directory, slash, _ = key[len(below) :].partition("/")
            if delimiter and slash:
                common = f"{above}/{below}{directory}/"
                number = (number // A_DIRECTORY + 1) * A_DIRECTORY
                if common > after:
                    yield common, f"<CommonPrefixes><Prefix>{common}</Prefix></CommonPrefixes>"
                continue
            yield (
                f"{above}/{key}",
                f"<Contents><Key>{above}/{key}</Key><LastModified>{_IN_LISTS}</LastModified>"
                f"<ETag>&quot;{etag_of(number)}&quot;</ETag><Size>{len(content_of(number))}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>",
            )
            number += 1


class _Store(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.listing = Listing(files)
        self.counts: collections.Counter[str] = collections.Counter()
        self.lock = threading.Lock()

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Store

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if bucket == "__counts":
            with self.server.lock:
                body = json.dumps(self.server.counts).encode()
                if "reset" in query:
                    self.server.counts.clear()
            self._answer(200, body, {"Content-Type": "application/json"})
        elif key:
            self._other()
        elif "location" in query:
            self._answer(200, b'<?xml version="1.0"?><LocationConstraint>us-east-1</LocationConstraint>')
        else:
            self.server.count("list")
            self._answer(200, self.server.listing.page(bucket, query), {"Content-Type": "application/xml"})

    def do_HEAD(self) -> None:
        key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
        if not key:
            self._answer(200, b"", {"x-amz-bucket-region": "us-east-1"})
            return
        self.server.count("head")
        number = self.server.listing.find(key)
        if number is None:
            self._answer(404, b"")
            return
        found = {"ETag": f'"{etag_of(number)}"', "Last-Modified": _IN_HEADERS}
        self._answer(200, content_of(number), found)

    def _other(self) -> None:
        self.server.count(self.command.lower())
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(501, b"<Error><Code>NotImplemented</Code></Error>")

    do_PUT = do_POST = do_DELETE = _other

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), "x-amz-request-id": "listed", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, required=True, metavar="N", help="How many objects there are.")
    store = _Store(parser.parse_args().files)
    threading.Thread(target=store.serve_forever, daemon=True).start()
    print(json.dumps({"url": f"http://127.0.0.1:{store.server_port}"}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
