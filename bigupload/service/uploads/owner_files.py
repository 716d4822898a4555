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

from bigupload.service import contract as c
from bigupload.service.media.media_types import content_type_of, is_of
from bigupload.service.media.object_keys import account_of, decoded
from bigupload.service.media.policy import Policy
from bigupload.service.media_objects import MediaBucket
from bigupload.service.problems import Problem, Refused
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.s3.operations import UploadPages

_PAGE = 1000
"""The number of objects that S3 lists in one request."""
_LOOKS_AT_ONCE = 16
_MOST_SORTED = 10_000
"""Files that are sorted: their rows are read and held for each page."""
_Files = list[c.StoredMedia]
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
        """Return a page of an owner's files.

        Raises:
            Refused: INVALID_FIELD if the cursor is of another list, the prefix is not the owner's or the user's, or
                there are too many files to sort.
        """
        prefix = self._policy.keys.prefix_of(account_of(owner, request.user))
        if request.prefix is not None:
            if not request.prefix.startswith(prefix):
                message = f"your keys begin with {prefix}" if request.user is None else "the prefix is not the user's"
                raise Refused(Problem.INVALID_FIELD, message, field="prefix")
            prefix = request.prefix
        if request.sort != "key":
            return await self._sorted(owner, prefix, request)
        if request.cursor is not None and not request.cursor.startswith(prefix):
            raise Refused(Problem.INVALID_FIELD, _NO_CURSOR, field="cursor")
        start: dict[str, Any] = {"StartAfter": request.cursor} if request.cursor is not None else {}
        page = await self._bucket.call(
            "to list the files", "ListObjectsV2", Prefix=prefix, MaxKeys=request.limit, **start
        )
        rows = page.get("Contents", ())
        media = [file for row in rows if (file := self._file(owner, row)) is not None and _is_in_time(file, request)]
        media = await self._wanted(media, request)
        return c.ListResponse(media=media, next_cursor=rows[-1]["Key"] if rows and page.get("IsTruncated") else None)

    async def _sorted(self, owner: str, prefix: str, request: c.ListRequest) -> c.ListResponse:
        """Return a page in another order than the store's, for which the whole list is read."""
        after = None if request.cursor is None else _place_of(request.cursor, request.sort)
        found, seen = list[tuple[float, str, c.StoredMedia]](), 0
        async for rows in self._bucket.object_pages(prefix):
            seen += len(rows)
            if seen > _MOST_SORTED:
                message = f"there are more than {_MOST_SORTED:,} files to sort: name a user or a prefix"
                raise Refused(Problem.INVALID_FIELD, message, field="sort")
            for row in rows:
                file = self._file(owner, row)
                if file is not None and _is_in_time(file, request):
                    found.append((_rank(file, request.sort), file.key, file))
        found.sort(key=lambda row: row[:2])
        rest = [row for row in found if after is None or row[:2] > after]
        chosen = rest[: request.limit]
        media = await self._wanted([file for *_, file in chosen], request)
        last = chosen[-1] if len(rest) > len(chosen) else None
        return c.ListResponse(
            media=media, next_cursor=None if last is None else _encoded_cursor([request.sort, *last[:2]])
        )

    async def _wanted(self, files: _Files, request: c.ListRequest) -> _Files:
        """Return the files with their details, if the request needs them, that pass its filters. Raises Fault.

        The store is asked for each file, some at a time. What is gone meanwhile is left out.
        """
        if not request.details and request.content_type is None and request.metadata is None:
            return files
        at_once, objects = asyncio.Semaphore(_LOOKS_AT_ONCE), MediaBucket(self._bucket)

        async def look(file: c.StoredMedia) -> c.StoredMedia | None:
            async with at_once:
                head = await self._bucket.head(file.key)
                tags = {} if head is None else await objects.tags(file.key, head["Headers"])
            if head is None:
                return None
            metadata, filename = decoded(head["Metadata"])
            update = {"content_type": head.get("ContentType"), "filename": filename, "metadata": metadata, "tags": tags}
            return file.model_copy(update=update)

        found = await asyncio.gather(*map(look, files))
        return [file for file in found if file is not None and _is_wanted(file, request)]

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

    async def read_url(self, owner: str, request: c.ReadUrlRequest) -> c.ReadUrlResponse:
        """Sign a GET of a file.

        Raises:
            Refused: NO_SUCH_MEDIA if there is no such file of the owner's, or of the user's.
        """
        self.check_key(owner, request.key, request.user)
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
            next_cursor=None if pages.ended else _encoded_cursor([pages.start.get(name, "") for name in _MARKERS]),
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
        async for row in self._bucket.open_uploads(prefix):
            if row["Key"] != request.key and (request.key is not None or keys.owner_of(row["Key"]) != owner):
                continue
            if len(found) == _PAGE:
                return found, True
            found.append((row["Key"], row["UploadId"]))
        return found, False

    async def find_files(self, owner: str, request: c.DeleteManyRequest) -> tuple[Sequence[str], bool]:
        """Return the keys of files to delete, a thousand at most, and whether there are more.

        Raises:
            Refused: INVALID_FIELD: nothing is named. NO_SUCH_MEDIA: a key is not one of the owner's, or the user's.
        """
        if request.keys is not None:
            for number, key in enumerate(request.keys):
                self.check_key(owner, key, request.user, field=f"keys[{number}]")
            return list(dict.fromkeys(request.keys)), False
        if request.user is None:
            raise Refused(Problem.INVALID_FIELD, "name the keys of files, or an end user", field="keys")
        prefix = self._policy.keys.prefix_of(account_of(owner, request.user))
        page = await self._bucket.call("to list the files", "ListObjectsV2", Prefix=prefix, MaxKeys=_PAGE)
        rows = [row["Key"] for row in page.get("Contents", ())]
        keys = self._policy.keys
        found = [key for key in rows if keys.owner_of(key) == owner and keys.user_of(key) == request.user]
        return found, bool(page.get("IsTruncated")) and bool(found)

    def check_key(self, owner: str, key: str, user: str | None, *, field: str = "key") -> None:
        """Raise Refused, NO_SUCH_MEDIA, unless files of the owner, or of the user, can have the key."""
        keys = self._policy.keys
        if keys.owner_of(key) != owner or user not in (None, keys.user_of(key)):
            raise Refused(Problem.NO_SUCH_MEDIA, field=field)

    async def sizes(self, account: str) -> AsyncIterator[tuple[str, int]]:
        """Yield the key and the size in bytes of all of an account's objects. Raises Fault or BigUploadError."""
        async for rows in self._bucket.object_pages(self._policy.keys.prefix_of(account)):
            for row in rows:
                yield row["Key"], row["Size"]

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
    found_type = content_type_of(file.content_type or "")
    if request.content_type is not None and not is_of(found_type, request.content_type):
        return False
    if request.metadata is None:
        return True
    name, equals, value = request.metadata.partition("=")
    found = (file.metadata or {}).get(name)
    return found is not None and (not equals or found == value)


