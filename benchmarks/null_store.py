"""A store that receives and drops: enough S3 for every contestant, at the least cost, in a process of its own.

`python -m benchmarks.null_store [--tls] [--rtt 0.03] [--rate 40MB/s] …` prints one JSON line when it listens (its URL)
and one more when it is told to stop (standard input closes): what it counted, so that a contestant which sends less
than the file is caught.

Bodies are thrown away inside the kernel (recv with MSG_TRUNC copies nothing), a thread a connection. A part's CRC64NVME
is echoed as it was sent and the whole's at complete as it was asked for: a null store proves nothing, it only costs
nothing. What it can play: a round trip's delay, a rate a connection and in all, stragglers, refusals, resets, lost
answers, SlowDown above a number of parts in flight.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from bigupload.units import parse_rate

_BLOCK = 4 << 20
_TRUNC = getattr(socket, "MSG_TRUNC", 0) if sys.platform == "linux" else 0
_PACED_BUFFER = 256 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Knobs:
    """Times in seconds, rates in bytes a second, shares between 0 and 1."""

    rtt: float = 0.0
    rate: float = 0.0
    """Of one connection; 0: as fast as it goes."""
    total_rate: float = 0.0
    straggler_share: float = 0.0
    straggler_rate: float = 1e6
    slow_down_share: float = 0.0
    error_share: float = 0.0
    reset_share: float = 0.0
    lost_answer_share: float = 0.0
    most_in_flight: int = 0
    """503 for parts above this number; 0: no bound."""
    seed: int = 1


@dataclasses.dataclass
class Counts:
    """What went in. `bytes_received` are of parts' and objects' bodies, refused ones included."""

    bytes_received: int = 0
    bytes_accepted: int = 0
    parts: int = 0
    refused: int = 0
    reset: int = 0
    connections: int = 0
    most_in_flight: int = 0


class NullStore:
    """Listens on 127.0.0.1 until `close`."""

    def __init__(self, knobs: Knobs, tls: ssl.SSLContext | None = None) -> None:
        self.knobs = knobs
        self.counts = Counts()
        self._tls = tls
        self._lock = threading.Lock()
        self._random = random.Random(knobs.seed)
        self._in_flight = 0
        self._free_at = time.monotonic()
        self._uploads: dict[str, dict[int, int]] = {}
        self._objects: dict[str, tuple[int, str, str]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        """Accept for ever, each connection in its thread."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    # -- one connection

    def _connection(self, connection: socket.socket) -> None:
        with self._lock:
            self.counts.connections += 1
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.knobs.rate or self.knobs.straggler_share:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PACED_BUFFER)
        try:
            if self.knobs.rtt:
                time.sleep(self.knobs.rtt)  # the handshake's
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                _Exchange(self, connection).serve()
        except (OSError, ssl.SSLError):
            pass

    def chance(self, share: float) -> bool:
        with self._lock:
            return share > 0 and self._random.random() < share

    def enter(self) -> bool:
        """A part begins; False where there are too many."""
        with self._lock:
            self._in_flight += 1
            self.counts.most_in_flight = max(self.counts.most_in_flight, self._in_flight)
            return not self.knobs.most_in_flight or self._in_flight <= self.knobs.most_in_flight

    def leave(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def pace(self, count: int) -> None:
        """The rate in all: book the next stretch of time."""
        if not self.knobs.total_rate:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - 0.05) + count / self.knobs.total_rate
            wait = self._free_at - now
        if wait > 0:
            time.sleep(wait)

    # -- the S3 that there is

    def answer(self, method: str, target: str, headers: dict[str, str], size: int) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(target)
        query = parse_qs(parts.query, keep_blank_values=True)
        key = unquote(parts.path)
        if method == "PUT" and "partNumber" in query:
            return self._part(query["uploadId"][0], int(query["partNumber"][0]), headers, size)
        if method == "PUT":
            self._objects[key] = (size, '"0"', headers.get("x-amz-checksum-crc64nvme", ""))
            return 200, {"ETag": '"0"', **_echo(headers)}, b""
        if method == "POST" and "uploads" in query:
            upload_id = f"upload-{self._random.getrandbits(64):016x}"
            self._uploads[upload_id] = {}
            return 200, {}, _xml("InitiateMultipartUploadResult", Bucket="b", Key=key, UploadId=upload_id)
        if method == "POST" and "uploadId" in query:
            return self._complete(key, query["uploadId"][0], headers)
        if method == "DELETE":
            return 204, {}, b""
        if method == "GET" and "location" in query:
            return (
                200,
                {},
                b'<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">us-east-1</LocationConstraint>',
            )
        if method == "GET" and "uploadId" in query:
            return 200, {}, self._list(query["uploadId"][0])
        if method == "HEAD":
            return self._head(key)
        return 200, {}, b""

    def _part(
        self, upload_id: str, number: int, headers: dict[str, str], size: int
    ) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            self._uploads.setdefault(upload_id, {})[number] = size
            self.counts.parts += 1
            self.counts.bytes_accepted += size
        return 200, {"ETag": f'"{number:032x}"', **_echo(headers)}, b""

    def _complete(self, key: str, upload_id: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        sizes = self._uploads.pop(upload_id, {})
        etag = f'"{0:032x}-{len(sizes)}"'
        checksum = headers.get("x-amz-checksum-crc64nvme", "")
        self._objects[key] = (sum(sizes.values()), etag, checksum)
        fields = {"Location": key, "Bucket": "b", "Key": key, "ETag": etag}
        if checksum:
            fields |= {"ChecksumCRC64NVME": checksum, "ChecksumType": "FULL_OBJECT"}
        return 200, {}, _xml("CompleteMultipartUploadResult", **fields)

    def _list(self, upload_id: str) -> bytes:
        rows = b"".join(
            b"<Part>" + _fields(PartNumber=n, ETag=f'"{n:032x}"', Size=s) + b"</Part>"
            for n, s in sorted(self._uploads.get(upload_id, {}).items())
        )
        return b"<ListPartsResult>" + rows + b"<IsTruncated>false</IsTruncated></ListPartsResult>"

    def _head(self, key: str) -> tuple[int, dict[str, str], bytes]:
        if key.count("/") < 2:
            return 200, {}, b""  # the bucket
        if key not in self._objects:
            return 404, {}, b""
        size, etag, checksum = self._objects[key]
        found = {"ETag": etag, "Content-Length": str(size)}
        return 200, found | ({"x-amz-checksum-crc64nvme": checksum} if checksum else {}), b""


class _Exchange:
    """Requests on one connection, one after another."""

    def __init__(self, store: NullStore, connection: socket.socket) -> None:
        self._store = store
        self._connection = connection
        self._ahead = b""
        self._buffer = bytearray(_BLOCK)
        self._flags = _TRUNC if not isinstance(connection, ssl.SSLSocket) else 0

    def serve(self) -> None:
        while (head := self._head()) is not None:
            method, target, headers = head
            if headers.get("expect", "").lower() == "100-continue":
                self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            part = method == "PUT"
            chunked = "chunked" in headers.get("transfer-encoding", "")
            size = int(headers.get("content-length", 0))
            encoded = headers.get("x-amz-decoded-content-length")
            if part:
                if not self._body(target, size, chunked=chunked, headers=headers):
                    return
                size = int(encoded) if encoded else size
            else:
                self._drop(size, lambda _: None)
            if self._store.knobs.rtt:
                time.sleep(self._store.knobs.rtt)
            if part and self._store.chance(self._store.knobs.lost_answer_share):
                return
            self._answer(*self._store.answer(method, target, headers, size), method)

    def _head(self) -> tuple[str, str, dict[str, str]] | None:
        data = self._ahead
        while b"\r\n\r\n" not in data:
            more = self._connection.recv(65536)
            if not more:
                return None
            data += more
        head, _, self._ahead = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return method, target, headers

    def _body(self, target: str, size: int, *, chunked: bool, headers: dict[str, str]) -> bool:
        """Receive a part's body. False where the connection is to be dropped."""
        store, knobs = self._store, self._store.knobs
        try:
            if not store.enter() or store.chance(knobs.slow_down_share):
                return self._refuse(503, "SlowDown")
            if store.chance(knobs.error_share):
                return self._refuse(500, "InternalError")
            rate = knobs.straggler_rate if store.chance(knobs.straggler_share) else knobs.rate
            until = store._random.randrange(max(1, size)) if store.chance(knobs.reset_share) else size
            began = time.monotonic()
            received = 0

            def account(count: int) -> None:
                nonlocal received
                received += count
                with store._lock:
                    store.counts.bytes_received += count
                store.pace(count)
                if rate and (wait := began + received / rate - time.monotonic()) > 0:
                    time.sleep(wait)

            if chunked:
                self._drop_chunks(account)
                return True
            self._drop(until, account, paced=bool(rate or knobs.total_rate))
            if until < size:
                store.counts.reset += 1
                self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return False
            return True
        finally:
            store.leave()

    def _refuse(self, status: int, code: str) -> bool:
        self._store.counts.refused += 1
        if self._store.knobs.rtt:
            time.sleep(self._store.knobs.rtt)
        body = _xml("Error", Code=code, Message="")
        self._answer(status, {"Connection": "close"}, body, "PUT")
        self._connection.shutdown(socket.SHUT_WR)
        while self._connection.recv_into(self._buffer, _BLOCK, self._flags):  # linger, so that the answer arrives
            pass
        return False

    def _drop(self, count: int, account: Callable[[int], None], *, paced: bool = False) -> None:
        block = 64 * 1024 if paced else _BLOCK
        if self._ahead:
            taken = min(count, len(self._ahead))
            self._ahead = self._ahead[taken:]
            count -= taken
            account(taken)
        while count:
            got = self._connection.recv_into(self._buffer, min(count, block), self._flags)
            if not got:
                raise ConnectionResetError
            count -= got
            account(got)

    def _drop_chunks(self, account: Callable[[int], None]) -> None:
        while True:
            line = self._line()
            size = int(line.split(b";")[0], 16)
            self._drop(size, account)
            if size == 0:
                while self._line():
                    pass
                return
            self._line()

    def _line(self) -> bytes:
        while b"\r\n" not in self._ahead:
            more = self._connection.recv(65536)
            if not more:
                raise ConnectionResetError
            self._ahead += more
        line, _, self._ahead = self._ahead.partition(b"\r\n")
        return line

    def _answer(self, status: int, headers: dict[str, str], body: bytes, method: str) -> None:
        fields = {"Content-Length": str(len(body)), "x-amz-request-id": "null", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._connection.sendall(
            f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode("latin-1") + (b"" if method == "HEAD" else body)
        )


def _echo(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("x-amz-checksum-")}


def _xml(element: str, **fields: object) -> bytes:
    return f'<?xml version="1.0"?><{element}>'.encode() + _fields(**fields) + f"</{element}>".encode()


def _fields(**fields: object) -> bytes:
    return "".join(
        f"<{n}>{str(v).replace('&', '&amp;').replace('<', '&lt;')}</{n}>" for n, v in fields.items()
    ).encode()


def _context(directory: Path) -> ssl.SSLContext:
    from tests.tools.certs import make_certificates

    made = make_certificates(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    return context


def main() -> None:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tls", type=Path, metavar="DIR", help="https, with a certificate made in DIR (DIR/ca.pem)")
    for field in dataclasses.fields(Knobs):
        kind = parse_rate if "rate" in field.name else type(field.default)
        parser.add_argument(f"--{re.sub('_', '-', field.name)}", type=kind, default=field.default)
    given = vars(parser.parse_args())
    tls = given.pop("tls")
    store = NullStore(Knobs(**given), _context(tls) if tls else None)
    threading.Thread(target=store.serve, daemon=True).start()
    print(json.dumps({"url": store.url}), flush=True)
    sys.stdin.read()
    print(json.dumps(dataclasses.asdict(store.counts)), flush=True)
    store.close()


if __name__ == "__main__":
    main()
