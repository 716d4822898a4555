"""A store with one open upload, and HttpTransport to it."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from awscrt import checksums as crt

from bigupload.core.part_plan import Part
from bigupload.http.put_transport import HttpTransport
from bigupload.ports import Gauge, PutResponse, SignedRequest
from bigupload.support.rate_limiter import RateLimiter
from bigupload.testing.strict_s3 import StrictS3
from tests.integration.support import BUCKET
from tests.tools.waiting import until


class Bench:
    """A store, a file in it, and one open upload whose parts are signed here."""

    def __init__(self, s3: StrictS3, directory: Path) -> None:
        self.s3, self.directory = s3, directory
        self.client = s3.client()
        self.upload_id = self.client.create_multipart_upload(
            Bucket=BUCKET, Key="key", ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
        )["UploadId"]
        self.gauges: list[Gauge] = []

    def sign(self, part: Part, data: bytes, **more: Any) -> SignedRequest:
        checksum = base64.b64encode(crt.crc64nvme(data).to_bytes(8, "big")).decode()
        params = {
            "Bucket": BUCKET, "Key": "key", "UploadId": self.upload_id, "PartNumber": part.number,
            "ContentLength": part.size, "ChecksumCRC64NVME": checksum,
        }  # fmt: skip
        url = self.client.generate_presigned_url("upload_part", params | more, ExpiresIn=60)
        return SignedRequest(url, {"x-amz-checksum-crc64nvme": checksum}, 60)

    async def put(
        self, transport: HttpTransport, source: Any, part: Part, on_start: Callable[[Gauge], None] | None = None
    ) -> PutResponse:
        data = Path(source.path).read_bytes()[part.offset : part.offset + part.size]
        return await transport.put(self.sign(part, data), source, part, on_start=on_start or self.gauges.append)

    def stored(self, number: int = 1) -> bytes:
        body: bytes = self.s3.uploads[self.upload_id].parts[number].body
        return body


@contextlib.contextmanager
def bench(tmp_path: Path, *, tls: bool) -> Iterator[Bench]:
    with StrictS3(tls=tls, min_part_size=1) as s3:
        s3.create_bucket(BUCKET)
        made = Bench(s3, tmp_path)
        try:
            yield made
        finally:
            made.client.close()


@contextlib.asynccontextmanager
async def transport_to(made: Bench, limiter: RateLimiter | None = None) -> AsyncIterator[HttpTransport]:
    async with HttpTransport(ca_bundle=made.s3.ca_bundle, limiter=limiter) as transport:
        yield transport


async def stalls(made: Bench, count: int = 1) -> None:
    """Until the store has stopped reading, and something of every body is out: it fills the buffers between."""
    await until(lambda: made.s3.stalled == count and len(made.gauges) >= count and all(g.sent() for g in made.gauges))
