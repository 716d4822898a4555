"""Objects as other tools would upload them: in one PUT, or in parts of any sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from bigupload.core.part_plan import Plan
from bigupload.testing.strict_s3 import StrictS3

from .support import BUCKET, KIB

URL = f"s3://{BUCKET}/key"
SIZE = 300 * KIB + 7


def put(s3: StrictS3, body: bytes, **more: Any) -> None:
    client = s3.client()
    client.put_object(Bucket=BUCKET, Key="key", Body=body, **more)
    client.close()


def put_parts(client: Any, body: bytes, sizes: list[int], **declared: Any) -> None:
    """As another tool would upload it, in parts of any sizes."""
    upload = client.create_multipart_upload(Bucket=BUCKET, Key="key", **declared)["UploadId"]
    algorithm = declared.get("ChecksumAlgorithm", "CRC32")
    rows, at = [], 0
    for number, size in enumerate(sizes, 1):
        response = client.upload_part(
            Bucket=BUCKET, Key="key", UploadId=upload, PartNumber=number, Body=body[at : at + size],
            ChecksumAlgorithm=algorithm,
        )  # fmt: skip
        name = f"Checksum{algorithm}"
        rows.append(
            {"PartNumber": number, "ETag": response["ETag"]} | ({name: response[name]} if name in response else {})
        )
        at += size
    assert at == len(body)
    client.complete_multipart_upload(Bucket=BUCKET, Key="key", UploadId=upload, MultipartUpload={"Parts": rows})


def upload_parts(s3: StrictS3, body: bytes, sizes: list[int], **declared: Any) -> None:
    client = s3.client()
    put_parts(client, body, sizes, **declared)
    client.close()


def even(size: int, part_size: int) -> list[int]:
    return [part.size for part in Plan(size, part_size)]


def flipped(path: Path, at: int) -> Path:
    """The file, with one byte that is another."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    other = path.with_name("other.bin")
    other.write_bytes(data)
    return other


def replace(s3: StrictS3) -> None:
    s3.objects[BUCKET]["key"].etag = '"00000000000000000000000000000bad"'


def replace_alike(s3: StrictS3) -> None:
    """By other bytes of the same size, where ETags do not depend on the content."""
    found = s3.objects[BUCKET]["key"]
    assert found.checksum is not None
    found.checksum = dataclasses.replace(found.checksum, value=f"AAAA{found.checksum.value[4:]}")


def claim(s3: StrictS3, **checksums: str) -> None:
    """Let the store report these checksums of each object, beside its own. By algorithm, as S3 writes them."""
    more = {f"x-amz-checksum-{name}": value for name, value in checksums.items()}
    s3.knobs.respond = lambda op, response: (
        dataclasses.replace(response, headers={**response.headers, **more}) if op == "HeadObject" else response
    )


def delete(s3: StrictS3) -> None:
    s3.objects[BUCKET].clear()
