"""One upload as a whole: what an earlier manifest means for it, and its result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import field
from pathlib import Path
from typing import Literal

from bigupload import errors, events
from bigupload.core.checksums import UPLOAD_ALGORITHMS, Algorithm
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Aborted, ChecksumRecord, Manifest, SourceKind, belongs_to, manifest_id
from bigupload.core.part_plan import Plan, plan_parts
from bigupload.core.remote_url import is_remote, path_of
from bigupload.core.retry_policy import Fault
from bigupload.engine.context import UploadContext, new_header, plan_of
from bigupload.engine.retrying import RunCounts
from bigupload.ports import Journal, ListedPart, OpenUpload, Source
from bigupload.records import dataclass
from bigupload.units import format_part_size

_MOST_CHANGES = 3
"""The most restarts of one run because the source changed. A file that is being written has to be waited for."""
_NEW = " (`resume=False` starts a new upload)"
_GUARDS: dict[SourceKind | None, Literal["fingerprint", "version"]] = {
    None: "fingerprint",
    SourceKind.REMOTE: "version",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A link to an object: whoever has it can read the object until it ends."""

    url: str | None = field(repr=False)
    """A presigned GET: a secret. None: there is no link, and `refused` says why."""
    expires_at: str | None
    """The time at which the link ends, as ISO 8601 in UTC."""
    note: str | None = None
    """The reason why it ends sooner than asked for, or may do so."""
    refused: str | None = None
    """The reason why there is no link although the upload is complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadResult:
    """A file that is in the store, and how that was proved. Sizes are in bytes, times in seconds."""

    path: Path
    bucket: str
    """Empty if the upload went to a media service."""
    key: str
    url: str
    """The URL without a signature. The bucket's policy decides who may fetch it."""
    size: int
    etag: str
    checksum: str | None
    """The object's checksum, "<algorithm>:<as S3 writes it>"; None if the store holds none."""
    verified: Verified
    parts: int = 0
    """Parts of the upload; 0 if it was skipped."""
    resumed_parts: int = 0
    """Parts that the store had already when this run began."""
    bytes_sent: int = 0
    """Bytes sent in this run, including those of failed attempts."""
    retries: int = 0
    seconds: float = 0.0
    manifest: Path | None
    """The upload's manifest; of a job's file that one PUT sent, or that was in the store, the job's record. None if
    neither is kept: of another small file, and of a skipped upload whose object no upload in parts made here."""
    guarded_by: Literal["fingerprint", "version", "checksums"] = "fingerprint"
    """The guard that would have shown a change of the source during the upload. Only a file has a fingerprint: size,
    times and inode. Of a remote file, all ranges are of one version, by its ETag. Of anything else, the store refuses a
    part whose bytes changed after they were hashed."""
    skipped: bool = False
    """Whether nothing was uploaded because the object was the file already, which `verified` proves."""
    version_id: str | None = None
    """The version of the object that this upload made; None if the bucket keeps or reports no versions."""
    bytes_copied: int = 0
    """Bytes that the store copied in this run from an object that it has, instead of their being sent: with `delta`, or
    from an s3:// source."""
    sha256: str | None = None
    """The file's SHA-256 in hexadecimal, if that was asked for."""
    xxh128: str | None = None
    """The file's XXH128 in hexadecimal, if that was asked for."""
    share: Share | None = None
    """The link to the object, if that was asked for."""
    source_deleted: bool = False
    """Whether the file is deleted: by a `DeleteSource`."""


