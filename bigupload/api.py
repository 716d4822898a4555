"""The library's surface: wires the adapters to the engine.

`Uploader` is for many uploads that share a connection pool and a concurrency budget; the functions are for one each.
All may be cancelled at any time: the manifest stays resumable, and a call that is in a thread of botocore is awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread

from bigupload import errors, events
from bigupload.core.checksums import parse_algorithm
from bigupload.core.integrity import Verified
from bigupload.core.manifest import Aborted, Manifest, manifest_id
from bigupload.core.retry_policy import Fault, FaultKind, RetryPolicy
from bigupload.engine.context import SharedResources, UploadContext, UploadSettings
from bigupload.engine.retrying import Retrier, RunCounts
from bigupload.engine.upload_run import UploadResult, UploadRun, result_of
from bigupload.http.put_transport import HttpTransport, check_congestion_control
from bigupload.http.session import CaBundle
from bigupload.manifests.clean_up import clean_if_due
from bigupload.manifests.journal import FileJournal
from bigupload.manifests.state_directory import NOTES, SUFFIX
from bigupload.options import S3Options
from bigupload.sources.file import FileSource
from bigupload.stores.targets import (
    LOCAL_BUCKET,
    Store,
    connect,
    connect_service,
    guess_content_type,
    parse_s3_url,
    reconnect,
    state_dir,
)
from bigupload.support.rate_limiter import RateLimiter
from bigupload.support.rate_schedule import RateSchedule, parse_rate_limit
from bigupload.units import parse_size
from bigupload.verification.existing import prove_existing

OnEvent = Callable[[events.Event], None]
_GONE = frozenset({FaultKind.GONE})


class Uploader:
    """Uploads that share a connection pool, a concurrency budget and a rate limit. An async context manager.

    `concurrency`: parts in flight, over all uploads; None adapts it to what the path carries.
    `limit_rate`: bytes a second ("20MB/s" or a number) over all uploads, or by the local time of day
    ("08:00=2MB/s,20:00=off").
    `congestion_control`: "auto" (BBR on long paths), "system", or a name; UsageError where the kernel has it not.
    `hedge`: send a part that lags far behind a second time, until a store refuses that. `retry`: how patient to be.
    `manifests`: the directory for manifests; None is the user's state directory.
    """

    def __init__(
        self,
        *,
        concurrency: int | None = None,
        limit_rate: float | str | RateSchedule | None = None,
        congestion_control: str = "auto",
        hedge: bool = True,
        retry: RetryPolicy | None = None,
        manifests: str | os.PathLike[str] | None = None,
    ) -> None:
        if concurrency is not None and not 1 <= concurrency <= 256:
            raise errors.UsageError("concurrency is a number from 1 to 256")
        rate = parse_rate_limit(limit_rate) if isinstance(limit_rate, str) else limit_rate
        if isinstance(rate, int | float) and not 0 < rate < math.inf:
            raise errors.UsageError("a rate is more than 0 bytes a second")
        check_congestion_control(congestion_control)
        self._congestion_control = congestion_control
        self._retry = retry or RetryPolicy()
        self._manifests = Path(manifests) if manifests is not None else None
        self._shared = SharedResources(concurrency, hedge=hedge)
        self._cleaned = False
        self._limiter = RateLimiter(rate) if rate is not None else None
        self._transports: dict[CaBundle, HttpTransport] = {}
        self._exits = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Uploader:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._exits.aclose()
        self._transports.clear()

    async def upload(
        self,
        path: str | os.PathLike[str],
        *,
        to: str | None = None,
        service: str | None = None,
        api_key: str | None = None,
        s3: S3Options | None = None,
        part_size: int | str | None = None,
        checksum: str = "auto",
        manifest: str | os.PathLike[str] | None = None,
        resume: bool = True,
        skip_existing: bool = False,
        require_proof: str | Verified = Verified.SIZE,
        verify_source: bool = False,
        on_event: OnEvent | None = None,
    ) -> UploadResult:
        """Upload a file, or go on with its upload where it stopped, until the object is proved to be the file.

        `to`: "s3://BUCKET/KEY", or "s3://BUCKET/FOLDER/" to keep the file's name; may be left out with
        `s3.local`. Or `service`: a media service's URL, with `api_key` (None: BIGUPLOAD_API_KEY); of `s3`,
        `content_type` and `ca_bundle` hold for it too. `part_size`: bytes or "16MiB"; None: by its size.
        `checksum`: auto, crc64nvme, crc32c, sha256, md5 or none. `manifest`: this upload's record, instead of one
        named by file and target. `resume=False` sets an earlier record aside and starts anew. `skip_existing`: upload
        nothing if the object is the file already, proved by a checksum or ETag; the file is hashed for that, and
        `result.skipped` says so. `require_proof`: less than this level raises ProofTooWeak. `verify_source` hashes the
        file once more before the end.

        Raises BigUploadError and its kinds; `error.manifest` names the record where the upload can be resumed.
        """
        options = s3 or S3Options()
        _one_target(to, service, options)
        if skip_existing and service is not None:
            raise errors.UsageError("a media service makes a new object for each upload: there is none to skip for")
        settings = _settings(checksum, part_size, require_proof, verify_source=verify_source)
        await self._clean_state_dir()
        with FileSource(path) as source:
            store: Store
            if service is not None:
                store = connect_service(service, options, api_key=api_key, source=source)
            else:
                name = Path(source.path).name
                bucket, key = parse_s3_url(to or f"s3://{LOCAL_BUCKET}/", name)
                if options.content_type is None:
                    options = dataclasses.replace(options, content_type=guess_content_type(name))
                store = await connect(bucket, key, options)
            async with contextlib.aclosing(store):
                with self._journal(manifest, source, store) as journal:
                    if skip_existing and (found := await _existing_object(source, store, journal, options, settings)):
                        (on_event or _ignore)(
                            events.UploadSkipped(url=found.url, etag=found.etag, verified=found.verified)
                        )
                        return found
                    run = UploadRun(await self._context(source, store, journal, settings, on_event))
                    run.prepare(resume=resume)
                    return await run.run_until_proved(follow_changes=True)

    async def resume(
        self,
        manifest: str | os.PathLike[str],
        *,
        source: str | os.PathLike[str] | None = None,
        s3: S3Options | None = None,
        api_key: str | None = None,
        require_proof: str | Verified = Verified.SIZE,
        verify_source: bool = False,
        trust: bool = False,
        on_event: OnEvent | None = None,
    ) -> UploadResult:
        """Go on with the upload of a manifest; `source` is where the file is now, if it was moved.

        Of `s3` only the credentials are used, and `api_key` for a media service: the manifest knows the store. Of an
        upload that is complete, gives the result as it was recorded. A manifest says which file goes where: one that
        this user did not begin on this machine raises UsageError, unless `trust` says that it is meant.
        """
        settings = _settings("auto", None, require_proof, verify_source=verify_source)
        with self._existing(manifest) as journal:
            known = journal.manifest
            if known.completed is not None:
                counts = RunCounts(resumed_parts=known.plan.count)
                return result_of(journal, counts, seconds=0.0, required=settings.require_proof)
            if known.aborted:
                raise errors.UploadGone("this upload was aborted: upload the file again to start a new one")
            _require_trust(journal, trust=trust, source=source)
            try:
                opened = FileSource(source if source is not None else known.source.path)
            except errors.SourceNotFound as e:
                raise errors.SourceNotFound(f"{e}: name it with --source if it was moved", manifest=journal.path) from e
            with opened:
                store = await reconnect(known.target, known.header.options, s3, api_key=api_key, source=opened)
                async with contextlib.aclosing(store):
                    run = UploadRun(await self._context(opened, store, journal, settings, on_event))
                    return await run.run_until_proved(follow_changes=False)

    async def adopt(
        self,
        to: str,
        *,
        source: str | os.PathLike[str],
        s3: S3Options | None = None,
        upload_id: str | None = None,
        manifest: str | os.PathLike[str] | None = None,
        require_proof: str | Verified = Verified.SIZE,
        on_event: OnEvent | None = None,
    ) -> UploadResult:
        """Take over an open upload to the key `to` that no manifest here knows, from ListParts and the file alone.

        Only what the file, hashed again, has is kept. Never done unasked: the upload may be alive elsewhere. With
        several open uploads, `upload_id` chooses. Raises UploadGone where there is none, UsageError for several.
        """
        settings = _settings("auto", None, require_proof, verify_source=False)
        with FileSource(source) as opened:
            bucket, key = parse_s3_url(to, Path(opened.path).name)
            store = await connect(bucket, key, s3 or S3Options())
            async with contextlib.aclosing(store):
                with self._journal(manifest, opened, store) as journal:
                    if journal.exists and journal.manifest.status in ("uploading", "completing"):
                        raise errors.ManifestMismatch(f"this upload has a manifest: resume {journal.path} instead")
                    run = UploadRun(await self._context(opened, store, journal, settings, on_event))
                    run.prepare(resume=True)
                    await run.begin_adopted(upload_id)
                    return await run.run_until_proved(follow_changes=False)

    async def abort(
        self,
        manifest: str | os.PathLike[str],
        *,
        s3: S3Options | None = None,
        api_key: str | None = None,
        trust: bool = False,
    ) -> None:
        """Give an upload up: free its parts in the store, and record that. Of `s3` only the credentials are used.

        Raises UsageError for an upload that is complete, also where no record says so yet; and, without `trust`, for a
        manifest that this user did not begin on this machine.
        """
        with self._existing(manifest) as journal:
            known = journal.manifest
            if known.completed is not None:
                raise errors.UsageError(f"this upload is complete: delete {known.target} if it is not wanted")
            _require_trust(journal, trust=trust, source=None)
            store = await reconnect(known.target, known.header.options, s3, api_key=api_key)
            retrier = Retrier(policy=self._retry, emit=_ignore)
            async with contextlib.aclosing(store):
                try:
                    if known.completing is not None and await _completed(store, known, retrier):
                        raise errors.UsageError(f"{known.target} is complete: resume the upload to prove it")
                    await retrier.request(lambda: store.abort(known.upload_id))
                except errors.BigUploadError as e:
                    e.manifest = journal.path
                    raise
            await journal.append(Aborted())

    def _journal(
        self, manifest: str | os.PathLike[str] | None, source: FileSource, store: Store
    ) -> contextlib.AbstractContextManager[FileJournal]:
        if manifest is not None:
            return FileJournal(Path(manifest), notes=self._notes())
        directory = self._state_dir()
        return FileJournal(directory / f"{manifest_id(source.path, store.target)}{SUFFIX}", notes=self._notes())

    def _state_dir(self) -> Path:
        return self._manifests if self._manifests is not None else state_dir()

    async def _clean_state_dir(self) -> None:
        """Delete old manifests of finished uploads: once for this Uploader, and once a day for the directory."""
        if not self._cleaned:
            self._cleaned = True
            with contextlib.suppress(errors.UsageError):  # there is no home directory
                await anyio.to_thread.run_sync(clean_if_due, self._state_dir())

    def _notes(self) -> Path | None:
        """Where it is noted which manifests are this user's: beside those of the state directory, if there is one."""
        try:
            return self._state_dir() / NOTES
        except errors.UsageError:
            return None

    @contextlib.contextmanager
    def _existing(self, manifest: str | os.PathLike[str]) -> Iterator[FileJournal]:
        """The journal of a manifest that must be there."""
        path = Path(manifest)
        if not path.exists():
            raise errors.ManifestNotFound(f"no such manifest: {manifest}")
        with FileJournal(path, notes=self._notes()) as journal:
            if not journal.exists:
                raise errors.ManifestCorrupt(f"{manifest} is empty: upload the file again")
            yield journal

    async def _context(
        self, source: FileSource, store: Store, journal: FileJournal, settings: UploadSettings, on_event: OnEvent | None
    ) -> UploadContext:
        ca_bundle = store.ca_bundle
        if ca_bundle not in self._transports:
            transport = HttpTransport(ca_bundle=ca_bundle, limiter=self._limiter, congestion=self._congestion_control)
            self._transports[ca_bundle] = await self._exits.enter_async_context(transport)
        return UploadContext(
            retrier=Retrier(policy=self._retry, emit=on_event or _ignore),
            source=source,
            store=store,
            transport=self._transports[ca_bundle],
            journal=journal,
            settings=settings,
            shared=self._shared,
        )


