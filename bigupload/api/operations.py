"""The operations on one upload behind the methods of `Uploader`, which check the arguments: open the source, the store
and the manifest, and run the engine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bigupload import errors
from bigupload.api import checks
from bigupload.api.arguments import (
    AbortOptions,
    AdoptOptions,
    OrphanOptions,
    ReadBackOptions,
    ResumeOptions,
    ShareOptions,
    StrPath,
    UploadOptions,
    UploadSource,
    VerifyOptions,
)
from bigupload.api.calls import OpenCall
from bigupload.api.event_delivery import LOG, log_orphans
from bigupload.api.resources import UploaderResources
from bigupload.api.small_files import JobContext
from bigupload.api.sources import open_named, reopening, shown
from bigupload.api.state import existing_object, object_exists, require_trust
from bigupload.api.types import OpenedSource
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Aborted, Fingerprint, SourceKind, manifest_id
from bigupload.core.remote_url import is_remote, shown_url
from bigupload.engine.context import UploadSettings
from bigupload.engine.part_hashing import WholeDigests
from bigupload.engine.retrying import Retrier, RunCounts
from bigupload.engine.upload_run import Share, UploadResult, UploadRun, result_of
from bigupload.events import UploadSkipped
from bigupload.options import S3Options
from bigupload.ports import Source
from bigupload.sources.file import open_file
from bigupload.sources.opening import skipped_bytes
from bigupload.stores.targets import LOCAL_BUCKET, Store, connect, key_of_file, reconnect, service_of
from bigupload.units import printable, quoted

if TYPE_CHECKING:
    from bigupload.manifests.journal import FileJournal
    from bigupload.verification.by_checksum import Verification
    from bigupload.verification.by_download import ReadBack
    from bigupload.verification.orphans import OrphanReport

Uploaded: TypeAlias = tuple[UploadResult, Fingerprint]
"""A result, and the source's metadata when it was uploaded, or proved to be in the store."""


async def upload(
    resources: UploaderResources,
    call: OpenCall,
    given: UploadSource,
    settings: UploadSettings,
    options: UploadOptions,
    *,
    digests: Mapping[str, bool],
    in_slot: Callable[[], contextlib.AbstractAsyncContextManager[bool | None]] | None = None,
    job: JobContext | None = None,
) -> Uploaded:
    """Upload a source, or resume its upload.

    Args:
        resources: What all uploads share.
        call: The call.
        given: The source.
        settings: How to upload.
        options: The caller's options.
        digests: The digests of the whole file that are computed while its parts are hashed, if that is possible.
        in_slot: Waits until the upload has a slot, and returns whether its manifest was another upload's before, and
            is not believed. None: the caller has a slot already.
        job: The upload's job.
    """
    await resources.state.clean()
    whole: WholeDigests | None = None
    if digests and settings.algorithm.is_crc:
        from bigupload.verification.file_digests import new_hashers

        whole = WholeDigests(new_hashers(settings.algorithm, **digests))
    sent = await resources.small.send(call, given, settings, options, takes_slot=in_slot is not None, job=job)
    if sent is None:
        async with contextlib.nullcontext() if in_slot is None else in_slot() as is_anothers:
            began = None if job is None or is_anothers else job.began
            sent = await _upload_in_parts(resources, call, given, settings, options, began, whole)
    result, uploaded = sent
    if whole is not None:
        from bigupload.verification.file_digests import with_digests

        result = await with_digests(result, resources.reading, uploaded, whole=whole, **digests)
    return result, uploaded


