"""The outcome of a multipart upload: open, its object made and accepted, or nothing left.

Knows nothing of HTTP and of requests. It has no state: the handle and the store say everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from bigupload.core.integrity import ObjectFacts
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import S3Options
from bigupload.service import contract as c
from bigupload.service.finishing import Finishing
from bigupload.service.handles import Handle
from bigupload.service.judgement import FINAL_PROBLEMS
from bigupload.service.media_objects import MediaBucket
from bigupload.service.problems import Problem, Refused
from bigupload.service.quota import Quota
from bigupload.service.store_problems import store_faults_as_refusals
from bigupload.stores.s3.multipart import S3Store


class UploadOutcomes:
    """The multipart uploads of one bucket."""

    def __init__(
        self, objects: MediaBucket, finishing: Finishing, public_url: Callable[[str], str], quota: Quota
    ) -> None:
        """Make it.

        Args:
            objects: The bucket.
            finishing: What an object must pass.
            public_url: The URL of a key for everyone.
            quota: Where the room of an object that is refused becomes free.
        """
        self._objects = objects
        self._bucket = objects.bucket
        self._finishing = finishing
        self._public_url = public_url
        self._quota = quota

    def store(self, key: str, content_type: str, metadata: Mapping[str, str] | None = None) -> S3Store:
        """The store of one key."""
        options = S3Options(content_type=content_type, metadata=metadata or {})
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
        """What an upload that is not open has become. Asked after that, since a complete may have come in between.

        None if it left nothing; raises Refused if its object was refused.
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
                await self._finishing.tell_refusal(
                    handle.key, etag=look.etag, size=look.size, modified=look.modified, refused=refused
                )
                await self._finishing.note_refusal(handle.key, refused)
                await self._objects.delete_unchanged(handle.key, etag=look.etag, modified=look.modified)
                self._quota.release(handle.owner, handle.key)
                raise
        return c.CompleteResponse(
            public_url=self._public_url(handle.key),
            key=handle.key,
            size=look.size,
            checksum=facts.checksum,
            checksum_algorithm=None if facts.checksum is None else cast("c.UploadChecksum", handle.algorithm.value),
            checksum_type=facts.checksum_type.value if facts.checksum_type is not None else None,
            etag=facts.etag,
            token=handle.token,
        )

    async def _raise_refusal(self, handle: Handle) -> None:
        """Raise what an earlier complete was refused for, if it was."""
        with store_faults_as_refusals():
            refused = await self._finishing.earlier_refusal(handle.key)
        if refused is not None:
            raise refused
