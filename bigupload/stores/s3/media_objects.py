"""The objects of a media bucket, by key: look at the beginning of one, delete it, leave a note. Through botocore.

Knows neither owners nor what is allowed. Every call raises Fault or a public error, as `ports` says.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.stores.s3.client import S3Bucket, metadata_of

_COPY_WITHIN = 300.0
"""Seconds that the store has for a copy of 5 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHead:
    """What an object is, and how it begins."""

    size: int
    """Bytes."""
    etag: str
    content_type: str
    head: bytes
    """Its first bytes, as many as were asked for."""
    modified: datetime.datetime
    headers: Mapping[str, str] = field(default_factory=dict)
    """The response's, names in lower case: those that a client sent with a PUT are among them."""


class MediaBucket:
    """Objects of one bucket."""

    def __init__(self, bucket: S3Bucket) -> None:
        self.bucket = bucket

    async def look(self, key: str, *, first: int, etag: str = "") -> ObjectHead | None:
        """The object and its first `first` bytes; None where there is none.

        With `etag`, raises Fault(EXISTS) where the object has another ETag by now.
        """
        condition: dict[str, Any] = {"IfMatch": etag} if etag else {}
        try:
            return await self._look(key, first, Range=f"bytes=0-{first - 1}", **condition)
        except Fault as fault:
            if fault.status == 416:  # the object is empty, and has no range of bytes
                return await self._look(key, first, **condition)
            if fault.kind is FaultKind.GONE or fault.status == 404:
                return None
            raise

    async def _look(self, key: str, first: int, **arguments: Any) -> ObjectHead:
        answer = await self.bucket.call("to look at the object", "get_object", Key=key, first=first, **arguments)
        total = answer.get("ContentRange", "").rpartition("/")[2]
        return ObjectHead(
            size=int(total) if total.isdigit() else answer["ContentLength"],
            etag=answer.get("ETag", ""),
            content_type=answer.get("ContentType", ""),
            head=answer["Body"],
            modified=answer["LastModified"],
            headers=answer["ResponseMetadata"]["HTTPHeaders"],
        )

    async def copy(self, key: str, to: str, *, etag: str, content_type: str) -> None:
        """Have the store copy the object at `key` to the key `to`, with `content_type` and no other header.

        Raises Fault(EXISTS) where the object has another ETag by now and the store knows the condition.
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html: one copy is of up to 5 GB.
        """
        condition: dict[str, Any] = {"CopySourceIfMatch": etag} if etag else {}
        await self.bucket.call(
            "to copy the object",
            "copy_object",
            within=_COPY_WITHIN,
            Key=to,
            CopySource={"Bucket": self.bucket.name, "Key": key},
            MetadataDirective="REPLACE",
            ContentType=content_type,
            **condition,
        )

    async def delete(self, key: str, *, etag: str) -> None:
        """Delete the object. Raises Fault(EXISTS) where it has another ETag by now and the store knows If-Match."""
        condition: dict[str, Any] = {"IfMatch": etag} if etag else {}
        try:
            await self.bucket.call("to delete the object", "delete_object", Key=key, **condition)
        except Fault as fault:
            if fault.kind is not FaultKind.UNSUPPORTED or not condition:
                raise
            await self.bucket.call("to delete the object", "delete_object", Key=key)

    async def delete_unchanged(self, key: str, *, etag: str, modified: datetime.datetime) -> bool:
        """Delete an object unless it is another by now: its key may have been sent again, since a URL lives an hour.

        The condition covers other bytes, and the look right before the same bytes under another Content-Type. What
        remains: on a store that knows no If-Match, an object that is replaced between the two calls is lost. Its
        client's next use of the publicUrl says so.
        """
        try:
            answer = await self.bucket.call("to look at the object", "head_object", Key=key)
            # A list may have fractions of a second; the header never has.
            if answer.get("ETag", "") != etag or answer["LastModified"] != modified.replace(microsecond=0):
                return False
            await self.delete(key, etag=etag)
        except Fault as fault:
            if fault.kind in (FaultKind.GONE, FaultKind.EXISTS) or fault.status == 404:
                return False
            raise
        return True

    async def put_note(self, key: str, metadata: Mapping[str, str]) -> None:
        """An empty object that carries `metadata` (ASCII)."""
        await self.bucket.call("to leave a note", "put_object", Key=key, Body=b"", Metadata=dict(metadata))

    async def note(self, key: str) -> Mapping[str, str] | None:
        """The metadata of an object; None where there is none."""
        try:
            answer = await self.bucket.call("to look for a note", "head_object", Key=key)
        except Fault as fault:
            if fault.kind is FaultKind.GONE or fault.status == 404:
                return None
            raise
        return metadata_of(answer)

    async def open_uploads(self, prefix: str, *, most: int) -> int:
        """How many multipart uploads under `prefix` are open, counted up to `most`."""
        page = await self.bucket.call(
            "to count the open uploads", "list_multipart_uploads", Prefix=prefix, MaxUploads=most
        )
        return len(page.get("Uploads", ()))

    async def sign_put(self, key: str, content_type: str, size: int | None) -> str:
        """A URL to PUT the object to, bound to the content type and, where given, to the size in bytes."""
        bound: dict[str, Any] = {"Key": key, "ContentType": content_type}
        if size is not None:
            bound["ContentLength"] = size
        (url,) = await self.bucket.presign("put_object", [bound])
        return url
