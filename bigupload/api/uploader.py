"""`Uploader`: many uploads that share a connection pool and a concurrency budget.

An upload may be cancelled at any time: its manifest stays resumable, and a call that is in a thread of botocore is
awaited.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Unpack

from bigupload import errors
from bigupload.api import arguments, operations
from bigupload.api.arguments import (
    AbortOptions,
    AdoptOptions,
    OrphanOptions,
    ReadBackOptions,
    ResumeOptions,
    StrPath,
    UploaderOptions,
    UploadOptions,
    UploadSource,
    VerifyOptions,
)
from bigupload.api.calls import OpenCall
from bigupload.api.event_log import log_failure
from bigupload.api.handle import UploadHandle
from bigupload.api.resources import UploaderResources
from bigupload.api.sources import shown, size_of
from bigupload.core.integrity import Verified
from bigupload.engine.upload_run import UploadResult
from bigupload.manifests.listing import KnownUpload
from bigupload.verification.by_checksum import Verification, verify
from bigupload.verification.by_download import ReadBack, read_back
from bigupload.verification.orphans import OrphanReport


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
        self._resources = UploaderResources(options)

    async def __aenter__(self) -> Uploader:
        self._resources.calls.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._resources.aclose()

    async def upload(self, source: UploadSource, **options: Unpack[UploadOptions]) -> UploadResult:
        """Upload a source, or resume its upload where it stopped, until the object is proved to be the source.

        Args:
            source: A path; bytes; a binary file object, of which the rest from its position on is uploaded; an
                iterable or async iterable of bytes; or a stream reader. It is not closed, and must not be used
                meanwhile.
            **options: See `UploadOptions`. One target is needed: `to`, `service`, or `s3=S3Options(local=True)`.

        Returns:
            Where the object is and how it was proved.

        Raises:
            UsageError: The options contradict one another.
            BigUploadError: The upload failed; `error.manifest` is what `resume` takes, if it can be resumed.
        """
        return await self._upload("upload", source, options)[1]()

    def start(self, source: UploadSource, **options: Unpack[UploadOptions]) -> UploadHandle:
        """Start an upload and return at once. It runs in a task of its own until it ends, or until this context does.

        Args:
            source: What `upload` takes.
            **options: Those of `upload`.

        Returns:
            The upload: its progress, its manifest, its events; `await` it for the result, or cancel it.

        Raises:
            UsageError: The options contradict one another, or no event loop is running.
        """
        call, work = self._upload("start", source, options)
        self._resources.calls.add(call)
        return UploadHandle(call, _subject(source, options), work)

    def _start_alone(self, source: UploadSource, options: UploadOptions) -> UploadHandle:
        """Like `start`, of an Uploader that is not entered yet, and closes when the upload has ended."""
        self._resources.calls.open()
        call, work = self._upload("start", source, options)

        async def work_and_close() -> UploadResult:
            try:
                return await work()
            finally:
                await self._resources.aclose()

        return UploadHandle(call, _subject(source, options), work_and_close)

    def _upload(
        self, function: str, source: UploadSource, options: UploadOptions
    ) -> tuple[OpenCall, Callable[[], Coroutine[Any, Any, UploadResult]]]:
        """Check the arguments. The upload runs when the function that is returned is called and awaited."""
        arguments.check_names(function, options, UploadOptions)
        call = self._resources.calls.begin(options.get("on_event"))
        arguments.check_target(options.get("to"), options.get("service"), options.get("s3"))
        settings = arguments.upload_settings(
            checksum=options.get("checksum", "auto"),
            part_size=options.get("part_size"),
            require_proof=options.get("require_proof", Verified.SIZE),
            verify_source=options.get("verify_source", False),
            priority=options.get("priority", 0),
            on_change=options.get("on_change", "raise"),
        )
        if options.get("skip_existing", False) and options.get("service") is not None:
            raise errors.UsageError("a media service makes a new object for each upload: there is none to skip for")

        async def work() -> UploadResult:
            with log_failure(_subject(source, options)):
                upload = partial(operations.upload, self._resources, call, source, settings, options)
                subject, size = shown(source, options), partial(size_of, source)
                return await call.run(partial(self._resources.places.run, subject, size, settings.priority, upload))

        return call, work

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
        call = self._begin("resume", options, ResumeOptions)
        settings = arguments.upload_settings(
            require_proof=options.get("require_proof", Verified.SIZE),
            verify_source=options.get("verify_source", False),
            priority=options.get("priority", 0),
            on_change=options.get("on_change", "raise"),
        )
        with log_failure(str(manifest)):
            resume = partial(operations.resume, self._resources, call, manifest, settings, options)
            size = partial(self._resources.state.bytes_left, manifest)
            return await call.run(partial(self._resources.places.run, str(manifest), size, settings.priority, resume))

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
        call = self._begin("adopt", options, AdoptOptions)
        settings = arguments.upload_settings(
            require_proof=options.get("require_proof", Verified.SIZE),
            verify_source=options.get("verify_source", False),
            priority=options.get("priority", 0),
        )
        file = arguments.checked_path(source, "source")
        with log_failure(f"{source} → {to}"):
            adopt = partial(operations.adopt, self._resources, call, to, file, settings, options)
            size = partial(size_of, file)
            return await call.run(partial(self._resources.places.run, str(source), size, settings.priority, adopt))

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
        call = self._begin("abort", options, AbortOptions)
        with log_failure(str(manifest)):
            await call.run(partial(operations.abort, self._resources, call, manifest, options))

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
        call = self._begin("verify", options, VerifyOptions)
        work = partial(
            verify,
            arguments.checked_path(path, "path"),
            url,
            s3=options.get("s3"),
            part_size=arguments.checked_part_size(options.get("part_size")),
            require_proof=arguments.checked_proof(options.get("require_proof", Verified.SIZE)),
            retry=self._resources.retry,
        )
        return await call.run(work)

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
        call = self._begin("read_back", options, ReadBackOptions)
        file = arguments.checked_path(path, "path")
        work = partial(read_back, file, url, s3=options.get("s3"), retry=self._resources.retry, on_event=call.emit)
        return await call.run(work)

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
            **options: See `OrphanOptions`.

        Raises:
            ManifestError: A manifest can't be read. It may own any upload, so that nothing was aborted.
            StoreError: The store refused to list, or can't be reached.
        """
        call = self._begin("abort_orphans", options, OrphanOptions)
        return await call.run(partial(operations.abort_orphans, self._resources, url, options))

    def _begin(self, function: str, options: Any, declared: type) -> OpenCall:
        """Raises TypeError for names that a method does not take, and UsageError where no call may begin."""
        arguments.check_names(function, options, declared)
        return self._resources.calls.begin(options.get("on_event"))


def _subject(source: UploadSource, options: UploadOptions) -> str:
    return f"{shown(source, options)} → {options.get('to') or options.get('service') or 'the local store'}"
