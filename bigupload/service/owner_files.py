"""An owner's files as the store has them: list and delete them. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service import contract as c
from bigupload.service.object_keys import account_of
from bigupload.service.policy import Policy
from bigupload.service.problems import Problem, Refused
from bigupload.service.store_health import store_faults_as_refusals
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.s3.pages import ObjectPages

_PAGE = 1000
"""How many objects S3 lists in one request."""


class OwnerFiles:
    """All owners' files in one bucket: uploads, and the copies that were made for posts."""

    def __init__(
        self, bucket: S3Bucket, public_url: Callable[[str], str], *, policy: Policy, clock: Callable[[], float]
    ) -> None:
        """Make it.

        Args:
            bucket: The bucket of the uploads.
            public_url: The URL of a key for everyone.
            policy: The shape of the keys, and how long objects are kept.
            clock: The time, in seconds since 1970.
        """
        self._bucket = bucket
        self._public_url = public_url
        self._policy = policy
        self._clock = clock

    async def list(self, owner: str, request: c.ListRequest) -> c.ListResponse:
        """Return a page of an owner's files, in the order of their keys.

        Raises:
            Refused: INVALID_FIELD if the cursor is no key of the owner's.
        """
        prefix = self._policy.keys.prefix_of(account_of(owner, request.user))
        if request.cursor is not None and not request.cursor.startswith(prefix):
            message = "the cursor is not the nextCursor of an earlier page"
            raise Refused(Problem.INVALID_FIELD, message, field="cursor")
        start: dict[str, Any] = {"StartAfter": request.cursor} if request.cursor is not None else {}
        with store_faults_as_refusals():
            page = await self._bucket.call(
                "to list the files", "ListObjectsV2", Prefix=prefix, MaxKeys=request.limit, **start
            )
        rows = page.get("Contents", ())
        return c.ListResponse(
            media=[file for row in rows if (file := self._file(owner, row)) is not None],
            next_cursor=rows[-1]["Key"] if rows and page.get("IsTruncated") else None,
        )

    def _file(self, owner: str, row: Mapping[str, Any]) -> c.StoredMedia | None:
        """None for an object that is not the owner's, or that is due to be deleted."""
        if self._policy.keys.owner_of(row["Key"]) != owner:
            return None
        expires = None if self._policy.kept is None else row["LastModified"] + self._policy.kept
        if expires is not None and expires <= datetime.fromtimestamp(self._clock(), UTC):
            return None
        return c.StoredMedia(
            key=row["Key"],
            public_url=self._public_url(row["Key"]),
            user=self._policy.keys.user_of(row["Key"]),
            size=row["Size"],
            stored_at=row["LastModified"],
            expires_at=expires,
        )

    async def delete(self, owner: str, key: str, user: str | None = None) -> None:
        """Delete a file. Idempotent: one that is gone already is no error.

        Raises:
            Refused: NO_SUCH_MEDIA if the key is not one that the owner's files, or those of the user, can have.
        """
        keys = self._policy.keys
        if keys.owner_of(key) != owner or user not in (None, keys.user_of(key)):
            raise Refused(Problem.NO_SUCH_MEDIA, field="key")
        with store_faults_as_refusals():
            try:
                await self._bucket.delete(key, etag="")
            except Fault as fault:
                if fault.kind is not FaultKind.GONE:
                    raise

    async def sizes(self, account: str) -> AsyncIterator[tuple[str, int]]:
        """Yield the key and the size in bytes of all of an account's objects. Raises Fault or BigUploadError."""
        pages = ObjectPages()
        prefix = self._policy.keys.prefix_of(account)
        while not pages.ended:
            page = await self._bucket.call(
                "to add up the files", "ListObjectsV2", Prefix=prefix, MaxKeys=_PAGE, **pages.start
            )
            for row in page.get("Contents", ()):
                yield row["Key"], row["Size"]
            pages.advance(page)

    async def open_keys(self, account: str) -> AsyncIterator[str]:
        """Yield the keys of an account's open multipart uploads. Raises Fault or BigUploadError."""
        async for row in self._bucket.open_uploads(self._policy.keys.prefix_of(account)):
            yield row["Key"]