class UploadRun:
    """One upload, in one context. The caller holds the lock of the manifest."""

    def __init__(self, context: UploadContext, reopen: Callable[[], Awaitable[Source]] | None = None) -> None:
        """Look at the manifest, if there is one.

        Args:
            context: The upload's context.
            reopen: Opens the source again, after it changed; None: it can't be opened again.
        """
        self._context = context
        self._reopen = reopen
        self._changes = 0
        self._id = (
            context.manifest.header.id
            if context.journal.exists
            else manifest_id(context.source.path, context.store.target)
        )
        self._began = context.effects.clock()
        self._asked = context.store.options()
        if context.journal.warning:
            context.warn(context.journal.warning)

    def prepare(self, *, resume: bool, compared: bool = False, replaces: bool = True) -> None:
        """Decide about an earlier manifest of the same name: resume it, or set it aside once the new upload exists.

        Args:
            resume: Whether to resume an upload that is not complete.
            compared: Whether the object was already compared with the file, and not proved to equal it.
            replaces: Whether the file may be sent again, to replace an object that an earlier upload completed.

        Raises:
            ManifestMismatch: The manifest is of another file or target.
            UsageError: The arguments do not fit; then no event of a new upload was sent.
        """
        context = self._context
        if not context.journal.exists:
            return
        manifest = context.manifest
        if not belongs_to(manifest.header, context.source.path, context.store.target):
            raise errors.ManifestMismatch(
                f"{context.journal.path} is the manifest of {manifest.source.path} to {manifest.target}: "
                "name another `manifest`, or resume that upload"
            )
        if not resume or manifest.status in ("completed", "aborted"):
            plan_of(context)  # before the event that names the upload that a new one replaces
        if manifest.status == "completed":
            if replaces:
                context.warn(complete_already(manifest, compared=compared))
            context.journal.set_aside()
        elif manifest.status == "aborted":
            context.journal.set_aside()
        elif not resume:
            context.journal.set_aside(self._left_unfinished)
        else:
            self._keep_to_plan()

    def _left_unfinished(self, aside: Path) -> None:
        self._context.warn(
            f"starting again. The parts of the unfinished upload stay in the store; to delete them: `abort('{aside}')`"
        )

    def _keep_to_plan(self) -> None:
        """Resume an upload with the part size, checksum and options that it began with."""
        manifest, settings = self._context.manifest, self._context.settings
        self._check_expected_size()
        if settings.part_size not in (None, manifest.plan.part_size):
            began = format_part_size(manifest.plan.part_size).replace(" ", "")
            self._context.warn(f"this upload began with `part_size='{began}'`, and keeps it{_NEW}")
        algorithm = manifest.header.checksum.algorithm
        if settings.algorithm not in (Algorithm.CRC64NVME, algorithm):
            self._context.warn(f"this upload began with `checksum='{algorithm}'`, and keeps it{_NEW}")
        if others := self._context.store.restore_options(manifest.header.options):
            named = ", ".join(f"`{name}`" for name in others)
            self._context.warn(f"this upload began with another {named}, and keeps it{_NEW}")

    def _check_expected_size(self) -> None:
        """Raises UsageError if a stream is expected to have another size than when its upload began."""
        source, began = self._context.source, self._context.manifest.first_plan.size
        expected = source.stream.expected if source.stream is not None else None
        if expected is not None and began not in (None, expected):
            if is_remote(source.path):
                raise errors.SourceChanged(
                    f"{errors.IT} has {expected:,} bytes now and had {began:,} when its upload began: nothing was "
                    f"changed{_NEW}",
                    it=source.path,
                    same_size=False,
                )
            raise errors.UsageError(
                f"an earlier run began this upload with an expected size of {began:,} bytes: use that one, or start "
                "anew with `resume=False`, and the true `expected_size` or none"
            )

    async def begin_adopted(self, upload_id: str | None) -> None:
        """Make a manifest for an open upload of this key.

        Args:
            upload_id: Which one, if several are open.

        Raises:
            UploadGone: There is no open upload.
            UsageError: Several are open, or its checksum algorithm is not supported.
        """
        context = self._context
        found = await context.retrier.request(context.store.find_open)
        chosen = _choose(found, upload_id, str(context.store.target))
        algorithm = _declared(chosen)
        rows = await context.retrier.request(lambda: context.store.list_parts(chosen.upload_id, algorithm))
        plan = _plan_of(context.source.fingerprint.size, rows, context)
        # Not every store reports the declared algorithm. A listed checksum shows that one was declared.
        listed = any(row.checksum is not None for row in rows)
        declared = algorithm.type if chosen.algorithm or listed or not rows else None
        checksum = ChecksumRecord(algorithm, declared)
        context.journal.begin(new_header(context, self._id, plan, checksum, chosen.upload_id, None))

    async def run_until_proved(self, *, follow_changes: bool) -> UploadResult:
        """Run the engine until the object is proved.

        Args:
            follow_changes: If an earlier run completed the object, and the file has changed since, upload the file as
                it is now.
        """
        from bigupload.engine.multipart_upload import MultipartUpload  # one PUT does without its modules
        from bigupload.engine.part_uploader import ChecksumsRefused, PartsTooLarge

        context = self._context
        while True:
            context.may_start_over = not context.journal.exists
            upload = MultipartUpload(context, manifest_id=self._id)
            try:
                await upload.run()
            except errors.SourceChanged as e:
                await self._follow(e)
                continue
            except PartsTooLarge as e:
                await self._change_part_size(e.part_size)
                continue
            except ChecksumsRefused as e:
                await self._do_without_checksums(e.fault)
                continue
            if await upload.made_of_source():
                break
            if not follow_changes:
                context.warn("the object is complete, but the source has changed since")
                break
            context.warn("an earlier upload is complete, but the source has changed since: uploading it again")
            self._start_over()
        seconds = context.effects.clock() - self._began
        return result_of(context.journal, context.counts, seconds=seconds, required=context.settings.require_proof)

    def _start_over(self) -> None:
        context = self._context
        context.journal.set_aside()
        context.store.restore_options(self._asked)
        context.hedging.restarted()
        context.counts.resumed_parts = 0  # those are the earlier upload's

    async def _follow(self, changed: errors.SourceChanged) -> None:
        """Take the source as it is now, for `on_change="restart"`. Raises `changed` where that is not wanted."""
        context = self._context
        if not context.settings.follow_changes or context.source.stream is not None:  # which has gone by
            raise changed
        self._changes += 1
        if self._changes > _MOST_CHANGES:
            raise errors.SourceChanged(
                f"{errors.IT} changed {self._changes} times in this run: upload it when nothing writes to it",
                it=context.source.path,
                same_size=changed.resumable,
                manifest=changed.manifest,
            ) from changed
        if self._reopen is not None:
            await context.effects.sleep(context.policy.delay(self._changes, context.effects.random))
            try:
                context.source = await self._reopen()
            except errors.SourceError as e:
                e.manifest = changed.manifest
                raise
        if not context.journal.exists:
            return
        recorded, now = context.manifest.plan.size, context.source.fingerprint.size
        if recorded not in (None, now):
            await self._abort_superseded(f"the source has {now:,} bytes, and had {recorded:,} when its upload began")
        elif self._reopen is None:  # a file object: earlier bytes can't be compared with the present ones
            raise changed
        else:
            context.warn(f"{context.source.path} changed: uploading it as it is now; parts that are the same are kept")

    async def _change_part_size(self, part_size: int) -> None:
        """Begin again in smaller parts. If the upload can't be aborted, go on with those that it has."""
        context = self._context
        before = format_part_size(context.manifest.plan.part_size)
        context.small_part_size = part_size
        try:
            await self._abort_superseded(
                f"each connection is slow, and a kill would cost half a part of each: parts of "
                f"{format_part_size(part_size)} instead of {before}"
            )
        except errors.BigUploadError as e:
            context.warn(f"each connection is slow, and the parts stay at {before}: the upload can't be aborted ({e})")

    async def _do_without_checksums(self, refusal: Fault) -> None:
        """Begin again without checksums. If the upload can't be aborted, raise what the refusal means."""
        context = self._context
        algorithm = context.manifest.header.checksum.algorithm
        try:
            await self._abort_superseded(
                f"the store refused {algorithm} checksums ({refusal}): the parts are proved by MD5 instead"
            )
        except errors.BigUploadError:
            error = refusal.public()
            error.manifest = context.journal.path
            raise error from refusal
        context.declares = False

    async def _abort_superseded(self, reason: str) -> None:
        """Abort the upload, and record that before another one begins.

        After a kill in between, the next run finds an upload that is aborted, or aborts it again.
        """
        context = self._context
        try:
            await context.retrier.request(lambda: context.store.abort(context.manifest.upload_id))
        except errors.BigUploadError as e:
            e.manifest = context.journal.path
            raise
        await context.journal.append(Aborted())
        self._start_over()
        context.emit(events.Restarted(reason=reason))


