"""Find the uploads that a post names by their publicUrl, check them, and make them immutable.

A presigned PUT stays valid for an hour, even after a post was accepted. So the store copies the object to a key for
which nobody has a URL to write; no bytes pass through the service. The service checks the copy and forwards the post
with the copy's URL. `docs/security.md` says why nothing simpler is safe.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import yarl

from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.service import contract as c
from bigupload.service.judgement import judge
from bigupload.service.media import HEAD_BYTES, MediaType
from bigupload.service.object_keys import copy_key, is_final, owner_of
from bigupload.service.problems import Problem, Refused
from bigupload.service.store_problems import store_faults_as_refusals
from bigupload.stores.s3.media_objects import MediaBucket, ObjectHead


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
        max_file_size: int,
        clock: Callable[[], float],
    ) -> None:
        """Make it.

        Args:
            objects: The bucket of the uploads.
            public_url: The URL of a key for everyone.
            max_file_size: The limit, in bytes.
            clock: The time, in seconds since 1970.
        """
        self._objects = objects
        self.public_url = public_url
        self._max_file_size = max_file_size
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
        if key != url and owner_of(key) is not None:
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
        if owner_of(key) != owner:
            raise Refused(Problem.MEDIA_NOT_FOUND)
        with store_faults_as_refusals():
            kind, head = await self._judged(key)
            if is_final(key):
                return PostableMedia(kind=kind, key=key)
            final = copy_key(key, head, kind)
            if await self._objects.look(final, first=1) is None:
                await self._copy(key, final, head, kind)
            kind, _ = await self._judged(final)
            return PostableMedia(kind=kind, key=final)

    async def _copy(self, key: str, final: str, head: ObjectHead, kind: MediaType) -> None:
        try:
            await self._objects.copy(key, final, etag=head.etag, content_type=kind.content_type)
        except Fault as fault:
            if fault.kind in (FaultKind.GONE, FaultKind.EXISTS) or fault.status == 404:
                message = "the upload was replaced or deleted while it was checked: post it again"
                raise Refused(Problem.MEDIA_NOT_FOUND, message) from fault
            raise

    async def _judged(self, key: str) -> tuple[MediaType, ObjectHead]:
        head = await self._objects.look(key, first=HEAD_BYTES)
        now = self._clock()
        if head is None or now - head.modified.timestamp() >= c.STORED_FOR:
            raise Refused(Problem.MEDIA_NOT_FOUND)
        try:
            kind = judge(key, head, max_file_size=self._max_file_size, now=datetime.fromtimestamp(now, UTC))
        except Refused:
            await self._objects.delete_unchanged(key, etag=head.etag, modified=head.modified)
            raise
        return kind, head


def _place(url: str) -> str:
    """Return host, port and path, equal for all spellings. Raises ValueError."""
    read = yarl.URL(url)
    port = "" if read.is_default_port() else read.port  # http leads to https
    return f"{(read.host or '').rstrip('.')}:{port}{re.sub('/+', '/', read.path)}"
