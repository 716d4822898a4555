"""One upload from the outside: what an earlier manifest means for it, and what it ends in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bigupload import errors
from bigupload.core.checksums import UPLOAD_ALGORITHMS, Algorithm
from bigupload.core.integrity import Verified
from bigupload.core.manifest import ChecksumRecord, belongs_to, manifest_id
from bigupload.core.part_plan import Plan, plan_parts
from bigupload.engine.context import UploadContext, new_header
from bigupload.engine.multipart_upload import MultipartUpload
from bigupload.engine.retrying import RunCounts
from bigupload.ports import Journal, ListedPart, OpenUpload


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadResult:
    """A file that is in the store, and how that was proved. Sizes are bytes."""

    path: Path
    bucket: str
    """Empty where a media service has it."""
    key: str
    url: str
    """Without a signature: whether it can be fetched is the bucket's policy."""
    size: int
    etag: str
    checksum: str | None
    """The object's, "<algorithm>:<as S3 writes it>"; None where the store holds none."""
    verified: Verified
    parts: int
    resumed_parts: int
    """Of them, how many were there already when this run began."""
    bytes_sent: int
    """In this run, those of failed attempts included."""
    retries: int
    seconds: float
    manifest: Path


class UploadRun:
    """One context, under its manifest's lock."""

    def __init__(self, context: UploadContext) -> None:
        self._context = context
        self._id = (
            context.manifest.header.id
            if context.journal.exists
            else manifest_id(context.source.path, context.store.target)
        )
        self._began = context.effects.clock()
        self._asked = context.store.options()
        if context.journal.warning:
            context.warn(context.journal.warning)

    def prepare(self, *, resume: bool) -> None:
        """Decide about an earlier manifest at this place: go on with it, or set it aside. Raises ManifestMismatch."""
        context = self._context
        if not context.journal.exists:
            return
        manifest = context.manifest
        if not belongs_to(manifest.header, context.source.path, context.store.target):
            raise errors.ManifestMismatch(
                f"{context.journal.path} is the manifest of {manifest.source.path} to {manifest.target}: "
                "name another --manifest, or resume that upload"
            )
        if manifest.status in ("completed", "aborted"):
            context.journal.set_aside()
        elif not resume:
            self._set_aside("starting anew as asked, although an upload was under way (its parts stay: see abort)")
        else:
            self._keep_to_plan()

    def _set_aside(self, reason: str) -> None:
        aside = self._context.journal.set_aside()
        self._context.warn(f"{reason}: its manifest is now {aside}")

    def _keep_to_plan(self) -> None:
        """An upload goes on as it began."""
        manifest, settings = self._context.manifest, self._context.settings
        if settings.part_size not in (None, manifest.plan.part_size):
            self._context.warn(f"going on with parts of {manifest.plan.part_size:,} bytes, as this upload began")
        algorithm = manifest.header.checksum.algorithm
        if settings.algorithm not in (Algorithm.CRC64NVME, algorithm):
            self._context.warn(f"going on with {algorithm} checksums, as this upload began")
        if others := self._context.store.restore_options(manifest.header.options):
            self._context.warn(
                f"this upload began with another {', '.join(others)}, which holds: --no-resume starts anew"
            )

    async def begin_adopted(self, upload_id: str | None) -> None:
        """Make a manifest for an open upload of this key. Raises UploadGone, UsageError."""
        context = self._context
        found = await context.retrier.request(context.store.find_open)
        chosen = _choose(found, upload_id, str(context.store.target))
        algorithm = _declared(chosen)
        rows = await context.retrier.request(lambda: context.store.list_parts(chosen.upload_id, algorithm))
        plan = _plan_of(context.source.fingerprint.size, rows, context)
        # Not every store tells what was declared; a checksum that is listed is the sign that one was.
        listed = any(row.checksum is not None for row in rows)
        declared = algorithm.type if chosen.algorithm or listed or not rows else None
        checksum = ChecksumRecord(algorithm, declared)
        context.journal.begin(new_header(context, self._id, plan, checksum, chosen.upload_id, None))

    async def run_until_proved(self, *, follow_changes: bool) -> UploadResult:
        """Run the engine until the object is proved.

        With `follow_changes`, an object that an earlier run turns out to have completed, of a file that has changed
        since, is followed by an upload of the file as it is now.
        """
        context = self._context
        while True:
            await MultipartUpload(context, manifest_id=self._id).run()
            if context.manifest.source.fingerprint == context.source.fingerprint:
                break
            if not follow_changes:
                context.warn("the object is the file as it was then: the file has changed since")
                break
            self._set_aside("an earlier upload completed, and the file has changed since")
            context.store.restore_options(self._asked)
            context.counts.resumed_parts = 0  # they are the other upload's
        seconds = context.effects.clock() - self._began
        return result_of(context.journal, context.counts, seconds=seconds, required=context.settings.require_proof)