async def _upload_in_parts(
    resources: UploaderResources,
    call: OpenCall,
    given: UploadSource,
    settings: UploadSettings,
    options: UploadOptions,
    job_began: float | None,
    whole: WholeDigests | None,
) -> Uploaded:
    """Upload with a manifest."""
    # One PUT does without.
    from bigupload.api.copying import (
        check_delta_source,
        check_not_itself,
        find_base,
        let_store_copy,
        reopening_copied,
        settings_of,
    )

    async with contextlib.AsyncExitStack() as opened:
        target = options.get("to") or options.get("service") or ""
        remote = resources.opener(
            call, opened, shown(given, options), target=target, with_head=options.get("service") is not None
        )
        open_again = partial(open_named, given, options, resources.parts, remote)
        found_source = await open_again()
        source = opened.enter_context(contextlib.closing(found_source.source))
        if found_source.warning is not None and skipped_bytes(source) and not call.has_reader:
            warnings.warn(found_source.warning, stacklevel=2)  # the log is silent unless the program has set it up
        if options.get("skip_existing", False) and source.kind is not SourceKind.FILE:
            raise errors.UsageError(f"`skip_existing` is for files, and {source.path} is not a file: leave it out")
        delta = options.get("delta", False)
        if delta:
            check_delta_source(source)
        store = await resources.connect(found_source, options)
        settings = settings_of(found_source, store, settings, chosen=options.get("checksum", "auto") != "auto")
        async with contextlib.aclosing(store):
            check_not_itself(found_source, store)
            with resources.state.journal(options.get("manifest"), source, store) as journal:
                found = await _already_there(resources, source, store, journal, settings, options, job_began)
                if found is not None:
                    call.emit_of(source.path, store.target, journal)(_skipped(found))
                    return found, source.fingerprint
                context = await resources.context(source, store, journal, settings, call, whole)
                if found_source.warning is not None:
                    context.warn(found_source.warning)
                again = reopening_copied(context, store, open_again)
                run = UploadRun(context, reopening(source, store, opened, again))
                s3, compared = options.get("s3"), options.get("skip_existing", False)
                replaces = (s3 is None or not s3.if_none_match) and not delta  # which says itself that it replaces
                resume = options.get("resume", True)
                known = context.manifest if journal.exists else None
                run.prepare(resume=resume, compared=compared, replaces=replaces)
                let_store_copy(context, found_source, store)
                if delta and not context.copies_unread:
                    context.previous_version = await find_base(context, known, resources.state, resume=resume)
                result = await run.run_until_proved(follow_changes=True)
                return result, context.source.fingerprint  # which may have been opened again


def _skipped(found: UploadResult) -> UploadSkipped:
    return UploadSkipped(url=found.url, etag=found.etag, verified=found.verified)


async def _already_there(
    resources: UploaderResources,
    source: Source,
    store: Store,
    journal: FileJournal,
    settings: UploadSettings,
    options: UploadOptions,
    job_began: float | None,
) -> UploadResult | None:
    """The result without an upload, if the object is known to be the file.

    An upload that was completed after `job_began` is missing in the job's record if the job was killed in between.
    """
    if job_began is not None and journal.exists and source.kind is SourceKind.FILE:
        known, now = journal.manifest, source.fingerprint
        made, sent = known.completed, known.source.fingerprint
        is_proved = made is not None and made.verified.satisfies(settings.require_proof)  # else it is sent again
        if is_proved and sent == now and journal.path.stat().st_mtime >= job_began:
            return dataclasses.replace(_result_of_completed(journal, settings), skipped=True)
        if is_proved and sent != now and dataclasses.replace(sent, ctime_ns=now.ctime_ns) == now:
            # As of a file that a move had set aside: it has its name again.
            from bigupload.verification.file_digests import is_uploaded

            result = _result_of_completed(journal, settings)
            if await is_uploaded(Path(source.path), result, resources.reading):
                return dataclasses.replace(result, skipped=True)
    if options.get("skip_existing", False):
        s3, retry, pool = options.get("s3"), resources.retry, resources.buckets
        return await existing_object(source, store, journal, s3, settings.require_proof, retry=retry, pool=pool)
    return None


def _result_of_completed(journal: FileJournal, settings: UploadSettings) -> UploadResult:
    counts = RunCounts(resumed_parts=journal.manifest.plan.count)
    return result_of(journal, counts, seconds=0.0, required=settings.require_proof)


async def uploaded_before(
    resources: UploaderResources, path: str, name: str, settings: UploadSettings, options: UploadOptions
) -> UploadResult | None:
    """Return the result of a file that is gone, if a manifest says that it was uploaded to this target."""
    s3, service = options.get("s3") or S3Options(), options.get("service")
    store: Store
    if service is not None:
        store = service_of(service, s3, api_key=options.get("api_key"))
    else:
        bucket, key = key_of_file(options.get("to") or f"s3://{LOCAL_BUCKET}/", path, name)
        store = await connect(bucket, key, s3, resources.buckets, creates_bucket=False)
    async with contextlib.aclosing(store):
        try:
            with resources.state.existing(manifest_id(path, store.target)) as journal:
                return _result_of_completed(journal, settings) if journal.manifest.completed is not None else None
        except (errors.ManifestError, errors.ProofError):
            return None


