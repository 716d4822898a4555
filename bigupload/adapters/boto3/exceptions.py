"""bigupload's errors as the exceptions that boto3 raises for the same, with the error as their cause.

A refusal of the store is a `ClientError` with S3's code, which `upload_file` wraps into `S3UploadFailedError`. A file
that can't be read is an `OSError`. What boto3 has nothing for, as a proof that fails, is an `S3UploadFailedError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from bigupload import errors
from bigupload.core.retry_policy import Fault


class _S3Code(NamedTuple):
    code: str
    status: int


_CODES: Mapping[type[errors.BigUploadError], _S3Code] = {
    errors.AccessDenied: _S3Code("AccessDenied", 403),
    errors.BucketNotFound: _S3Code("NoSuchBucket", 404),
    errors.ClockSkewed: _S3Code("RequestTimeTooSkewed", 403),
    errors.EndpointRedirects: _S3Code("PermanentRedirect", 301),
    errors.PartCorrupted: _S3Code("BadDigest", 400),
    errors.StoreUnavailable: _S3Code("ServiceUnavailable", 503),
    errors.TargetExists: _S3Code("PreconditionFailed", 412),
    errors.UploadGone: _S3Code("NoSuchUpload", 404),
    errors.WrongRegion: _S3Code("PermanentRedirect", 301),
}
"""S3's code and status for an error, where the store's own response has none."""


def translated(e: errors.BigUploadError, client: Any, operation: str, where: str) -> Exception:
    """Return the exception that boto3 raises for what an error says.

    Args:
        e: The error.
        client: The boto3 client, which has classes for some of S3's codes.
        operation: The operation of S3 that failed, by its name.
        where: What was uploaded where to, for the message.
    """
    import botocore.exceptions as b
    from boto3.exceptions import S3UploadFailedError

    fault = _fault_of(e)
    if isinstance(e, errors.SourceError) and (reason := _reason_to_read(e)) is not None:
        return reason
    if isinstance(e, errors.CredentialsError) and (fault is None or fault.code is None):
        return _of_credentials(e)
    if isinstance(e, errors.StoreUnreachable):
        return b.EndpointConnectionError(endpoint_url=client.meta.endpoint_url, error=e)
    code = _code_of(e, fault)
    if code is None:
        return S3UploadFailedError(f"Failed to upload {where}: {e}")
    made: Any = client.exceptions.from_code(code.code)
    response = {
        "Error": {"Code": code.code, "Message": str(e)},
        "ResponseMetadata": {"HTTPStatusCode": code.status, "HTTPHeaders": {}, "RetryAttempts": 0},
    }
    error: Exception = made(response, operation)
    return error


def _code_of(e: errors.BigUploadError, fault: Fault | None) -> _S3Code | None:
    if not isinstance(e, errors.StoreError | errors.PartCorrupted):
        return None
    usual = next((row for kind, row in _CODES.items() if isinstance(e, kind)), _S3Code("InvalidRequest", 400))
    if fault is None or fault.status is None:
        return usual
    return _S3Code(fault.code or usual.code, fault.status)


def _fault_of(e: BaseException | None) -> Fault | None:
    """The store's refusal that led to an error."""
    while e is not None and not isinstance(e, Fault):
        e = e.__cause__
    return e


def _reason_to_read(e: errors.SourceError) -> Exception | None:
    """What reading the source raised, in the system or in the caller's file object."""
    if isinstance(e, errors.SourceUnreadable | errors.SourceNotFound) and isinstance(e.__cause__, Exception):
        return e.__cause__
    return None


def _of_credentials(e: errors.CredentialsError) -> Exception:
    import botocore.exceptions as b

    cause = e.__cause__ or e.__context__
    if isinstance(cause, b.BotoCoreError | b.ClientError):
        return cause
    return b.NoCredentialsError()
