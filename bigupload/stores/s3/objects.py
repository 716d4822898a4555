"""Whole objects of one bucket, each by one presigned PUT. Implements `ports.ObjectStore`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

from bigupload import errors
from bigupload.core.checksums import Algorithm
from bigupload.core.content_types import NamedType, type_of
from bigupload.core.integrity import ObjectFacts
from bigupload.core.manifest import Target
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.http_errors import no_bucket
from bigupload.options import S3Options
from bigupload.ports import MultipartStore, SignedRequest, UnsignedPut
from bigupload.s3_parameters import OBJECT, TOKEN, metadata_headers, parameters
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.s3.operations import ObjectPages, name_options, required_field, rows

ListedRow: TypeAlias = tuple[str, int, str]
"""An object's key, its size in bytes, and its ETag."""


class S3Objects:
    """The keys of one bucket, and the properties that all objects get."""

    def __init__(self, bucket: S3Bucket, options: S3Options, token: str, at: Callable[[str], MultipartStore]) -> None:
        """Send nothing yet.

        Args:
            bucket: The connection, which the caller closes.
            options: The objects' properties.
            token: Goes into the metadata of each object.
            at: Returns the store of one key.
        """
        self._bucket = bucket
        self._options = options
        self._at = at
        self._of_bucket = at("").target
        self.token = token
        self.replaces = not options.if_none_match
        self._common = {**parameters(OBJECT, options), **metadata_headers({TOKEN: token}), **bucket.headers}

    def with_token(self, token: str) -> S3Objects:
        """Return the same store, with another token in the metadata."""
        return S3Objects(self._bucket, self._options, token, self._at)

    def target(self, key: str) -> Target:
        of_bucket = self._of_bucket
        return Target(bucket=of_bucket.bucket, key=key, endpoint=of_bucket.endpoint, region=of_bucket.region)

    def url(self, key: str) -> str:
        return self._bucket.url(key)

    async def prepare(self) -> None:
        """Ask AWS for the bucket's region if nobody named it: a PUT that is signed for another one is refused."""
        if self._options.endpoint_url is None and self._options.region is None:
            await self.require_bucket()  # a caller without the right to look at it learns the region all the same
        await self._bucket.prepare()

    async def sign_put(self, put: UnsignedPut) -> SignedRequest:
        headers = dict(self._common)
        if self._options.content_type is None:
            named = _type_of(put.name)
            headers["content-type"] = named.content_type
            if named.content_encoding is not None:
                headers.setdefault("content-encoding", named.content_encoding)  # the options may have another
        if put.conditional:
            headers["if-none-match"] = "*"
        headers |= put.headers
        signed = {**headers, "content-length": str(put.size)}
        (url,) = await self._bucket.presign("PutObject", [{"Key": put.key, "Headers": signed}])
        return SignedRequest(url, headers, self._bucket.urls_last(), subject="the object")

    def refused(self, request: SignedRequest, fault: Fault) -> None:
        if fault.is_decided and isinstance(error := fault.public(), errors.BucketNotFound):  # does not know its name
            raise no_bucket(self._bucket.name).public() from error
        if fault.kind in (FaultKind.REFUSED, FaultKind.SKEWED):
            self._bucket.refused_url(request.url, fault)
        name_options(fault, self._options)

    async def stat(self, key: str, algorithm: Algorithm) -> ObjectFacts | None:
        return await self._at(key).stat("", algorithm)

    # -- the list and the deletes of a sync: see `api.sync`

    async def next_objects(self, prefix: str, pages: ObjectPages) -> list[ListedRow]:
        """List the next page of the objects whose keys begin with `prefix`.

        After a Fault, a repeated call requests the same page.

        Raises:
            Fault: FINAL if the list repeats a page, or names other objects.
        """
        page = await self._bucket.call("to list the objects", "ListObjectsV2", Prefix=prefix, **pages.start)
        listed = rows(page, "Contents")
        if not all(row.get("Key") and "Size" in row for row in listed):
            for row in listed:  # one of them has not all that every store lists
                required_field(row, "Key", str)
                required_field(row, "Size", int)
        found = [(row["Key"], row["Size"], row.get("ETag", "")) for row in listed]
        if not all(key.startswith(prefix) for key, _, _ in found):  # they would be deleted
            raise Fault(
                FaultKind.FINAL,
                f"the store lists objects whose keys do not begin with {prefix!r}: nothing more is done with its list",
            )
        pages.advance(page)
        return found

    async def require_bucket(self) -> bool:
        """Look whether the bucket is there: some stores list nothing for one that is not.

        Returns:
            Whether it is there for sure. Credentials that may not look at the bucket learn nothing.

        Raises:
            BucketNotFound: There is no such bucket.
            Fault: The request failed.
        """
        try:
            is_there = await self._bucket.exists()
        except Fault as fault:
            if fault.kind is not FaultKind.REFUSED:
                raise
            return False
        if not is_there:
            raise no_bucket(self._bucket.name).public()
        return True

    async def delete(self, key: str, *, etag: str) -> None:
        """Delete an object if it has an ETag. See `S3Bucket.delete`."""
        await self._bucket.delete(key, etag=etag)

    async def delete_many(self, objects: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Delete objects by one request. See `S3Bucket.delete_many`."""
        return await self._bucket.delete_many(objects)


def _type_of(name: str) -> NamedType:
    """`type_of`, which remembers: many files have the same ending. It takes two, as in ".tar.gz", into account."""
    return type_of(name) if name.startswith(".") else _type_of_ending(*name.rsplit(".", 2)[1:])


@functools.lru_cache(maxsize=1000)
def _type_of_ending(*ending: str) -> NamedType:
    return type_of(".".join(("name", *ending)))
