"""The store of the media: its objects by key, its errors as the service's own, and whether it responds.

It does not know owners or which media are allowed. Every call of `MediaBucket` raises Fault or a public error, as
`ports` specifies. The client is told what to do instead, and the store's message is logged.

`/readyz` asks whether the store responds, and so do requests that have waited long for it. A store that has stalled
accepts connections and says nothing. Most calls have a short time limit. A complete or a copy may rightly take minutes,
so such a call waits for as long as the store responds to something else.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import field
from typing import Any, TypeVar

from bigupload import errors
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import ObjectFacts
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import S3Options
from bigupload.records import dataclass
from bigupload.s3_parameters import metadata_headers
from bigupload.service.problems import Problem, Refused
from bigupload.stores.s3.bucket import S3Bucket
from bigupload.stores.s3.multipart import S3Store
from bigupload.stores.s3.operations import UploadPages, copy_source, required_field
from bigupload.stores.s3.renewal import CREDENTIALS_EXPIRING
from bigupload.support.cancellation import retrieve

T = TypeVar("T")

ATTACHMENT = "attachment"
"""The Content-Disposition of what browsers must not show, whatever type the store serves it with."""
_COPY_WITHIN = 300.0
"""Timeout in seconds for a copy of 5 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """A version of an object: what tells it from what is at the same key before and after it."""

    size: int
    """Bytes."""
    etag: str
    modified: datetime.datetime


def version_in(answer: Mapping[str, Any]) -> StoredVersion:
    """Return the version of the object that a response to HEAD or GET is about."""
    return StoredVersion(
        size=required_field(answer, "ContentLength", int),
        etag=answer.get("ETag", ""),
        modified=required_field(answer, "LastModified", datetime.datetime),
    )


