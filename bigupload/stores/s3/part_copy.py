"""UploadPartCopy: the request, its response, and what its failures mean. The store copies the bytes, none pass here.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bigupload.core.checksums import Algorithm
from bigupload.core.copies import CopySource
from bigupload.core.part_plan import Part
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.ports import PutResponse
from bigupload.s3_parameters import CUSTOMER_KEY
from bigupload.stores.s3.operations import copy_source

COPY_WITHIN = 300.0
"""Timeout in seconds: the store may work on a part of 5 GiB for minutes before it responds."""
_OTHER_OBJECT = ("NoSuchKey", "NoSuchVersion", "PreconditionFailed")
_NOT_COPIED = (FaultKind.FINAL, FaultKind.UNSUPPORTED, FaultKind.CORRUPTED, FaultKind.INVALID_PART, FaultKind.CONFLICT)
"""A store that knows no copies may find any fault with a part without bytes."""


def arguments_of_copy(part: Part, origin: CopySource, of_requests: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of the call that copies a part's range of an object.

    `of_requests` are the headers of every request to the bucket: of them, the customer key may be the object's too.
    """
    arguments: dict[str, Any] = {
        "CopySource": copy_source(origin.bucket, origin.key, origin.version_id),
        "CopySourceIfMatch": origin.etag,
        "PartNumber": part.number,
    }
    if part.size < origin.size:  # of an object of up to 5 MB, S3 copies no range
        arguments["CopySourceRange"] = f"bytes={part.offset}-{part.offset + part.size - 1}"
    if origin.owner is not None:
        arguments["ExpectedSourceBucketOwner"] = origin.owner
    if origin.customer_key:
        arguments["headers"] = {
            name.replace("x-amz-", "x-amz-copy-source-", 1): value
            for name, value in of_requests.items()
            if name.startswith(CUSTOMER_KEY)
        }
    return arguments


def response_of_copy(answer: Mapping[str, Any]) -> PutResponse:
    """Read the response.

    Raises:
        Fault: UNSUPPORTED, with status 200, if it is no response to a copy. A store that does not know of copies takes
            the request for a part without bytes.
    """
    etag = answer.get("ETag")
    if not isinstance(etag, str) or not etag:
        raise Fault(
            FaultKind.UNSUPPORTED, "the store was asked to copy a part, and does not say that it did", status=200
        )
    found = {a.header: answer.get(f"Checksum{a.s3_name}") for a in Algorithm if a.is_s3_checksum}
    return PutResponse(etag, {header: value for header, value in found.items() if value})


def fault_of_copy(fault: Fault) -> Fault:
    """Say what the failure of a request means for a copy, which has two objects that may be missing."""
    if fault.code in _OTHER_OBJECT or fault.status == 412:
        kind, message = FaultKind.EXISTS, f"the object to copy from was replaced or deleted ({fault})"
    elif fault.kind in _NOT_COPIED:
        kind, message = FaultKind.UNSUPPORTED, str(fault)
    else:
        return fault
    return Fault(kind, message, status=fault.status, code=fault.code)