async def resume(
    resources: UploaderResources, call: OpenCall, manifest: StrPath, settings: UploadSettings, options: ResumeOptions
) -> UploadResult:
    """Resume the upload that a manifest describes."""
    source, api_key = options.get("source"), options.get("api_key")
    with resources.state.existing(manifest) as journal:
        known = journal.manifest
        if known.completed is not None:
            return _result_of_completed(journal, settings)
        if known.aborted:
            raise errors.UploadGone("this upload was aborted: upload the file again to start a new one")
        require_trust(journal, trust=options.get("trust", False), source=source, call=call, does="send")
        if not known.source.can_be_opened and source is None:
            raise errors.UsageError(
                f"{known.source.path} can't be opened again: upload the same bytes once more, under "
                f"the same name and to the same target (or type: bigupload abort {quoted(str(journal.path))})"
            )
        # If the file has another size, a new upload is of the same kind as the one that the manifest describes.
        settings = dataclasses.replace(settings, algorithm=known.header.checksum.algorithm)
        from bigupload.api.copying import let_store_copy, reopening_copied

        async with contextlib.AsyncExitStack() as opened:
            open_again = partial(_open_known, resources, call, journal, options, opened)
            found = await open_again()
            file = opened.enter_context(contextlib.closing(found.source))
            recorded = known.header.options
            store = await reconnect(
                known.target, recorded, options.get("s3"), api_key=api_key, source=file, pool=resources.buckets
            )
            async with contextlib.aclosing(store):
                context = await resources.context(file, store, journal, settings, call)
                if store.ca_bundle is False:  # the caller of `resume` did not say so: the manifest does
                    context.warn(f"the certificate of {known.target} is not checked, as `no_verify_ssl` was given")
                if found.warning is not None:
                    context.warn(found.warning)
                let_store_copy(context, found, store)
                again = reopening_copied(context, store, open_again)
                run = UploadRun(context, reopening(file, store, opened, again))
                return await run.run_until_proved(follow_changes=False)


async def _open_known(
    resources: UploaderResources,
    call: OpenCall,
    journal: FileJournal,
    options: ResumeOptions,
    opened: contextlib.AsyncExitStack,
) -> OpenedSource:
    """Open the source of a manifest, or what the caller names in its place."""
    known, given = journal.manifest, options.get("source")
    path = given if given is not None else known.source.path
    if not is_remote(path):
        try:
            return OpenedSource(source=await open_file(path), name=Path(path).name)
        except errors.SourceNotFound as e:
            raise errors.SourceNotFound(
                f"{e}: if it was moved, name it as `source`", manifest=journal.path, it=e.it
            ) from e
    of_service = known.target.service is not None
    s3 = S3Options() if of_service else S3Options.from_json(known.header.options, options.get("s3"))
    remote = resources.opener(call, opened, shown_url(path), target=str(known.target), with_head=of_service)
    try:
        return await remote.open(path, s3, name=None, expected=None, allow_empty=True)
    except errors.SourceError as e:
        e.manifest = journal.path
        if given is None and isinstance(e, errors.SourceUnreadable):
            message = f"{e}. A manifest has no query of a URL: if this one had any, name the whole URL as `source`"
            raise errors.SourceUnreadable(message, manifest=journal.path) from e
        raise


async def adopt(
    resources: UploaderResources, call: OpenCall, to: str, source: Path, settings: UploadSettings, options: AdoptOptions
) -> UploadResult:
    """Take over an open upload that no manifest here describes."""
    with await open_file(source) as opened:
        bucket, key = key_of_file(to, opened.path, Path(opened.path).name)
        s3 = options.get("s3") or S3Options()
        store = await connect(bucket, key, s3, resources.buckets, creates_bucket=False)
        async with contextlib.aclosing(store):
            with resources.state.journal(options.get("manifest"), opened, store) as journal:
                if journal.exists and journal.manifest.status in ("uploading", "completing"):
                    raise errors.ManifestMismatch(f"this upload has a manifest: resume {journal.path} instead")
                run = UploadRun(await resources.context(opened, store, journal, settings, call))
                run.prepare(resume=True, replaces=False)
                await run.begin_adopted(options.get("upload_id"))
                return await run.run_until_proved(follow_changes=False)


