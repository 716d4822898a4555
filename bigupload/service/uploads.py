"""An owner's uploads: presign, create, sign, list, complete, judge, abort.

Knows nothing of HTTP: requests and responses are the contract's models, a refusal is `Refused`. It has no state: what
it must remember of an upload is in the handle, or in the store.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import cast
from urllib.parse import quote

from bigupload import errors
from bigupload.core.checksums import Algorithm
from bigupload.core.integrity import ObjectFacts
from bigupload.core.part_plan import Plan
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import S3Options
from bigupload.ports import UnsignedPart
from bigupload.service import contract as c
from bigupload.service import media
from bigupload.service.bucket_rules import MEDIA_PREFIX
from bigupload.service.client_parts import combined, from_base64, in_order, parts_to_sign, plan_of
from bigupload.service.handles import Handle, Handles
from bigupload.service.judgement import FINAL_PROBLEMS, check_size, judge
from bigupload.service.object_keys import new_final_key, new_writable_key, note_key
from bigupload.service.posted_media import PostedMedia
from bigupload.service.problems import Problem, Refused
from bigupload.service.store_problems import refusal_of, store_faults_as_refusals
from bigupload.stores.s3.client import URL_LIFETIME, S3Bucket
from bigupload.stores.s3.media_objects import MediaBucket
from bigupload.stores.s3.multipart import S3Store

_RETRY_OPEN = 60.0
"""Seconds, for Retry-After."""
_MAYBE_COMPLETED = frozenset(
    {FaultKind.GONE, FaultKind.BROKEN, FaultKind.STALLED, FaultKind.SERVER, FaultKind.BUSY, FaultKind.UNREACHABLE}
)
"""After these faults, this or an earlier complete may have made the object."""


class MediaUploads:
    """All owners' uploads into one bucket."""

    def __init__(
        self,
        bucket: S3Bucket,
        handles: Handles,
        *,
        public_url: str | None = None,
        max_file_size: int = c.MAX_FILE_SIZE,
        max_open_uploads: int = 100,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make it.

        Args:
            bucket: The bucket of the uploads.
            handles: Signs and verifies upload handles.
            public_url: Where everyone finds the bucket's objects; None: at the bucket's own URL.
            max_file_size: The limit, in bytes.
            max_open_uploads: The limit of open multipart uploads of one owner.
            clock: The time, in seconds since 1970.
        """
        self._bucket = bucket
        self._objects = MediaBucket(bucket)
        self._handles = handles
        self._public_url = public_url.rstrip("/") + "/" if public_url else None
        self._max_file_size = max_file_size
        self._max_open_uploads = max_open_uploads
        self._clock = clock
        self.posted = PostedMedia(self._objects, self.public_url, max_file_size=max_file_size, clock=clock)
        """The uploads, as posts name them."""

    def public_url(self, key: str) -> str:
        """The URL at which everyone finds the object."""
        return self._bucket.url(key) if self._public_url is None else self._public_url + quote(key)

    # -- one PUT

    async def presign(self, owner: str, request: c.PresignRequest) -> c.PresignResponse:
        """Sign one PUT of a whole file."""
        kind = media.declared(request.filename, request.content_type)
        self._check_size(request.size)
        key = new_writable_key(owner, kind)
        with store_faults_as_refusals():
            url = await self._objects.sign_put(key, request.content_type, request.size)
        return c.PresignResponse(upload_url=url, public_url=self.public_url(key), key=key, expires_in=URL_LIFETIME)

    # -- many parts

    async def create(self, owner: str, request: c.CreateRequest) -> c.CreateResponse:
        """Create a multipart upload."""
        kind = media.declared(request.filename, request.content_type)
        self._check_size(request.size)
        if request.head is not None:
            media.check_head(from_base64(request.head, "head"), kind)
        plan = plan_of(request)
        algorithm = Algorithm(request.checksum_algorithm)
        first = parts_to_sign(plan, algorithm, request.first_parts, "firstParts")
        with store_faults_as_refusals():
            await self._check_open_uploads(owner)
            key, token = new_final_key(owner, kind), request.token or secrets.token_hex(16)
            store = self._store(key, kind.content_type)
            upload_id = await _create(store, plan, algorithm, token)
            try:
                signed = await self._sign(store, upload_id, first)
            except BaseException:
                with contextlib.suppress(Fault, errors.BigUploadError):
                    await store.abort(upload_id)  # its client never learns of it
                raise
        handle = Handle(
            owner=owner,
            key=key,
            upload_id=upload_id,
            size=plan.known_size,
            part_size=plan.part_size,
            content_type=kind.content_type,
            algorithm=algorithm,
            token=token,
            expires=self._handles.expiry(),
        )
        return c.CreateResponse(
            upload=self._handles.encode(handle),
            key=key,
            public_url=self.public_url(key),
            part_size=plan.part_size,
            parts=plan.count,
            checksum_algorithm=request.checksum_algorithm,
            signed=signed,
            expires_in=URL_LIFETIME,
        )

    async def sign(self, owner: str, request: c.SignRequest) -> c.SignResponse:
        """Sign parts of an upload."""
        handle = self._handles.decode(request.upload, owner=owner)
        parts = parts_to_sign(handle.plan, handle.algorithm, request.parts, "parts")
        with store_faults_as_refusals():
            signed = await self._sign(self._store_of(handle), handle.upload_id, parts)
        return c.SignResponse(signed=signed, expires_in=URL_LIFETIME)

    async def parts(self, owner: str, upload: str) -> c.PartsResponse:
        """What the store has of an upload."""
        handle = self._handles.decode(upload, owner=owner)
        with store_faults_as_refusals():
            rows = await self._store_of(handle).list_parts(handle.upload_id, handle.algorithm)
        return c.PartsResponse(
            parts=[c.StoredPart(part_number=r.number, size=r.size, etag=r.etag, checksum=r.checksum) for r in rows]
        )

    async def status(self, owner: str, upload: str) -> c.StatusResponse:
        """Whether an upload is open, completed or gone. An object that was not judged yet is judged."""
        handle = self._handles.decode(upload, owner=owner)
        try:
            completed = await self._completed(handle)
            if completed is not None:
                return c.StatusResponse(status=c.UploadStatus.COMPLETED, completed=completed)
            if await self._is_open(handle):
                return c.StatusResponse(status=c.UploadStatus.OPEN)
            completed = await self._ended(handle)
            if completed is not None:
                return c.StatusResponse(status=c.UploadStatus.COMPLETED, completed=completed)
        except Refused as refused:
            if refused.problem not in FINAL_PROBLEMS:
                raise
            error = c.ErrorDetail.model_validate(refused.to_json()["error"])
            return c.StatusResponse(status=c.UploadStatus.GONE, error=error)
        return c.StatusResponse(status=c.UploadStatus.GONE)

    async def complete(self, owner: str, request: c.CompleteRequest) -> c.CompleteResponse:
        """Make the object and judge it. Idempotent: a repeated call has the same result."""
        handle = self._handles.decode(request.upload, owner=owner)
        parts = in_order(handle, request.parts)
        checksum = combined(handle, parts)
        if None not in (checksum, request.checksum) and checksum != request.checksum:
            raise Refused(Problem.CHECKSUM_MISMATCH, field="checksum")
        store = self._store_of(handle)
        try:
            facts = await store.complete(
                handle.upload_id, parts, size=handle.size, algorithm=handle.algorithm, checksum=checksum
            )
        except (Fault, errors.BigUploadError) as e:
            if isinstance(e, Fault) and e.kind in _MAYBE_COMPLETED:
                completed = await self._completed(handle)
                if completed is None and e.kind is FaultKind.GONE:
                    if await self._is_open(handle):  # some stores respond NoSuchUpload if only a part is missing
                        raise Refused(Problem.PART_NOT_STORED) from e
                    completed = await self._ended(handle)
                if completed is not None:
                    return completed
            raise refusal_of(e) from e
        return await self._judged(handle, facts)

    async def abort(self, owner: str, upload: str) -> None:
        """Abort an upload. Idempotent; the object of a completed upload stays."""
        handle = self._handles.decode(upload, owner=owner)
        with store_faults_as_refusals():
            await self._store_of(handle).abort(handle.upload_id)

    # -- inside

    def _check_size(self, size: int | None) -> None:
        if size is not None:
            check_size(size, self._max_file_size)

    async def _check_open_uploads(self, owner: str) -> None:
        """Count in the store's own list: a replica does not know another's uploads."""
        found = await self._objects.open_uploads(f"{MEDIA_PREFIX}{owner}/", most=self._max_open_uploads)
        if found >= self._max_open_uploads:
            raise Refused(Problem.TOO_MANY_UPLOADS, retry_after=_RETRY_OPEN)

    def _store(self, key: str, content_type: str) -> S3Store:
        return S3Store(self._bucket.name, key, S3Options(content_type=content_type), through=self._bucket)

    def _store_of(self, handle: Handle) -> S3Store:
        return self._store(handle.key, handle.content_type)

    async def _sign(self, store: S3Store, upload_id: str, parts: Sequence[UnsignedPart]) -> list[c.SignedPart]:
        signed = await store.sign(upload_id, parts) if parts else []
        return [
            c.SignedPart(part_number=part.number, url=request.url, headers=dict(request.headers))
            for part, request in zip(parts, signed, strict=True)
        ]

    async def _is_open(self, handle: Handle) -> bool:
        with store_faults_as_refusals():
            try:
                await self._bucket.call(
                    "to look at the upload", "list_parts", Key=handle.key, UploadId=handle.upload_id, MaxParts=1
                )
            except Fault as fault:
                if fault.kind is not FaultKind.GONE:
                    raise
                return False
            return True

    async def _completed(self, handle: Handle) -> c.CompleteResponse | None:
        """The response for an object that an earlier complete made; None if there is none."""
        with store_faults_as_refusals():
            facts = await self._store_of(handle).stat(handle.upload_id, handle.algorithm)
        return None if facts is None or facts.token != handle.token else await self._judged(handle, facts)

    async def _ended(self, handle: Handle) -> c.CompleteResponse | None:
        """What an upload that is not open has become. Asked after that, since a complete may have come in between.

        None if it left nothing; raises Refused if its object was refused.
        """
        completed = await self._completed(handle)
        if completed is None:
            await self._raise_refusal(handle)
        return completed

    async def _judged(self, handle: Handle, facts: ObjectFacts) -> c.CompleteResponse:
        """Judge the object that was made. An object that is refused is deleted, and a note says why."""
        with store_faults_as_refusals():
            look = await self._objects.look(handle.key, first=c.HEAD_BYTES)
            if look is None:
                await self._raise_refusal(handle)  # another complete may just have judged it
                raise Refused(Problem.UPLOAD_GONE)
            try:
                if look.size != handle.size:
                    raise Refused(Problem.SIZE_MISMATCH, f"the object has {look.size:,} bytes, not {handle.size:,}")
                now = datetime.fromtimestamp(self._clock(), UTC)
                judge(handle.key, look, max_file_size=self._max_file_size, now=now)
            except Refused as refused:
                # So that a repeated complete has the same result.
                await self._objects.put_note(note_key(handle.key), {"code": refused.problem.code})
                await self._objects.delete_unchanged(handle.key, etag=look.etag, modified=look.modified)
                raise
        return c.CompleteResponse(
            public_url=self.public_url(handle.key),
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
            note = await self._objects.note(note_key(handle.key))
        problem = next((p for p in FINAL_PROBLEMS if note is not None and p.code == note.get("code")), None)
        if problem is not None:
            raise Refused(problem)


async def _create(store: S3Store, plan: Plan, algorithm: Algorithm, token: str) -> str:
    try:
        return (await store.create(plan, algorithm, declare=True, token=token)).upload_id
    except Fault as fault:
        unsupported = fault.kind is FaultKind.UNSUPPORTED or (fault.kind is FaultKind.FINAL and fault.status == 400)
        if unsupported and algorithm.is_s3_checksum:
            raise Refused(Problem.UNSUPPORTED_CHECKSUM, field="checksumAlgorithm") from fault
        raise
