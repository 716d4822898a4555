"""An owner's uploads: presign, create, sign, list, complete, judge, abort.

Knows nothing of HTTP: requests and responses are the contract's models, a refusal is `Refused`. A failure of the store
is raised as it is: `StoreHealth.while_responding`, through which requests come, makes a refusal of it. It has no state:
what it must remember of an upload is in the handle, or in the store.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, cast

from bigupload import errors
from bigupload.core import checksums
from bigupload.core.checksums import Algorithm, UploadChecksum
from bigupload.core.integrity import ObjectFacts, PartProof
from bigupload.core.manifest import PartRecord
from bigupload.core.part_plan import S3_LIMITS, Plan, plan_parts
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.options import S3Options
from bigupload.ports import UnsignedPart
from bigupload.s3_parameters import metadata_headers, tag_headers
from bigupload.service import contract as c
from bigupload.service.access.callers import BoundUser
from bigupload.service.access.handles import Handle, Handles, Receipts, handle_from_json
from bigupload.service.access.shared import SharedEngine
from bigupload.service.access.upload_tokens import MadeBefore, TokenCounts, UploadToken
from bigupload.service.media import media_types
from bigupload.service.media.media_types import check_start
from bigupload.service.media.object_keys import account_of, encoded, public_urls, why_not, with_filename
from bigupload.service.media.policy import MAX_SINGLE_PUT, PUBLISHED_POLICY, Policy
from bigupload.service.media_objects import ATTACHMENT, MediaBucket, quietly, refusal_of, version_in
from bigupload.service.problems import Problem, Refused
from bigupload.service.uploads.finishing import FINAL_PROBLEMS, Finishing, check_size
from bigupload.service.uploads.owner_files import OwnerFiles
from bigupload.service.uploads.quota import NO_QUOTA, KeptCounts, Quotas, UploadLimits
from bigupload.service.webhooks.hooks import Hooks, NewUpload
from bigupload.service.webhooks.telling import Telling
from bigupload.stores.s3.bucket import URL_LIFETIME, S3Bucket
from bigupload.stores.s3.multipart import S3Store
from bigupload.support.cancellation import for_each

_ANY_TYPE = "application/octet-stream"
"""An abort sends none."""
_SPELLED = {"content-disposition": "Content-Disposition"}
_ABORTS_AT_ONCE = 8
_DELETIONS_AT_ONCE = 16
_RETRY_OPEN = 60.0
"""Seconds, for Retry-After."""
_RECOUNT_AFTER = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds after which a new upload counts the open ones again: of those that began at the same moment, some give up."""
_MOST_CROWDED = 10_000


