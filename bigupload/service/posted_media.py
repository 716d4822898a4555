"""Find the uploads that a post names by their publicUrl, check them, and make them immutable.

A presigned PUT stays valid for an hour, even after a post was accepted. So the store copies the object to a key for
which nobody has a URL to write; no bytes pass through the service. The service checks the copy and forwards the post
with the copy's URL. `docs/security.md` says why nothing simpler is safe.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import yarl

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.records import dataclass
from bigupload.service.finishing import Finishing
from bigupload.service.judgement import FINAL_PROBLEMS
from bigupload.service.media import HEAD_BYTES, MediaType
from bigupload.service.media_objects import MediaBucket, ObjectHead
from bigupload.service.policy import Policy
from bigupload.service.problems import Problem, Refused
from bigupload.service.store_problems import store_faults_as_refusals


@dataclass(frozen=True, slots=True, kw_only=True)
class PostableMedia:
    """An upload that a post may name."""

    kind: MediaType
    key: str
    """A final key: its object stays as it was checked."""


class PostedMedia:
    """The uploads of all owners, as posts name them."""

    def __init__(
        self,
        objects: MediaBucket,
        public_url: Callable[[str], str],
        *,
        finishing: Finishing,
        policy: Policy,
        clock: Callable[[], float],
    ) -> None:
        """Make it.

        Args:
            objects: The bucket of the uploads.
            public_url: The URL of a key for everyone.
            finishing: What an object must pass.
            policy: What is accepted, and how long it is kept.
            clock: The time, in seconds since 1970.
        """
        self._objects = objects
        self.public_url = public_url
        self._finishing = finishing
        self._policy = policy
        self._clock = clock

    def key_of(self, url: str) -> str | None:
        """Return the key of an upload's publicUrl; None for another URL.

        The URL is forwarded to the posts API, which may read another spelling as another host. So only the exact text
        that `public_url` returns is an upload.

        Raises:
            Refused: For another spelling of an upload's URL. Checked as a direct URL, it would give access to other
                owners' uploads.
        """
        base = self.public_url("")
        key = url.removeprefix(base)
        if key != url and self._policy.keys.owner_of(key) is not None:
            return key
        try:
            leads_here = _place(url).startswith(_place(base))
        except ValueError:
            return None  # the check of direct URLs refuses it
        if leads_here:
            raise Refused(Problem.MEDIA_NOT_FOUND, "this is not the publicUrl of an upload, character for character")
        return None

    async def check(self, owner: str, key: str) -> PostableMedia:
        """Return the immutable object to post for the upload at `key`. A refused object is deleted.

        Raises:
            Refused: The upload belongs to another owner, does not exist, or is not the media that it claims to be.
        """
        if self._policy.keys.owner_of(key) != owner:
            raise Refused(Problem.MEDIA_NOT_FOUND)
        with store_faults_as_refusals():
            kind, head = await self._judged(key)
            if self._policy.keys.is_final(key):
                return PostableMedia(kind=kind, key=key)
            final = self._policy.keys.copy_key(key, head, kind)
            if await self._objects.look(final, first=1) is None:
                await self._copy(key, final, head, kind)
            try:
                kind, _ = await self._judged(final)
            except Refused as refused:
                if refused.problem is Problem.FILE_REFUSED:  # only the copy was shown to the hook
                    await self._tell_refusal(key, head, refused)
                    await self._objects.delete_unchanged(key, etag=head.etag, modified=head.modified)
                raise
            await self._finishing.accept_by_copy(key, head)
            return PostableMedia(kind=kind, key=final)

    async def _tell_refusal(self, key: str, head: ObjectHead, refused: Refused) -> None:
        if not self._finishing.is_copy(key, head):
            await self._finishing.tell_refusal(
                key, etag=head.etag, size=head.size, modified=head.modified, refused=refused
            )

    async def _copy(self, key: str, final: str, head: ObjectHead, kind: MediaType) -> None:
        try:
            await self._objects.copy(key, final, etag=head.etag, content_type=kind.content_type)
        except Fault as fault:
            _raise_if_replaced(fault)
            raise

    async def _judged(self, key: str) -> tuple[MediaType, ObjectHead]:
        head = await self._objects.look(key, first=HEAD_BYTES)
        now, keep = self._clock(), self._policy.keep
        if head is None or (keep is not None and now - head.modified.timestamp() >= keep):
            raise Refused(Problem.MEDIA_NOT_FOUND)
        try:
            # What can still be replaced need not pass the hook: its copy will.
            is_final = self._policy.keys.is_final(key)
            kind = await (self._finishing.accept if is_final else self._finishing.judge)(key, head)
        except Fault as fault:
            _raise_if_replaced(fault)
            raise
        except Refused as refused:
            if refused.problem not in FINAL_PROBLEMS:
                raise
            await self._tell_refusal(key, head, refused)
            await self._objects.delete_unchanged(key, etag=head.etag, modified=head.modified)
            raise
        return kind, head


def _raise_if_replaced(fault: Fault) -> None:
    if fault.is_absent or fault.kind is FaultKind.EXISTS:
        message = "the upload was replaced or deleted while it was checked: post it again"
        raise Refused(Problem.MEDIA_NOT_FOUND, message) from fault


def _place(url: str) -> str:
    """Return host, port and path, equal for all spellings. Raises ValueError."""
    read = yarl.URL(url)
    port = "" if read.is_default_port() else read.port  # http leads to https
    return f"{(read.host or '').rstrip('.')}:{port}{re.sub('/+', '/', read.path)}"