def result_of(journal: Journal, counts: RunCounts, *, seconds: float, required: Verified) -> UploadResult:
    """The result of an upload that its manifest calls completed. Raises ProofTooWeak."""
    manifest = journal.manifest
    completed, target = manifest.completed, manifest.target
    assert completed is not None
    if not completed.verified.satisfies(required):
        raise errors.ProofTooWeak(
            f"{target} is there, but proved by {completed.verified} only, and {required} was required",
            manifest=journal.path,
        )
    checksum = completed.checksum and f"{manifest.header.checksum.algorithm}:{completed.checksum}"
    return UploadResult(
        path=Path(manifest.source.path),
        bucket=target.bucket or "",
        key=target.key,
        url=completed.url or str(target),
        size=manifest.plan.size,
        etag=completed.etag,
        checksum=checksum,
        verified=completed.verified,
        parts=manifest.plan.count,
        resumed_parts=counts.resumed_parts,
        bytes_sent=counts.bytes_sent,
        retries=counts.retries,
        seconds=seconds,
        manifest=journal.path,
    )


def _declared(upload: OpenUpload) -> Algorithm:
    """The algorithm that an open upload's parts need. Raises UsageError for one that is not known here."""
    if upload.algorithm is None:
        return Algorithm.CRC64NVME
    known = {a.s3_name: a for a in UPLOAD_ALGORITHMS if a.is_s3_checksum}
    algorithm = known.get(upload.algorithm)
    if algorithm is None or upload.checksum_type not in (None, algorithm.type.value):
        kind = f"{upload.checksum_type or ''} {upload.algorithm}".strip()
        raise errors.UsageError(f"the open upload wants {kind} checksums, which can't be gone on with: upload anew")
    return algorithm


def _choose(found: list[OpenUpload], upload_id: str | None, target: str) -> OpenUpload:
    """The upload to adopt: never guessed."""
    if upload_id is not None:
        found = [upload for upload in found if upload.upload_id == upload_id]
    if not found:
        raise errors.UploadGone(f"there is no open upload to {target}: upload the file instead")
    if len(found) > 1:
        listed = "; ".join(f"{upload.upload_id} (begun {upload.initiated})" for upload in found)
        raise errors.UsageError(f"{len(found)} uploads to {target} are open, choose one with --upload-id: {listed}")
    return found[0]


def _plan_of(size: int, rows: list[ListedPart], context: UploadContext) -> Plan:
    """The plan that the parts were cut by: the size of the largest, if all of them fit it; else the automatic one."""
    limits = context.store.limits
    if rows:
        plan = Plan(size, max(1, max(row.size for row in rows)))
        fits = all(row.number <= plan.count and row.size == plan.part(row.number).size for row in rows)
        # Where the short last part came first and alone, it fits a plan of its own size that no store completes.
        allowed = plan.count == 1 or plan.part_size >= limits.min_part_size
        if fits and allowed and plan.count <= limits.max_parts:
            return plan
    return plan_parts(size, context.settings.part_size, limits=limits)