class MediaUploads:
    """All owners' uploads into one bucket."""

    def __init__(
        self,
        bucket: S3Bucket,
        handles: Handles,
        *,
        public_url: str | None = None,
        policy: Policy = PUBLISHED_POLICY,
        limits: UploadLimits = NO_QUOTA,
        engine: SharedEngine | None = None,
        hooks: Hooks | None = None,
        telling: Telling | None = None,
        receipts: Receipts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make it.

        Args:
            bucket: The bucket of the uploads.
            handles: Signs and verifies upload handles.
            public_url: Where everyone finds the bucket's objects; None: at the bucket's own URL.
            policy: What is accepted, and how long it is kept.
            limits: The limits of each owner and each end user.
            engine: Through it, replicas count these together; None: each by itself.
            hooks: The operator's checks; None: no checks.
            telling: Notes the events for webhooks; None: no webhooks.
            receipts: Signs receipts; None: there are none.
            clock: The time, in seconds since 1970.
        """
        self._bucket = bucket
        self._objects = MediaBucket(bucket)
        self.counts = TokenCounts(self._objects)
        """Counts the uploads that were begun with upload tokens."""
        self._handles = handles
        self.public_url = public_urls(bucket.url, public_url)
        """Returns the URL at which everyone finds the object of a key."""
        self._policy = policy
        self._limits = limits
        self._crowded: dict[str, None] = {}
        """The accounts whose last create was refused because of their open uploads."""
        self._clock = clock
        self._hooks = hooks or Hooks()
        self.telling = telling
        """Notes the events for webhooks; None: there are none."""
        self.finishing = Finishing(
            self._objects, policy=policy, clock=clock, hooks=self._hooks, telling=telling, receipts=receipts
        )
        """What an object must pass before it counts."""
        self.files = OwnerFiles(bucket, self.public_url, policy=policy, clock=clock)
        """The objects that the store has of each owner."""
        self._quota = Quotas(
            self.files.sizes,
            self.files.open_keys,
            limits=limits,
            keys=policy.keys,
            clock=clock,
            engine=engine,
            kept=KeptCounts(self._objects),
        )

    async def aclose(self) -> None:
        """End what runs beside the requests. Idempotent."""
        await self._quota.aclose()

    # -- one PUT

    async def presign(
        self, owner: str, request: c.PresignRequest, token: UploadToken | None = None
    ) -> c.PresignResponse:
        """Sign one PUT of a whole file. It counts as one upload of `token`."""
        kind = self._policy.types.declared(request.filename, request.content_type)
        if request.size is not None:
            check_size(request.size, self._policy.max_file_size)
        if request.size is not None and request.size > MAX_SINGLE_PUT:
            message = "one PUT takes at most 5 GiB: create a multipart upload"
            raise Refused(Problem.FILE_TOO_LARGE, message, field="size")
        metadata = _metadata(request, token)
        if request.metadata is not None:
            metadata = with_filename(metadata, request.filename)
        if token is not None:
            token.check(kind, request)
        await self._hooks.before_create(_new_upload("put", owner, request, token))
        key = self._policy.keys.new_key(account_of(owner, request.user), kind, self._now(), final=False)
        async with contextlib.AsyncExitStack() as undo:
            await self._quota.reserve(key, request.size)
            undo.callback(self._quota.release, key)
            if token is not None:
                await self.counts.take(token, undo)
            signed = metadata_headers(encoded(metadata)) | tag_headers(_tags(request, token))
            if kind.as_attachment:
                signed["content-disposition"] = ATTACHMENT
            content_type = {"content-type": request.content_type}
            url = await self._objects.sign_put(key, content_type | signed, request.size)
            undo.pop_all()
        sent = {_SPELLED.get(name, name): value for name, value in signed.items()}
        if sent or request.content_type not in kind.content_types:
            sent["Content-Type"] = request.content_type.strip()
        return c.PresignResponse(
            upload_url=url, public_url=self.public_url(key), key=key, expires_in=URL_LIFETIME, headers=sent or None
        )

    # -- many parts

    async def create(self, owner: str, request: c.CreateRequest, token: UploadToken | None = None) -> c.CreateResponse:
        """Create a multipart upload. It counts as one upload of `token`, also if the client repeats the request."""
        kind = self._policy.types.declared(request.filename, request.content_type)
        check_size(request.size, self._policy.max_file_size)
        if request.head is not None:
            try:
                head = base64.b64decode(request.head, validate=True)
            except ValueError as e:
                raise Refused(Problem.INVALID_FIELD, "the field is not base64", field="head") from e
            media_types.check_head(head, kind)
            check_start(kind.name, head, request.size)
        plan = _plan_of(request)
        algorithm = Algorithm(request.checksum_algorithm)
        first = [_part_to_sign(plan, algorithm, part, f"firstParts[{i}]") for i, part in enumerate(request.first_parts)]
        mark = request.token or secrets.token_hex(16)
        if token is not None:
            token.check(kind, request)
        made = await self.counts.made_before(token, request)
        async with contextlib.AsyncExitStack() as undo:
            if made is None:
                await self._hooks.before_create(_new_upload("multipart", owner, request, token))
                made = await self._begin(owner, request, kind, plan, mark, token, undo, algorithm)
            signed = await self._sign(self._store(made.key, kind.content_type), made.upload_id, first)
            undo.pop_all()
        await self.counts.remember(token, request, made)
        handle = Handle(
            owner=owner,
            key=made.key,
            upload_id=made.upload_id,
            size=plan.known_size,
            part_size=plan.part_size,
            content_type=kind.content_type,
            algorithm=algorithm,
            token=mark,
            expires=self._handles.expiry(),
        )
        return c.CreateResponse(
            upload=self._handles.encode(handle),
            key=made.key,
            public_url=self.public_url(made.key),
            part_size=plan.part_size,
            parts=plan.count,
            checksum_algorithm=request.checksum_algorithm,
            signed=signed,
            expires_in=URL_LIFETIME,
        )

    async def _begin(
        self,
        owner: str,
        request: c.CreateRequest,
        kind: media_types.MediaType,
        plan: Plan,
        mark: str,
        token: UploadToken | None,
        undo: contextlib.AsyncExitStack,
        algorithm: Algorithm,
    ) -> MadeBefore:
        """Create the upload in the store. `undo` aborts it, because its client would never learn of it."""
        account = account_of(owner, request.user)
        if account in self._crowded:  # else a client that retries would begin upload after upload in the store
            await self._check_open_uploads(account, request.user)
        key = self._policy.keys.new_key(account, kind, self._now(), final=True)
        try:
            await self._quota.reserve(key, plan.size, lifetime=self._policy.upload_lifetime)
        except Refused:
            await self._check_open_uploads(account, request.user)  # aborting one may make room, too: say so first
            raise
        undo.callback(self._quota.release, key)
        if token is not None:
            await self.counts.take(token, undo)
        metadata = encoded(with_filename(_metadata(request, token), request.filename))
        tags = _tags(request, token)
        disposition = ATTACHMENT if kind.as_attachment else None
        store = self._store(key, kind.content_type, metadata=metadata, tags=tags, content_disposition=disposition)
        try:
            upload_id = (await store.create(plan, algorithm, declare=True, token=mark)).upload_id
        except Fault as fault:
            if fault.may_be_unsupported and algorithm.is_s3_checksum:
                raise Refused(Problem.UNSUPPORTED_CHECKSUM, field="checksumAlgorithm") from fault
            raise
        undo.push_async_callback(quietly, store.abort, upload_id)
        await self._check_open_uploads(account, request.user, upload_id)
        if self.telling is not None:
            await self.telling.upload_created(_new_upload("multipart", owner, request, token), key, upload_id)
        return MadeBefore(key, upload_id)

    async def sign(
        self, owner: str, request: c.SignRequest, token: UploadToken | None = None, bound: BoundUser | None = None
    ) -> c.SignResponse:
        """Sign parts of an upload."""
        handle = self.decode(request.upload, owner, bound, token)
        parts = [
            _part_to_sign(handle.plan, handle.algorithm, part, f"parts[{i}]") for i, part in enumerate(request.parts)
        ]
        signed = await self._sign(self._store_of(handle), handle.upload_id, parts)
        return c.SignResponse(signed=signed, expires_in=URL_LIFETIME)

    async def parts(self, owner: str, upload: str, bound: BoundUser | None = None) -> c.PartsResponse:
        """Return the parts of an upload that the store has."""
        handle = self.decode(upload, owner, bound)
        rows = await self._store_of(handle).list_parts(handle.upload_id, handle.algorithm)
        return c.PartsResponse(
            parts=[c.StoredPart(part_number=r.number, size=r.size, etag=r.etag, checksum=r.checksum) for r in rows]
        )

    async def status(self, owner: str, upload: str, bound: BoundUser | None = None) -> c.StatusResponse:
        """Whether an upload is open, completed or gone. An object that was not judged yet is judged."""
        handle = self.decode(upload, owner, bound)
        try:
            completed = await self._completed(handle)
            if completed is None:
                if await self._is_open(handle):
                    return c.StatusResponse(status=c.UploadStatus.OPEN)
                completed = await self._ended(handle)
        except Refused as refused:
            if refused.problem not in FINAL_PROBLEMS:
                raise
            error = c.ErrorDetail.model_validate(refused.to_json()["error"])
            return c.StatusResponse(status=c.UploadStatus.GONE, error=error)
        status = c.UploadStatus.GONE if completed is None else c.UploadStatus.COMPLETED
        return c.StatusResponse(status=status, completed=completed)

    async def complete(
        self, owner: str, request: c.CompleteRequest, token: UploadToken | None = None, bound: BoundUser | None = None
    ) -> c.CompleteResponse:
        """Make the object and judge it. Idempotent: a repeated call has the same result."""
        handle = self.decode(request.upload, owner, bound, token)
        parts = _in_order(handle, request.parts)
        checksum = _combined(handle, parts)
        if None not in (checksum, request.checksum) and checksum != request.checksum:
            raise Refused(Problem.CHECKSUM_MISMATCH, field="checksum")
        async with contextlib.nullcontext() if self.telling is None else self.telling.completing(handle):
            made = await self._room_for(handle) or await self._complete(handle, parts, checksum)
        self._quota.ended(handle.key)  # from now on, only the list counts it: it may be deleted before it is in one
        return made

    async def _complete(self, handle: Handle, parts: Sequence[PartRecord], checksum: str | None) -> c.CompleteResponse:
        try:
            facts = await self._store_of(handle).complete(
                handle.upload_id, parts, size=handle.size, algorithm=handle.algorithm, checksum=checksum
            )
        except (Fault, errors.BigUploadError) as e:
            if isinstance(e, Fault) and (e.kind is FaultKind.GONE or e.kind.leaves_unknown):
                completed = await self._completed(handle)
                if completed is None and e.kind is FaultKind.GONE:
                    # Some stores respond NoSuchUpload if only a part is missing.
                    if await self._is_open(handle):
                        raise Refused(Problem.PART_NOT_STORED) from e
                    completed = await self._ended(handle)
                if completed is not None:
                    return completed
            raise refusal_of(e) from e
        return await self.judged(handle, facts)

    async def settle(self, intent: Mapping[str, Any]) -> bool:
        """Look what became of an upload whose complete nobody noted the end of, and note that.

        Returns whether it is decided: if the upload is open, its complete may still be under way in the store.
        """
        handle = handle_from_json(intent["handle"])
        try:
            if await self._is_open(handle):
                return False
            await self._ended(handle)
        except Refused as refused:
            return refused.problem.status < 500
        return True

    async def abort(self, owner: str, upload: str, bound: BoundUser | None = None) -> None:
        """Abort an upload. Idempotent; the object of a completed upload stays."""
        handle = self.decode(upload, owner, bound)
        telling = self.telling if self.telling is not None and self.telling.uploads else None
        was_open = telling is not None and await self._is_open(handle)
        await self._store_of(handle).abort(handle.upload_id)
        if telling is not None and was_open:
            await telling.upload_aborted(handle.key, handle.upload_id, by_age=False)
        self._quota.ended(handle.key)

    async def abort_all(self, owner: str, request: c.AbortRequest) -> c.AbortedResponse:
        """Abort the open upload of a key, or all of an end user. Raises Refused as `OwnerFiles.find_open`."""
        found, more = await self.files.find_open(owner, request)

        async def abort(row: tuple[str, str]) -> None:
            key, upload_id = row
            await self._store(key, _ANY_TYPE).abort(upload_id)
            if self.telling is not None:
                await self.telling.upload_aborted(key, upload_id, by_age=False)
            self._quota.ended(key)

        await for_each(found, abort, at_once=_ABORTS_AT_ONCE)
        return c.AbortedResponse(aborted=len(found), more=more)

    async def delete_file(self, owner: str, key: str, user: str | None = None) -> None:
        """Delete one of an owner's files. Idempotent. Raises Refused as `OwnerFiles.check_key`."""
        self.files.check_key(owner, key, user)
        if self.telling is not None:
            head = await self._bucket.head(key)
            if head is not None:
                await self.telling.leaving("media.deleted", key, version_in(head))
        try:
            await self._bucket.delete(key, etag="")
        except Fault as fault:
            if fault.kind is not FaultKind.GONE:
                raise
        self._quota.changed(key)

    async def delete_files(self, owner: str, request: c.DeleteManyRequest) -> c.DeletedResponse:
        """Delete many of an owner's files, or all of an end user. Idempotent.

        Raises:
            Refused: As `OwnerFiles.find_files`; or the store failed, and some are deleted.
        """
        found, more = await self.files.find_files(owner, request)

        async def delete(key: str) -> None:
            await self.delete_file(owner, key, request.user)

        await for_each(found, delete, at_once=_DELETIONS_AT_ONCE)
        return c.DeletedResponse(deleted=len(found), more=more)

    # -- what became of a multipart upload: the handle and the store hold all that is known

    def _store(self, key: str, content_type: str, **options: Any) -> S3Store:
        """The store of one key. `options`: more of `S3Options`."""
        return S3Store(self._bucket.name, key, S3Options(content_type=content_type, **options), through=self._bucket)

    def _store_of(self, handle: Handle) -> S3Store:
        return self._store(handle.key, handle.content_type)

    async def _is_open(self, handle: Handle) -> bool:
        """Whether the upload takes parts."""
        try:
            await self._bucket.call(
                "to look at the upload", "ListParts", Key=handle.key, UploadId=handle.upload_id, MaxParts=1
            )
        except Fault as fault:
            if fault.kind is not FaultKind.GONE:
                raise
            return False
        return True

    async def _completed(self, handle: Handle) -> c.CompleteResponse | None:
        """The response for an object that an earlier complete made; None without one."""
        facts = await self._store_of(handle).stat(handle.upload_id, handle.algorithm)
        return None if facts is None or facts.token != handle.token else await self.judged(handle, facts)

    async def _ended(self, handle: Handle) -> c.CompleteResponse | None:
        """Return the object of an upload that is not open any more; None: it left no object.

        Ask after the upload was found not to be open, since a complete may have come in between.

        Raises:
            Refused: Its object was refused.
        """
        completed = await self._completed(handle)
        if completed is None:
            await self.finishing.raise_earlier_refusal(handle.key)
        return completed

    async def judged(self, handle: Handle, facts: ObjectFacts) -> c.CompleteResponse:
        """Judge the object that was made. An object that is refused is deleted, and a note says why."""
        look = await self._objects.look(handle.key, first=c.HEAD_BYTES)
        if look is None:
            await self.finishing.raise_earlier_refusal(handle.key)  # another complete may just have judged it
            raise Refused(Problem.UPLOAD_GONE)
        try:
            if look.size != handle.size:
                raise Refused(Problem.SIZE_MISMATCH, f"the object has {look.size:,} bytes, not {handle.size:,}")
            await self.finishing.accept(handle.key, look, facts)
        except Refused as refused:
            if refused.problem not in FINAL_PROBLEMS:
                raise
            await self.finishing.refuse(handle.key, look, refused)
            self._quota.release(handle.key)
            raise
        receipt = await self.finishing.receipt(handle.key, look, facts)
        return c.CompleteResponse(
            public_url=self.public_url(handle.key),
            key=handle.key,
            size=look.size,
            checksum=facts.checksum,
            checksum_algorithm=None if facts.checksum is None else cast("UploadChecksum", handle.algorithm.value),
            checksum_type=facts.checksum_type.value if facts.checksum_type is not None else None,
            etag=facts.etag,
            token=handle.token,
            receipt=receipt,
        )

    # -- inside

    def decode(self, upload: str, owner: str, bound: BoundUser | None, token: UploadToken | None = None) -> Handle:
        """Return the handle of an upload. If it goes on by a token, that one must allow it too, whoever began it.

        Raises:
            Refused: It is not a handle, that of others, or one that the token does not allow.
        """
        handle = self._handles.decode(upload, owner=owner)
        if bound is not None and self._policy.keys.user_of(handle.key) != bound.user:
            raise Refused(Problem.NOT_YOUR_UPLOAD, field="upload")
        if token is not None:
            token.check(self._policy.types.declared(handle.key, handle.content_type), handle)
        return handle

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    async def _check_open_uploads(self, account: str, user: str | None, made: str | None = None) -> None:
        """Raise Refused if an account has too many open uploads, as the store lists them: replicas share nothing else.

        The upload `made` is open already, and stays only if the list has room for it beside all others. Of many that
        begin at once, in any replicas, the last one to list sees all that stay, so no more stay than may. Those that
        began too late give up at once, and the others look again when these are gone.

        Uploads of end users take no place of the owner's, so that one of them can't lock out the others.
        """
        keys, limits = self._policy.keys, self._limits
        most = limits.max_open_uploads if user is None else limits.max_open_uploads_of_user
        for pause in (*_RECOUNT_AFTER, None):
            rows = await self._objects.open_uploads(
                keys.prefix_of(account),
                most=most if made is None else 2 * most + 1,
                counts=lambda key: keys.user_of(key) == user,
                before=keys.users_of(account) if user is None else None,
            )
            others = sorted(row for row in rows if row[1] != made)
            if len(others) < most:
                self._crowded.pop(account, None)
                return
            mine = [row for row in rows if row[1] == made]
            if pause is None or not mine or others[most - 1] < mine[0]:
                break
            await asyncio.sleep(pause)
        self._crowded[account] = None
        if len(self._crowded) > _MOST_CROWDED:
            del self._crowded[next(iter(self._crowded))]
        whose = "you have" if user is not None else "the owner of this key has"
        message = f"{whose} {most:,} open uploads, and more are not allowed: complete or abort one"
        raise Refused(Problem.TOO_MANY_UPLOADS, message, retry_after=_RETRY_OPEN)

    async def _sign(self, store: S3Store, upload_id: str, parts: Sequence[UnsignedPart]) -> list[c.SignedPart]:
        signed = await store.sign(upload_id, parts) if parts else []
        return [
            c.SignedPart(part_number=part.number, url=request.url, headers=dict(request.headers))
            for part, request in zip(parts, signed, strict=True)
        ]

    async def _room_for(self, handle: Handle) -> c.CompleteResponse | None:
        """Refuse a complete beyond the quota, which counts the file itself if an earlier complete made it.

        Returns that one's response; None if the object is to be made.
        """
        if self._quota.holds(handle.key):
            return None
        try:
            await self._quota.reserve(handle.key, handle.size)
        except Refused as refused:
            completed = await self._ended(handle) if refused.problem is Problem.QUOTA_EXCEEDED else None
            if completed is None:
                raise
            return completed
        return None


def _metadata(request: c.PresignRequest | c.CreateRequest, token: UploadToken | None) -> dict[str, str]:
    """Return the metadata of a new file. What the backend put into the token prevails.

    Raises:
        Refused: INVALID_FIELD: together, they are too long.
    """
    metadata = {**(request.metadata or {}), **((token.metadata if token is not None else None) or {})}
    if (why := why_not(metadata)) is not None:
        raise Refused(Problem.INVALID_FIELD, why, field="metadata")
    return metadata


def _tags(request: c.PresignRequest | c.CreateRequest, token: UploadToken | None) -> dict[str, str]:
    return (request.tags if token is None else token.tags) or {}


def _new_upload(
    way: Literal["put", "multipart"], owner: str, request: c.PresignRequest | c.CreateRequest, token: UploadToken | None
) -> NewUpload:
    return NewUpload(
        owner=owner,
        user=request.user,
        filename=request.filename,
        content_type=request.content_type,
        size=request.size,
        way=way,
        metadata=_metadata(request, token),
        token=token.id if token is not None else None,
    )


def _plan_of(request: c.CreateRequest) -> Plan:
    """The plan for an upload: with the client's part size, or the service's if the client names none."""
    try:
        return plan_parts(request.size, request.part_size, limits=S3_LIMITS)
    except errors.UsageError as e:
        raise Refused(Problem.UNSUPPORTED_PART_SIZE, str(e), field="partSize") from e


def _part_to_sign(plan: Plan, algorithm: Algorithm, part: c.PartToSign, field: str) -> UnsignedPart:
    """Return a part for the store's port. Raises Refused if it does not match the plan."""
    if part.part_number > plan.count or plan.part(part.part_number).size != part.size:
        raise Refused(
            Problem.WRONG_PART,
            f"the upload has no part {part.part_number} of {part.size:,} bytes, but {plan.count} of {plan.part_size:,}",
            field=field,
        )
    headers: dict[str, str] = {}
    if part.checksum is not None and algorithm is not Algorithm.NONE:
        headers[algorithm.header] = _checked(algorithm, part.checksum, f"{field}.checksum")
    elif algorithm is not Algorithm.NONE:
        raise Refused(Problem.MISSING_CHECKSUM, field=f"{field}.checksum")
    if part.md5 is not None:
        headers[Algorithm.MD5.header] = _checked(Algorithm.MD5, part.md5, f"{field}.md5")
    return UnsignedPart(part.part_number, part.size, headers)


def _checked(algorithm: Algorithm, checksum: str, field: str) -> str:
    try:
        checksums.decode(algorithm, checksum)
    except ValueError as e:
        raise Refused(Problem.INVALID_FIELD, str(e), field=field) from e
    return checksum


def _in_order(handle: Handle, parts: Sequence[c.CompletedPart]) -> list[PartRecord]:
    """The parts that complete names, in order. Raises Refused unless each part of the plan is named once."""
    plan = handle.plan
    if sorted(part.part_number for part in parts) != list(range(1, plan.count + 1)):
        raise Refused(Problem.WRONG_PART, f"name each of the {plan.count} parts once", field="parts")
    records = []
    for i, part in sorted(enumerate(parts), key=lambda row: row[1].part_number):
        if handle.algorithm.is_s3_checksum:
            if part.checksum is None:
                raise Refused(Problem.MISSING_CHECKSUM, field=f"parts[{i}].checksum")
            _checked(handle.algorithm, part.checksum, f"parts[{i}].checksum")
        number, checksum = part.part_number, part.checksum or ""
        size = plan.part(number).size
        records.append(PartRecord(number=number, size=size, etag=part.etag, checksum=checksum, proof=PartProof.NONE))
    return records


def _combined(handle: Handle, parts: Sequence[PartRecord]) -> str | None:
    """The object's checksum, made of the parts' checksums; None if the upload declared none."""
    algorithm = handle.algorithm
    if not algorithm.is_s3_checksum:
        return None
    return checksums.combine(algorithm, [(checksums.decode(algorithm, part.checksum), part.size) for part in parts])