def complete_already(manifest: Manifest, *, compared: bool) -> str:
    """Return a warning that a file is uploaded again.

    Args:
        manifest: The earlier upload's, which is complete.
        compared: Whether the object was already compared with the file, and not proved to equal it.
    """
    if manifest.target.service is not None:  # which chooses another key for each upload
        completed = manifest.completed
        where = completed.url if completed is not None and completed.url else manifest.target
        return f"this file was uploaded already, as {where}: uploading it again, as another object"
    if compared:
        return (
            f"{manifest.target} was uploaded completely before, but is not there or not proved to equal the file "
            "any more: uploading it again"
        )
    return (
        f"{manifest.target} was uploaded before: uploading it again, which replaces the object "
        "(`skip_existing=True` sends nothing if the object equals the file)"
    )


def result_of(journal: Journal, counts: RunCounts, *, seconds: float, required: Verified) -> UploadResult:
    """Make the result of an upload that is complete by its manifest.

    Raises:
        ProofTooWeak: The object was proved at a lower level than `required`.
    """
    manifest = journal.manifest
    completed, target = manifest.completed, manifest.target
    assert completed is not None
    if not completed.verified.satisfies(required):
        raise errors.ProofTooWeak(
            f"{target} is complete, but proved by {completed.verified} only; {required} is required. The object stays: "
            "`read_back` compares every byte of it with the file",
            manifest=journal.path,
        )
    checksum = completed.checksum and f"{manifest.header.checksum.algorithm}:{completed.checksum}"
    return UploadResult(
        path=path_of(manifest.source.path),
        bucket=target.bucket or "",
        key=target.key,
        url=completed.url or str(target),
        size=manifest.plan.known_size,
        etag=completed.etag,
        checksum=checksum,
        verified=completed.verified,
        parts=manifest.plan.count,
        resumed_parts=counts.resumed_parts,
        bytes_sent=counts.bytes_sent,
        retries=counts.retries,
        seconds=seconds,
        manifest=journal.path,
        bytes_copied=counts.bytes_copied,
        guarded_by=_GUARDS.get(manifest.source.kind, "checksums"),
        version_id=completed.version_id,
    )


