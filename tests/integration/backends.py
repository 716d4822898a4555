"""The stores that one contract holds for, and one part sent to them by hand."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from awscrt import checksums as crt

from bigupload import S3Options, errors
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import PartProof
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import MIB, Part, Plan
from bigupload.core.retry_policy import Fault
from bigupload.http.put_transport import HttpTransport
from bigupload.ports import PutResponse, SignedRequest, UnsignedPart
from bigupload.sources.file import FileSource
from bigupload.stores.local_store import LocalStore
from bigupload.stores.s3.multipart import S3Store
from bigupload.testing.strict_s3 import StrictS3
from tests.tools.buckets import options_for

from .support import BUCKET, assert_secretless

PART = 5 * MIB  # of the least size that real stores take
TOKEN = "0123456789abcdef0123456789abcdef"
ANY_UPLOAD = "any"


@dataclass
class Backend:
    """A store to reach, and who it is."""

    name: str
    options: S3Options
    directory: Path
    s3: StrictS3 | None = None

    def store(self, key: str = "key", bucket: str = BUCKET, **changed: Any) -> S3Store:
        return S3Store(bucket, key, replace(self.options, **changed))

    @property
    def secret(self) -> str:
        assert self.options.secret_key is not None
        return self.options.secret_key


def strict(s3: StrictS3, directory: Path) -> Backend:
    options = S3Options(
        endpoint_url=s3.url,
        region=s3.region,
        ca_bundle=s3.ca_bundle,
        access_key=s3.access_key,
        secret_key=s3.secret_key,
    )
    return Backend("strict", options, directory, s3)


def backend(name: str, request: pytest.FixtureRequest, directory: Path) -> Backend:
    if name == "moto":
        url: str = request.getfixturevalue("moto")
        return Backend(
            name,
            S3Options(endpoint_url=url, region="us-east-1", access_key="a", secret_key="moto-secret-key"),
            directory,
        )
    if name == "seaweedfs":
        weed: LocalStore = request.getfixturevalue("weed")
        options = options_for(weed)
        return Backend(name, options, directory)
    s3: StrictS3 = request.getfixturevalue("s3_tls" if name == "strict-https" else "s3")
    return strict(s3, directory)


def crc(data: bytes) -> str:
    return base64.b64encode(crt.crc64nvme(data).to_bytes(8, "big")).decode()


def headers_of(data: bytes) -> dict[str, str]:
    return {Algorithm.CRC64NVME.header: crc(data)}


async def create(store: S3Store, size: int = PART, **more: Any) -> str:
    arguments: dict[str, Any] = {"declare": True, "token": TOKEN} | more
    return (await store.create(Plan(size, PART), Algorithm.CRC64NVME, **arguments)).upload_id


async def send(backend: Backend, request: SignedRequest, data: bytes, number: int = 1) -> PutResponse:
    path = backend.directory / f"part-{number}"
    path.write_bytes(data)
    with FileSource(path) as source:
        async with HttpTransport(ca_bundle=backend.options.ca_bundle) as transport:
            return await transport.put(request, source, Part(number, 0, len(data)), on_start=lambda _: None)


async def put(backend: Backend, store: S3Store, upload: str, number: int, data: bytes) -> PartRecord:
    (request,) = await store.sign(upload, [UnsignedPart(number, len(data), headers_of(data))])
    response = await send(backend, request, data, number)
    return PartRecord(number=number, size=len(data), etag=response.etag, checksum=crc(data), proof=PartProof.CHECKSUM)


async def raised(awaitable: Any, secrets: list[str]) -> BaseException:
    """What it raises, which holds nothing secret."""
    with pytest.raises((Fault, errors.BigUploadError)) as caught:
        await awaitable
    assert_secretless(caught.value, secrets)
    return caught.value
