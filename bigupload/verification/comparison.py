"""A file and the object that is compared with it: opened together, checked together."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio

from bigupload import errors
from bigupload.core.object_claims import ObjectAttributes
from bigupload.engine.context import check_source
from bigupload.engine.retrying import Retrier
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.sources.file import FileSource, open_file
from bigupload.stores.s3.bucket_pool import BucketPool
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.targets import connect, parse_s3_url

_CHECKS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """An object that was compared with a file."""

    path: Path
    """The file, absolute."""
    bucket: str
    key: str
    url: str
    """The object's URL, without a signature."""
    size: int
    """Bytes."""
    etag: str


@dataclass(frozen=True, slots=True)
class FileAndObject:
    """A file and an object of the same size. `attributes` is what HEAD said of the object."""

    source: FileSource
    bucket: str
    key: str
    store: S3Store
    retrier: Retrier
    attributes: ObjectAttributes
    checking: anyio.CapacityLimiter
    """Threads that ask the file system whether the file has changed."""
    reading: anyio.CapacityLimiter
    """Threads that read the file. The program's own may all be waiting for this."""

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer from the file. Blocking.

        Args:
            buffer: Where the bytes go.
            offset: Position in the file, in bytes.

        Raises:
            SourceChanged: The file became shorter.
            SourceUnreadable: The file can't be read.
        """
        if self.source.read_into(buffer, offset) < len(buffer):
            raise errors.SourceChanged(f"{self.source.path} became shorter while it was compared", same_size=False)

    async def check_source(self) -> None:
        """Raises SourceChanged if the file changed since it was opened."""
        try:
            await check_source(self.source, self.checking)
        except errors.SourceChanged as e:
            raise errors.SourceChanged(
                f"{self.source.path} changed while it was compared: verify it again", same_size=e.resumable
            ) from None

    def compared(self) -> dict[str, object]:
        """The fields of `Compared`."""
        return {
            "path": Path(self.source.path),
            "bucket": self.bucket,
            "key": self.key,
            "url": self.store.url(),
            "size": self.attributes.size,
            "etag": self.attributes.etag,
        }


async def _has_bucket(store: S3Store, retrier: Retrier) -> bool:
    """Whether the bucket is there for sure. Raises BucketNotFound if it is not: the two look alike in a HEAD."""
    try:
        return await retrier.request(store.objects("").require_bucket)
    except errors.BucketNotFound:
        raise
    except (errors.StoreError, errors.UsageError):  # that is no answer to what was asked
        return False


@contextlib.asynccontextmanager
async def open_both(
    path: str | os.PathLike[str],
    url: str,
    s3: S3Options | None,
    retrier: Retrier,
    pool: BucketPool | None = None,
    reading: anyio.CapacityLimiter | None = None,
) -> AsyncIterator[FileAndObject]:
    """Open a file, and ask the store for an object's attributes.

    Args:
        path: The file.
        url: "s3://BUCKET/KEY" of the object.
        s3: How to reach the store.
        retrier: Repeats failed requests.
        pool: Where to take the connection to the bucket from.
        reading: Bounds the threads that read files. None: the caller bounds them itself.

    Raises:
        ObjectNotFound: There is no object.
        BucketNotFound: There is no such bucket.
        ObjectMismatch: Its size is not the file's.
        SourceError: The file can't be opened.
        StoreError: The store refused, or can't be reached.
    """
    with await open_file(path) as source:
        bucket, key = parse_s3_url(url)
        store = await connect(bucket, key, s3 or S3Options(), pool, creates_bucket=False)
        async with contextlib.aclosing(store):
            attributes = await retrier.request(store.attributes)
            if attributes is None:
                doubt = "" if await _has_bucket(store, retrier) else ", or no such bucket"
                raise errors.ObjectNotFound(f"there is no object at {url}{doubt}: check the name")
            if attributes.size != source.fingerprint.size:
                raise errors.ObjectMismatch(
                    f"{url} has {attributes.size:,} bytes, and the file has {source.fingerprint.size:,}"
                )
            checking, reading = anyio.CapacityLimiter(_CHECKS_AT_ONCE), reading or anyio.CapacityLimiter(math.inf)
            yield FileAndObject(source, bucket, key, store, retrier, attributes, checking, reading)
