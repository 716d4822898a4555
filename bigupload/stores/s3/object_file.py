"""Reads an object that is uploaded elsewhere: in ranges of one version, by presigned GETs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio

from bigupload import errors
from bigupload.core.checksums import Algorithm, ChecksumType
from bigupload.core.integrity import CopySource
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.client import read_range
from bigupload.ports import SignedRequest
from bigupload.records import dataclass
from bigupload.stores.s3.bucket import BucketPool, S3Bucket
from bigupload.stores.s3.operations import required_field

_RENEW_BEFORE = 60.0
"""Seconds before a presigned URL expires at which a new one is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectVersion:
    """The version of an object that is read. `size` in bytes."""

    etag: str
    size: int
    version_id: str | None
    content_type: str | None
    content_encoding: str | None
    checksums: Mapping[Algorithm, str]
    """The whole object's checksums, from its store, by the algorithms whose parts' checksums can be combined."""

    @property
    def pin(self) -> str:
        """The identity of this version."""
        return self.etag if self.version_id is None else f"{self.etag} {self.version_id}"


class ObjectFile:
    """One object of a bucket."""

    def __init__(self, shown: str, bucket: S3Bucket, key: str, pool: BucketPool, *, stall_after: float) -> None:
        """Send nothing yet.

        Args:
            shown: What messages call the object.
            bucket: A connection to its bucket, of `pool`. It goes back there.
            key: Its key.
            pool: The connections of the `Uploader`.
            stall_after: Seconds without a byte after which a request fails with Fault(STALLED).
        """
        self._shown = shown
        self._bucket: S3Bucket | None = bucket
        self._key = key
        self._pool = pool
        self._stall_after = stall_after
        self._version: ObjectVersion | None = None
        self._signed: tuple[SignedRequest, float] | None = None
        self._signing = anyio.Lock()
        """One signs for all reads: if its URL is refused, none is left that was signed with the same credentials."""

    async def aclose(self) -> None:
        """Give the connection to the bucket back. May be called again."""
        bucket, self._bucket = self._bucket, None
        if bucket is not None:
            await self._pool.release(bucket)

    async def look(self) -> ObjectVersion:
        """Find the version that is read from now on.

        Raises:
            Fault: A retry may help.
            SourceNotFound: There is no such object.
            StoreError: No retry can help.
        """
        try:
            answer = await self._of_bucket.head(self._key, ChecksumMode="ENABLED")
            if answer is None:
                raise errors.SourceNotFound(f"there is no object at {errors.IT}, or no such bucket", it=self._shown)
            etag, size = required_field(answer, "ETag", str), required_field(answer, "ContentLength", int)
        except Fault as fault:
            raise fault.of_source(self._shown) from fault
        version_id = answer.get("VersionId")
        self._version = ObjectVersion(
            etag=etag,
            size=size,
            version_id=None if version_id == "null" else version_id,
            content_type=answer.get("ContentType"),
            content_encoding=answer.get("ContentEncoding"),
            checksums=_whole_checksums(answer),
        )
        return self._version

    def as_copy_source(self) -> CopySource:
        """The version that `look` found, for the store to copy from."""
        version, bucket = self._version, self._of_bucket
        assert version is not None
        return CopySource(
            bucket=bucket.name,
            key=self._key,
            etag=version.etag,
            size=version.size,
            version_id=version.version_id,
            owner=bucket.options.expected_bucket_owner,
        )

    @property
    def _of_bucket(self) -> S3Bucket:
        if self._bucket is None:
            raise errors.SourceUnreadable(f"can't read {errors.IT}: the upload has ended", it=self._shown)
        return self._bucket

    async def read(self, start: int, end: int, take: Callable[[bytes], Awaitable[None]]) -> None:
        """Read one range of the version that `look` found.

        Args:
            start: The first byte.
            end: The byte after the last one.
            take: Gets the bytes as they arrive. What it got counts, whatever fails later.

        Raises:
            Fault: A retry may help.
            SourceChanged: It is another version by now, or was deleted.
        """
        version, bucket = self._version, self._of_bucket
        assert version is not None

        request = None
        try:
            request = await self._request(bucket, version)
            await read_range(
                bucket.client,
                request,
                start,
                end,
                etag=version.etag,
                size=version.size,
                within=self._stall_after,
                take=take,
            )
        except Fault as fault:
            if fault.is_absent or fault.kind is FaultKind.EXISTS:
                raise errors.SourceChanged(
                    f"{errors.IT} was replaced or deleted while it was read. Nothing was completed: make the same "
                    "call again to upload it as it is now",
                    it=self._shown,
                    same_size=True,
                ) from fault
            if fault.kind in (FaultKind.REFUSED, FaultKind.SKEWED) and request is not None:
                bucket.refused_url(request.url, fault)
                if self._signed is not None and self._signed[0] is request:  # else another read has replaced it
                    self._signed = None
            raise fault.of_source(self._shown) from fault

    async def _request(self, bucket: S3Bucket, version: ObjectVersion) -> SignedRequest:
        async with self._signing:
            now = anyio.current_time()
            if self._signed is None or now > self._signed[1]:
                which = {"Key": self._key} | ({} if version.version_id is None else {"VersionId": version.version_id})
                (url,) = await bucket.presign("GetObject", [which])
                lasts = bucket.urls_last()
                self._signed = SignedRequest(url, bucket.headers, lasts), now + lasts - _RENEW_BEFORE
            return self._signed[0]


def _whole_checksums(answer: Mapping[str, Any]) -> dict[Algorithm, str]:
    if answer.get("ChecksumType") not in (None, ChecksumType.FULL_OBJECT):
        return {}
    found = {a: answer.get(f"Checksum{a.s3_name}") for a in Algorithm if a.is_crc}
    return {a: value for a, value in found.items() if isinstance(value, str) and "-" not in value}