async def abort(resources: UploaderResources, call: OpenCall, manifest: StrPath, options: AbortOptions) -> None:
    """Abort the upload that a manifest describes."""
    with resources.state.existing(manifest) as journal:
        known = journal.manifest
        if known.completed is not None:
            raise errors.UsageError(f"this upload is complete: delete {known.target} if it is not wanted")
        require_trust(journal, trust=options.get("trust", False), source=None, call=call, does="abort")
        recorded = known.header.options
        store = await reconnect(
            known.target, recorded, options.get("s3"), api_key=options.get("api_key"), pool=resources.buckets
        )
        subject = f"{known.source.path} → {known.target}"
        retrier = Retrier(policy=resources.retry, emit=call.emit_of(known.source.path, known.target, journal))
        async with contextlib.aclosing(store):
            try:
                if known.status == "completing" and await object_exists(store, known, retrier):
                    raise errors.UsageError(f"{known.target} is complete: resume the upload to prove it")
                await retrier.request(lambda: store.abort(known.upload_id))
            except errors.BigUploadError as e:
                if not known.aborted:  # else there is nothing to resume
                    e.manifest = journal.path
                raise
        await journal.append(Aborted())
        LOG.info("%s: aborted, its parts are deleted", printable(subject))


def verifier(resources: UploaderResources, options: VerifyOptions) -> Callable[[StrPath, str], Awaitable[Verification]]:
    """Return a function that compares a file with the checksums that the store has of an object."""
    from bigupload.verification.by_checksum import verify  # few programs need it

    return partial(
        verify,
        s3=options.get("s3"),
        part_size=checks.checked_size(options.get("part_size"), "part_size", least=1),
        require_proof=checks.checked_proof(options.get("require_proof", Verified.SIZE)),
        retry=resources.retry,
        pool=resources.buckets,
        reading=resources.reading,
        sha256=options.get("sha256", False),
    )


async def verify(resources: UploaderResources, file: Path, url: str, options: VerifyOptions) -> Verification:
    """Compare a file with the checksums that the store has of an object."""
    return await verifier(resources, options)(file, url)


async def read_back(
    resources: UploaderResources, call: OpenCall, file: Path, url: str, options: ReadBackOptions
) -> ReadBack:
    """Compare a file with all bytes of an object."""
    from bigupload.verification import by_download  # few programs need it

    s3, on_event = options.get("s3"), call.emit_as_own
    return await by_download.read_back(
        file, url, s3=s3, retry=resources.retry, pool=resources.buckets, on_event=on_event
    )


async def share(resources: UploaderResources, url: str, options: ShareOptions) -> Share:
    """Make a link to an object."""
    lasts, s3 = options.get("lasts", "7d"), options.get("s3") or S3Options()
    from bigupload.api.steps import link  # few programs need it

    return await link.share(url, lasts, s3, _quiet(resources), resources.buckets)


def _quiet(resources: UploaderResources) -> Retrier:
    """Repeats requests that belong to no upload, so that they have no events."""
    return Retrier(policy=resources.retry, emit=lambda _: None)


async def abort_orphans(resources: UploaderResources, url: str, options: OrphanOptions) -> OrphanReport:
    """Abort the orphaned uploads below a URL."""
    from bigupload.verification.orphans import OrphanSearch, Owners  # few programs need them

    others = [checks.checked_path(path, "owners") for path in options.get("owners", ())]
    dry_run = options.get("dry_run", False)
    search = OrphanSearch(
        Owners(resources.state.directory, others),
        older_than=checks.checked_time(options.get("older_than", "7d"), "older_than"),
        dry_run=dry_run,
        on_orphan=log_orphans(options.get("on_orphan"), dry_run=dry_run),
        on_failure=options.get("on_failure") or (lambda _, __: None),
        retrier=_quiet(resources),
        pool=resources.buckets,
    )
    return await search.run(url, options.get("s3") or S3Options())
