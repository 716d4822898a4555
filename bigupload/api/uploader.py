"""`Uploader`: many uploads that share a connection pool and a concurrency budget.

An upload may be cancelled at any time: its manifest stays resumable, and a call that is in a thread of botocore is
awaited.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from bigupload import errors
from bigupload.api import checks, operations
from bigupload.api.arguments import (
    AbortOptions,
    AdoptOptions,
    OrphanOptions,
    ReadBackOptions,
    ResumeOptions,
    ShareOptions,
    StrPath,
    SyncOptions,
    TextOptions,
    UploaderOptions,
    UploadManyOptions,
    UploadOptions,
    UploadSource,
    VerifyOptions,
    WatchOptions,
    WriterOptions,
)
from bigupload.api.calls import OpenCall, UploadHandle
from bigupload.api.event_delivery import log_failure
from bigupload.api.resources import UploaderResources
from bigupload.api.small_files import JobContext
from bigupload.api.sources import shown, size_of, subject_of
from bigupload.api.steps import Row, Steps
from bigupload.batch.tree import Selection
from bigupload.engine.upload_run import Share, UploadResult
from bigupload.options import S3Options
from bigupload.sources.opening import is_path

if TYPE_CHECKING:  # modules that only some methods need are imported by them: a start is part of the speed
    from bigupload.api.types import ManySource, SyncResult, VerificationFailed
    from bigupload.api.writer import AsyncUploadWriter
    from bigupload.batch.job import UploadFailed
    from bigupload.manifests.listing import KnownUpload
    from bigupload.verification.by_checksum import Verification
    from bigupload.verification.by_download import ReadBack
    from bigupload.verification.orphans import OrphanReport

Given = TypeVar("Given")
"""The options of a method, a TypedDict."""


class Uploader:
    """Uploads that share a connection pool, a concurrency budget and a rate limit. An async context manager.

    ::

        async with Uploader(limit_rate="20MB/s") as uploader:
            result = await uploader.upload("movie.mov", to="s3://bucket/raw/")

    All methods may run concurrently in one event loop. After the context has ended, they raise UsageError.
    """

    def __init__(self, *, s3: S3Options | None = None, **options: Unpack[UploaderOptions]) -> None:
        """Check the options; nothing is connected yet.

        Args:
            s3: How to reach the store, for each call that has no `s3` of its own. `resume` and `abort` go to the store
                of the manifest, and use no credentials that were meant for another one.

        Raises:
            UsageError: A value is out of range, or the kernel does not offer the congestion control.
        """
        checks.check_names("Uploader", options, UploaderOptions)
        checks.check_names("Uploader", {"s3": s3}, VerifyOptions)
        self._s3 = s3
        self._options = options
        self._resources = UploaderResources(options)

    async def __aenter__(self) -> Uploader:
        self._resources.calls.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._resources.aclose()

    async def upload(
        self, source: UploadSource, _to: str | None = None, **options: Unpack[UploadOptions]
    ) -> UploadResult:
        """Upload a source, or resume its upload where it stopped, until the object is proved to be the source.

        A file or bytes of at most 8 MiB are one PUT with its checksum. Anything else is uploaded in parts, and resumes.
        One target is needed: `to`, `service`, or `s3=S3Options(local=True)`.

        Args:
            source: A path; a URL; bytes; a binary file object, of which the rest from its position on is uploaded; an
                iterable or async iterable of bytes; or a stream reader. It is not closed, and must not be used
                during the upload.

        Returns:
            Where the object is and how it was proved.

        Raises:
            UsageError: The options contradict one another.
            BigUploadError: The upload failed; `error.manifest` is what `resume` takes, if it can be resumed.
        """
        _, work = self._upload("upload", source, self._given(options, _to))
        return await work()

    def start(self, source: UploadSource, _to: str | None = None, **options: Unpack[UploadOptions]) -> UploadHandle:
        """Start an upload and return at once. It runs in a task of its own until it ends, or its `Uploader` is closed.

        Args:
            source: What `upload` takes.

        Returns:
            The upload: its progress, its manifest, its events; `await` it for the result, or cancel it.

        Raises:
            UsageError: The options contradict one another, or no event loop is running.
        """
        return self._start(source, _to, options)

    def _start(
        self,
        source: UploadSource,
        _to: str | None,
        options: UploadOptions,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> UploadHandle:
        """Like `start`. `release` is awaited when the upload has ended."""
        options = self._given(options, _to)
        call, work = self._upload("start", source, options)

        async def work_and_release() -> UploadResult:
            try:
                return await work()
            finally:
                if release is not None:
                    await release()

        self._resources.calls.add(call)
        return UploadHandle(call, subject_of(shown(source, options), options), work_and_release)

    def _upload(
        self, function: str, source: UploadSource, options: UploadOptions
    ) -> tuple[OpenCall, Callable[[], Coroutine[Any, Any, UploadResult]]]:
        """Check the arguments. The upload runs when the function that is returned is called and awaited."""
        checks.check_names(function, options, UploadOptions)
        call = self._resources.calls.begin(options.get("on_event"))
        call.warnings += checks.check_target(options.get("to"), options.get("service"), options.get("s3"))
        steps = Steps(options.get("then"), self._resources, call, options, "upload")
        steps.check_source(source)
        if is_path(source) and options.get("then") is not None:
            steps.check_beside(os.fspath(source), Selection())
        settings = checks.settings_of(options, restarts=steps.deletes, recalls=not steps.deletes)
        if options.get("delta", False):
            from bigupload.api.copying import check_delta

            check_delta(options, settings)
        subject = shown(source, options)
        in_slot = partial(self._resources.upload_slots.slot, subject, partial(size_of, source), settings.priority)
        send = partial(
            operations.upload,
            self._resources,
            call,
            source,
            settings,
            options,
            digests=steps.digests,
            in_slot=in_slot,
        )
        path = os.path.abspath(source) if is_path(source) else ""  # noqa: PTH100 - as FileSource

        async def sent(*, believes: bool) -> Row:
            believes = believes and steps.deletes and options.get("resume", True)
            result, fingerprint = await send(job=JobContext(began=0.0) if believes else None)
            return Row(source=subject, path=path, key=result.key, result=result, fingerprint=fingerprint)

        async def one() -> UploadResult:
            if steps.deletion is not None:
                await steps.deletion.begin(path)
                name = options.get("name") or Path(path).name
                if not os.path.lexists(path) and (
                    found := await operations.uploaded_before(self._resources, path, name, settings, options)
                ):
                    return await steps.deletion.gone(path, found)
            row = await steps(first := await sent(believes=True))
            if first.proved.skipped and steps.is_outdated(row):
                row = await steps(await sent(believes=False))
            if row.error is not None:
                raise row.error
            await steps.end()
            return row.proved

        async def work() -> UploadResult:
            async with steps:
                with log_failure(subject_of(subject, options)):
                    return await call.run(one)

        return call, work

    def open_writer(self, _to: str | None = None, **options: Unpack[WriterOptions]) -> AsyncUploadWriter:
        """Open an object for writing, which is uploaded while it is written. Use it as `async with`.

        Leaving the block, or `close`, completes the upload and proves the object. If an exception leaves the block, or
        the writer is never closed, there is no object. The same bytes, written again, resume the upload. One target is
        needed: `to`, `service`, or `s3=S3Options(local=True)`.

        Returns:
            The writer: `await writer.write(…)`, then `writer.result`. It takes bytes: encode text.

        Raises:
            UsageError: The options contradict one another, or no event loop is running.
        """
        from bigupload.api.writer import begin

        if of_text := sorted(options.keys() & TextOptions.__annotations__):
            raise errors.UsageError(
                f"a writer in an event loop takes no `{of_text[0]}`, because it takes bytes: encode the text "
                "(`await writer.write(text.encode())`), or use `bigupload.open_writer(…, text=True)` outside the loop"
            )
        return begin(self._resources, self._given(options, _to))

    def upload_many(
        self,
        sources: Iterable[ManySource] | AsyncIterable[ManySource],
        _to: str | None = None,
        **options: Unpack[UploadManyOptions],
    ) -> AsyncGenerator[UploadResult | UploadFailed, None]:
        """Upload many files, several at a time, and yield what becomes of each as soon as it is known.

        A small file is sent by one PUT with its checksum; any other file as `upload` does it. A file that fails does
        not stop the others. While nobody takes results, no more files are begun than a thousand.

        ::

            async for done in uploader.upload_many(Path("photos").iterdir(), to="s3://bucket/photos/"):
                match done:
                    case bigupload.UploadFailed(source=source, error=error):
                        print(source, error)

        Args:
            sources: An iterable or async iterable, which is read as files are begun. Each is a path, whose file's name
                becomes the key; or a pair of what `upload` takes and the key. Keys are below `to`.

        Returns:
            A generator. If you leave it early, close it (`contextlib.aclosing`): that cancels what is in flight.

        Raises:
            UsageError: The options contradict one another.
            BigUploadError: While results are taken: an error that affects all other files, such as a bucket that is
                not there.
        """
        options = self._given(options, _to)
        call = self._begin("upload_many", options, UploadManyOptions)
        call.warnings += checks.check_target(options.get("to"), options.get("service"), options.get("s3"))
        steps = Steps(options.get("then"), self._resources, call, options, "upload_many")
        settings = checks.settings_of(options, restarts=steps.deletes, recalls=not steps.deletes)
        from bigupload.api.many import UploadMany

        return UploadMany(self._resources, call, settings, options, steps).outcomes(checks.checked_sources(sources))

    def watch(
        self, directory: StrPath, _to: str | None = None, **options: Unpack[WatchOptions]
    ) -> AsyncGenerator[UploadResult | UploadFailed, None]:
        """Upload the files of a directory, those that come into it, and those that change, until it is cancelled.

        A file that has not changed for `idle` has settled and is uploaded. One of more than 16 MiB that is still
        written is followed meanwhile, as by `upload(follow=True)`. A file that a manifest here says is uploaded is not
        sent again. One that changes after its upload is uploaded again. A file that fails does not stop the others.
        A target is needed: `to`, or `s3=S3Options(local=True)`.

        ::

            async with contextlib.aclosing(uploader.watch("/recordings", to="s3://bucket/raw/")) as outcomes:
                async for outcome in outcomes:
                    ...

        Args:
            directory: The directory, with all below it. Symbolic links in it are not followed.

        Returns:
            An iterator of what became of each file: its result, also of a file that was uploaded before
            (`result.skipped`), or an `UploadFailed`. The uploads begin with the first step. They end when the iterator
            or the `Uploader` is closed.

        Raises:
            UsageError: The options contradict one another, or `watchfiles` is not installed.
            SourceError: By the iterator: there is no such directory. DirectoryGone if it was there.
            StoreError: By the iterator: there is no such bucket.
        """
        options = self._given(options, _to)
        call = self._begin("watch", options, WatchOptions)
        from bigupload.api.watching import WatchMany

        return WatchMany(self._resources, call, directory, options).watched()

    async def sync(self, directory: StrPath, _to: str | None = None, **options: Unpack[SyncOptions]) -> SyncResult:
        """Send the files of a directory that are not in the store yet, and on request delete what has no file.

        A file is in the store if its object is proved to be the file: by what an earlier sync recorded, if the file and
        the object's ETag are as they were then; else by its size, and the checksums that the store has of it. A file
        that fails does not stop the others. After a failure, a cancel or a kill, the same call continues. A target is
        needed: `to`, or `s3=S3Options(local=True)`.

        Args:
            directory: The directory. Symbolic links in it are left out, unless the selection follows them.

        Returns:
            How many files were sent, and so on. `on_outcome` is called with each.

        Raises:
            UsageError: The options contradict one another, or there is no file (see `allow_empty`).
            SourceError: There is no such directory. DirectoryGone if it was there.
            ManifestLocked: The same sync is running.
            BigUploadError: An error that affects every file, such as a bucket that is not there.
        """
        options = self._given(options, _to)
        call = self._begin("sync", options, SyncOptions)
        call.warnings += checks.check_target(options.get("to"), None, options.get("s3"))
        from bigupload.api.sync import SyncMany

        steps = Steps(options.get("then"), self._resources, call, options, "sync")
        settings = checks.settings_of(options, restarts=True, recalls=not steps.deletes)
        steps = steps.only_checked() if options.get("dry_run", False) else steps
        return await SyncMany(self._resources, call, settings, directory, options, steps).run()

    async def resume(self, manifest: StrPath, **options: Unpack[ResumeOptions]) -> UploadResult:
        """Resume the upload that a manifest describes. If it is complete, return its result again.

        The store is the manifest's.

        Args:
            manifest: The manifest's path; or its id, or the beginning of its id, as `list_uploads` shows it.

        Raises:
            ManifestNotFound: There is no such manifest.
            UsageError: This user did not begin the manifest on this machine, and `trust` is not set. A manifest decides
                which file is sent where, with whose credentials.
            BigUploadError: The upload failed; `error.manifest` is what `resume` takes, if it can be resumed.
        """
        call = self._begin("resume", options, ResumeOptions)
        settings = checks.settings_of(options)
        with log_failure(str(manifest)):
            size = partial(self._resources.state.bytes_left, manifest)

            async def resume() -> UploadResult:
                async with self._resources.upload_slots.slot(str(manifest), size, settings.priority):
                    return await operations.resume(self._resources, call, manifest, settings, options)

            return await call.run(resume)

    async def adopt(self, to: str, *, source: StrPath, **options: Unpack[AdoptOptions]) -> UploadResult:
        """Take over an open upload that no manifest here describes, by ListParts and the file.

        A part is kept only if the file, hashed again, has the same bytes. Nothing is adopted unasked, because another
        program may still be uploading.

        Args:
            to: "s3://BUCKET/KEY" of the open upload.
            source: The file.

        Raises:
            UploadGone: No upload to this key is open.
            UsageError: Several are open, and `upload_id` names none of them.
            ManifestMismatch: A manifest here describes the upload: resume that.
        """
        options = self._given(options)
        call = self._begin("adopt", options, AdoptOptions)
        settings = checks.settings_of(options)
        file = checks.checked_path(source, "source")
        with log_failure(f"{source} → {to}"):

            async def adopt() -> UploadResult:
                async with self._resources.upload_slots.slot(str(source), partial(size_of, file), settings.priority):
                    return await operations.adopt(self._resources, call, to, file, settings, options)

            return await call.run(adopt)

    async def abort(self, manifest: StrPath, **options: Unpack[AbortOptions]) -> None:
        """Abort an upload: delete its parts from the store, and record that in its manifest.

        The store is the manifest's.

        Args:
            manifest: The manifest's path; or its id, or the beginning of its id, as `list_uploads` shows it.

        Raises:
            ManifestNotFound: There is no such manifest.
            UsageError: The upload is complete, even if no record says so yet. Or this user did not begin the manifest
                on this machine, and `trust` is not set.
            StoreError: The store refused, or can't be reached.
        """
        call = self._begin("abort", options, AbortOptions)
        with log_failure(str(manifest)):
            await call.run(partial(operations.abort, self._resources, call, manifest, options))

    async def verify(self, path: StrPath, url: str, **options: Unpack[VerifyOptions]) -> Verification:
        """Prove that an object is a file, by the checksums that the store holds, whichever program uploaded it.

        Args:
            path: The file.
            url: "s3://BUCKET/KEY" of the object.

        Returns:
            How it was proved. If the store holds no usable checksum, `verified` is only `size`.

        Raises:
            ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
            ObjectMismatch: The object is not the file.
            ProofTooWeak: It is proved by less than `require_proof`.
        """
        options = self._given(options)
        call = self._begin("verify", options, VerifyOptions)
        file = checks.checked_path(path, "path")
        return await call.run(partial(operations.verify, self._resources, file, url, options))

    def verify_many(
        self, sources: Iterable[ManySource] | AsyncIterable[ManySource], url: str, **options: Unpack[VerifyOptions]
    ) -> AsyncGenerator[Verification | VerificationFailed, None]:
        """Prove many objects against their files, by the checksums that the store holds.

        Args:
            sources: What `upload_many` takes, but only files.
            url: "s3://BUCKET/FOLDER/": what all keys begin with.

        Returns:
            A generator. If you leave it early, close it (`contextlib.aclosing`).

        Raises:
            UsageError: The options contradict one another, or the URL names one object.
            BigUploadError: While results are taken: an error that affects all other objects.
        """
        options = self._given(options)
        call = self._begin("verify_many", options, VerifyOptions)
        from bigupload.api.many import VerifyMany

        return VerifyMany(self._resources, call, url, options).verdicts(checks.checked_sources(sources))

    async def read_back(self, path: StrPath, url: str, **options: Unpack[ReadBackOptions]) -> ReadBack:
        """Download an object and compare every byte with a file. A second call resumes where the first stopped.

        Args:
            path: The file.
            url: "s3://BUCKET/KEY" of the object.

        Raises:
            ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
            ObjectMismatch: The object is not the file.
            TargetReplaced: It was replaced by another object during the call.
        """
        options = self._given(options)
        call = self._begin("read_back", options, ReadBackOptions)
        file = checks.checked_path(path, "path")
        return await call.run(partial(operations.read_back, self._resources, call, file, url, options))

    async def share(self, url: str, **options: Unpack[ShareOptions]) -> Share:
        """Make a link to an object, by which anyone can read it until the link ends.

        The store is asked first whether the object is there, and whether these credentials may read it.

        Args:
            url: "s3://BUCKET/KEY" of the object.

        Raises:
            ObjectNotFound: There is no object. It is a subclass of ObjectMismatch.
            AccessDenied: These credentials may not read it.
            UsageError: `lasts` is more than 7 days, or the object can't be shared.
        """
        options = self._given(options)
        call = self._begin("share", options, ShareOptions)
        return await call.run(partial(operations.share, self._resources, url, options))

    async def list_uploads(self) -> list[KnownUpload]:
        """Return the uploads whose manifests are in the state directory, the least recently changed first.

        Raises:
            ManifestError: The directory can't be listed.
        """
        return await self._resources.calls.begin().run(self._resources.state.list_uploads)

    async def abort_orphans(self, url: str, **options: Unpack[OrphanOptions]) -> OrphanReport:
        """Abort open multipart uploads that no manifest here owns and of which no part arrived for a while.

        Manifests of other machines and users can't be seen: `older_than` is what protects their uploads.

        Args:
            url: "s3://BUCKET/PREFIX"; the prefix may be empty.

        Raises:
            ManifestError: A manifest can't be read. It may own any upload, so that nothing was aborted.
            StoreError: The store refused to list, or can't be reached.
        """
        options = self._given(options)
        call = self._begin("abort_orphans", options, OrphanOptions)
        return await call.run(partial(operations.abort_orphans, self._resources, url, options))

    @property
    def is_open(self) -> bool:
        """Whether it was entered."""
        return self._resources.calls.is_open

    def _given(self, options: Given, _to: str | None = None) -> Given:
        """The options of a call, with the target that stands in front of them, and the `s3` that all calls have.

        Raises:
            UsageError: There are two targets.
        """
        merged = dict(cast("Mapping[str, Any]", options))
        if _to is not None:
            if merged.get("to") is not None:
                raise errors.UsageError("the target is given twice, by its place and as `to`: leave one out")
            merged["to"] = _to
        if self._s3 is not None and merged.get("s3") is None and merged.get("service") is None:
            merged["s3"] = self._s3
        return cast("Given", merged)

    def _begin(self, function: str, options: Any, declared: type) -> OpenCall:
        """Raises TypeError for names that a method does not take, and UsageError where no call may begin."""
        checks.check_names(function, options, declared)
        return self._resources.calls.begin(options.get("on_event"))
