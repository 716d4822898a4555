"""Decide whether an object in the store counts: it is judged, the operator's hook is asked, and webhooks get an event.

Knows neither HTTP nor how an object came into the store. A file that passed the hook gets a note, so that a repeated
complete or another post does not have it scanned and reported again. The notes of refusals make a repeated complete
end the same.

`Finishing.judge` checks whether an object is what it claims to be: its size, type, structure, and the headers it is
served with, by a few short reads. The same rules apply at complete, for a post and in the sweep.
"""

from __future__ import annotations

import contextlib
import email.utils
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from bigupload.core.integrity import ObjectFacts
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.records import dataclass
from bigupload.s3_parameters import TOKEN
from bigupload.service.media import media_types
from bigupload.service.media.media_types import HEAD_BYTES, MediaType, check_file
from bigupload.service.media.object_keys import HEADER as _METADATA
from bigupload.service.media.object_keys import PASSED_PREFIX, KeyTemplate, carried_by, decoded, note_key
from bigupload.service.media.policy import Policy
from bigupload.service.media_objects import MediaBucket, ObjectHead, StoredVersion, version_of
from bigupload.service.problems import Problem, Refused
from bigupload.service.webhooks.hooks import FinishedFile, Hooks
from bigupload.service.webhooks.telling import Telling, event_id
from bigupload.units import format_two_sizes

if TYPE_CHECKING:
    from bigupload.service.access.callers import BoundUser
    from bigupload.service.access.handles import Receipts  # the sweep signs nothing

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PostableMedia:
    """An upload that a post may name."""

    kind: MediaType
    key: str
    """Of a check for a post, a final one: its object stays as it was checked."""
    size: int
    """Bytes."""
    receipt: str | None = None
    """Signed, of the object at `key`; None: nobody signs, or it can be written again."""


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
        await self._pass(key, head, kind, facts, asks=self._hooks.check_files)
        return kind

    async def accept_by_copy(self, key: str, head: ObjectHead, kind: MediaType) -> None:
        """Note that the upload at a key that can be replaced counts: its copy was accepted. Raises Fault.

        Args:
            key: The key that can be replaced.
            head: Its object.
            kind: The object's type.
        """
        await self._pass(key, head, kind)

    async def _pass(
        self, key: str, head: ObjectHead, kind: MediaType, facts: ObjectFacts | None = None, *, asks: bool = False
    ) -> None:
        """Ask the hook (`asks`), note the event, and note that this was done. Nothing, if that was noted before."""
        passed = PASSED_PREFIX + version_of(key, head)
        if not (asks or self._telling is not None) or await self.objects.note(passed) is not None:
            return
        file = await self._file(key, head, facts)
        if asks:
            (url,) = await self.objects.bucket.presign("GetObject", [{"Key": key}])
            await self._hooks.before_finish(replace(file, url=url))
        if await self._tell(key, head, file, kind) or asks:
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
        jti = event_id("media.completed", version_of(key, head))
        return self._receipts.of(jti, await self._file(key, head, known), head, proved_by=facts)

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

    async def raise_earlier_refusal(self, key: str) -> None:
        """Raise what the upload at `key` was refused for, if it was."""
        note = await self.objects.note(note_key(key)) or {}
        for problem in FINAL_PROBLEMS:
            if problem.code == note.get("code"):
                raise Refused(problem, unquote(note.get("message", "")) or None)

    async def postable(
        self, owner: str, key: str, bound: BoundUser | None = None, *, copies: bool = True
    ) -> PostableMedia:
        """Return the object to post for the upload at `key`. A refused object is deleted.

        Args:
            owner: Who posts.
            key: The upload's key.
            bound: The end user who posts; None: the owner itself.
            copies: Whether an object that can be replaced is copied, and the copy is returned. Otherwise, nothing is.

        Raises:
            Refused: The upload belongs to another owner or end user, does not exist, or is not the media that
                it claims to be.
        """
        keys = self.policy.keys
        if keys.owner_of(key) != owner or (bound is not None and keys.user_of(key) != bound.user):
            raise Refused(Problem.MEDIA_NOT_FOUND)
        with _replaced_as_refusal():
            kind, head = await self._judged(key)
            if copies and not keys.is_final(key):
                final = await self.copied(key, head, kind)
                try:
                    kind, copy = await self._judged(final)
                except Refused as refused:
                    if refused.problem is Problem.FILE_REFUSED:  # only the copy was shown to the hook
                        await self.refuse(key, head, refused)
                    raise
                await self.accept_by_copy(key, head, kind)
                key, head = final, copy
            receipt = await self.receipt(key, head)
            return PostableMedia(kind=kind, key=key, size=head.size, receipt=receipt)

    async def _judged(self, key: str) -> tuple[MediaType, ObjectHead]:
        head = await self.objects.look(key, first=HEAD_BYTES)
        now, keep = self.clock(), self.policy.keep
        if head is None or (keep is not None and now - head.modified.timestamp() >= keep):
            raise Refused(Problem.MEDIA_NOT_FOUND)
        try:
            # An object that can still be replaced need not pass the hook: its copy will.
            checks = self.accept if self.policy.keys.is_final(key) else self.judge
            return await checks(key, head), head
        except Refused as refused:
            if refused.problem in FINAL_PROBLEMS:
                await self.refuse(key, head, refused, tells=not self.is_copy(key, head))
            raise


@contextlib.contextmanager
def _replaced_as_refusal() -> Iterator[None]:
    try:
        yield
    except Fault as fault:
        if fault.is_absent or fault.kind is FaultKind.EXISTS:
            message = "the upload was replaced or deleted while it was checked: post it again"
            raise Refused(Problem.MEDIA_NOT_FOUND, message) from fault
        raise


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
