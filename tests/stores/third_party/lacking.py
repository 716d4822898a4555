"""What a store lacks of what bigupload uses, asked through boto3: one small question each, without bigupload."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from botocore.exceptions import ClientError

from bigupload.core.checksums import Algorithm, digest_of, encode

from .trial_client import BUCKET

_KEY = "probe"
_BODY = b"one part"
_OTHER = b"other bytes"


def what_it_lacks(s3: Any) -> list[str]:
    """In words for the table, in the order of the questions."""
    return [words for words, has in _QUESTIONS.items() if not has(s3)]


@contextlib.contextmanager
def _upload(s3: Any, **arguments: Any) -> Iterator[dict[str, Any]]:
    """An open upload, aborted at the end where the store can."""
    upload_id = s3.create_multipart_upload(Bucket=BUCKET, Key=_KEY, **arguments)["UploadId"]
    try:
        yield {"Bucket": BUCKET, "Key": _KEY, "UploadId": upload_id}
    finally:
        with contextlib.suppress(ClientError):
            s3.abort_multipart_upload(Bucket=BUCKET, Key=_KEY, UploadId=upload_id)


def _status(call: Callable[..., Any], **arguments: Any) -> int:
    """The HTTP status of its response."""
    try:
        response = call(**arguments)
    except ClientError as e:
        response = e.response
    status: int = response["ResponseMetadata"]["HTTPStatusCode"]
    return status


def _works(call: Callable[..., Any], **arguments: Any) -> bool:
    return _status(call, **arguments) < 300


def _crc(data: bytes) -> str:
    return encode(digest_of(Algorithm.CRC64NVME, data))


def _echoes_checksums(s3: Any) -> bool:
    try:
        with _upload(s3, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT") as upload:
            response = s3.upload_part(**upload, PartNumber=1, Body=_BODY, ChecksumCRC64NVME=_crc(_BODY))
    except ClientError:
        return False
    return bool(response.get("ChecksumCRC64NVME") == _crc(_BODY))


def _checks_checksums(s3: Any) -> bool:
    try:
        with _upload(s3, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT") as upload:
            right, wrong = (
                _works(s3.upload_part, **upload, PartNumber=1, Body=_BODY, ChecksumCRC64NVME=_crc(data))
                for data in (_BODY, _OTHER)
            )
            return right and not wrong
    except ClientError:
        return False


def _checks_md5(s3: Any) -> bool:
    wrong = base64.b64encode(digest_of(Algorithm.MD5, _OTHER)).decode()
    with _upload(s3) as upload:
        return not _works(s3.upload_part, **upload, PartNumber=1, Body=_BODY, ContentMD5=wrong)


def _lists_parts(s3: Any) -> bool:
    with _upload(s3) as upload:
        return _works(s3.list_parts, **upload)


def _lists_uploads(s3: Any) -> bool:
    with _upload(s3):
        return _works(s3.list_multipart_uploads, Bucket=BUCKET)


def _aborts(s3: Any) -> bool:
    with _upload(s3) as upload:
        return _works(s3.abort_multipart_upload, **upload)


def _keeps_conditions(s3: Any) -> bool:
    s3.put_object(Bucket=BUCKET, Key=_KEY, Body=_OTHER)
    with _upload(s3) as upload:
        part = {"PartNumber": 1, "ETag": s3.upload_part(**upload, PartNumber=1, Body=_BODY)["ETag"]}
        parts = {"Parts": [part]}
        return _status(s3.complete_multipart_upload, **upload, MultipartUpload=parts, IfNoneMatch="*") == 412


def _checks_signatures(s3: Any) -> bool:
    with _upload(s3) as upload:
        url = s3.generate_presigned_url("upload_part", Params=upload | {"PartNumber": 1})
        forged = url.replace("X-Amz-Signature=", "X-Amz-Signature=0")
        return httpx.put(forged, content=_BODY, trust_env=False).status_code == 403


_QUESTIONS: dict[str, Callable[[Any], bool]] = {
    "part checksums in its responses": _echoes_checksums,
    "a check of part checksums": _checks_checksums,
    "a check of Content-MD5": _checks_md5,
    "ListParts": _lists_parts,
    "ListMultipartUploads": _lists_uploads,
    "AbortMultipartUpload": _aborts,
    "If-None-Match at complete": _keeps_conditions,
    "a check of presigned signatures": _checks_signatures,
}