def _rank(file: c.StoredMedia, sort: str) -> float:
    """Return the number by which files are in the order of `sort`, the least first."""
    value = float(file.size) if sort.endswith("size") else file.stored_at.timestamp()
    return -value if sort.startswith("-") else value


def _place_of(cursor: str, sort: str) -> tuple[float, str]:
    """Return after which rank and key a sorted page begins. Raises Refused: INVALID_FIELD."""
    match _decoded_cursor(cursor):
        case [str(named), int() | float() as rank, str(key)] if named == sort:
            return rank, key
    raise Refused(Problem.INVALID_FIELD, _NO_CURSOR, field="cursor")


def _encoded_cursor(place: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _decoded_cursor(cursor: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, RecursionError):
        return None


_NO_CURSOR = "the cursor is not the nextCursor of an earlier page"
_MARKERS = ("KeyMarker", "UploadIdMarker")
"""Of a list of open uploads, only the store's own markers lead on."""


def _markers(cursor: str) -> dict[str, str]:
    """Return where in the store's list of open uploads a page begins. Raises Refused: INVALID_FIELD."""
    match _decoded_cursor(cursor):
        case [str(key), str(upload_id)]:
            return {name: text for name, text in zip(_MARKERS, (key, upload_id), strict=True) if text}
    raise Refused(Problem.INVALID_FIELD, _NO_CURSOR, field="cursor")
