"""Decide whether an object in the store counts: it is judged, the operator's hook is asked, and webhooks get an event.

Knows neither HTTP nor how an object came into the store. A file that passed the hook gets a note, so that a repeated
complete or another post does not have it scanned and reported again. The notes of refusals make a repeated complete end
the same.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from bigupload.core.integrity import ObjectFacts
from bigupload.s3_parameters import TOKEN
from bigupload.service.hooks.asking import Hooks
from bigupload.service.hooks.questions import FinishedFile
from bigupload.service.judgement import FINAL_PROBLEMS, judge
from bigupload.service.media import MediaType
from bigupload.service.media_objects import MediaBucket, ObjectHead
from bigupload.service.object_keys import PASSED_PREFIX, note_key
from bigupload.service.policy import Policy
from bigupload.service.problems import Problem, Refused
from bigupload.service.webhooks.telling import Telling, version_of

_METADATA = "x-amz-meta-"
_OURS = "bigupload"
"""How the names of bigupload's own metadata begin."""


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
    ) -> None:
        """Make it.

        Args:
            objects: The bucket.
            policy: What is accepted.
            clock: The time, in seconds since 1970.
            hooks: The operator's hooks; None: no hooks.
            telling: Notes the events for webhooks; None: no webhooks.
            tells_within: Seconds. An older object was there before the webhooks, and has no event. None: any age.
        """
        self._objects = objects
        self._policy = policy
        self._clock = clock
        self._hooks = hooks or Hooks()
        self._telling = telling
        self._tells_within = tells_within

    async def judge(self, key: str, head: ObjectHead) -> MediaType:
        """Return an object's type. Raises Refused with one of `FINAL_PROBLEMS`, and Fault."""
        read = self._objects.reader(key, etag=head.etag)
        now = datetime.fromtimestamp(self._clock(), UTC)
        return await judge(key, head, read=read, policy=self._policy, now=now)

    async def accept(self, key: str, head: ObjectHead, facts: ObjectFacts | None = None) -> MediaType:
        """Return the type of an object that counts: it is what it claims to be, and the hook accepts it.

        Args:
            key: The object's key.
            head: The object and its first `media.HEAD_BYTES` bytes.
            facts: What the store says of its checksum, if it was asked.

        Raises:
            Refused: With one of `FINAL_PROBLEMS`; or CHECK_FAILED, if the hook did not answer.
            Fault: The store failed.
        """
        kind = await self.judge(key, head)
        if not self._hooks.check_files and self._telling is None:
            return kind
        passed = PASSED_PREFIX + _version(key, head)
        if await self._objects.note(passed) is None:
            file = await self._file(key, head, facts)
            await self._hooks.before_finish(file)
            if await self._tell(key, head, file) or self._hooks.check_files:
                await self._objects.put_note(passed, {})
        return kind

    async def accept_by_copy(self, key: str, head: ObjectHead) -> None:
        """Note that the upload at a key that can be replaced counts: its copy was accepted. Raises Fault."""
        if self._telling is not None and await self._objects.note(PASSED_PREFIX + _version(key, head)) is None:
            await self._tell(key, head, await self._file(key, head, None))
            await self._objects.put_note(PASSED_PREFIX + _version(key, head), {})

    async def _tell(self, key: str, head: ObjectHead, file: FinishedFile) -> bool:
        """Note the event that a file counts, before anybody is answered. Returns whether there is one."""
        if self._telling is None or self.is_copy(key, head):
            return False
        if self._tells_within is not None and self._clock() - head.modified.timestamp() > self._tells_within:
            return False
        way = "multipart" if self._policy.keys.is_final(key) else "put"
        await self._telling.completed(_version(key, head), file, way)
        return True

    def is_copy(self, key: str, head: ObjectHead) -> bool:
        """Return whether the object was copied for a post, and not uploaded."""
        return self._policy.keys.is_final(key) and _METADATA + TOKEN not in head.headers

    async def _file(self, key: str, head: ObjectHead, facts: ObjectFacts | None) -> FinishedFile:
        url = ""
        if self._hooks.check_files:
            (url,) = await self._objects.bucket.presign("GetObject", [{"Key": key}])
        checksum = facts.checksum if facts is not None and facts.algorithm is not None else None
        named = {name.removeprefix(_METADATA): value for name, value in head.headers.items() if _METADATA in name}
        return FinishedFile(
            key=key,
            owner=self._policy.keys.owner_of(key) or "",
            size=head.size,
            content_type=head.content_type,
            etag=head.etag,
            checksum=checksum,
            checksum_algorithm=facts.algorithm.value if facts and facts.algorithm and checksum else None,
            metadata={name: value for name, value in named.items() if not name.startswith(_OURS)},
            url=url,
        )

    async def tell_refusal(self, key: str, *, etag: str, size: int, modified: datetime, refused: Refused) -> None:
        """Note the event that an object was refused, before it is deleted. Raises Fault."""
        if self._telling is not None:
            version = version_of(key, etag=etag, size=size, modified=modified)
            await self._telling.refused(version, key, size, refused)

    async def note_refusal(self, key: str, refused: Refused) -> None:
        """Leave a note, so that a client whose complete was interrupted gets the reason when it repeats it."""
        note = {"code": refused.problem.code}
        if refused.problem is Problem.FILE_REFUSED:  # the reason is the hook's own; that of others is known by the code
            note["message"] = quote(str(refused))
        await self._objects.put_note(note_key(key), note)

    async def earlier_refusal(self, key: str) -> Refused | None:
        """Return what the upload at `key` was refused for, if it was."""
        note = await self._objects.note(note_key(key))
        problem = next((p for p in FINAL_PROBLEMS if note is not None and p.code == note.get("code")), None)
        if problem is None or note is None:
            return None
        return Refused(problem, unquote(note.get("message", "")) or None)


def _version(key: str, head: ObjectHead) -> str:
    return version_of(key, etag=head.etag, size=head.size, modified=head.modified)
