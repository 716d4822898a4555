"""What a job's record says of a file, as the result of an upload, and the other way round."""

from __future__ import annotations

from pathlib import Path

from bigupload.core.manifest import Fingerprint
from bigupload.engine.upload_run import UploadResult
from bigupload.manifests.job_record import RecordedFile
from bigupload.options import S3Options
from bigupload.stores.targets import LOCAL, reach


async def job_target(prefix: str, s3: S3Options) -> str:
    """Return what a job's record calls its target: the endpoint is part of it."""
    endpoint = LOCAL if s3.local else (await reach(s3)).endpoint_url
    return prefix if endpoint is None else f"{prefix} at {endpoint}"


def recorded_file(key: str, path: str, fingerprint: Fingerprint, result: UploadResult) -> RecordedFile:
    """Return what is recorded of a file that is in the store. `key` is below the job's target."""
    return RecordedFile(
        key=key,
        path=path,
        fingerprint=fingerprint,
        etag=result.etag,
        checksum=result.checksum,
        verified=result.verified,
        version_id=result.version_id,
        place=None if result.bucket else (result.key, result.url),
    )


def result_of_record(found: RecordedFile, record: Path, *, bucket: str, key: str, url: str) -> UploadResult:
    """Return the result of a file that an earlier run uploaded."""
    return UploadResult(
        path=Path(found.path),
        bucket=bucket,
        key=key,
        url=url,
        size=found.fingerprint.size,
        etag=found.etag,
        checksum=found.checksum,
        verified=found.verified,
        parts=0,
        resumed_parts=0,
        bytes_sent=0,
        retries=0,
        seconds=0.0,
        manifest=record,
        skipped=True,
        version_id=found.version_id,
    )