async def _existing_object(
    source: FileSource, store: Store, journal: FileJournal, options: S3Options, settings: UploadSettings
) -> UploadResult | None:
    """The result without an upload, if the object is the file already. An unfinished upload is resumed instead."""
    part_size = None
    if journal.exists:
        if journal.manifest.status in ("uploading", "completing"):
            return None
        part_size = journal.manifest.plan.part_size
    required = settings.require_proof
    return await prove_existing(
        source.path, str(store.target), journal.path, s3=options, required=required, part_size=part_size
    )


async def _completed(store: Store, known: Manifest, retrier: Retrier) -> bool:
    """Whether the upload made its object, although no record says so."""
    try:
        facts = await retrier.request(lambda: store.stat(known.upload_id, known.header.checksum.algorithm))
    except (errors.UploadGone, errors.MediaRefused):  # a media service says so: there is nothing left of it
        return False
    if facts is None or not known.made_object(facts):
        return False
    return known.token is not None or not await _is_open(store, known, retrier)


async def _is_open(store: Store, known: Manifest, retrier: Retrier) -> bool:
    """An adopted upload is told by its content to have made an object, and another's may have the same."""
    algorithm = known.header.checksum.algorithm
    try:
        await retrier.request(lambda: store.list_parts(known.upload_id, algorithm), expected=_GONE)
    except Fault:
        return False
    return True


