"""Decide whether an object in the store counts: it is judged, the operator's hook is asked, and webhooks get an event.

Knows neither HTTP nor how an object came into the store. A file that passed the hook gets a note, so that a repeated
complete or another post does not have it scanned and reported again. The notes of refusals make a repeated complete
end the same. `UploadOutcomes` returns the state of a multipart upload: it is open, its object was made and accepted, or
nothing is left of it. It keeps nothing itself: the handle and the store hold all of it.

`Finishing.judge` checks whether an object is what it claims to be: its size, type, structure, and the headers it is
served with, by a few short reads. The same rules apply at complete, for a post and in the sweep.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, unquote

from bigupload.core.checksums import UploadChecksum
from bigupload.core.integrity import ObjectFacts
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import S3Options
from bigupload.s3_parameters import TOKEN
from bigupload.service import contract as c
from bigupload.service.access.handles import Handle
from bigupload.service.media import media_types
from bigupload.service.media.media_types import HEAD_BYTES, MediaType, check_file
from bigupload.service.media.object_keys import HEADER as _METADATA
from bigupload.service.media.object_keys import PASSED_PREFIX, KeyTemplate, carried_by, decoded, note_key
from bigupload.service.media.policy import Policy
from bigupload.service.media_objects import (
    ATTACHMENT,
    MediaBucket,
    ObjectHead,
    StoredVersion,
    store_faults_as_refusals,
    version_of,
)
from bigupload.service.problems import Problem, Refused
from bigupload.service.webhooks.hooks import FinishedFile, Hooks
from bigupload.service.webhooks.telling import Telling
from bigupload.stores.s3.multipart import S3Store
from bigupload.units import format_two_sizes

if TYPE_CHECKING:
    from bigupload.service.uploads.quota import Quotas
    from bigupload.service.uploads.receipts import Receipts  # the sweep signs none

LONGEST_CACHING = timedelta(days=1)
"""The time for which a cache may keep an object. Objects are deleted, and caches do not notice that."""

_IMF_FIXDATE = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT")
"""RFC 9110, 5.6.7."""

FINAL_PROBLEMS = tuple(problem for problem in Problem if "judged" in problem.at)
"""The problems for which an object is deleted."""


def check_size(size: int, limit: int) -> None:
    """Raise Refused if `size` is more than `limit`, both in bytes."""
    if size <= limit:
        return
    has, most = format_two_sizes(size, limit)
    raise Refused(Problem.FILE_TOO_LARGE, f"the file has {has}, and the limit is {most}", field="size")


def check_headers(headers: Mapping[str, str], now: datetime) -> None:
    """Raise Refused for a header that makes clients or caches treat the object as something else.

    A client can add unsigned headers to a presigned PUT, and stores keep them: a plain JPEG with
    `Content-Encoding: gzip` cannot be displayed, `Cache-Control: immutable` keeps it in caches for longer than the
    service promises, and `Content-Disposition: attachment; filename=evil.html` saves it under another type.

    Args:
        headers: The object's response headers, names in lower case.
        now: The time, with its zone.
    """
    sound = {
        "Content-Encoding": _is_plain(headers.get("content-encoding", "")),
        "Content-Disposition": headers.get("content-disposition", "").strip().lower() in ("", "inline", "attachment"),
        "Cache-Control": _ends_in_time(headers.get("cache-control", "")),
        "Expires": _expires_in_time(headers.get("expires", ""), now),
    }
    wrong = [name for name, is_sound in sound.items() if not is_sound]
    if wrong:
        names = " and ".join(wrong)
        raise Refused(Problem.UNSUPPORTED_HEADERS, f"the file was sent with the header {names}: send it without")


def _is_plain(content_encoding: str) -> bool:
    """Return whether the object's bytes are the file's. `aws-chunked` describes an SDK's request, not the object."""
    return {coding.strip().lower() for coding in content_encoding.split(",")} <= {"", "identity", "aws-chunked"}


def _ends_in_time(cache_control: str) -> bool:
    """Read Cache-Control: RFC 9111, 5.2.2; RFC 5861 (`stale-…`); RFC 8246 (`immutable`)."""
    for directive in cache_control.lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name == "immutable":
            return False
        if name in ("max-age", "s-maxage") or name.startswith("stale-"):
            seconds = value.strip('" ')
            if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 10):
                return False
            if timedelta(seconds=int(seconds)) > LONGEST_CACHING:
                return False
    return True