def version_of(key: str, stored: StoredVersion) -> str:
    """Return a name for a version of the object at `key`, of 40 hexadecimal digits.

    The date belongs to it: two files can be made that differ and have one ETag, which is an MD5.
    """
    modified = stored.modified.replace(microsecond=0).isoformat()
    version = "\n".join((key, stored.etag, str(stored.size), modified))
    return hashlib.sha256(version.encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHead(StoredVersion):
    """An object's properties and its first bytes."""

    content_type: str
    head: bytes
    """The first bytes, as many as were requested."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The response's headers, with names in lower case. They include headers that a client sent with its PUT."""


def _goes_on_behind(key: str, page: Mapping[str, Any]) -> bool:
    """Return whether a page of open uploads is in the order of the keys, and the next one begins behind `key`.

    A store that lists in another order, as SeaweedFS by ids, names no key with which it goes on.
    """
    keys = [row["Key"] for row in page.get("Uploads", ())]
    following = page.get("NextKeyMarker") or ""
    return bool(keys) and key < following == keys[-1] and keys == sorted(keys)


class MediaBucket:
    """The objects of one bucket."""

    def __init__(self, bucket: S3Bucket) -> None:
        self.bucket = bucket

    async def look(self, key: str, *, first: int, etag: str = "") -> ObjectHead | None:
        """Return the object with its first `first` bytes; None if it does not exist.

        With `etag`, raises Fault(EXISTS) if the object now has another ETag.
        """
        condition: dict[str, Any] = {"IfMatch": etag} if etag else {}
        try:
            return await self._look(key, first, Range=f"bytes=0-{first - 1}", **condition)
        except Fault as fault:
            if fault.status == 416:  # the object is empty, so no range of bytes exists
                return await self._look(key, first, **condition)
            if fault.is_absent:
                return None
            raise

    async def _look(self, key: str, first: int, **arguments: Any) -> ObjectHead:
        answer = await self.bucket.call("to look at the object", "GetObject", Key=key, first=first, **arguments)
        total = answer.get("ContentRange", "").rpartition("/")[2]
        return ObjectHead(
            size=int(total) if total.isdigit() else required_field(answer, "ContentLength", int),
            etag=answer.get("ETag", ""),
            content_type=answer.get("ContentType", ""),
            head=answer.get("Body", b""),
            modified=required_field(answer, "LastModified", datetime.datetime),
            headers=answer["Headers"],
        )

    async def facts(self, key: str, *, etag: str) -> ObjectFacts | None:
        """Return the object's checksum as the store has it; None if it is gone, or has another ETag by now."""
        store = S3Store(self.bucket.name, key, S3Options(), through=self.bucket)
        found = await store.attributes(with_size=False)
        if found is None or found.etag != etag:
            return None
        known = next((each for each in Algorithm if each.is_s3_checksum and each.s3_name in found.checksums), None)
        return ObjectFacts(
            etag=etag, algorithm=known, checksum=None if known is None else found.checksums[known.s3_name]
        )

    async def tags(self, key: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the tags of an object. `headers`: those of its HEAD or GET, which say whether there are any."""
        if headers.get("x-amz-tagging-count", "0") == "0":
            return {}
        answer = await self.bucket.call("to read the tags", "GetObjectTagging", Key=key)
        rows = answer["Document"].iterfind("TagSet/Tag")
        return {row.findtext("Key", ""): row.findtext("Value", "") for row in rows}

    def reader(self, key: str, *, etag: str) -> Callable[[int, int], Awaitable[bytes | None]]:
        """Return a function that reads `length` bytes at `at` of the object; None if the store ignores ranges.

        It raises Fault(EXISTS) if the object now has another ETag, and Fault(GONE) if it was deleted.
        """
        condition: dict[str, Any] = {"IfMatch": etag} if etag else {}

        async def read(at: int, length: int) -> bytes | None:
            asked = f"bytes={at}-{at + length - 1}"
            answer = await self.bucket.call(
                "to look into the object", "GetObject", Key=key, first=length, Range=asked, **condition
            )
            body: bytes = answer.get("Body", b"")
            return body if answer.get("ContentRange", "").startswith(f"bytes {at}-") else None

        return read

    async def copy(self, key: str, to: str, *, etag: str, headers: Mapping[str, str]) -> None:
        """Have the store copy the object at `key` to the key `to`, with these headers and no others.

        Raises Fault(EXISTS) if the object now has another ETag and the store supports the condition. The limit of one
        copy is 5 GB: https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
        """
        condition: dict[str, Any] = {"CopySourceIfMatch": etag} if etag else {}
        await self.bucket.call(
            "to copy the object",
            "CopyObject",
            within=_COPY_WITHIN,
            Key=to,
            CopySource=copy_source(self.bucket.name, key),
            MetadataDirective="REPLACE",
            headers=headers,
            **condition,
        )

    async def delete_unchanged(self, key: str, version: StoredVersion) -> bool:
        """Delete an object unless it was replaced: a URL is valid for an hour, so the key may have been sent again.

        If-Match detects other bytes. The check right before it detects the same bytes with another Content-Type. One
        gap remains: if the store does not support If-Match, an object that is replaced between the two calls is
        lost. Its client notices at the next use of the publicUrl.
        """
        try:
            answer = await self.bucket.head(key) or {}
            # A list may contain fractions of a second; the header never does.
            modified = version.modified.replace(microsecond=0)
            if answer.get("ETag", "") != version.etag or answer.get("LastModified") != modified:
                return False
            await self.bucket.delete(key, etag=version.etag)
        except Fault as fault:
            if fault.is_absent or fault.kind is FaultKind.EXISTS:
                return False
            raise
        return True

    async def put_note(self, key: str, metadata: Mapping[str, str], **condition: Any) -> None:
        """Put an empty object with `metadata` (ASCII)."""
        headers = metadata_headers(metadata)
        await self.bucket.call("to leave a note", "PutObject", Key=key, Body=b"", headers=headers, **condition)

    async def put_new_note(self, key: str, metadata: Mapping[str, str]) -> bool:
        """Put a note if there is none. Returns False if there is one.

        Raises Fault(CONFLICT) if another put is under way. A store that ignores the condition replaces the note.
        """
        try:
            await self.put_note(key, metadata, IfNoneMatch="*")
        except Fault as fault:
            if fault.kind is FaultKind.EXISTS:
                return False
            raise
        return True

    async def note_keys(self, prefix: str, *, most: int | None = None, after: str = "") -> list[str]:
        """Return the keys of at most `most` notes under `prefix`, those after `after`."""
        found = list[str]()
        async for rows in self.bucket.object_pages(prefix, after=after):
            found += [row["Key"] for row in rows]
            if most is not None and len(found) >= most:
                break
        return found[:most]

    async def note(self, key: str) -> Mapping[str, str] | None:
        """Return the metadata of an object; None if it does not exist."""
        answer = await self.bucket.head(key, "to look for a note")
        return None if answer is None else answer["Metadata"]

    async def open_uploads(
        self, prefix: str, *, most: int, counts: Callable[[str], bool], before: str | None = None
    ) -> list[tuple[datetime.datetime, str]]:
        """Return when the open multipart uploads under `prefix` whose keys count began, and their ids; at most `most`.

        It reads as many pages as it takes, because not every store lists keys in their order.

        Args:
            prefix: What the keys begin with.
            most: How many are enough.
            counts: Whether a key counts.
            before: All keys that count are less than this. A store that goes on behind it is not asked again.
        """
        found: list[tuple[datetime.datetime, str]] = []
        pages = UploadPages()
        while not pages.ended and len(found) < most:
            page = await self.bucket.next_open_uploads(prefix, pages)
            rows = page.get("Uploads", ())
            found += [(row["Initiated"], row["UploadId"]) for row in rows if counts(row["Key"])]
            if before is not None and _goes_on_behind(before, page):
                break
        return found[:most]

    async def sign_put(self, key: str, headers: Mapping[str, str], size: int | None) -> str:
        """Presign a PUT of the object.

        The signature covers `headers` (names in lower case) and, if given, the size in bytes.
        """
        headers = dict(headers)
        if size is not None:
            headers["content-length"] = str(size)
        (url,) = await self.bucket.presign("PutObject", [{"Key": key, "Headers": headers}])
        return url


_RETRY_SOON = 5.0
"""The value of Retry-After, in seconds."""

_PROBLEMS = {
    FaultKind.GONE: Problem.UPLOAD_GONE,
    FaultKind.CORRUPTED: Problem.CHECKSUM_MISMATCH,
    FaultKind.INVALID_PART: Problem.PART_NOT_STORED,
}


@contextlib.contextmanager
def store_faults_as_refusals() -> Iterator[None]:
    """Raise Refused in place of a Fault or a public error of the store, which becomes its cause."""
    try:
        yield
    except (Fault, errors.BigUploadError) as e:
        raise refusal_of(e) from e


def refusal_of(error: Fault | errors.BigUploadError) -> Refused:
    """Return the error for the client that a store's error becomes."""
    if isinstance(error, errors.StoreUnavailable | errors.StoreUnreachable):
        return Refused(Problem.STORE_UNAVAILABLE, retry_after=_RETRY_SOON)
    if not isinstance(error, Fault):
        return Refused(Problem.STORE_REFUSED)
    if error.code == CREDENTIALS_EXPIRING:
        return Refused(Problem.CREDENTIALS_EXPIRING, retry_after=_RETRY_SOON)
    if error.kind.is_retried:
        return Refused(Problem.STORE_UNAVAILABLE, retry_after=max(error.retry_after or 0.0, _RETRY_SOON))
    return Refused(_PROBLEMS.get(error.kind, Problem.STORE_REFUSED))


async def quietly(call: Callable[..., Awaitable[object]], *arguments: object, **named: object) -> None:
    """Send a request to the store, and ignore its failure, which must neither end the caller nor hide another one."""
    with contextlib.suppress(Fault, errors.BigUploadError):
        await call(*arguments, **named)


STORE_TIMEOUT = 10.0
"""The default of `--store-timeout`, in seconds. A healthy store responds to all calls but complete and copy in less
than one. A client's own limit is usually 30 or 60 s, and it should get the 503 with its Retry-After before that."""
_ASKED_WITHIN = 3.0
"""The time limit of the question, in seconds. Kubernetes' probes, for example, are given as little as their
`timeoutSeconds`, of which 5 is usual."""
_ASKED_EVERY = 5.0
"""For how many seconds an answer counts. Probes of several balancers cost the store one request in that time."""


class StoreHealth:
    """Asks the store whether it responds, once for all who want to know."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[object]],
        *,
        patience: float = STORE_TIMEOUT,
        within: float = _ASKED_WITHIN,
        every: float = _ASKED_EVERY,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        """Make it. It asks nothing until somebody wants to know.

        Args:
            ask: Sends a small request to the store. Raises Fault or BigUploadError.
            patience: After how many seconds of waiting for the store `while_responding` asks.
            within: The time limit of the question, in seconds.
            every: For how many seconds an answer counts.
            clock: Returns seconds.
            on_change: Called with the reason when the store stops responding, and with None when it responds again.
        """
        self._ask = ask
        self._patience = patience
        self._within = within
        self._every = every
        self._clock = clock
        self._on_change = on_change
        self._asking: asyncio.Task[Fault | errors.BigUploadError | None] | None = None
        self._problem: Fault | errors.BigUploadError | None = None
        self._known_at: float | None = None

    async def problem(self) -> Fault | errors.BigUploadError | None:
        """Return why the store can't be used; None if it responds. The answer is at most `every` seconds old."""
        if self._known_at is not None and self._clock() - self._known_at < self._every:
            return self._problem
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._answer())
        return await asyncio.shield(self._asking)  # others may wait for it, too

    async def _answer(self) -> Fault | errors.BigUploadError | None:
        found: Fault | errors.BigUploadError | None = None
        try:
            async with asyncio.timeout(self._within):
                await self._ask()
        except TimeoutError:
            found = Fault(FaultKind.STALLED, f"the store did not respond within {self._within:g} s")
        except (Fault, errors.BigUploadError) as e:
            # A store that asks to slow down is there, and another replica would meet the same.
            found = None if isinstance(e, Fault) and e.kind.asks_to_slow_down else e
        if (found is None) != (self._problem is None):
            self._on_change(None if found is None else str(found))
        self._problem, self._known_at = found, self._clock()
        return found

    async def while_responding(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, which waits for the store. It is left behind when the store stops responding.

        Raises:
            Refused: STORE_UNAVAILABLE or STORE_REFUSED, within `patience` and the time limit of a question; or what a
                Fault or a public error of the store means for the client.
            Exception: What else `work` raises.
        """
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=self._patience))[0]:
                asking = asyncio.create_task(self.problem())
                # `work` may end meanwhile, with its result or at its own time limit.
                await asyncio.wait({task, asking}, return_when=asyncio.FIRST_COMPLETED)
                if not task.done() and (problem := await asking) is not None:
                    raise refusal_of(problem) from problem
            with store_faults_as_refusals():
                return task.result()
        finally:
            if not task.done():
                task.cancel()
                task.add_done_callback(retrieve)