def _one_target(to: str | None, service: str | None, options: S3Options) -> None:
    if service is not None and (to is not None or options.local):
        raise errors.UsageError("an upload has one target: `to`, `service` or the local store")
    if service is None and to is None and not options.local:
        raise errors.UsageError("an upload needs a target: to='s3://bucket/key', or service='https://…'")


def _ignore(_: events.Event) -> None:
    """Nobody listens."""


def _require_trust(journal: FileJournal, *, trust: bool, source: str | os.PathLike[str] | None) -> None:
    """Before the first credential or byte leaves. Raises UsageError, which says where to they would go."""
    if trust or journal.written_here:
        return
    known = journal.manifest
    endpoint = known.header.options.get("endpoint_url")
    at = f" at {endpoint}" if endpoint and known.target.service is None else ""
    file = source if source is not None else known.source.path
    raise errors.UsageError(
        f"{journal.path} was not begun by you on this machine. It would send {file} to {known.target}{at}, signed "
        "with your credentials: --trust (trust=True) goes on if that is what you mean"
    )


def _settings(
    checksum: str, part_size: int | str | None, require_proof: str | Verified, *, verify_source: bool
) -> UploadSettings:
    try:
        required = Verified(require_proof)
    except ValueError:
        raise errors.UsageError(f"unknown proof {require_proof!r}: choose one of {', '.join(Verified)}") from None
    return UploadSettings(
        algorithm=parse_algorithm(checksum),
        part_size=parse_size(part_size) if isinstance(part_size, str) else part_size,
        require_proof=required,
        verify_source=verify_source,
    )


