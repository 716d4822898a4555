"""The library, broken on purpose: what the model must find, or it is no model. `test_stories.py` shows that it does,
and `python -m tests.model --mutant NAME` plays one by chance.

Not among them: a library that trusts the manifest without asking the store. In the model, a store never loses a part of
an upload that it keeps; `tests/integration/test_resume.py` looks for that.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

from bigupload import errors, options
from bigupload.core.integrity import PartProof
from bigupload.core.manifest import Aborted, Manifest, PartRecord, SourceRecord
from bigupload.core.retry_policy import Attempts
from bigupload.core.upload_state import TRANSITIONS, Stage, StageResult
from bigupload.engine import upload_run
from bigupload.engine.multipart_upload import MultipartUpload
from bigupload.engine.part_uploader import PartUploader
from bigupload.engine.reconcile import Reconciler
from bigupload.manifests.journal import FileJournal
from bigupload.manifests.lock import ManifestLock
from bigupload.sources.file import FileSource
from bigupload.stores.s3.multipart import S3Store
from bigupload.verification import orphans


def replace(owner: Any, name: str, wrong: Callable[..., Any]) -> None:
    """Put `wrong` in the place of a function. With other parameters it would fail, which any test notices."""
    assert inspect.signature(wrong).parameters.keys() == inspect.signature(getattr(owner, name)).parameters.keys(), name
    setattr(owner, name, wrong)


def recorded_before_it_is_sent() -> None:
    real = PartUploader._until_proved

    async def until_proved(self: PartUploader, unproved: Any) -> Any:
        part = unproved.part
        record = PartRecord(
            number=part.number,
            size=part.size,
            etag='"early"',
            checksum=unproved.hashed.checksum,
            proof=PartProof.CHECKSUM,
        )
        await self._context.journal.append(record)
        return await real(self, unproved)

    replace(PartUploader, "_until_proved", until_proved)


def no_fingerprint_while_it_uploads() -> None:
    replace(FileSource, "check", lambda self: None)


def no_fingerprint_on_resume() -> None:
    async def check_source(self: Reconciler) -> None:
        context = self._context
        now = context.source_identity
        if now != context.manifest.source:
            await context.journal.append(SourceRecord(now))

    replace(Reconciler, "_check_source", check_source)


def secret_in_the_manifest() -> None:
    options._SECRETS = ("session_token",)


def url_in_a_message() -> None:
    real = S3Store.sign

    async def sign(self: S3Store, upload_id: str, parts: Any) -> Any:
        signed = await real(self, upload_id, parts)
        print(signed[0].url)
        return signed

    replace(S3Store, "sign", sign)


def forgets_what_the_store_has() -> None:
    replace(Reconciler, "_unrecorded", lambda self, rows: {})


def no_lock() -> None:
    replace(ManifestLock, "_acquire", lambda self: self.path.touch())


def another_s_object_is_ours() -> None:
    replace(Manifest, "made_object", lambda self, found: True)


def starts_anew_where_it_may_be_complete() -> None:
    async def complete(self: MultipartUpload) -> StageResult:
        result = await self._completion.complete()
        if result is StageResult.PROVED:
            return result
        self._restart_reason = "the store does not know the upload"
        return StageResult.UPLOAD_UNKNOWN

    TRANSITIONS[Stage.COMPLETING][StageResult.UPLOAD_UNKNOWN] = Stage.NEW
    replace(MultipartUpload, "_complete", complete)


def aborts_what_it_sets_aside() -> None:
    real = upload_run.UploadRun.prepare

    def prepare(self: upload_run.UploadRun, *, resume: bool, compared: bool = False, replaces: bool = True) -> None:
        context = self._context
        if not resume and context.journal.exists:
            from tests.tools.buckets import client_of  # slow to import, and no other mutant needs it

            bucket = context.store._bucket
            with contextlib.suppress(Exception), contextlib.closing(client_of(bucket)) as client:
                client.abort_multipart_upload(Bucket=bucket.name, Key="key", UploadId=context.manifest.upload_id)
        real(self, resume=resume, compared=compared, replaces=replaces)

    replace(upload_run.UploadRun, "prepare", prepare)


def gc_takes_what_is_completing() -> None:
    real = orphans.owned_by
    replace(orphans, "owned_by", lambda read: None if read.manifest.status == "completing" else real(read))


def gc_spares_what_was_aborted() -> None:
    replace(orphans, "owned_by", lambda read: orphans.OwnedUpload(read.manifest.upload_id, "key"))


def full_disk_is_ignored() -> None:
    real = FileJournal._write

    def write(self: FileJournal, data: bytes) -> None:
        try:
            real(self, data)
        except OSError:
            self._good_bytes += len(data)

    replace(FileJournal, "_write", write)


def half_a_first_line() -> None:
    """Written in place, and not beside."""
    real = FileJournal.begin

    def begin(self: FileJournal, header: Any) -> None:
        self.path.write_bytes(b'{"type":"man')
        real(self, header)

    replace(FileJournal, "begin", begin)


def orphan_of_a_full_disk() -> None:
    async def abort_quietly(self: MultipartUpload, upload_id: str) -> None:
        pass

    replace(MultipartUpload, "_abort_quietly", abort_quietly)


def refused_urls_are_final() -> None:
    real = Attempts.after

    def after(self: Attempts, fault: Any, **seconds: Any) -> Any:
        self._resigned = True
        return real(self, fault, **seconds)

    replace(Attempts, "after", after)


def expired_upload_is_the_end() -> None:
    real = MultipartUpload._reconcile

    async def reconcile(self: MultipartUpload) -> Any:
        if not await self._reconciler.is_open():
            raise errors.UploadGone("gone")
        return await real(self)

    replace(MultipartUpload, "_reconcile", reconcile)


def another_size_starts_anew() -> None:
    real = upload_run.UploadRun.prepare

    def prepare(self: upload_run.UploadRun, *, resume: bool, compared: bool = False, replaces: bool = True) -> None:
        context = self._context
        fits = not context.journal.exists or context.manifest.plan.size == context.source.fingerprint.size
        real(self, resume=resume and fits, compared=compared, replaces=replaces)

    replace(upload_run.UploadRun, "prepare", prepare)


def aborted_is_not_recorded() -> None:
    real = FileJournal.append

    async def append(self: FileJournal, *records: Any) -> Manifest:
        return await real(self, *(record for record in records if not isinstance(record, Aborted)))

    replace(FileJournal, "append", append)


MUTANTS: dict[str, Callable[[], None]] = {
    mutant.__name__: mutant
    for mutant in (
        recorded_before_it_is_sent,
        no_fingerprint_while_it_uploads,
        no_fingerprint_on_resume,
        secret_in_the_manifest,
        url_in_a_message,
        forgets_what_the_store_has,
        no_lock,
        another_s_object_is_ours,
        starts_anew_where_it_may_be_complete,
        aborts_what_it_sets_aside,
        gc_takes_what_is_completing,
        gc_spares_what_was_aborted,
        full_disk_is_ignored,
        half_a_first_line,
        orphan_of_a_full_disk,
        refused_urls_are_final,
        expired_upload_is_the_end,
        another_size_starts_anew,
        aborted_is_not_recorded,
    )
}