def _expires_in_time(expires: str, now: datetime) -> bool:
    """Read Expires: RFC 9111, 5.3. An invalid date means "has expired", but caches read many invalid dates as dates."""
    if expires.strip() in ("", "0", "-1"):
        return True
    if not _IMF_FIXDATE.fullmatch(expires.strip()):
        return False
    try:
        return email.utils.parsedate_to_datetime(expires).replace(tzinfo=UTC) - now <= LONGEST_CACHING
    except (ValueError, OverflowError):
        return False


_KEPT = ("content-disposition",)


class Finishing:
    """The checks of every object of one bucket."""

    def __init__(
        self,
        objects: MediaBucket,
        *,
        policy: Policy,
        clock: Callable[[], float],
        hooks: Hooks | None = None,
        telling: Telling | None = None,
        tells_within: float | None = None,
        receipts: Receipts | None = None,
    ) -> None:
        """Make it.

        Args:
            objects: The bucket.
            policy: What is accepted.
            clock: The time, in seconds since 1970.
            hooks: The operator's hooks; None: no hooks.
            telling: Notes the events for webhooks; None: no webhooks.
            tells_within: Seconds. An older object was there before the webhooks, and has no event. None: any age.
            receipts: Signs receipts; None: there are none.
        """
        self.objects = objects
        self.policy = policy
        self.clock = clock
        self._hooks = hooks or Hooks()
        self._telling = telling
        self._tells_within = tells_within
        self._receipts = receipts

    async def judge(self, key: str, head: ObjectHead) -> MediaType:
        """Return an object's type, after a few short reads of it.

        Args:
            key: The object's key; its extension is the declared type.
            head: The object and its first `media.HEAD_BYTES` bytes.

        Raises:
            Refused: With one of `FINAL_PROBLEMS`.
            Fault: The store failed.
        """
        check_size(head.size, self.policy.max_file_size)
        kind = self.policy.types.declared(key, head.content_type)
        media_types.check_head(head.head, kind)
        check_headers(head.headers, datetime.fromtimestamp(self.clock(), UTC))
        await check_file(kind.name, head.head, head.size, self.objects.reader(key, etag=head.etag))
        return kind

    async def accept(self, key: str, head: ObjectHead, facts: ObjectFacts | None = None) -> MediaType:
        """Return the type of an object that counts: it is what it claims to be, and the hook accepts it.

        Args:
            key: The object's key.
            head: The object and its first `media.HEAD_BYTES` bytes.
            facts: Its checksum as the store reports it, if it was asked.

        Raises:
            Refused: With one of `FINAL_PROBLEMS`; or CHECK_FAILED, if the hook did not answer.
            Fault: The store failed.
        """
        kind = await self.judge(key, head)
        if not self._hooks.check_files and self._telling is None:
            return kind
        passed = PASSED_PREFIX + version_of(key, head)
        if await self.objects.note(passed) is None:
            file = await self._file(key, head, facts)
            if self._hooks.check_files:
                (url,) = await self.objects.bucket.presign("GetObject", [{"Key": key}])
                await self._hooks.before_finish(replace(file, url=url))
            if await self._tell(key, head, file, kind) or self._hooks.check_files:
                await self.objects.put_note(passed, {})
        return kind

    async def accept_by_copy(self, key: str, head: ObjectHead, kind: MediaType) -> None:
        """Note that the upload at a key that can be replaced counts: its copy was accepted. Raises Fault.

        Args:
            key: The key that can be replaced.
            head: Its object.
            kind: The object's type.
        """
        passed = PASSED_PREFIX + version_of(key, head)
        if self._telling is not None and await self.objects.note(passed) is None:
            await self._tell(key, head, await self._file(key, head), kind)
            await self.objects.put_note(passed, {})

    async def copied(self, key: str, head: ObjectHead, kind: MediaType) -> str:
        """Return the final key of a copy of the object at a writable key, which is made if there is none. Raises Fault.

        Whoever has the presigned URL can write the object again for an hour, and nobody can write the copy.
        """
        final = self.policy.keys.copy_key(key, head, kind)
        if await self.objects.look(final, first=1) is None:
            kept = {name: head.headers[name] for name in head.headers if name in _KEPT or name.startswith(_METADATA)}
            kept.pop(_METADATA + TOKEN, None)  # which a copy has not
            await self.objects.copy(key, final, etag=head.etag, headers={**kept, "content-type": kind.content_type})
        return final

    async def _tell(self, key: str, head: ObjectHead, file: FinishedFile, kind: MediaType) -> bool:
        """Note the event that a file counts, before anybody is answered. Returns whether there is one.

        The event names an object that stays as it was judged, so the file of a single PUT is copied for it.
        """
        if self._telling is None or self.is_copy(key, head):
            return False
        if self._tells_within is not None and self.clock() - head.modified.timestamp() > self._tells_within:
            return False
        if self.policy.keys.is_final(key):
            await self._telling.completed(version_of(key, head), file, "multipart")
            return True
        final = await self.copied(key, head, kind)
        copy = await self.objects.look(final, first=HEAD_BYTES)
        if copy is None:
            raise Fault(FaultKind.GONE, "the copy was deleted meanwhile", status=404)
        if copy.etag != head.etag:  # replaced just before the copy, at a store that ignores the condition; or encrypted
            await self.accept(final, copy)
        fixed = replace(file, key=final, etag=copy.etag)
        await self._telling.completed(version_of(key, head), fixed, "put", presigned_key=key)
        return True

    def is_copy(self, key: str, head: ObjectHead) -> bool:
        """Return whether the object was copied for a post, and not uploaded."""
        return self.policy.keys.is_final(key) and _METADATA + TOKEN not in head.headers

    async def _file(self, key: str, head: ObjectHead, facts: ObjectFacts | None = None) -> FinishedFile:
        tags = await self.objects.tags(key, head.headers)
        return file_of(self.policy.keys, key, head, facts, tags=tags)

    async def receipt(self, key: str, head: ObjectHead, facts: ObjectFacts | None = None) -> str | None:
        """Return the receipt of an object that counts; None if it can be written again, or nobody signs. Raises Fault.

        Args:
            key: The object's key.
            head: The object.
            facts: Its checksum, which the client's parts prove; None: the store is asked for one, which proves nothing.
        """
        if self._receipts is None or not self.policy.keys.is_final(key):
            return None
        known = await self.objects.facts(key, etag=head.etag) if facts is None else facts
        return self._receipts.of(await self._file(key, head, known), head, proved_by=facts)

    async def refuse(self, key: str, stored: StoredVersion, refused: Refused, *, tells: bool = True) -> bool:
        """Delete an object that is refused. Returns whether it was still there. Raises Fault.

        A note is left, so that a client whose complete was interrupted gets the reason when it repeats it.

        Args:
            key: The object's key.
            stored: The object.
            refused: Why, with one of `FINAL_PROBLEMS`.
            tells: Whether there is an event.
        """
        if self._telling is not None and tells:
            await self._telling.refused(key, stored, refused)
        note = {"code": refused.problem.code}
        if refused.problem is Problem.FILE_REFUSED:  # others' reason is known by the code
            note["message"] = quote(str(refused))
        await self.objects.put_note(note_key(key), note)
        return await self.objects.delete_unchanged(key, stored)

    async def earlier_refusal(self, key: str) -> Refused | None:
        """Return the reason why the upload at `key` was refused, if it was."""
        note = await self.objects.note(note_key(key))
        problem = next((p for p in FINAL_PROBLEMS if note is not None and p.code == note.get("code")), None)
        if problem is None or note is None:
            return None
        return Refused(problem, unquote(note.get("message", "")) or None)