async def upload(
    path: str | os.PathLike[str],
    *,
    to: str | None = None,
    service: str | None = None,
    api_key: str | None = None,
    s3: S3Options | None = None,
    concurrency: int | None = None,
    limit_rate: float | str | RateSchedule | None = None,
    congestion_control: str = "auto",
    hedge: bool = True,
    retry: RetryPolicy | None = None,
    part_size: int | str | None = None,
    checksum: str = "auto",
    manifest: str | os.PathLike[str] | None = None,
    resume: bool = True,
    skip_existing: bool = False,
    require_proof: str | Verified = Verified.SIZE,
    verify_source: bool = False,
    on_event: OnEvent | None = None,
) -> UploadResult:
    """Upload one file: `Uploader(concurrency, limit_rate, …).upload(path, …)`, where each argument is described."""
    async with Uploader(
        concurrency=concurrency, limit_rate=limit_rate, congestion_control=congestion_control, hedge=hedge, retry=retry
    ) as uploader:
        return await uploader.upload(
            path,
            to=to,
            service=service,
            api_key=api_key,
            s3=s3,
            part_size=part_size,
            checksum=checksum,
            manifest=manifest,
            resume=resume,
            skip_existing=skip_existing,
            require_proof=require_proof,
            verify_source=verify_source,
            on_event=on_event,
        )


def upload_sync(path: str | os.PathLike[str], **arguments: Any) -> UploadResult:
    """`upload` for code without an event loop; the same arguments. Raises UsageError inside a running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(upload(path, **arguments))
    raise errors.UsageError("upload_sync can't run inside an event loop: await bigupload.upload(…) there")


async def resume(
    manifest: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | None = None,
    api_key: str | None = None,
    trust: bool = False,
    on_event: OnEvent | None = None,
) -> UploadResult:
    """Go on with one upload: `Uploader().resume(manifest, …)`."""
    async with Uploader() as uploader:
        return await uploader.resume(manifest, source=source, api_key=api_key, trust=trust, on_event=on_event)


async def abort(manifest: str | os.PathLike[str], *, api_key: str | None = None, trust: bool = False) -> None:
    """Give one upload up: `Uploader().abort(manifest)`."""
    async with Uploader() as uploader:
        await uploader.abort(manifest, api_key=api_key, trust=trust)
