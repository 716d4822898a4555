"""`Uploader`: many uploads that share a connection pool and a concurrency budget. Wires the adapters to the engine.

An upload may be cancelled at any time: its manifest stays resumable, and a call that is in a thread of botocore is
awaited.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

from bigupload import errors
from bigupload.api import arguments
from bigupload.api.arguments import (
    AbortOptions,
    AdoptOptions,
    OnEvent,
    OrphanOptions,
    ReadBackOptions,
    ResumeOptions,
    StrPath,
    UploaderOptions,
    UploadOptions,
    VerifyOptions,
)
from bigupload.api.event_log import LOG, log_events, log_failure
from bigupload.api.state import UploaderState, existing_object, object_exists, require_trust
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Aborted
from bigupload.core.retry_policy import RetryPolicy
from bigupload.engine.context import SharedResources, UploadContext, UploadSettings
from bigupload.engine.retrying import Retrier, RunCounts
from bigupload.engine.upload_run import UploadResult, UploadRun, result_of
from bigupload.events import UploadSkipped
from bigupload.http.connections import CaBundle
from bigupload.http.put_transport import HttpTransport, check_congestion_control
from bigupload.manifests.clean_up import DAY
from bigupload.manifests.journal import FileJournal
from bigupload.manifests.listing import KnownUpload
from bigupload.options import S3Options
from bigupload.sources.file import FileSource
from bigupload.stores.s3.bucket_pool import BucketPool
from bigupload.stores.targets import (
    LOCAL_BUCKET,
    Store,
    connect,
    connect_service,
    guess_content_type,
    parse_s3_url,
    reconnect,
)
from bigupload.support.rate_limiter import RateLimiter
from bigupload.units import printable
from bigupload.verification.by_checksum import Verification, verify
from bigupload.verification.by_download import ReadBack, read_back
from bigupload.verification.orphans import Orphan, OrphanReport, OrphanSearch, Owners

_ORPHAN_AGE = 7 * DAY


class Uploader:
    """Uploads that share a connection pool, a concurrency budget and a rate limit. An async context manager.

    ::

        async with Uploader(limit_rate="20MB/s") as uploader:
            result = await uploader.upload("movie.mov", to="s3://bucket/raw/")

    All methods may run concurrently in one event loop. After the context has ended, they raise UsageError.
    """

    def __init__(self, **options: Unpack[UploaderOptions]) -> None:
        """Check the options; nothing is connected yet.

        Args:
            **options: See `UploaderOptions`.

        Raises:
            UsageError: A value is out of range, or the kernel does not offer the congestion control.
        """
        arguments.check_names("Uploader", options, UploaderOptions)
        congestion_control = options.get("congestion_control", "auto")
        check_congestion_control(congestion_control)
        rate = arguments.checked_rate(options.get("limit_rate"))
        directory = options.get("state_dir")
        concurrency = arguments.checked_concurrency(options.get("concurrency"))
        self._congestion_control = congestion_control
        self._retry = options.get("retry") or RetryPolicy()
        self._state = UploaderState(None if directory is None else arguments.checked_path(directory, "state_dir"))
        self._shared = SharedResources(concurrency, hedge=options.get("hedge", True))
        self._limiter = RateLimiter(rate) if rate is not None else None
        self._transports: dict[CaBundle, HttpTransport] = {}
        self._exits = contextlib.AsyncExitStack()
        self._buckets = BucketPool()
        self._closed = False

    async def __aenter__(self) -> Uploader:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True
        try:
            await self._exits.aclose()
        finally:  # a cancelled scope of anyio cancels each await that waits: these two do not
            self._transports.clear()
            await self._buckets.aclose()
            self._state.close()

    async def upload(self, path: StrPath, **options: Unpack[UploadOptions]) -> UploadResult:
        """Upload a file, or resume its upload where it stopped, until the object is proved to be the file.

        Args:
            path: The file.
            **options: See `UploadOptions`. One target is needed: `to`, `service`, or `s3=S3Options(local=True)`.

        Returns:
            Where the object is and how it was proved.

        Raises:
            UsageError: The options contradict one another.
            BigUploadError: The upload failed; `error.manifest` is what `resume` takes, if it can be resumed.
        """
        self._check("upload", options, UploadOptions)
        arguments.check_target(options.get("to"), options.get("service"), options.get("s3"))
        settings = arguments.upload_settings(
            checksum=options.get("checksum", "auto"),
            part_size=options.get("part_size"),
            require_proof=options.get("require_proof", Verified.SIZE),
            verify_source=options.get("verify_source", False),
        )
        if options.get("skip_existing", False) and options.get("service") is not None:
            raise errors.UsageError("a media service makes a new object for each upload: there is none to skip for")
        await self._state.clean()
        subject = f"{path} → {options.get('to') or options.get('service') or 'the local store'}"
        with log_failure(subject):
            return await self._upload(arguments.checked_path(path, "path"), settings, options)

    async def _upload(self, path: Path, settings: UploadSettings, options: UploadOptions) -> UploadResult:
        with FileSource(path) as source:
            store = await self._connect(source, options)
            async with contextlib.aclosing(store):
                with self._state.journal(options.get("manifest"), source, store) as journal:
                    if options.get("skip_existing", False):
                        found = await existing_object(source, store, journal, options.get("s3"), settings.require_proof)
                        if found is not None:
                            emit = log_events(f"{source.path} → {store.target}", options.get("on_event"))
                            emit(UploadSkipped(url=found.url, etag=found.etag, verified=found.verified))
                            return found
                    run = UploadRun(await self._context(source, store, journal, settings, options.get("on_event")))
                    s3, compared = options.get("s3"), options.get("skip_existing", False)
                    replaces = s3 is None or not s3.if_none_match
                    run.prepare(resume=options.get("resume", True), compared=compared, replaces=replaces)
                    return await run.run_until_proved(follow_changes=True)

    async def resume(self, manifest: StrPath, **options: Unpack[ResumeOptions]) -> UploadResult:
        """Resume the upload that a manifest describes. If it is complete, return its result again.

        Args:
            manifest: The manifest's path; or its id, or the beginning of its id, as `list_uploads` shows it.
            **options: See `ResumeOptions`. The store is the manifest's.

        Raises:
            ManifestNotFound: There is no such manifest.
            UsageError: This user did not begin the manifest on this machine, and `trust` is not set. A manifest says
                which file is sent where with whose credentials.
            BigUploadError: The upload failed; `error.manifest` is what `resume` takes, if it can be resumed.
        """
        self._check("resume", options, ResumeOptions)
        settings = arguments.upload_settings(
            require_proof=options.get("require_proof", Verified.SIZE),
            verify_source=options.get("verify_source", False),
        )
        with log_failure(str(manifest)):
            return await self._resume(manifest, settings, options)

    async def _resume(self, manifest: StrPath, settings: UploadSettings, options: ResumeOptions) -> UploadResult:
        source, api_key = options.get("source"), options.get("api_key")
        with self._state.existing(manifest) as journal:
            known = journal.manifest
            if known.completed is not None:
                counts = RunCounts(resumed_parts=known.plan.count)
                return result_of(journal, counts, seconds=0.0, required=settings.require_proof)
            if known.aborted:
                raise errors.UploadGone("this upload was aborted: upload the file again to start a new one")
            require_trust(journal, trust=options.get("trust", False), source=source)
            try:
                opened = FileSource(source if source is not None else known.source.path)
            except errors.SourceNotFound as e:
                raise errors.SourceNotFound(f"{e}: name it with --source if it was moved", manifest=journal.path) from e
            with opened:
                recorded = known.header.options
                store = await reconnect(
                    known.target, recorded, options.get("s3"), api_key=api_key, source=opened, pool=self._buckets
                )
                async with contextlib.aclosing(store):
                    context = await self._context(opened, store, journal, settings, options.get("on_event"))
                    if store.ca_bundle is False:  # the caller of `resume` did not say so: the manifest does
                        context.warn(f"the certificate of {known.target} is not checked, as no_verify_ssl was given")
                    return await UploadRun(context).run_until_proved(follow_changes=False)

    async def adopt(self, to: str, *, source: StrPath, **options: Unpack[AdoptOptions]) -> UploadResult:
        """Take over an open upload that no manifest here describes, by what ListParts and the file say.

        A part is kept only if the file, hashed again, has the same bytes. Nothing is adopted unasked, because another
        program may still be uploading.

        Args:
            to: "s3://BUCKET/KEY" of the open upload.
            source: The file.
            **options: See `AdoptOptions`.

        Raises:
            UploadGone: No upload to this key is open.
            UsageError: Several are open, and `upload_id` does not say which one.
            ManifestMismatch: A manifest here describes the upload: resume that.
        """
        self._check("adopt", options, AdoptOptions)
        settings = arguments.upload_settings(
            require_proof=options.get("require_proof", Verified.SIZE),
            verify_source=options.get("verify_source", False),
        )
        with log_failure(f"{source} → {to}"):
            return await self._adopt(to, arguments.checked_path(source, "source"), settings, options)

    async def _adopt(self, to: str, source: Path, settings: UploadSettings, options: AdoptOptions) -> UploadResult:
        with FileSource(source) as opened:
            bucket, key = parse_s3_url(to, Path(opened.path).name)
            store = await connect(bucket, key, options.get("s3") or S3Options(), self._buckets)
            async with contextlib.aclosing(store):
                with self._state.journal(options.get("manifest"), opened, store) as journal:
                    if journal.exists and journal.manifest.status in ("uploading", "completing"):
                        raise errors.ManifestMismatch(f"this upload has a manifest: resume {journal.path} instead")
                    run = UploadRun(await self._context(opened, store, journal, settings, options.get("on_event")))
                    run.prepare(resume=True, replaces=False)
                    await run.begin_adopted(options.get("upload_id"))
                    return await run.run_until_proved(follow_changes=False)

    async def abort(self, manifest: StrPath, **options: Unpack[AbortOptions]) -> None:
        """Abort an upload: delete its parts from the store, and record that in its manifest.

        Args:
            manifest: The manifest's path; or its id, or the beginning of its id, as `list_uploads` shows it.
            **options: See `AbortOptions`. The store is the manifest's.

        Raises:
            ManifestNotFound: There is no such manifest.
            UsageError: The upload is complete, even if no record says so yet. Or this user did not begin the manifest
                on this machine, and `trust` is not set.
            StoreError: The store refused, or can't be reached.
        """
        self._check("abort", options, AbortOptions)
        with log_failure(str(manifest)):
            await self._abort(manifest, options)

    async def _abort(self, manifest: StrPath, options: AbortOptions) -> None:
        with self._state.existing(manifest) as journal:
            known = journal.manifest
            if known.completed is not None:
                raise errors.UsageError(f"this upload is complete: delete {known.target} if it is not wanted")
            require_trust(journal, trust=options.get("trust", False), source=None)
            recorded = known.header.options
            store = await reconnect(
                known.target, recorded, options.get("s3"), api_key=options.get("api_key"), pool=self._buckets
            )
            subject = f"{known.source.path} → {known.target}"
            retrier = Retrier(policy=self._retry, emit=log_events(subject, options.get("on_event")))
            async with contextlib.aclosing(store):
                try:
                    if known.completing is not None and await object_exists(store, known, retrier):
                        raise errors.UsageError(f"{known.target} is complete: resume the upload to prove it")
                    await retrier.request(lambda: store.abort(known.upload_id))
                except errors.BigUploadError as e:
                    e.manifest = journal.path
                    raise
            await journal.append(Aborted())
            LOG.info("%s: aborted, its parts are deleted", printable(subject))

    async def verify(self, path: StrPath, url: str, **options: Unpack[VerifyOptions]) -> Verification:
        """Prove that an object is a file, by the checksums that the store holds, whichever program uploaded it.

        Args:
            path: The file.
            url: "s3://BUCKET/KEY" of the object.
            **options: See `VerifyOptions`.

        Returns:
            How it was proved. If the store holds no usable checksum, `verified` is only `size`.

        Raises:
            ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
            ObjectMismatch: The object is not the file.
            ProofTooWeak: It is proved by less than `require_proof`.
        """
        self._check("verify", options, VerifyOptions)
        return await verify(
            arguments.checked_path(path, "path"),
            url,
            s3=options.get("s3"),
            part_size=arguments.checked_part_size(options.get("part_size")),
            require_proof=arguments.checked_proof(options.get("require_proof", Verified.SIZE)),
            retry=self._retry,
        )

    async def read_back(self, path: StrPath, url: str, **options: Unpack[ReadBackOptions]) -> ReadBack:
        """Download an object and compare every byte with a file. A second call resumes where the first stopped.

        Args:
            path: The file.
            url: "s3://BUCKET/KEY" of the object.
            **options: See `ReadBackOptions`.

        Raises:
            ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
            ObjectMismatch: The object is not the file.
            TargetReplaced: Another object took its place meanwhile.
        """
        self._check("read_back", options, ReadBackOptions)
        file, on_event = arguments.checked_path(path, "path"), options.get("on_event")
        return await read_back(file, url, s3=options.get("s3"), retry=self._retry, on_event=on_event)

    async def list_uploads(self) -> list[KnownUpload]:
        """Return the uploads whose manifests are in the state directory, the least recently changed first.

        Raises:
            ManifestError: The directory can't be listed.
        """
        return await self._state.list_uploads()

    async def abort_orphans(self, url: str, **options: Unpack[OrphanOptions]) -> OrphanReport:
        """Abort open multipart uploads that no manifest here owns and of which no part arrived for a while.

        Manifests of other machines and users can't be seen: `older_than` is what protects their uploads.

        Args:
            url: "s3://BUCKET/PREFIX"; the prefix may be empty.
            **options: See `OrphanOptions`.

        Raises:
            ManifestError: A manifest can't be read. It may own any upload, so that nothing was aborted.
            StoreError: The store refused to list, or can't be reached.
        """
        self._check("abort_orphans", options, OrphanOptions)
        others = [arguments.checked_path(path, "owners") for path in options.get("owners", ())]
        search = OrphanSearch(
            Owners(self._state.directory, others),
            older_than=arguments.checked_age(options.get("older_than", _ORPHAN_AGE)),
            dry_run=options.get("dry_run", False),
            on_orphan=_logging_orphans(options.get("on_orphan"), dry_run=options.get("dry_run", False)),
            on_failure=options.get("on_failure") or (lambda _, __: None),
            retry=self._retry,
        )
        return await search.run(url, options.get("s3") or S3Options())

    def _check(self, function: str, options: Any, declared: type) -> None:
        """Raises TypeError for names that a method does not take, and UsageError after the context has ended."""
        arguments.check_names(function, options, declared)
        if self._closed:
            raise errors.UsageError("this Uploader was closed: create another one")

    async def _connect(self, source: FileSource, options: UploadOptions) -> Store:
        s3, service = options.get("s3") or S3Options(), options.get("service")
        if service is not None:
            return connect_service(service, s3, api_key=options.get("api_key"), source=source)
        name = Path(source.path).name
        bucket, key = parse_s3_url(options.get("to") or f"s3://{LOCAL_BUCKET}/", name)
        if s3.content_type is None:
            s3 = dataclasses.replace(s3, content_type=guess_content_type(name))
        return await connect(bucket, key, s3, self._buckets)

    async def _context(
        self, source: FileSource, store: Store, journal: FileJournal, settings: UploadSettings, on_event: OnEvent | None
    ) -> UploadContext:
        ca_bundle = store.ca_bundle
        if ca_bundle not in self._transports:
            transport = HttpTransport(ca_bundle=ca_bundle, limiter=self._limiter, congestion=self._congestion_control)
            self._transports[ca_bundle] = await self._exits.enter_async_context(transport)
        return UploadContext(
            retrier=Retrier(policy=self._retry, emit=log_events(f"{source.path} → {store.target}", on_event)),
            source=source,
            store=store,
            transport=self._transports[ca_bundle],
            journal=journal,
            settings=settings,
            shared=self._shared,
        )


def _logging_orphans(on_orphan: Callable[[Orphan], None] | None, *, dry_run: bool) -> Callable[[Orphan], None]:
    def tell(orphan: Orphan) -> None:
        if not dry_run:
            place = printable(f"s3://{orphan.bucket}/{orphan.key}")
            LOG.info("%s: aborted the orphaned upload %s, %d bytes", place, orphan.upload_id, orphan.held)
        if on_orphan is not None:
            on_orphan(orphan)

    return tell
