"""FaultProxy, between a client and StrictS3, counts right, cuts where it is told to, and passes everything else."""

from __future__ import annotations

import asyncio
import http.client
import threading
from typing import Any

import aiohttp
import pytest
import yarl

from bigupload.testing.fault_proxy import FaultProxy
from bigupload.testing.faults import LostResponse, Status
from bigupload.testing.strict_s3 import StrictS3
from tests.strict_s3.support import BODY, BUCKET, KEY, PART, PARTS, complete, crc64, create, presign, put, send_all
from tests.tools.other_systems import LoopOfWindows

pytestmark = pytest.mark.slow  # the fake is guarded here, and not what is tested by it


def test_the_proxy_counts_parts(s3: StrictS3) -> None:
    with FaultProxy("127.0.0.1", s3.port) as proxy:
        client = s3.client(endpoint_url=proxy.url)
        upload = create(client)
        s3.script("UploadPart", Status(503, "SlowDown"))
        headers = {"x-amz-checksum-crc64nvme": crc64(PARTS[0])}
        url = presign(client, upload, PARTS[0])
        assert put(url, PARTS[0], headers)[0] == 503
        rows = send_all(client, upload)
        complete(client, upload, rows)
        assert client.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == BODY
        client.close()
        key = (f"/{BUCKET}/{KEY}", upload["UploadId"])
        first = proxy.parts[(*key, 1)]
        assert (first.attempts, first.sent_in_full, first.acknowledged, first.statuses) == (2, 2, 1, [503, 200])
        assert first.body_bytes == 2 * PART
        assert proxy.parts[(*key, 4)].body_bytes == 5
        assert len(proxy.parts) == 4
        assert proxy.bytes_acknowledged == len(BODY)
        assert proxy.bytes_taken == len(BODY) + PART


def test_the_loop_of_windows_watches_no_socket(s3: StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "new_event_loop", LoopOfWindows)
    with FaultProxy("127.0.0.1", s3.port) as proxy:
        client = s3.client(endpoint_url=proxy.url)
        assert [each["Name"] for each in client.list_buckets()["Buckets"]] == [BUCKET]
        client.close()


def test_the_proxy_calls_back(s3: StrictS3) -> None:
    calls: list[tuple[str, int, int]] = []
    with FaultProxy("127.0.0.1", s3.port) as proxy:

        def note(name: str) -> Any:
            return lambda: calls.append((name, proxy.bytes_taken, proxy.bytes_acknowledged))

        proxy.on_taken(PART + 1, note("taken"))
        proxy.on_acknowledged(2 * PART, note("acknowledged"), before_response=True)
        client = s3.client(endpoint_url=proxy.url)
        send_all(client, create(client))
        client.close()
    assert sorted(name for name, _, _ in calls) == ["acknowledged", "taken"]
    assert {name: taken for name, taken, _ in calls}["taken"] >= PART + 1
    assert {name: acked for name, _, acked in calls}["acknowledged"] == 2 * PART


def test_the_proxy_passes_resets_and_early_responses(s3: StrictS3) -> None:
    with FaultProxy("127.0.0.1", s3.port) as proxy:
        client = s3.client(endpoint_url=proxy.url)
        upload = create(client)
        url, headers = presign(client, upload, PARTS[0]), {"x-amz-checksum-crc64nvme": crc64(PARTS[0])}
        s3.script("UploadPart", LostResponse(), Status(403, read_body=False))
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            put(url, PARTS[0], headers)
        assert put(url, PARTS[0], headers)[0] == 403
        proxy.cut(refuse=True)
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            put(url, PARTS[0], headers)
        proxy.restore()
        assert put(url, PARTS[0], headers)[0] == 200
        assert proxy.parts[f"/{BUCKET}/{KEY}", upload["UploadId"], 1].statuses == [403, 200]
        client.close()


async def test_the_proxy_carries_many_connections() -> None:
    size, count = 1 << 20, 24
    data = bytes(size)
    headers = {"x-amz-checksum-crc64nvme": crc64(data)}
    with StrictS3(keep_bodies=False) as s3, FaultProxy("127.0.0.1", s3.port) as proxy:
        s3.create_bucket(BUCKET)
        client = s3.client(endpoint_url=proxy.url)
        upload = create(client)
        reached = threading.Event()
        proxy.on_acknowledged(size * count, reached.set)
        async with aiohttp.ClientSession() as session:
            for number in range(1, count + 1):
                url = presign(client, upload, data, number)
                async with session.put(yarl.URL(url, encoded=True), data=data, headers=headers) as response:
                    assert response.status == 200
        client.close()
        assert reached.wait(10)
        assert {traffic.body_bytes for traffic in proxy.parts.values()} == {size}
        assert proxy.bytes_taken == size * count
