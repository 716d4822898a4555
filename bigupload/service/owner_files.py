"""An owner's files as the store has them: list and delete them. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service import contract as c
from bigupload.service.media import content_type_of
from bigupload.service.object_keys import account_of, decoded
from bigupload.service.policy import Policy
from bigupload.service.problems import Problem, Refused
from bigupload.service.store_health import store_faults_as_refusals
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.s3.operations import ObjectPages, UploadPages

_PAGE = 1000
"""How many objects S3 lists in one request."""
_LOOKS_AT_ONCE = 16
_Rows = list[tuple[str, str]]  # inside of OwnerFiles, `list` is its method


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
            media = [
                file for row in rows if (file := self._file(owner, row)) is not None and _is_in_time(file, request)
            ]
            if request.details or request.content_type is not None or request.metadata is not None:
                media = [file for file in await self._with_details(media) if _is_wanted(file, request)]
        return c.ListResponse(
            media=media,
            next_cursor=rows[-1]["Key"] if rows and page.get("IsTruncated") else None,
        )

    async def _with_details(self, files: Sequence[c.StoredMedia]) -> Sequence[c.StoredMedia]:
        """Ask the store for each file, some at a time. What is gone meanwhile is left out. Raises Fault."""
        at_once = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look(file: c.StoredMedia) -> c.StoredMedia | None:
            async with at_once:
                head = await self._bucket.head(file.key)
            if head is None:
                return None
            metadata, filename = decoded(head["Metadata"])
            details = {"content_type": head.get("ContentType"), "filename": filename, "metadata": metadata}
            return file.model_copy(update=details)

        return [file for file in await asyncio.gather(*map(look, files)) if file is not None]

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
        self.check_key(owner, key, user)
        with store_faults_as_refusals():
            try:
                await self._bucket.delete(key, etag="")
            except Fault as fault:
                if fault.kind is not FaultKind.GONE:
                    raise

    async def read_url(self, owner: str, request: c.ReadUrlRequest) -> c.ReadUrlResponse:
        """Sign a GET of a file.

        Raises:
            Refused: NO_SUCH_MEDIA if there is no such file of the owner's, or of the user's.
        """
        self.check_key(owner, request.key, request.user)
        with store_faults_as_refusals():
            head = await self._bucket.head(request.key)
            if head is None:
                raise Refused(Problem.NO_SUCH_MEDIA, field="key")
            given = {"Key": request.key}
            if request.download:
                _, filename = decoded(head["Metadata"])
                given["ResponseContentDisposition"] = _attachment(filename or request.key)
            (url,) = await self._bucket.presign("GetObject", [given], lifetime=request.expires_in)
        return c.ReadUrlResponse(url=url, expires_in=request.expires_in)

    async def open_uploads(self, owner: str, request: c.OpenUploadsRequest) -> c.OpenUploadsResponse:
        """Return a page of an owner's open uploads, as the store orders them.

        Raises:
            Refused: INVALID_FIELD if the cursor is none.
        """
        prefix = self._policy.keys.prefix_of(account_of(owner, request.user))
        markers: dict[str, Any] = {} if request.cursor is None else _markers(request.cursor)
        with store_faults_as_refusals():
            page = await self._bucket.call(
                "to list the open uploads", "ListMultipartUploads", Prefix=prefix, MaxUploads=request.limit, **markers
            )
            pages = UploadPages()
            pages.advance(page)
        return c.OpenUploadsResponse(
            uploads=[
                c.ListedUpload(
                    key=row["Key"],
                    user=self._policy.keys.user_of(row["Key"]),
                    started_at=row["Initiated"],
                    expires_at=row["Initiated"] + timedelta(seconds=self._policy.upload_lifetime),
                )
                for row in page.get("Uploads", ())
                if self._policy.keys.owner_of(row["Key"]) == owner
            ],
            next_cursor=None if pages.ended else _cursor(pages.start),
        )

    async def find_open(self, owner: str, request: c.AbortRequest) -> tuple[_Rows, bool]:
        """Return keys and upload ids of the open uploads to abort, a thousand at most, and whether there are more.

        Raises:
            Refused: INVALID_FIELD: nothing is named. NO_SUCH_MEDIA: the key is not one of the owner's, or the user's.
        """
        keys = self._policy.keys
        if request.key is None and request.user is None:
            raise Refused(Problem.INVALID_FIELD, "name the key of an open upload, or an end user", field="key")
        if request.key is not None:
            self.check_key(owner, request.key, request.user)
        prefix, found = request.key or keys.prefix_of(account_of(owner, request.user)), _Rows()
        with store_faults_as_refusals():
            async for row in self._bucket.open_uploads(prefix):
                if row["Key"] != request.key and (request.key is not None or keys.owner_of(row["Key"]) != owner):
                    continue
                if len(found) == _PAGE:
                    return found, True
                found.append((row["Key"], row["UploadId"]))
        return found, False

    def check_key(self, owner: str, key: str, user: str | None) -> None:
        """Raise Refused unless files of the owner, or of the user, can have the key."""
        keys = self._policy.keys
        if keys.owner_of(key) != owner or user not in (None, keys.user_of(key)):
            raise Refused(Problem.NO_SUCH_MEDIA, field="key")

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


def _attachment(path: str) -> str:
    """Return a Content-Disposition: https://www.rfc-editor.org/rfc/rfc6266"""
    name = re.split(r"[/\\]", path)[-1]
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def _is_in_time(file: c.StoredMedia, request: c.ListRequest) -> bool:
    after, before = request.stored_after, request.stored_before
    return (after is None or file.stored_at >= after) and (before is None or file.stored_at < before)


def _is_wanted(file: c.StoredMedia, request: c.ListRequest) -> bool:
    """Return whether a file with its details passes the request's filters."""
    if request.content_type is not None and not _is_of(file.content_type or "", request.content_type):
        return False
    if request.metadata is None:
        return True
    name, equals, value = request.metadata.partition("=")
    found = (file.metadata or {}).get(name)
    return found is not None and (not equals or found == value)


def _is_of(content_type: str, pattern: str) -> bool:
    told = content_type_of(content_type)
    return told.startswith(pattern[:-1]) if pattern.endswith("/*") else told == pattern


_MARKERS = ("KeyMarker", "UploadIdMarker")


def _cursor(markers: Mapping[str, str]) -> str:
    """Return the place in the store's list of open uploads as text: only the store's own markers lead on in it."""
    return base64.urlsafe_b64encode(json.dumps([markers.get(name, "") for name in _MARKERS]).encode()).decode()


def _markers(cursor: str) -> dict[str, str]:
    """Read what `_cursor` wrote. Raises Refused: INVALID_FIELD."""
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, RecursionError):
        found = None
    match found:
        case [str(key), str(upload_id)]:
            return {name: text for name, text in zip(_MARKERS, (key, upload_id), strict=True) if text}
    raise Refused(Problem.INVALID_FIELD, "the cursor is not the nextCursor of an earlier page", field="cursor")
