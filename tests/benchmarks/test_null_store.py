"""The judge of the benchmarks: what it counts is what came, and what goes wrong is the same for everyone."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks.null_store.__main__ import server_context
from benchmarks.null_store.counts import refused_share
from benchmarks.null_store.knobs import Fate, Knobs, fate
from benchmarks.null_store.server import NullStore
from benchmarks.stores import null_store

pytestmark = pytest.mark.slow  # guards the benchmarks, not the product

OBJECT = "/bucket/some/key"


class Client:
    """One connection, or a new one where the store has closed it."""

    def __init__(self, store: NullStore, ca: Path | None = None) -> None:
        self.url = store.url
        url = urlsplit(store.url)
        assert url.hostname is not None
        if ca is None:
            self._connection = http.client.HTTPConnection(url.hostname, url.port)
        else:
            context = ssl.create_default_context(cafile=str(ca))
            self._connection = http.client.HTTPSConnection(url.hostname, url.port, context=context)

    def __call__(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        self._connection.request(method, target, body=body, headers=headers or {})
        response = self._connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, response.read()

    def close(self) -> None:
        self._connection.close()

    def create(self, path: str = OBJECT) -> str:
        _, _, body = self("POST", f"{path}?uploads")
        return field(body, "UploadId")

    def part(self, upload: str, number: int, body: bytes) -> int:
        return self("PUT", f"{OBJECT}?partNumber={number}&uploadId={upload}", body)[0]

    def complete(self, upload: str, *numbers: int) -> tuple[int, bytes]:
        rows = "".join(f'<Part><ETag>"e"</ETag><PartNumber>{number}</PartNumber></Part>' for number in numbers)
        wanted = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        status, _, body = self("POST", f"{OBJECT}?uploadId={upload}", wanted)
        return status, body

    def counts(self, query: str = "") -> dict[str, Any]:
        counted: dict[str, Any] = json.loads(self("GET", f"/__counts{query}")[2])
        return counted


def field(body: bytes, name: str) -> str:
    found = re.search(f"<{name}>(.*?)</{name}>".encode(), body)
    assert found is not None, body
    return found[1].decode()


@contextmanager
def serving(tls: Path | None = None, **knobs: Any) -> Iterator[Client]:
    store = NullStore(Knobs(**knobs), server_context(tls) if tls else None)
    thread = threading.Thread(target=store.serve)
    thread.start()
    client = Client(store, tls and tls / "ca.pem")
    try:
        yield client
    finally:
        client.close()
        store.close()
        thread.join()


@pytest.fixture(params=["http", "https"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    with serving(tmp_path if request.param == "https" else None) as made:
        yield made


def chunks(body: bytes, size: int, *, signed: bool = False) -> bytes:
    """The body as HTTP's chunks, or S3's signed ones; without the end."""
    extension = f";chunk-signature={'0' * 64}" if signed else ""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(f"{len(piece):x}{extension}\r\n".encode() + piece + b"\r\n" for piece in pieces)


BODY = bytes(range(256)) * 1000
AWS_TRAILER = chunks(BODY, 65536) + b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
AWS_SIGNED = chunks(BODY, 65536, signed=True) + f"0;chunk-signature={'0' * 64}\r\n\r\n".encode()
FRAMED = {
    "length": ({}, BODY),
    "chunked": ({"Transfer-Encoding": "chunked"}, chunks(BODY, 8192) + b"0\r\n\r\n"),
    "aws-chunked with a trailer": ({"Content-Encoding": "aws-chunked"}, AWS_TRAILER),
    "aws-chunked, signed": ({"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, AWS_SIGNED),
    "aws-chunked in odd chunks": (
        {"Transfer-Encoding": "chunked", "Content-Encoding": "aws-chunked"},
        chunks(AWS_TRAILER, 1021) + b"0\r\n\r\n",
    ),
}


@pytest.mark.parametrize("framing", FRAMED)
def test_only_the_object_s_bytes_count_however_they_are_framed(client: Client, framing: str) -> None:
    headers, body = FRAMED[framing]
    upload = client.create()
    if "Transfer-Encoding" not in headers:
        headers = headers | {"Content-Length": str(len(body))}
    for number in (1, 2):  # the second finds the connection where it should be
        assert client("PUT", f"{OBJECT}?partNumber={number}&uploadId={upload}", body, headers)[0] == 200
    assert client.complete(upload, 1, 2)[0] == 200
    counts = client.counts()
    assert counts["bytes_received"] == counts["bytes_accepted"] == 2 * len(BODY)
    assert counts["objects"] == [{"key": OBJECT[1:], "size": 2 * len(BODY), "parts": 2}]
    assert counts["connections"] == 1


@pytest.mark.parametrize("size", [0, 1, 46, 47, 48, 16383, 16384, 16385, 16384 * 3, (256 << 10) - 1, 3 << 20])
def test_every_size_is_counted_to_the_byte(client: Client, size: int) -> None:
    """Over TLS too, where only some records are decrypted: what comes next must still be understood."""
    upload = client.create()
    for number in (1, 2, 3):
        assert client.part(upload, number, bytes(size)) == 200
    assert client.complete(upload, 1, 2, 3)[0] == 200
    counts = client.counts()
    assert counts["objects"][0]["size"] == counts["bytes_received"] == 3 * size
    assert counts["connections"] == 1


def test_what_has_come_of_a_body_is_counted_before_it_ends() -> None:
    with serving(finely=1) as client:
        url = urlsplit(client.url)
        with socket.create_connection((url.hostname or "", url.port or 0)) as sending:
            upload = client.create()
            head = f"PUT {OBJECT}?partNumber=1&uploadId={upload} HTTP/1.1\r\nContent-Length: 99999\r\n\r\n"
            sending.sendall(head.encode() + bytes(65536))
            while client.counts()["bytes_arriving"] <= 65536 - 16384:  # the last stretch may not be full yet
                pass
            assert client.counts()["bytes_received"] == 0
        while client.counts()["bytes_arriving"]:
            pass
        assert client.counts()["bytes_received"] == 65536


def test_what_is_not_stored_when_an_upload_is_aborted_was_in_vain(client: Client) -> None:
    upload = client.create()
    assert client.part(upload, 1, bytes(700)) == 200
    client.part("another-id", 1, bytes(50_000))
    assert client.counts()["bytes_given_up"] == 0
    for _ in range(2):
        client("DELETE", f"{OBJECT}?uploadId={upload}")
        assert client.counts()["bytes_given_up"] == 50_000
        client.part("another-id", 1, bytes(10))


def test_a_body_that_breaks_off_is_no_part(client: Client) -> None:
    upload = client.create()
    connection = client._connection
    connection.putrequest("PUT", f"{OBJECT}?partNumber=1&uploadId={upload}")
    connection.putheader("Content-Length", "100000")
    connection.endheaders(bytes(99_999))
    client.close()
    while client.counts()["bytes_received"] < 65536:  # it is counted when it has broken off
        pass
    assert client.counts()["parts"] == 0
    assert client.complete(upload, 1)[0] == 400


def test_an_object_is_what_was_listed_and_a_part_sent_twice_is_paid_twice(client: Client) -> None:
    upload = client.create()
    for number, size in ((1, 1000), (2, 700), (1, 900), (3, 50)):
        assert client.part(upload, number, bytes(size)) == 200
    assert client.complete(upload, 1, 2)[0] == 200
    counts = client.counts()
    assert counts["objects"] == [{"key": OBJECT[1:], "size": 1600, "parts": 2}]
    assert (counts["parts"], counts["bytes_received"], counts["bytes_accepted"]) == (4, 2650, 2650)
    assert client("HEAD", OBJECT)[1]["content-length"] == "1600"


@pytest.mark.parametrize("listed", [(1, 2), (), (1, 1)])
def test_a_part_that_never_came_cannot_be_listed(client: Client, listed: tuple[int, ...]) -> None:
    upload = client.create()
    client.part(upload, 1, b"x")
    assert client.complete(upload, *listed)[0] == 400
    assert client.counts()["objects"] == []


def test_another_s_upload_is_none(client: Client) -> None:
    upload = client.create("/bucket/other")
    assert client.part(upload, 1, b"x") == 404
    assert client.counts()["bytes_accepted"] == 0


def test_one_put_is_an_object_without_parts(client: Client) -> None:
    assert client("HEAD", OBJECT)[0] == 404
    assert (
        client("PUT", OBJECT, b"12345", {"x-amz-checksum-crc32": "AAAAAA=="})[1]["x-amz-checksum-crc32"] == "AAAAAA=="
    )
    assert client("HEAD", OBJECT)[1]["content-length"] == "5"
    assert client.counts()["objects"] == [{"key": OBJECT[1:], "size": 5, "parts": 0}]


def test_parts_are_listed_a_thousand_a_page() -> None:
    with serving() as client:
        upload = client.create()
        for number in range(1, 2002):
            client.part(upload, number, bytes(number % 7))
        seen: list[tuple[int, int]] = []
        pages, marker = 0, "0"
        while True:
            target = f"{OBJECT}?uploadId={upload}&part-number-marker={marker}"
            body = client("GET", target)[2]
            rows = re.findall(rb"<PartNumber>(\d+)</PartNumber>.*?<Size>(\d+)</Size>", body)
            assert len(rows) <= 1000
            seen += [(int(number), int(size)) for number, size in rows]
            pages += 1
            if field(body, "IsTruncated") == "false":
                break
            marker = field(body, "NextPartNumberMarker")
        assert pages == 3
        assert seen == [(number, number % 7) for number in range(1, 2002)]


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_at_another_address_and_asked_from_elsewhere(tmp_path: Path, tls: bool) -> None:
    """As over a path, where the store and those who ask it are in namespaces of their own."""
    with null_store(["--host", "127.0.0.2"], tls=tls, prefix=["env"])(tmp_path, 1) as store:
        assert store.url.startswith(("http", "https")[tls] + "://127.0.0.2:")
        assert store.size_of("key") is None
        assert store.counts()["bytes_received"] == 0


def test_what_came_with_a_part_comes_back(client: Client) -> None:
    upload = client.create()
    md5 = bytes(range(16))
    sent = {"Content-MD5": base64.b64encode(md5).decode(), "x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}
    response = client("PUT", f"{OBJECT}?partNumber=7&uploadId={upload}", b"x", sent)[1]
    assert response["etag"] == f'"{md5.hex()}"'
    assert response["x-amz-checksum-crc64nvme"] == "AAAAAAAAAAA="
    listed = client("GET", f"{OBJECT}?uploadId={upload}")[2]
    assert field(listed, "ETag").strip("&quot;") == f'"{md5.hex()}"'
    assert field(listed, "ChecksumCRC64NVME") == "AAAAAAAAAAA="


def test_a_refusal_comes_before_the_body_and_its_bytes_are_counted_as_received_only() -> None:
    with serving(slow_down_share=1.0) as client:
        status, headers, _ = client("PUT", OBJECT, b"12345")
        assert (status, headers["connection"]) == (503, "close")
        client.close()
        counts = client.counts()
    assert (counts["refused"], counts["parts"], counts["bytes_accepted"], counts["objects"]) == (1, 0, 0, [])


@pytest.mark.parametrize(("knob", "counted"), [("lost_answer_share", "lost_answers"), ("reset_share", "reset")])
def test_no_response(knob: str, counted: str) -> None:
    with serving(**{knob: 1.0}) as client:
        upload = client.create()
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            client.part(upload, 1, bytes(1 << 20))
        client.close()
        counts = client.counts()
        listed = client("GET", f"{OBJECT}?uploadId={upload}")[2]
    assert counts[counted] == 1
    assert (b"<PartNumber>1</PartNumber>" in listed) == (knob == "lost_answer_share")  # what is lost is there


def test_a_hung_part_ends_when_its_client_gives_up() -> None:
    with serving(hang_share=1.0) as client:
        url = urlsplit(f"http://{client._connection.host}:{client._connection.port}")
        with socket.create_connection((url.hostname, url.port)) as hung:
            hung.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345")
            while not client.counts()["hung"]:
                pass
        assert client.counts()["bytes_received"] == 0


def test_above_the_most_in_flight_parts_are_refused() -> None:
    with serving(most_in_flight=1) as client:
        address = client._connection.host, client._connection.port
        with socket.create_connection(address) as first:
            first.sendall(b"PUT /b/k HTTP/1.1\r\nContent-Length: 5\r\n\r\n1234")
            while not client.counts()["most_in_flight"]:
                pass
            assert client("PUT", OBJECT, b"x")[0] == 503
            client.close()
            first.sendall(b"5")
            assert first.recv(100).startswith(b"HTTP/1.1 200")
        while client("PUT", OBJECT, b"x")[0] == 503:  # it leaves after its response
            client.close()
        counts = client.counts()
    assert (counts["most_in_flight"], counts["parts"]) == (1, 2)


def test_counts_may_begin_again_and_uploads_stay(client: Client) -> None:
    upload = client.create()
    client.part(upload, 1, b"12345")
    assert client.counts("?reset")["parts"] == 1
    fresh = client.counts()
    assert (fresh["parts"], fresh["first_put"], fresh["timeline"]) == (0, None, [])
    client.part(upload, 2, b"678")
    assert client.complete(upload, 1, 2)[0] == 200
    counts = client.counts()
    assert (counts["parts"], counts["objects"][0]["size"]) == (1, 8)
    assert counts["first_put"] is not None
    assert [sum(column) for column in zip(*counts["timeline"], strict=True)] == [3, 1, 0]


SHARES = {"slow_down_share": 0.03, "error_share": 0.01, "reset_share": 0.02, "hang_share": 0.01}


def test_a_fate_is_the_seed_s_the_number_s_and_the_attempt_s() -> None:
    knobs = Knobs(**SHARES, straggler_share=0.02, lost_answer_share=0.02, seed=7)
    drawn = [fate(knobs, number, 1) for number in range(1, 10_001)]
    assert drawn == [fate(knobs, number, 1) for number in range(1, 10_001)]
    assert drawn != [fate(knobs, number, 2) for number in range(1, 10_001)]
    assert sum(met.slow_down for met in drawn) == pytest.approx(300, rel=0.2)
    assert sum(met.straggler for met in drawn) == pytest.approx(200, rel=0.2)
    assert sum(met.straggler and met.slow_down for met in drawn) < 30  # one does not bring the other
    assert fate(Knobs(), 1, 1) == Fate(False, False, False, None, False, False)


def test_every_contestant_meets_the_same_bad_parts_in_whatever_order() -> None:
    def refused(numbers: list[int]) -> set[int]:
        bad = set()
        with serving(slow_down_share=0.2, seed=3) as client:
            upload = client.create()
            for number in numbers:
                if client.part(upload, number, b"x") == 503:
                    bad.add(number)
                    client.close()
        return bad

    forwards = refused(list(range(1, 101)))
    assert forwards == refused(list(range(100, 0, -1)))
    assert forwards == {
        number for number in range(1, 101) if fate(Knobs(slow_down_share=0.2, seed=3), number, 1).slow_down
    }


def test_the_share_that_was_refused_later() -> None:
    timeline = [[0, 10, 10]] * 10 + [[0, 49, 1]] * 2
    assert refused_share({"timeline": timeline}) == 0.02
    assert refused_share({"timeline": []}) == 0.0