def file_of(
    keys: KeyTemplate, key: str, head: ObjectHead, facts: ObjectFacts | None, *, tags: Mapping[str, str]
) -> FinishedFile:
    """Return what hooks, events and receipts say of an object, without a URL to read it.

    Args:
        keys: The shape of the keys, which name the owner and the end user.
        key: The object's key.
        head: The object.
        facts: The store's checksum of it; None: the store has none.
        tags: The object's.
    """
    checksum = facts.checksum if facts is not None and facts.algorithm is not None else None
    metadata, filename = decoded(carried_by(head.headers))
    return FinishedFile(
        key=key,
        owner=keys.owner_of(key) or "",
        user=keys.user_of(key),
        size=head.size,
        content_type=head.content_type,
        etag=head.etag,
        checksum=checksum,
        checksum_algorithm=facts.algorithm.value if facts and facts.algorithm and checksum else None,
        metadata=metadata,
        filename=filename,
        tags=tags,
        url="",
    )


class UploadOutcomes:
    """The multipart uploads of one bucket."""

    def __init__(self, finishing: Finishing, public_url: Callable[[str], str], quota: Quotas) -> None:
        """Make it.

        Args:
            finishing: What an object must pass.
            public_url: The URL of a key for everyone.
            quota: Where the room of an object that is refused becomes free.
        """
        self._finishing = finishing
        self._objects = finishing.objects
        self._bucket = finishing.objects.bucket
        self._public_url = public_url
        self._quota = quota

    def store(
        self,
        key: str,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        as_attachment: bool = False,
    ) -> S3Store:
        """The store of one key."""
        disposition = ATTACHMENT if as_attachment else None
        options = S3Options(
            content_type=content_type, content_disposition=disposition, metadata=metadata or {}, tags=tags or {}
        )
        return S3Store(self._bucket.name, key, options, through=self._bucket)

    def store_of(self, handle: Handle) -> S3Store:
        """The store of an upload."""
        return self.store(handle.key, handle.content_type)

    async def is_open(self, handle: Handle) -> bool:
        """Whether the upload takes parts."""
        with store_faults_as_refusals():
            try:
                await self._bucket.call(
                    "to look at the upload", "ListParts", Key=handle.key, UploadId=handle.upload_id, MaxParts=1
                )
            except Fault as fault:
                if fault.kind is not FaultKind.GONE:
                    raise
                return False
            return True

    async def completed(self, handle: Handle) -> c.CompleteResponse | None:
        """The response for an object that an earlier complete made; None without one."""
        with store_faults_as_refusals():
            facts = await self.store_of(handle).stat(handle.upload_id, handle.algorithm)
        return None if facts is None or facts.token != handle.token else await self.judged(handle, facts)

    async def ended(self, handle: Handle) -> c.CompleteResponse | None:
        """Return the object of an upload that is not open any more; None: it left no object.

        Ask after the upload was found not to be open, since a complete may have come in between.

        Raises:
            Refused: Its object was refused.
        """
        completed = await self.completed(handle)
        if completed is None:
            await self._raise_refusal(handle)
        return completed

    async def judged(self, handle: Handle, facts: ObjectFacts) -> c.CompleteResponse:
        """Judge the object that was made. An object that is refused is deleted, and a note says why."""
        with store_faults_as_refusals():
            look = await self._objects.look(handle.key, first=c.HEAD_BYTES)
            if look is None:
                await self._raise_refusal(handle)  # another complete may just have judged it
                raise Refused(Problem.UPLOAD_GONE)
            try:
                if look.size != handle.size:
                    raise Refused(Problem.SIZE_MISMATCH, f"the object has {look.size:,} bytes, not {handle.size:,}")
                await self._finishing.accept(handle.key, look, facts)
            except Refused as refused:
                if refused.problem not in FINAL_PROBLEMS:
                    raise
                await self._finishing.refuse(handle.key, look, refused)
                self._quota.release(handle.key)
                raise
            receipt = await self._finishing.receipt(handle.key, look, facts)
        return c.CompleteResponse(
            public_url=self._public_url(handle.key),
            key=handle.key,
            size=look.size,
            checksum=facts.checksum,
            checksum_algorithm=None if facts.checksum is None else cast("UploadChecksum", handle.algorithm.value),
            checksum_type=facts.checksum_type.value if facts.checksum_type is not None else None,
            etag=facts.etag,
            token=handle.token,
            receipt=receipt,
        )

    async def _raise_refusal(self, handle: Handle) -> None:
        """Raise what an earlier complete was refused for, if it was."""
        with store_faults_as_refusals():
            refused = await self._finishing.earlier_refusal(handle.key)
        if refused is not None:
            raise refused
