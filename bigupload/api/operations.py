"""What the methods of `Uploader` do to one upload, once their arguments are checked: open the source, the store and the
manifest, and run the engine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from pathlib import Path

from bigupload import errors
from bigupload.api import arguments
from bigupload.api.arguments import (
    AbortOptions,
    AdoptOptions,
    OrphanOptions,
    ResumeOptions,
    StrPath,
    UploadOptions,
    UploadSource,
)
from bigupload.api.calls import OpenCall
from bigupload.api.event_log import LOG, log_orphans
from bigupload.api.resources import UploaderResources
from bigupload.api.sources import open_named, reopening
from bigupload.api.state import existing_object, object_exists, require_trust
from bigupload.core.manifest import Aborted, SourceKind
from bigupload.engine.context import UploadSettings
from bigupload.engine.retrying import Retrier, RunCounts
from bigupload.engine.upload_run import UploadResult, UploadRun, result_of
from bigupload.events import UploadSkipped
from bigupload.manifests.clean_up import DAY
from bigupload.options import S3Options
from bigupload.sources.file import open_file
from bigupload.sources.opening import skipped_bytes
from bigupload.stores.targets import connect, parse_s3_url, reconnect
from bigupload.units import printable
from bigupload.verification.orphans import OrphanReport, OrphanSearch, Owners

_ORPHAN_AGE = 7 * DAY


async def upload(
    resources: UploaderResources, call: OpenCall, given: UploadSource, settings: UploadSettings, options: UploadOptions
) -> UploadResult:
    """Upload a source, or resume its upload."""
    await resources.state.clean()
    with contextlib.ExitStack() as opened:
        source = opened.enter_context(contextlib.closing(await open_named(given, options, resources.parts)))
        if options.get("skip_existing", False) and source.kind is not SourceKind.FILE:
            raise errors.UsageError(f"`skip_existing` is for files, and {source.path} is none: leave it out")
        store = await resources.connect(source, options)
        async with contextlib.aclosing(store):
            with resources.state.journal(options.get("manifest"), source, store) as journal:
                if options.get("skip_existing", False):
                    found = await existing_object(source, store, journal, options.get("s3"), settings.require_proof)
                    if found is not None:
                        emit = call.emit_of(source.path, store.target, journal)
                        emit(UploadSkipped(url=found.url, etag=found.etag, verified=found.verified))
                        return found
                context = await resources.context(source, store, journal, settings, call)
                if skipped := skipped_bytes(source):
                    context.warn(f"{source.path} is uploaded from its position on: without its first {skipped:,} bytes")
                run = UploadRun(context, reopening(source, store, opened))
                s3, compared = options.get("s3"), options.get("skip_existing", False)
                replaces = s3 is None or not s3.if_none_match
                run.prepare(resume=options.get("resume", True), compared=compared, replaces=replaces)
                return await run.run_until_proved(follow_changes=True)


async def resume(
    resources: UploaderResources, call: OpenCall, manifest: StrPath, settings: UploadSettings, options: ResumeOptions
) -> UploadResult:
    """Resume the upload that a manifest describes."""
    source, api_key = options.get("source"), options.get("api_key")
    with resources.state.existing(manifest) as journal:
        known = journal.manifest
        if known.completed is not None:
            counts = RunCounts(resumed_parts=known.plan.count)
            return result_of(journal, counts, seconds=0.0, required=settings.require_proof)
        if known.aborted:
            raise errors.UploadGone("this upload was aborted: upload the file again to start a new one")
        require_trust(journal, trust=options.get("trust", False), source=source)
        if known.source.kind is not None and source is None:
            raise errors.UsageError(
                f"{known.source.path} was no file that could be opened again: upload the same bytes once more, under "
                f"the same name and to the same target (or type: bigupload abort {shlex.quote(str(journal.path))})"
            )
        try:
            file = await open_file(source if source is not None else known.source.path)
        except errors.SourceNotFound as e:
            raise errors.SourceNotFound(f"{e}: if it was moved, name it as `source`", manifest=journal.path) from e
        # If the file has another size, a new upload is of the same kind as the one that the manifest describes.
        settings = dataclasses.replace(settings, algorithm=known.header.checksum.algorithm)
        with contextlib.ExitStack() as opened:
            opened.enter_context(file)
            recorded = known.header.options
            store = await reconnect(
                known.target, recorded, options.get("s3"), api_key=api_key, source=file, pool=resources.buckets
            )
            async with contextlib.aclosing(store):
                context = await resources.context(file, store, journal, settings, call)
                if store.ca_bundle is False:  # the caller of `resume` did not say so: the manifest does
                    context.warn(f"the certificate of {known.target} is not checked, as `no_verify_ssl` was given")
                run = UploadRun(context, reopening(file, store, opened))
                return await run.run_until_proved(follow_changes=False)


async def adopt(
    resources: UploaderResources, call: OpenCall, to: str, source: Path, settings: UploadSettings, options: AdoptOptions
) -> UploadResult:
    """Take over an open upload that no manifest here describes."""
    with await open_file(source) as opened:
        bucket, key = parse_s3_url(to, Path(opened.path).name)
        store = await connect(bucket, key, options.get("s3") or S3Options(), resources.buckets)
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
        require_trust(journal, trust=options.get("trust", False), source=None)
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


async def abort_orphans(resources: UploaderResources, url: str, options: OrphanOptions) -> OrphanReport:
    """Abort the orphaned uploads below a URL."""
    others = [arguments.checked_path(path, "owners") for path in options.get("owners", ())]
    dry_run = options.get("dry_run", False)
    search = OrphanSearch(
        Owners(resources.state.directory, others),
        older_than=arguments.checked_age(options.get("older_than", _ORPHAN_AGE)),
        dry_run=dry_run,
        on_orphan=log_orphans(options.get("on_orphan"), dry_run=dry_run),
        on_failure=options.get("on_failure") or (lambda _, __: None),
        retry=resources.retry,
    )
    return await search.run(url, options.get("s3") or S3Options())