def _declared(upload: OpenUpload) -> Algorithm:
    """The checksum algorithm that an open upload declares. Raises UsageError if uploads are not made with it."""
    if upload.algorithm is None:
        return Algorithm.CRC64NVME
    known = {a.s3_name: a for a in UPLOAD_ALGORITHMS if a.is_s3_checksum}
    algorithm = known.get(upload.algorithm)
    if algorithm is None or upload.checksum_type not in (None, algorithm.type.value):
        kind = f"{upload.checksum_type or ''} {upload.algorithm}".strip()
        raise errors.UsageError(f"unsupported checksum {kind}: cannot adopt this upload. Upload the file again instead")
    return algorithm


def _choose(found: list[OpenUpload], upload_id: str | None, target: str) -> OpenUpload:
    """The upload to adopt. If there are several, the caller must choose."""
    if upload_id is not None:
        found = [upload for upload in found if upload.upload_id == upload_id]
    if not found:
        raise errors.UploadGone(f"there is no open upload to {target}: upload the file instead")
    if len(found) > 1:
        listed = "; ".join(f"{upload.upload_id} (begun {upload.initiated})" for upload in found)
        raise errors.UsageError(f"{len(found)} uploads to {target} are open, choose one with `upload_id`: {listed}")
    return found[0]


def _plan_of(size: int, rows: list[ListedPart], context: UploadContext) -> Plan:
    """The plan that the parts fit: by the size of the largest part if all parts fit it, else the automatic plan."""
    limits = context.store.limits
    if rows:
        plan = Plan(size, max(1, max(row.size for row in rows)))
        fits = all(row.number <= plan.count and row.size == plan.part(row.number).size for row in rows)
        # A last part that was sent first and alone fits a plan of its own small size, which no store completes.
        allowed = plan.count == 1 or plan.part_size >= limits.min_part_size
        if fits and allowed and plan.count <= limits.max_parts:
            return plan
    return plan_parts(size, context.settings.part_size, limits=limits)
