"""What a sweep finds: keys as the service makes them, a clock, objects and open uploads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bigupload.testing.strict_s3 import StrictS3
from tests.tools.buckets import Meddled
from tests.tools.media import sample

WEEK = timedelta(days=7)
SECOND = timedelta(seconds=1)


def made(name: str) -> str:
    """A key as the service makes them: one for each name."""
    stem, _, extension = name.rpartition(".")
    return f"media/owner/{stem.encode().hex():0>32}.{extension}"


JPG = made("a.jpg")
EXE = b"MZ\x90\x00" + bytes(4096)


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.at


async def put(bucket: Meddled, key: str, body: bytes | None = None, content_type: str = "image/jpeg") -> datetime:
    """When it was written, by the store's clock. Without a body, a picture."""
    body = sample("jpg") if body is None else body
    await bucket.call("to put", "PutObject", Key=key, Body=body, headers={"content-type": content_type})
    response = await bucket.call("to look", "HeadObject", Key=key)
    written: datetime = response["LastModified"]
    return written


async def keys(bucket: Meddled, but: str = "refused/") -> set[str]:
    """Of all objects but notes."""
    rows = (await bucket.call("to list", "ListObjectsV2")).get("Contents", ())
    return {row["Key"] for row in rows if not (but and row["Key"].startswith(but))}


def stored(s3: StrictS3) -> set[str]:
    """The same, by the store's own word."""
    return {key for key in s3.objects["bucket"] if not key.startswith("refused/")}


async def open_upload(bucket: Meddled, key: str) -> datetime:
    upload = await bucket.call("to start", "CreateMultipartUpload", Key=key)
    page = await bucket.call("to list", "ListMultipartUploads", Prefix=key)
    (initiated,) = (row["Initiated"] for row in page["Uploads"] if row["UploadId"] == upload["UploadId"])
    assert isinstance(initiated, datetime)
    return initiated


async def open_keys(bucket: Meddled) -> set[str]:
    return {row["Key"] for row in (await bucket.call("to list", "ListMultipartUploads")).get("Uploads", ())}
